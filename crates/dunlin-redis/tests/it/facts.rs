//! What servers do that no documentation tells and the broker's rules rest on. No part of Dunlin
//! takes part: each of these fails when a server changes.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use dunlin_redis::link::value::Value;

use crate::{
    cluster::{Cluster, Failover},
    instance::Instance,
    resp::{RawLink, text},
    sentinels::{SERVICE, Sentinels},
    server::wait_until,
};

const CHANNEL: &str = "{tag}channel";
const OF_ONE_SLOT: [&str; 2] = [CHANNEL, "{tag}another"];
/// Publishes with a declared key of the channel's slot, as a script that knows of clusters.
const SCRIPT: &str = "#!lua\nreturn redis.call('SPUBLISH', KEYS[1], ARGV[1])";

/// So a publish that is taken, and heard, does not prove the owner; a script with a key does.
#[test]
fn a_replica_takes_spublish_and_its_primarys_subscribers_hear_it() {
    let cluster = Cluster::start(1);
    let primary = cluster.owner(CHANNEL);
    let replica = cluster.replica_of(primary);
    let mut at_primary = cluster.nodes[primary].link();
    let mut at_replica = cluster.nodes[replica].link();
    at_primary.subscribe("SSUBSCRIBE", CHANNEL).unwrap();
    at_replica.subscribe("SSUBSCRIBE", CHANNEL).unwrap();
    let mut publisher = cluster.nodes[replica].link();
    assert_eq!(publisher.ask(&["SPUBLISH", CHANNEL, "hello"]), Value::Integer(1));
    for subscriber in [&mut at_primary, &mut at_replica] {
        assert_eq!(subscriber.push_of_kind("message")[1..], [CHANNEL, "hello"]);
    }
    for readonly in [false, true] {
        if readonly {
            publisher.ask(&["READONLY"]);
        }
        let refused = text(&publisher.ask(&["EVAL", SCRIPT, "1", CHANNEL, "hello"]));
        assert!(refused.starts_with("MOVED "), "{refused}");
    }
}

/// So whoever hears nothing asks again at every change of roles.
#[test]
fn a_promoted_replica_drops_its_subscribers_unless_it_is_redis_7_0() {
    let mut cluster = Cluster::start(1);
    let primary = cluster.owner(CHANNEL);
    let replica = cluster.replica_of(primary);
    let mut subscriber = cluster.nodes[replica].link();
    subscriber.subscribe("SSUBSCRIBE", CHANNEL).unwrap();
    cluster.nodes[primary].kill();
    wait_until("the replica takes over", || cluster.nodes[replica].is_primary());
    if cluster.nodes[replica].product().is_redis_7_0() {
        assert_eq!(subscriber.push_within(Duration::from_secs(1)), None);
        let heard = cluster.nodes[replica].ask::<u64>(&["SPUBLISH", CHANNEL, "hello"]);
        assert_eq!(heard, 1, "it is still subscribed");
        assert_eq!(subscriber.push_of_kind("message")[2], "hello");
    } else {
        assert_eq!(subscriber.push_of_kind("sunsubscribe")[1], CHANNEL);
        // The same node takes it again at once, for it is the owner.
        subscriber.subscribe("SSUBSCRIBE", CHANNEL).unwrap();
    }
}

/// So to subscribe before the slot is there is futile, and an unasked `sunsubscribe` does not say
/// that somebody else owns the slot.
#[test]
fn a_new_owner_drops_those_who_subscribed_early_unless_it_is_redis_7_0() {
    let cluster = Cluster::start(0);
    let (slot, source) = (cluster.slot(CHANNEL), cluster.owner(CHANNEL));
    let target = (source + 1) % cluster.nodes.len();
    cluster.begin_move(slot, source, target);
    let mut subscriber = cluster.nodes[target].link();
    let refused = subscriber.subscribe("SSUBSCRIBE", CHANNEL).unwrap_err();
    assert!(refused.starts_with("MOVED "), "{refused}");
    subscriber.ask(&["ASKING"]);
    subscriber.subscribe("SSUBSCRIBE", CHANNEL).unwrap();
    cluster.finish_move(slot, source, target);
    if cluster.nodes[target].product().is_redis_7_0() {
        assert_eq!(cluster.nodes[target].ask::<u64>(&["SPUBLISH", CHANNEL, "hello"]), 1);
        assert_eq!(subscriber.push_of_kind("message")[2], "hello");
    } else {
        assert_eq!(subscriber.push_of_kind("sunsubscribe")[1], CHANNEL);
        assert_eq!(cluster.owner(CHANNEL), target, "it owns the slot all the same");
    }
}

