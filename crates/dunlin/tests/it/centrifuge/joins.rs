//! Who comes and goes: joins, leaves and presence.

use std::collections::HashSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{each, node, nodes};
use crate::harness::{CentrifugeClient, Node, Redis, token, wait_until};

/// The next push in the channel is a join, or a leave; returns who.
#[track_caller]
fn next(client: &mut CentrifugeClient, kind: &str) -> Value {
    let mut push = client.push();
    assert!(push["channel"] == "seen:a" && push[kind]["info"].is_object(), "{kind}: {push}");
    push[kind]["info"].take()
}

/// A client that is in, as this user, and its id.
fn connect(node: &Node, user: &str) -> (CentrifugeClient, String) {
    let mut client = CentrifugeClient::open(node);
    let claims = json!({"sub": user, "info": {"name": user}});
    let connected = client.enter(&token(&claims));
    (client, connected["client"].as_str().unwrap().to_owned())
}

#[test]
fn everyone_hears_who_comes_and_goes() {
    each(&[], |flock| {
        let (mut watcher, own) = connect(flock.node(0), "43");
        watcher.subscribe("seen:a");
        assert_eq!(next(&mut watcher, "join")["client"], own);

        let (mut client, id) = connect(flock.node(1), "42");
        let info = json!({"user": "42", "client": id, "conn_info": {"name": "42"}});
        client.subscribe("seen:a");
        assert_eq!(next(&mut client, "join"), info);
        assert_eq!(next(&mut watcher, "join"), info);
        client.result("unsubscribe", json!({"channel": "seen:a"}));
        assert_eq!(next(&mut watcher, "leave"), info);
        client.expect_nothing();

        let claims = json!({"sub": "42", "channel": "seen:a", "info": {"role": "x"}});
        let params = json!({"channel": "seen:a", "token": token(&claims)});
        client.result("subscribe", params);
        // Its own leave may come late to its node.
        while client.push()["join"]["info"]["chan_info"] != json!({"role": "x"}) {}
        assert_eq!(next(&mut watcher, "join")["chan_info"], json!({"role": "x"}));
        // Dropped without a word.
        drop(client);
        assert_eq!(next(&mut watcher, "leave")["client"], id);
        watcher.expect_nothing();
    });
}

