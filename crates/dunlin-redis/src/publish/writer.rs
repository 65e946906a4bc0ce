//! How publishes look on the link: plain ones as PUBLISH, those that are kept or happen only once
//! as calls of scripts, and what follows one another in a channel as one call.

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

    /// Writes publishes that go together as one command. True when they can be repeated: then each
    /// has an id from now on.
    pub(super) fn write(&mut self, out: &mut BytesMut, together: &mut [Waiting]) -> bool {
        let is_repeat = together.iter().any(|waiting| waiting.sent.is_some());
        let Some(first) = together.first() else { return false };
        match (first.publish.retention, terms(&first.publish)) {
            (Some(retention), _) => {
                self.identify(together);
                self.write_kept(out, together, retention, is_repeat);
            }
            (None, Some(terms)) if !terms.idempotency_key.is_empty() => {
                self.write_once(out, &first.publish, &terms.idempotency_key);
                self.identify(together);
            }
            (None, _) => {
                out.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n");
                self.write_channel(out, &first.publish);
                write_message(out, &first.publish);
                return false;
            }
        }
        true
    }

    fn identify(&mut self, together: &mut [Waiting]) {
        for waiting in together {
            waiting.sent.get_or_insert_with(|| {
                self.last_id += 1;
                self.last_id
            });
        }
    }

    fn write_kept(
        &mut self,
        out: &mut BytesMut,
        together: &[Waiting],
        retention: Retention,
        is_repeat: bool,
    ) {
        let first = &together[0].publish;
        let (channel, terms) = (first.publication.channel(), terms(first));
        let key = terms.map_or("", |terms| &terms.idempotency_key);
        let keys = 2 + usize::from(!key.is_empty());
        let arguments = 9 + 2 * together.len() + if terms.is_some() { 3 } else { 0 };
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
        self.write_channel(out, first);
        command::write_number(out, u64::from(is_repeat));
        command::write_number(out, together.len() as u64);
        for waiting in together {
            write_message(out, &waiting.publish);
            let id = waiting.sent.unwrap_or_default();
            command::write_argument(out, &[&id.to_be_bytes()]);
        }
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
        self.write_channel(out, publish);
        write_message(out, publish);
        command::write_number(out, ANSWER_TTL_MS);
    }

    fn write_channel(&self, out: &mut BytesMut, publish: &Publish) {
        command::write_argument(out, &self.keys.channel_parts(publish.publication.channel()));
    }
}

fn write_message(out: &mut BytesMut, publish: &Publish) {
    let publication = &publish.publication;
    command::write_argument(out, &[&envelope::head(publication), publication.data()]);
}

/// Whether one call may carry both: then the second follows the first as if it came alone.
pub(super) fn go_together(first: &Waiting, second: &Waiting) -> bool {
    let is_free = |it: &Waiting| it.sent.is_none() && terms(&it.publish).is_none();
    let (left, right) = (&first.publish, &second.publish);
    left.retention.is_some()
        && left.retention == right.retention
        && left.publication.channel() == right.publication.channel()
        && is_free(first)
        && is_free(second)
}

/// The terms, if they are any at all.
fn terms(publish: &Publish) -> Option<&Terms> {
    let counts = |terms: &&Terms| !terms.idempotency_key.is_empty() || terms.version != 0;
    publish.terms.as_deref().filter(counts)
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
