//! What comes over a subscribe link: messages, confirmations and refusals.

use std::mem;

use bytes::Bytes;
use tokio::time::Instant;

use super::SubscribeLink;
use crate::{
    channels::{Confirmed, Refused, Verb},
    envelope,
    link::{
        connection::Connection,
        error::{LinkError, tells_elsewhere, tells_not_ready},
        value::{Frame, Value},
    },
    partition::Partition,
};

impl SubscribeLink {
    /// Takes all that one read brought.
    pub(super) fn receive(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        let received = self.receive_frames(connection);
        // What came before an error came all the same.
        self.batches.deliver(&self.interest);
        self.note_ended();
        self.line.note_round_trip(connection);
        received
    }

    fn receive_frames(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        while let Some(frame) = connection.next_frame()? {
            // A reply is counted as the answer to one command where it is read.
            let (before, replies) = match frame {
                Frame::Message { channel, payload } if self.is_probe(&channel) => {
                    self.receive_probe(&payload);
                    continue;
                }
                Frame::Message { channel, payload } => {
                    self.receive_message(&channel, payload);
                    continue;
                }
                Frame::Push(values) => {
                    let before = self.channels.unanswered();
                    self.receive_push(&values);
                    (before, 0)
                }
                Frame::Reply(answer) => {
                    let before = self.channels.unanswered();
                    self.receive_reply(&answer)?;
                    (before, 1)
                }
            };
            for _ in self.channels.unanswered() + replies..before {
                connection.note_answered();
            }
        }
        Ok(())
    }

    fn is_probe(&self, channel: &Bytes) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.name() == channel)
    }

    fn receive_probe(&self, payload: &[u8]) {
        let number = str::from_utf8(payload).ok().and_then(|number| number.parse().ok());
        self.line.health.note_heard(number.unwrap_or_default());
    }

    fn receive_message(&mut self, channel: &[u8], payload: Bytes) {
        self.line.metrics.messages_in.inc();
        // Messages of a channel that was forgotten meanwhile are nobody's.
        let Some((name, batch)) = self.channels.receiver(channel) else { return };
        match envelope::open(payload) {
            Ok(opened) => self.batches.gather(batch, opened.into_publication(name.clone())),
            Err(error) => {
                self.line.metrics.messages_skipped.inc();
                tracing::debug!(channel = %name, "message skipped: {error}");
            }
        }
    }

    fn receive_push(&mut self, values: &[Value]) {
        let [Value::Bulk(kind), Value::Bulk(channel), last] = values else { return };
        let verb = match &kind[..] {
            b"subscribe" | b"ssubscribe" => Verb::Subscribe,
            b"unsubscribe" | b"sunsubscribe" => Verb::Unsubscribe,
            b"message" | b"smessage" if matches!(last, Value::Skipped { .. }) => {
                self.line.metrics.messages_skipped.inc();
                tracing::debug!("message skipped: it is larger than this node takes");
                return;
            }
            _ => return,
        };
        match self.channels.confirm(verb, channel) {
            // It may have left in this moment, and stands no more.
            Confirmed::Stands(name) if !self.part.has(&name) => {}
            Confirmed::Stands(name) => {
                self.rereads.note_standing(|| Partition::of(&name));
                self.orders.note_standing(&name);
                self.interest.acknowledge(&name);
            }
            Confirmed::ProbeStands => self.line.health.note_listening(),
            Confirmed::Ended(name) => {
                self.ended += 1;
                self.orders.note_ended(&name);
                self.reread(Partition::of(&name));
                tracing::debug!(channel = %name, "redis ended a subscription, asking again");
            }
            Confirmed::Nothing => {}
        }
    }

    /// A move of slots or roles in a cluster ends thousands at once.
    fn note_ended(&mut self) {
        let ended = mem::take(&mut self.ended);
        if ended > 0 {
            self.line.metrics.subscribes_ended.inc_by(ended as u64);
            self.line.doubt();
            tracing::warn!(subscriptions = ended, "redis ended subscriptions, asking again");
        }
    }

    fn receive_reply(&mut self, answer: &Value) -> Result<(), LinkError> {
        match answer {
            // Nothing wanted is refused for that: it is asked for anew once Redis is ready.
            Value::Error(text) if tells_not_ready(text) => {
                Err(LinkError::NotReady(String::from_utf8_lossy(text).into_owned()))
            }
            Value::Error(text) if tells_elsewhere(text) => {
                self.channels.postpone(text.starts_with(b"MOVED "), Instant::now());
                self.line.doubt();
                Ok(())
            }
            Value::Error(text) => self.receive_refusal(text),
            Value::Simple(_) if self.channels.pass_fence() => Ok(()),
            _ => Err(unexpected("a reply to no command")),
        }
    }

    fn receive_refusal(&mut self, text: &[u8]) -> Result<(), LinkError> {
        match self.channels.refuse() {
            // Without it nothing can be proved: it is asked for anew on another connection.
            Refused::Probe => {
                return Err(LinkError::Refused(String::from_utf8_lossy(text).into_owned()));
            }
            Refused::Channel(channel) => {
                self.orders.note_standing(&channel);
                self.interest.refuse(&channel);
                self.line.metrics.subscribes_refused.inc();
                self.note_refusal(channel.as_str(), text);
            }
            Refused::Nothing => {}
        }
        Ok(())
    }

    /// Clients choose channels: one line tells the operator, more would be theirs to write.
    fn note_refusal(&mut self, channel: &str, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        if mem::replace(&mut self.has_warned, true) {
            tracing::debug!(%channel, "redis refused a subscription: {text}");
        } else {
            tracing::warn!(%channel, "redis refused a subscription: {text}");
        }
    }
}

fn unexpected(what: &str) -> LinkError {
    LinkError::Protocol(what.to_owned())
}
