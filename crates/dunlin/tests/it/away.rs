//! A node that was away, for a moment or for long, does what it missed.

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    CentrifugeClient, Flock, KEY_SETTING, Node, Redis, SECRET_SETTING, Session, wait_until,
};

const SETTINGS: [&str; 6] = [
    KEY_SETTING,
    SECRET_SETTING,
    "channel.without_namespace.allow_subscribe_for_client=true",
    "channel.without_namespace.history_size=10",
    "channel.without_namespace.history_ttl=60s",
    "channel.without_namespace.force_recovery=true",
];

/// Stops `node` and cuts all its links.
fn send_away(node: &Node, redis: &Redis) {
    node.signal(Signal::STOP);
    let mut redis = redis.connect();
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis).unwrap();
    let ports = ports_of(node.pid());
    let mut cuts = 0;
    for client in clients.lines() {
        let field = |name: &str| client.split(' ').find_map(|field| field.strip_prefix(name));
        let address = field("addr=").unwrap();
        if ports.contains(&address.rsplit_once(':').unwrap().1.parse().unwrap()) {
            redis::cmd("CLIENT").arg("KILL").arg("ADDR").arg(address).exec(&mut redis).unwrap();
            cuts += 1;
        }
    }
    assert!(cuts >= 2, "all links of the node");
}

/// The local ports of a process's connections.
fn ports_of(pid: u32) -> Vec<u16> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let inodes: Vec<_> = files
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let sockets = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    sockets
        .filter(|fields| inodes.contains(&fields[9].to_owned()))
        .map(|fields| u16::from_str_radix(fields[1].rsplit_once(':').unwrap().1, 16).unwrap())
        .collect()
}

#[test]
fn a_node_that_was_cut_off_obeys_what_it_missed() {
    let flock = Flock::redis(2, &SETTINGS);
    let (near, far) = (&flock.nodes[0], &flock.nodes[1]);
    let session = Session::connect(far.address, "42");
    send_away(far, flock.redis.as_ref().unwrap());
    near.result("disconnect", r#"{"user":"42"}"#);
    far.signal(Signal::CONT);
    assert_eq!(session.receive_close().0, 3503);
}

#[test]
fn a_history_that_was_removed_is_forgotten_by_a_node_that_was_away_for_longer_than_orders_are_kept()
{
    let flock = Flock::redis(2, &SETTINGS);
    let (near, far, redis) = (&flock.nodes[0], &flock.nodes[1], flock.redis.as_ref().unwrap());
    let mut stays = CentrifugeClient::connect(far, "42");
    let epoch = stays.subscribe("c")["epoch"].as_str().unwrap().to_owned();
    for number in 1..=3 {
        near.result("publish", &format!(r#"{{"channel":"c","data":{number}}}"#));
        assert_eq!(stays.publication("c"), number);
    }
    let recover = |offset| CentrifugeClient::connect(far, "42").recover("c", offset, &epoch);
    assert_eq!(recover(1)["recovered"], true);

    send_away(far, redis);
    near.result("history_remove", r#"{"channel":"c"}"#);
    forget_orders(redis);
    far.signal(Signal::CONT);
    wait_until("the node is back", || {
        far.metrics().sum("dunlin_redis_reconnects_total") >= 3.0 && far.status_of("/ready") == 200
    });
    for offset in [0, 1, 2] {
        let subscribed = recover(offset);
        assert_eq!(subscribed["recovered"], Value::Null, "{subscribed}");
        assert_eq!(subscribed["publications"], Value::Null, "{subscribed}");
    }
    assert_eq!(recover(3)["recovered"], true, "who missed nothing");
}

/// What the end of their time does.
fn forget_orders(redis: &Redis) {
    let mut redis = redis.connect();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*$ctl.all").query(&mut redis).unwrap();
    let is_stream = |key: &&String| {
        let kind: String = redis::cmd("TYPE").arg(key).query(&mut redis).unwrap();
        kind == "stream"
    };
    let streams: Vec<_> = keys.iter().filter(is_stream).collect();
    assert_eq!(streams.len(), 1, "{keys:?}");
    redis::cmd("DEL").arg(streams).exec(&mut redis).unwrap();
}
