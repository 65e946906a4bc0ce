//! Batches reach those shards that want the channel; a channel lingers after its last one.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;

use super::{heals::Urgency, *};
use crate::{
    error::BrokerLost,
    history::{Recovery, Since},
    inbox::Notice,
    limits::{HEAL_PATIENCE, tests::small},
    position::Epoch,
    publication::Kind,
};

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
    let minute = Duration::from_secs(60);
    for retention in [None, Some(Retention { size: 10, ttl: minute, meta_ttl: minute })] {
        let fixture = Fixture::new();
        let later = || Acknowledgement::Later;
        let _ = fixture.interest.add(&channel(), ShardId::new(1), retention, later);
        fixture.interest.lose(&|_| true);
        fixture.interest.refuse(&channel());
        let mut turn = Vec::new();
        fixture.inboxes[1].take(&mut turn);
        assert!(matches!(&turn[..], [Notice::Turned(_, Turn::Refused)]), "{turn:?}");
    }
}

#[tokio::test]
async fn who_waits_for_a_channel_that_starts_over_goes_on_waiting() {
    let fixture = Fixture::new();
    let Wish::Pending(waiting) = fixture.add(0) else { panic!("granted too early") };
    fixture.interest.start_over(&|_| true);
    fixture.interest.acknowledge(&channel());
    assert_eq!(waiting.granted().await, Ok(()));
    fixture.interest.start_over(&|_| true);
    assert!(matches!(fixture.add(0), Wish::Pending(_)), "it has to be acknowledged anew");
    assert_eq!(fixture.orders.get(), 1, "without being ordered anew");
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
    fixture.interest.lose(&|_| true);
    assert_eq!(waiting.granted().await, Err(BrokerLost));

    let Wish::Pending(later) = fixture.add(1) else { panic!("granted while lost") };
    assert_eq!(fixture.interest.channels(&|_| true), [channel()]);
    fixture.interest.acknowledge(&channel());
    assert_eq!(later.granted().await, Ok(()));
}

const MINUTE: Duration = Duration::from_secs(60);
const RETENTION: Retention = Retention { size: 1000, ttl: MINUTE, meta_ttl: MINUTE };

/// A node with many channels with history, each live.
struct Rings {
    interest: Interest,
    inbox: Arc<Inbox>,
}

impl Rings {
    fn new(bytes_max: usize) -> Self {
        let inbox = Arc::new(Inbox::new(&small()));
        let interest = Interest::new(vec![Arc::clone(&inbox)]).with_ring_bytes(bytes_max);
        Self { interest, inbox }
    }

    async fn add(&self, channel: &ChannelName) {
        let subscribe = || Acknowledgement::Immediate;
        let _ = self.interest.add(channel, ShardId::new(0), Some(RETENTION), subscribe);
        let Question::Positions(asked) = self.interest.next_question().await else {
            panic!("a page of what?")
        };
        for (channel, gap) in asked {
            self.interest.located(&channel, gap, at(0));
        }
    }

    fn publish(&self, channel: &ChannelName, offset: u64) {
        let data = Bytes::from(vec![b'x'; 4096]);
        let publication = Publication::new(channel.clone(), Kind::Text, data).at(at(offset));
        self.interest.deliver(channel, &[Arc::new(publication)]);
        self.inbox.take(&mut Vec::new());
    }

    /// Whether who comes back from the beginning is served from memory.
    fn remembers(&self, channel: &ChannelName) -> bool {
        let connection = ConnectionId { shard: ShardId::new(0), slot: 0, generation: 0 };
        let since = Since { offset: 0, epoch: None };
        let resume = Some(Resume { since, limit: 1000, is_cache: false });
        self.interest.enter(channel, connection, resume, None) == Entered::Here
    }
}

fn at(offset: u64) -> Position {
    Position { offset, epoch: Epoch { id: 7, branch: 0 } }
}

fn named(number: usize) -> ChannelName {
    ChannelName::new(&format!("c{number}")).unwrap()
}

#[tokio::test]
async fn what_a_node_remembers_is_bounded_and_the_wanted_stay_longest() {
    const BYTES_MAX: usize = 1 << 20;
    let node = Rings::new(BYTES_MAX);
    let wanted = named(9999);
    node.add(&wanted).await;
    node.publish(&wanted, 1);
    let mut kept = 0;
    for number in 0..1000 {
        node.add(&named(number)).await;
        for offset in 1..=3 {
            node.publish(&named(number), offset);
        }
        assert!(node.interest.ring_bytes() <= BYTES_MAX);
        kept = kept.max(node.interest.ring_bytes());
        assert!(node.remembers(&wanted), "after {number} others");
    }
    assert!(kept > BYTES_MAX / 2, "it is there to be used");
    // Some room is made for partitions that have nothing to drop.
    node.interest.audit(0, Instant::now());
    assert!(node.interest.ring_bytes() <= BYTES_MAX - BYTES_MAX / 8);
    node.interest.forget_all();
    assert_eq!(node.interest.ring_bytes(), 0);
}

#[tokio::test]
async fn a_heal_that_nothing_comes_of_is_told_to_subscribers() {
    let node = Rings::new(1 << 20);
    let channel = named(0);
    node.add(&channel).await;
    node.publish(&channel, 1);
    let began = Instant::now();
    node.publish(&channel, 3);
    let Question::Page(_, gap) = node.interest.next_question().await else { panic!("no gap") };
    node.interest.not_answered(channel.clone(), gap);
    let told = |after: Duration| {
        node.interest.audit(0, began + after);
        let mut turn = Vec::new();
        node.inbox.take(&mut turn);
        matches!(&turn[..], [Notice::Turned(_, Turn::Lost)])
    };
    assert!(!told(HEAL_PATIENCE - Duration::from_secs(1)));
    assert!(told(HEAL_PATIENCE + Duration::from_secs(1)));
    // It begins anew where the channel is then.
    let Question::Positions(asked) = node.interest.next_question().await else {
        panic!("the old gap is asked about")
    };
    node.interest.located(&asked[0].0, asked[0].1, at(3));
    node.publish(&channel, 4);
    assert!(node.interest.ring_bytes() > 0, "it is live");
}

