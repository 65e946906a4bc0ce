//! The configuration as written. `default.toml` holds every key with its default and is its
//! documentation; [`load`] lays file, environment and flags over it; `check` looks across keys
//! for what cannot work, `production` for what is unsafe among strangers, `doubt` for what is
//! hardly meant. Components get the parts they need, never the whole [`Config`].

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::{
    channel::{ChannelConfig, NamespaceConfig},
    client::{ClientConfig, PersonalChannelConfig, SubscriptionTokenConfig, TokenConfig},
    load::{Loaded, Setting, Sources, load},
    plain::{PlainCloseCodes, PlainConfig, PlainSubprotocols},
    problem::{Place, Problem, Problems},
    production::Mode,
    rates::{RateLimitsConfig, RatesConfig},
    redis_url::RedisUrls,
    secret::Secrets,
};
pub(crate) use self::{environment::FILE_VARIABLE, production::insecure_modes};

mod load;

mod channel;
mod check;
mod client;
mod doubt;
mod environment;
mod file;
mod keys;
mod plain;
mod problem;
mod production;
mod rates;
mod redis_url;
mod secret;
mod suggest;

mod units;

/// The documented defaults: what `dunlin genconfig` prints and what [`load`] starts from.
pub const DEFAULT: &str = include_str!("default.toml");

/// All keys, as `default.toml` documents them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whether what is unsafe among strangers is refused.
    pub mode: Mode,
    /// Address to accept connections on.
    #[serde(with = "units::address")]
    pub listen: SocketAddr,
    /// Threads that own connections; 0 = one per core.
    #[serde(with = "units::count")]
    pub shards: usize,
    /// Who this node is.
    pub node: NodeConfig,
    /// The broker between nodes.
    pub redis: RedisConfig,
    /// The plain dialect.
    pub plain: PlainConfig,
    /// Options of channels, by namespace.
    pub channel: ChannelConfig,
    /// Clients of the Centrifuge dialect.
    pub client: ClientConfig,
    /// The HTTP API.
    pub http_api: HttpApiConfig,
    /// The second listener.
    pub internal: InternalConfig,
    /// Proxies in front.
    pub proxy: ProxyConfig,
    /// Who may come in.
    pub door: DoorConfig,
    /// Every bound.
    pub limits: LimitsConfig,
    /// How often clients may do things.
    pub rate_limits: RateLimitsConfig,
    /// WebSocket options.
    pub ws: WsConfig,
    /// Certificate and key; both or none.
    pub tls: TlsConfig,
    /// The order of leaving.
    pub shutdown: ShutdownConfig,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// `[node]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The given name; see [`NodeConfig::name`].
    #[serde(with = "units::optional", rename = "name")]
    pub given_name: Option<String>,
}

impl NodeConfig {
    /// The given name, else the machine's name and the process id: unique enough to tell nodes
    /// apart by eye.
    pub fn name(&self) -> String {
        self.given_name.clone().unwrap_or_else(|| {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            format!("{host}-{}", std::process::id())
        })
    }
}

/// `[redis]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// Absent = the memory broker.
    #[serde(with = "redis_url::optional")]
    pub url: Option<RedisUrls>,
    /// Put before every channel's name; may be empty.
    pub channel_prefix: String,
    /// How publications of channels without history look.
    pub messages: RedisMessages,
    /// Certificate authorities for `rediss://`; absent = the system's.
    #[serde(with = "units::optional")]
    pub ca_file: Option<PathBuf>,
    /// How long the start waits for Redis; zero = not at all.
    #[serde(with = "units::duration")]
    pub wait: Duration,
    /// Longest wait of a publication while Redis is away.
    #[serde(with = "units::duration")]
    pub queue_age: Duration,
    /// Most publications waiting.
    #[serde(with = "units::count")]
    pub queue_messages: usize,
    /// Most bytes waiting.
    #[serde(with = "units::size")]
    pub queue_bytes: usize,
}

/// How publications of channels without history look in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisMessages {
    /// So that they arrive exactly as they were published.
    Enveloped,
    /// So that any program reads them.
    Raw,
}

impl RedisConfig {
    /// What `ca_file` holds, if it is set.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn authorities_pem(&self) -> Result<Option<Vec<u8>>, Problems> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let read = std::fs::read(path).map_err(|error| Problem {
            place: Place::File { path: path.clone(), line: None },
            key: Some("redis.ca_file".to_owned()),
            message: format!("cannot be read: {error}"),
        });
        Ok(Some(read?))
    }
}

/// `[http_api]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpApiConfig {
    /// Who knows one of them may call; none = nobody may.
    pub key: Secrets,
    /// Everybody may.
    pub insecure: bool,
    /// How errors are answered; absent = in a body with status 200.
    #[serde(with = "units::optional")]
    pub error_mode: Option<ErrorMode>,
    /// Largest body of a request, in bytes.
    #[serde(with = "units::size")]
    pub body_bytes: usize,
}

/// How the HTTP API answers errors, other than in a body with status 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorMode {
    /// By the HTTP status.
    Transport,
}

/// `[internal]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InternalConfig {
    /// Address of the listener that alone has API, metrics and health; absent = there is none.
    #[serde(with = "units::optional_address")]
    pub listen: Option<SocketAddr>,
}

