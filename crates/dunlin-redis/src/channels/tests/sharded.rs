//! The same at a server of a cluster, which ends subscriptions by itself and sends one elsewhere.

use std::time::Duration;

use super::*;
use crate::shares::Shares;

/// Six channels, three of each of two partitions.
fn names() -> Vec<ChannelName> {
    let left = Partition::of(&name(0));
    let right = Partition::of(&name(1));
    assert_ne!(left, right);
    let of = |partition| (0..).map(name).filter(move |it| Partition::of(it) == partition).take(3);
    of(left).chain(of(right)).collect()
}

fn sharded() -> Channels {
    Channels::new(Keys::new("").sharded())
}

fn key(name: &ChannelName) -> Bytes {
    Keys::new("").sharded().channel(name)
}

/// One on which these channels stand.
fn standing(names: &[ChannelName]) -> Channels {
    let mut channels = sharded();
    names.iter().for_each(|name| assert!(!channels.want(name)));
    while let Some((_, keys)) = command(&mut channels) {
        let confirmed = keys.iter().map(|key| channels.confirm(Verb::Subscribe, key));
        assert!(confirmed.collect::<Vec<_>>().iter().all(|it| matches!(it, Confirmed::Stands(_))));
    }
    channels
}

#[test]
fn a_command_carries_channels_of_one_partition() {
    let (names, mut channels) = (names(), sharded());
    names.iter().for_each(|name| assert!(!channels.want(name)));
    for _ in ["left", "right"] {
        let (_, keys) = command(&mut channels).unwrap();
        let tags = keys.iter().map(|key| &key[..=key.iter().position(|it| *it == b'}').unwrap()]);
        assert_eq!((keys.len(), tags.collect::<BTreeSet<_>>().len()), (3, 1));
    }
    assert_eq!(command(&mut channels), None);
}

#[test]
fn an_end_that_was_not_asked_for_is_not_taken_for_one_that_was() {
    let names = names();
    let mut channels = standing(&names);
    channels.unwant(&names[0]);
    assert_eq!(command(&mut channels), Some((Verb::Unsubscribe, vec![key(&names[0])])));
    channels.unwant(&names[3]);
    assert_eq!(command(&mut channels), Some((Verb::Unsubscribe, vec![key(&names[3])])));
    // The server gives away the first partition before it reads the command.
    channels.confirm(Verb::Unsubscribe, &key(&names[0]));
    let ended = channels.confirm(Verb::Unsubscribe, &key(&names[1]));
    assert_eq!(ended, Confirmed::Ended(names[1].clone()));
    assert_eq!(channels.unanswered(), 4);
    channels.postpone(true, Instant::now());
    assert_eq!(channels.unanswered(), 3, "the first command, and not the second, was refused");
    assert!(channels.pass_fence());
    channels.confirm(Verb::Unsubscribe, &key(&names[3]));
    assert!(channels.pass_fence() && !channels.pass_fence());
    assert_eq!(channels.unanswered(), 0);
}

#[test]
fn a_partition_that_is_elsewhere_is_asked_for_less_and_less_often_and_nobody_is_told() {
    let (names, mut channels) = (names(), sharded());
    channels.want(&names[0]);
    let began = Instant::now();
    let (mut now, mut tries) = (began, 0);
    while now < began + Duration::from_secs(10) {
        if let Some((_, keys)) = command_at(&mut channels, now) {
            assert_eq!(keys, [key(&names[0])]);
            channels.postpone(true, now);
            tries += 1;
            assert!(channels.next_try(now).unwrap() >= now + Duration::from_millis(100));
        }
        assert_eq!(command_at(&mut channels, now), None);
        now = channels.next_try(now).unwrap();
    }
    assert!((20..=30).contains(&tries), "{tries} tries");
    // Another partition does not wait, nor this one once there is news of it.
    channels.want(&names[3]);
    now = began + Duration::from_secs(10);
    assert_eq!(command_at(&mut channels, now), Some((Verb::Subscribe, vec![key(&names[3])])));
    channels.arrive(Partition::of(&names[0]));
    assert_eq!(command_at(&mut channels, now), Some((Verb::Subscribe, vec![key(&names[0])])));
}

