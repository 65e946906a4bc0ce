//! The scripts: what Redis does in one step. Their texts are in `lua/`.

use std::{fmt::Write, sync::LazyLock};

use bytes::BytesMut;
use sha1::{Digest, Sha1};

use crate::{keys::PubSub, link::command};

/// A Lua script, which Redis knows by its hash once it has seen its text.
pub(crate) struct Script {
    text: String,
    hash: String,
}

/// A script that publishes, once for each way in which messages travel.
pub(crate) struct Publisher {
    classic: Script,
    sharded: Script,
}

/// How a script is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// By its hash. The server may answer that it does not know it; then nothing happened.
    ByHash,
    /// By its text, which teaches it to the server.
    ByText,
}

/// Publishes and keeps.
pub(crate) static PUBLISH: LazyLock<Publisher> =
    LazyLock::new(|| Publisher::new("#!lua", &[SETTLE, KEEP, include_str!("lua/publish.lua")]));

/// Brings back what a new primary lacks.
pub(crate) static RESTORE: LazyLock<Publisher> = LazyLock::new(|| {
    let restore = include_str!("lua/restore.lua");
    Publisher::new("#!lua", &[SETTLE, SINCE, KEEP, restore])
});

/// Publishes what is not kept, once per idempotency key.
pub(crate) static PUBLISH_ONCE: LazyLock<Publisher> =
    LazyLock::new(|| Publisher::new("#!lua", &[include_str!("lua/publish_once.lua")]));

/// Publishes what is neither kept nor once, in a cluster.
pub(crate) static PUBLISH_PLAIN: LazyLock<Script> = LazyLock::new(|| {
    let by = PubSub::Sharded.script_line();
    Script::new(SMALL, &[&by, include_str!("lua/publish_plain.lua")])
});

/// Proves that what is published arrives.
pub(crate) static PROBE: LazyLock<Publisher> =
    LazyLock::new(|| Publisher::new("#!lua", &[WHO_IS_HERE, include_str!("lua/probe.lua")]));

/// Tells how many nodes are at a server.
pub(crate) static COMPANY: LazyLock<Script> =
    LazyLock::new(|| Script::new(SMALL, &[WHO_IS_HERE, "return company(KEYS[1], ARGV[1])"]));

const WHO_IS_HERE: &str = include_str!("lua/company.lua");

/// Reads a part of what is kept.
pub(crate) static HISTORY: LazyLock<Script> = LazyLock::new(|| {
    let history = include_str!("lua/history.lua");
    Script::new(SMALL, &[SETTLE, SINCE, PAGE, history])
});

/// Reads what was missed.
pub(crate) static RECOVER: LazyLock<Script> = LazyLock::new(|| {
    let recover = include_str!("lua/recover.lua");
    Script::new(SMALL, &[SETTLE, SINCE, PAGE, recover])
});

/// Reads where channels are.
pub(crate) static POSITIONS: LazyLock<Script> =
    LazyLock::new(|| Script::new(SMALL, &[SETTLE, include_str!("lua/positions.lua")]));

const SETTLE: &str = include_str!("lua/settle.lua");
const KEEP: &str = include_str!("lua/keep.lua");
const SINCE: &str = include_str!("lua/since.lua");
const PAGE: &str = include_str!("lua/page.lua");

/// Renews a node's lease in a partition and changes its members there.
pub(crate) static PRESENCE_KEEP: LazyLock<Publisher> = LazyLock::new(|| {
    let parts = [include_str!("lua/presence_member.lua"), include_str!("lua/presence_keep.lua")];
    Publisher::new("#!lua", &parts)
});

/// Reads members of a channel, up to a number.
pub(crate) static PRESENCE_MEMBERS: LazyLock<Script> = LazyLock::new(|| {
    let members = include_str!("lua/presence_members.lua");
    Script::new(SMALL, &[include_str!("lua/presence_living.lua"), members])
});

/// Counts the members of a channel.
pub(crate) static PRESENCE_STATS: LazyLock<Script> = LazyLock::new(|| {
    let stats = include_str!("lua/presence_stats.lua");
    Script::new(SMALL, &[include_str!("lua/presence_living.lua"), stats])
});

/// Removes members whose node has no lease, and announces it.
pub(crate) static PRESENCE_SWEEP: LazyLock<Publisher> = LazyLock::new(|| {
    let parts = [include_str!("lua/presence_member.lua"), include_str!("lua/presence_sweep.lua")];
    Publisher::new(SMALL, &parts)
});

/// With a first line of this kind a script is refused before it starts and not in its middle. Those
/// that need no memory worth the name are not refused for the want of it.
const SMALL: &str = "#!lua flags=allow-oom";

impl Publisher {
    fn new(first_line: &str, parts: &[&str]) -> Self {
        let by = |pub_sub: PubSub| {
            let line = pub_sub.script_line();
            let parts: Vec<_> = std::iter::once(&line[..]).chain(parts.iter().copied()).collect();
            Script::new(first_line, &parts)
        };
        Self { classic: by(PubSub::Classic), sharded: by(PubSub::Sharded) }
    }

    /// The script for this way.
    pub(crate) fn by(&self, pub_sub: PubSub) -> &Script {
        match pub_sub {
            PubSub::Classic => &self.classic,
            PubSub::Sharded => &self.sharded,
        }
    }
}

impl Script {
    fn new(first_line: &str, parts: &[&str]) -> Self {
        let text = format!("{first_line}\n{}", parts.concat());
        let mut hash = String::with_capacity(40);
        for byte in Sha1::digest(&text) {
            // Writing into a text cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        Self { text, hash }
    }

    /// Opens a call; so many keys and then so many arguments must follow.
    pub(crate) fn write_call(&self, out: &mut BytesMut, call: Call, keys: usize, arguments: usize) {
        command::begin(out, 3 + keys + arguments);
        match call {
            Call::ByHash => {
                out.extend_from_slice(b"$7\r\nEVALSHA\r\n");
                command::write_argument(out, &[self.hash.as_bytes()]);
            }
            Call::ByText => {
                out.extend_from_slice(b"$4\r\nEVAL\r\n");
                command::write_argument(out, &[self.text.as_bytes()]);
            }
        }
        command::write_number(out, keys as u64);
    }
}

/// Whether an error that a server answers tells that it does not know a script, and did nothing.
pub(crate) fn tells_unknown(text: &[u8]) -> bool {
    text.starts_with(b"NOSCRIPT ")
}
