//! Every acknowledged publication was delivered to everybody who was there, or they were told.

use super::{
    Findings, Kind,
    places::Places,
    reader::{Segment, View},
};
use crate::check::{
    journal::{Journal, Sent},
    judge::Message,
};

/// Looks for the acknowledged publications that a reader does not have and should.
pub(super) fn check(journal: &Journal, places: &Places, views: &[View], findings: &mut Findings) {
    for (publisher, published) in journal.publishers.iter().enumerate() {
        for (sequence, sent) in published.publications.iter().enumerate() {
            let Some(acknowledged) = sent.acknowledged() else { continue };
            let message = Message { publisher, sequence: sequence as u32 };
            let places = places.of(message);
            let mut without = Vec::new();
            for (number, view) in views.iter().enumerate() {
                let reader = &journal.readers[number];
                let is_told = || places.iter().any(|place| view.holes.contains(place));
                if reader.channel != published.channel || view.seen.contains(&message) || is_told()
                {
                    continue;
                }
                if let Some(segment) = owing(view, sent, acknowledged, reader.subscribed) {
                    let (kind, at) = kind(journal, segment, sent, acknowledged);
                    without.push((number, kind, at));
                }
            }
            if places.is_empty() && !without.is_empty() {
                let what = format!(
                    "{message} of channel {} was acknowledged, {} readers were owed it",
                    published.channel,
                    without.len()
                );
                findings.add(Kind::Lost, acknowledged, 1, what);
                continue;
            }
            for (number, kind, at) in without {
                let what = format!(
                    "reader {number} of channel {} never got {message}, which others did",
                    published.channel
                );
                findings.add(kind, at, 1, what);
            }
        }
    }
}

/// The segment in which a reader that does not have this publication was owed it, if any.
fn owing<'a>(
    view: &'a View,
    sent: &Sent,
    acknowledged: u64,
    subscribed: bool,
) -> Option<&'a Segment> {
    // It lies in the last segment that had begun when it was sent, or in a later one.
    let behind = view.segments.partition_point(|segment| segment.started < sent.at);
    let mut number = match behind.checked_sub(1) {
        Some(number) => number,
        None if lies_behind_the_start(view.segments.first()?, sent) => 0,
        None => return None,
    };
    loop {
        let segment = &view.segments[number];
        let lies_before_its_end = segment.latest_sent.is_some_and(|last| acknowledged < last);
        let next = view.segments.get(number + 1);
        if lies_before_its_end || next.is_none() && subscribed {
            return Some(segment);
        }
        // What lies between two segments is what the reader was told of.
        if !lies_behind_the_start(next?, sent) {
            return None;
        }
        number += 1;
    }
}

fn lies_behind_the_start(segment: &Segment, sent: &Sent) -> bool {
    segment.earliest_acknowledged.is_some_and(|first| first < sent.at)
}

/// A "recovered" between the publication and the next one that surely lies behind it was false. And
/// when it showed: at that recovery, or when the next one came.
fn kind(journal: &Journal, segment: &Segment, sent: &Sent, acknowledged: u64) -> (Kind, u64) {
    let behind = |message| journal.publication(message).is_some_and(|sent| sent.at > acknowledged);
    let later = segment.delivered.iter().find(|(_, message)| behind(*message));
    let until = later.map_or(u64::MAX, |(at, _)| *at);
    match segment.recoveries.iter().rev().find(|at| (sent.at..=until).contains(at)) {
        Some(at) => (Kind::FalseRecovered, *at),
        None => (Kind::Gap, later.map_or(acknowledged, |(at, _)| *at)),
    }
}
