//! The only wiring: config, then node, shards, front. Reads from top to bottom in the order in
//! which a node starts and leaves.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::Router;
use dunlin_core::{
    auth::revocation::Revocations,
    ids::ShardId,
    inbox::Inbox,
    interest::{HEALERS, Interest},
    limits::{Limits, SUBSCRIBE_WAIT},
    metrics::{Ledger, Metrics},
    node::Node,
};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::interval,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    api::{self, Api},
    bounds,
    broker::ChosenBroker,
    config::{Config, Mode},
    connection::Closes,
    control::{self, Control},
    front::{
        self, Front, Plain,
        accept::{Accepting, Acceptor},
        crowd::Crowd,
        listen::Listeners,
        origin::Pages,
        peer::{AddressLists, Proxies},
        tls::{self, Certificate, Tls},
    },
    memory::{self, Ceilings, Memory},
    metering::Paces,
    nofile,
    session::Policy,
    shard::{self, Places, Pressure, ShardHandle, UserCounts},
    shutdown::{self, Left, Signals},
};

/// Runs a node until it is told to leave.
///
/// # Errors
/// When it cannot start, or when a shard dies.
pub(crate) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let tls = tls::load(&config.tls)?;
    let seats_max = nofile::connections(&config.limits);
    let runtime = runtime::Builder::new_multi_thread()
        .thread_name("front")
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let code = runtime.block_on(serve(config, seats_max, tls))?;
    // What was cut short must not hold the process up.
    runtime.shutdown_background();
    Ok(code)
}

