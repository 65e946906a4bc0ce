//! What the log says of a connection: that it came, who it is, what it joined, and why it ended.
//!
//! What clients choose stands in fields of its own, which the log escapes, and is cut: nobody
//! writes lines of his own, or long ones. Where a level is off, nothing is looked up for it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use dunlin_core::{
    error::Disconnect,
    event::{Event, Outcome},
    ids::ConnectionId,
    publication::Encoding,
};
use parking_lot::Mutex;
use tracing::{Level, enabled};

use super::{Client, Connection};
use crate::shard::Shard;

/// Bytes of a name that a client chose.
const NAME_BYTES: usize = 100;

/// Closes that are no everyday matter, and which of them are told at level info: so many of a
/// reason in so long. The others are counted, and are there at level debug.
const TOLD_MAX: u32 = 5;
const TOLD_IN: Duration = Duration::from_secs(60);

/// What was told of late of closes, by reason; one for the whole node.
#[derive(Debug, Default)]
pub(crate) struct Closes {
    windows: Mutex<[Window; Disconnect::ALL.len()]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began_at: Option<Instant>,
    told: u32,
    left_out: u64,
    /// Left out of windows before, and not told yet.
    due: u64,
}

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        self.began_at.is_none_or(|began_at| now - began_at >= TOLD_IN)
    }
}

impl Closes {
    /// Whether one more close is told; it is counted in any case.
    fn take(&self, why: Disconnect, now: Instant) -> bool {
        let window = &mut self.windows.lock()[why as usize];
        if window.is_over(now) {
            let due = window.due + window.left_out;
            *window = Window { began_at: Some(now), told: 0, left_out: 0, due };
        }
        let is_told = window.told < TOLD_MAX;
        match is_told {
            true => window.told += 1,
            false => window.left_out += 1,
        }
        is_told
    }

    /// What has been left out of windows that are over, and was not asked for yet.
    fn left_out(&self, now: Instant) -> Vec<(Disconnect, u64)> {
        let mut windows = self.windows.lock();
        let due = Disconnect::ALL.into_iter().zip(windows.iter_mut()).map(|(why, window)| {
            if window.is_over(now) {
                window.due += std::mem::take(&mut window.left_out);
            }
            (why, std::mem::take(&mut window.due))
        });
        due.filter(|(_, count)| *count > 0).collect()
    }

    /// Tells how many closes were left out.
    pub(crate) fn record_left_out(&self) {
        for (why, count) in self.left_out(Instant::now()) {
            tracing::info!(why = why.label(), count, "closed more connections of that kind");
        }
    }
}

/// A close, as the log has it.
struct Close {
    connection: ConnectionId,
    client: Box<str>,
    user: Box<str>,
    address: String,
    dialect: &'static str,
    transport: &'static str,
    why: &'static str,
    /// What its client was told; none = it was told nothing.
    code: Option<u16>,
    reason: String,
    open_for: Duration,
}

macro_rules! say_closed {
    ($level:expr, $close:expr) => {{
        let close = $close;
        tracing::event!(
            $level,
            connection = %close.connection,
            client = &*close.client,
            user = &*close.user,
            address = close.address,
            dialect = close.dialect,
            transport = close.transport,
            why = close.why,
            code = close.code,
            reason = close.reason,
            open_for = ?close.open_for,
            "closed a connection"
        );
    }};
}

impl Connection {
    /// It has its 101.
    pub(crate) fn record_open(&self) {
        tracing::debug!(
            connection = %self.id(),
            address = self.address_text(),
            dialect = self.dialect(),
            transport = self.transport(),
            channel = self.plain_channel(),
            "opened a connection"
        );
    }

    /// What it is told, where that is worth a line.
    pub(crate) fn record_told(&self, event: &Event) {
        if !enabled!(Level::DEBUG) {
            return;
        }
        let connection = self.id();
        match event {
            Event::Reply { outcome: Ok(Outcome::Connect(_)), .. } => {
                let (client, user) = self.names();
                tracing::debug!(%connection, client, user, "let a client in");
            }
            Event::Reply { outcome: Err(error), .. } => {
                let (code, why) = (error.code(), error.message());
                tracing::debug!(%connection, code, why, "refused a command");
            }
            _ => {}
        }
    }

    /// It is subscribed to this channel now.
    pub(crate) fn record_subscription(&self, channel: &str) {
        tracing::debug!(connection = %self.id(), channel = cut(channel), "subscribed");
    }

