//! A stream under everything that brokers, links and servers do to it.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{heal::WAITING_MAX, *};
use crate::{channel::ChannelName, position::Epoch, publication::Kind};

const RETENTION: Retention =
    Retention { size: 100, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(600) };

fn at(offset: u64) -> Position {
    in_branch(offset, 0)
}

fn in_branch(offset: u64, branch: u64) -> Position {
    Position { offset, epoch: Epoch { id: 7, branch } }
}

fn publication(position: Position) -> Arc<Publication> {
    let channel = ChannelName::new("c").unwrap();
    let data = Bytes::from(format!("{} {}", position.epoch.branch, position.offset));
    Arc::new(Publication::new(channel, Kind::Text, data).at(position))
}

fn publications(offsets: impl IntoIterator<Item = u64>) -> Vec<Arc<Publication>> {
    offsets.into_iter().map(|offset| publication(at(offset))).collect()
}

fn offsets<'a>(publications: impl IntoIterator<Item = &'a Arc<Publication>>) -> Vec<u64> {
    let offset = |p: &Arc<Publication>| p.position().map_or(0, |position| position.offset);
    publications.into_iter().map(offset).collect()
}

fn whole(base: u64, top: u64) -> Recovery {
    Recovery::Whole { base, top: at(top), publications: publications(base + 1..=top) }
}

/// A stream that is live at an offset, whose publication it has.
fn live(offset: u64) -> Stream {
    let mut stream = Stream::new(RETENTION);
    let gap = stream.stop();
    let healed = stream.healed(gap, whole(offset.saturating_sub(1), offset)).unwrap();
    assert_eq!((healed.turn, healed.through.len(), healed.flow), (Turn::None, 0, Flow::On));
    stream
}

fn take(stream: &mut Stream, batch: &[Arc<Publication>]) -> (Vec<u64>, Flow) {
    let mut through = Vec::new();
    let flow = stream.take(batch, &mut through);
    (offsets(&through), flow)
}

fn since(offset: u64) -> Option<Resume> {
    let since = Since { offset, epoch: Some(at(0).epoch) };
    Some(Resume { since, limit: 50, is_cache: false })
}

fn snapshot(begin: Option<Begin>) -> Snapshot {
    match begin {
        Some(Begin::At(snapshot)) => snapshot,
        other => panic!("no place to begin: {other:?}"),
    }
}

#[test]
fn each_is_let_through_once_and_in_order() {
    let mut stream = live(5);
    assert_eq!(take(&mut stream, &publications([4, 5, 6, 6, 7])), (vec![6, 7], Flow::On));
    assert_eq!(take(&mut stream, &publications([7, 8])), (vec![8], Flow::On));
}

#[test]
fn what_has_no_place_in_the_order_is_let_through() {
    let mut stream = live(5);
    let loose = Publication::new(ChannelName::new("c").unwrap(), Kind::Join, Bytes::new());
    assert_eq!(take(&mut stream, &[Arc::new(loose)]), (vec![0], Flow::On));
}

#[test]
fn a_gap_stops_the_stream_until_it_is_healed() {
    let mut stream = live(5);
    let (through, Flow::Stopped(gap)) = take(&mut stream, &publications([6, 9, 10])) else {
        panic!("a gap goes unnoticed")
    };
    assert_eq!((through, gap.since), (vec![6], Some(at(6))));
    assert_eq!(take(&mut stream, &publications([11])), (vec![], Flow::On));
    let healed = stream.healed(gap, whole(6, 10)).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::None, Flow::On));
    assert_eq!(offsets(&healed.through), [7, 8, 9, 10, 11]);
}

#[test]
fn an_answer_to_an_older_question_does_not_count() {
    let mut stream = live(5);
    let first = stream.stop();
    let second = stream.stop();
    assert!(stream.healed(first, whole(5, 6)).is_none());
    assert_eq!(offsets(&stream.healed(second, whole(5, 7)).unwrap().through), [6, 7]);
}

#[test]
fn what_finds_no_room_while_healing_is_read_anew() {
    let mut stream = live(0);
    let gap = stream.stop();
    for offset in 1..=WAITING_MAX as u64 + 1 {
        assert_eq!(take(&mut stream, &publications([offset])), (vec![], Flow::On));
    }
    let healed = stream.healed(gap, whole(0, 1)).unwrap();
    let Flow::Stopped(gap) = healed.flow else { panic!("what was dropped is forgotten") };
    assert_eq!(gap.since, Some(at(1)));
}

