//! A cluster of servers, and all that can happen to it.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use crate::{
    instance::{Instance, lasting_port},
    server::wait_until,
};

pub(crate) struct Cluster {
    /// First the three primaries of the start, then their replicas in the same order.
    pub(crate) nodes: Vec<Instance>,
}

/// How a replica takes its primary's place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failover {
    /// The primary takes part and nothing is lost.
    Planned,
    /// The primary is not asked, the other primaries are.
    Forced,
    /// Nobody is asked.
    Takeover,
}

impl Cluster {
    /// Three primaries, and three replicas if there is one for each.
    pub(crate) fn start(replicas_each: usize) -> Self {
        Self::start_with(replicas_each, &[])
    }

    /// Nodes with these arguments. All know one another and all slots when this returns.
    pub(crate) fn start_with(replicas_each: usize, arguments: &[&str]) -> Self {
        let nodes = (0..PRIMARIES * (1 + replicas_each)).map(|_| start_node(arguments));
        let cluster = Self { nodes: nodes.collect() };
        for (index, slots) in SLOTS.into_iter().enumerate() {
            let (first, last) = (slots.start().to_string(), slots.end().to_string());
            let node = &cluster.nodes[index];
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            // Two with the same number would have to settle it first.
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        cluster.introduce();
        for index in PRIMARIES..cluster.nodes.len() {
            let primary = cluster.id(index % PRIMARIES);
            wait_until("a replica knows its primary", || {
                cluster.nodes[index].try_ask::<()>(&["CLUSTER", "REPLICATE", &primary]).is_ok()
            });
        }
        cluster.wait_until_whole();
        cluster
    }

    /// Everybody to everybody, which is faster than gossip.
    fn introduce(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            for other in &self.nodes[..index] {
                let (port, bus) = (other.port().to_string(), bus_port(other).to_string());
                node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        wait_until("all nodes have met", || {
            let all = self.nodes.len().to_string();
            self.nodes.iter().all(|node| {
                node.fact(&["CLUSTER", "INFO"], "cluster_known_nodes").as_ref() == Some(&all)
                    && !node.ask::<String>(&["CLUSTER", "NODES"]).contains("handshake")
            })
        });
    }

    /// Waits until all running nodes are content with the cluster, and replicas in step with what
    /// they replicate.
    pub(crate) fn wait_until_whole(&self) {
        wait_until("the cluster is whole", || {
            self.running().all(|(_, node)| {
                node.fact(&["CLUSTER", "INFO"], "cluster_state").as_deref() == Some("ok")
                    && (node.is_primary() || node.is_in_step())
                    && self.running().all(|(_, other)| knows(node, other))
            })
        });
    }

    /// Adds a node that owns nothing.
    pub(crate) fn add_primary(&mut self, arguments: &[&str]) -> usize {
        self.nodes.push(start_node(arguments));
        self.introduce();
        self.wait_until_whole();
        self.nodes.len() - 1
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Instance)> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.is_running())
    }

    pub(crate) fn id(&self, node: usize) -> String {
        self.nodes[node].ask(&["CLUSTER", "MYID"])
    }

    pub(crate) fn slot(&self, key: &str) -> u16 {
        let (_, node) = self.running().next().expect("a node runs");
        node.ask(&["CLUSTER", "KEYSLOT", key])
    }

    /// The running node that takes itself for the owner of a key's slot; of two, the newer one.
    pub(crate) fn owner(&self, key: &str) -> usize {
        let slot = self.slot(key);
        let owners = self.running().filter_map(|(index, node)| Some((claim(node, slot)?, index)));
        owners.max().expect("a running node owns it").1
    }

    /// A running replica of a node.
    pub(crate) fn replica_of(&self, primary: usize) -> usize {
        let port = self.nodes[primary].port().to_string();
        let is_its = |node: &Instance| {
            node.fact(&["INFO", "replication"], "master_port").as_ref() == Some(&port)
        };
        let mut replicas = self.running().filter(|(_, node)| is_its(node));
        replicas.next().expect("a running replica").0
    }

