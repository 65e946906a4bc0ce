//! Whom the watch asks, and what it tells.

use std::time::Duration;

use report::Node;

use super::*;
use crate::partition::Partition;

fn watch(url: &str) -> (Watch, watch::Receiver<News>) {
    let dialer = Dialer::new(url.parse().unwrap(), None, Duration::from_secs(1), 1024).unwrap();
    let (watch, told, _) = Watch::new(&dialer, dialer.seeds().unwrap());
    (watch, told)
}

/// The first of these nodes owns everything and says so.
fn report(nodes: &[(&str, u16)]) -> Report {
    let security = Security::Plain;
    let node = |(name, port): &(&str, u16)| {
        let endpoint = Some(Endpoint::Tcp { host: "h".to_owned(), port: *port, security });
        (NodeId::new(name), Node { endpoint, epoch: 1, primary: None })
    };
    let by = NodeId::new(nodes[0].0);
    let owners = vec![Some(by.clone()); Partition::COUNT];
    Report { by, nodes: nodes.iter().map(node).collect(), owners }
}

fn next_port(watch: &mut Watch) -> Option<u16> {
    watch.next_candidate().map(|it| it.address.1)
}

fn lose(watch: &mut Watch, mut candidate: Candidate) {
    candidate.failure = Some(LinkError::Closed);
    watch.note_lost(candidate);
}

#[test]
fn nodes_are_asked_that_others_name_and_none_of_them_twice() {
    let (mut watch, _told) = watch("redis+cluster://seed:1");
    let seed = watch.next_candidate().unwrap();
    assert_eq!(next_port(&mut watch), None);
    // The seed itself is a, which is at another address for the others.
    watch.note(&seed.address, report(&[("a", 10), ("b", 11), ("c", 12)]));
    assert_eq!(next_port(&mut watch), Some(11));
    assert_eq!(next_port(&mut watch), Some(12));
    assert_eq!(next_port(&mut watch), None);
    lose(&mut watch, seed);
    assert_eq!(next_port(&mut watch), Some(10), "it was not asked yet");
    assert_eq!(next_port(&mut watch), Some(1), "whom the url names is never forgotten");
}

#[test]
fn whom_nobody_names_any_more_is_asked_no_more() {
    let (mut watch, _told) = watch("redis+cluster://seed:1");
    let seed = watch.next_candidate().unwrap();
    watch.note(&seed.address, report(&[("a", 10), ("b", 11), ("c", 12)]));
    let lost = watch.next_candidate().unwrap();
    assert_eq!(lost.address.1, 11);
    lose(&mut watch, lost);
    watch.note(&seed.address, report(&[("a", 10), ("c", 12)]));
    assert_eq!(next_port(&mut watch), Some(12));
    assert_eq!(next_port(&mut watch), None);
}

#[test]
fn if_nobody_answers_all_reasons_are_told_and_a_map_outlives_its_witnesses() {
    let (mut watch, mut told) = watch("redis+cluster://one:1,two:2");
    for _ in 0..2 {
        let candidate = watch.next_candidate().unwrap();
        lose(&mut watch, candidate);
    }
    let why = "one:1 closed the connection; two:2 closed the connection";
    let unknown = News::Unknown { why: why.to_owned(), is_passing: true };
    assert_eq!(*told.borrow_and_update(), unknown);

    let candidate = watch.next_candidate().unwrap();
    let says = report(&[("a", 10)]);
    watch.note(&candidate.address, says.clone());
    let News::Map(map) = told.borrow_and_update().clone() else { panic!("no map") };
    assert_eq!(map.shards[0].partitions.len(), Partition::COUNT);
    watch.note(&candidate.address, says);
    lose(&mut watch, candidate);
    assert!(!told.has_changed().unwrap());
}

#[test]
fn nobody_is_forgotten_because_of_what_comes_after_its_witnesses_end() {
    let (mut watch, _told) = watch("redis+cluster://seed:1");
    let seed = watch.next_candidate().unwrap();
    let says = report(&[("a", 10), ("b", 11)]);
    watch.note(&seed.address, says.clone());
    let address = seed.address.clone();
    lose(&mut watch, seed);
    watch.note(&address, says);
    assert_eq!(next_port(&mut watch), Some(10));
    assert_eq!(next_port(&mut watch), Some(11));
}
