//! Which members a node wants Redis to have, and which of those wishes Redis may not know.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use dunlin_core::{channel::ChannelName, publication::ClientInfo};
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::member;

/// The table of a node, as large as its connections have memberships. A wish that has to be told is
/// a name only: what is told is what is wanted then, so wishes cannot overtake each other.
#[derive(Default)]
pub(super) struct Wishes {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    members: HashMap<ChannelName, HashMap<Arc<str>, ClientInfo, RandomState>, RandomState>,
    /// Wishes that someone waits for, in their order.
    fresh: VecDeque<(Member, oneshot::Sender<()>)>,
    /// Wishes that Redis may not know any more.
    again: HashSet<Member, RandomState>,
    leaving: Option<oneshot::Sender<()>>,
    /// Nobody tells Redis anything any more.
    is_closed: bool,
}

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
    fn bytes(&self) -> usize {
        self.channel.as_str().len() + self.client.len() + self.info.len()
    }
}

impl Wishes {
    /// Notes a wish for a member; the other end learns that Redis knows.
    pub(super) fn add(&self, channel: &ChannelName, info: &ClientInfo) -> oneshot::Receiver<()> {
        self.wish(channel, &info.client, |state| {
            let members = state.members.entry(channel.clone()).or_default();
            members.insert(Arc::clone(&info.client), info.clone());
        })
    }

    /// Notes that a member is gone; the other end learns that Redis knows.
    pub(super) fn remove(&self, channel: &ChannelName, client: &str) -> oneshot::Receiver<()> {
        self.wish(channel, &client.into(), |state| {
            let Some(members) = state.members.get_mut(channel) else { return };
            members.remove(client);
            if members.is_empty() {
                state.members.remove(channel);
            }
        })
    }

    fn wish(
        &self,
        channel: &ChannelName,
        client: &Arc<str>,
        change: impl FnOnce(&mut State),
    ) -> oneshot::Receiver<()> {
        let (done, known) = oneshot::channel();
        let mut state = self.state.lock();
        if !state.is_closed {
            change(&mut state);
            state.fresh.push_back(((channel.clone(), Arc::clone(client)), done));
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
        !self.state.lock().again.is_empty()
    }

    /// What to tell Redis next: the oldest fresh wishes, and if it is time some of those to tell
    /// again.
    pub(super) fn take(&self, is_time_for_again: bool) -> Vec<Change> {
        let mut state = self.state.lock();
        let mut changes = Vec::new();
        let mut bytes = 0;
        while changes.len() < CHANGES
            && bytes < BYTES
            && let Some((member, done)) = state.fresh.pop_front()
        {
            // Told now, it need not be told again.
            state.again.remove(&member);
            let change = state.change(member, Some(done));
            bytes += change.bytes();
            changes.push(change);
        }
        if is_time_for_again {
            let some: Vec<_> = state.again.iter().take(CHANGES - changes.len()).cloned().collect();
            for member in some {
                if bytes >= BYTES {
                    break;
                }
                state.again.remove(&member);
                let change = state.change(member, None);
                bytes += change.bytes();
                changes.push(change);
            }
        }
        changes
    }

    /// Redis knows these.
    pub(super) fn note_told(&self, changes: Vec<Change>) {
        for done in changes.into_iter().filter_map(|change| change.done) {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }

    /// Redis may know these or not: those who wait are told, and it will be told again.
    pub(super) fn note_untold(&self, changes: Vec<Change>) {
        let mut state = self.state.lock();
        state.again.extend(changes.into_iter().map(|change| (change.channel, change.client)));
    }

    /// Redis has forgotten all members and did not take these changes: it will be told again.
    pub(super) fn note_forgotten(&self, changes: Vec<Change>) {
        let mut state = self.state.lock();
        for change in changes.into_iter().rev() {
            if let Some(done) = change.done {
                state.fresh.push_front(((change.channel, change.client), done));
            }
        }
        let State { members, again, .. } = &mut *state;
        again.clear();
        again.extend(members.iter().flat_map(|(channel, members)| {
            members.keys().map(|client| (channel.clone(), Arc::clone(client)))
        }));
    }
}

impl State {
    fn change(&self, (channel, client): Member, done: Option<oneshot::Sender<()>>) -> Change {
        let info = self.members.get(&channel).and_then(|members| members.get(&client));
        let info = info.map_or(Bytes::new(), member::write);
        Change { channel, client, info, done }
    }
}

/// The bounds of one call, so that other clients of the server do not wait for it.
const CHANGES: usize = 256;
const BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
