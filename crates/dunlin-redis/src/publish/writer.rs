//! How publishes look on the link: plain ones as PUBLISH, or in a cluster as a call of a script;
//! those that are kept or happen only once as calls of scripts, and what follows one another in a
//! channel as one call.

use bytes::{Bytes, BytesMut};
use dunlin_core::{
    broker::{Publish, Terms},
    channel::ChannelName,
    namespace::Retention,
};

use super::sent::{Sent, Transaction};
use crate::{
    envelope::{self, Format},
    keys::{Keys, PubSub},
    link::command,
    partition::Partition,
    queue::{MessageId, Waiting},
    random,
    script::{Call, PUBLISH, PUBLISH_ONCE, PUBLISH_PLAIN},
    stream,
};

/// Writes publishes for one server.
pub(super) struct Writer {
    keys: Keys,
    format: Format,
    /// The key that never exists, where a write of nothing may go.
    never: Bytes,
    last_id: MessageId,
    reign: u32,
    /// How the next call of each script is made: the first on a connection is by text.
    keeping: Call,
    once: Call,
    plain: Call,
}

impl Writer {
    pub(super) fn new(keys: Keys, format: Format) -> Self {
        let last_id = MessageId::from(random()) << 64;
        let never = keys.never(Partition::FIRST);
        let [keeping, once, plain] = [Call::ByText; 3];
        Self { keys, format, never, last_id, reign: 0, keeping, once, plain }
    }

    /// Starts with a server, or anew with one that has forgotten the scripts.
    pub(super) fn meet(&mut self, reign: u32) {
        self.reign = reign;
        (self.keeping, self.once, self.plain) = (Call::ByText, Call::ByText, Call::ByText);
    }

    /// Writes publishes that go together as one call or one transaction, and says how many commands
    /// that are. What can be repeated has an id from now on.
    pub(super) fn write(
        &mut self,
        out: &mut BytesMut,
        mut together: Vec<Waiting>,
    ) -> (Sent, usize) {
        let is_repeat = together.iter().any(|waiting| waiting.sent.is_some());
        let first = &together[0].publish;
        let once = terms(first).map(|terms| terms.idempotency_key.clone());
        match (first.retention, once.filter(|key| !key.is_empty())) {
            (Some(retention), _) => {
                self.identify(&mut together);
                self.write_kept(out, &together, retention, is_repeat);
            }
            (None, Some(key)) => {
                self.write_once(out, first, &key);
                self.identify(&mut together);
            }
            (None, None) => {
                let commands = match self.keys.pub_sub() {
                    PubSub::Classic => self.write_transaction(out, &together),
                    PubSub::Sharded => self.write_plain(out, &together),
                };
                return (Sent::Together(Transaction::new(together, commands)), commands);
            }
        }
        (Sent::Repeatable(together), 1)
    }

    /// A transaction with a write in it, which a server that was demoted refuses as a whole: it
    /// would take the publishes alone, and give them to those who are subscribed there.
    fn write_transaction(&self, out: &mut BytesMut, together: &[Waiting]) -> usize {
        command::write(out, &[b"MULTI"]);
        command::begin(out, 2);
        command::write_argument(out, &[b"UNLINK"]);
        command::write_argument(out, &[&self.never]);
        for waiting in together {
            out.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n");
            self.write_channel(out, &waiting.publish);
            write_message(out, &waiting.publish, self.format);
        }
        command::write(out, &[b"EXEC"]);
        together.len() + 3
    }

