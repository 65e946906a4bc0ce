//! What is made of a client's bytes: they become frames, frames become publishes and commands. A
//! client whose bytes are worth more than its slice of the shard's time goes on in its next turn.

use std::{io::ErrorKind, mem, rc::Rc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use dunlin_core::{
    broker::{Publish, ReplyTo},
    error::Disconnect,
    limits::TokenBucket,
};
use dunlin_protocol::plain;
use dunlin_ws::{CloseCode, Compression, Decoder, Event, ProtocolError};
use tokio::time::Instant;

use crate::{
    backlog::Cause,
    connection::{Client, Connection, Written},
    metering::{Around, Metering},
    shard::{Shard, Share, Slice},
};

pub(super) struct Reader {
    decoder: Decoder,
    control_frames: TokenBucket,
    /// When the message began that has not ended yet.
    unfinished_since: Option<Instant>,
    /// Set by the client's close frame or first mistake: nothing it sends counts any more.
    is_done: bool,
    share: Share,
    aside: Option<Box<Aside>>,
}

/// What few connections have, or seldom.
#[derive(Default)]
struct Aside {
    rest: Rest,
    /// What was read, if that is counted.
    metering: Option<Metering>,
}

/// What a slice was not enough for.
#[derive(Default)]
struct Rest {
    /// Of a message that is taken apart already: its commands.
    commands: Bytes,
    /// What came behind it.
    frames: BytesMut,
}

/// Why and with which close frame a client is to be closed.
struct End {
    why: Disconnect,
    close_frame: Bytes,
}

/// How far a slice led.
#[derive(Default)]
struct Progress {
    /// Messages that were completed.
    messages: usize,
    /// Bytes of frames that are done with.
    consumed: usize,
    /// Commands that are left of the last message.
    commands: Bytes,
}

/// What a mistake of the client's means for it.
fn disconnect(error: ProtocolError) -> Disconnect {
    if error == ProtocolError::CloseNotMasked {
        return Disconnect::ProxyLeft;
    }
    match error.close_code() {
        CloseCode::INVALID_PAYLOAD => Disconnect::InvalidText,
        CloseCode::TOO_BIG => Disconnect::MessageTooBig,
        CloseCode::POLICY => Disconnect::TooManyFragments,
        _ => Disconnect::ProtocolError,
    }
}

/// Whether there is more to come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Open,
    /// The same, but nothing counts any more that the client sends.
    Vain,
    /// The client has said good-bye and sends nothing more, but may still listen for the answer.
    Said,
    Ended,
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.frames.is_empty()
    }
}

