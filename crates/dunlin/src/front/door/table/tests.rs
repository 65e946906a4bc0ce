//! The table against what is promised of it.

use proptest::prelude::*;

use super::*;

fn table(places: usize, per_address: usize) -> Table {
    let evicted = Evicted { full: Counter::default(), address: Counter::default() };
    Table::new(Bounds { places, per_address }, evicted, Gauge::default())
}

fn from(address: &str) -> Sources {
    Source::all(address.parse().unwrap())
}

/// A visitor that has sent nothing.
fn silent(table: &mut Table, address: &str) -> (VisitorId, oneshot::Receiver<()>) {
    let (id, sent_away) = table.enter(from(address));
    table.found_silent(id);
    (id, sent_away)
}

fn is_sent_away(receiver: &mut oneshot::Receiver<()>) -> bool {
    receiver.try_recv().is_ok()
}

#[test]
fn who_has_been_silent_longest_makes_room() {
    let mut table = table(3, 3);
    let (_, mut first) = silent(&mut table, "192.0.2.1");
    let (second_id, mut second) = silent(&mut table, "192.0.2.2");
    let (_, mut third) = silent(&mut table, "192.0.2.3");
    let _ = silent(&mut table, "192.0.2.4");
    assert!(is_sent_away(&mut first) && !is_sent_away(&mut second) && !is_sent_away(&mut third));
    // A keep-alive connection has been silent since its last answer only.
    table.asked(second_id);
    table.answered(second_id);
    let _ = silent(&mut table, "192.0.2.5");
    assert!(is_sent_away(&mut third) && !is_sent_away(&mut second));
    assert_eq!((table.evicted.full.get(), table.evicted.address.get()), (2, 0));
}

#[test]
fn nobody_is_sent_away_who_waits_for_us() {
    let mut table = table(2, 2);
    let (asking, mut first) = silent(&mut table, "192.0.2.1");
    table.asked(asking);
    let (new, mut second) = table.enter(from("192.0.2.1"));
    assert!(!table.has_room(), "one is being answered, and what the other sent is not read yet");
    table.asked(new);
    assert!(!table.has_room(), "both are being answered");
    // Beyond the bound, as whoever does not ask whether there is room.
    let _ = table.enter(from("192.0.2.1"));
    assert!(!is_sent_away(&mut first) && !is_sent_away(&mut second));
}

#[test]
fn there_is_room_once_somebody_is_silent() {
    let mut table = table(2, 2);
    let ids = ["192.0.2.1", "192.0.2.2"].map(|address| silent(&mut table, address).0);
    for id in ids {
        table.asked(id);
    }
    assert!(!table.has_room());
    table.answered(ids[1]);
    assert!(table.has_room());
}

#[test]
fn an_address_over_its_bound_loses_its_own() {
    let mut table = table(100, 2);
    let (_, mut other) = silent(&mut table, "192.0.2.9");
    let mut own: Vec<_> = (0..5).map(|_| silent(&mut table, "192.0.2.1").1).collect();
    let gone: Vec<_> = own.iter_mut().map(is_sent_away).collect();
    assert_eq!(gone, [true, true, true, false, false]);
    assert!(!is_sent_away(&mut other));
    assert_eq!((table.evicted.full.get(), table.evicted.address.get()), (0, 3));
}

#[test]
fn networks_of_ipv6_have_bounds_too() {
    let mut table = table(100, 2);
    let mut first: Vec<_> =
        (0..3).map(|host| silent(&mut table, &format!("2001:db8::{host}")).1).collect();
    assert_eq!(first.iter_mut().filter_map(|it| it.try_recv().ok()).count(), 1);
    let mut many: Vec<_> = (1..20)
        .map(|network| silent(&mut table, &format!("2001:db8:0:{network:x}::1")).1)
        .collect();
    let left = many.iter_mut().map(is_sent_away).filter(|is_sent_away| !is_sent_away).count();
    assert_eq!(left, 8, "four times the bound of a /64");
}

#[test]
fn whoever_takes_its_answer_is_not_silent() {
    let mut table = table(2, 2);
    let (reads, mut first) = silent(&mut table, "192.0.2.1");
    let (_, mut second) = silent(&mut table, "192.0.2.2");
    table.took(reads);
    let _ = silent(&mut table, "192.0.2.3");
    assert!(!is_sent_away(&mut first) && is_sent_away(&mut second));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(u8),
    FoundSilent(usize),
    ComesFrom(usize, u8),
    Asked(usize),
    Answered(usize),
    Took(usize),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_u8).prop_map(Step::Enter),
        3 => (0..40_usize).prop_map(Step::FoundSilent),
        1 => (0..40_usize, 0..4_u8).prop_map(|(at, host)| Step::ComesFrom(at, host)),
        1 => (0..40_usize).prop_map(Step::Asked),
        1 => (0..40_usize).prop_map(Step::Answered),
        1 => (0..40_usize).prop_map(Step::Took),
        1 => (0..40_usize).prop_map(Step::Leave),
    ]
}

proptest! {
    #[test]
    fn bounds_hold_and_nothing_is_left(steps in proptest::collection::vec(step(), 0..200)) {
        let mut table = table(8, 3);
        let mut ids = Vec::new();
        for step in steps {
            let id = |at: usize| ids.get(at).copied();
            match step {
                Step::Enter(_) if !table.has_room() => {}
                Step::Enter(host) => ids.push(table.enter(from(&format!("192.0.2.{host}"))).0),
                Step::FoundSilent(at) => id(at).into_iter().for_each(|id| table.found_silent(id)),
                Step::ComesFrom(at, host) => {
                    let sources = from(&format!("192.0.2.{host}"));
                    id(at).into_iter().for_each(|id| table.comes_from(id, sources.clone()));
                }
                Step::Asked(at) => id(at).into_iter().for_each(|id| table.asked(id)),
                Step::Answered(at) => id(at).into_iter().for_each(|id| table.answered(id)),
                Step::Took(at) => id(at).into_iter().for_each(|id| table.took(id)),
                Step::Leave(at) => id(at).into_iter().for_each(|id| _ = table.leave(id)),
            }
            prop_assert!(table.visitors.len() <= 8);
            prop_assert!(table.silent_by_source.values().all(|queue| queue.len() <= 3));
            let by_source: usize = table.silent_by_source.values().map(BTreeSet::len).sum();
            prop_assert_eq!(by_source, table.silent.len());
        }
        for id in ids {
            table.leave(id);
        }
        prop_assert!(table.is_empty() && table.silent.is_empty() && table.new == 0);
        prop_assert!(table.silent_by_source.is_empty());
    }
}
