//! Where connections go: `ws://host:port/path`, resolved once.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// The address and path of a WebSocket server. TLS is not measured here, so only `ws://`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Where to connect to.
    pub(crate) address: SocketAddr,
    /// The `Host` header's value.
    pub(crate) host: String,
    /// The path, starting with `/`.
    pub(crate) path: String,
}

/// Arguments that all measuring verbs share.
#[derive(clap::Args)]
pub(crate) struct Servers {
    /// Server to connect to (ws://host:port/path); repeat to spread connections over several
    #[arg(long = "url", value_name = "URL", required = true)]
    pub(crate) urls: Vec<Target>,
    /// Server process to watch (CPU, memory); repeat for several
    #[arg(long = "pid", value_name = "PID")]
    pub(crate) pids: Vec<u32>,
}

impl Target {
    /// The path of one of several channels.
    pub(crate) fn channel_path(&self, channel: u32) -> String {
        format!("{}/bench-{channel}", self.path.trim_end_matches('/'))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("ws://").ok_or("expected ws://host:port/path")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let resolved = host.to_socket_addrs().or_else(|_| (host, 80).to_socket_addrs());
        let address = resolved
            .map_err(|error| format!("cannot resolve {host}: {error}"))?
            .next()
            .ok_or_else(|| format!("{host} has no address"))?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { address, host: host.into(), path: path.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target: Target = "ws://127.0.0.1:8080/ws/x".parse().unwrap();
        assert_eq!(target.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:8080", "/ws/x"));
        assert_eq!(target.channel_path(3), "/ws/x/bench-3");
        assert_eq!("ws://127.0.0.1".parse::<Target>().unwrap().address.port(), 80);
        assert!("wss://127.0.0.1/".parse::<Target>().is_err());
        assert!("ws:///ws".parse::<Target>().is_err());
    }
}