#[test]
fn what_waits_from_a_past_that_is_lost_does_not_stop_the_stream_again() {
    let mut stream = live(5);
    let (_, Flow::Stopped(gap)) = take(&mut stream, &publications([7, 8])) else {
        panic!("a gap goes unnoticed")
    };
    // A server that came back empty answers.
    let top = Position { offset: 0, epoch: Epoch { id: 8, branch: 0 } };
    let healed = stream.healed(gap, Recovery::Lost { top }).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::Lost, Flow::On));

    // And when it comes while the answer is under way, the next answer is the last one.
    let gap = stream.stop();
    assert_eq!(take(&mut stream, &publications([9, 10])), (vec![], Flow::On));
    let nothing = || Recovery::Whole { base: 0, top, publications: Vec::new() };
    let healed = stream.healed(gap, nothing()).unwrap();
    let Flow::Stopped(gap) = healed.flow else { panic!("it may be of a newer past") };
    assert_eq!(stream.healed(gap, nothing()).unwrap().flow, Flow::On);
}

#[test]
fn a_past_that_is_lost_is_told() {
    let mut stream = live(5);
    let gap = stream.stop();
    let top = Position { offset: 2, epoch: Epoch { id: 8, branch: 0 } };
    assert_eq!(stream.healed(gap, Recovery::Lost { top }).unwrap().turn, Turn::Lost);
    assert_eq!(snapshot(stream.begin(None, None)).position, Some(top));
    assert!(!snapshot(stream.begin(since(5), None)).recovered);
}

/// A position in another past.
fn anew(offset: u64) -> Position {
    Position { offset, epoch: Epoch { id: 8, branch: 0 } }
}

#[test]
fn what_has_come_when_the_past_is_lost_is_for_those_who_count_nothing() {
    let mut stream = live(5);
    let (_, Flow::Stopped(gap)) = take(&mut stream, &[publication(anew(1))]) else {
        panic!("another past goes unnoticed")
    };
    assert_eq!(take(&mut stream, &[publication(anew(2))]), (vec![], Flow::On));
    let healed = stream.healed(gap, Recovery::Lost { top: anew(1) }).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::Lost, Flow::On));
    assert_eq!(offsets(&healed.through), [1, 2]);
}

#[test]
fn the_last_of_a_lost_past_stop_nothing() {
    let mut stream = live(5);
    let (_, Flow::Stopped(gap)) = take(&mut stream, &publications([7])) else {
        panic!("a gap goes unnoticed")
    };
    let healed = stream.healed(gap, Recovery::Lost { top: anew(0) }).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::Lost, Flow::On));
    assert_eq!(offsets(&healed.through), [7]);
    assert_eq!(take(&mut stream, &[publication(anew(1))]), (vec![1], Flow::On));
}

#[test]
fn what_the_answer_cannot_know_of_is_asked_about() {
    let mut stream = live(5);
    let gap = stream.stop();
    assert_eq!(take(&mut stream, &[publication(anew(1))]), (vec![], Flow::On));
    let healed = stream.healed(gap, whole(5, 5)).unwrap();
    let (Turn::None, Flow::Stopped(gap)) = (healed.turn, healed.flow) else {
        panic!("another past goes unnoticed")
    };
    let healed = stream.healed(gap, Recovery::Lost { top: anew(1) }).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::Lost, Flow::On));
    assert_eq!(offsets(&healed.through), [1]);
}

#[test]
fn a_cache_that_the_node_lost_is_read() {
    let mut stream = live(5);
    let gap = stream.stop();
    assert_eq!(stream.healed(gap, Recovery::Lost { top: at(300) }).unwrap().turn, Turn::Lost);
    let resume = since(5).map(|resume| Resume { is_cache: true, ..resume });
    let Some(Begin::Read(position)) = stream.begin(resume, None) else { panic!("not read") };
    assert_eq!(position, at(299));
    let begun = snapshot(stream.begin(resume, Some(&whole(299, 300))));
    assert_eq!((begun.recovered, offsets(&begun.publications)), (true, vec![300]));
    let lost = Recovery::Lost { top: at(300) };
    assert!(!snapshot(stream.begin(resume, Some(&lost))).recovered);
}

