//! What Redis is told is what the node wants, whatever gets lost on the way.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::*;

fn channel() -> ChannelName {
    ChannelName::new("c").unwrap()
}

fn info(client: u8, user: u8) -> ClientInfo {
    let text = |number: u8| number.to_string().into();
    ClientInfo { user: text(user), client: text(client), conn_info: None, chan_info: None }
}

fn add(wishes: &Wishes, info: &ClientInfo) -> oneshot::Receiver<()> {
    wishes.add(&channel(), info, Farewell::Announced)
}

fn partition() -> Partition {
    Partition::of(&channel())
}

fn written(info: &ClientInfo) -> Bytes {
    member::write(&channel(), info, Farewell::Announced)
}

/// What is told next in the channel's partition.
fn take(wishes: &Wishes, again: bool) -> Vec<Change> {
    wishes.take(|_| true, again).map_or(Vec::new(), |(partition, changes)| {
        assert_eq!(partition, self::partition());
        changes
    })
}

#[test]
fn those_who_wait_learn_when_redis_knows_and_when_it_does_not() {
    let wishes = Wishes::default();
    let mut added = add(&wishes, &info(1, 1));
    let changes = take(&wishes, true);
    added.try_recv().unwrap_err();
    wishes.note_told(changes);
    assert_eq!(added.try_recv(), Ok(()));

    let mut removed = wishes.remove(&channel(), "1");
    wishes.note_untold(partition(), take(&wishes, true));
    assert_eq!(removed.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert!(wishes.has_again() && take(&wishes, false).is_empty());
    let again = take(&wishes, true);
    assert!(again.len() == 1 && again[0].info.is_empty(), "it is told of the removal again");
}

#[test]
fn who_has_left_wishes_nothing() {
    let wishes = Wishes::default();
    let mut before = add(&wishes, &info(1, 1));
    let mut leaving = wishes.leave();
    let mut after = add(&wishes, &info(2, 2));
    assert!(take(&wishes, true).is_empty());
    for known in [&mut before, &mut after] {
        assert_eq!(known.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
    wishes.take_leaving().unwrap().send(()).unwrap();
    assert_eq!(leaving.try_recv(), Ok(()));
    assert!(wishes.take_leaving().is_none());
}

#[test]
fn a_busy_partition_is_passed_over_and_keeps_its_place() {
    let wishes = Wishes::default();
    let names = ["a", "b", "c"].map(|name| ChannelName::new(name).unwrap());
    for name in &names {
        drop(wishes.add(name, &info(1, 1), Farewell::Silent));
    }
    let busy = Partition::of(&names[0]);
    let next = |idle: &dyn Fn(Partition) -> bool| wishes.take(idle, false).map(|it| it.0);
    assert_eq!(next(&|partition| partition != busy), Some(Partition::of(&names[1])));
    assert_eq!(next(&|_| true), Some(busy));
    assert_eq!(next(&|partition| partition == busy), None);
    assert_eq!(next(&|_| true), Some(Partition::of(&names[2])));
    assert_eq!(next(&|_| true), None);
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8, u8),
    Remove(u8),
    /// Redis is told some, and what becomes of it.
    Tell(Fate, bool),
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Done,
    /// Done, and the answer is lost.
    DoneUnheard,
    Lost,
    /// Redis has forgotten all and refuses.
    Forgotten,
}

fn some_step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![
        Just(Fate::Done),
        Just(Fate::DoneUnheard),
        Just(Fate::Lost),
        Just(Fate::Forgotten)
    ];
    prop_oneof![
        (0..4_u8, any::<u8>()).prop_map(|(client, user)| Step::Add(client, user)),
        (0..4_u8).prop_map(Step::Remove),
        (fate, any::<bool>()).prop_map(|(fate, again)| Step::Tell(fate, again)),
    ]
}

proptest! {
    #[test]
    fn in_the_end_redis_knows_what_is_wanted(
        steps in prop::collection::vec(some_step(), 0..40),
    ) {
        let wishes = Wishes::default();
        let (mut wanted, mut known) = (BTreeMap::new(), BTreeMap::new());
        let tell = |known: &mut BTreeMap<_, _>, fate: Fate, again| {
            let changes = take(&wishes, again);
            if matches!(fate, Fate::Done | Fate::DoneUnheard) {
                for change in &changes {
                    match change.info.is_empty() {
                        true => known.remove(&*change.client),
                        false => known.insert(change.client.to_string(), change.info.clone()),
                    };
                }
            }
            match fate {
                Fate::Done => wishes.note_told(changes),
                Fate::DoneUnheard | Fate::Lost => wishes.note_untold(partition(), changes),
                Fate::Forgotten => {
                    known.clear();
                    wishes.note_forgotten(partition(), changes);
                }
            }
        };
        for step in steps {
            match step {
                Step::Add(client, user) => {
                    let info = info(client, user);
                    wanted.insert(info.client.to_string(), written(&info));
                    drop(add(&wishes, &info));
                }
                Step::Remove(client) => {
                    wanted.remove(&client.to_string());
                    drop(wishes.remove(&channel(), &client.to_string()));
                }
                Step::Tell(fate, again) => tell(&mut known, fate, again),
            }
        }
        tell(&mut known, Fate::Done, true);
        assert_eq!(known, wanted);
        assert!(take(&wishes, true).is_empty());
    }
}
