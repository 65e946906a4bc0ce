//! Which members a node wants Redis to have, and which of those wishes Redis may not know; by
//! partition, since what is told together has to be of one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use dunlin_core::{channel::ChannelName, presence::Farewell, publication::ClientInfo};
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::member;
use crate::partition::Partition;

/// The table of a node, as large as its connections have memberships. A wish that has to be told is
/// a name only: what is told is what is wanted then, so wishes cannot overtake each other.
#[derive(Default)]
pub(super) struct Wishes {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    partitions: HashMap<Partition, Share>,
    /// The partitions with fresh wishes, in the order of the oldest ones; a busy one keeps its
    /// place.
    fresh: VecDeque<Partition>,
    leaving: Option<oneshot::Sender<()>>,
    /// Nobody tells Redis anything any more.
    is_closed: bool,
}

/// What is wanted in one partition.
#[derive(Default)]
struct Share {
    members: HashMap<ChannelName, Members>,
    /// How many they are, in all channels.
    member_count: usize,
    /// Wishes that someone waits for, in their order.
    fresh: VecDeque<(Member, oneshot::Sender<()>)>,
    /// Wishes that Redis may not know any more.
    again: HashSet<Member, RandomState>,
}

/// What is known of the members of a channel, by client.
type Members = HashMap<Arc<str>, (ClientInfo, Farewell), RandomState>;

/// A client in a channel.
type Member = (ChannelName, Arc<str>);

/// What to tell Redis of a member.
pub(super) struct Change {
    pub(super) channel: ChannelName,
    pub(super) client: Arc<str>,
    /// What is known of it; nothing when it left.
    pub(super) info: Bytes,
    /// Who waits for it.
    done: Option<oneshot::Sender<()>>,
}

impl Change {
    /// Whether nobody waits for it: Redis was told before, and may have forgotten.
    pub(super) fn is_again(&self) -> bool {
        self.done.is_none()
    }

    fn bytes(&self) -> usize {
        self.channel.as_str().len() + self.client.len() + self.info.len()
    }
}

impl Wishes {
    /// How many members Redis should have.
    pub(super) fn member_count(&self) -> usize {
        self.state.lock().partitions.values().map(|share| share.member_count).sum()
    }

    /// Notes a wish for a member; the other end learns that Redis knows.
    pub(super) fn add(
        &self,
        channel: &ChannelName,
        info: &ClientInfo,
        farewell: Farewell,
    ) -> oneshot::Receiver<()> {
        self.wish(channel, &info.client, |share| {
            let members = share.members.entry(channel.clone()).or_default();
            let known = members.insert(Arc::clone(&info.client), (info.clone(), farewell));
            share.member_count += usize::from(known.is_none());
        })
    }

    /// Notes that a member is gone; the other end learns that Redis knows.
    pub(super) fn remove(&self, channel: &ChannelName, client: &str) -> oneshot::Receiver<()> {
        self.wish(channel, &client.into(), |share| {
            let Some(members) = share.members.get_mut(channel) else { return };
            share.member_count -= usize::from(members.remove(client).is_some());
            if members.is_empty() {
                share.members.remove(channel);
            }
        })
    }

    fn wish(
        &self,
        channel: &ChannelName,
        client: &Arc<str>,
        change: impl FnOnce(&mut Share),
    ) -> oneshot::Receiver<()> {
        let (done, known) = oneshot::channel();
        let partition = Partition::of(channel);
        let mut state = self.state.lock();
        if !state.is_closed {
            let share = state.partitions.entry(partition).or_default();
            change(share);
            share.fresh.push_back(((channel.clone(), Arc::clone(client)), done));
            if share.fresh.len() == 1 {
                state.fresh.push_back(partition);
            }
        }
        drop(state);
        self.filled.notify_one();
        known
    }

    /// Wants nobody any more, for good; the other end learns that Redis knows.
    pub(super) fn leave(&self) -> oneshot::Receiver<()> {
        let (done, known) = oneshot::channel();
        let mut state = self.state.lock();
        if !state.is_closed {
            *state = State { leaving: Some(done), is_closed: true, ..State::default() };
        }
        drop(state);
        self.filled.notify_one();
        known
    }

    /// Tells all who wait, and all who come, that Redis is never told.
    pub(super) fn close(&self) {
        *self.state.lock() = State { is_closed: true, ..State::default() };
    }

