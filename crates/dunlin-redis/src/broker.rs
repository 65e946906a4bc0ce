//! The broker over Redis: three links to one server, and the [`Broker`] contract over them.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use dunlin_core::{
    broker::{Broker, BrokerStatus, History, HistoryQuery, Publish, Recovery, ReplyTo, Room},
    channel::ChannelName,
    error::{BrokerLost, HistoryError},
    interest::{Acknowledgement, Interest},
    namespace::Retention,
    position::Position,
};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    channels::Verb,
    keys::Keys,
    link::{connection::Connection, dial::Dialer, error::LinkError, reconnect::Backoff},
    metrics::LinkMetrics,
    publish::PublishLink,
    queue::{Queue, QueueBounds},
    read::{ReadLink, Reader},
    stream,
    subscribe::{Orders, SubscribeLink},
    url::RedisUrl,
};

/// How to reach Redis and what to do while it is away.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server.
    pub url: RedisUrl,
    /// What the Redis channel of every channel starts with; may be empty.
    pub channel_prefix: String,
    /// The certificate authorities to trust in PEM, instead of the system's.
    pub authorities_pem: Option<Vec<u8>>,
    /// How long to wait at start for a server that cannot be reached.
    pub start_wait: Duration,
    /// The longest time to connect and greet.
    pub connect_timeout: Duration,
    /// What may wait while Redis is away.
    pub queue: QueueBounds,
    /// The largest message taken from Redis, in bytes; larger ones are skipped and counted.
    pub message_bytes: usize,
}

impl Settings {
    /// The defaults for a server.
    #[must_use]
    pub fn new(url: RedisUrl) -> Self {
        Self {
            url,
            channel_prefix: "dunlin:".to_owned(),
            authorities_pem: None,
            start_wait: Duration::ZERO,
            connect_timeout: Duration::from_secs(5),
            queue: QueueBounds::default(),
            message_bytes: 16 << 20,
        }
    }
}

/// Why the broker cannot start, as a sentence that says what and where.
#[derive(Debug, thiserror::Error)]
#[error("redis at {address} {cause}")]
pub struct StartError {
    address: String,
    cause: LinkError,
}

/// Carries publications between the nodes that use one Redis server.
pub struct RedisBroker {
    orders: Arc<Orders>,
    queue: Arc<Queue>,
    reader: Reader,
    keys: Keys,
    metrics: LinkMetrics,
    stop: watch::Sender<bool>,
    /// Whether a link ended that nobody told to.
    died: watch::Sender<bool>,
    links: Mutex<Vec<JoinHandle<()>>>,
}

impl RedisBroker {
    /// Connects, checks the server and starts the tasks that keep the links. They run on the
    /// runtime this is called on, and deliver through `interest`.
    ///
    /// # Errors
    /// When the server cannot be reached within `start_wait`, or is not one that will do.
    pub async fn start(
        settings: Settings,
        interest: Arc<Interest>,
        metrics: LinkMetrics,
    ) -> Result<Arc<Self>, StartError> {
        let Settings { url, channel_prefix, authorities_pem, .. } = settings;
        let address = url.to_string();
        let in_words = |cause| StartError { address: address.clone(), cause };
        let frame_bytes_max = settings.message_bytes.saturating_add(FRAME_BYTES_BESIDE_MESSAGE);
        let authorities_pem = authorities_pem.as_deref();
        let dialer = Dialer::new(url, authorities_pem, settings.connect_timeout, frame_bytes_max);
        let dialer = Arc::new(dialer.map_err(in_words)?);
        let deadline = Instant::now() + settings.start_wait;
        let subscribing = dial_until(&dialer, deadline).await.map_err(in_words)?;
        let publishing = dial_until(&dialer, deadline).await.map_err(in_words)?;
        let read_dialer = Arc::new(dialer.with_frame_bytes_max(frame_bytes_max.max(ANSWER_BYTES)));
        let reading = dial_until(&read_dialer, deadline).await.map_err(in_words)?;

        let keys = Keys::new(channel_prefix);
        let orders = Arc::new(Orders::default());
        let queue = Queue::new(settings.queue, Arc::clone(&interest), metrics.clone());
        let queue = Arc::new(queue);
        let (stop, stopped) = watch::channel(false);
        let died = watch::Sender::new(false);
        let subscribe_link = SubscribeLink::new(
            Arc::clone(&dialer),
            Arc::clone(&orders),
            Arc::clone(&interest),
            keys.clone(),
            metrics.clone(),
            stopped.clone(),
        );
        let (read_link, reader) = ReadLink::new(read_dialer, metrics.clone(), stopped.clone());
        let publish_link = PublishLink::new(
            dialer,
            Arc::clone(&queue),
            interest,
            keys.clone(),
            metrics.clone(),
            stopped,
        );
        // All connections stand, and nothing is wanted yet that would have to be told first.
        metrics.health.set_subscribed(true);
        metrics.health.set_publishing(true);
        metrics.health.set_reading(true);
        let links = vec![
            spawn_link(subscribe_link.run(subscribing), &stop, &died),
            spawn_link(publish_link.run(publishing), &stop, &died),
            spawn_link(read_link.run(reading), &stop, &died),
        ];
        let links = Mutex::new(links);
        Ok(Arc::new(Self { orders, queue, reader, keys, metrics, stop, died, links }))
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Runs a task that this broker is nothing without, until `stop` tells it to end.
    pub(crate) fn spawn(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        stop: &watch::Sender<bool>,
    ) {
        // It ends by itself; whoever tells it to end waits for nothing more of it.
        drop(spawn_link(task, stop, &self.died));
    }

    /// Waits until a link ends that nobody told to: a bug, after which this broker carries nothing
    /// any more. Cancel-safe.
    pub async fn died(&self) {
        // The other end is in our hands, so there is no error.
        let _ = self.died.subscribe().wait_for(|died| *died).await;
    }

    /// Sends what was published before, for at most a second, then closes the links. Whoever
    /// publishes from now on is refused.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let links = std::mem::take(&mut *self.links.lock());
        for link in links {
            if let Err(error) = link.await {
                tracing::error!("a redis link ended by {error}");
            }
        }
    }
}