#[test]
fn another_server_turns_the_stream() {
    let mut stream = live(5);
    let (_, Flow::Stopped(gap)) = take(&mut stream, &[publication(in_branch(4, 1 << 32))]) else {
        panic!("another branch goes unnoticed")
    };
    let publications = vec![publication(in_branch(4, 1 << 32))];
    let top = in_branch(4, 1 << 32);
    let healed = stream.healed(gap, Recovery::Whole { base: 3, top, publications }).unwrap();
    assert_eq!((healed.turn, offsets(&healed.through)), (Turn::Moved, vec![4]));
    // The old server does not know yet that it was replaced.
    assert_eq!(take(&mut stream, &publications_of_the_old()), (vec![], Flow::On));
}

fn publications_of_the_old() -> Vec<Arc<Publication>> {
    publications([6, 7])
}

#[test]
fn who_comes_back_is_served_from_the_ring() {
    let mut stream = live(5);
    let _ = take(&mut stream, &publications(6..=20));
    let found = snapshot(stream.begin(since(15), None));
    assert_eq!((found.recovered, found.position), (true, Some(at(15))));
    assert_eq!(offsets(&found.publications), [16, 17, 18, 19, 20]);
    let here = snapshot(stream.begin(since(20), None));
    assert!(here.recovered && here.publications.is_empty());
}

#[test]
fn what_the_ring_does_not_have_is_read_and_merged() {
    let mut stream = live(5);
    let _ = take(&mut stream, &publications(6..=20));
    assert!(matches!(stream.begin(since(2), None), Some(Begin::Read(from)) if from == at(2)));
    for top in [3, 5, 12, 20, 22] {
        let read = whole(2, top);
        let found = stream.begin(since(2), Some(&read));
        if top < 4 {
            assert!(matches!(found, Some(Begin::Read(_))), "a hole between {top} and the ring");
        } else {
            let found = snapshot(found);
            assert_eq!(offsets(&found.publications), Vec::from_iter(3..=20), "read up to {top}");
            assert_eq!((found.recovered, found.position), (true, Some(at(2))));
        }
    }
}

#[test]
fn what_is_forgotten_is_the_brokers_to_tell() {
    let mut stream = live(5);
    let _ = take(&mut stream, &publications(6..=9));
    stream.forget();
    let Some(Begin::Read(from)) = stream.begin(since(7), None) else { panic!("it remembers") };
    assert_eq!(from, at(7));
    assert!(!snapshot(stream.begin(since(7), Some(&Recovery::Lost { top: at(9) }))).recovered);
    assert!(snapshot(stream.begin(since(9), None)).recovered, "who missed nothing");
    assert_eq!(take(&mut stream, &publications([10])), (vec![10], Flow::On));
}

#[test]
fn who_missed_more_than_the_limit_begins_anew() {
    let mut stream = live(5);
    let _ = take(&mut stream, &publications(6..=90));
    let found = snapshot(stream.begin(since(20), None));
    assert_eq!((found.recovered, found.position), (false, Some(at(90))));
    assert!(found.publications.is_empty());
}

#[test]
fn a_position_of_the_future_is_believed_only_if_the_broker_knows_it() {
    let mut stream = live(5);
    assert!(matches!(stream.begin(since(9), None), Some(Begin::Read(from)) if from == at(9)));
    let unknown = Recovery::Lost { top: at(5) };
    assert!(!snapshot(stream.begin(since(9), Some(&unknown))).recovered);
    // This node just has not heard of it yet.
    let Some(Begin::Heal(gap)) = stream.begin(since(9), Some(&whole(9, 9))) else {
        panic!("the node stays behind")
    };
    assert!(stream.begin(since(9), None).is_none(), "it waits");
    let healed = stream.healed(gap, whole(5, 9)).unwrap();
    assert_eq!(offsets(&healed.through), [6, 7, 8, 9]);
    assert!(snapshot(stream.begin(since(9), None)).recovered);
}