#[test]
fn the_probe_comes_first_and_comes_back() {
    let (names, mut channels) = (names(), sharded());
    let probe = ProbeChannel::new(Keys::new("").sharded(), Shares::even(1).of(0));
    channels.restart(Some(&probe));
    for name in &names {
        channels.want_back(name);
    }
    assert_eq!(command(&mut channels), Some((Verb::Subscribe, vec![probe.name().clone()])));
    assert_eq!(channels.confirm(Verb::Subscribe, probe.name()), Confirmed::ProbeStands);
    assert!(channels.receiver(probe.name()).is_none());
    assert_eq!(channels.confirm(Verb::Unsubscribe, probe.name()), Confirmed::Nothing);
    assert_eq!(command(&mut channels), Some((Verb::Subscribe, vec![probe.name().clone()])));
    channels.postpone(true, Instant::now());
    let later = Instant::now() + Duration::from_secs(1);
    assert_eq!(
        command_at(&mut channels, later),
        Some((Verb::Subscribe, vec![probe.name().clone()]))
    );
    assert_eq!(channels.refuse(), Refused::Probe);
}

#[test]
fn what_a_partition_left_is_nobodys_and_is_asked_for_anew_when_it_comes_back() {
    let names = names();
    let mut channels = standing(&names);
    let group = Partition::of(&names[0]);
    channels.leave(&[group]);
    assert!(channels.receiver(&key(&names[0])).is_none());
    assert!(channels.receiver(&key(&names[3])).is_some());
    assert!(!channels.want(&names[0]), "whether it stands nobody knows");
    let (verb, keys) = command(&mut channels).unwrap();
    assert_eq!((verb, keys.len()), (Verb::Unsubscribe, 3));
    // The server has given it away, and said nothing yet.
    channels.postpone(true, Instant::now());
    assert!(channels.pass_fence());
    let later = Instant::now() + Duration::from_secs(1);
    assert_eq!(command_at(&mut channels, later), Some((Verb::Subscribe, vec![key(&names[0])])));
    let stands = channels.confirm(Verb::Subscribe, &key(&names[0]));
    assert_eq!(stands, Confirmed::Stands(names[0].clone()));
    assert!(all_stand(&channels));
    assert_eq!(channels.entries.len(), 4, "what left is forgotten");
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Want(usize),
    Unwant(usize),
    Send,
    Serve,
    Hear,
    /// The server gives away a partition, or gets it back.
    Hand(usize),
    /// The server forgets subscribers of a partition that it keeps.
    Forget(usize),
    /// Nobody has anything, or all is well again.
    Down,
    Leave(usize),
    Wait,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..6_usize).prop_map(Deed::Want),
        3 => (0..6_usize).prop_map(Deed::Unwant),
        6 => Just(Deed::Send),
        6 => Just(Deed::Serve),
        9 => Just(Deed::Hear),
        1 => (0..2_usize).prop_map(Deed::Hand),
        1 => (0..2_usize).prop_map(Deed::Forget),
        1 => Just(Deed::Down),
        1 => (0..2_usize).prop_map(Deed::Leave),
        2 => Just(Deed::Wait),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Said {
    Confirmed(Verb, Bytes),
    Moved,
    Down,
    Pong,
}

/// Works on whole commands, and says what it says in order.
#[derive(Default)]
struct Owner {
    stands: BTreeSet<Bytes>,
    gave_away: BTreeSet<Partition>,
    is_down: bool,
    commands: VecDeque<(Verb, Vec<Bytes>)>,
    said: VecDeque<Said>,
}

impl Owner {
    fn serve(&mut self, of: impl Fn(&Bytes) -> Partition) -> bool {
        let Some((verb, keys)) = self.commands.pop_front() else { return false };
        if self.gave_away.contains(&of(&keys[0])) {
            self.said.push_back(Said::Moved);
        } else if self.is_down {
            self.said.push_back(Said::Down);
        } else {
            for key in keys {
                match verb {
                    Verb::Subscribe => self.stands.insert(key.clone()),
                    Verb::Unsubscribe => self.stands.remove(&key),
                };
                self.said.push_back(Said::Confirmed(verb, key));
            }
        }
        if verb == Verb::Unsubscribe {
            self.said.push_back(Said::Pong);
        }
        true
    }

    fn forget(&mut self, is_gone: impl Fn(&Bytes) -> bool) {
        let gone = self.stands.extract_if(.., |key| is_gone(key));
        self.said.extend(gone.map(|key| Said::Confirmed(Verb::Unsubscribe, key)));
    }

    fn has(&self, key: &Bytes) -> bool {
        let ended = Said::Confirmed(Verb::Unsubscribe, key.clone());
        self.stands.contains(key) || self.said.contains(&ended)
    }

