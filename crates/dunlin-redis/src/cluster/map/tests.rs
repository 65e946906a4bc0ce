//! Whom to believe.

use super::{super::report::Node, *};
use crate::url::Security;

fn id(name: &str) -> NodeId {
    NodeId::new(name)
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::Tcp { host: "h".to_owned(), port, security: Security::Plain }
}

/// What `by` says: nodes as NAME, port and epoch, and who owns which half of the partitions.
fn report(by: &str, nodes: &[(&str, u16, u64)], halves: [Option<&str>; 2]) -> Report {
    let node = |(name, port, epoch): &(&str, u16, u64)| {
        let node = Node { endpoint: Some(endpoint(*port)), epoch: *epoch, primary: None };
        (id(name), node)
    };
    let owner = |partition: Partition| halves[partition.place() / HALF].map(id);
    let owners = Partition::all().map(owner).collect();
    Report { by: id(by), nodes: nodes.iter().map(node).collect(), owners }
}

fn replicates(mut report: Report, replica: &str, primary: &str) -> Report {
    report.nodes.get_mut(&id(replica)).unwrap().primary = Some(id(primary));
    report
}

/// Expects who owns the halves.
#[track_caller]
fn check(reports: &[Report], halves: [Option<&str>; 2]) {
    let map = judge(&reports.iter().collect::<Vec<_>>());
    let owner = |partition| {
        let has_it = |shard: &&Shard| shard.partitions.contains(&partition);
        let shard = map.shards.iter().find(has_it)?;
        assert!(shard.nodes.contains(&shard.primary_id));
        Some(shard.primary_id.clone())
    };
    for partition in Partition::all() {
        assert_eq!(owner(partition), halves[partition.place() / HALF].map(id));
    }
}

const HALF: usize = Partition::COUNT / 2;
const BOTH: [(&str, u16, u64); 3] = [("a", 1, 1), ("b", 2, 2), ("c", 3, 1)];

#[test]
fn a_map_says_who_owns_what_and_where() {
    let say = |by| replicates(report(by, &BOTH, [Some("a"), Some("b")]), "c", "a");
    let reports = ["a", "b", "c"].map(say);
    check(&reports, [Some("a"), Some("b")]);
    let map = judge(&reports.iter().collect::<Vec<_>>());
    let [a, b] = &map.shards[..] else { panic!("{map:?}") };
    assert_eq!((&a.primary, &b.primary), (&endpoint(1), &endpoint(2)));
    assert_eq!(a.nodes, [id("a"), id("c")].into());
    assert_eq!(b.nodes, [id("b")].into());
    assert!(a.partitions.iter().copied().eq(Partition::all().take(HALF)));
}

#[test]
fn what_nobody_owns_is_in_no_shard() {
    check(&[report("a", &BOTH, [Some("a"), None])], [Some("a"), None]);
    check(&[report("a", &BOTH, [None, None])], [None, None]);
    check(&[], [None, None]);
}

#[test]
fn a_dead_primary_owns_its_slots_until_another_one_does() {
    let before = [report("b", &BOTH, [Some("a"), Some("b")])];
    check(&before, [Some("a"), Some("b")]);
    let promoted = [("a", 1, 1), ("b", 2, 2), ("c", 3, 4)];
    check(&[report("b", &promoted, [Some("c"), Some("b")])], [Some("c"), Some("b")]);
}

#[test]
fn the_newest_claim_wins_however_many_are_stale() {
    let promoted = [("a", 1, 1), ("b", 2, 2), ("c", 3, 4)];
    let stale = |by| report(by, &BOTH, [Some("a"), Some("b")]);
    let new = report("c", &promoted, [Some("c"), Some("b")]);
    check(&[stale("a"), stale("b"), new.clone()], [Some("c"), Some("b")]);
    check(&[new, stale("a"), stale("b")], [Some("c"), Some("b")]);
}

#[test]
fn of_equal_claims_the_one_that_most_know_of_wins() {
    let same = [("a", 1, 7), ("b", 2, 7), ("c", 3, 1)];
    let [one, other] = [[Some("a"), Some("b")], [Some("b"), Some("b")]];
    let say = |by, halves| report(by, &same, halves);
    check(&[say("a", one), say("c", other), say("d", other)], other);
    check(&[say("b", other), say("c", one), say("d", one)], one);
}

#[test]
fn who_says_that_it_does_not_own_it_is_believed() {
    // Of a slot that moved from b to a, c has not heard; but that b has got another slot since.
    let [moved, stale] = [[Some("a"), Some("b")], [Some("b"), Some("b")]];
    let late = [("a", 1, 3), ("b", 2, 4), ("c", 3, 1)];
    let say = |by, halves| report(by, &late, halves);
    check(&[say("b", moved), say("c", stale), say("d", stale)], moved);
    // Its own word of before counts no more.
    let early = report("b", &BOTH, [Some("a"), None]);
    check(&[early, report("c", &late, stale)], stale);
    // If nobody else has it, all others are right.
    check(&[say("b", [None, Some("b")]), say("c", stale)], stale);
}

#[test]
fn of_places_and_primaries_most_are_believed() {
    let halves = [Some("a"), Some("b")];
    let elsewhere = [("a", 9, 1), ("b", 2, 2), ("c", 3, 1)];
    let reports = [
        replicates(report("a", &elsewhere, halves), "c", "b"),
        replicates(report("b", &BOTH, halves), "c", "a"),
        replicates(report("c", &BOTH, halves), "c", "a"),
    ];
    let map = judge(&reports.iter().collect::<Vec<_>>());
    assert_eq!(map.shards[0].primary, endpoint(1));
    assert_eq!(map.shards[0].nodes, [id("a"), id("c")].into());
    assert_eq!(map.shards[1].nodes, [id("b")].into());
}
