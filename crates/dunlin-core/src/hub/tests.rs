//! The hub against a plain map of sets, and fan-out while subscribers leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    filter::FilterNode,
    publication::{Kind, Publication},
};

fn name(number: u8) -> ChannelName {
    ChannelName::new(&format!("c{number}")).unwrap()
}

fn publication(channel: u8, text: &str) -> Arc<Publication> {
    let data = Bytes::copy_from_slice(text.as_bytes());
    Arc::new(Publication::new(name(channel), Kind::Text, data))
}

fn plain() -> Manner {
    Manner::all(Format::PLAIN)
}

/// One of as many manners as there are numbers.
fn filtered(number: u8) -> Manner {
    let node = FilterNode {
        key: "n".to_owned(),
        cmp: "eq".to_owned(),
        val: number.to_string(),
        ..FilterNode::default()
    };
    Manner { filter: Some(Arc::new(TagsFilter::new(node).unwrap())), ..plain() }
}

fn gather(
    turn: &mut Turn,
    hub: &mut Hub,
    publications: impl IntoIterator<Item = Arc<Publication>>,
) -> Vec<Run> {
    turn.begin();
    for publication in publications {
        turn.gather(hub, publication);
    }
    turn.take().collect()
}

/// Delivers a run the way a shard does, `count` subscribers at a time, calling `pause` in between.
fn fan_out(
    hub: &mut Hub,
    channel: ChannelId,
    count: usize,
    mut pause: impl FnMut(&mut Hub),
) -> Vec<u32> {
    let mut served = Vec::new();
    for group in 0..usize::MAX {
        if hub.manner(channel, group).is_none() {
            break;
        }
        let mut before = usize::MAX;
        loop {
            let (start, batch) = hub.subscribers(channel, group, before, count);
            let batch = batch.to_vec();
            if batch.is_empty() {
                break;
            }
            before = start;
            for subscriber in batch.iter().rev() {
                if !served.contains(&subscriber.connection) {
                    served.push(subscriber.connection);
                }
            }
            pause(hub);
        }
    }
    served
}

#[test]
fn publications_of_a_channel_form_one_run_in_order() {
    let mut hub = Hub::default();
    hub.subscribe(&name(1), &plain(), 10);
    hub.subscribe(&name(2), &plain(), 11);
    let mut turn = Turn::default();
    for _ in 0..2 {
        let all =
            [publication(1, "a"), publication(2, "x"), publication(3, "?"), publication(1, "b")];
        let runs = gather(&mut turn, &mut hub, all);
        let texts: Vec<Vec<&[u8]>> =
            runs.iter().map(|run| run.publications.iter().map(|p| p.data()).collect()).collect();
        assert_eq!(texts, [vec![&b"a"[..], b"b"], vec![b"x"]]);
    }
}

#[test]
fn a_run_of_a_channel_that_is_gone_reaches_nobody() {
    let mut hub = Hub::default();
    let (subscription, _) = hub.subscribe(&name(1), &plain(), 10);
    let mut turn = Turn::default();
    let channel = gather(&mut turn, &mut hub, [publication(1, "a")])[0].channel;
    hub.unsubscribe(subscription);
    hub.subscribe(&name(2), &plain(), 11);
    assert_eq!(fan_out(&mut hub, channel, 4, |_| {}), [0; 0]);
}

#[test]
fn leaving_during_a_fan_out_hides_nobody_and_serves_nobody_twice() {
    for leaver in 0..20_usize {
        for count in 1..5 {
            let mut hub = Hub::default();
            let ids: Vec<_> = (0..20).map(|c| hub.subscribe(&name(1), &plain(), c).0).collect();
            let channel = gather(&mut Turn::default(), &mut hub, [publication(1, "a")])[0].channel;
            let mut left = false;
            let served = fan_out(&mut hub, channel, count, |hub| {
                if !left {
                    hub.unsubscribe(ids[leaver]);
                    left = true;
                }
            });
            let served: BTreeSet<u32> = served.into_iter().collect();
            let stayed = (0..20).filter(|c| *c as usize != leaver);
            assert!(
                stayed.into_iter().all(|c| served.contains(&c)),
                "leaver {leaver} count {count}"
            );
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe { channel: u8, manner: u8 },
    Unsubscribe { pick: usize },
    FanOut { channel: u8, count: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, 0..24_u8).prop_map(|(channel, manner)| Step::Subscribe { channel, manner }),
        any::<usize>().prop_map(|pick| Step::Unsubscribe { pick }),
        (0..4_u8, 1..7_usize).prop_map(|(channel, count)| Step::FanOut { channel, count }),
    ]
}

proptest! {
    /// The hub against a map from channel to a set of connections.
    #[test]
    fn the_hub_is_a_map_of_sets(steps in proptest::collection::vec(step(), 0..240)) {
        let mut hub = Hub::default();
        let mut model: BTreeMap<u8, BTreeSet<u32>> = BTreeMap::new();
        let mut live: Vec<(SubscriptionId, u8, u32)> = Vec::new();
        let mut turn = Turn::default();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Subscribe { channel, manner } => {
                    let connection = u32::try_from(number).unwrap();
                    let manner = filtered(manner);
                    let (id, company) = hub.subscribe(&name(channel), &manner, connection);
                    let members = model.entry(channel).or_default();
                    prop_assert_eq!(company == Company::Alone, members.is_empty());
                    members.insert(connection);
                    live.push((id, channel, connection));
                }
                Step::Unsubscribe { pick } if !live.is_empty() => {
                    let (id, channel, connection) = live.swap_remove(pick % live.len());
                    let (left, company) = hub.unsubscribe(id);
                    prop_assert_eq!(left, name(channel));
                    let members = model.get_mut(&channel).unwrap();
                    members.remove(&connection);
                    prop_assert_eq!(company == Company::Alone, members.is_empty());
                }
                Step::Unsubscribe { .. } => {}
                Step::FanOut { channel, count } => {
                    let runs = gather(&mut turn, &mut hub, [publication(channel, "a")]);
                    let found = runs.first().map(|run| run.channel);
                    let served = match found {
                        Some(id) => fan_out(&mut hub, id, count, |_| {}),
                        None => Vec::new(),
                    };
                    let members = model.get(&channel).cloned().unwrap_or_default();
                    prop_assert_eq!(served.len(), members.len());
                    prop_assert_eq!(served.into_iter().collect::<BTreeSet<_>>(), members);
                }
            }
            prop_assert_eq!(hub.subscription_count(), live.len());
            let counts: BTreeMap<_, _> = hub.channels().map(|(n, c)| (n.clone(), c)).collect();
            let sizes = model.iter().map(|(channel, members)| (name(*channel), members.len()));
            prop_assert_eq!(&counts, &sizes.filter(|(_, size)| *size > 0).collect());
            prop_assert_eq!(hub.channel_count(), counts.len());
        }
    }
}