#[test]
fn a_cache_gives_the_latest_to_who_does_not_have_it() {
    let mut stream = live(5);
    let cache = |offset, id| {
        let since = Since { offset, epoch: Some(Epoch { id, branch: 0 }) };
        Some(Resume { since, limit: 50, is_cache: true })
    };
    for resume in [cache(0, 7), cache(3, 7), cache(5, 99)] {
        let found = snapshot(stream.begin(resume, None));
        assert_eq!((found.recovered, offsets(&found.publications)), (true, vec![5]));
    }
    let found = snapshot(stream.begin(cache(5, 7), None));
    assert!(found.recovered && found.publications.is_empty());
    assert!(!snapshot(live(0).begin(cache(0, 7), None)).recovered, "there is none");
}

#[derive(Clone, Debug)]
enum Step {
    /// The channel gets this many publications, of which so many of the first reach the node.
    Publish { count: u64, arriving: u64 },
    /// The node hears an old publication again.
    Repeat { back: u64 },
    /// The broker answers, if it was asked, having forgotten all but the last so many.
    Heal { kept: u64 },
    /// The link to the broker is cut; it is asked once it is back.
    Cut,
    /// A subscriber comes back that was so far behind.
    ComeBack { behind: u64, lag: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_u64, 0..6_u64).prop_map(|(count, arriving)| Step::Publish { count, arriving }),
        1 => (0..9_u64).prop_map(|back| Step::Repeat { back }),
        3 => (0..40_u64).prop_map(|kept| Step::Heal { kept }),
        1 => Just(Step::Cut),
        2 => (0..30_u64, 0..5_u64).prop_map(|(behind, lag)| Step::ComeBack { behind, lag }),
    ]
}

proptest! {
    /// Whatever happens, subscribers see every offset once and in order, or are told; and a
    /// snapshot never claims what is not so.
    #[test]
    fn nothing_is_missed_in_silence(steps in prop::collection::vec(step(), 1..80)) {
        let mut stream = live(0);
        let (mut top, mut seen, mut gap) = (0_u64, 0_u64, None);
        for step in steps {
            let mut through = Vec::new();
            let mut flow = Flow::On;
            match step {
                Step::Publish { count, arriving } => {
                    let new = publications(top + 1..=top + count);
                    top += count;
                    let skipped = new.len().saturating_sub(arriving as usize);
                    flow = stream.take(&new[skipped..], &mut through);
                }
                Step::Repeat { back } => {
                    let old = publications([top.saturating_sub(back).max(1)]);
                    if top > 0 {
                        flow = stream.take(&old, &mut through);
                    }
                }
                Step::Heal { kept } => {
                    if let Some(asked) = gap.take() {
                        let Gap { since: Some(since), .. } = asked else { panic!("{asked:?}") };
                        let is_whole = top - since.offset <= kept;
                        let recovery = match is_whole {
                            true => whole(since.offset, top),
                            false => Recovery::Lost { top: at(top) },
                        };
                        let healed = stream.healed(asked, recovery).expect("it was the last");
                        prop_assert_eq!(healed.turn == Turn::Lost, !is_whole);
                        through = healed.through;
                        if healed.turn == Turn::Lost {
                            // Who counts nothing still gets what comes, once and in order.
                            let late = offsets(&through);
                            prop_assert!(late.windows(2).all(|two| two[0] < two[1]));
                            prop_assert!(late.first().is_none_or(|first| *first > seen));
                            through.retain(|publication| offsets([publication])[0] > top);
                            seen = top;
                        }
                        flow = healed.flow;
                    }
                }
                Step::Cut => gap = Some(stream.stop()),
                Step::ComeBack { behind, lag } => {
                    let from = seen.saturating_sub(behind);
                    let mut found = stream.begin(since(from), None);
                    if let Some(Begin::Read(asked)) = found {
                        // The broker may be a little behind, or ahead, of this node.
                        let read_top = top.saturating_sub(lag).max(asked.offset);
                        found = stream.begin(since(from), Some(&whole(asked.offset, read_top)));
                    }
                    if let Some(Begin::At(snapshot)) = found {
                        prop_assert_eq!(gap, None, "a stream that waits lets nobody begin");
                        prop_assert!(snapshot.recovered);
                        prop_assert_eq!(
                            offsets(&snapshot.publications),
                            Vec::from_iter(from + 1..=seen)
                        );
                    }
                }
            }
            for offset in offsets(&through) {
                prop_assert_eq!(offset, seen + 1);
                seen = offset;
            }
            if let Flow::Stopped(stopped) = flow {
                gap = Some(stopped);
            }
        }
    }
}
