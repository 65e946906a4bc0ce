//! Whatever is wished and answered in between, the wanted channels stand in the end.

mod sharded;

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};

use super::{flights::FLIGHTS_MAX, *};
use crate::link::{
    resp::Decoder,
    value::{Frame, Value},
};

fn name(number: usize) -> ChannelName {
    ChannelName::new(&format!("c{number}")).unwrap()
}

/// What the table writes next: the verb and the Redis channels.
fn command(channels: &mut Channels) -> Option<(Verb, Vec<Bytes>)> {
    command_at(channels, Instant::now())
}

fn command_at(channels: &mut Channels, now: Instant) -> Option<(Verb, Vec<Bytes>)> {
    let mut out = BytesMut::new();
    channels.write_next(&mut out, now);
    let Some(Frame::Reply(Value::Array(values))) = Decoder::new(1 << 20).decode(&mut out).unwrap()
    else {
        return None;
    };
    let words: Vec<_> = values.iter().map(|value| value.as_bytes().unwrap().clone()).collect();
    let is_end = words[0].ends_with(b"UNSUBSCRIBE");
    let verb = if is_end { Verb::Unsubscribe } else { Verb::Subscribe };
    Some((verb, words[1..].to_vec()))
}

#[test]
fn wishes_are_carried_by_few_commands() {
    let mut channels = Channels::new(Keys::new("p:"));
    (0..1200).for_each(|number| assert!(!channels.want(&name(number))));
    let (mut sizes, mut in_flight) = (Vec::new(), Vec::new());
    while let Some((verb, keys)) = command(&mut channels) {
        assert_eq!(verb, Verb::Subscribe);
        sizes.push(keys.len());
        in_flight.extend(keys);
    }
    assert_eq!((sizes, channels.unanswered()), (vec![512, 512, 176], 3));
    for key in in_flight {
        assert!(matches!(channels.confirm(Verb::Subscribe, &key), Confirmed::Stands(_)));
    }
    assert!(channels.unanswered() == 0 && channels.want(&name(7)));
}

/// They come with those first that most subscribers wait for.
#[test]
fn what_is_wished_first_is_asked_for_first() {
    let mut channels = Channels::new(Keys::new("p:"));
    let all: Vec<Bytes> = (0..1200).map(|number| format!("p:c{number}").into()).collect();
    (0..1200).for_each(|number| assert!(!channels.want(&name(number))));
    // What is not wanted any more, and wanted again after all, goes to the end.
    channels.unwant(&name(0));
    channels.want(&name(0));
    let asked: Vec<Bytes> =
        std::iter::from_fn(|| command(&mut channels)).flat_map(|(_, keys)| keys).collect();
    assert_eq!(asked, [&all[1..], &all[..1]].concat());
}

/// Somebody waits for them, and of the others there may be hundreds of thousands.
#[test]
fn new_wishes_come_before_what_comes_back() {
    let mut channels = Channels::new(Keys::new(""));
    (0..600).for_each(|number| assert!(!channels.want_back(&name(number))));
    channels.want(&name(600));
    channels.hurry(&name(599));
    // Nobody wants this one any more.
    channels.hurry(&name(601));
    let asked: Vec<Bytes> =
        std::iter::from_fn(|| command(&mut channels)).flat_map(|(_, keys)| keys).collect();
    let names = [600, 599].into_iter().chain(0..599).map(|number| name(number).to_string());
    assert_eq!(asked, names.map(Bytes::from).collect::<Vec<_>>());
    // What Redis ends by itself comes back, too.
    asked.iter().for_each(|key| drop(channels.confirm(Verb::Subscribe, key)));
    channels.confirm(Verb::Unsubscribe, b"c7");
    channels.want(&name(602));
    let (_, keys) = command(&mut channels).unwrap();
    assert_eq!(keys, ["c602", "c7"]);
}

#[test]
fn so_many_commands_are_in_flight_and_no_more() {
    let mut channels = Channels::new(Keys::new("p:"));
    let mut written = 0;
    for number in 0..2 * FLIGHTS_MAX {
        channels.want(&name(number));
        written += usize::from(command(&mut channels).is_some());
    }
    assert_eq!(written, FLIGHTS_MAX);
}

#[test]
fn an_error_means_the_oldest_command_of_which_nothing_is_confirmed() {
    let mut channels = Channels::new(Keys::new(""));
    for number in 1..=3 {
        channels.want(&name(number));
        command(&mut channels);
    }
    channels.confirm(Verb::Subscribe, b"c1");
    assert_eq!(channels.refuse(), Refused::Channel(name(2)));
    assert_eq!(channels.confirm(Verb::Subscribe, b"c3"), Confirmed::Stands(name(3)));
}

