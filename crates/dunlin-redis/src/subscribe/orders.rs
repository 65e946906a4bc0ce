//! What other threads order of the subscribe link, and which of it does not stand yet.

use std::{
    collections::HashSet,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use dunlin_core::channel::ChannelName;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{channels::Verb, partition::Partition};

/// See the module's text.
#[derive(Default)]
pub(super) struct Orders {
    state: Mutex<State>,
    filled: Notify,
    stood: Arc<Notify>,
    /// Kept beside the state, to be asked before every publish.
    is_any_pending: AtomicBool,
    /// How many channels the link has.
    channels: AtomicUsize,
}

/// What the link has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    Channel(Verb, ChannelName),
    /// The lane has this partition from now on.
    Arrive(Partition),
    /// And this one no more.
    Leave(Partition),
    /// The probe may have gone elsewhere.
    Probe,
}

impl Order {
    pub(super) fn partition(&self) -> Option<Partition> {
        match self {
            Self::Arrive(partition) | Self::Leave(partition) => Some(*partition),
            Self::Channel(..) | Self::Probe => None,
        }
    }

    pub(super) fn partitions(orders: &[Self]) -> Vec<Partition> {
        orders.iter().filter_map(Self::partition).collect()
    }

    pub(super) fn arrived(&self) -> Option<Partition> {
        self.partition().filter(|_| matches!(self, Self::Arrive(_)))
    }

    pub(super) fn wished(&self) -> Option<&ChannelName> {
        match self {
            Self::Channel(Verb::Subscribe, channel) => Some(channel),
            _ => None,
        }
    }

    /// Whether both may be followed in one go.
    pub(super) fn go_together(&self, other: &Self) -> bool {
        mem::discriminant(self) == mem::discriminant(other)
    }
}

#[derive(Default)]
struct State {
    queue: Vec<Order>,
    /// Wanted, and not confirmed: what is published there now may pass its subscribers by.
    pending: HashSet<ChannelName, RandomState>,
    /// The same for all that is wanted there, which the link has not looked up yet.
    arriving: Vec<Partition>,
}

impl State {
    fn is_any_pending(&self) -> bool {
        !self.pending.is_empty() || !self.arriving.is_empty()
    }

    /// What is on its way out: orders that the link has yet to follow are newer than what it found.
    fn leaving(&self) -> HashSet<&ChannelName, RandomState> {
        let mut leaving = HashSet::default();
        for order in &self.queue {
            match order {
                Order::Channel(Verb::Unsubscribe, channel) => leaving.insert(channel),
                Order::Channel(Verb::Subscribe, channel) => leaving.remove(channel),
                _ => false,
            };
        }
        leaving
    }

    fn is_pending(&self, channel: &ChannelName) -> bool {
        self.pending.contains(channel)
            || !self.arriving.is_empty() && self.arriving.contains(&Partition::of(channel))
    }
}

impl Orders {
    /// No orders; `stood` is told of channels that stand.
    pub(super) fn new(stood: Arc<Notify>) -> Self {
        Self { stood, ..Self::default() }
    }

    pub(super) fn channels(&self) -> usize {
        self.channels.load(Ordering::Relaxed)
    }

    /// Whether the link has looked up all it has.
    pub(super) fn is_settled(&self) -> bool {
        let state = self.state.lock();
        let is_move = |order: &Order| order.partition().is_some();
        state.arriving.is_empty() && !state.queue.iter().any(is_move)
    }

    pub(super) fn note_channels(&self, count: usize) {
        self.channels.store(count, Ordering::Relaxed);
    }

    pub(super) fn push(&self, verb: Verb, channel: ChannelName) {
        self.change(|state| {
            match verb {
                Verb::Subscribe => {
                    state.pending.insert(channel.clone());
                }
                Verb::Unsubscribe => {
                    state.pending.remove(&channel);
                }
            }
            state.queue.push(Order::Channel(verb, channel));
        });
    }

    pub(super) fn push_arrive(&self, partition: Partition) {
        self.change(|state| {
            state.arriving.push(partition);
            state.queue.push(Order::Arrive(partition));
        });
    }

