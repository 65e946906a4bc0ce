//! What becomes of publishes whose connection or server is lost.

use bytes::Bytes;
use dunlin_core::{
    channel::ChannelName,
    publication::{Kind, Publication},
};

use super::*;
use crate::{cluster::ELSEWHERE_PAUSE, queue::QueueBounds};

fn take(queue: &Queue, count: usize) -> Vec<Waiting> {
    let mut batch = Vec::new();
    queue.take(&mut batch, count, usize::MAX, |_| true);
    batch
}

fn in_flight() -> (Arc<Queue>, InFlight) {
    let (interest, metrics) = (Arc::new(Interest::new(Vec::new())), LinkMetrics::default());
    let queue = Queue::new(QueueBounds::default(), Arc::clone(&interest), metrics.clone());
    let queue = Arc::new(queue);
    (Arc::clone(&queue), InFlight::new(queue, interest, metrics))
}

/// As the link sends a publish that is kept.
fn send(queue: &Queue, in_flight: &mut InFlight) {
    let mut together = take(queue, 1);
    together[0].sent.get_or_insert(1);
    in_flight.push(Sent::Repeatable(together));
    in_flight.end_batch();
}

fn error(text: &'static str) -> Value {
    Value::Error(Bytes::from_static(text.as_bytes()))
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_comes_before_what_was_sent_behind_it() {
    let (queue, mut in_flight) = in_flight();
    for text in ["first", "second"] {
        let channel = ChannelName::new("c").unwrap();
        let publication = Publication::new(channel, Kind::Text, text.into());
        queue.push([(publication.into(), ReplyTo::Nobody)]);
        in_flight.push(Sent::Repeatable(take(&queue, 1)));
        in_flight.end_batch();
    }
    let busy = error("BUSY Redis is busy running a script");
    assert!(in_flight.receive(busy).unwrap().is_none());
    assert!(in_flight.leave().is_ok(), "the second may get an answer yet");
    in_flight.put_back_all();
    let texts = take(&queue, 2).into_iter().map(|it| it.publish.publication.data().to_vec());
    assert!(texts.eq(["first", "second"].map(|text| text.as_bytes().to_vec())));
}

/// A server may forget all scripts at any time.
#[tokio::test(start_paused = true)]
async fn a_partition_is_tried_again_by_what_the_server_did_not_know_how_to_do() {
    let (queue, mut in_flight) = in_flight();
    let channel = ChannelName::new("c").unwrap();
    let publication = Publication::new(channel.clone(), Kind::Text, "text".into());
    queue.push([(publication.into(), ReplyTo::Nobody)]);
    send(&queue, &mut in_flight);
    in_flight.receive(error("MOVED 1 127.0.0.1:1")).unwrap();
    assert!(in_flight.put_back_unknown());
    tokio::time::advance(ELSEWHERE_PAUSE).await;
    assert!(in_flight.elsewhere.look() && in_flight.elsewhere.admits(&channel));
    send(&queue, &mut in_flight);
    in_flight.receive(error("NOSCRIPT No matching script")).unwrap();
    assert!(in_flight.put_back_unknown() && in_flight.elsewhere.admits(&channel));
}

#[tokio::test(start_paused = true)]
async fn only_what_a_lost_connection_carried_may_have_happened() {
    let (queue, mut in_flight) = in_flight();
    for (fate, outcome) in [
        ("MOVED 1 127.0.0.1:1", PublishError::Refused),
        ("CLUSTERDOWN The cluster is down", PublishError::Refused),
        ("NOSCRIPT No matching script", PublishError::Refused),
        ("lost", PublishError::Unknown),
    ] {
        let (reply, mut told) = tokio::sync::oneshot::channel();
        let publication = Publication::new(ChannelName::new("c").unwrap(), Kind::Text, "t".into());
        queue.push([(publication.into(), ReplyTo::Caller(reply))]);
        send(&queue, &mut in_flight);
        match fate {
            "lost" => in_flight.put_back_all(),
            text => {
                in_flight.receive(error(text)).unwrap();
                assert!(in_flight.put_back_unknown());
            }
        }
        // Then it is refused, or forgotten, by another server.
        if fate == "lost" {
            send(&queue, &mut in_flight);
            in_flight.receive(error("NOSCRIPT No matching script")).unwrap();
            assert!(in_flight.put_back_unknown());
            let again = take(&queue, 1);
            assert_eq!(again[0].sent, Some(1), "by its id it is found");
            queue.put_back(again.into_iter());
        }
        tokio::time::advance(queue.age()).await;
        queue.refuse_expired();
        assert_eq!(told.try_recv(), Ok(Err(outcome)), "{fate}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_leaves_nobody_without_one() {
    for answer in [Value::Integer(7), Value::Bulk("no position".into())] {
        let (queue, mut in_flight) = in_flight();
        let (reply, mut told) = tokio::sync::oneshot::channel();
        let publication = Publication::new(ChannelName::new("c").unwrap(), Kind::Text, "t".into());
        queue.push([(publication.into(), ReplyTo::Caller(reply))]);
        send(&queue, &mut in_flight);
        assert!(in_flight.receive(answer).is_err());
        assert_eq!(told.try_recv().unwrap(), Err(PublishError::Unknown));
    }
}
