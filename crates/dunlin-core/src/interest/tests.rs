//! Batches reach those shards that want the channel; a channel lingers after its last one.

use std::{cell::Cell, time::Duration};

use bytes::Bytes;

use super::*;
use crate::{inbox::Notice, limits::tests::small, publication::Kind};

struct Fixture {
    inboxes: Vec<Arc<Inbox>>,
    interest: Interest,
    orders: Cell<usize>,
}

impl Fixture {
    fn new() -> Self {
        let inboxes: Vec<_> = (0..2).map(|_| Arc::new(Inbox::new(&small()))).collect();
        let interest = Interest::new(inboxes.clone());
        Self { inboxes, interest, orders: Cell::new(0) }
    }

    fn add(&self, shard: usize) -> Wish {
        self.interest.add(&channel(), ShardId::new(shard), None, || {
            self.orders.set(self.orders.get() + 1);
            Acknowledgement::Later
        })
    }

    fn deliver(&self, text: &'static str) {
        let data = Bytes::from_static(text.as_bytes());
        let publication = Arc::new(Publication::new(channel(), Kind::Text, data));
        self.interest.deliver(&channel(), &[publication]);
    }

    fn received(&self, shard: usize) -> Vec<String> {
        let mut turn = Vec::new();
        self.inboxes[shard].take(&mut turn);
        let text = |notice| match notice {
            Notice::Publication(p) => String::from_utf8(p.data().to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        turn.into_iter().map(text).collect()
    }
}

fn channel() -> ChannelName {
    ChannelName::new("news").unwrap()
}

#[tokio::test]
async fn the_second_subscriber_waits_for_the_first_ones_acknowledgement() {
    let fixture = Fixture::new();
    let Wish::Pending(first) = fixture.add(0) else { panic!("granted too early") };
    let Wish::Pending(second) = fixture.add(1) else { panic!("granted too early") };
    assert_eq!(fixture.orders.get(), 1, "the broker is told once");

    fixture.interest.acknowledge(&channel());
    assert_eq!((first.granted().await, second.granted().await), (Ok(()), Ok(())));
    assert!(matches!(fixture.add(0), Wish::Granted));
}

#[tokio::test]
async fn a_refusal_tells_who_waits_and_the_next_wish_asks_again() {
    let fixture = Fixture::new();
    let Wish::Pending(refused) = fixture.add(0) else { panic!("granted too early") };
    fixture.interest.refuse(&channel());
    assert_eq!(refused.granted().await, Err(BrokerLost));

    let Wish::Pending(again) = fixture.add(0) else { panic!("granted though refused") };
    assert_eq!(fixture.orders.get(), 2, "the broker is asked again");
    fixture.interest.acknowledge(&channel());
    assert_eq!(again.granted().await, Ok(()));

    // One that stood and could not be made again stands no more.
    fixture.interest.refuse(&channel());
    assert!(matches!(fixture.add(1), Wish::Pending(_)));
    assert_eq!(fixture.orders.get(), 3);
}

#[test]
fn subscribers_of_a_channel_that_is_refused_after_a_loss_are_told() {
    let fixture = Fixture::new();
    let minute = Duration::from_secs(60);
    let retention = Retention { size: 10, ttl: minute, meta_ttl: minute };
    let later = || Acknowledgement::Later;
    let _ = fixture.interest.add(&channel(), ShardId::new(1), Some(retention), later);
    fixture.interest.lose();
    fixture.interest.refuse(&channel());
    let mut turn = Vec::new();
    fixture.inboxes[1].take(&mut turn);
    assert!(matches!(&turn[..], [Notice::Turned(_, Turn::Lost)]), "{turn:?}");
}

#[test]
fn a_batch_reaches_every_shard_that_wants_the_channel_and_no_other() {
    let fixture = Fixture::new();
    let _ = fixture.add(1);
    fixture.deliver("a");
    fixture.deliver("b");
    assert_eq!(fixture.received(1), ["a", "b"]);
    assert_eq!(fixture.received(0), [""; 0]);

    fixture.interest.remove(&channel(), ShardId::new(1), Instant::now());
    fixture.deliver("c");
    assert_eq!(fixture.received(1), [""; 0]);
}

#[test]
fn an_unwanted_channel_lingers_and_is_kept_when_wanted_again() {
    let fixture = Fixture::new();
    let told = Cell::new(0);
    let sweep = |now| fixture.interest.sweep(now, |_| told.set(told.get() + 1));
    let start = Instant::now();

    let _ = fixture.add(0);
    fixture.interest.remove(&channel(), ShardId::new(0), start);
    let _ = fixture.add(0);
    sweep(start + LINGER);
    assert_eq!(told.get(), 0, "wanted again in time");

    let later = start + LINGER + Duration::from_secs(1);
    fixture.interest.remove(&channel(), ShardId::new(0), later);
    sweep(later + LINGER - Duration::from_millis(1));
    assert_eq!((told.get(), fixture.interest.channel_count()), (0, 1));
    sweep(later + LINGER);
    assert_eq!((told.get(), fixture.interest.channel_count()), (1, 0));
    assert_eq!(fixture.orders.get(), 1);
    let _ = fixture.add(0);
    assert_eq!(fixture.orders.get(), 2, "the broker must be told anew");
}

#[tokio::test]
async fn a_loss_tells_who_waits_and_later_wishes_wait_for_the_return() {
    let fixture = Fixture::new();
    let Wish::Pending(waiting) = fixture.add(0) else { panic!("granted too early") };
    fixture.interest.lose();
    assert_eq!(waiting.granted().await, Err(BrokerLost));

    let Wish::Pending(later) = fixture.add(1) else { panic!("granted while lost") };
    assert_eq!(fixture.interest.channels(), [channel()]);
    fixture.interest.acknowledge(&channel());
    assert_eq!(later.granted().await, Ok(()));
}