/// `[proxy]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// Where proxies are that are believed about where clients are.
    #[serde(with = "units::networks")]
    pub trusted: Vec<IpNet>,
    /// The header in which they say so.
    pub header: ProxyHeader,
    /// Whether their connections to `listen` begin with a header of the PROXY protocol.
    pub protocol: bool,
}

/// The header in which proxies say whom they serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
    /// None.
    Off,
}

/// `[door]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorConfig {
    /// Who may come in to `listen`; empty = everybody.
    #[serde(with = "units::networks")]
    pub allow: Vec<IpNet>,
    /// Who may not, even if they are allowed.
    #[serde(with = "units::networks")]
    pub deny: Vec<IpNet>,
}

/// `[limits]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Largest message from a client, in bytes.
    #[serde(with = "units::size")]
    pub message_bytes: usize,
    /// How many times longer a compressed message may be than it came.
    #[serde(with = "units::count")]
    pub inflate_ratio: usize,
    /// Most fragments of one message.
    #[serde(with = "units::count")]
    pub message_fragments: usize,
    /// Longest time from a message's first byte to its last.
    #[serde(with = "units::duration")]
    pub message_age: Duration,
    /// Most bytes kept for one slow reader.
    #[serde(with = "units::size")]
    pub backlog_bytes: usize,
    /// Most bytes kept for single clients: unread answers, and messages that are not handled.
    #[serde(with = "units::size")]
    pub private_bytes: usize,
    /// Bytes of memory that the node may use; 0 = what its cgroups and the machine allow.
    #[serde(with = "units::size")]
    pub memory_bytes: usize,
    /// Longest time they are kept.
    #[serde(with = "units::duration")]
    pub backlog_age: Duration,
    /// Most connections; 0 = by the limit of open files.
    #[serde(with = "units::count")]
    pub connections: usize,
    /// Most connections of one address; 0 = any number.
    #[serde(with = "units::count")]
    pub address_connections: usize,
    /// Upgrades of one address per minute; 0 = any number.
    #[serde(with = "units::count")]
    pub address_connect_rate: usize,
    /// Upgrades of one address at once.
    #[serde(with = "units::count")]
    pub address_connect_burst: usize,
    /// Most connections without their 101.
    #[serde(with = "units::count")]
    pub handshakes: usize,
    /// Most of them that are silent and of one address; 0 = as many as there may be at all.
    #[serde(with = "units::count")]
    pub address_handshakes: usize,
    /// Longest time from accept to 101.
    #[serde(with = "units::duration")]
    pub handshake_age: Duration,
    /// Largest HTTP request head, in bytes.
    #[serde(with = "units::size")]
    pub header_bytes: usize,
    /// Most publications in a shard's inbox.
    #[serde(with = "units::count")]
    pub inbox_publications: usize,
    /// Most bytes in a shard's inbox.
    #[serde(with = "units::size")]
    pub inbox_bytes: usize,
    /// Most bytes that the node remembers for those who come back.
    #[serde(with = "units::size")]
    pub ring_bytes: usize,
    /// Most bytes of histories, positions and idempotency keys that a node without Redis keeps.
    #[serde(with = "units::size")]
    pub history_bytes: usize,
    /// Control frames of one client per second.
    #[serde(with = "units::count")]
    pub control_rate: usize,
    /// Control frames of one client at once.
    #[serde(with = "units::count")]
    pub control_burst: usize,
}

/// `[ws]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WsConfig {
    /// Whether permessage-deflate is offered.
    pub compression: bool,
    /// Time between pings of an idle client; zero = no pings.
    #[serde(with = "units::duration")]
    pub ping_interval: Duration,
    /// Longest wait for the pong.
    #[serde(with = "units::duration")]
    pub pong_timeout: Duration,
}

/// `[tls]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain, PEM.
    #[serde(with = "units::optional")]
    pub cert_file: Option<PathBuf>,
    /// Private key, PEM.
    #[serde(with = "units::optional")]
    pub key_file: Option<PathBuf>,
}

/// `[shutdown]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownConfig {
    /// How long connections are still accepted after SIGTERM.
    #[serde(with = "units::duration")]
    pub accept_for: Duration,
    /// Over which time connections are then closed.
    #[serde(with = "units::duration")]
    pub drain: Duration,
    /// When the process has ended at the latest.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

impl ShutdownConfig {
    /// What of `timeout` is kept for taking leave of Redis and of the other nodes.
    pub fn reserve(&self) -> Duration {
        const RESERVE_MAX: Duration = Duration::from_secs(2);
        RESERVE_MAX.min(self.timeout / 3)
    }
}

/// `[log]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Text or JSON.
    pub format: LogFormat,
    /// A level, or levels per module as in `info,dunlin::front=debug`; checked.
    pub level: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Reads `text` as a configuration file over the defaults. Reads no file and no environment;
/// total: any text gives a configuration or the problems with it.
///
/// # Errors
/// Whatever is wrong with the text, each with its line and key.
pub fn parse(text: &str) -> Result<Config, Problems> {
    load::load_text(text)
}

#[cfg(test)]
mod tests;
