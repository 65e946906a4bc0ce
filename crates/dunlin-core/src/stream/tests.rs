//! A stream under everything that brokers, links and servers do to it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::{heal::WAITING_MAX, *};
use crate::{
    channel::ChannelName,
    history::{Recovery, Since},
    position::Epoch,
    publication::Kind,
};

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
    page(publications(base + 1..=top), at(top))
}

fn page(publications: Vec<Arc<Publication>>, top: Position) -> Recovery {
    Recovery::Page { top, publications, ttl: RETENTION.ttl }
}

fn read(since: Position, recovery: Recovery) -> Read {
    Read { since, recovery }
}

/// A stream that is live at an offset, whose publication it has.
fn live(offset: u64) -> Stream {
    let mut stream = Stream::new(RETENTION, 0);
    let gap = stream.stop();
    assert_eq!((gap.since, gap.ask), (None, Ask::Position));
    let before = at(offset.saturating_sub(1));
    let healed = stream.located(gap, before, Instant::now()).unwrap();
    assert_eq!((healed.turn, healed.through.len(), healed.flow), (Turn::None, 0, Flow::On));
    if offset > 0 {
        assert_eq!(take(&mut stream, &publications([offset])), (vec![offset], Flow::On));
    }
    stream
}

fn take(stream: &mut Stream, batch: &[Arc<Publication>]) -> (Vec<u64>, Flow) {
    let mut through = Vec::new();
    let flow = stream.take(batch, Instant::now(), &mut through);
    (offsets(&through), flow)
}

fn heal(stream: &mut Stream, gap: Gap, recovery: Recovery) -> Option<Healed> {
    stream.healed(gap, recovery, Instant::now())
}

fn begin(stream: &mut Stream, resume: Option<Resume>, read: Option<&Read>) -> Option<Begin> {
    stream.begin(resume, read, Instant::now())
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
    let healed = heal(&mut stream, gap, whole(6, 10)).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::None, Flow::On));
    assert_eq!(offsets(&healed.through), [7, 8, 9, 10, 11]);
}

#[test]
fn an_answer_to_an_older_question_does_not_count() {
    let mut stream = live(5);
    let first = stream.stop();
    let second = stream.stop();
    assert!(heal(&mut stream, first, whole(5, 6)).is_none());
    assert_eq!(offsets(&heal(&mut stream, second, whole(5, 7)).unwrap().through), [6, 7]);
}

#[test]
fn an_answer_to_the_stream_that_a_channel_had_before_does_not_count() {
    let gap = Stream::new(RETENTION, 0).stop();
    let mut stream = Stream::new(RETENTION, 1);
    let own = stream.stop();
    assert!(heal(&mut stream, gap, whole(4, 5)).is_none());
    assert!(heal(&mut stream, own, whole(4, 5)).is_some());
}

fn loose(number: usize) -> Arc<Publication> {
    let channel = ChannelName::new("c").unwrap();
    Arc::new(Publication::new(channel, Kind::Join, Bytes::from(number.to_string())))
}

/// Joins, what other programs publish, what is not to be kept: no heal would bring it back.
#[test]
fn what_no_heal_brings_back_is_let_through_when_there_is_no_room() {
    let mut stream = live(0);
    let gap = stream.stop();
    let mut through = Vec::new();
    for number in 0..WAITING_MAX {
        assert_eq!(stream.take(&[loose(number)], Instant::now(), &mut through), Flow::On);
    }
    assert!(through.is_empty(), "there is room");
    let _ = stream.take(&[publication(at(1)), loose(WAITING_MAX)], Instant::now(), &mut through);
    let _ =
        stream.take(&[loose(WAITING_MAX + 1), publication(at(2))], Instant::now(), &mut through);
    let number =
        |it: &Arc<Publication>| str::from_utf8(it.data()).unwrap().parse::<usize>().unwrap();
    let numbers = through.iter().map(number);
    assert!(numbers.eq(0..=WAITING_MAX + 1), "all of them, in order");
    let healed = heal(&mut stream, gap, whole(0, 2)).unwrap();
    assert_eq!(offsets(&healed.through), [1, 2]);
}