/// So whoever asks a server to end subscriptions, and for a PING, knows which words are the answer
/// and which would have come all the same.
#[test]
fn what_ends_subscriptions_is_said_before_the_answer_to_a_ping_behind() {
    let cluster = Cluster::start(0);
    let (slot, source) = (cluster.slot(CHANNEL), cluster.owner(CHANNEL));
    let target = (source + 1) % cluster.nodes.len();
    let mut subscriber = cluster.nodes[source].link();
    let subscribe = |subscriber: &mut RawLink| {
        for channel in OF_ONE_SLOT {
            subscriber.subscribe("SSUBSCRIBE", channel).unwrap();
        }
    };
    let end = |subscriber: &mut RawLink| {
        subscriber.send(&["SUNSUBSCRIBE", OF_ONE_SLOT[0], OF_ONE_SLOT[1]]);
        subscriber.send(&["PING"]);
        subscriber.reply()
    };
    subscribe(&mut subscriber);
    assert_eq!(text(&end(&mut subscriber)), "PONG");
    for _ in OF_ONE_SLOT {
        let push = subscriber.push_within(Duration::ZERO).expect("it came before");
        assert_eq!(push[0], "sunsubscribe");
    }
    subscribe(&mut subscriber);
    cluster.begin_move(slot, source, target);
    cluster.finish_move(slot, source, target);
    let refused = text(&end(&mut subscriber));
    assert!(refused.starts_with("MOVED "), "{refused}");
    for _ in OF_ONE_SLOT {
        let push = subscriber.push_within(Duration::ZERO).expect("it came before");
        assert_eq!(push[0], "sunsubscribe", "nobody asked for it in vain");
    }
    assert_eq!(text(&subscriber.reply()), "PONG");
}

/// So a channel without numbers is not free of gaps in a cluster, however well its link is.
#[test]
fn a_node_that_stood_still_misses_classic_messages_with_its_link_up() {
    let mut cluster = Cluster::start_with(0, &["--cluster-node-timeout", "4000"]);
    let mut subscriber = cluster.nodes[1].link();
    subscriber.subscribe("SUBSCRIBE", CHANNEL).unwrap();
    let mut publisher = cluster.nodes[0].link();
    let mut sent = 0;
    // Whether it does depends on when the sender last asked for a sign of life.
    let has_hole = (0..4).any(|_| {
        let first = sent;
        let mut publish_for = |millis| {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(millis) {
                publisher.ask(&["PUBLISH", CHANNEL, &sent.to_string()]);
                sent += 1;
                // A steady rate.
                sleep(Duration::from_millis(5));
            }
        };
        // The sender frees no link that is younger than the time-out.
        publish_for(4500);
        cluster.nodes[1].pause();
        // More than half the time-out without a sign, after which the sender frees the link with
        // what waits in it; less than the whole, after which all would call the node failed.
        publish_for(3800);
        cluster.nodes[1].resume();
        publish_for(1000);
        let last = (sent - 1).to_string();
        let mut received = 1;
        while subscriber.push_of_kind("message")[2] != last {
            received += 1;
        }
        received < sent - first
    });
    assert!(has_hole, "{sent} sent, all received");
    assert!(!cluster.nodes[0].log().contains("FAIL"), "nobody called it failed");
    assert!(matches!(subscriber.ask(&["PING"]), Value::Simple(_)), "the link is up");
}

/// So who is a primary is told by role, health and slots together.
#[test]
fn after_a_crash_cluster_shards_names_the_dead_primary_too() {
    let mut cluster = Cluster::start(1);
    let replica = cluster.replica_of(0);
    let (dead, new) = (cluster.nodes[0].port(), cluster.nodes[replica].port());
    let is_redis_7_0 = cluster.nodes[0].product().is_redis_7_0();
    cluster.nodes[0].kill();
    wait_until("the replica takes over", || cluster.nodes[replica].is_primary());
    for witness in [1, replica] {
        let mut shards = Vec::new();
        wait_until("the new primary is known", || {
            shards = masters_of_shards(&cluster.nodes[witness]);
            shards
                .iter()
                .any(|shard| shard.has_slots && shard.masters.contains(&(new, "online".to_owned())))
        });
        let dead = (dead, "fail".to_owned());
        let shard = shards.iter().find(|shard| shard.masters.contains(&dead));
        let shard = shard.expect("the dead primary is named a master");
        if is_redis_7_0 {
            assert!(!shard.has_slots && shard.masters.len() == 1, "a shard of its own");
        } else {
            assert_eq!(shard.masters, [dead, (new, "online".to_owned())], "and stands first");
        }
        let slots: Vec<redis::Value> = cluster.nodes[witness].ask(&["CLUSTER", "SLOTS"]);
        assert_eq!(slots.len(), 3, "CLUSTER SLOTS names the living alone: {slots:?}");
    }
}

