//! The subscribe link: one task that keeps Redis told of what this node wants, and hands what
//! arrives in one read to the node, per channel as one batch. Because this one task reads the
//! socket, a channel has one order on the node: that in which Redis sent it.

mod batches;

mod links;

mod orders;

mod receive;

mod rereads;

use std::sync::Arc;

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
    channels::{Channels, Verb},
    keys::{Keys, PubSub},
    lane::{
        line::{Line, Next},
        probe_channel::ProbeChannel,
    },
    link::{
        connection::{Connection, Ear},
        error::LinkError,
        reach, stopped,
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
}
