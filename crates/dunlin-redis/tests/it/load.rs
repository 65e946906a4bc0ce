//! One node publishes numbers without pause and another one listens, while something happens to
//! the servers.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use dunlin_core::{
    broker::{Publish, ReplyTo},
    channel::ChannelName,
    error::PublishOutcome,
    inbox::Notice,
    publication::{Kind, Publication},
    stream::Turn,
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, interval},
};

use crate::{
    heals::{Healing, RETENTION},
    node::{Status, name},
    server::wait_until,
};

pub(crate) struct Load {
    pub(crate) publisher: Healing,
    pub(crate) listener: Healing,
    channels: Vec<ChannelName>,
    stop: oneshot::Sender<()>,
    publishing: JoinHandle<Sent>,
}

/// By channel, which numbers were acknowledged; and how many there were in all.
#[derive(Default)]
struct Sent {
    acknowledged: HashMap<ChannelName, HashSet<usize>>,
    count: usize,
}

/// What became of it.
pub(crate) struct Outcome {
    sent: Sent,
    received: HashMap<ChannelName, Received>,
}

/// What a subscriber got of a channel: a part before each time it was told of a loss, and one
/// behind.
struct Received {
    parts: Vec<Vec<usize>>,
}

/// Whether what a new primary lacks may be missing: nobody can know what the old one took along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    None,
    Tail,
}

impl Load {
    /// Two nodes over `url`, and a publication every two milliseconds, to one of the channels after
    /// the other.
    pub(crate) async fn start(url: &str, channels: &[&str]) -> Self {
        let (publisher, listener) = (Healing::start(url).await, Healing::start(url).await);
        for channel in channels {
            listener.join(channel, 0, None).await;
        }
        let channels: Vec<_> = channels.iter().map(|channel| name(channel)).collect();
        let (stop, stopped) = oneshot::channel();
        let publishing = publish(Arc::clone(&publisher.node), channels.clone(), stopped);
        let publishing = tokio::spawn(publishing);
        let load = Self { publisher, listener, channels, stop, publishing };
        load.go_on().await;
        load
    }

    /// Lets it run for a moment.
    pub(crate) async fn go_on(&self) {
        // How long it is.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    /// Waits until both nodes are ready, for at most three seconds.
    pub(crate) fn wait_until_back(&self) {
        let there = Instant::now();
        tokio::task::block_in_place(|| {
            wait_until("both nodes are ready", || {
                let nodes = [&self.publisher, &self.listener];
                nodes.iter().all(|it| Status::of(&it.broker) == Status::Ready)
            });
        });
        let back = there.elapsed();
        assert!(back < Duration::from_secs(3), "back {back:?} after the servers were");
    }

    /// Ends it and waits for the last publication of each channel.
    pub(crate) async fn end(self) -> Outcome {
        self.go_on().await;
        self.stop.send(()).unwrap();
        let sent = self.publishing.await.unwrap();
        for channel in &self.channels {
            self.publisher.keep(channel.as_str(), "end".to_owned()).await;
        }
        let mut received: HashMap<ChannelName, Received> = HashMap::new();
        let mut open: HashSet<_> = self.channels.into_iter().collect();
        self.listener
            .take_until(|notice| {
                match notice {
                    Notice::Publication(publication) => {
                        let channel = publication.channel().clone();
                        match str::from_utf8(publication.data()).unwrap() {
                            "end" => drop(open.remove(&channel)),
                            number => {
                                let number = number.parse().unwrap();
                                received.entry(channel).or_default().part().push(number);
                            }
                        }
                    }
                    Notice::Turned(channel, Turn::Lost) => {
                        received.entry(channel.clone()).or_default().parts.push(Vec::new());
                    }
                    _ => {}
                }
                open.is_empty()
            })
            .await;
        Outcome { sent, received }
    }
}

async fn publish(
    node: Arc<dunlin_core::node::Node>,
    channels: Vec<ChannelName>,
    mut stop: oneshot::Receiver<()>,
) -> Sent {
    let mut pace = interval(Duration::from_millis(2));
    let mut outcomes: Vec<(ChannelName, oneshot::Receiver<PublishOutcome>)> = Vec::new();
    while stop.try_recv().is_err() {
        pace.tick().await;
        let channel = &channels[outcomes.len() % channels.len()];
        let text = outcomes.len().to_string();
        let publication = Publication::new(channel.clone(), Kind::Text, text.into());
        let (reply, outcome) = oneshot::channel();
        let publish = Publish { publication, retention: Some(RETENTION), terms: None };
        let _ = node.publish(publish, ReplyTo::Caller(reply));
        outcomes.push((channel.clone(), outcome));
    }
    let mut sent = Sent { count: outcomes.len(), ..Sent::default() };
    for (number, (channel, outcome)) in outcomes.into_iter().enumerate() {
        if outcome.await.unwrap().is_ok() {
            sent.acknowledged.entry(channel).or_default().insert(number);
        }
    }
    sent
}

impl Received {
    fn part(&mut self) -> &mut Vec<usize> {
        self.parts.last_mut().expect("there is always one")
    }
}

impl Default for Received {
    fn default() -> Self {
        Self { parts: vec![Vec::new()] }
    }
}

impl Outcome {
    /// Nothing acknowledged is missing in silence, nothing comes twice, and most was acknowledged.
    pub(crate) fn check(&self, loss: Loss) {
        let mut acknowledged_in_all = 0;
        for (channel, acknowledged) in &self.sent.acknowledged {
            acknowledged_in_all += acknowledged.len();
            let received = &self.received[channel];
            // What only an old primary had and had not acknowledged is published again, behind the
            // loss.
            for part in &received.parts {
                let is_in_order = part.is_sorted_by(|left, right| left < right);
                assert!(is_in_order, "{channel}: in order, nothing twice: {part:?}");
            }
            let was_told = received.parts.len() > 1;
            let had: HashSet<_> = received.parts.iter().flatten().copied().collect();
            let missing: Vec<_> = acknowledged.difference(&had).collect();
            assert!(
                missing.is_empty() || (loss == Loss::Tail && was_told),
                "{channel}: {} of {} acknowledged are missing, told: {was_told}",
                missing.len(),
                acknowledged.len(),
            );
        }
        let count = self.sent.count;
        assert!(
            acknowledged_in_all > count / 2,
            "{acknowledged_in_all} of {count} were acknowledged"
        );
    }
}
