//! Whatever is wished and answered in between, the wanted channels stand in the end.

use std::collections::BTreeSet;

use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};

use super::*;
use crate::link::{
    resp::Decoder,
    value::{Frame, Value},
};

fn name(number: usize) -> ChannelName {
    ChannelName::new(&format!("c{number}")).unwrap()
}

/// What the table writes next: the verb and the Redis channels.
fn command(channels: &mut Channels) -> Option<(Verb, Vec<Bytes>)> {
    let mut out = BytesMut::new();
    channels.write_next(&mut out);
    let Some(Frame::Reply(Value::Array(values))) = Decoder::new(1 << 20).decode(&mut out).unwrap()
    else {
        return None;
    };
    let words: Vec<_> = values.iter().map(|value| value.as_bytes().unwrap().clone()).collect();
    let verb = if words[0] == "SUBSCRIBE" { Verb::Subscribe } else { Verb::Unsubscribe };
    Some((verb, words[1..].to_vec()))
}

#[test]
fn wishes_are_carried_by_few_commands() {
    let mut channels = Channels::new(Keys::new("p:"));
    (0..1200).for_each(|number| assert!(!channels.want(&name(number))));
    let mut sizes = Vec::new();
    while let Some((verb, keys)) = command(&mut channels) {
        assert_eq!(verb, Verb::Subscribe);
        assert!(command(&mut channels).is_none(), "one command at a time");
        sizes.push(keys.len());
        for key in keys {
            assert!(!channels.all_stand());
            assert!(matches!(channels.confirm(verb, &key), Confirmed::Stands(_)));
        }
    }
    assert_eq!(sizes, [512, 512, 176]);
    assert!(channels.all_stand() && channels.want(&name(7)));
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
    assert_eq!((keys.len(), channels.refuse()), (3, None));
    let mut stand = 0;
    while let Some((verb, keys)) = command(&mut channels) {
        assert_eq!((verb, keys.len()), (Verb::Subscribe, 1));
        if keys[0] == "c2" {
            assert_eq!(channels.refuse(), Some(name(2)));
        } else {
            assert!(matches!(channels.confirm(verb, &keys[0]), Confirmed::Stands(_)));
            stand += 1;
        }
    }
    assert!(stand == 2 && channels.all_stand());
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

/// A server that keeps a set of subscriptions and confirms one channel at a time.
#[derive(Default)]
struct Server {
    stands: BTreeSet<Bytes>,
    unconfirmed: Vec<(Verb, Bytes)>,
}

impl Server {
    fn take(&mut self, (verb, keys): (Verb, Vec<Bytes>)) {
        self.unconfirmed.extend(keys.into_iter().rev().map(|key| (verb, key)));
    }

    fn confirm(&mut self, channels: &mut Channels) -> bool {
        let Some((verb, key)) = self.unconfirmed.pop() else { return false };
        match verb {
            Verb::Subscribe => self.stands.insert(key.clone()),
            Verb::Unsubscribe => self.stands.remove(&key),
        };
        channels.confirm(verb, &key);
        true
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
                    if server.unconfirmed.is_empty() && server.stands.remove(&key) {
                        channels.confirm(Verb::Unsubscribe, &key);
                    }
                }
                Deed::Refuse => {
                    let is_whole = server.unconfirmed.len()
                        == channels.flight.as_ref().map_or(0, |flight| flight.keys.len());
                    let is_subscribe =
                server.unconfirmed.iter().all(|(verb, _)| *verb == Verb::Subscribe);
                    if is_whole && is_subscribe && !server.unconfirmed.is_empty() {
                        server.unconfirmed.clear();
                        if let Some(refused) = channels.refuse() {
                            wanted.remove(refused.as_str().as_bytes());
                        }
                    }
                }
            }
        }
        loop {
            while server.confirm(&mut channels) {}
            let Some(next) = command(&mut channels) else { break };
            server.take(next);
        }
        assert!(channels.all_stand());
        assert_eq!(server.stands, wanted);
        assert_eq!(channels.entries.len(), wanted.len(), "nothing unwanted is remembered");
    }
}
