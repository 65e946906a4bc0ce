//! The subscribe link: one task that keeps Redis told of what this node wants, and hands what
//! arrives in one read to the node, per channel as one batch. Because this one task reads the
//! socket, a channel has one order on the node: that in which Redis sent it.

use std::{mem, sync::Arc};

use bytes::Bytes;
use dunlin_core::{channel::ChannelName, interest::Interest, publication::Publication};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::{
    channels::{Channels, Confirmed, Verb},
    envelope,
    keys::Keys,
    link::{
        connection::{Connection, Ear},
        dial::Dialer,
        error::{LinkError, tells_not_ready},
        stopped,
        value::{Frame, Value},
    },
    metrics::{LinkLabel, LinkMetrics, RoundTripSeconds},
};

/// What other threads order of the subscribe link.
#[derive(Default)]
pub(crate) struct Orders {
    queue: Mutex<Vec<(Verb, ChannelName)>>,
    filled: Notify,
}

impl Orders {
    pub(crate) fn push(&self, verb: Verb, channel: ChannelName) {
        let was_empty = {
            let mut queue = self.queue.lock();
            queue.push((verb, channel));
            queue.len() == 1
        };
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn take(&self) -> Vec<(Verb, ChannelName)> {
        mem::take(&mut self.queue.lock())
    }

    /// Cancel-safe.
    async fn filled(&self) {
        while self.queue.lock().is_empty() {
            self.filled.notified().await;
        }
    }
}

/// The task's state. [`SubscribeLink::run`] is the task.
pub(crate) struct SubscribeLink {
    dialer: Arc<Dialer>,
    orders: Arc<Orders>,
    interest: Arc<Interest>,
    metrics: LinkMetrics,
    round_trip_seconds: RoundTripSeconds,
    stop: watch::Receiver<bool>,
    channels: Channels,
    batches: Batches,
    is_subscribed: bool,
    /// Whether this connection's first refused subscription was logged.
    has_warned: bool,
}

impl SubscribeLink {
    pub(crate) fn new(
        dialer: Arc<Dialer>,
        orders: Arc<Orders>,
        interest: Arc<Interest>,
        keys: Keys,
        metrics: LinkMetrics,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let round_trip_seconds =
            metrics.round_trip_seconds.get_or_create_owned(&LinkLabel::SUBSCRIBE);
        Self {
            dialer,
            orders,
            interest,
            metrics,
            round_trip_seconds,
            stop,
            channels: Channels::new(keys),
            batches: Batches::default(),
            is_subscribed: false,
            has_warned: false,
        }
    }

    /// Keeps the subscriptions over `connection` and its successors until told to stop.
    pub(crate) async fn run(mut self, mut connection: Connection) {
        let mut stop = self.stop.clone();
        loop {
            let lost = tokio::select! {
                // Still subscribed as far as the publish link can tell: its last publishes go out.
                () = stopped(&mut stop) => return self.interest.lose(),
                lost = self.attend(connection) => lost,
            };
            self.mark_lost();
            let address = self.dialer.to_string();
            tracing::warn!(address, link = "subscribe", "redis {lost}");
            connection = tokio::select! {
                () = stopped(&mut stop) => return,
                connection = self.dialer.redial(&lost) => connection,
            };
            self.metrics.reconnects.get_or_create(&LinkLabel::SUBSCRIBE).inc();
            tracing::info!(address, link = "subscribe", "redis is back");
        }
    }

    fn mark_lost(&mut self) {
        self.is_subscribed = false;
        self.metrics.health.set_subscribed(false);
        self.interest.lose();
    }

    /// Returns why the connection was lost.
    async fn attend(&mut self, mut connection: Connection) -> LinkError {
        // In this order: a wish is in the table of interest before its order is here to be dropped.
        self.orders.take();
        self.channels.restart(self.interest.channels());
        self.has_warned = false;
        let mut ear = Ear::Open;
        loop {
            if self.channels.write_next(&mut connection.out) {
                connection.expect(1);
            }
            self.note_subscribed();
            let progress = tokio::select! {
                () = self.orders.filled() => {
                    self.take_orders();
                    continue;
                }
                () = self.interest.room(), if ear == Ear::Closed => {
                    ear = Ear::Open;
                    continue;
                }
                progress = connection.progress(ear) => progress,
            };
            if let Err(lost) = progress.and_then(|_| self.receive(&mut connection)) {
                return lost;
            }
            if !self.interest.has_room() {
                // Not reading is how a slow node makes Redis feel it.
                ear = Ear::Closed;
            }
        }
    }

    fn note_subscribed(&mut self) {
        if !self.is_subscribed && self.channels.all_stand() {
            self.is_subscribed = true;
            self.metrics.health.set_subscribed(true);
        }
    }