#[test]
fn what_finds_no_room_while_healing_is_read_anew() {
    let mut stream = live(0);
    let gap = stream.stop();
    for offset in 1..=WAITING_MAX as u64 + 1 {
        assert_eq!(take(&mut stream, &publications([offset])), (vec![], Flow::On));
    }
    let healed = heal(&mut stream, gap, whole(0, 1)).unwrap();
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
    let healed = heal(&mut stream, gap, Recovery::Lost { top }).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::Lost, Flow::On));

    // And when it comes while the answer is under way, the next answer is the last one.
    let gap = stream.stop();
    assert_eq!(take(&mut stream, &publications([9, 10])), (vec![], Flow::On));
    let nothing = || page(Vec::new(), top);
    let healed = heal(&mut stream, gap, nothing()).unwrap();
    let Flow::Stopped(gap) = healed.flow else { panic!("it may be of a newer past") };
    assert_eq!(heal(&mut stream, gap, nothing()).unwrap().flow, Flow::On);
}

#[test]
fn a_past_that_is_lost_is_told() {
    let mut stream = live(5);
    let gap = stream.stop();
    let top = Position { offset: 2, epoch: Epoch { id: 8, branch: 0 } };
    assert_eq!(heal(&mut stream, gap, Recovery::Lost { top }).unwrap().turn, Turn::Lost);
    assert_eq!(snapshot(begin(&mut stream, None, None)).position, Some(top));
    assert!(!snapshot(begin(&mut stream, since(5), None)).recovered);
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
    let healed = heal(&mut stream, gap, Recovery::Lost { top: anew(1) }).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::Lost, Flow::On));
    assert_eq!(offsets(&healed.through), [1, 2]);
}

#[test]
fn the_last_of_a_lost_past_stop_nothing() {
    let mut stream = live(5);
    let (_, Flow::Stopped(gap)) = take(&mut stream, &publications([7])) else {
        panic!("a gap goes unnoticed")
    };
    let healed = heal(&mut stream, gap, Recovery::Lost { top: anew(0) }).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::Lost, Flow::On));
    assert_eq!(offsets(&healed.through), [7]);
    assert_eq!(take(&mut stream, &[publication(anew(1))]), (vec![1], Flow::On));
}

#[test]
fn what_the_answer_cannot_know_of_is_asked_about() {
    let mut stream = live(5);
    let gap = stream.stop();
    assert_eq!(take(&mut stream, &[publication(anew(1))]), (vec![], Flow::On));
    let healed = heal(&mut stream, gap, whole(5, 5)).unwrap();
    let (Turn::None, Flow::Stopped(gap)) = (healed.turn, healed.flow) else {
        panic!("another past goes unnoticed")
    };
    let healed = heal(&mut stream, gap, Recovery::Lost { top: anew(1) }).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::Lost, Flow::On));
    assert_eq!(offsets(&healed.through), [1]);
}

#[test]
fn a_cache_that_the_node_lost_is_read() {
    let mut stream = live(5);
    let gap = stream.stop();
    assert_eq!(heal(&mut stream, gap, Recovery::Lost { top: at(300) }).unwrap().turn, Turn::Lost);
    let resume = since(5).map(|resume| Resume { is_cache: true, ..resume });
    let Some(Begin::Read(position)) = begin(&mut stream, resume, None) else { panic!("not read") };
    assert_eq!(position, at(299));
    let begun = snapshot(begin(&mut stream, resume, Some(&read(at(299), whole(299, 300)))));
    assert_eq!((begun.recovered, offsets(&begun.publications)), (true, vec![300]));
    let mut stream = live(5);
    stream.forget();
    let lost = read(at(4), Recovery::Lost { top: at(5) });
    let resume = since(3).map(|resume| Resume { is_cache: true, ..resume });
    assert!(!snapshot(begin(&mut stream, resume, Some(&lost))).recovered);
}

#[test]
fn another_server_turns_the_stream() {
    let mut stream = live(5);
    let top = in_branch(6, 1 << 32);
    let (_, Flow::Stopped(gap)) = take(&mut stream, &[publication(top)]) else {
        panic!("another branch goes unnoticed")
    };
    let healed = heal(&mut stream, gap, page(vec![publication(top)], top)).unwrap();
    assert_eq!((healed.turn, offsets(&healed.through)), (Turn::Moved, vec![6]));
    // The old server does not know yet that it was replaced.
    assert_eq!(take(&mut stream, &publications([7, 8])), (vec![], Flow::On));
}