    /// Makes a replica a primary, and waits until it takes itself for one.
    pub(crate) fn fail_over(&self, replica: usize, how: Failover) {
        let replica = &self.nodes[replica];
        let words: &[&str] = match how {
            Failover::Planned => &["CLUSTER", "FAILOVER"],
            Failover::Forced => &["CLUSTER", "FAILOVER", "FORCE"],
            Failover::Takeover => &["CLUSTER", "FAILOVER", "TAKEOVER"],
        };
        replica.ask::<()>(words);
        wait_until("the replica is a primary", || replica.is_primary());
    }

    /// Begins to move a slot: from now on keys that the source does not have are asked for at the
    /// target (ASK).
    pub(crate) fn begin_move(&self, slot: u16, source: usize, target: usize) {
        let slot = slot.to_string();
        let (source_id, target_id) = (self.id(source), self.id(target));
        let importing = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id];
        self.nodes[target].ask::<()>(&importing);
        let migrating = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id];
        self.nodes[source].ask::<()>(&migrating);
    }

    /// Moves the keys of a slot that is being moved.
    pub(crate) fn move_keys(&self, slot: u16, source: usize, target: usize) {
        let (slot, port) = (slot.to_string(), self.nodes[target].port().to_string());
        let source = &self.nodes[source];
        loop {
            let keys: Vec<String> = source.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            if keys.is_empty() {
                return;
            }
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "10000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            source.ask::<()>(&words);
        }
    }

    /// Hands over a slot whose keys have been moved.
    pub(crate) fn finish_move(&self, slot: u16, source: usize, target: usize) {
        let (slot, id) = (slot.to_string(), self.id(target));
        for node in [target, source] {
            self.nodes[node].ask::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
        }
    }

    /// Moves slots the old way, one after the other.
    pub(crate) fn move_slots(&self, slots: RangeInclusive<u16>, source: usize, target: usize) {
        for slot in slots {
            self.begin_move(slot, source, target);
            self.move_keys(slot, source, target);
            self.finish_move(slot, source, target);
            self.wait_until_known(slot, target);
        }
    }

    /// Waits until all primaries know who has a slot: to move another one before leads to claims of
    /// the same time.
    fn wait_until_known(&self, slot: u16, owner: usize) {
        let (slot, id) = (slot.to_string(), self.id(owner));
        for (_, node) in self.running().filter(|(_, node)| node.is_primary()) {
            node.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
        }
        wait_until("all primaries tell the same of the epochs", || {
            let epoch = |node: &Instance| node.fact(&["CLUSTER", "INFO"], "cluster_current_epoch");
            let epochs: BTreeSet<_> = self.running().map(|(_, node)| epoch(node)).collect();
            epochs.len() == 1
        });
    }

    /// Moves slots at once, which Valkey can since 9.0; returns when they are there.
    pub(crate) fn move_slots_atomically(
        &self,
        slots: &RangeInclusive<u16>,
        source: usize,
        target: usize,
    ) {
        let (first, last) = (slots.start().to_string(), slots.end().to_string());
        let id = self.id(target);
        let words = ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", &first, &last, "NODE", &id];
        self.nodes[source].ask::<()>(&words);
        wait_until("the slots have moved", || claim(&self.nodes[target], *slots.start()).is_some());
    }
}

/// The epoch since which a node takes itself for the owner of a slot.
fn claim(node: &Instance, slot: u16) -> Option<u64> {
    let nodes: String = node.try_ask(&["CLUSTER", "NODES"]).ok()?;
    let myself = nodes.lines().find(|line| line.contains("myself")).expect("it knows itself");
    let words: Vec<_> = myself.split(' ').collect();
    // Slots that are on their way stand in brackets.
    let mut ranges = words[8..].iter().filter(|range| !range.starts_with('['));
    let has_it = ranges.any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (first.parse().unwrap()..=last.parse().unwrap()).contains(&slot)
    });
    (words[2].contains("master") && has_it).then(|| words[6].parse().unwrap())
}

