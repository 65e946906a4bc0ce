//! The queue waits within its bounds and refuses beyond them.

use bytes::Bytes;
use dunlin_core::{
    channel::ChannelName,
    error::PublishOutcome,
    publication::{Kind, Publication},
};
use tokio::{sync::oneshot, time::advance};

use super::*;
use crate::partition::Partition;

type Outcome = oneshot::Receiver<PublishOutcome>;

fn queue(publishes: usize, bytes: usize) -> Arc<Queue> {
    let bounds = QueueBounds { publishes, bytes, age: Duration::from_secs(5) };
    let interest = Arc::new(Interest::new(Vec::new()));
    Arc::new(Queue::new(bounds, interest, LinkMetrics::default()))
}

fn publish(data: &'static str) -> ((Publish, ReplyTo), Outcome) {
    let (reply, outcome) = oneshot::channel();
    let channel = ChannelName::new("c").unwrap();
    let publication = Publication::new(channel, Kind::Text, data.into());
    ((publication.into(), ReplyTo::Caller(reply)), outcome)
}

fn push(queue: &Queue, data: &'static str) -> Outcome {
    let (publish, outcome) = publish(data);
    queue.push([publish]);
    outcome
}

fn refused(mut outcome: Outcome) -> bool {
    match outcome.try_recv() {
        Ok(outcome) => outcome == Err(PublishError::Refused),
        Err(_) => false,
    }
}

#[tokio::test]
async fn what_exceeds_a_bound_is_refused_at_once_and_the_rest_keeps_its_order() {
    let queue = queue(3, 100);
    let (a, b, c) = (push(&queue, "a"), push(&queue, "b"), push(&queue, "c"));
    assert!(refused(push(&queue, "d")));
    let mut batch = Vec::new();
    queue.take(&mut batch, 2, 1000, |_| true);
    queue.take(&mut batch, 10, 1000, |_| true);
    let texts: Vec<_> = batch.iter().map(|w| w.publish.publication.data()).collect();
    assert_eq!(texts, [b"a", b"b", b"c"]);
    assert!(![a, b, c].into_iter().any(refused));
    assert_eq!(queue.metrics.publishes_refused.get(), 1);

    let bytes = self::queue(100, 10);
    let _small = push(&bytes, "12345678");
    assert!(refused(push(&bytes, "9")));
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_is_refused_and_the_younger_stays() {
    let queue = queue(10, 1000);
    let expiry = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.expire().await }
    });
    let old = push(&queue, "old");
    advance(Duration::from_secs(3)).await;
    let young = push(&queue, "young");
    let (start, outcome) = (Instant::now(), old.await);
    assert_eq!(outcome, Ok(Err(PublishError::Refused)));
    assert!(start.elapsed() <= Duration::from_millis(2001), "{:?}", start.elapsed());
    assert!(!refused(young) && !queue.is_empty());
    expiry.abort();
}

#[tokio::test]
async fn a_flowing_queue_makes_publishers_wait_before_it_is_full() {
    let queue = queue(80, 1000);
    queue.enter(Phase::Flowing);
    let outcomes: Vec<_> = (0..10).map(|_| push(&queue, "x")).collect();
    assert!(!queue.has_room());
    let waiting = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.room().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    queue.take(&mut Vec::new(), 1, 1000, |_| true);
    waiting.await.unwrap();
    drop(outcomes);
}

#[tokio::test]
async fn a_held_queue_takes_all_up_to_its_bounds() {
    let queue = queue(80, 1000);
    queue.enter(Phase::Flowing);
    let _outcomes: Vec<_> = (0..10).map(|_| push(&queue, "x")).collect();
    assert!(!queue.has_room());
    queue.enter(Phase::Held);
    assert!(queue.has_room());
}

#[tokio::test]
async fn what_comes_together_is_refused_from_the_first_that_does_not_fit() {
    let queue = queue(100, 12);
    let (publishes, outcomes): (Vec<_>, Vec<_>) =
        ["small", "much too large", "tiny"].into_iter().map(publish).unzip();
    queue.push(publishes);
    assert_eq!(outcomes.into_iter().map(refused).collect::<Vec<_>>(), [false, true, true]);
    assert!(!refused(push(&queue, "next")), "whoever comes next is another");
}