#[test]
fn who_comes_back_after_a_change_of_servers_is_answered_from_memory() {
    let mut stream = live(4);
    let _ = take(&mut stream, &publications(5..=9));
    let gap = stream.stop();
    let top = in_branch(10, 1 << 32);
    let healed = heal(&mut stream, gap, page(vec![publication(top)], top)).unwrap();
    assert_eq!(healed.flow, Flow::On);
    for offset in [4, 9] {
        let found = snapshot(begin(&mut stream, since(offset), None));
        assert_eq!((found.recovered, found.position), (true, Some(in_branch(offset, 1 << 32))));
        assert_eq!(offsets(&found.publications), Vec::from_iter(offset + 1..=10));
    }
    // What the old server told others and not this node is the broker's to tell.
    let Some(Begin::Read(from)) = begin(&mut stream, since(10), None) else { panic!("not read") };
    assert_eq!(from, at(10));
}

#[test]
fn pages_are_let_through_one_by_one() {
    let mut stream = live(5);
    let (_, Flow::Stopped(gap)) = take(&mut stream, &publications([20])) else {
        panic!("a gap goes unnoticed")
    };
    assert!(matches!(gap.ask, Ask::Page { since, .. } if since == at(5)));
    let healed = heal(&mut stream, gap, page(publications(6..=9), at(20))).unwrap();
    assert_eq!(offsets(&healed.through), [6, 7, 8, 9]);
    let Flow::Stopped(gap) = healed.flow else { panic!("the rest is forgotten") };
    assert_eq!(gap.since, Some(at(9)));
    assert_eq!(take(&mut stream, &publications([21])), (vec![], Flow::On));
    let healed = heal(&mut stream, gap, page(publications(10..=20), at(20))).unwrap();
    assert_eq!((offsets(&healed.through), healed.flow), (Vec::from_iter(10..=21), Flow::On));
}

#[test]
fn what_is_gone_between_two_pages_is_told() {
    let mut stream = live(5);
    let gap = stream.stop();
    let healed = heal(&mut stream, gap, page(publications(6..=9), at(20))).unwrap();
    let Flow::Stopped(gap) = healed.flow else { panic!("the rest is forgotten") };
    let healed = heal(&mut stream, gap, Recovery::Lost { top: at(30) }).unwrap();
    assert_eq!((healed.turn, healed.flow), (Turn::Lost, Flow::On));
}

#[test]
fn a_page_that_brings_nothing_is_not_asked_for_again() {
    let mut stream = live(5);
    let gap = stream.stop();
    let healed = heal(&mut stream, gap, page(Vec::new(), at(7))).unwrap();
    assert_eq!(healed.turn, Turn::Lost);
}

#[test]
fn a_stream_that_is_where_the_channel_is_goes_on_without_a_page() {
    let mut stream = live(5);
    let gap = stream.stop();
    assert_eq!(gap.ask, Ask::Position);
    assert_eq!(take(&mut stream, &publications([6])), (vec![], Flow::On));
    let healed = stream.located(gap, at(5), Instant::now()).unwrap();
    assert_eq!((healed.turn, offsets(&healed.through)), (Turn::None, vec![6]));
    assert_eq!(healed.flow, Flow::On);
}

#[test]
fn a_stream_that_is_behind_asks_for_what_it_misses() {
    let mut stream = live(5);
    let gap = stream.stop();
    let healed = stream.located(gap, at(9), Instant::now()).unwrap();
    let Flow::Stopped(gap) = healed.flow else { panic!("it goes on with a gap") };
    assert!(matches!(gap.ask, Ask::Page { since, .. } if since == at(5)));
    assert_eq!(offsets(&heal(&mut stream, gap, whole(5, 9)).unwrap().through), [6, 7, 8, 9]);
}

#[test]
fn an_audit_stops_nothing() {
    let mut stream = live(5);
    assert_eq!(stream.audit(), None, "something came");
    let audit = stream.audit().expect("nothing came");
    assert_eq!(take(&mut stream, &publications([6, 7])), (vec![6, 7], Flow::On));
    assert!(stream.located(audit, at(6), Instant::now()).is_none(), "an answer that knows less");

    let _ = stream.audit();
    let audit = stream.audit().expect("nothing came");
    let healed = stream.located(audit, at(9), Instant::now()).unwrap();
    let Flow::Stopped(gap) = healed.flow else { panic!("what it misses goes unnoticed") };
    assert_eq!(offsets(&heal(&mut stream, gap, whole(7, 9)).unwrap().through), [8, 9]);
}

