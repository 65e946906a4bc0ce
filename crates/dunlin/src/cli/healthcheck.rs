//! `dunlin healthcheck`: for containers without curl. Asks the node that this configuration would
//! start whether it is alive.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    process::ExitCode,
};

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::{flags::ConfigFlags, http, pinned::PinnedClient};
use crate::{config::Config, front::tls};

#[derive(Debug, Args)]
pub(super) struct HealthcheckFlags {
    /// Where to ask instead, as in http://127.0.0.1:8080/ready
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    config: ConfigFlags,
}

pub(super) fn run(flags: HealthcheckFlags) -> anyhow::Result<ExitCode> {
    let (status, body) = match flags.url {
        Some(url) => ask_url(&url)?,
        None => ask(&flags.config.load()?.config, "/health")?,
    };
    ensure!(status == 200, "unhealthy: {status} {}", body.trim());
    super::print(&format!("{}\n", body.trim()))
}

/// Asks the node of this configuration, on this machine.
pub(super) fn ask(config: &Config, path: &str) -> anyhow::Result<(u16, String)> {
    let address = on_this_machine(config.internal.listen.unwrap_or(config.listen));
    // The internal listener does not speak TLS.
    let tls = if config.internal.listen.is_some() { None } else { tls::load(&config.tls)? };
    let client = tls.map(|tls| PinnedClient::new(tls.certificate.leaf()));
    http::get(address, &address.to_string(), path, client.as_ref())
        .with_context(|| format!("asking {address} for {path}"))
}

fn ask_url(url: &str) -> anyhow::Result<(u16, String)> {
    let Some(rest) = url.strip_prefix("http://") else {
        bail!("expected a URL that begins with http://");
    };
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/health"),
    };
    // The last colon ends the host, unless it stands inside the brackets of an IPv6 address.
    let has_port = host.rfind(':') > host.rfind(']');
    let place = if has_port { host.to_owned() } else { format!("{host}:80") };
    let address = place
        .to_socket_addrs()
        .with_context(|| format!("looking up {place}"))?
        .next()
        .with_context(|| format!("{place} has no address"))?;
    http::get(address, host, path, None).with_context(|| format!("asking {url}"))
}

/// Where a listener on `listen` can be reached: 0.0.0.0 and [::] are no destinations.
pub(super) fn on_this_machine(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
