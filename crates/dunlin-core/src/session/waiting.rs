//! Commands that wait for one that came before them.

use crate::command::{Command, Request};

/// Commands in the order in which they came, and what they weigh.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    commands: Vec<Command>,
    bytes: usize,
}

/// What commands of one session may weigh that wait; one that finds none there may weigh more.
pub(super) const BYTES_MAX: usize = 256 * 1024;

impl Waiting {
    pub(super) fn push(&mut self, command: Command) {
        self.bytes += weight(&command);
        self.commands.push(command);
    }

    /// What they weigh.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl IntoIterator for Waiting {
    type Item = Command;
    type IntoIter = std::vec::IntoIter<Command>;

    fn into_iter(self) -> Self::IntoIter {
        self.commands.into_iter()
    }
}

/// About the bytes that a command takes while it waits.
pub(super) fn weight(command: &Command) -> usize {
    let payload = match &command.request {
        Request::Publish { data, .. } | Request::Rpc { data, .. } | Request::Send(data) => {
            data.len()
        }
        Request::Refresh(token) | Request::SubRefresh { token, .. } => token.len(),
        Request::Subscribe(subscribe) => subscribe.token.len(),
        _ => 0,
    };
    COMMAND_BYTES + payload
}

/// What a command takes beside its payload, its channel's name included.
const COMMAND_BYTES: usize = 256;
