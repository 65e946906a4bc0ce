//! The rights that the documentation gives a node's user: all that it needs, and nothing else.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use dunlin_core::{
    broker::{self, Broker},
    presence::{self, PresenceStore},
};
use dunlin_redis::{
    broker::{RedisBroker, Settings},
    metrics::LinkMetrics,
    presence::RedisPresence,
    url::RedisUrl,
};

use crate::{node::Node, server::RedisServer};

/// The rules behind a sentence of the documentation.
fn rules(sentence: &str) -> Vec<String> {
    let documentation = include_str!("../../../../docs/operations.md");
    let start = format!("{sentence}: `ACL SETUSER dunlin ");
    let rules = documentation.split(&start).nth(1).expect("the documentation has rules");
    let rules = rules.split('`').next().unwrap().replace("PASSWORD", "pass");
    rules.split(' ').map(str::to_owned).collect()
}

const ALL: &str = "All that a user needs";

/// Gives a server a user with exactly these rules.
fn let_in(server: &RedisServer, rules: &[String]) -> RedisUrl {
    let words = ["ACL", "SETUSER", "ann", "reset"].map(str::as_bytes);
    let words: Vec<_> = words.into_iter().chain(rules.iter().map(|rule| rule.as_bytes())).collect();
    let _: String = server.run_command(&words);
    format!("redis+unix://ann:pass@{}", server.socket().display()).parse().unwrap()
}

fn refused(server: &RedisServer) -> Vec<redis::Value> {
    server.run_command(&[b"ACL", b"LOG"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_documented_rights_a_node_conforms() {
    let server = RedisServer::start();
    let url = let_in(&server, &rules(ALL));
    broker::conformance::run(|interest| {
        let settings = Settings::new(url.clone());
        async {
            let broker = RedisBroker::start(settings, interest, LinkMetrics::default());
            broker.await.unwrap() as Arc<dyn Broker>
        }
    })
    .await;
    let lease = Duration::from_secs(1);
    let start = || {
        let settings = Settings::new(url.clone());
        Box::pin(async move {
            let node = Node::start_with(settings, 1000).await.unwrap();
            RedisPresence::start(node.broker, lease) as Arc<dyn PresenceStore>
        })
    };
    presence::conformance::run(start().await).await;
    presence::conformance::run_together(start, lease).await;
    assert_eq!(refused(&server), [], "redis refused nothing");
}

#[test]
fn with_the_documented_rights_nothing_else_can_be_done() {
    let server = RedisServer::start();
    let _: () = server.run_command(&[b"SET", b"another", b"1"]);
    let_in(&server, &rules(ALL));
    let mut connection = server.client().get_connection().unwrap();
    redis::cmd("AUTH").arg(&["ann", "pass"]).exec(&mut connection).unwrap();
    for command in [
        "FLUSHALL",
        "FLUSHDB",
        "SWAPDB 0 1",
        "KEYS *",
        "SCAN 0",
        "RANDOMKEY",
        "DBSIZE",
        "RENAME dunlin2:a dunlin2:b",
        "SORT dunlin2:a",
        "MIGRATE localhost 1 dunlin2:a 0 100",
        "MONITOR",
        "CONFIG GET *",
        "CONFIG SET maxmemory 1",
        "ACL LIST",
        "CLIENT LIST",
        "CLIENT PAUSE 1",
        "SCRIPT FLUSH",
        "FUNCTION FLUSH",
        "REPLICAOF localhost 1",
        "DEBUG SLEEP 0",
        "SAVE",
        "SHUTDOWN NOSAVE",
        "PSUBSCRIBE *",
        "PUBSUB CHANNELS",
        "GET another",
        "DEL another",
        "SUBSCRIBE another",
        "PUBLISH another 1",
    ] {
        let mut words = command.split(' ');
        let mut asked = redis::cmd(words.next().unwrap());
        let answer: redis::RedisResult<redis::Value> =
            asked.arg(words.collect::<Vec<_>>()).query(&mut connection);
        assert_eq!(answer.unwrap_err().code(), Some("NOPERM"), "{command}");
    }
}

/// What is added to the code belongs into the documentation, and what goes, out of it.
#[test]
fn the_documented_commands_are_those_of_the_code() {
    let server = RedisServer::start();
    let known: Vec<String> = server.run_command(&[b"COMMAND", b"LIST"]);
    let known: BTreeSet<_> = known.into_iter().map(|name| name.to_lowercase()).collect();
    let mut words = BTreeSet::new();
    gather(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut words);
    let subcommand = |container: &str, name: &str| {
        let both = format!("{container}|{name}");
        (words.contains(container) && words.contains(name)).then_some(both)
    };
    // Everybody may greet, and choosing a database is a right of its own.
    let plain = words.iter().filter(|word| !["auth", "hello", "select"].contains(&word.as_str()));
    let mut used: BTreeSet<_> = plain.filter(|word| known.contains(*word)).cloned().collect();
    for (container, name) in [("client", "kill"), ("cluster", "slots"), ("cluster", "nodes")] {
        if let Some(both) = subcommand(container, name) {
            used.remove(container);
            used.insert(both);
        }
    }
    let documented: BTreeSet<_> =
        rules(ALL).iter().filter_map(|rule| rule.strip_prefix('+')).map(str::to_owned).collect();
    assert_eq!(documented, used, "docs/operations.md and the code name the same");
}

/// The words in capitals that code says to a server, in small letters.
fn gather(place: &Path, words: &mut BTreeSet<String>) {
    if place.is_dir() {
        for entry in fs::read_dir(place).unwrap() {
            gather(&entry.unwrap().path(), words);
        }
        return;
    }
    if place.ends_with("tests.rs") {
        return;
    }
    let text = fs::read_to_string(place).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let is_command =
        |word: &str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    let quoted = code.split(['\'', '"']).flat_map(|part| part.split(r"\r\n"));
    words.extend(quoted.filter(|word| is_command(word)).map(str::to_lowercase));
}