#[tokio::test]
async fn nobody_is_told_while_the_broker_is_away() {
    let node = Rings::new(1 << 20);
    node.add(&named(0)).await;
    node.interest.acknowledge(&named(0));
    node.interest.lose(&|_| true);
    node.interest.audit(0, Instant::now() + 10 * HEAL_PATIENCE);
    let mut turn = Vec::new();
    node.inbox.take(&mut turn);
    assert!(turn.is_empty(), "{turn:?}");
}

/// New subscriptions first, then gaps, then streams that stopped, and audits last.
#[tokio::test]
async fn what_somebody_waits_for_is_asked_first() {
    let node = Rings::new(1 << 20);
    for number in 0..4 {
        node.add(&named(number)).await;
    }
    let partition_of = |channel: &ChannelName| {
        let is_it = |lock: &Lock| std::ptr::eq(lock, node.interest.partition(channel));
        node.interest.partitions.iter().position(is_it).unwrap()
    };
    let (audited, returned, gapped, new) = (named(0), named(1), named(2), named(9));
    for _ in 0..2 {
        node.interest.audit(partition_of(&audited), Instant::now());
    }
    node.interest.acknowledge(&returned);
    node.publish(&gapped, 2);
    let subscribe = || Acknowledgement::Immediate;
    let _ = node.interest.add(&new, ShardId::new(0), Some(RETENTION), subscribe);
    let Question::Positions(first) = node.interest.next_question().await else {
        panic!("a gap before those who wait")
    };
    let names: Vec<_> = first.iter().map(|(channel, _)| channel.clone()).collect();
    assert_eq!(names, [new.clone(), returned]);
    let Question::Page(second, _) = node.interest.next_question().await else {
        panic!("an audit before a gap")
    };
    assert_eq!(second, gapped);
    let Question::Audit(third) = node.interest.next_question().await else { panic!("none") };
    assert!(third.iter().any(|(channel, _)| *channel == audited));

    // However many audits there are, few are on their way: whoever joins waits behind those.
    let heals = &node.interest.heals;
    let gap = third[0].1;
    (0..10_000).for_each(|_| heals.push(audited.clone(), gap, Urgency::Audit));
    assert!(matches!(poll_once(heals.next()).await, Poll::Ready(Question::Audit(_))));
    assert!(poll_once(heals.next()).await.is_pending());
    heals.push(new, gap, Urgency::Join);
    assert!(matches!(poll_once(heals.next()).await, Poll::Ready(Question::Positions(_))));
    heals.end_audit();
    assert!(matches!(poll_once(heals.next()).await, Poll::Ready(Question::Audit(_))));
}

#[tokio::test]
async fn questions_that_nobody_waits_for_any_more_are_not_asked() {
    let node = Rings::new(1 << 20);
    let start = Instant::now();
    node.add(&named(0)).await;
    node.add(&named(1)).await;
    node.publish(&named(0), 2);
    node.publish(&named(1), 2);
    node.interest.remove(&named(0), ShardId::new(0), start);
    node.interest.sweep(start + LINGER, |_| {});
    let Question::Page(asked, _) = node.interest.next_question().await else { panic!("no gap") };
    assert_eq!(asked, named(1));
}

/// Pages on their way are bounded in bytes, or what is asked behind them would wait for them all.
#[tokio::test]
async fn a_few_pages_at_most_are_on_their_way() {
    let node = Rings::new(1 << 20);
    for number in 0..20 {
        node.add(&named(number)).await;
        node.publish(&named(number), 2);
    }
    let mut bytes = 0;
    let mut next = None;
    while let Poll::Ready(question) = poll_once(node.interest.next_question()).await {
        let Question::Page(channel, gap) = question else { panic!("{question:?}") };
        bytes += gap.bytes();
        next = Some((channel, gap));
    }
    assert!((1..=4 << 20).contains(&bytes), "{bytes}");
    let (channel, gap) = next.expect("some are asked");
    node.interest.healed(&channel, gap, Recovery::Lost { top: at(2) });
    assert!(poll_once(node.interest.next_question()).await.is_ready(), "there is room again");
}

async fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[test]
fn the_most_wanted_channels_come_first() {
    let fixture = Fixture::new();
    let later = || Acknowledgement::Later;
    for (number, wishes) in [(0, 1), (1, 5), (2, 3)] {
        for _ in 0..wishes {
            let _ = fixture.interest.add(&named(number), ShardId::new(0), None, later);
        }
    }
    assert_eq!(fixture.interest.channels(&|_| true), [1, 2, 0].map(named));
}

#[tokio::test]
async fn channels_that_are_let_go_of_leave_nothing_behind() {
    let node = Rings::new(1 << 20);
    let start = Instant::now();
    for number in 0..10_000 {
        let channel = named(number);
        node.add(&channel).await;
        node.publish(&channel, 1);
        node.interest.remove(&channel, ShardId::new(0), start);
        node.interest.sweep(start + LINGER, |_| {});
    }
    assert_eq!(node.interest.ring_bytes(), 0);
    let names = |lock: &Lock| lock.lock().rings.len();
    assert!(node.interest.partitions.iter().map(names).sum::<usize>() < 10_000);
}
