//! The scripts in a cluster: only the primary of their slot does them, as a whole or not at all.

use std::time::Duration;

use dunlin_core::channel::ChannelName;
use dunlin_redis::{keys::Keys, link::value::Value, partition::Partition};

use crate::{
    cluster::Cluster,
    instance::Instance,
    resp::{RawLink, text},
};

/// The text of a script that publishes.
macro_rules! script {
    ($first_line:literal, $($part:literal),*) => {
        concat!(
            $first_line,
            "\nlocal PUBLISH = 'SPUBLISH'\n",
            $(include_str!(concat!("../../src/lua/", $part, ".lua"))),*
        )
    };
}

const PUBLISH: &str = script!("#!lua", "settle", "keep", "publish");
const PUBLISH_ONCE: &str = script!("#!lua", "publish_once");
const PUBLISH_PLAIN: &str = script!("#!lua flags=allow-oom", "publish_plain");
const KEEP: &str = script!("#!lua", "presence_member", "presence_keep");
const SWEEP: &str = script!("#!lua flags=allow-oom", "presence_member", "presence_sweep");
const STATS: &str = script!("#!lua flags=allow-oom", "presence_living", "presence_stats");
const POSITIONS: &str = script!("#!lua flags=allow-oom", "settle", "positions");

/// What is said of one channel.
struct Calls {
    channel: String,
    stream: String,
    meta: String,
    seed: String,
    never: String,
    nodes: String,
    hosts: String,
    start: String,
    prefix: String,
}

impl Calls {
    fn new(name: &str) -> Self {
        let (name, keys) = (ChannelName::new(name).unwrap(), Keys::new("dunlin:").sharded());
        let partition = Partition::of(&name);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            channel: text(&keys.channel(&name)),
            stream: text(&keys.stream(&name).concat()),
            meta: text(&keys.meta(&name).concat()),
            seed: text(&keys.seed(partition).concat()),
            never: text(&keys.never(partition)),
            nodes: text(&keys.nodes(partition)),
            hosts: text(&keys.hosts(&name)),
            start: text(&keys.start(partition)),
            prefix: text(&keys.channel_prefix(partition)),
        }
    }

    /// A call with keys and arguments.
    fn call(link: &mut RawLink, script: &str, keys: &[&str], arguments: &[&str]) -> Value {
        let count = keys.len().to_string();
        link.ask(&[&["EVAL", script, &count], keys, arguments].concat())
    }

    fn publish(&self, link: &mut RawLink) -> Value {
        self.publish_as(link, ID, "0")
    }

    /// With an id, which `was_sent` before ("1") or not ("0").
    fn publish_as(&self, link: &mut RawLink, id: &str, was_sent: &str) -> Value {
        let retention = ["9000", "9000", "=", "10"];
        let publish = [&self.channel, was_sent, "1", "kept", id];
        let arguments = [&["7", "12345678"], &retention[..], &publish].concat();
        Self::call(link, PUBLISH, &[&self.stream, &self.meta, &self.seed], &arguments)
    }

    fn publish_once(&self, link: &mut RawLink) -> Value {
        let answer = format!("{}i:1:c:k", self.start);
        Self::call(link, PUBLISH_ONCE, &[&answer], &[&self.channel, "once", "9000"])
    }

    fn publish_plain(&self, link: &mut RawLink) -> Value {
        let publishes = [&self.channel[..], "plain", &self.channel, "plain too"];
        Self::call(link, PUBLISH_PLAIN, &[&self.never], &publishes)
    }

    fn positions(&self, link: &mut RawLink) -> Value {
        let keys = [&self.stream[..], &self.meta, &self.seed];
        Self::call(link, POSITIONS, &keys, &["7", "12345678", "9000"])
    }

    /// The node's call with this number: a client comes, or leaves.
    fn keep(&self, link: &mut RawLink, number: &str, comes: bool) -> Value {
        let member = if comes { MEMBER } else { "" };
        let mode = if number == "1" { "first" } else { "keep" };
        let lease = ["node", "60000", number, mode, &self.prefix];
        let arguments = [&[&self.start[..]], &lease[..], &["c", "ann", member, "0"]].concat();
        Self::call(link, KEEP, &[&self.nodes, &self.never], &arguments)
    }

    fn sweep(&self, link: &mut RawLink) -> Value {
        let arguments = [&self.start[..], "256", &self.prefix, "node"];
        Self::call(link, SWEEP, &[&self.nodes, &self.never], &arguments)
    }

    fn stats(&self, link: &mut RawLink) -> Value {
        let keys = [&self.nodes[..], &self.hosts, &self.never];
        Self::call(link, STATS, &keys, &[&self.start, "c"])
    }

    /// All of them, presence in an order that leaves nothing.
    fn all(&self, link: &mut RawLink) -> Vec<Value> {
        vec![
            self.publish(link),
            self.publish_once(link),
            self.publish_plain(link),
            self.positions(link),
            self.keep(link, "1", true),
            self.stats(link),
            self.sweep(link),
        ]
    }
}

/// The first words of errors; of anything else what it is.
fn first_words(answers: &[Value]) -> Vec<String> {
    let word = |answer: &Value| match answer {
        Value::Error(_) => text(answer).split(' ').next().unwrap().to_owned(),
        answer => format!("{answer:?}"),
    };
    answers.iter().map(word).collect()
}