    /// Who waits for the node to leave.
    pub(super) fn take_leaving(&self) -> Option<oneshot::Sender<()>> {
        self.state.lock().leaving.take()
    }

    /// Waits until a wish comes. Cancel-safe.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Whether Redis may not know some wishes any more.
    pub(super) fn has_again(&self) -> bool {
        self.state.lock().partitions.values().any(|share| !share.again.is_empty())
    }

    /// The same of one partition.
    pub(super) fn has_again_in(&self, partition: Partition) -> bool {
        let state = self.state.lock();
        state.partitions.get(&partition).is_some_and(|share| !share.again.is_empty())
    }

    /// What to tell Redis next, in a partition that `is_idle`: the oldest fresh wishes, and if it
    /// is time some of those to tell again. None if there is nothing.
    pub(super) fn take(
        &self,
        is_idle: impl Fn(Partition) -> bool,
        is_time_for_again: bool,
    ) -> Option<(Partition, Vec<Change>)> {
        let mut state = self.state.lock();
        let State { partitions, fresh, .. } = &mut *state;
        let partition = match fresh.iter().position(|partition| is_idle(*partition)) {
            Some(place) => fresh.remove(place)?,
            None if is_time_for_again => {
                let mut shares = partitions.iter();
                *shares
                    .find(|(partition, share)| !share.again.is_empty() && is_idle(**partition))?
                    .0
            }
            None => return None,
        };
        let share = partitions.get_mut(&partition)?;
        let changes = share.take(is_time_for_again);
        if !share.fresh.is_empty() {
            fresh.push_back(partition);
        } else if share.is_empty() {
            partitions.remove(&partition);
        }
        Some((partition, changes))
    }

    /// Redis knows these.
    pub(super) fn note_told(&self, changes: Vec<Change>) {
        for done in changes.into_iter().filter_map(|change| change.done) {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }

    /// Redis may know these or not: those who wait are told, and it will be told again.
    pub(super) fn note_untold(&self, partition: Partition, changes: Vec<Change>) {
        let mut state = self.state.lock();
        if !state.is_closed && !changes.is_empty() {
            let members = changes.into_iter().map(|change| (change.channel, change.client));
            state.partitions.entry(partition).or_default().again.extend(members);
        }
    }

    /// Redis has forgotten some members of a partition, or all, and did not take these changes: it
    /// will be told again, also of those who left.
    pub(super) fn note_forgotten(&self, partition: Partition, changes: Vec<Change>) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        let State { partitions, fresh, .. } = &mut *state;
        let share = partitions.entry(partition).or_default();
        let was_fresh = !share.fresh.is_empty();
        for change in changes.into_iter().rev() {
            let member = (change.channel, change.client);
            match change.done {
                Some(done) => share.fresh.push_front((member, done)),
                None => _ = share.again.insert(member),
            }
        }
        if !was_fresh && !share.fresh.is_empty() {
            fresh.push_back(partition);
        }
        let Share { members, again, .. } = share;
        again.extend(members.iter().flat_map(|(channel, members)| {
            members.keys().map(|client| (channel.clone(), Arc::clone(client)))
        }));
        if share.is_empty() {
            partitions.remove(&partition);
        }
    }
}

impl Share {
    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.fresh.is_empty() && self.again.is_empty()
    }

    fn take(&mut self, is_time_for_again: bool) -> Vec<Change> {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        while changes.len() < CHANGES
            && bytes < BYTES
            && let Some((member, done)) = self.fresh.pop_front()
        {
            // Told now, it need not be told again.
            self.again.remove(&member);
            let change = self.change(member, Some(done));
            bytes += change.bytes();
            changes.push(change);
        }
        if is_time_for_again {
            let some: Vec<_> = self.again.iter().take(CHANGES - changes.len()).cloned().collect();
            for member in some {
                if bytes >= BYTES {
                    break;
                }
                self.again.remove(&member);
                let change = self.change(member, None);
                bytes += change.bytes();
                changes.push(change);
            }
        }
        changes
    }

    fn change(&self, (channel, client): Member, done: Option<oneshot::Sender<()>>) -> Change {
        let known = self.members.get(&channel).and_then(|members| members.get(&client));
        let write = |(info, farewell): &_| member::write(&channel, info, *farewell);
        let info = known.map_or(Bytes::new(), write);
        Change { channel, client, info, done }
    }
}

/// The bounds of one call, so that other clients of the server do not wait for it.
const CHANGES: usize = 256;
const BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
