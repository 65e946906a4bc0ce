//! The subscribe link: one task that keeps Redis told of what this node wants, and hands what
//! arrives in one read to the node, per channel as one batch. Because this one task reads the
//! socket, a channel has one order on the node: that in which Redis sent it.

mod batches;

mod links;

mod orders;

mod rereads;

use std::{mem, sync::Arc};

use bytes::Bytes;
use dunlin_core::interest::Interest;
use tokio::time::Instant;

pub(crate) use self::links::{Parts, SubscribeLinks};
use self::{
    batches::Batches,
    links::Part,
    orders::{Order, Orders},
    rereads::Rereads,
};
use crate::{
    channels::{Channels, Confirmed, Refused, Verb},
    envelope,
    keys::{Keys, PubSub},
    lane::{
        line::{Line, Next},
        probe_channel::ProbeChannel,
    },
    link::{
        connection::{Connection, Ear},
        error::{LinkError, tells_elsewhere, tells_not_ready},
        reach, stopped,
        value::{Frame, Value},
    },
    partition::{Partition, Partitions},
};

/// The task's state. [`SubscribeLink::run`] is the task.
struct SubscribeLink {
    line: Line,
    orders: Arc<Orders>,
    interest: Arc<Interest>,
    channels: Channels,
    batches: Batches,
    pub_sub: PubSub,
    part: Part,
    /// If it is here that they come back.
    probe: Option<ProbeChannel>,
    rereads: Rereads,
    /// Subscriptions that the last read told the end of.
    ended: usize,
    /// Whether this connection's first refused subscription was logged.
    has_warned: bool,
}

impl SubscribeLink {
    fn new(
        line: Line,
        orders: Arc<Orders>,
        interest: Arc<Interest>,
        keys: Keys,
        part: Part,
        probe: Option<ProbeChannel>,
    ) -> Self {
        Self {
            line,
            orders,
            interest,
            pub_sub: keys.pub_sub(),
            channels: Channels::new(keys),
            batches: Batches::default(),
            part,
            probe,
            rereads: Rereads::default(),
            ended: 0,
            has_warned: false,
        }
    }

    /// Keeps the subscriptions over one connection after the other until told to stop.
    async fn run(mut self) {
        let mut stop = self.line.stop.clone();
        let mut connection = tokio::select! {
            () = stopped(&mut stop) => return,
            connection = self.line.connect() => connection,
        };
        self.meet();
        loop {
            let lost = tokio::select! {
                // Still subscribed as far as the publish link can tell: its last publishes go out.
                () = stopped(&mut stop) => return self.lose(),
                lost = self.attend(&mut connection) => lost,
            };
            let is_silent = matches!(lost, LinkError::Silent(_));
            if !is_silent {
                self.lose();
            }
            let next = tokio::select! {
                () = stopped(&mut stop) => return self.lose(),
                next = self.line.next(connection, &lost) => next,
            };
            connection = match next {
                Next::Same(connection) => connection,
                Next::New(connection) => {
                    if is_silent {
                        self.lose();
                    }
                    self.meet();
                    connection
                }
            };
        }
    }

    fn lose(&self) {
        self.interest.lose(&|channel| self.part.has(channel));
    }

    fn start_over(&self, partitions: &[Partition]) {
        if !partitions.is_empty() {
            let some: Partitions = partitions.iter().collect();
            self.interest.start_over(&|channel| some.have(channel));
        }
    }

    /// Begins with a connection on which nothing stands yet.
    fn meet(&mut self) {
        // In this order: a wish is in the table of interest before its order is here to be dropped.
        let orders = self.orders.take();
        let arrived: Vec<_> = orders.iter().filter_map(Order::arrived).collect();
        self.start_over(&arrived);
        let wanted = self.interest.channels(&|channel| self.part.has(channel));
        self.orders.restart(&arrived, &wanted);
        if let Some(probe) = &mut self.probe {
            probe.follow();
        }
        self.channels.restart(self.probe.as_ref());
        for channel in &wanted {
            self.channels.want_back(channel);
        }
        orders.iter().filter_map(Order::wished).for_each(|channel| self.channels.hurry(channel));
        self.orders.note_channels(self.channels.wanted());
        let part = self.part.clone();
        Partition::all().filter(|it| part.has_partition(*it)).for_each(|it| self.reread(it));
        self.has_warned = false;
    }

    /// Has a partition read once more after it was subscribed to anew.
    fn reread(&mut self, partition: Partition) {
        if self.pub_sub == PubSub::Sharded {
            self.rereads.begin(partition);
        }
    }

    /// Returns why the connection was lost.
    async fn attend(&mut self, connection: &mut Connection) -> LinkError {
        let (server, place) = (connection.server, connection.endpoint.clone());
        let mut ear = Ear::Open;
        self.note_deaf(false);
        loop {
            let now = Instant::now();
            while let commands @ 1.. = self.channels.write_next(&mut connection.out, now) {
                connection.expect(commands);
            }
            let next_try = self.channels.next_try(now);
            let progress = tokio::select! {
                () = self.orders.filled() => {
                    self.take_orders();
                    continue;
                }
                () = self.interest.room(), if ear == Ear::Closed => {
                    ear = Ear::Open;
                    self.note_deaf(false);
                    continue;
                }
                () = reach(next_try) => continue,
                () = reach(self.rereads.next()) => {
                    let due = self.rereads.take_due(&self.orders.pending());
                    let due: Partitions = due.iter().collect();
                    self.interest.check(&|channel| due.have(channel));
                    continue;
                }
                elsewhere = self.line.elsewhere(server, place.as_ref()) => return elsewhere,
                progress = connection.progress(ear) => progress,
            };
            if let Err(lost) = progress.and_then(|_| self.receive(connection)) {
                return lost;
            }
            if !self.interest.has_room() {
                // Not reading is how a slow node makes Redis feel it.
                ear = Ear::Closed;
                self.note_deaf(true);
            }
        }
    }

    /// Whoever does not listen hears no probe.
    fn note_deaf(&self, is_deaf: bool) {
        if self.probe.is_some() {
            self.line.health.note_deaf(is_deaf);
        }
    }

    fn take_orders(&mut self) {
        let orders = self.orders.take();
        for run in orders.chunk_by(Order::go_together) {
            match &run[0] {
                Order::Arrive(_) => self.arrive(&Order::partitions(run)),
                Order::Leave(_) => self.channels.leave(&Order::partitions(run)),
                _ => run.iter().for_each(|order| self.take_order(order)),
            }
        }
        if let Some(probe) = &mut self.probe
            && let Some(left) = probe.follow()
        {
            self.channels.move_probe(&left, probe);
        }
        self.orders.note_channels(self.channels.wanted());
    }

    fn take_order(&mut self, order: &Order) {
        match order {
            Order::Channel(Verb::Subscribe, channel) if self.channels.want(channel) => {
                self.orders.note_standing(channel);
                self.interest.acknowledge(channel);
            }
            Order::Channel(Verb::Unsubscribe, channel) => self.channels.unwant(channel),
            _ => {}
        }
    }

    /// What happened in partitions before they came here is to be asked for.
    fn arrive(&mut self, partitions: &[Partition]) {
        self.start_over(partitions);
        let arrived: Partitions = partitions.iter().collect();
        let wanted = self.interest.channels(&|channel| arrived.have(channel));
        self.orders.restart(partitions, &wanted);
        for partition in partitions {
            self.channels.arrive(*partition);
            self.reread(*partition);
        }
        for channel in &wanted {
            self.channels.want_back(channel);
        }
    }

    /// Takes all that one read brought.
    fn receive(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
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