    fn close(&self, why: Disconnect, frame: Option<&Bytes>, open_for: Duration) -> Close {
        let (client, user) = self.names();
        let (code, reason) = frame.and_then(|frame| words_of(frame)).unzip();
        Close {
            connection: self.id(),
            client: client.into(),
            user: user.into(),
            address: self.address_text(),
            dialect: self.dialect(),
            transport: self.transport(),
            why: why.label(),
            code,
            reason: reason.unwrap_or_default(),
            open_for,
        }
    }

    /// Client id and user; empty where there is none.
    pub(crate) fn names(&self) -> (String, String) {
        let Some(session) = self.session() else { return Default::default() };
        let session = session.borrow();
        (cut(session.client()).to_owned(), cut(session.user()).to_owned())
    }

    pub(crate) fn address_text(&self) -> String {
        match self.address.is_unspecified() {
            true => String::new(),
            false => self.address.to_canonical().to_string(),
        }
    }

    pub(crate) fn dialect(&self) -> &'static str {
        match &self.client {
            Client::Plain(_) => "plain",
            Client::Centrifuge(dialogue) => match dialogue.session().borrow().encoding() {
                Encoding::Json => "centrifuge-json",
                Encoding::Protobuf => "centrifuge-protobuf",
            },
        }
    }

    fn transport(&self) -> &'static str {
        match self.stream() {
            Some(stream) if stream.is_tls() => "wss",
            _ => "ws",
        }
    }

    fn plain_channel(&self) -> &str {
        match &self.client {
            Client::Plain(listener) => cut(listener.channel().as_str()),
            Client::Centrifuge(_) => "",
        }
    }
}

impl Shard {
    /// A connection is to end, with this close frame, or has ended without one. A seat is no
    /// connection yet.
    pub(crate) fn record_close(
        &self,
        connection: &Connection,
        why: Disconnect,
        frame: Option<&Bytes>,
    ) {
        if connection.stream().is_none() || !enabled!(Level::INFO) {
            return;
        }
        let close = || connection.close(why, frame, self.age_of(connection));
        let is_told = !is_ordinary(why) && self.closes().take(why, Instant::now());
        if is_told {
            say_closed!(Level::INFO, close());
        } else if enabled!(Level::DEBUG) {
            say_closed!(Level::DEBUG, close());
        }
    }

    /// A seat was gone before it had its socket.
    pub(crate) fn record_close_of_seat(&self, connection: ConnectionId, why: Disconnect) {
        tracing::debug!(%connection, why = why.label(), "closed a connection with its first byte");
    }

    /// How long ago a connection's seat was reserved.
    pub(crate) fn age_of(&self, connection: &Connection) -> Duration {
        let tenths = self.uptime_tenths().wrapping_sub(connection.reserved_at());
        Duration::from_millis(u64::from(tenths) * 100)
    }
}

/// Whether that is how connections end every day, by the thousand.
fn is_ordinary(why: Disconnect) -> bool {
    matches!(why, Disconnect::ClientLeft | Disconnect::NodeLeaving)
}

/// The beginning of a name.
fn cut(name: &str) -> &str {
    let mut end = NAME_BYTES.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Code and reason of a close frame of ours.
fn words_of(frame: &[u8]) -> Option<(u16, String)> {
    let (code, reason) = frame.get(2..)?.split_first_chunk()?;
    Some((u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()))
}

#[cfg(test)]
mod tests {
    use dunlin_ws::CloseCode;

    use super::*;

    #[test]
    fn a_few_closes_of_a_kind_are_told_and_the_others_counted() {
        let (closes, start) = (Closes::default(), Instant::now());
        let told = |why, at| (0..100).filter(|_| closes.take(why, at)).count();
        assert_eq!(told(Disconnect::SlowReader, start), 5);
        assert_eq!(told(Disconnect::Stale, start), 5, "each kind by itself");
        assert_eq!(told(Disconnect::SlowReader, start + TOLD_IN / 2), 0);
        assert_eq!(closes.left_out(start + TOLD_IN / 2), [], "said once, at the end");
        let left_out = closes.left_out(start + TOLD_IN);
        assert_eq!(left_out, [(Disconnect::SlowReader, 195), (Disconnect::Stale, 95)]);
        assert_eq!(closes.left_out(start + TOLD_IN), []);
        assert_eq!(told(Disconnect::SlowReader, start + TOLD_IN), 5);
    }

    #[test]
    fn a_close_frame_says_what_its_client_was_told() {
        let frame = dunlin_ws::close_frame(CloseCode::POLICY, "größer");
        assert_eq!(words_of(&frame), Some((1008, "größer".to_owned())));
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ü".repeat(60)).len(), 100);
        assert_eq!(cut(&format!("a{}", "ü".repeat(60))).len(), 99);
    }
}
