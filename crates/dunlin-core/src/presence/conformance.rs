//! The contract of [`PresenceStore`] as a test that every implementation runs, over its real parts.
//!
//! [`run`] is for one node. [`run_together`] is for stores that nodes share: it starts several.

use std::{collections::HashSet, future::Future, slice, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    channel::ChannelName,
    presence::{Farewell, MEMBERS_MAX, PresenceStats, PresenceStore},
    publication::ClientInfo,
};

/// How late a busy machine may notice that a lease ended.
pub const GRACE: Duration = Duration::from_millis(500);

/// Runs what one node is promised. Panics when it is broken.
///
/// The store has to be fresh, and its node is gone afterwards.
pub async fn run(node: Arc<dyn PresenceStore>) {
    shows_who_was_added(&*node).await;
    replaces_what_is_known_of_a_member(&*node).await;
    counts_clients_and_users(&*node).await;
    keeps_channels_apart(&*node).await;
    keeps_the_order_of_one_member(&*node).await;
    names_some_and_counts_all(&node).await;
    forgets_all_when_it_leaves(&*node).await;
}

/// Runs what nodes that share a place are promised. Panics when it is broken.
///
/// `start` starts a node whose lease is `lease`; all share one place, where no other node is. A
/// node whose store is dropped before it left is a node that died. Takes four leases, so make them
/// short, but longer than [`GRACE`].
pub async fn run_together<S, F>(start: S, lease: Duration)
where
    S: Fn() -> F,
    F: Future<Output = Arc<dyn PresenceStore>>,
{
    shows_everyone_to_every_node(&start).await;
    removes_own_members_only(&start).await;
    forgets_only_the_node_that_leaves(&start).await;
    keeps_the_living_and_forgets_the_dead(&start, lease).await;
}

