//! The scripts: what Redis does in one step. Their texts are in `lua/`.

use std::{fmt::Write, sync::LazyLock};

use bytes::BytesMut;
use sha1::{Digest, Sha1};

use crate::link::command;

/// A Lua script, which Redis knows by its hash once it has seen its text.
pub(crate) struct Script {
    text: String,
    hash: String,
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
pub(crate) static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new("#!lua", &[include_str!("lua/settle.lua"), include_str!("lua/publish.lua")])
});

/// Publishes what is not kept, once per idempotency key.
pub(crate) static PUBLISH_ONCE: LazyLock<Script> =
    LazyLock::new(|| Script::new("#!lua", &[include_str!("lua/publish_once.lua")]));

/// Reads a part of what is kept.
pub(crate) static HISTORY: LazyLock<Script> = LazyLock::new(|| {
    let parts = [include_str!("lua/since.lua"), include_str!("lua/history.lua")];
    Script::new(READS, &[include_str!("lua/settle.lua"), parts[0], parts[1]])
});

/// Reads what was missed.
pub(crate) static RECOVER: LazyLock<Script> = LazyLock::new(|| {
    let parts = [include_str!("lua/since.lua"), include_str!("lua/recover.lua")];
    Script::new(READS, &[include_str!("lua/settle.lua"), parts[0], parts[1]])
});

/// Renews a node's lease and changes its members.
pub(crate) static PRESENCE_KEEP: LazyLock<Script> =
    LazyLock::new(|| Script::new("#!lua", &[include_str!("lua/presence_keep.lua")]));

/// Reads the members of a channel.
pub(crate) static PRESENCE_MEMBERS: LazyLock<Script> = LazyLock::new(|| {
    let members = include_str!("lua/presence_members.lua");
    Script::new(READS, &[include_str!("lua/presence_living.lua"), members])
});

/// Counts the members of a channel.
pub(crate) static PRESENCE_STATS: LazyLock<Script> = LazyLock::new(|| {
    let stats = include_str!("lua/presence_stats.lua");
    Script::new(READS, &[include_str!("lua/presence_living.lua"), stats])
});

/// Removes members whose node has no lease.
pub(crate) static PRESENCE_SWEEP: LazyLock<Script> =
    LazyLock::new(|| Script::new(READS, &[include_str!("lua/presence_sweep.lua")]));

/// With a first line of this kind a script is refused before it starts and not in its middle. Those
/// that need no memory worth the name are not refused for the want of it.
const READS: &str = "#!lua flags=allow-oom";

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
