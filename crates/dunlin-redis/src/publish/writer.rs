//! How publishes look on the link: plain ones as PUBLISH, those that are kept or happen only once
//! as calls of scripts.

use std::hash::{BuildHasher, RandomState};

use bytes::BytesMut;
use dunlin_core::{
    broker::{Publish, Terms},
    namespace::Retention,
};

use crate::{
    envelope,
    keys::Keys,
    link::command,
    queue::{MessageId, Waiting},
    script::{Call, PUBLISH, PUBLISH_ONCE},
    stream,
};

/// Writes publishes for one server.
pub(super) struct Writer {
    keys: Keys,
    last_id: MessageId,
    server: u32,
    /// How the next call of each script is made: the first on a connection is by text.
    keeping: Call,
    once: Call,
}

impl Writer {
    pub(super) fn new(keys: Keys) -> Self {
        let last_id = MessageId::from(random()) << 64;
        Self { keys, last_id, server: 0, keeping: Call::ByText, once: Call::ByText }
    }

    /// Starts with a server, or anew with one that has forgotten the scripts.
    pub(super) fn meet(&mut self, server: u32) {
        self.server = server;
        (self.keeping, self.once) = (Call::ByText, Call::ByText);
    }

    /// Writes one publish. True when it can be repeated: then it has an id from now on.
    pub(super) fn write(&mut self, out: &mut BytesMut, waiting: &mut Waiting) -> bool {
        let publish = &waiting.publish;
        let terms = publish.terms.as_deref().filter(|terms| counts(terms));
        let is_repeat = waiting.sent.is_some();
        let id = || {
            self.last_id += 1;
            self.last_id
        };
        match (publish.retention, terms) {
            (Some(retention), terms) => {
                let id = *waiting.sent.get_or_insert_with(id);
                self.write_kept(out, publish, retention, terms, id, is_repeat);
            }
            (None, Some(terms)) if !terms.idempotency_key.is_empty() => {
                waiting.sent.get_or_insert_with(id);
                self.write_once(out, publish, &terms.idempotency_key);
            }
            (None, _) => {
                out.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n");
                self.write_target(out, publish);
                return false;
            }
        }
        true
    }

    fn write_kept(
        &mut self,
        out: &mut BytesMut,
        publish: &Publish,
        retention: Retention,
        terms: Option<&Terms>,
        id: MessageId,
        is_repeat: bool,
    ) {
        let channel = publish.publication.channel();
        let key = terms.map_or("", |terms| &terms.idempotency_key);
        let (keys, arguments) =
            (2 + usize::from(!key.is_empty()), if terms.is_some() { 13 } else { 10 });
        PUBLISH.write_call(out, self.keeping, keys, arguments);
        self.keeping = Call::ByHash;
        command::write_argument(out, &self.keys.stream(channel));
        command::write_argument(out, &self.keys.meta(channel));
        if !key.is_empty() {
            command::write_argument(out, &[&self.keys.answer(channel, key)]);
        }
        command::write_number(out, u64::from(self.server));
        command::write_argument(out, &[&random().to_be_bytes()]);
        command::write_number(out, stream::milliseconds(retention.meta_ttl));
        command::write_number(out, stream::milliseconds(retention.ttl));
        let trim: &[u8] = if retention.size < SIZE_TRIMMED_ROUGHLY { b"=" } else { b"~" };
        command::write_argument(out, &[trim]);
        command::write_number(out, retention.size as u64);
        self.write_target(out, publish);
        command::write_argument(out, &[&id.to_be_bytes()]);
        command::write_number(out, u64::from(is_repeat));
        if let Some(terms) = terms {
            command::write_number(out, ANSWER_TTL_MS);
            command::write_number(out, terms.version);
            command::write_argument(out, &[terms.version_epoch.as_bytes()]);
        }
    }

    fn write_once(&mut self, out: &mut BytesMut, publish: &Publish, key: &str) {
        PUBLISH_ONCE.write_call(out, self.once, 1, 3);
        self.once = Call::ByHash;
        command::write_argument(out, &[&self.keys.answer(publish.publication.channel(), key)]);
        self.write_target(out, publish);
        command::write_number(out, ANSWER_TTL_MS);
    }

    /// The channel and the message.
    fn write_target(&self, out: &mut BytesMut, publish: &Publish) {
        let publication = &publish.publication;
        command::write_argument(out, &self.keys.channel_parts(publication.channel()));
        command::write_argument(out, &[&envelope::head(publication), publication.data()]);
    }
}

/// Whether they are terms at all.
fn counts(terms: &Terms) -> bool {
    !terms.idempotency_key.is_empty() || terms.version != 0
}

/// The standard library seeds every hash state anew.
fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// How long a publish with an idempotency key is remembered.
const ANSWER_TTL_MS: u64 = 5 * 60 * 1000;
/// From this size on a stream may be a little longer than asked for, which costs Redis less. A
/// reader does not see it.
const SIZE_TRIMMED_ROUGHLY: usize = 100;
