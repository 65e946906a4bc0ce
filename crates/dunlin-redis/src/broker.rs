//! The broker over Redis: which lane a channel is in, and the [`Broker`] contract over the lanes.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use dunlin_core::{
    broker::{Broker, History, HistoryQuery, Outage, PageBounds, Publish, Recovery, ReplyTo, Room},
    channel::ChannelName,
    error::{BrokerLost, HistoryError},
    interest::{Acknowledgement, Interest},
    namespace::Retention,
    position::Position,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use crate::{
    channels::Verb,
    cluster::{self, map::Map},
    envelope::Format,
    keys::Keys,
    lane::founder::Founder,
    lanes::{Following, Lanes, Readers},
    link::{
        connection::Connection,
        dial::Dialer,
        error::LinkError,
        place::{Place, Told},
        reconnect::Backoff,
        stopped,
    },
    metrics::LinkMetrics,
    partition::Partition,
    queue::QueueBounds,
    sentinel,
    shares::Shares,
    stream,
    tasks::Tasks,
    url::{Endpoint, RedisUrl, Seeds},
};

/// How to reach Redis and what to do while it is away.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers; channels are spread over them. All nodes have the same list in the same order.
    pub urls: Vec<RedisUrl>,
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
    /// How publications look that are not kept.
    pub format: Format,
    /// The most channels of one connection; beyond them there are more connections.
    pub link_channels_max: usize,
}