/// So the address is asked for by name, of all sentinels.
#[test]
fn the_sentinel_that_leads_a_failover_contradicts_itself() {
    // While it tells the second replica of the new primary.
    let mut set = Sentinels::start_with(2, &[]);
    let dead = set.servers[0].port().to_string();
    set.servers[0].kill();
    let mut contradictions = 0;
    wait_until("the failover is over", || {
        for sentinel in &set.sentinels {
            let (by_name, of_master) = both_answers(sentinel);
            // Between the two answers it may change its mind.
            contradictions += u32::from(by_name != dead && of_master == dead);
        }
        set.primary().is_some_and(|primary| primary != 0)
    });
    assert!(contradictions > 0, "SENTINEL MASTER was never the late one");
}

/// So a server that hands over says nothing on subscriber links outside of a cluster.
#[test]
fn a_planned_failover_drops_the_old_primarys_shard_subscribers_and_keeps_the_link() {
    let cluster = Cluster::start(1);
    let primary = cluster.owner(CHANNEL);
    let mut subscriber = cluster.nodes[primary].link();
    subscriber.subscribe("SSUBSCRIBE", CHANNEL).unwrap();
    cluster.fail_over(cluster.replica_of(primary), Failover::Planned);
    assert_eq!(subscriber.push_of_kind("sunsubscribe")[1], CHANNEL);
    assert!(matches!(subscriber.ask(&["PING"]), Value::Simple(_)), "the link is up");
}

/// So a node does not count on the server to end a link that it does not read.
#[test]
fn the_bound_of_what_waits_for_a_subscriber_is_kept_but_for_large_messages_by_valkey_9() {
    let server = Instance::start(&["--client-output-buffer-limit", "pubsub 1mb 0 0"]);
    let product = server.product();
    let sees_all = !(product.is_valkey && product.version >= (9, 0));
    for (bytes, is_seen) in [(10_000, true), (20_000, sees_all)] {
        let mut subscriber = server.link();
        subscriber.subscribe("SUBSCRIBE", CHANNEL).unwrap();
        let message = "x".repeat(bytes);
        let mut publisher = server.link();
        // The system's own buffers take some megabytes first.
        let was_ended = (0..40_000_000 / bytes)
            .any(|_| publisher.ask(&["PUBLISH", CHANNEL, &message]) == Value::Integer(0));
        assert_eq!(was_ended, is_seen, "messages of {bytes} bytes");
    }
}

struct Shard {
    has_slots: bool,
    /// Port and health of each node whose role is master.
    masters: Vec<(u16, String)>,
}

fn masters_of_shards(node: &Instance) -> Vec<Shard> {
    let Value::Array(shards) = node.link().ask(&["CLUSTER", "SHARDS"]) else { panic!("no shards") };
    let shards = shards.iter().map(|shard| {
        let Value::Array(nodes) = fact(shard, "nodes") else { panic!("no nodes") };
        let masters = nodes.iter().filter(|node| text(fact(node, "role")) == "master");
        let masters = masters
            .map(|node| (text(fact(node, "port")).parse().unwrap(), text(fact(node, "health"))));
        let has_slots = *fact(shard, "slots") != Value::Array(Vec::new());
        Shard { has_slots, masters: masters.collect() }
    });
    shards.collect()
}

/// The port of the primary, asked for in both ways at one moment.
fn both_answers(sentinel: &Instance) -> (String, String) {
    let mut link = sentinel.link();
    link.send(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
    link.send(&["SENTINEL", "MASTER", SERVICE]);
    let Value::Array(address) = link.reply() else { panic!("no address") };
    let master = link.reply();
    (text(&address[1]), text(fact(&master, "port")))
}

fn fact<'a>(map: &'a Value, name: &str) -> &'a Value {
    let Value::Map(facts) = map else { panic!("{map:?} is no map") };
    let found = facts.iter().find(|(key, _)| text(key) == name);
    &found.unwrap_or_else(|| panic!("no {name} in {map:?}")).1
}
