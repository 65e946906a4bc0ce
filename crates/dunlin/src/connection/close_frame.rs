//! Close frames: how clients are told why they are closed.

use bytes::Bytes;
use dunlin_core::error::Disconnect;
use dunlin_protocol::centrifuge;
use dunlin_ws::CloseCode;

use super::{Client, Connection};
use crate::{config::PlainCloseCodes, shard::Shard};

impl Shard {
    /// Tells a client why, in its dialect.
    pub(crate) fn close_frame(&self, connection: &Connection, why: Disconnect) -> Bytes {
        match connection.client() {
            Client::Plain(_) => self.plain_close_frame(why),
            Client::Centrifuge(_) => {
                let (code, reason) = centrifuge::close_code(why);
                frame(code, reason)
            }
        }
    }

    /// Tells a client of the plain dialect why.
    pub(crate) fn plain_close_frame(&self, why: Disconnect) -> Bytes {
        let code = match (self.plain_close_codes(), why.code()) {
            // Registered after RFC 6455 was written; what it has for the like is "going away".
            (PlainCloseCodes::Rfc6455, 1012..=1014) => CloseCode::GOING_AWAY.get(),
            (_, code) => code,
        };
        frame(code, why.reason())
    }
}

fn frame(code: u16, reason: &str) -> Bytes {
    dunlin_ws::close_frame(CloseCode::new(code).unwrap_or(CloseCode::INTERNAL), reason)
}
