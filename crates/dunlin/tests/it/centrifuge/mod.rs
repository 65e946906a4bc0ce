//! The Centrifuge dialect on the wire: commands written by hand, against real nodes.

mod bounds;
mod churn;
mod codes;
mod delta;
mod dialects;
mod expiry;
mod fairness;
mod history;
mod joins;
mod keys;
mod lost;
mod order;
mod recovery;
mod renewal;
mod server_side;
mod subscribe;

use crate::harness::{Flock, Node, NodeCommand, Redis};

/// What all these tests need of a node; each namespace has what its name says.
const CONFIG: &str = r#"
    [client.token]
    hmac_secret_key = "secret"

    [http_api]
    key = "k3y"

    [channel.without_namespace]
    allow_subscribe_for_client = true
    allow_publish_for_client = true

    [[channel.namespaces]]
    name = "closed"

    [[channel.namespaces]]
    name = "kept"
    history_size = 10
    history_ttl = "60s"
    force_recovery = true
    allow_subscribe_for_client = true
    allow_publish_for_client = true
    allow_history_for_subscriber = true
    allow_plain_subscribe = true
    allow_plain_publish = true
    allow_empty_data = true

    [[channel.namespaces]]
    name = "cache"
    history_size = 10
    history_ttl = "60s"
    force_recovery = true
    force_recovery_mode = "cache"
    allow_subscribe_for_client = true
    allow_publish_for_client = true

    [[channel.namespaces]]
    name = "wish"
    history_size = 10
    history_ttl = "60s"
    allow_recovery = true
    allow_positioning = true
    presence = true
    join_leave = true
    allow_presence_for_subscriber = true
    allow_subscribe_for_client = true
    allow_publish_for_client = true

    [[channel.namespaces]]
    name = "seen"
    presence = true
    join_leave = true
    force_push_join_leave = true
    allow_subscribe_for_client = true
    allow_publish_for_subscriber = true
    allow_presence_for_subscriber = true
    allow_plain_subscribe = true
    allow_plain_publish = true

    [[channel.namespaces]]
    name = "delta"
    history_size = 10
    history_ttl = "60s"
    force_recovery = true
    allowed_delta_types = ["fossil"]
    delta_publish = true
    allow_subscribe_for_client = true
    allow_publish_for_client = true

    [[channel.namespaces]]
    name = "tags"
    history_size = 10
    history_ttl = "60s"
    force_recovery = true
    allow_tags_filter = true
    allow_subscribe_for_client = true
    allow_publish_for_client = true

    [[channel.namespaces]]
    name = "users"
    allow_user_limited_channels = true

    [[channel.namespaces]]
    name = "everyone"
    allow_subscribe_for_client = true
    allow_subscribe_for_anonymous = true
"#;

/// How to start a node with [`CONFIG`] and these settings.
fn command(settings: &[&str]) -> NodeCommand {
    NodeCommand::new().text(CONFIG).set(settings)
}

/// A node with the memory broker.
fn node(settings: &[&str]) -> Node {
    command(settings).start()
}

/// Nodes over a Redis of their own.
fn nodes(count: usize, settings: &[&str]) -> Flock {
    let redis = Redis::start();
    let url = format!("redis.url={}", redis.url());
    let start = |_| command(&["shards=2", &url]).set(settings).start();
    Flock { nodes: (0..count).map(start).collect(), redis: Some(redis) }
}

/// Runs `scenario` on a node with the memory broker and on two nodes over Redis, and checks that
/// nothing is left of its clients.
fn each(settings: &[&str], scenario: impl Fn(&Flock)) {
    let alone = Flock { nodes: vec![command(&["shards=2"]).set(settings).start()], redis: None };
    for flock in [alone, nodes(2, settings)] {
        scenario(&flock);
        flock.nodes.iter().for_each(Node::wait_until_empty);
    }
}
