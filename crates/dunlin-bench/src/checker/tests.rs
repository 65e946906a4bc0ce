//! The checker finds each fault that is put in, and no other.

use proptest::prelude::*;

use super::*;

/// A delivery: subscriber, publisher, sequence.
type Delivery = (usize, u32, u32);

struct Verdict {
    lost: u64,
    faults: Faults,
    settled: usize,
}

/// Three subscribers and two publishers on one channel, three messages each.
fn judge(deliveries: &[Delivery]) -> Verdict {
    let mut checker = Checker::new(1, &[0; 3], &[0; 2]);
    let mut settled = Vec::new();
    for &(subscriber, publisher, sequence) in deliveries {
        checker.deliver(subscriber, publisher, sequence);
        checker.take_settled(&mut settled);
    }
    let lost = checker.missing(&[Some(3), Some(3)]);
    Verdict { lost, faults: checker.faults(), settled: settled.len() }
}

const ORDER: [(u32, u32); 6] = [(0, 0), (1, 0), (0, 1), (1, 1), (1, 2), (0, 2)];

/// Every subscriber gets the agreed order; subscriber by subscriber, or message by message.
fn right(by_subscriber: bool) -> Vec<Delivery> {
    let mut all: Vec<Delivery> = Vec::new();
    for subscriber in 0..3 {
        all.extend(ORDER.map(|(publisher, sequence)| (subscriber, publisher, sequence)));
    }
    if !by_subscriber {
        all.sort_by_key(|&(_, publisher, sequence)| {
            ORDER.iter().position(|&message| message == (publisher, sequence))
        });
    }
    all
}

fn duplicated(faults: Faults) -> (u64, u64, u64) {
    (faults.duplicated, faults.out_of_order, faults.misrouted)
}

#[test]
fn what_is_right_is_right() {
    for by_subscriber in [true, false] {
        let verdict = judge(&right(by_subscriber));
        assert_eq!((verdict.lost, verdict.settled), (0, 6));
        assert_eq!(verdict.faults, Faults::default());
    }
}

#[test]
fn each_single_loss_is_one_loss() {
    for by_subscriber in [true, false] {
        for gone in 0..18 {
            let mut deliveries = right(by_subscriber);
            deliveries.remove(gone);
            let verdict = judge(&deliveries);
            assert_eq!(verdict.lost, 1, "delivery {gone}");
            // The last message of publisher 1, lost by the subscriber that ran ahead of all others:
            // nothing shows yet that it is missing there, so the others seem to disagree.
            if (by_subscriber, gone) != (true, 4) {
                assert_eq!(verdict.faults, Faults::default(), "delivery {gone}");
            }
        }
    }
}

#[test]
fn each_single_duplicate_is_one_duplicate() {
    for by_subscriber in [true, false] {
        for twice in 0..18 {
            for later in twice + 1..=18 {
                let mut deliveries = right(by_subscriber);
                deliveries.insert(later, deliveries[twice]);
                let verdict = judge(&deliveries);
                assert_eq!(verdict.lost, 0, "{twice} again at {later}");
                assert_eq!(duplicated(verdict.faults), (1, 0, 0), "{twice} again at {later}");
            }
        }
    }
}

#[test]
fn two_neighbours_swapped_for_one_subscriber_are_out_of_order() {
    for by_subscriber in [true, false] {
        for subscriber in 0..3 {
            for first in 0..5 {
                let mut deliveries = right(by_subscriber);
                let mine: Vec<usize> =
                    (0..18).filter(|&index| deliveries[index].0 == subscriber).collect();
                deliveries.swap(mine[first], mine[first + 1]);
                let verdict = judge(&deliveries);
                let context = format!("{subscriber} {first} {by_subscriber}");
                assert_eq!(verdict.lost, 0, "{context}");
                let (twice, late, misrouted) = duplicated(verdict.faults);
                assert_eq!((twice, misrouted), (0, 0), "{context}");
                // Of two publishers nobody can say which order is right: one or two disagree.
                assert!((1..=2).contains(&late), "{context}: {late}");
            }
        }
    }
}

#[test]
fn a_message_nobody_got_is_lost_for_everybody() {
    let mut deliveries = right(true);
    deliveries.retain(|&(_, publisher, sequence)| (publisher, sequence) != (0, 1));
    assert_eq!(judge(&deliveries).lost, 3);
    deliveries.retain(|&(_, publisher, sequence)| (publisher, sequence) != (0, 2));
    assert_eq!(judge(&deliveries).lost, 6);
}

#[test]
fn a_stranger_and_a_wrong_channel_are_misrouted() {
    let mut checker = Checker::new(2, &[0, 1], &[0, 1]);
    checker.deliver(0, 1, 0);
    checker.deliver(0, 7, 0);
    assert_eq!(checker.faults().misrouted, 2);
}

#[test]
fn who_leaves_is_waited_for_no_longer() {
    let mut checker = Checker::new(1, &[0; 3], &[0]);
    checker.deliver(0, 0, 0);
    checker.deliver(0, 0, 1);
    checker.deliver(1, 0, 0);
    checker.leave(2);
    checker.leave(2);
    let mut settled = Vec::new();
    checker.take_settled(&mut settled);
    assert_eq!((settled.len(), checker.missing(&[Some(2)])), (1, 1));
    checker.leave(1);
    checker.take_settled(&mut settled);
    assert_eq!((settled.len(), checker.missing(&[Some(2)])), (2, 0));
    assert_eq!(checker.missing(&[Some(3)]), 1);
    assert_eq!(checker.missing(&[None]), 0);
}

#[test]
fn processes_that_saw_the_same_order_have_the_same_digest() {
    let digest = |order: &[(u32, u32)], subscribers: usize| {
        let mut checker = Checker::new(1, &vec![0; subscribers], &[0; 2]);
        for subscriber in 0..subscribers {
            for &(publisher, sequence) in order {
                checker.deliver(subscriber, publisher, sequence);
            }
        }
        checker.digests()
    };
    let mut other = ORDER;
    other.swap(1, 2);
    assert_eq!(digest(&ORDER, 1), digest(&ORDER, 4));
    assert_ne!(digest(&ORDER, 1), digest(&other, 1));
}

proptest! {
    /// Any mess is survived, and no delivery is counted twice: each is right or one fault.
    #[test]
    fn any_deliveries_add_up(
        deliveries in prop::collection::vec((0_usize..3, 0_u32..2, 0_u32..3), 0..40)
    ) {
        let verdict = judge(&deliveries);
        let mut distinct = deliveries.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(verdict.lost, 18 - distinct.len() as u64);
        let repeats = (deliveries.len() - distinct.len()) as u64;
        prop_assert_eq!(verdict.faults.duplicated, repeats);
    }
}