    pub(super) fn push_leave(&self, partition: Partition) {
        self.change(|state| {
            state.arriving.retain(|arriving| *arriving != partition);
            state.pending.retain(|channel| Partition::of(channel) != partition);
            state.queue.push(Order::Leave(partition));
        });
    }

    pub(super) fn push_probe(&self) {
        self.change(|state| state.queue.push(Order::Probe));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        self.note(&state);
        drop(state);
        self.filled.notify_one();
    }

    pub(super) fn take(&self) -> Vec<Order> {
        mem::take(&mut self.state.lock().queue)
    }

    /// Cancel-safe.
    pub(super) async fn filled(&self) {
        while self.state.lock().queue.is_empty() {
            self.filled.notified().await;
        }
    }

    /// These partitions have been looked up, and of what was found nothing stands yet.
    pub(super) fn restart(&self, arrived: &[Partition], wanted: &[ChannelName]) {
        let mut state = self.state.lock();
        state.arriving.retain(|arriving| !arrived.contains(arriving));
        let leaving = state.leaving();
        let staying: Vec<_> =
            wanted.iter().filter(|channel| !leaving.contains(channel)).cloned().collect();
        state.pending.extend(staying);
        self.note(&state);
        drop(state);
        self.stood.notify_one();
    }

    /// Redis has ended a subscription that is wanted.
    pub(super) fn note_ended(&self, channel: &ChannelName) {
        let mut state = self.state.lock();
        if !state.leaving().contains(channel) {
            state.pending.insert(channel.clone());
            self.note(&state);
        }
    }

    /// Nobody waits for this channel any more: it stands, or cannot be had.
    pub(super) fn note_standing(&self, channel: &ChannelName) {
        if !self.is_any_pending.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        if state.pending.remove(channel) {
            self.note(&state);
            self.stood.notify_one();
        }
    }

    fn note(&self, state: &State) {
        self.is_any_pending.store(state.is_any_pending(), Ordering::Release);
    }

    /// Where channels are wanted that do not stand.
    pub(super) fn pending(&self) -> HashSet<Partition> {
        let state = self.state.lock();
        let pending = state.pending.iter().map(Partition::of);
        pending.chain(state.arriving.iter().copied()).collect()
    }

    /// Whether what is published to a channel now reaches its subscribers on this node.
    pub(super) fn stands(&self, channel: &ChannelName) -> bool {
        !self.is_any_pending.load(Ordering::Acquire) || !self.state.lock().is_pending(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stands_in_a_partition_that_arrives_until_it_was_looked_up() {
        let orders = Orders::default();
        let [wanted, other] = ["wanted", "other"].map(|it| ChannelName::new(it).unwrap());
        let partition = Partition::of(&wanted);
        orders.push_arrive(partition);
        assert!(!orders.stands(&wanted) && orders.stands(&other));
        assert_eq!(orders.take(), [Order::Arrive(partition)]);
        orders.restart(&[partition], std::slice::from_ref(&wanted));
        assert!(!orders.stands(&wanted));
        orders.note_standing(&wanted);
        assert!(orders.stands(&wanted));
    }

    #[test]
    fn what_ended_by_itself_does_not_stand() {
        let orders = Orders::default();
        let wanted = ChannelName::new("wanted").unwrap();
        orders.note_ended(&wanted);
        assert!(!orders.stands(&wanted));
    }

    #[test]
    fn nobody_waits_for_what_left_while_it_was_looked_up() {
        let orders = Orders::default();
        let wanted = ChannelName::new("wanted").unwrap();
        orders.push(Verb::Unsubscribe, wanted.clone());
        orders.restart(&[], std::slice::from_ref(&wanted));
        orders.note_ended(&wanted);
        assert!(orders.stands(&wanted));
        orders.push(Verb::Subscribe, wanted.clone());
        orders.restart(&[], std::slice::from_ref(&wanted));
        assert!(!orders.stands(&wanted));
    }

    #[test]
    fn nobody_waits_for_what_has_left() {
        let orders = Orders::default();
        let wanted = ChannelName::new("wanted").unwrap();
        orders.push(Verb::Subscribe, wanted.clone());
        assert!(!orders.stands(&wanted));
        orders.push_leave(Partition::of(&wanted));
        assert!(orders.stands(&wanted));
    }
}
