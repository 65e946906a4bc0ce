//! The presence of a node that is alone: its members are all there are.

use std::{
    collections::{HashMap, hash_map},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use foldhash::quality::RandomState;
use parking_lot::Mutex;

use crate::{
    channel::ChannelName,
    error::BrokerLost,
    presence::{Farewell, MEMBERS_MAX, Members, PresenceStats, PresenceStore},
    publication::ClientInfo,
};

/// Knows the members of channels within one node. They die with it, and no lease is needed.
#[derive(Default)]
pub struct MemoryPresence {
    channels: Mutex<HashMap<ChannelName, Channel, RandomState>>,
    member_count: AtomicUsize,
}

/// The members of a channel; there is at least one.
#[derive(Default)]
struct Channel {
    clients: HashMap<Arc<str>, ClientInfo, RandomState>,
    /// How many clients each user has here, so that users are counted without looking at them.
    users: HashMap<Arc<str>, usize, RandomState>,
}

impl MemoryPresence {
    /// A store without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl PresenceStore for MemoryPresence {
    /// There is nobody left to tell of the end of this node.
    async fn add(
        &self,
        channel: &ChannelName,
        info: &ClientInfo,
        _farewell: Farewell,
    ) -> Result<(), BrokerLost> {
        let is_new = self.channels.lock().entry(channel.clone()).or_default().add(info.clone());
        self.member_count.fetch_add(usize::from(is_new), Ordering::Relaxed);
        Ok(())
    }

    async fn remove(&self, channel: &ChannelName, client: &str) -> Result<(), BrokerLost> {
        if let hash_map::Entry::Occupied(mut members) = self.channels.lock().entry(channel.clone())
        {
            let was_there = members.get_mut().remove(client);
            self.member_count.fetch_sub(usize::from(was_there), Ordering::Relaxed);
            if members.get().clients.is_empty() {
                members.remove();
            }
        }
        Ok(())
    }

    async fn members(&self, channel: &ChannelName) -> Result<Members, BrokerLost> {
        let channels = self.channels.lock();
        Ok(channels.get(channel).map_or(Members::default(), |channel| Members {
            first: channel.clients.values().take(MEMBERS_MAX).cloned().collect(),
            is_truncated: channel.clients.len() > MEMBERS_MAX,
        }))
    }

    async fn stats(&self, channel: &ChannelName) -> Result<PresenceStats, BrokerLost> {
        let channels = self.channels.lock();
        Ok(channels.get(channel).map_or(PresenceStats::default(), |members| PresenceStats {
            clients: members.clients.len(),
            users: members.users.len(),
        }))
    }

    fn member_count(&self) -> usize {
        self.member_count.load(Ordering::Relaxed)
    }

    async fn leave(&self) -> Result<(), BrokerLost> {
        self.channels.lock().clear();
        self.member_count.store(0, Ordering::Relaxed);
        Ok(())
    }
}

impl Channel {
    /// False if it was there.
    fn add(&mut self, info: ClientInfo) -> bool {
        let was_there = self.remove(&info.client);
        *self.users.entry(Arc::clone(&info.user)).or_default() += 1;
        self.clients.insert(Arc::clone(&info.client), info);
        !was_there
    }

    /// False if it was not there.
    fn remove(&mut self, client: &str) -> bool {
        let Some(info) = self.clients.remove(client) else { return false };
        if let hash_map::Entry::Occupied(mut clients) = self.users.entry(info.user) {
            *clients.get_mut() -= 1;
            if *clients.get() == 0 {
                clients.remove();
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::conformance;

    #[tokio::test]
    async fn it_conforms() {
        conformance::run(Arc::new(MemoryPresence::new())).await;
    }

    #[tokio::test]
    async fn nothing_is_kept_of_those_who_left() {
        let store = MemoryPresence::new();
        let channel = ChannelName::new("c").unwrap();
        let user = |name: &str| ClientInfo {
            user: name.into(),
            client: "client".into(),
            conn_info: None,
            chan_info: None,
        };
        store.add(&channel, &user("alice"), Farewell::Silent).await.unwrap();
        store.add(&channel, &user("bob"), Farewell::Silent).await.unwrap();
        assert_eq!(store.channels.lock()[&channel].users.len(), 1);
        store.remove(&channel, "client").await.unwrap();
        assert!(store.channels.lock().is_empty());
    }
}
