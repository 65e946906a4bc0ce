//! A Redis for the demo alone: on a Unix socket in a private folder, nothing kept on disk.

use std::{
    collections::hash_map::RandomState,
    ffi::OsString,
    hash::{BuildHasher, Hasher},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use dunlin_redis::url::{Endpoint, RedisUrl};

use super::process::Program;

/// The tag of its lines.
pub(super) const TAG: &str = "redis";

/// Programs that speak Redis' protocol and take its options, the best first.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];

/// Where the private Redis listens.
pub(super) fn socket_in(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

/// The URL of a socket.
pub(super) fn url_of(socket: &Path) -> String {
    let path = socket.display().to_string();
    format!("redis+unix://{}", path.replace('%', "%25").replace('?', "%3F"))
}

/// How to speak with a Redis by hand; a password is for the user to add.
pub(super) fn client(url: &RedisUrl) -> String {
    match &url.endpoint {
        Endpoint::Unix { path } => format!("redis-cli -s {}", path.display()),
        Endpoint::Tcp { .. } | Endpoint::Sentinel(_) => format!("redis-cli -u {url}"),
        // The first of its nodes leads to the one that has the channel.
        Endpoint::Cluster(_) => {
            let url = url.to_string().replace("+cluster", "");
            format!("redis-cli -c -u {}", url.split(',').next().unwrap_or(&url))
        }
    }
}

/// A folder's name that is not taken; its maker fails if it is after all.
pub(super) fn folder() -> PathBuf {
    let random = RandomState::new().build_hasher().finish();
    std::env::temp_dir().join(format!("dunlin-demo-{random:016x}"))
}

/// The program to start.
///
/// # Errors
/// There is none; says what to do.
pub(super) fn program(folder: &Path) -> anyhow::Result<Program> {
    let Some(server) = installed()? else {
        bail!(
            "redis-server was not found on PATH. Install it (Debian and Ubuntu: apt-get install \
             redis-server, Fedora: dnf install valkey, macOS: brew install redis), or use one that \
             runs already: dunlin demo --redis redis://127.0.0.1:6379"
        );
    };
    let mut command: Vec<OsString> = vec![server.into(), "--unixsocket".into()];
    command.push(socket_in(folder).into());
    command.extend(["--dir".into(), folder.into()]);
    command.extend(
        ["--port", "0", "--unixsocketperm", "700", "--save", "", "--appendonly", "no"]
            .map(OsString::from),
    );
    command.extend(["--daemonize", "no", "--loglevel", "warning"].map(OsString::from));
    let (tag, folder) = (TAG.to_owned(), Some(folder.to_owned()));
    Ok(Program { tag, command, environment: Vec::new(), folder })
}

fn installed() -> anyhow::Result<Option<&'static str>> {
    for server in SERVERS {
        let asked = Command::new(server)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        match asked {
            Ok(_) => return Ok(Some(server)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("starting {server}")),
        }
    }
    Ok(None)
}