impl Reader {
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            decoder: Decoder::new(compression),
            control_frames: TokenBucket::default(),
            unfinished_since: None,
            is_done: false,
            share: Share::default(),
            aside: None,
        }
    }

    pub(super) fn share(&mut self) -> &mut Share {
        &mut self.share
    }

    /// Whether there is something to go on with that was read before.
    pub(super) fn has_rest(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| !aside.rest.is_empty())
    }

    /// Bytes of memory that hold what is not handled yet.
    pub(super) fn held_bytes(&self) -> usize {
        let rest = |aside: &Aside| aside.rest.commands.len() + aside.rest.frames.capacity();
        self.decoder.held_bytes() + self.aside.as_deref().map_or(0, rest)
    }

    /// Whether nothing that the client sends counts any more.
    fn is_vain(&self, connection: &Connection) -> bool {
        self.is_done || !matches!(connection.ending(), None | Some(Disconnect::NodeLeaving))
    }

    /// Drops what it holds of a message, unless what the client publishes still counts.
    pub(super) fn give_up(&mut self, connection: &Connection) {
        if self.is_vain(connection) {
            self.decoder.clear();
        }
    }

    /// When the message began that has not ended yet.
    pub(super) fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished_since
    }

    /// It was not read from for a while: that does not count.
    pub(super) fn excuse(&mut self, pause: Duration) {
        self.unfinished_since = self.unfinished_since.map(|since| since + pause);
    }

    /// Goes on with what is left, or reads once into the shard's buffer and handles what came.
    pub(super) fn go_on(&mut self, shard: &Rc<Shard>, connection: &Rc<Connection>) -> Flow {
        if let Some(Rest { commands, mut frames }) = self.take_rest() {
            let progress = self.handle(shard, connection, commands, &mut frames);
            frames.advance(progress.consumed);
            self.keep(progress.commands, frames);
            return Flow::Open;
        }
        let Some(stream) = connection.stream() else { return Flow::Ended };
        let mut buffer = shard.read_buffer();
        let count = match stream.try_read(&mut buffer) {
            Ok(0) if self.is_done => return Flow::Said,
            Ok(0) => return Flow::Ended,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Flow::Open,
            Err(_) => return Flow::Ended,
        };
        let is_vain = self.is_vain(connection);
        shard.tally().received(count);
        connection.hear();
        self.take(shard, connection, &mut buffer[..count]);
        if is_vain { Flow::Vain } else { Flow::Open }
    }

    /// How long the client is not to be read from, since it has sent too much.
    pub(super) fn take_pause(&mut self, shard: &Shard) -> Option<Duration> {
        self.aside.as_mut()?.metering.as_mut()?.take_pause(shard)
    }

    /// Handles bytes of the client.
    pub(super) fn take(
        &mut self,
        shard: &Rc<Shard>,
        connection: &Rc<Connection>,
        bytes: &mut [u8],
    ) {
        if shard.policy().counts_bytes {
            let around = Around { shard, connection };
            self.metering().bytes(&around, bytes.len());
        }
        let progress = self.handle(shard, connection, Bytes::new(), bytes);
        self.keep(progress.commands, BytesMut::from(&bytes[progress.consumed..]));
    }

    fn keep(&mut self, commands: Bytes, frames: BytesMut) {
        if !commands.is_empty() || !frames.is_empty() {
            self.aside.get_or_insert_default().rest = Rest { commands, frames };
        }
    }

    fn take_rest(&mut self) -> Option<Rest> {
        let aside = self.aside.as_mut()?;
        let rest = mem::take(&mut aside.rest);
        self.aside.take_if(|aside| aside.metering.is_none());
        (!rest.is_empty()).then_some(rest)
    }

    fn metering(&mut self) -> &mut Metering {
        self.aside.get_or_insert_default().metering.get_or_insert_default()
    }

    /// How many messages may be taken now.
    fn allowance(&self, shard: &Shard, connection: &Connection) -> u32 {
        let around = Around { shard, connection };
        if !around.is_bounded() {
            return u32::MAX;
        }
        around.allowance(self.aside.as_ref().and_then(|aside| aside.metering.as_ref()))
    }

    /// Handles commands and the frames behind them for the length of a slice, unless the client
    /// has said good-bye, or we have: only what it publishes until it has heard that the node
    /// leaves still counts. A client that is to be closed gets first what it published just
    /// before: its echo comes by way of the broker.
    fn handle(
        &mut self,
        shard: &Rc<Shard>,
        connection: &Rc<Connection>,
        commands: Bytes,
        frames: &mut [u8],
    ) -> Progress {
        let all = Progress { consumed: frames.len(), ..Progress::default() };
        if self.is_vain(connection) {
            self.decoder.clear();
            return all;
        }
        match self.decode(shard, connection, commands, frames) {
            Ok(progress) => {
                if !self.decoder.is_mid_message() {
                    self.unfinished_since = None;
                } else if progress.messages > 0 || self.unfinished_since.is_none() {
                    self.unfinished_since = Some(Instant::now());
                }
                progress
            }
            Err(End { why, close_frame }) => {
                self.is_done = true;
                self.unfinished_since = None;
                shard.end_after_turn(connection.id(), why, close_frame);
                all
            }
        }
    }

    /// Decodes and handles what there is. What was published is published together at the end, also
    /// when something after it is wrong.
    fn decode(
        &mut self,
        shard: &Rc<Shard>,
        connection: &Rc<Connection>,
        commands: Bytes,
        frames: &mut [u8],
    ) -> Result<Progress, End> {
        let messages_max = self.allowance(shard, connection);
        let mut slice = shard.begin_slice(commands.len() + frames.len(), messages_max);
        let outcome = self.decode_each(shard, connection, commands, frames, &mut slice);
        let published = shard.publish_gathered();
        // What was answered at once leaves before the next read, in one message.
        shard.flush_replies();
        let used = slice.used();
        self.share.charge(used);
        connection.note_used(used);
        let around = Around { shard, connection };
        if slice.messages() > 0 && around.is_bounded() {
            self.metering().messages(&around, slice.messages());
        }
        outcome.map(|progress| Progress { messages: progress.messages + published, ..progress })
    }

    fn decode_each(
        &mut self,
        shard: &Rc<Shard>,
        connection: &Rc<Connection>,
        mut commands: Bytes,
        frames: &mut [u8],
        slice: &mut Slice,
    ) -> Result<Progress, End> {
        let end = |why| End { why, close_frame: shard.close_frame(connection, why) };
        let mut progress = Progress::default();
        if !commands.is_empty() {
            let left = shard.take_message(connection, &commands, slice).map_err(end)?;
            progress.commands = commands.split_off(commands.len() - left);
        }
        let mut context = shard.decoding(connection.client());
        let mut step_bytes = commands.len();
        while progress.commands.is_empty() && !shard.is_over(slice, step_bytes) {
            step_bytes = 0;
            let bytes = &mut frames[progress.consumed..];
            let decoded = self.decoder.decode(&mut context, bytes);
            let (consumed, event) = decoded.map_err(|error| end(disconnect(error)))?;
            progress.consumed += consumed;
            match event {
                None => {
                    progress.consumed = frames.len();
                    break;
                }
                Some(Event::Message { kind, payload }) => match connection.client() {
                    Client::Plain(listener) if !listener.options().allow_plain_publish => {
                        return Err(end(Disconnect::NotAllowed));
                    }
                    Client::Plain(listener) => {
                        slice.took_message();
                        step_bytes = payload.len();
                        let publication = plain::publication(listener.channel(), kind, payload);
                        let retention = listener.options().retention();
                        let publish = Publish { publication, retention, terms: None };
                        shard.gather(publish, ReplyTo::Connection(connection.id()));
                    }
                    Client::Centrifuge(_) => {
                        step_bytes = payload.len();
                        let left = shard.take_message(connection, payload, slice).map_err(end)?;
                        progress.commands =
                            Bytes::copy_from_slice(&payload[payload.len() - left..]);
                        progress.messages += 1;
                    }
                },
                Some(Event::Ping(payload)) => {
                    self.take_control_token(shard).map_err(end)?;
                    let pong = dunlin_ws::pong_frame(payload);
                    // Nothing follows our close frame.
                    let is_open = connection.ending().is_none();
                    if is_open && shard.write(connection, &pong, Cause::Asked) == Written::Overrun {
                        return Err(end(Disconnect::SlowReader));
                    }
                }
                Some(Event::Pong(_)) => self.take_control_token(shard).map_err(end)?,
                Some(Event::Close { code, .. }) => {
                    let echo = dunlin_ws::close_frame(code.unwrap_or(CloseCode::NORMAL), "");
                    return Err(End { why: Disconnect::ClientLeft, close_frame: echo });
                }
            }
        }
        Ok(progress)
    }

    fn take_control_token(&mut self, shard: &Shard) -> Result<(), Disconnect> {
        let rate = shard.limits().control_frames;
        if self.control_frames.take(rate, 1, shard.uptime_ms()) {
            Ok(())
        } else {
            Err(Disconnect::ControlFlood)
        }
    }
}