#[test]
fn what_cannot_be_healed_is_given_up_and_told() {
    let mut stream = live(5);
    let gap = stream.stop();
    let began = stream.progress();
    assert!(began.is_some());
    let _ = take(&mut stream, &[publication(at(7)), loose(0)]);
    assert_eq!(stream.progress(), began, "nothing came of it");
    let healed = stream.give_up();
    assert_eq!((healed.turn, offsets(&healed.through)), (Turn::Lost, vec![0]));
    let Flow::Stopped(anew) = healed.flow else { panic!("where does it begin?") };
    assert_eq!((anew.since, anew.ask), (None, Ask::Position));
    assert!(heal(&mut stream, gap, whole(5, 7)).is_none());
    assert_eq!(stream.located(anew, at(7), Instant::now()).unwrap().flow, Flow::On);
    assert_eq!(take(&mut stream, &publications([8])), (vec![8], Flow::On));
}

#[test]
fn nothing_is_given_up_while_the_broker_is_away() {
    let mut stream = live(5);
    stream.pause();
    assert_eq!(stream.progress(), None);
    let _ = stream.stop();
    assert!(stream.progress().is_some());
}

#[test]
fn who_comes_back_together_needs_one_answer() {
    let mut stream = live(100);
    stream.forget();
    let furthest = read(at(50), whole(50, 100));
    let found = snapshot(begin(&mut stream, since(60), Some(&furthest)));
    assert_eq!(
        (found.position, offsets(&found.publications)),
        (Some(at(60)), Vec::from_iter(61..=100))
    );
    let found = snapshot(begin(&mut stream, since(51), None));
    assert_eq!(offsets(&found.publications), Vec::from_iter(52..=100), "the ring was filled");
    let found = snapshot(begin(&mut stream, since(70), Some(&read(at(80), whole(80, 100)))));
    assert_eq!(offsets(&found.publications), Vec::from_iter(71..=100));
}

#[test]
fn what_is_gone_for_one_is_gone_for_all_who_are_as_far_behind() {
    let mut stream = live(100);
    let lost = read(at(60), Recovery::Lost { top: at(100) });
    assert!(!snapshot(begin(&mut stream, since(60), Some(&lost))).recovered);
    assert!(!snapshot(begin(&mut stream, since(55), None)).recovered);
    assert!(matches!(begin(&mut stream, since(61), None), Some(Begin::Read(_))));
}

#[test]
fn nothing_is_served_after_its_time() {
    let mut stream = live(5);
    let _ = take(&mut stream, &publications(6..=9));
    let later = Instant::now() + RETENTION.ttl;
    assert!(
        matches!(stream.begin(since(7), None, later), Some(Begin::Read(from)) if from == at(7))
    );
    let cache = since(5).map(|resume| Resume { is_cache: true, ..resume });
    assert!(matches!(stream.begin(cache, None, later), Some(Begin::Read(from)) if from == at(8)));
    // Of what was read nobody knows how old it is but the broker.
    let old = Recovery::Page { top: at(9), publications: publications(8..=9), ttl: Duration::ZERO };
    let found = snapshot(stream.begin(since(7), Some(&read(at(7), old)), later));
    assert_eq!(offsets(&found.publications), [8, 9]);
    assert!(matches!(stream.begin(since(7), None, later), Some(Begin::Read(_))));
}

#[test]
fn who_comes_back_is_served_from_the_ring() {
    let mut stream = live(5);
    let _ = take(&mut stream, &publications(6..=20));
    let found = snapshot(begin(&mut stream, since(15), None));
    assert_eq!((found.recovered, found.position), (true, Some(at(15))));
    assert_eq!(offsets(&found.publications), [16, 17, 18, 19, 20]);
    let here = snapshot(begin(&mut stream, since(20), None));
    assert!(here.recovered && here.publications.is_empty());
}