#[test]
fn a_subscription_that_ends_unasked_is_asked_for_again() {
    let mut channels = Channels::new(Keys::new(""));
    channels.want(&name(1));
    command(&mut channels);
    channels.confirm(Verb::Subscribe, b"c1");
    assert_eq!(channels.confirm(Verb::Unsubscribe, b"c1"), Confirmed::Ended(name(1)));
    assert_eq!(command(&mut channels), Some((Verb::Subscribe, vec!["c1".into()])));
    // One that nobody asked for at all changes nothing.
    assert_eq!(channels.confirm(Verb::Unsubscribe, b"c9"), Confirmed::Nothing);
    assert_eq!(channels.confirm(Verb::Subscribe, b"c1"), Confirmed::Stands(name(1)));
}

#[test]
fn a_refused_command_is_asked_channel_by_channel() {
    let mut channels = Channels::new(Keys::new(""));
    (1..=3).for_each(|number| assert!(!channels.want(&name(number))));
    let (_, keys) = command(&mut channels).unwrap();
    assert_eq!((keys.len(), channels.refuse()), (3, Refused::Nothing));
    let mut stand = 0;
    while let Some((verb, keys)) = command(&mut channels) {
        assert_eq!((verb, keys.len()), (Verb::Subscribe, 1));
        if keys[0] == "c2" {
            assert_eq!(channels.refuse(), Refused::Channel(name(2)));
        } else {
            assert!(matches!(channels.confirm(verb, &keys[0]), Confirmed::Stands(_)));
            stand += 1;
        }
    }
    assert!(stand == 2 && all_stand(&channels));
}

fn all_stand(channels: &Channels) -> bool {
    channels.unanswered() == 0
        && channels.entries.values().all(|entry| entry.state == State::Standing)
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Want(usize),
    Unwant(usize),
    Send,
    Confirm,
    EndUnasked(usize),
    Refuse,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (0..6_usize).prop_map(Deed::Want),
        3 => (0..6_usize).prop_map(Deed::Unwant),
        4 => Just(Deed::Send),
        6 => Just(Deed::Confirm),
        1 => (0..6_usize).prop_map(Deed::EndUnasked),
        1 => Just(Deed::Refuse),
    ]
}

/// A server that keeps a set of subscriptions, and whose answers arrive one channel at a time.
#[derive(Default)]
struct Server {
    stands: BTreeSet<Bytes>,
    /// Commands in their order, and what of each is unconfirmed.
    commands: VecDeque<(Verb, Vec<Bytes>, usize)>,
}

impl Server {
    fn take(&mut self, (verb, keys): (Verb, Vec<Bytes>)) {
        let count = keys.len();
        self.commands.push_back((verb, keys, count));
    }

    fn confirm(&mut self, channels: &mut Channels) -> bool {
        let Some((verb, keys, _)) = self.commands.front_mut() else { return false };
        let (verb, key) = (*verb, keys.pop().unwrap());
        if keys.is_empty() {
            self.commands.pop_front();
        }
        match verb {
            Verb::Subscribe => self.stands.insert(key.clone()),
            Verb::Unsubscribe => self.stands.remove(&key),
        };
        channels.confirm(verb, &key);
        true
    }

    /// Refuses the oldest command, if it subscribes and nothing of it is confirmed.
    fn refuse(&mut self, channels: &mut Channels) -> Option<Refused> {
        let (verb, keys, count) = self.commands.front()?;
        if *verb == Verb::Unsubscribe || keys.len() < *count {
            return None;
        }
        self.commands.pop_front();
        Some(channels.refuse())
    }
}

proptest! {
    #[test]
    fn in_the_end_exactly_the_wanted_channels_stand(
        deeds in prop::collection::vec(deed(), 0..60)
    ) {
        let mut channels = Channels::new(Keys::new(""));
        let (mut server, mut wanted) = (Server::default(), BTreeSet::new());
        for deed in deeds {
            match deed {
                Deed::Want(number) => {
                    let stands = channels.want(&name(number));
                    let key = Bytes::from(name(number).to_string());
                    assert!(!stands || server.stands.contains(&key), "acknowledged too early");
                    wanted.insert(key);
                }
                Deed::Unwant(number) => {
                    channels.unwant(&name(number));
                    wanted.remove(name(number).as_str().as_bytes());
                }
                Deed::Send => command(&mut channels).into_iter().for_each(|c| server.take(c)),
                Deed::Confirm => {
                    server.confirm(&mut channels);
                }
                Deed::EndUnasked(number) => {
                    let key = Bytes::from(name(number).to_string());
                    // A server confirms a whole command at once: nothing comes in between.
                    if server.commands.is_empty() && server.stands.remove(&key) {
                        channels.confirm(Verb::Unsubscribe, &key);
                    }
                }
                Deed::Refuse => {
                    if let Some(Refused::Channel(refused)) = server.refuse(&mut channels) {
                        wanted.remove(refused.as_str().as_bytes());
                    }
                }
            }
        }
        loop {
            while server.confirm(&mut channels) {}
            let Some(next) = command(&mut channels) else { break };
            server.take(next);
        }
        assert!(all_stand(&channels));
        assert_eq!(server.stands, wanted);
        assert_eq!(channels.entries.len(), wanted.len(), "nothing unwanted is remembered");
    }
}