    /// Lets the table hear the next thing.
    fn tell(&mut self, channels: &mut Channels, now: Instant) -> bool {
        let before = channels.unanswered();
        let Some(said) = self.said.pop_front() else { return false };
        match &said {
            Said::Confirmed(verb, told) => {
                if let Confirmed::Stands(name) = channels.confirm(*verb, told) {
                    assert_eq!(key(&name), told);
                    assert!(self.has(told), "acknowledged, and does not stand");
                }
            }
            Said::Moved => channels.postpone(true, now),
            Said::Down => channels.postpone(false, now),
            Said::Pong => assert!(channels.pass_fence()),
        }
        let answered = before - channels.unanswered();
        let expected = match said {
            Said::Confirmed(Verb::Subscribe, _) => 0..=1,
            Said::Confirmed(Verb::Unsubscribe, _) => 0..=0,
            Said::Moved | Said::Down => 1..=1,
            Said::Pong => 1..=2,
        };
        assert!(expected.contains(&answered), "{said:?} answers {answered} commands");
        true
    }
}

proptest! {
    #[test]
    fn in_the_end_exactly_the_wanted_channels_stand_whatever_moved(
        deeds in prop::collection::vec(deed(), 0..120)
    ) {
        let names = names();
        let groups = [0, 3].map(|at| Partition::of(&names[at]));
        let of = |wanted: &Bytes| {
            Partition::of(names.iter().find(|name| key(name) == wanted).unwrap())
        };
        let (mut channels, mut server, mut wanted) =
            (sharded(), Owner::default(), BTreeSet::new());
        let mut now = Instant::now();
        for deed in deeds {
            match deed {
                Deed::Want(at) => {
                    let key = key(&names[at]);
                    let stands = channels.want(&names[at]);
                    assert!(!stands || server.has(&key), "acknowledged, and does not stand");
                    wanted.insert(key);
                }
                Deed::Unwant(at) => {
                    channels.unwant(&names[at]);
                    wanted.remove(&key(&names[at]));
                }
                Deed::Send => server.commands.extend(command_at(&mut channels, now)),
                Deed::Serve => _ = server.serve(of),
                Deed::Hear => _ = server.tell(&mut channels, now),
                Deed::Hand(at) => {
                    if !server.gave_away.remove(&groups[at]) {
                        server.gave_away.insert(groups[at]);
                        server.forget(|key| of(key) == groups[at]);
                    }
                }
                Deed::Forget(at) => server.forget(|key| of(key) == groups[at]),
                Deed::Down => server.is_down = !server.is_down,
                Deed::Leave(at) => {
                    channels.leave(&[groups[at]]);
                    wanted.retain(|key| of(key) != groups[at]);
                }
                Deed::Wait => now += Duration::from_millis(70),
            }
        }
        (server.is_down, server.gave_away) = (false, BTreeSet::new());
        loop {
            while server.serve(of) {}
            while server.tell(&mut channels, now) {}
            now += Duration::from_secs(2);
            let Some(next) = command_at(&mut channels, now) else { break };
            server.commands.push_back(next);
        }
        assert!(all_stand(&channels) && channels.next_try(now).is_none());
        assert_eq!(server.stands, wanted);
        assert_eq!(channels.wanted(), wanted.len());
        assert_eq!(channels.entries.len(), wanted.len(), "nothing unwanted is remembered");
    }
}

#[test]
fn the_probe_goes_where_the_lane_is() {
    let shares = Shares::even(1);
    let mut channels = sharded();
    let mut probe = ProbeChannel::new(Keys::new("").sharded(), shares.of(0));
    let first = probe.name().clone();
    channels.restart(Some(&probe));
    assert_eq!(command(&mut channels), Some((Verb::Subscribe, vec![first.clone()])));
    channels.confirm(Verb::Subscribe, &first);
    shares.give(Partition::FIRST, 1);
    channels.move_probe(&probe.follow().unwrap(), &probe);
    let mut commands = [command(&mut channels), command(&mut channels)];
    commands.sort_by_key(|command| command.as_ref().map(|(verb, _)| *verb == Verb::Subscribe));
    let [end, begin] = commands;
    assert_eq!(end, Some((Verb::Unsubscribe, vec![first.clone()])));
    assert_eq!(begin, Some((Verb::Subscribe, vec![probe.name().clone()])));
    assert_eq!(channels.confirm(Verb::Unsubscribe, &first), Confirmed::Nothing);
    assert_eq!(channels.confirm(Verb::Subscribe, probe.name()), Confirmed::ProbeStands);
}