    /// A call that only the primary of the partition's slot takes, all of it or nothing. Servers do
    /// not look at SPUBLISH like that, in a transaction neither.
    fn write_plain(&mut self, out: &mut BytesMut, together: &[Waiting]) -> usize {
        PUBLISH_PLAIN.write_call(out, self.plain, 1, 2 * together.len());
        self.plain = Call::ByHash;
        let partition = together[0].partition();
        command::write_argument(out, &[&self.keys.never(partition)]);
        for waiting in together {
            self.write_channel(out, &waiting.publish);
            write_message(out, &waiting.publish, self.format);
        }
        1
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
        let keys = 3 + usize::from(!key.is_empty());
        let arguments = 9 + 2 * together.len() + if terms.is_some() { 3 } else { 0 };
        PUBLISH.by(self.keys.pub_sub()).write_call(out, self.keeping, keys, arguments);
        self.keeping = Call::ByHash;
        command::write_argument(out, &self.keys.stream(channel));
        command::write_argument(out, &self.keys.meta(channel));
        command::write_argument(out, &self.keys.seed(Partition::of(channel)));
        if !key.is_empty() {
            command::write_argument(out, &[&self.keys.answer(channel, key)]);
        }
        write_keeping(out, &self.keys, self.reign, channel, retention);
        command::write_number(out, u64::from(is_repeat));
        command::write_number(out, together.len() as u64);
        for waiting in together {
            write_message(out, &waiting.publish, Format::Enveloped);
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
        PUBLISH_ONCE.by(self.keys.pub_sub()).write_call(out, self.once, 1, 3);
        self.once = Call::ByHash;
        command::write_argument(out, &[&self.keys.answer(publish.publication.channel(), key)]);
        self.write_channel(out, publish);
        write_message(out, publish, self.format);
        command::write_number(out, ANSWER_TTL_MS);
    }

    /// Brings together what one call may carry. What follows in a channel stays behind.
    pub(super) fn arrange(&self, batch: &mut [Waiting]) {
        if self.keys.pub_sub() == PubSub::Sharded {
            batch.sort_by_cached_key(|it| self.keys.group(it.publish.publication.channel()));
        }
    }

    /// Whether one call may carry both: then the second follows the first as if it came alone.
    pub(super) fn go_together(&self, first: &Waiting, second: &Waiting) -> bool {
        let is_free = |it: &Waiting| it.sent.is_none() && terms(&it.publish).is_none();
        let (left, right) = (first.publish.retention, second.publish.retention);
        let channels = [first, second].map(|it| it.publish.publication.channel());
        let is_same_channel = || channels[0] == channels[1];
        let is_same_group = || self.keys.group(channels[0]) == self.keys.group(channels[1]);
        left == right
            && (is_same_channel() || (left.is_none() && is_same_group()))
            && is_free(first)
            && is_free(second)
    }

    fn write_channel(&self, out: &mut BytesMut, publish: &Publish) {
        command::write_argument(out, &self.keys.channel_parts(publish.publication.channel()));
    }
}

/// The arguments that all scripts begin with that keep publications.
pub(super) fn write_keeping(
    out: &mut BytesMut,
    keys: &Keys,
    reign: u32,
    channel: &ChannelName,
    retention: Retention,
) {
    command::write_number(out, u64::from(reign));
    command::write_argument(out, &[&random().to_be_bytes()]);
    command::write_number(out, stream::milliseconds(retention.meta_ttl));
    command::write_number(out, stream::milliseconds(retention.ttl));
    let trim: &[u8] = if retention.size < SIZE_TRIMMED_ROUGHLY { b"=" } else { b"~" };
    command::write_argument(out, &[trim]);
    command::write_number(out, retention.size as u64);
    command::write_argument(out, &keys.channel_parts(channel));
}

pub(super) fn write_message(out: &mut BytesMut, publish: &Publish, format: Format) {
    let publication = &publish.publication;
    command::write_argument(out, &[&envelope::head(publication, format), publication.data()]);
}

/// The terms, if they are any at all.
fn terms(publish: &Publish) -> Option<&Terms> {
    let counts = |terms: &&Terms| !terms.idempotency_key.is_empty() || terms.version != 0;
    publish.terms.as_deref().filter(counts)
}

/// How long a publish with an idempotency key is remembered.
const ANSWER_TTL_MS: u64 = 5 * 60 * 1000;
/// From this size on a stream may be a little longer than asked for, which costs Redis less. A
/// reader does not see it.
const SIZE_TRIMMED_ROUGHLY: usize = 100;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dunlin_core::{
        broker::ReplyTo,
        channel::ChannelName,
        interest::Interest,
        publication::{Kind, Publication},
    };

    use super::*;
    use crate::{
        metrics::LinkMetrics,
        queue::{Queue, QueueBounds},
    };

    fn waiting(channels: &[&str]) -> Vec<Waiting> {
        let interest = Arc::new(Interest::new(Vec::new()));
        let queue = Queue::new(QueueBounds::default(), interest, LinkMetrics::default());
        queue.push(channels.iter().map(|channel| {
            let channel = ChannelName::new(channel).unwrap();
            let publication = Publication::new(channel, Kind::Text, "hello".into());
            (publication.into(), ReplyTo::Nobody)
        }));
        let mut batch = Vec::new();
        queue.take(&mut batch, channels.len(), usize::MAX, |_| true);
        batch
    }

    #[tokio::test]
    async fn in_a_cluster_plain_publishes_of_a_partition_are_one_call_and_no_transaction() {
        let partition = |name: &str| Partition::of(&ChannelName::new(name).unwrap());
        let names: Vec<_> = (0..).map(|number| format!("c{number}")).take(1000).collect();
        let is_near = |name: &&String| partition(name) == partition("c");
        let near = names.iter().find(is_near).unwrap();
        let far = names.iter().find(|name| !is_near(name)).unwrap();
        let publishes = waiting(&["c", near, far]);
        let keys = Keys::new("dunlin:");
        let alone = Writer::new(keys.clone(), Format::Enveloped);
        assert!(alone.go_together(&publishes[0], &publishes[2]));
        let mut writer = Writer::new(keys.sharded(), Format::Enveloped);
        assert!(writer.go_together(&publishes[0], &publishes[1]));
        assert!(!writer.go_together(&publishes[0], &publishes[2]));

        let (mut ordered, mut arranged) = ([0, 1], waiting(&[near, far, "c", far, near, "c"]));
        writer.arrange(&mut arranged);
        alone.arrange(&mut arranged);
        ordered.sort_by_key(|it| partition([near, far][*it]));
        let name = |it: &Waiting| it.publish.publication.channel().to_string();
        let names: Vec<_> = arranged.iter().map(name).collect();
        let groups = [vec![near, "c", near, "c"], vec![far, far]];
        assert_eq!(names, ordered.map(|it| groups[it].clone()).concat());

        for start in ["*8\r\n$4\r\nEVAL\r\n", "*8\r\n$7\r\nEVALSHA\r\n"] {
            let mut out = BytesMut::new();
            let (_, commands) = writer.write(&mut out, waiting(&["c", near]));
            assert!(commands == 1 && out.starts_with(start.as_bytes()), "{out:?}");
        }
    }
}