/// Whether a node has heard what part another one plays.
fn knows(node: &Instance, other: &Instance) -> bool {
    let nodes: String = node.try_ask(&["CLUSTER", "NODES"]).unwrap_or_default();
    let part = if other.is_primary() { "master" } else { "slave" };
    let address = format!("{}@", other.address());
    nodes
        .lines()
        .any(|line| line.contains(&address) && line.contains(part) && !line.contains("fail"))
}

/// One that knows no other.
pub(crate) fn start_node(arguments: &[&str]) -> Instance {
    let bus = lasting_port().to_string();
    let mut all = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
    all.extend(["--cluster-node-timeout", "2000", "--repl-ping-replica-period", "1"]);
    all.extend(arguments);
    Instance::start(&all)
}

fn bus_port(node: &Instance) -> u16 {
    node.ask::<(String, u16)>(&["CONFIG", "GET", "cluster-port"]).1
}

const PRIMARIES: usize = 3;
const SLOTS: [RangeInclusive<u16>; PRIMARIES] = [0..=5460, 5461..=10922, 10923..=16383];

#[test]
fn a_replica_takes_over_as_planned_and_by_force() {
    let cluster = Cluster::start(1);
    let key = "a key";
    let primary = cluster.owner(key);
    let replica = cluster.replica_of(primary);
    cluster.fail_over(replica, Failover::Planned);
    assert_eq!(cluster.owner(key), replica);
    cluster.wait_until_whole();
    cluster.fail_over(primary, Failover::Forced);
    cluster.wait_until_whole();
    assert_eq!(cluster.owner(key), primary);
    cluster.fail_over(replica, Failover::Takeover);
    cluster.wait_until_whole();
    assert_eq!(cluster.owner(key), replica);
}

#[test]
fn a_cluster_replaces_a_primary_that_crashed_and_takes_it_back_as_a_replica() {
    let mut cluster = Cluster::start(1);
    let replica = cluster.replica_of(0);
    cluster.nodes[0].kill();
    wait_until("the replica takes over", || cluster.nodes[replica].is_primary());
    cluster.nodes[0].run();
    cluster.wait_until_whole();
    assert_eq!(cluster.replica_of(replica), 0);
}

#[test]
fn a_node_that_stands_still_for_a_moment_stays_what_it_is() {
    let mut cluster = Cluster::start(0);
    cluster.nodes[1].pause();
    // How long it stands still.
    std::thread::sleep(Duration::from_millis(500));
    cluster.nodes[1].resume();
    cluster.wait_until_whole();
    assert!(cluster.nodes[1].is_primary());
}

#[test]
fn slots_move_with_a_stop_in_the_middle() {
    let cluster = Cluster::start(0);
    let (there, new) = ("{tag}there", "{tag}new");
    let slot = cluster.slot(there);
    let source = cluster.owner(there);
    let target = (source + 1) % PRIMARIES;
    cluster.nodes[source].ask::<()>(&["SET", there, "1"]);
    cluster.begin_move(slot, source, target);
    let error = cluster.nodes[source].try_ask::<()>(&["SET", new, "2"]).unwrap_err();
    assert_eq!(error.code(), Some("ASK"), "{error}");
    cluster.move_keys(slot, source, target);
    cluster.finish_move(slot, source, target);
    assert_eq!(cluster.owner(there), target);
    assert_eq!(cluster.nodes[target].ask::<String>(&["GET", there]), "1");

    // And back, with its neighbour.
    cluster.move_slots(slot..=slot, target, source);
    assert_eq!(cluster.owner(there), source);
    if cluster.nodes[0].product().moves_slots_atomically() {
        cluster.move_slots_atomically(&(slot..=slot), source, target);
        assert_eq!(cluster.owner(there), target);
    }
}