#[test]
fn scripts_publish_at_the_owner_and_are_refused_by_all_others() {
    let (cluster, calls) = (Cluster::start(1), Calls::new("c"));
    let owner = cluster.owner(&calls.stream);
    let mut subscriber = cluster.nodes[owner].link();
    subscriber.subscribe("SSUBSCRIBE", &calls.channel).unwrap();
    let answers = calls.all(&mut cluster.nodes[owner].link());
    assert!(!answers.iter().any(|it| matches!(it, Value::Error(_))), "{answers:?}");
    let counts = [0, 1, 1].map(Value::Integer).to_vec();
    assert_eq!(answers[2], Value::Array(counts), "as a transaction of a write and two publishes");
    assert_eq!(answers[5], Value::Array([1, 1].map(Value::Integer).to_vec()));
    assert!(subscriber.push_of_kind("message")[2].ends_with("kept"));
    for expected in ["once", "plain", "plain too"] {
        assert_eq!(subscriber.push_of_kind("message")[2], expected);
    }
    // Who sweeps for a node that leaves announces nothing.
    assert_eq!(subscriber.push_within(Duration::from_millis(50)), None);
    for (number, node) in cluster.nodes.iter().enumerate().filter(|(number, _)| *number != owner) {
        let refused = first_words(&calls.all(&mut node.link()));
        assert_eq!(refused, ["MOVED"; 7], "node {number}");
    }
}

/// What was not done while its partition was on its way may come after what was.
#[test]
fn what_is_sent_again_overtakes_nothing_of_its_node() {
    let (cluster, calls) = (Cluster::start(1), Calls::new("c"));
    let mut link = cluster.nodes[cluster.owner(&calls.stream)].link();
    let id = |number: u8| format!("the-node{}{}", "\0".repeat(7), char::from(number));
    assert!(matches!(calls.publish_as(&mut link, &id(2), "0"), Value::Bulk(_)));
    assert_eq!(calls.publish_as(&mut link, &id(1), "1"), Value::Null, "a younger one is there");
    assert!(matches!(calls.publish_as(&mut link, &id(4), "1"), Value::Bulk(_)), "in time");
    assert_eq!(calls.publish_as(&mut link, &id(3), "1"), Value::Null, "between two");
    let first = calls.publish_as(&mut link, &id(2), "1");
    assert!(matches!(first, Value::Bulk(_)), "it happened");
    assert_eq!(link.ask(&["XLEN", &calls.stream]), Value::Integer(2));
}

/// Keys that are at either end, or nowhere yet, make a call fail before it has done anything.
#[test]
fn nothing_is_done_in_part_while_a_slot_moves() {
    let cluster = Cluster::start_with(0, &["--enable-debug-command", "yes"]);
    let calls = Calls::new("c");
    let source = cluster.owner(&calls.stream);
    let target = (source + 1) % cluster.nodes.len();
    let slot = cluster.slot(&calls.stream);
    let (at_source, at_target) = (&cluster.nodes[source], &cluster.nodes[target]);
    let mut link = at_source.link();
    assert_eq!(calls.keep(&mut link, "1", true), Value::Integer(1));
    assert!(matches!(calls.publish(&mut link), Value::Bulk(_)));
    cluster.begin_move(slot, source, target);

    // What is kept is published as long as all is there; nothing is that has to find its keys.
    assert!(matches!(calls.publish(&mut link), Value::Bulk(_)));
    assert!(matches!(calls.positions(&mut link), Value::Bulk(_) | Value::Array(_)));
    let mut refuse_all = |what: &str| {
        let before = contents(at_source, at_target);
        for answer in [
            calls.publish_once(&mut link),
            calls.publish_plain(&mut link),
            calls.keep(&mut link, "2", false),
            calls.sweep(&mut link),
            calls.stats(&mut link),
        ] {
            let word = &first_words(&[answer])[0];
            assert!(["ASK", "TRYAGAIN"].contains(&&word[..]), "{word} {what}");
        }
        assert_eq!(contents(at_source, at_target), before, "{what}");
    };
    refuse_all("before a key has moved");
    let port = at_target.port().to_string();
    let migrate = |key: &str| {
        at_source.ask::<()>(&["MIGRATE", "127.0.0.1", &port, key, "0", "10000"]);
    };
    let users = format!("{}u:c", calls.start);
    migrate(&calls.seed);
    migrate(&users);
    refuse_all("with the count of users at the target");
    migrate(&calls.nodes);
    refuse_all("with the leases at the target");
    assert_eq!(first_words(&[calls.publish(&mut link)]), ["TRYAGAIN"]);

    cluster.move_keys(slot, source, target);
    cluster.finish_move(slot, source, target);
    let mut link = at_target.link();
    assert_eq!(calls.stats(&mut link), Value::Array([1, 1].map(Value::Integer).to_vec()));
    assert_eq!(calls.keep(&mut link, "2", false), Value::Integer(2));
    assert_eq!(calls.stats(&mut link), Value::Array([0, 0].map(Value::Integer).to_vec()));
    assert!(matches!(calls.publish(&mut link), Value::Bulk(_)));
    assert_eq!(at_target.ask::<u64>(&["XLEN", &calls.stream]), 3, "every one that was answered");
}

/// All that two nodes keep.
fn contents(left: &Instance, right: &Instance) -> Vec<Vec<(String, String)>> {
    let of = |node: &Instance| {
        let mut keys: Vec<String> = node.ask(&["KEYS", "*"]);
        keys.sort();
        let value = |key: String| {
            let digest: Vec<String> = node.ask(&["DEBUG", "DIGEST-VALUE", &key]);
            (key, digest.concat())
        };
        keys.into_iter().map(value).collect()
    };
    [left, right].map(of).into()
}

/// A member: see `presence_member.lua`.
const MEMBER: &str = "1xxx\u{5}\0\u{3}ann";
/// The id of a publish.
const ID: &str = "0123456789abcdef";