async fn serve(config: &Config, seats_max: usize, tls: Option<Tls>) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let ceilings = Ceilings::find(config.limits.memory_bytes as u64);
    let limits = bounds::limits(config, seats_max, ceilings.limit());
    let shard_count = bounds::shard_count(config);
    // One for each shard, and the last one for what nodes tell one another.
    let mut inboxes: Vec<_> = (0..=shard_count).map(|_| Arc::new(Inbox::new(&limits))).collect();
    let interest = Arc::new(Interest::new(inboxes.clone()).with_ring_bytes(limits.ring_bytes));
    let control_inbox = inboxes.remove(shard_count);
    let mut registry = Registry::with_prefix("dunlin");
    let start = ChosenBroker::start(&config.redis, &limits, &interest, &mut registry);
    let broker = tokio::select! {
        broker = start => broker?,
        () = signals.received() => {
            tracing::info!("told to leave before there was a broker");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let namespaces = Arc::new(config.channel.namespaces());
    let keeps_anything = namespaces.keep_anything() || config.client.takes_tokens();
    let (share, presence) = (broker.share(), broker.presence());
    let node = Arc::new(Node::new(interest, share, presence, namespaces));
    look_after(&node);

    let ledgers: Vec<_> = inboxes.iter().map(|_| Arc::new(Ledger::default())).collect();
    let metrics = register_metrics(&mut registry, &ledgers, &node);
    let shared = Shared {
        node: Arc::clone(&node),
        metrics: metrics.clone(),
        memory: Arc::default(),
        paces: Arc::new(Paces::new()),
        revocations: Arc::new(RwLock::new(Revocations::new(REVOCATIONS_MAX))),
    };
    let shards = shards(config, inboxes.into_iter().zip(ledgers), &limits, &shared)?;
    let (memory, paces) = (Arc::clone(&shared.memory), Arc::clone(&shared.paces));
    tokio::spawn(memory::watch(memory, ceilings, shards.clone(), metrics.clone()));
    let (control, mut listening) = Control::start(control::Parts {
        node: Arc::clone(&node),
        inbox: control_inbox,
        place: ShardId::new(shard_count),
        shards: shards.clone(),
        revocations: Arc::clone(&shared.revocations),
        metrics: metrics.clone(),
        node_name: config.node.name(),
        has_neighbours: broker.is_shared(),
        keeps_anything,
        takes_tokens: config.client.takes_tokens(),
    })
    .await;
    let front = Arc::new(front(config, shared, &control, shards, registry, seats_max)?);
    let api = api(config, &front, paces)?;
    let mut accepting = accept(config, &front, api, tls.as_ref())?;
    tokio::spawn(reload(tls.map(|tls| tls.certificate)));

    tokio::select! {
        () = signals.received() => {}
        () = any_died(&front.shards) => anyhow::bail!("a shard died; the log says why"),
        () = broker.died() => anyhow::bail!("a link to redis died; the log says why"),
        () = accepting.died() => anyhow::bail!("the accept loop died; the log says why"),
        _ = &mut listening => anyhow::bail!("control died; the log says why"),
    }
    leave(&front, &control, &broker, accepting, config, &mut signals).await
}

/// Takes leave of clients and of the other nodes.
async fn leave(
    front: &Front,
    control: &Control,
    broker: &ChosenBroker,
    accepting: Accepting,
    config: &Config,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let last = async {
        control.leave().await;
        broker.shutdown().await;
    };
    match shutdown::leave(front, accepting, &config.shutdown, signals, last).await {
        Left::InOrder => tracing::info!("left in order"),
        Left::CutShort => tracing::warn!("left in a hurry: connections were cut off"),
    }
    Ok(ExitCode::SUCCESS)
}

fn front(
    config: &Config,
    shared: Shared,
    control: &Arc<Control>,
    shards: Vec<ShardHandle>,
    registry: Registry,
    seats_max: usize,
) -> anyhow::Result<Front> {
    let addresses = shared.metrics.addresses.clone();
    let crowd = Crowd::new(bounds::address_bounds(config), addresses);
    Ok(Front {
        node_name: config.node.name(),
        node: shared.node,
        control: Arc::clone(control),
        shards,
        metrics: shared.metrics,
        registry,
        plain: Plain::new(&config.plain)?,
        compression: config.ws.compression,
        pages: Pages::new(&config.client.allowed_origins, config.mode),
        has_demo: config.mode == Mode::Development,
        crowd,
        memory: shared.memory,
        places: Places::new(seats_max),
        next_shard: AtomicUsize::new(0),
        is_draining: AtomicBool::new(false),
    })
}

fn api(config: &Config, front: &Front, paces: Arc<Paces>) -> anyhow::Result<Arc<Api>> {
    let (config, limits) = (&config.http_api, &config.limits);
    Ok(Arc::new(Api {
        node: Arc::clone(&front.node),
        control: Arc::clone(&front.control),
        metrics: front.metrics.clone(),
        keys: api::Keys::new(&config.key, config.insecure)?,
        paces,
        crowd: Arc::clone(&front.crowd),
        error_mode: config.error_mode,
        body_bytes: config.body_bytes,
        body_age: limits.handshake_age,
    }))
}

/// Starts to accept clients, and everybody else there or on the internal listener, which goes on
/// to its end with the node.
fn accept(
    config: &Config,
    front: &Arc<Front>,
    api: Arc<Api>,
    tls: Option<&Tls>,
) -> anyhow::Result<Accepting> {
    let mut listeners = Listeners::from_env();
    let listener = listeners.take(config.listen)?;
    let mut public = front::public(Arc::clone(front));
    let internal = front::internal(Arc::clone(front), api);
    match config.internal.listen {
        None => public = public.merge(internal),
        Some(address) => {
            let listener = listeners.take(address)?;
            let anybody = (Proxies::none(), AddressLists::none());
            let acceptor = acceptor(config, front, listener, internal, None, anybody);
            let address = acceptor.address()?;
            tracing::info!("api, metrics and health on the internal http://{address} alone");
            // It goes on to the end of the node.
            let mut accepting = acceptor.start();
            tokio::spawn(async move { accepting.died().await });
        }
    }
    if listeners.has_more() {
        tracing::warn!("more sockets were handed over than are listened on: the rest is unused");
    }
    let proxies = Proxies::new(&config.proxy);
    let lists = AddressLists::new(&config.door);
    let acceptor = acceptor(config, front, listener, public, tls, (proxies, lists));
    let address = acceptor.address()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(shards = front.shards.len(), "listening on {scheme}://{address}");
    Ok(acceptor.start())
}

fn acceptor(
    config: &Config,
    front: &Front,
    listener: TcpListener,
    router: Router,
    tls: Option<&Tls>,
    (proxies, lists): (Proxies, AddressLists),
) -> Acceptor {
    Acceptor {
        listener,
        errors: front.metrics.accept_errors.clone(),
        router,
        tls: tls.map(|tls| TlsAcceptor::from(Arc::clone(&tls.server))),
        proxies: Arc::new(proxies),
        lists: Arc::new(lists),
        refused: front.metrics.connections_refused.clone(),
        door: bounds::door(&config.limits, &front.metrics),
        handshake_age: config.limits.handshake_age,
        header_bytes: config.limits.header_bytes,
    }
}

fn register_metrics(registry: &mut Registry, ledgers: &[Arc<Ledger>], node: &Arc<Node>) -> Metrics {
    let (of_channels, of_members) = (Arc::clone(node), Arc::clone(node));
    Metrics::register(
        registry,
        ledgers.to_vec(),
        move || of_channels.channel_count().saturating_sub(control::CHANNELS),
        move || of_members.presence().member_count(),
    )
}

/// What shards and front share.
struct Shared {
    node: Arc<Node>,
    metrics: Metrics,
    memory: Arc<Memory>,
    /// How much is published in channels that have a bound.
    paces: Arc<Paces>,
    revocations: Arc<RwLock<Revocations>>,
}

/// Starts the shards, each with its inbox and its ledger.
fn shards(
    config: &Config,
    queues: impl Iterator<Item = (Arc<Inbox>, Arc<Ledger>)>,
    limits: &Limits,
    shared: &Shared,
) -> anyhow::Result<Vec<ShardHandle>> {
    let revocations = Arc::clone(&shared.revocations);
    let policy = Arc::new(Policy::start(&config.client, &config.rate_limits, revocations)?);
    let user_counts = Arc::new(UserCounts::new(config.rate_limits.user.rates()));
    let (pressure, closes) = (Pressure::new(), Arc::new(Closes::default()));
    let shards = (0..).zip(queues).map(|(place, (inbox, ledger))| {
        let shard = shard::spawn(shard::Parts {
            id: ShardId::new(place),
            shard_count: bounds::shard_count(config),
            node: Arc::clone(&shared.node),
            inbox,
            ledger,
            metrics: shared.metrics.clone(),
            limits: limits.clone(),
            ping_interval: config.ws.ping_interval,
            pong_timeout: config.ws.pong_timeout,
            seat_age: SUBSCRIBE_WAIT + config.limits.handshake_age,
            policy: Arc::clone(&policy),
            user_counts: Arc::clone(&user_counts),
            paces: Arc::clone(&shared.paces),
            pressure: pressure.clone(),
            memory: Arc::clone(&shared.memory),
            closes: Arc::clone(&closes),
            plain_close_codes: config.plain.close_codes,
        });
        shard.with_context(|| format!("cannot start shard {place}"))
    });
    shards.collect()
}

/// Starts what heals the streams of a node and lets go of what nobody wants.
fn look_after(node: &Arc<Node>) {
    for _ in 0..HEALERS {
        let node = Arc::clone(node);
        tokio::spawn(async move { node.heal().await });
    }
    tokio::spawn(sweep(Arc::clone(node)));
}

/// Tokens and users that can be revoked at a time.
const REVOCATIONS_MAX: usize = 100_000;

/// Lets go of channels that nobody has wanted for a while, and looks after streams.
async fn sweep(node: Arc<Node>) {
    let mut ticks = interval(Duration::from_secs(1));
    for number in 0.. {
        ticks.tick().await;
        node.sweep(number, Instant::now());
    }
}

/// Reads the certificate anew on every SIGHUP.
async fn reload(certificate: Option<Arc<Certificate>>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        match certificate.as_ref().map(|certificate| certificate.reload()) {
            None => tracing::info!("SIGHUP: nothing to reload without tls.cert_file"),
            Some(Ok(())) => tracing::info!("SIGHUP: reloaded the certificate"),
            Some(Err(error)) => tracing::error!(%error, "SIGHUP: kept the old certificate"),
        }
    }
}

async fn any_died(shards: &[ShardHandle]) {
    let died = shards.iter().cloned().map(|shard| async move { shard.died().await });
    died.collect::<JoinSet<()>>().join_next().await;
}