    fn take_orders(&mut self) {
        for (verb, channel) in self.orders.take() {
            match verb {
                Verb::Subscribe if self.channels.want(&channel) => {
                    self.interest.acknowledge(&channel);
                }
                Verb::Subscribe => {}
                Verb::Unsubscribe => self.channels.unwant(&channel),
            }
        }
    }

    /// Takes all that one read brought.
    fn receive(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        let received = self.receive_frames(connection);
        // What came before an error came all the same.
        self.batches.deliver(&self.interest);
        self.round_trip_seconds.set(connection.round_trip().as_secs_f64());
        received
    }

    fn receive_frames(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        while let Some(frame) = connection.next_frame()? {
            match frame {
                Frame::Message { channel, payload } => self.receive_message(&channel, payload),
                Frame::Push(values) => {
                    let was_in_flight = self.channels.is_in_flight();
                    self.receive_push(&values);
                    if was_in_flight && !self.channels.is_in_flight() {
                        connection.note_answered();
                    }
                }
                // Nothing wanted is refused for that: it is asked for anew once Redis is ready.
                Frame::Reply(Value::Error(text)) if tells_not_ready(&text) => {
                    return Err(LinkError::NotReady(String::from_utf8_lossy(&text).into_owned()));
                }
                Frame::Reply(Value::Error(text)) => self.receive_error(&text),
                Frame::Reply(_) => return Err(unexpected("a reply to no command")),
            }
        }
        Ok(())
    }

    fn receive_message(&mut self, channel: &[u8], payload: Bytes) {
        self.metrics.messages_in.inc();
        // Messages of a channel that was forgotten meanwhile are nobody's.
        let Some(entry) = self.channels.get_mut(channel) else { return };
        match envelope::open(payload) {
            Ok(opened) => {
                let publication = opened.into_publication(entry.name.clone());
                self.batches.gather(&mut entry.batch, publication);
            }
            Err(error) => {
                self.metrics.messages_skipped.inc();
                tracing::debug!(channel = %entry.name, "message skipped: {error}");
            }
        }
    }

    fn receive_push(&mut self, values: &[Value]) {
        let [Value::Bulk(kind), Value::Bulk(channel), last] = values else { return };
        let verb = match &kind[..] {
            b"subscribe" => Verb::Subscribe,
            b"unsubscribe" => Verb::Unsubscribe,
            b"message" if matches!(last, Value::Skipped { .. }) => {
                self.metrics.messages_skipped.inc();
                tracing::debug!("message skipped: it is larger than this node takes");
                return;
            }
            _ => return,
        };
        match self.channels.confirm(verb, channel) {
            Confirmed::Stands(name) => self.interest.acknowledge(&name),
            Confirmed::Ended(name) => {
                self.metrics.subscribes_ended.inc();
                tracing::warn!(channel = %name, "redis ended a subscription, asking again");
            }
            Confirmed::Nothing => {}
        }
    }

    fn receive_error(&mut self, text: &[u8]) {
        if let Some(channel) = self.channels.refuse() {
            self.interest.refuse(&channel);
            self.metrics.subscribes_refused.inc();
            let text = String::from_utf8_lossy(text);
            // Clients choose channels: one line tells the operator, more would be theirs to write.
            if mem::replace(&mut self.has_warned, true) {
                tracing::debug!(%channel, "redis refused a subscription: {text}");
            } else {
                tracing::warn!(%channel, "redis refused a subscription: {text}");
            }
        }
    }
}

/// A bug of ours must not look like a link that stands.
impl Drop for SubscribeLink {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.metrics.health.set_subscribed(false);
        }
    }
}

fn unexpected(what: &str) -> LinkError {
    LinkError::Protocol(what.to_owned())
}

/// What one read brought, by channel and in each channel's order. Its buffers are used again.
#[derive(Default)]
struct Batches {
    batches: Vec<Batch>,
    used: usize,
    turn: u64,
}

struct Batch {
    channel: ChannelName,
    publications: Vec<Arc<Publication>>,
}

impl Batches {
    /// Appends to the batch that `noted` names if it is of this turn, else starts one and notes it.
    fn gather(&mut self, noted: &mut (u64, usize), publication: Publication) {
        if self.used == 0 {
            self.turn += 1;
        }
        if noted.0 != self.turn {
            *noted = (self.turn, self.used);
            self.start(publication.channel());
        }
        self.batches[noted.1].publications.push(Arc::new(publication));
    }

    fn start(&mut self, channel: &ChannelName) {
        match self.batches.get_mut(self.used) {
            Some(batch) => batch.channel = channel.clone(),
            None => {
                self.batches.push(Batch { channel: channel.clone(), publications: Vec::new() });
            }
        }
        self.used += 1;
    }

    fn deliver(&mut self, interest: &Interest) {
        for batch in &mut self.batches[..self.used] {
            interest.deliver(&batch.channel, &batch.publications);
            batch.publications.clear();
        }
        self.used = 0;
    }
}
