//! Presence: which clients are members of a channel, on all nodes. The contract every store keeps:
//!
//! 1. A member is one client in one channel; adding it again replaces what is known of it. Client
//!    ids are unique over all nodes, and a node removes only members that it added.
//! 2. Once `add` or `remove` returned `Ok`, every node's later `members` and `stats` show it.
//! 3. Changes of one member take effect in the order in which their futures were first polled,
//!    whether or not anyone waits for them.
//! 4. A node's wish outlives an outage: when a change ends with [`BrokerLost`], or the store's past
//!    is lost, the node's members as it last wanted them are shown again once the store is back.
//! 5. Members of a node that lives never flicker. Keeping them costs per node and partition of the
//!    store, not per member.
//! 6. Members of a node that died are gone when its lease ended, after [`LEASE_MAX`] at most. Those
//!    of a node that leaves are gone at once.
//! 7. That members of a node that died are gone is announced once in their channel, as
//!    [`Kind::Leave`](crate::publication::Kind::Leave), where [`Farewell`] wants it; soon after.
//!    If the node was only away, its members are announced to have joined again when it is back.
//! 8. Neither question costs more the more members there are: [`PresenceStore::members`] names
//!    [`MEMBERS_MAX`] of them, [`PresenceStore::stats`] counts without looking at them. Users of a
//!    node that died may be counted until their leave is announced.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub mod memory;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{channel::ChannelName, error::BrokerLost, publication::ClientInfo};

/// The longest that members are shown after their node died.
pub const LEASE_MAX: Duration = Duration::from_secs(30);

/// Most members that an answer names.
pub const MEMBERS_MAX: usize = 10_000;

/// Whether subscribers of its channel are told that a member left, if it did not do so itself but
/// died with its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// They are.
    Announced,
    /// They are not.
    Silent,
}

/// The members of a channel, or as many of them as an answer names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// At most [`MEMBERS_MAX`], in no order.
    pub first: Vec<ClientInfo>,
    /// Whether there are more.
    pub is_truncated: bool,
}

/// What knows the members of every channel. See the module's text for the contract.
#[async_trait]
pub trait PresenceStore: Send + Sync {
    /// Makes `info.client` a member of `channel`.
    ///
    /// # Errors
    /// [`BrokerLost`] when others may not see it before the store is back.
    async fn add(
        &self,
        channel: &ChannelName,
        info: &ClientInfo,
        farewell: Farewell,
    ) -> Result<(), BrokerLost>;

    /// Ends the membership of `client`, if it is a member that this node added.
    ///
    /// # Errors
    /// [`BrokerLost`] when others may still see it until the store is back.
    async fn remove(&self, channel: &ChannelName, client: &str) -> Result<(), BrokerLost>;

    /// The members of `channel`, up to [`MEMBERS_MAX`].
    ///
    /// # Errors
    /// [`BrokerLost`] when the store cannot be asked now.
    async fn members(&self, channel: &ChannelName) -> Result<Members, BrokerLost>;

    /// How many members `channel` has, without naming them.
    ///
    /// # Errors
    /// [`BrokerLost`] when the store cannot be asked now.
    async fn stats(&self, channel: &ChannelName) -> Result<PresenceStats, BrokerLost>;

    /// How many members this node has added and not removed.
    fn member_count(&self) -> usize;

    /// Removes all members of this node, which is about to stop and adds no more.
    ///
    /// # Errors
    /// [`BrokerLost`] when the end of its lease has to do it.
    async fn leave(&self) -> Result<(), BrokerLost>;
}

/// How many members a channel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Members.
    pub clients: usize,
    /// Different users among them; all that are nobody in particular count as one.
    pub users: usize,
}

/// A store that everyone on the node shares.
pub type SharedPresence = Arc<dyn PresenceStore>;