#[tokio::test(start_paused = true)]
async fn what_flows_is_never_refused_and_is_kept_when_it_is_held() {
    let queue = queue(80, 1000);
    queue.enter(Phase::Flowing);
    // More than the bounds came with one read.
    let flowing: Vec<_> = (0..200).map(|_| push(&queue, "0123456789")).collect();
    queue.enter(Phase::Held);
    assert!(refused(push(&queue, "x")), "held, and beyond the bounds");
    let mut batch = Vec::new();
    queue.take(&mut batch, 150, usize::MAX, |_| true);
    assert_eq!(batch.len(), 150);
    let mut still_waiting = flowing.into_iter().skip(150);
    assert!(!still_waiting.by_ref().take(10).any(refused));
    advance(Duration::from_secs(6)).await;
    queue.refuse_expired();
    assert!(still_waiting.all(refused) && queue.is_empty(), "they grow old as any");
}

#[tokio::test]
async fn closing_refuses_what_waits_and_all_that_comes() {
    let queue = queue(10, 1000);
    let waiting = push(&queue, "a");
    queue.enter(Phase::Closed);
    queue.enter(Phase::Flowing);
    assert!(refused(waiting) && refused(push(&queue, "b")) && queue.is_empty());
}

/// As the link returns what it sent: with an id if it may have happened.
fn send_and_return(queue: &Queue, count: usize, id: Option<MessageId>) {
    let mut batch = Vec::new();
    queue.take(&mut batch, count, usize::MAX, |_| true);
    let may_have_happened = id.is_some();
    let sent = |waiting| Waiting { sent: id, may_have_happened, ..waiting };
    queue.put_back(batch.into_iter().map(sent));
}

#[tokio::test]
async fn what_returns_goes_first_and_in_its_order() {
    let queue = queue(10, 1000);
    let _outcomes: Vec<_> = ["a", "b", "c", "d"].map(|data| push(&queue, data)).into();
    send_and_return(&queue, 2, Some(1));
    let _outcome = push(&queue, "e");
    let mut batch = Vec::new();
    queue.take(&mut batch, 3, usize::MAX, |_| true);
    assert!(batch.iter().map(|w| w.sent).eq([Some(1), Some(1), None]));
    queue.put_back(batch.into_iter());
    let mut batch = Vec::new();
    queue.take(&mut batch, 10, usize::MAX, |_| true);
    let texts: Vec<_> = batch.iter().map(|w| w.publish.publication.data()).collect();
    assert_eq!(texts, [b"a", b"b", b"c", b"d", b"e"]);
    assert!(queue.is_empty() && queue.state.lock().bytes == 0);
}

#[tokio::test(start_paused = true)]
async fn what_returns_is_unknown_when_its_time_is_over() {
    let queue = queue(10, 1000);
    let (unknown, refused_later) = (push(&queue, "unknown"), push(&queue, "refused"));
    advance(Duration::from_secs(4)).await;
    send_and_return(&queue, 1, Some(1));
    advance(Duration::from_secs(1)).await;
    queue.refuse_expired();
    assert!(refused(refused_later));
    assert_eq!(unknown.await, Ok(Err(PublishError::Unknown)), "its publisher waits as long");
    assert_eq!(queue.metrics.publishes_unknown.get(), 1);
}

fn taken(queue: &Queue, admits: impl Fn(&Publish) -> bool) -> Vec<Bytes> {
    let mut batch = Vec::new();
    queue.take(&mut batch, 10, usize::MAX, admits);
    let data = |waiting: &Waiting| waiting.publish.publication.data().to_vec().into();
    batch.iter().map(data).collect()
}