impl Settings {
    /// The defaults for one server.
    #[must_use]
    pub fn new(url: RedisUrl) -> Self {
        Self {
            urls: vec![url],
            channel_prefix: "dunlin:".to_owned(),
            authorities_pem: None,
            start_wait: Duration::ZERO,
            connect_timeout: Duration::from_secs(5),
            queue: QueueBounds::default(),
            message_bytes: 16 << 20,
            format: Format::default(),
            link_channels_max: LINK_CHANNELS_MAX,
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

/// Carries publications between the nodes that use the same Redis servers.
pub struct RedisBroker {
    lanes: Arc<Lanes>,
    readers: Readers,
    keys: Keys,
    tasks: Tasks,
}

impl RedisBroker {
    /// Checks the servers and starts the tasks that keep the links to them. They run on the runtime
    /// this is called on, and deliver through `interest`.
    ///
    /// # Errors
    /// When no server can be reached within `start_wait`, or one is not one that will do.
    pub async fn start(
        settings: Settings,
        interest: Arc<Interest>,
        metrics: LinkMetrics,
    ) -> Result<Arc<Self>, StartError> {
        let deadline = Instant::now() + settings.start_wait;
        let connect_timeout = settings.connect_timeout;
        let dialers = dialers(&settings)?;
        let keys = keys(&settings);
        let tasks = Tasks::new();
        let returns = watch::Sender::new(());
        let returned = returns.subscribe();
        let founder = Founder {
            keys: keys.clone(),
            format: settings.format,
            bounds: settings.queue,
            link_channels_max: settings.link_channels_max,
            interest,
            metrics,
            returns,
            tasks: tasks.clone(),
        };
        let lanes = match &dialers[..] {
            [dialer] if let Some(seeds) = dialer.seeds() => {
                start_cluster(dialer, seeds, founder, deadline).await?
            }
            _ => start_list(dialers, &founder, deadline).await?,
        };
        // Whoever starts a node wants to use it; but one that is not ready says why by itself.
        let _ = timeout(connect_timeout, lanes.ready()).await;
        let readers = Readers::new(Arc::clone(&lanes), returned);
        Ok(Arc::new(Self { lanes, readers, keys, tasks }))
    }

    /// Who answers questions.
    pub(crate) fn readers(&self) -> Readers {
        self.readers.clone()
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
        self.tasks.spawn_until(task, stop);
    }

    /// Waits until a link ends that nobody told to: a bug, after which this broker carries nothing
    /// any more. Cancel-safe.
    pub async fn died(&self) {
        self.tasks.died().await;
    }

    /// Sends what was published before, for at most a second, then closes the links. Whoever
    /// publishes from now on is refused.
    pub async fn shutdown(&self) {
        self.tasks.end().await;
    }
}

/// The tasks end by themselves soon after.
impl Drop for RedisBroker {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn subscribe(&self, channel: &ChannelName) -> Acknowledgement {
        self.lanes.order(Verb::Subscribe, channel);
        Acknowledgement::Later
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.lanes.order(Verb::Unsubscribe, channel);
    }

    fn publish(&self, publishes: &mut Vec<(Publish, ReplyTo)>) -> Option<Room> {
        self.lanes.publish(publishes)
    }

    fn outages(&self, channel: Option<&ChannelName>) -> Vec<Outage> {
        self.lanes.outages(channel)
    }

    async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
        retention: Retention,
    ) -> Result<History, HistoryError> {
        let question = stream::ask_history(&self.keys, channel, query, retention);
        stream::read_history(channel, &self.lanes.ask(Partition::of(channel), question).await?)
    }

    async fn positions(&self, channels: &[(ChannelName, Retention)]) -> Vec<Option<Position>> {
        self.lanes.positions(&self.keys, channels).await
    }

    async fn recover(
        &self,
        channel: &ChannelName,
        since: Position,
        bounds: PageBounds,
        retention: Retention,
    ) -> Result<Recovery, BrokerLost> {
        let partition = Partition::of(channel);
        loop {
            let question = stream::ask_recovery(&self.keys, channel, since, bounds, retention);
            let answer = self.lanes.ask(partition, question).await?;
            let recovery = stream::read_recovery(channel, since, &answer)?;
            // What this server does not have yet may be on its way back to it.
            if !stream::is_behind(&recovery, since) || !self.lanes.is_succession_fresh(partition) {
                return Ok(recovery);
            }
            sleep(BEHIND_PAUSE).await;
        }
    }

    async fn remove_history(&self, channel: &ChannelName) -> Result<(), BrokerLost> {
        let question = stream::ask_to_forget(&self.keys, channel);
        self.lanes.ask(Partition::of(channel), question).await.map(drop)
    }
}

/// A lane for each server of the list.
async fn start_list(
    dialers: Vec<Dialer>,
    founder: &Founder,
    deadline: Instant,
) -> Result<Arc<Lanes>, StartError> {
    let follow = |dialer| follow_sentinels(dialer, &founder.tasks);
    let dialers: Vec<_> = dialers.into_iter().map(follow).collect();
    greet_all(&dialers, deadline).await?;
    let count = dialers.len();
    let lanes = Lanes::new(Shares::even(count), Arc::default());
    for (number, dialer) in dialers.into_iter().enumerate() {
        let address = dialer.to_string().into();
        lanes.found(founder, dialer, address, format!("{}/{count}", number + 1));
    }
    Ok(Arc::new(lanes))
}

/// A lane for each shard of the cluster.
async fn start_cluster(
    dialer: &Dialer,
    seeds: &Seeds,
    founder: Founder,
    deadline: Instant,
) -> Result<Arc<Lanes>, StartError> {
    let tasks = founder.tasks.clone();
    let (watch, mut maps, doubt) = cluster::Watch::new(dialer, seeds);
    let mut stop = tasks.told_to_stop();
    tasks.spawn(async move {
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = watch.run() => {}
        }
    });
    let deadline = deadline.max(Instant::now() + dialer.connect_timeout());
    let map = first_map(dialer, &mut maps, deadline).await?;
    let lanes = Arc::new(Lanes::new(Shares::even(1), Arc::clone(&doubt)));
    let mut following = Following::new(Arc::clone(&lanes), founder, dialer.clone(), doubt);
    following.settle(&map);
    greet_all(&following.dialers(), deadline).await?;
    tasks.spawn(following.run(maps, tasks.told_to_stop()));
    Ok(lanes)
}

fn dialers(settings: &Settings) -> Result<Vec<Dialer>, StartError> {
    let frame_bytes_max = settings.message_bytes.saturating_add(FRAME_BYTES_BESIDE_MESSAGE);
    let authorities_pem = settings.authorities_pem.as_deref();
    let dialer = |url: &RedisUrl| {
        Dialer::new(url.clone(), authorities_pem, settings.connect_timeout, frame_bytes_max)
            .map_err(|cause| StartError { address: url.to_string(), cause })
    };
    settings.urls.iter().map(dialer).collect()
}

/// How things are called on these servers.
fn keys(settings: &Settings) -> Keys {
    let databases: Vec<_> = settings.urls.iter().map(|url| url.database).collect();
    let keys = Keys::new(settings.channel_prefix.clone()).in_databases(&databases);
    let is_cluster = |url: &RedisUrl| matches!(url.endpoint, Endpoint::Cluster(_));
    if settings.urls.iter().any(is_cluster) { keys.sharded() } else { keys }
}

/// Has the sentinels asked where the primary is, if there are any.
fn follow_sentinels(dialer: Dialer, tasks: &Tasks) -> Dialer {
    let Some((sentinels, each)) = dialer.sentinels() else { return dialer };
    let (watch, news, doubt) = sentinel::Watch::new(sentinels);
    for (number, sentinel) in each.into_iter().enumerate() {
        let (watch, mut stop) = (Arc::clone(&watch), tasks.told_to_stop());
        tasks.spawn(async move {
            tokio::select! {
                () = stopped(&mut stop) => {}
                () = watch.follow(number, sentinel) => {}
            }
        });
    }
    dialer.at(Place::Told(Told::new(news, doubt)))
}

/// Waits until the nodes of a cluster have told who has what.
async fn first_map(
    dialer: &Dialer,
    maps: &mut watch::Receiver<cluster::News>,
    deadline: Instant,
) -> Result<Map, StartError> {
    loop {
        let cause = match &*maps.borrow_and_update() {
            cluster::News::Map(map) if map.shards.is_empty() => {
                LinkError::NoPrimary("no node owns any slot".to_owned())
            }
            cluster::News::Map(map) => return Ok(map.clone()),
            cluster::News::Unknown { why, is_passing: true } => LinkError::NoPrimary(why.clone()),
            cluster::News::Unknown { why, .. } => LinkError::Refused(why.clone()),
        };
        dialer.note_waiting(&cause);
        let is_over = !cause.is_passing() || timeout_at(deadline, maps.changed()).await.is_err();
        if is_over {
            return Err(StartError { address: dialer.to_string(), cause });
        }
    }
}

/// Sees that all servers will do. One that cannot be reached may be late if another one is there:
/// a node has to be able to start while one of them is away.
async fn greet_all(dialers: &[Dialer], deadline: Instant) -> Result<(), StartError> {
    let mut greetings = JoinSet::new();
    for dialer in dialers {
        let dialer = dialer.clone();
        greetings.spawn(async move {
            let greeting = dial_until(&dialer, deadline).await;
            greeting.map(drop).map_err(|cause| StartError { address: dialer.to_string(), cause })
        });
    }
    let greetings = greetings.join_all().await;
    let is_any_there = greetings.iter().any(Result::is_ok);
    for greeting in greetings {
        match greeting {
            Err(error) if is_any_there && error.cause.is_passing() => {
                tracing::warn!("{error}; its channels have to wait");
            }
            greeting => greeting?,
        }
    }
    Ok(())
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
        dialer.note_waiting(&error);
        sleep_until(next).await;
    }
}

/// How long to wait before a server that is behind is asked again.
const BEHIND_PAUSE: Duration = Duration::from_millis(50);
/// The end of a connection with so many channels keeps a server from answering for up to half a
/// second.
const LINK_CHANNELS_MAX: usize = 100_000;
/// Channel name, envelope with all that is known of a client, and the lines between them.
const FRAME_BYTES_BESIDE_MESSAGE: usize = 64 * 1024;