#[test]
fn server_side_subscribers_come_and_go_too() {
    each(&[], |flock| {
        let (mut watcher, _) = connect(flock.node(0), "43");
        watcher.subscribe("seen:a");
        next(&mut watcher, "join");
        let mut client = CentrifugeClient::open(flock.node(1));
        client.enter(&token(&json!({"sub": "42", "channels": ["seen:a"]})));
        assert_eq!(next(&mut client, "join")["user"], "42");
        assert_eq!(next(&mut watcher, "join")["user"], "42");
        flock.node(0).result("unsubscribe", r#"{"user":"42","channel":"seen:a"}"#);
        assert_eq!(next(&mut watcher, "leave")["user"], "42");
        assert_eq!(client.push()["unsubscribe"]["code"], 2000);
    });
}

#[test]
fn joins_are_for_those_who_asked() {
    let node = node(&[]);
    let (mut deaf, _) = connect(&node, "43");
    deaf.subscribe("wish:a");
    let (mut client, _) = connect(&node, "42");
    client.result("subscribe", json!({"channel": "wish:a", "join_leave": true}));
    assert_eq!(client.push()["join"]["info"]["user"], "42");
    deaf.expect_nothing();
    // A token can keep its bearer out of sight.
    let overrides = json!({"join_leave": {"value": false}, "presence": {"value": false}});
    let claims = json!({"sub": "44", "channel": "wish:a", "override": overrides});
    let (mut hidden, id) = connect(&node, "44");
    hidden.result("subscribe", json!({"channel": "wish:a", "token": token(&claims)}));
    let presence = client.result("presence", json!({"channel": "wish:a"}));
    assert_eq!(presence["presence"].as_object().unwrap().len(), 2, "{presence}");
    assert!(presence["presence"].get(&id).is_none(), "{presence}");
    drop(hidden);
    client.expect_nothing();
}

#[test]
fn presence_shows_who_is_there() {
    let node = node(&["shards=2"]);
    let (mut client, id) = connect(&node, "42");
    let channel = json!({"channel": "seen:a"});
    assert_eq!(client.error("presence", channel.clone()), 103);
    assert_eq!(client.error("presence", json!({"channel": "c"})), 108);
    assert_eq!(client.error("presence_stats", json!({"channel": "not:there"})), 102);
    client.subscribe("seen:a");
    let own = json!({"user": "42", "client": id, "conn_info": {"name": "42"}});
    let presence = client.result("presence", channel.clone());
    assert_eq!(presence, json!({"presence": {&id: own}}));

    let (mut other, _) = connect(&node, "42");
    other.subscribe("seen:a");
    let stats = client.result("presence_stats", channel.clone());
    assert_eq!(stats, json!({"num_clients": 2, "num_users": 1}));
    drop(other);
    let stats = |client: &mut CentrifugeClient| {
        // What comes and goes is not of interest here.
        let id = client.pipeline(&[("presence_stats", channel.clone())]);
        client.reply(id)["presence_stats"].take()
    };
    wait_until("it is gone", || stats(&mut client) == json!({"num_clients": 1, "num_users": 1}));
    client.result("unsubscribe", channel.clone());
    wait_until("nobody is there", || {
        node.result("presence", &channel.to_string()) == json!({"presence": {}})
    });
}

#[test]
fn who_has_its_close_frame_is_nobody() {
    let settings = ["shutdown.accept_for=0s", "shutdown.drain=0s", "client.insecure=true"];
    let mut flock = nodes(2, &settings);
    let (mut watcher, _) = connect(&flock.nodes[1], "43");
    watcher.subscribe("seen:a");
    next(&mut watcher, "join");
    let (mut client, _) = connect(&flock.nodes[0], "42");
    flock.nodes[0].signal(Signal::TERM);
    client.expect_close(3001);
    client.pipeline(&[("subscribe", json!({"channel": "seen:a"}))]);
    client.pipeline(&[("publish", json!({"channel": "seen:a", "data": 1}))]);
    flock.nodes[0].wait_for_end();
    watcher.publish("seen:a", 2);
    assert_eq!(watcher.publication("seen:a"), 2);
}

/// The leases of nodes, by their key in Redis.
fn leases(redis: &Redis) -> HashSet<(String, String)> {
    let mut redis = redis.connect();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*}dunlin:n").query(&mut redis).unwrap();
    let leases = keys.into_iter().flat_map(|key| {
        let range = redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).to_owned();
        let nodes: Vec<String> = range.query(&mut redis).unwrap();
        nodes.into_iter().map(move |node| (key.clone(), node))
    });
    leases.collect()
}

#[test]
fn members_of_a_killed_node_are_said_to_leave_once_and_to_everybody() {
    let mut flock = nodes(3, &[]);
    let [mut one, mut two] =
        [0, 1].map(|node| CentrifugeClient::connect(&flock.nodes[node], "watches"));
    one.subscribe("seen:a");
    next(&mut one, "join");
    two.subscribe("seen:a");
    next(&mut two, "join");
    next(&mut one, "join");
    let redis = flock.redis.as_ref().unwrap();
    let living = leases(redis);
    let mut dies = CentrifugeClient::connect(&flock.nodes[2], "dies");
    dies.subscribe("seen:a");
    for watcher in [&mut one, &mut two] {
        assert_eq!(next(watcher, "join")["user"], "dies");
    }
    // As time would do it.
    let doomed: Vec<_> = leases(redis).difference(&living).cloned().collect();
    flock.nodes[2].kill();
    assert_eq!(doomed.len(), 1, "{doomed:?}");
    let (key, node) = &doomed[0];
    redis::cmd("ZADD").arg(key).arg(0).arg(node).exec(&mut redis.connect()).unwrap();

    for watcher in [&mut one, &mut two] {
        assert_eq!(next(watcher, "leave")["user"], "dies");
        let stats = watcher.result("presence_stats", json!({"channel": "seen:a"}));
        assert_eq!(stats, json!({"num_clients": 2, "num_users": 1}));
        watcher.expect_nothing();
    }
}