async fn shows_who_was_added(node: &dyn PresenceStore) {
    let channel = name("added");
    assert_eq!(members(node, &channel).await, []);
    let bare = member("alice", "client-a");
    let full = ClientInfo {
        conn_info: Some(Bytes::from_static(br#"{"name":"B\u00f6b \" \n"}"#)),
        chan_info: Some(Bytes::from_static("\"grüße \u{1f426}\"".as_bytes())),
        ..member("", "client-b")
    };
    for info in [&bare, &full] {
        add(node, &channel, info).await;
    }
    assert_eq!(members(node, &channel).await, [bare, full.clone()]);
    remove(node, &channel, "client-a").await;
    assert_eq!(members(node, &channel).await, [full]);
    remove(node, &channel, "client-a").await;
    remove(node, &channel, "client-b").await;
    assert_eq!(members(node, &channel).await, []);
}

async fn replaces_what_is_known_of_a_member(node: &dyn PresenceStore) {
    let channel = name("replaced");
    add(node, &channel, &member("alice", "client")).await;
    let info = ClientInfo { chan_info: Some(Bytes::from_static(b"1")), ..member("bob", "client") };
    add(node, &channel, &info).await;
    assert_eq!(members(node, &channel).await, [info]);
    assert_eq!(stats(node, &channel).await, PresenceStats { clients: 1, users: 1 });
    remove(node, &channel, "client").await;
    assert_eq!(stats(node, &channel).await, PresenceStats { clients: 0, users: 0 });
}

async fn counts_clients_and_users(node: &dyn PresenceStore) {
    let channel = name("counted");
    assert_eq!(stats(node, &channel).await, PresenceStats { clients: 0, users: 0 });
    for (user, client) in [("alice", "a1"), ("alice", "a2"), ("bob", "b"), ("", "n1"), ("", "n2")] {
        add(node, &channel, &member(user, client)).await;
    }
    assert_eq!(stats(node, &channel).await, PresenceStats { clients: 5, users: 3 });
    remove(node, &channel, "a1").await;
    assert_eq!(stats(node, &channel).await, PresenceStats { clients: 4, users: 3 });
    remove(node, &channel, "a2").await;
    assert_eq!(stats(node, &channel).await, PresenceStats { clients: 3, users: 2 });
    for client in ["b", "n1", "n2"] {
        remove(node, &channel, client).await;
    }
}

async fn keeps_channels_apart(node: &dyn PresenceStore) {
    let (left, right) = (name("left"), name("right"));
    let (alice, bob) = (member("alice", "client-a"), member("bob", "client-b"));
    for (channel, info) in [(&left, &alice), (&right, &alice), (&right, &bob)] {
        add(node, channel, info).await;
    }
    remove(node, &right, "client-a").await;
    assert_eq!(members(node, &left).await, [alice]);
    assert_eq!(members(node, &right).await, [bob]);
    remove(node, &left, "client-a").await;
    remove(node, &right, "client-b").await;
}

async fn keeps_the_order_of_one_member(node: &dyn PresenceStore) {
    let channel = name("order");
    let (first, last) = (member("alice", "client"), member("bob", "client"));
    for _ in 0..50 {
        let (first_added, removed, last_added) = tokio::join!(
            node.add(&channel, &first, Farewell::Silent),
            node.remove(&channel, "client"),
            node.add(&channel, &last, Farewell::Silent),
        );
        assert_eq!([first_added, removed, last_added], [Ok(()); 3]);
        assert_eq!(members(node, &channel).await, slice::from_ref(&last));
        let (added, removed) = tokio::join!(
            node.add(&channel, &first, Farewell::Silent),
            node.remove(&channel, "client")
        );
        assert_eq!([added, removed], [Ok(()); 2]);
        assert_eq!(members(node, &channel).await, []);
    }
}

async fn names_some_and_counts_all(node: &Arc<dyn PresenceStore>) {
    let channel = name("crowd");
    let mut adding = JoinSet::new();
    for number in 0..=MEMBERS_MAX {
        let (node, channel) = (Arc::clone(node), channel.clone());
        let info = member(&(number % 100).to_string(), &number.to_string());
        adding.spawn(async move { add(&*node, &channel, &info).await });
    }
    adding.join_all().await;
    let crowd = soon(node.members(&channel)).await.expect("the store is there");
    assert!(crowd.is_truncated);
    let named: HashSet<_> = crowd.first.iter().map(|info| &info.client).collect();
    assert_eq!((named.len(), crowd.first.len()), (MEMBERS_MAX, MEMBERS_MAX));
    let all = PresenceStats { clients: MEMBERS_MAX + 1, users: 100 };
    assert_eq!(stats(&**node, &channel).await, all);
    remove(&**node, &channel, "7").await;
    let crowd = soon(node.members(&channel)).await.expect("the store is there");
    assert_eq!((crowd.first.len(), crowd.is_truncated), (MEMBERS_MAX, false));
}

async fn forgets_all_when_it_leaves(node: &dyn PresenceStore) {
    let channels = [name("leave-1"), name("leave-2")];
    for channel in &channels {
        add(node, channel, &member("alice", "client")).await;
    }
    node.leave().await.expect("the store is there");
    for channel in &channels {
        assert_eq!(members(node, channel).await, []);
        assert_eq!(stats(node, channel).await, PresenceStats { clients: 0, users: 0 });
    }
}

async fn shows_everyone_to_every_node<S, F>(start: &S)
where
    S: Fn() -> F,
    F: Future<Output = Arc<dyn PresenceStore>>,
{
    let nodes = [start().await, start().await, start().await];
    let channel = name("everyone");
    let everyone = ["client-0", "client-1", "client-2"].map(|client| member("alice", client));
    for (node, info) in nodes.iter().zip(&everyone) {
        add(&**node, &channel, info).await;
    }
    for node in &nodes {
        assert_eq!(members(&**node, &channel).await, everyone);
        assert_eq!(stats(&**node, &channel).await, PresenceStats { clients: 3, users: 1 });
    }
    remove(&*nodes[1], &channel, "client-1").await;
    for node in &nodes {
        assert_eq!(stats(&**node, &channel).await, PresenceStats { clients: 2, users: 1 });
        assert_eq!(members(&**node, &channel).await.len(), 2);
    }
    leave(nodes).await;
}

async fn removes_own_members_only<S, F>(start: &S)
where
    S: Fn() -> F,
    F: Future<Output = Arc<dyn PresenceStore>>,
{
    let nodes = [start().await, start().await];
    let channel = name("own");
    let info = member("alice", "client");
    add(&*nodes[0], &channel, &info).await;
    remove(&*nodes[1], &channel, "client").await;
    assert_eq!(members(&*nodes[1], &channel).await, [info]);
    leave(nodes).await;
}

async fn forgets_only_the_node_that_leaves<S, F>(start: &S)
where
    S: Fn() -> F,
    F: Future<Output = Arc<dyn PresenceStore>>,
{
    let [stays, leaves] = [start().await, start().await];
    let channel = name("leaves");
    let info = member("alice", "stays");
    add(&*stays, &channel, &info).await;
    add(&*leaves, &channel, &member("bob", "leaves")).await;
    leave([leaves]).await;
    assert_eq!(members(&*stays, &channel).await, [info]);
    assert_eq!(stats(&*stays, &channel).await, PresenceStats { clients: 1, users: 1 });
    leave([stays]).await;
}

/// Members of a live node are shown at every look for several leases, while another node dies.
async fn keeps_the_living_and_forgets_the_dead<S, F>(start: &S, lease: Duration)
where
    S: Fn() -> F,
    F: Future<Output = Arc<dyn PresenceStore>>,
{
    let [lives, looks, dies] = [start().await, start().await, start().await];
    let channels = [0, 1, 2, 3].map(|number| name(&format!("lease-{number}")));
    let info = member("alice", "lives");
    for channel in &channels {
        add(&*lives, channel, &info).await;
        add(&*dies, channel, &member("bob", "dies")).await;
    }
    let died = Instant::now();
    drop(dies);
    let mut gone = false;
    while died.elapsed() < lease * 4 {
        let ended = died.elapsed() > lease + GRACE;
        let mut shown = 0;
        for channel in &channels {
            let everyone = members(&*looks, channel).await;
            assert!(everyone.contains(&info), "a member of a live node flickers in {channel}");
            let count = stats(&*looks, channel).await.clients;
            assert!((1..=2).contains(&count), "{count} are counted in {channel}");
            shown += everyone.len().max(count) - 1;
        }
        gone = shown == 0;
        assert!(gone || !ended, "members of a node that died are shown after its lease");
        sleep(lease / 50).await;
    }
    assert!(gone);
    leave([lives, looks]).await;
}

async fn leave<const N: usize>(nodes: [Arc<dyn PresenceStore>; N]) {
    for node in nodes {
        node.leave().await.expect("the store is there");
    }
}

async fn add(node: &dyn PresenceStore, channel: &ChannelName, info: &ClientInfo) {
    soon(node.add(channel, info, Farewell::Silent)).await.expect("the store is there");
}

async fn remove(node: &dyn PresenceStore, channel: &ChannelName, client: &str) {
    soon(node.remove(channel, client)).await.expect("the store is there");
}

/// The members by their client.
async fn members(node: &dyn PresenceStore, channel: &ChannelName) -> Vec<ClientInfo> {
    let members = soon(node.members(channel)).await.expect("the store is there");
    assert!(!members.is_truncated);
    let mut members = members.first;
    members.sort_by(|left, right| left.client.cmp(&right.client));
    members
}

async fn stats(node: &dyn PresenceStore, channel: &ChannelName) -> PresenceStats {
    soon(node.stats(channel)).await.expect("the store is there")
}

async fn soon<T>(call: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), call).await.expect("a store that is there answers")
}

fn member(user: &str, client: &str) -> ClientInfo {
    ClientInfo { user: user.into(), client: client.into(), conn_info: None, chan_info: None }
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).expect("the names above are valid")
}