#[test]
fn what_the_ring_does_not_have_is_read_and_merged() {
    for top in [3, 5, 12, 20, 22] {
        let mut stream = live(5);
        let _ = take(&mut stream, &publications(6..=20));
        let found = begin(&mut stream, since(2), None);
        assert!(matches!(found, Some(Begin::Read(from)) if from == at(2)));
        let found = begin(&mut stream, since(2), Some(&read(at(2), whole(2, top))));
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
    let Some(Begin::Read(from)) = begin(&mut stream, since(7), None) else {
        panic!("it remembers")
    };
    assert_eq!(from, at(7));
    assert!(
        !snapshot(begin(&mut stream, since(7), Some(&read(at(7), Recovery::Lost { top: at(9) }))))
            .recovered
    );
    assert!(snapshot(begin(&mut stream, since(9), None)).recovered, "who missed nothing");
    assert_eq!(take(&mut stream, &publications([10])), (vec![10], Flow::On));
}

#[test]
fn who_missed_more_than_the_limit_begins_anew() {
    let mut stream = live(5);
    let _ = take(&mut stream, &publications(6..=90));
    let found = snapshot(begin(&mut stream, since(20), None));
    assert_eq!((found.recovered, found.position), (false, Some(at(90))));
    assert!(found.publications.is_empty());
}

#[test]
fn a_position_of_the_future_is_believed_only_if_the_broker_knows_it() {
    let mut stream = live(5);
    assert!(matches!(begin(&mut stream, since(9), None), Some(Begin::Read(from)) if from == at(9)));
    let unknown = read(at(9), Recovery::Lost { top: at(5) });
    assert!(!snapshot(begin(&mut stream, since(9), Some(&unknown))).recovered);
    // This node just has not heard of it yet.
    let Some(Begin::Heal(gap)) = begin(&mut stream, since(9), Some(&read(at(9), whole(9, 9))))
    else {
        panic!("the node stays behind")
    };
    assert!(begin(&mut stream, since(9), None).is_none(), "it waits");
    let healed = heal(&mut stream, gap, whole(5, 9)).unwrap();
    assert_eq!(offsets(&healed.through), [6, 7, 8, 9]);
    assert!(snapshot(begin(&mut stream, since(9), None)).recovered);
}

#[test]
fn a_cache_gives_the_latest_to_who_does_not_have_it() {
    let mut stream = live(5);
    let cache = |offset, id| {
        let since = Since { offset, epoch: Some(Epoch { id, branch: 0 }) };
        Some(Resume { since, limit: 50, is_cache: true })
    };
    for resume in [cache(0, 7), cache(3, 7), cache(5, 99)] {
        let found = snapshot(begin(&mut stream, resume, None));
        assert_eq!((found.recovered, offsets(&found.publications)), (true, vec![5]));
    }
    let found = snapshot(begin(&mut stream, cache(5, 7), None));
    assert!(found.recovered && found.publications.is_empty());
    assert!(!snapshot(begin(&mut live(0), cache(0, 7), None)).recovered, "there is none");
}

#[derive(Clone, Debug)]
enum Step {
    /// The channel gets this many publications, of which so many of the last reach the node.
    Publish { count: u64, arriving: u64 },
    /// The node hears an old publication again.
    Repeat { back: u64 },
    /// Somebody joins the channel.
    Join,
    /// The broker answers, if it was asked, having forgotten all but the last so many, with a page
    /// of this many.
    Answer { kept: u64, page: u64 },
    /// The link to the broker is cut, and the broker asked once it is back.
    Cut,
    /// The link is cut and stays so.
    Away,
    /// Nothing came for a minute.
    Audit,
    /// Nothing came of a heal for too long.
    LosePatience,
    /// A subscriber comes back that was so far behind.
    ComeBack { behind: u64, lag: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_u64, 0..6_u64).prop_map(|(count, arriving)| Step::Publish { count, arriving }),
        1 => (0..9_u64).prop_map(|back| Step::Repeat { back }),
        1 => Just(Step::Join),
        4 => (0..40_u64, 1..9_u64).prop_map(|(kept, page)| Step::Answer { kept, page }),
        1 => Just(Step::Cut),
        1 => Just(Step::Away),
        1 => Just(Step::Audit),
        1 => Just(Step::LosePatience),
        2 => (0..30_u64, 0..5_u64).prop_map(|(behind, lag)| Step::ComeBack { behind, lag }),
    ]
}

/// A stream with the channel that it is about and a subscriber.
struct World {
    stream: Stream,
    /// The channel's newest offset.
    top: u64,
    /// The last offset that the subscriber has, if it was told no loss since.
    seen: Option<u64>,
    joined: usize,
    joins_seen: usize,
    /// What the broker was asked last.
    asked: Option<Gap>,
    is_away: bool,
}

impl World {
    fn new() -> Self {
        let (stream, top, seen) = (live(0), 0, Some(0));
        Self { stream, top, seen, joined: 0, joins_seen: 0, asked: None, is_away: false }
    }