/// The tasks end by themselves soon after.
impl Drop for RedisBroker {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn subscribe(&self, channel: &ChannelName) -> Acknowledgement {
        self.orders.push(Verb::Subscribe, channel.clone());
        Acknowledgement::Later
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.orders.push(Verb::Unsubscribe, channel.clone());
    }

    fn publish(&self, publishes: &mut Vec<(Publish, ReplyTo)>) {
        self.queue.push(publishes.drain(..));
    }

    fn room(&self) -> Option<Room<'_>> {
        (!self.queue.has_room()).then(|| Box::pin(self.queue.room()) as Room<'_>)
    }

    fn status(&self) -> BrokerStatus {
        self.metrics.health.status()
    }

    async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
        retention: Retention,
    ) -> Result<History, HistoryError> {
        let question = stream::ask_history(&self.keys, channel, query, retention);
        stream::read_history(channel, &self.reader.ask(question).await?)
    }

    async fn recover(
        &self,
        channel: &ChannelName,
        since: Position,
        limit: usize,
        retention: Retention,
    ) -> Result<Recovery, BrokerLost> {
        let question = stream::ask_recovery(&self.keys, channel, since, limit, retention);
        stream::read_recovery(channel, &self.reader.ask(question).await?)
    }

    async fn remove_history(&self, channel: &ChannelName) -> Result<(), BrokerLost> {
        let question = stream::ask_to_forget(&self.keys, channel);
        self.reader.ask(question).await.map(drop)
    }
}

/// Runs a link and notes if it ends, by a panic too, before it was told to.
fn spawn_link(
    link: impl Future<Output = ()> + Send + 'static,
    stop: &watch::Sender<bool>,
    died: &watch::Sender<bool>,
) -> JoinHandle<()> {
    let obituary = Obituary { stop: stop.subscribe(), died: died.clone() };
    tokio::spawn(async move {
        link.await;
        drop(obituary);
    })
}

/// Is dropped with its link.
struct Obituary {
    stop: watch::Receiver<bool>,
    died: watch::Sender<bool>,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if !*self.stop.borrow() {
            self.died.send_replace(true);
        }
    }
}

/// Dials, again and again until `deadline` if the server just is not there.
async fn dial_until(dialer: &Dialer, deadline: Instant) -> Result<Connection, LinkError> {
    let mut backoff = Backoff::default();
    loop {
        let error = match dialer.dial().await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let next = Instant::now() + backoff.next_wait(error.failure());
        if !error.is_passing() || next >= deadline {
            return Err(error);
        }
        tracing::info!(address = %dialer, "waiting: redis {error}");
        sleep_until(next).await;
    }
}

/// The largest answer to a question: a whole history, all members of a channel.
const ANSWER_BYTES: usize = 256 << 20;
/// Channel name, envelope with all that is known of a client, and the lines between them.
const FRAME_BYTES_BESIDE_MESSAGE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_link_that_ends_untold_is_noted() {
        let (stop, died) = (watch::Sender::new(false), watch::Sender::new(false));
        let panicking = async { panic!("a bug of a link") };
        assert!(spawn_link(panicking, &stop, &died).await.is_err());
        assert!(died.send_replace(false), "by a panic");
        spawn_link(ready(()), &stop, &died).await.unwrap();
        assert!(died.send_replace(false), "by its return");
        stop.send_replace(true);
        spawn_link(ready(()), &stop, &died).await.unwrap();
        assert!(!*died.borrow(), "told to end");
    }
}