#[tokio::test(start_paused = true)]
async fn what_may_not_pass_is_held_with_all_that_follows_it_in_its_channel() {
    let queue = queue(10, 1000);
    let to = |channel: &str, data: &'static str| {
        let ((publish, reply), outcome) = publish(data);
        let data = Bytes::copy_from_slice(publish.publication.data());
        let channel = ChannelName::new(channel).unwrap();
        queue.push([(Publication::new(channel, Kind::Text, data).into(), reply)]);
        outcome
    };
    let outcomes = [to("a", "1"), to("b", "2"), to("a", "3"), to("b", "4")];
    let is_not = |data: &'static str| move |it: &Publish| it.publication.data() != data.as_bytes();
    assert_eq!(taken(&queue, is_not("1")), ["2", "4"], "another channel waits for nobody");
    assert_eq!(taken(&queue, |_| true), [""; 0], "held until it is released");
    queue.release();
    assert_eq!(taken(&queue, |_| true), ["1", "3"]);
    assert!(queue.is_empty() && queue.state.lock().bytes == 0);
    drop(outcomes);

    let held = to("a", "5");
    assert_eq!(taken(&queue, |_| false), [""; 0]);
    advance(Duration::from_secs(5)).await;
    queue.refuse_expired();
    assert!(refused(held), "it grows old as any");
}

#[tokio::test]
async fn closing_leaves_unknown_what_may_have_happened() {
    let queue = queue(10, 1000);
    let (sent, unknown_to_server) = (push(&queue, "a"), push(&queue, "b"));
    send_and_return(&queue, 1, Some(1));
    queue.enter(Phase::Closed);
    assert_eq!(sent.await, Ok(Err(PublishError::Unknown)));
    assert!(refused(unknown_to_server) && queue.is_empty());
}

/// A publish to a channel with its own name as data.
fn push_to(queue: &Queue, channel: &'static str) -> Outcome {
    let (reply, outcome) = oneshot::channel();
    let name = ChannelName::new(channel).unwrap();
    let publication = Publication::new(name, Kind::Text, channel.into());
    queue.push([(publication.into(), ReplyTo::Caller(reply))]);
    outcome
}

fn take(queue: &Queue) -> Vec<String> {
    let mut batch = Vec::new();
    queue.take(&mut batch, 100, 1000, |_| true);
    let text = |it: &Waiting| String::from_utf8(it.publish.publication.data().to_vec()).unwrap();
    batch.iter().map(text).collect()
}

#[tokio::test]
async fn a_partition_that_moves_keeps_its_order_and_the_others_go_on() {
    let partition = Partition::of(&ChannelName::new("moves").unwrap());
    let (old, new) = (queue(100, 1000), queue(100, 1000));
    let mut outcomes = vec![push_to(&old, "moves"), push_to(&old, "stays")];
    assert!(old.leave(partition, &new));
    assert!(!old.leave(partition, &new) && !new.leave(partition, &old), "one way at a time");
    let (publish, outcome) = publish("later");
    new.push([publish]);
    outcomes.push(outcome);
    outcomes.push(push_to(&new, "moves"));
    assert_eq!(take(&old), ["stays"]);
    assert_eq!(take(&new), ["later"]);
    old.hand_over(|unanswered| unanswered == partition);
    assert_eq!(take(&new), [""; 0], "something of it has no answer yet");
    old.hand_over(|_| false);
    new.filled().await;
    outcomes.push(push_to(&new, "moves"));
    assert_eq!(take(&new), ["moves"; 3]);
    assert!(old.is_empty() && new.is_empty());
    assert!(new.leave(partition, &old), "it may go on");
}

#[tokio::test]
async fn what_arrives_where_nothing_is_taken_any_more_is_refused() {
    let partition = Partition::of(&ChannelName::new("moves").unwrap());
    let (old, new) = (queue(100, 1000), queue(100, 1000));
    let outcome = push_to(&old, "moves");
    assert!(old.leave(partition, &new));
    new.enter(Phase::Closed);
    old.hand_over(|_| false);
    assert!(refused(outcome));
}

#[tokio::test]
async fn what_comes_back_goes_before_what_is_held() {
    let queue = queue(100, 1000);
    let _first = push(&queue, "first");
    let mut sent = Vec::new();
    queue.take(&mut sent, 1, 1000, |_| true);
    let _second = push(&queue, "second");
    queue.take(&mut Vec::new(), 1, 1000, |_| false);
    queue.put_back(sent.into_iter());
    assert_eq!(take(&queue), ["first", "second"]);
}