    fn play(&mut self, step: &Step) {
        let now = Instant::now();
        let mut through = Vec::new();
        match *step {
            Step::Publish { count, arriving } => {
                let new = publications(self.top + 1..=self.top + count);
                self.top += count;
                let skipped = new.len().saturating_sub(arriving as usize);
                let flow = self.stream.take(&new[skipped..], now, &mut through);
                self.see(Turn::None, &through, flow);
            }
            Step::Repeat { .. } if self.top == 0 => {}
            Step::Repeat { back } => {
                let old = publications([self.top.saturating_sub(back).max(1)]);
                let flow = self.stream.take(&old, now, &mut through);
                self.see(Turn::None, &through, flow);
            }
            Step::Join => {
                self.joined += 1;
                let flow = self.stream.take(&[loose(self.joined)], now, &mut through);
                self.see(Turn::None, &through, flow);
            }
            Step::Answer { kept, page } => self.answer(kept, page),
            Step::Cut => {
                self.is_away = false;
                self.asked = Some(self.stream.stop());
            }
            Step::Away => {
                self.is_away = true;
                self.stream.pause();
            }
            Step::Audit => self.asked = self.stream.audit().or(self.asked),
            Step::LosePatience if self.stream.progress().is_some() => {
                let given_up = self.stream.give_up();
                self.see(given_up.turn, &given_up.through, given_up.flow);
            }
            Step::LosePatience => {}
            Step::ComeBack { behind, lag } => self.come_back(behind, lag),
        }
    }

    fn answer(&mut self, kept: u64, page_length: u64) {
        let Some(asked) = self.asked.take().filter(|_| !self.is_away) else { return };
        let now = Instant::now();
        let healed = match asked.ask {
            Ask::Position => self.stream.located(asked, at(self.top), now),
            Ask::Page { since, .. } if self.top - since.offset > kept => {
                self.stream.healed(asked, Recovery::Lost { top: at(self.top) }, now)
            }
            Ask::Page { since, .. } => {
                let end = self.top.min(since.offset + page_length);
                let found = page(publications(since.offset + 1..=end), at(self.top));
                self.stream.healed(asked, found, now)
            }
        };
        if let Some(Healed { turn, through, flow }) = healed {
            self.see(turn, &through, flow);
        }
    }

    /// Every offset once and in order, unless a loss was told.
    fn see(&mut self, turn: Turn, through: &[Arc<Publication>], flow: Flow) {
        let (loose, placed): (Vec<_>, Vec<_>) =
            through.iter().partition(|publication| publication.position().is_none());
        self.joins_seen += loose.len();
        let placed = offsets(placed);
        assert!(placed.is_sorted_by(|one, next| next - one == 1) || turn == Turn::Lost);
        if let (Some(seen), Some(first), false) = (self.seen, placed.first(), turn == Turn::Lost) {
            assert_eq!(*first, seen + 1);
        }
        // Who is told begins anew, with what comes then.
        let is_told = turn == Turn::Lost;
        self.seen = placed.last().copied().or(self.seen).filter(|_| !is_told);
        if let Flow::Stopped(gap) = flow {
            self.asked = Some(gap);
        }
    }

    fn come_back(&mut self, behind: u64, lag: u64) {
        let Some(seen) = self.seen else { return };
        let from = seen.saturating_sub(behind);
        let mut found = begin(&mut self.stream, since(from), None);
        if let Some(Begin::Read(asked)) = found {
            // The broker may be a little behind, or ahead, of this node.
            let read_top = self.top.saturating_sub(lag).max(asked.offset);
            let answer = read(asked, whole(asked.offset, read_top));
            found = begin(&mut self.stream, since(from), Some(&answer));
        }
        if let Some(Begin::At(snapshot)) = found {
            assert!(self.stream.progress().is_none() && !self.is_away, "a stream that waits");
            assert!(snapshot.recovered);
            assert_eq!(offsets(&snapshot.publications), Vec::from_iter(from + 1..=seen));
        }
    }

    /// Answers what is asked until nothing is.
    fn settle(&mut self) {
        self.is_away = false;
        for _ in 0..1000 {
            if self.stream.progress().is_none() && self.seen.is_some() {
                return;
            }
            if self.asked.is_none() {
                self.play(&Step::Cut);
            }
            self.play(&Step::Answer { kept: u64::MAX, page: 3 });
            if self.stream.progress().is_none() {
                self.play(&Step::Publish { count: 1, arriving: 1 });
            }
        }
        panic!("it never settles");
    }
}

proptest! {
    /// Whatever happens, subscribers see every offset once and in order, or are told; a snapshot
    /// never claims what is not so; and nobody is silent once the broker answers.
    #[test]
    fn nothing_is_missed_in_silence(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.play(step);
        }
        world.play(&Step::Cut);
        world.settle();
        prop_assert_eq!(world.seen, Some(world.top));
        prop_assert_eq!(world.joins_seen, world.joined, "who came was told of");
    }
}
