//! A primary with replicas and three sentinels that watch it, and all that can happen to them.

use std::fmt::Write;

use crate::{
    instance::Instance,
    server::{free_port, wait_until},
};

/// The name the sentinels know the primary by.
pub(crate) const SERVICE: &str = "chat-service";

pub(crate) struct Sentinels {
    /// At the start the first is the primary.
    pub(crate) servers: Vec<Instance>,
    pub(crate) sentinels: Vec<Instance>,
}

impl Sentinels {
    /// A primary, a replica and three sentinels.
    pub(crate) fn start() -> Self {
        Self::start_with(1, &[])
    }

    /// Servers with these arguments. All know one another when this returns.
    pub(crate) fn start_with(replicas: usize, arguments: &[&str]) -> Self {
        let primary = Instance::start(arguments);
        let port = primary.port().to_string();
        let mut servers = vec![primary];
        for _ in 0..replicas {
            let replica = Instance::start(arguments);
            replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]);
            servers.push(replica);
        }
        wait_until("the replicas are in step", || servers[1..].iter().all(Instance::is_in_step));
        let prepared: Vec<_> = (0..3).map(|_| Instance::prepare()).collect();
        let configurations: Vec<_> =
            (0..3).map(|index| configuration(index, &prepared, &servers)).collect();
        let sentinels = prepared
            .into_iter()
            .zip(&configurations)
            .map(|(sentinel, configuration)| sentinel.start_sentinel(configuration));
        let set = Self { sentinels: sentinels.collect(), servers };
        wait_until("the sentinels know all", || set.can_fail_over());
        set
    }

    /// Whether each running sentinel reaches a quorum and a good replica.
    fn can_fail_over(&self) -> bool {
        self.running().all(|sentinel| {
            let replicas: Vec<Vec<(String, String)>> =
                sentinel.try_ask(&["SENTINEL", "REPLICAS", SERVICE]).unwrap_or_default();
            let is_good = |replica: &Vec<(String, String)>| {
                let is = |name: &str, value: &str| {
                    replica.iter().any(|(fact, found)| fact == name && found == value)
                };
                is("flags", "slave") && is("master-link-status", "ok")
            };
            sentinel.try_ask::<String>(&["SENTINEL", "CKQUORUM", SERVICE]).is_ok()
                && replicas.len() + 1 == self.servers.len()
                && replicas.iter().all(is_good)
        })
    }

    fn running(&self) -> impl Iterator<Item = &Instance> {
        self.sentinels.iter().filter(|sentinel| sentinel.is_running())
    }

    /// The server that all running sentinels name; none while they differ.
    pub(crate) fn primary(&self) -> Option<usize> {
        let named = |sentinel: &Instance| {
            let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE];
            let (_, port): (String, u16) = sentinel.try_ask(&words).ok()?;
            self.servers.iter().position(|server| server.port() == port)
        };
        let mut named = self.running().map(named);
        let first = named.next()??;
        named.all(|other| other == Some(first)).then_some(first)
    }

    /// Has a sentinel promote a replica, without a fault or anybody's consent; returns the new
    /// primary once all sentinels name it and it knows itself.
    pub(crate) fn fail_over(&self) -> usize {
        let old = self.primary().expect("the sentinels agree");
        let sentinel = self.running().next().expect("a sentinel runs");
        sentinel.ask::<()>(&["SENTINEL", "FAILOVER", SERVICE]);
        self.wait_for_successor(old)
    }

    /// Waits until all running sentinels name another primary than `old`, and it is one.
    pub(crate) fn wait_for_successor(&self, old: usize) -> usize {
        let mut successor = None;
        wait_until("there is another primary", || {
            successor = self.primary().filter(|&new| new != old);
            successor.is_some_and(|new| self.servers[new].is_primary())
        });
        successor.expect("it was waited for")
    }

    /// Has the primary itself hand over to a replica in step, without a sentinel.
    pub(crate) fn hand_over(&self, primary: usize, replica: usize) {
        let port = self.servers[replica].port().to_string();
        self.servers[primary].ask::<()>(&["FAILOVER", "TO", "127.0.0.1", &port]);
        wait_until("the replica took over", || self.servers[replica].is_primary());
    }

    /// Makes a server the replica of another, or of an address where nobody listens.
    pub(crate) fn replicate(&self, server: usize, of: Option<usize>) {
        let port = of.map_or_else(free_port, |of| self.servers[of].port());
        self.servers[server].ask::<()>(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
    }
}

/// What sentinels would find out about one another within some seconds, they know from the start.
fn configuration(index: usize, sentinels: &[Instance], servers: &[Instance]) -> String {
    let id = |index: usize| format!("{:040x}", index + 1);
    let mut text = format!(
        "sentinel myid {}\nsentinel monitor {SERVICE} 127.0.0.1 {} 2\n\
         sentinel down-after-milliseconds {SERVICE} 1000\n\
         sentinel failover-timeout {SERVICE} 5000\n",
        id(index),
        servers[0].port(),
    );
    for replica in &servers[1..] {
        writeln!(text, "sentinel known-replica {SERVICE} 127.0.0.1 {}", replica.port()).unwrap();
    }
    for (other, sentinel) in sentinels.iter().enumerate().filter(|(other, _)| *other != index) {
        let port = sentinel.port();
        writeln!(text, "sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {}", id(other)).unwrap();
    }
    text
}

#[test]
fn a_sentinel_promotes_by_order() {
    let set = Sentinels::start();
    assert_eq!(set.primary(), Some(0));
    assert_eq!(set.fail_over(), 1);
    wait_until("the old primary follows", || set.servers[0].is_in_step());
}

#[test]
fn sentinels_replace_a_primary_that_crashed_and_take_it_back_as_a_replica() {
    let mut set = Sentinels::start();
    set.servers[0].kill();
    assert_eq!(set.wait_for_successor(0), 1);
    set.servers[0].run();
    // On a busy machine they may take its successor for dead, too, and it is the primary again.
    wait_until("one follows the other", || {
        let primary = set.primary();
        primary.is_some_and(|it| set.servers[it].is_primary() && set.servers[1 - it].is_in_step())
    });
}

#[test]
fn without_their_majority_sentinels_do_nothing() {
    let mut set = Sentinels::start();
    set.sentinels[1].kill();
    set.sentinels[2].pause();
    set.servers[0].pause();
    wait_until("the last sentinel sees it", || {
        set.sentinels[0].log().contains("+sdown master chat-service")
    });
    assert_eq!(set.primary(), Some(0));
    set.sentinels[1].run();
    assert_eq!(set.wait_for_successor(0), 1);
    set.sentinels[2].resume();
    set.servers[0].resume();
    wait_until("the third hears of it", || set.primary() == Some(1));
}

#[test]
fn a_server_changes_its_part_without_sentinels() {
    let set = Sentinels::start();
    set.replicate(1, None);
    wait_until("it lost its primary", || !set.servers[1].is_in_step());
    set.replicate(1, Some(0));
    wait_until("it is in step", || set.servers[1].is_in_step());
    set.hand_over(0, 1);
    wait_until("the old one follows", || set.servers[0].is_in_step());
}
