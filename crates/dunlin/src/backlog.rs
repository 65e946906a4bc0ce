//! The backlog: bytes a connection's socket would not take yet, oldest first.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use dunlin_core::hub::ChannelId;
use tokio::time::Instant;

/// Runs of whole frames, the first perhaps half written. Runs are shared between connections, so a
/// run that a thousand slow readers owe is in memory once.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    runs: VecDeque<Run>,
    bytes: usize,
    /// How many of them are answers.
    answer_bytes: usize,
}

/// Why a client gets something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It asked for it: it gets no more of that before it has read what it got. Nobody else has it
    /// in memory.
    Asked,
    /// Others published, or the node wants it; it comes whether the client reads or not.
    Pushed,
    /// The same, and what waits of the same channel need not come any more.
    Conflated(ChannelId),
}

#[derive(Debug)]
struct Run {
    frames: Bytes,
    cause: Cause,
    /// How much of `frames` is written.
    written: usize,
    queued_at: Instant,
}

impl Backlog {
    /// Appends a run of whole frames of which `written` bytes are out already.
    pub(crate) fn push(&mut self, frames: Bytes, written: usize, cause: Cause, now: Instant) {
        self.bytes += frames.len() - written;
        if cause == Cause::Asked {
            self.answer_bytes += frames.len() - written;
        }
        self.runs.push_back(Run { frames, cause, written, queued_at: now });
    }

    /// Forgets what waits of a channel as [`Cause::Conflated`] and is not begun; says how many
    /// bytes that are.
    pub(crate) fn conflate(&mut self, channel: ChannelId) -> usize {
        let goes = |run: &Run| run.cause == Cause::Conflated(channel) && run.written == 0;
        // There is one at most, and most likely it came of late.
        let gone = self.runs.iter().rposition(goes).and_then(|place| self.runs.remove(place));
        let bytes = gone.map_or(0, |run| run.frames.len());
        self.bytes -= bytes;
        bytes
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes waiting that the client asked for.
    pub(crate) fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// Bytes waiting that it did not ask for.
    pub(crate) fn pushed_bytes(&self) -> usize {
        self.bytes - self.answer_bytes
    }

    /// Since when the oldest byte waits. None when nothing does.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.runs.front().map(|run| run.queued_at)
    }

    /// What to write next; empty when nothing waits.
    pub(crate) fn first(&self) -> &[u8] {
        self.runs.front().map_or(&[], |run| &run.frames[run.written..])
    }

    /// `count` bytes of [`Backlog::first`] are written.
    pub(crate) fn advance(&mut self, count: usize) {
        self.bytes -= count;
        if let Some(run) = self.runs.front_mut() {
            if run.cause == Cause::Asked {
                self.answer_bytes -= count;
            }
            run.written += count;
            if run.written == run.frames.len() {
                self.runs.pop_front();
            }
        }
    }

    /// Drops what is not begun: keeps the rest of a half-written frame, so that another frame may
    /// follow it.
    pub(crate) fn cut_at_frame_end(&mut self) {
        let first = self.runs.pop_front();
        *self = Self::default();
        let Some(Run { mut frames, cause, written, queued_at }) = first else { return };
        let end = dunlin_ws::frame_end(&frames, written);
        frames.truncate(end);
        if written < end {
            self.push(frames, written, cause, queued_at);
        }
    }

    /// What waits, each run as far as it is not written, and why.
    pub(crate) fn into_runs(self) -> impl Iterator<Item = (Bytes, Cause)> {
        self.runs.into_iter().map(|mut run| (run.frames.split_off(run.written), run.cause))
    }

    /// Takes everything, leaving nothing.
    pub(crate) fn take(&mut self) -> Self {
        mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use dunlin_core::{
        channel::ChannelName,
        hub::{Hub, Manner, Turn},
        publication::{Format, Kind, Publication},
    };
    use dunlin_ws::{MessageKind, message_frame};

    use super::*;

    #[test]
    fn a_cut_keeps_only_the_rest_of_a_begun_frame() {
        let frames: Vec<Bytes> = [3, 200, 70_000]
            .map(|size| message_frame(MessageKind::Binary, &vec![b'x'; size]))
            .into();
        let run: Bytes = frames.concat().into();
        let ends: Vec<usize> = frames
            .iter()
            .scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            })
            .collect();
        for written in 0..run.len() {
            let mut backlog = Backlog::default();
            backlog.push(run.clone(), written, Cause::Asked, Instant::now());
            backlog.push(run.clone(), 0, Cause::Pushed, Instant::now());
            backlog.cut_at_frame_end();
            let end = ends.iter().find(|end| **end >= written).copied().unwrap();
            let is_boundary = written == 0 || ends.contains(&written);
            let rest = if is_boundary { 0 } else { end - written };
            assert_eq!((backlog.bytes(), backlog.first().len()), (rest, rest), "written {written}");
        }
    }

    #[test]
    fn of_a_channel_that_conflates_only_what_is_begun_and_the_newest_waits() {
        let (mut hub, mut turn) = (Hub::default(), Turn::default());
        turn.begin();
        for name in ["prices", "cursors"] {
            let name = ChannelName::new(name).unwrap();
            hub.subscribe(&name, &Manner::all(Format::PLAIN), 0);
            turn.gather(&mut hub, Publication::new(name, Kind::Text, Bytes::new()).into());
        }
        let channels: Vec<_> = turn.take().map(|run| run.channel).collect();
        let [prices, cursors] = channels[..] else { panic!("{channels:?}") };
        let mut backlog = Backlog::default();
        let now = Instant::now();
        let mut push = |frames, written, cause| {
            if let Cause::Conflated(channel) = cause {
                backlog.conflate(channel);
            }
            backlog.push(Bytes::from_static(frames), written, cause, now);
        };
        push(b"begun", 2, Cause::Conflated(prices));
        push(b"old", 0, Cause::Conflated(prices));
        push(b"answer", 0, Cause::Asked);
        push(b"here", 0, Cause::Conflated(cursors));
        push(b"newer", 0, Cause::Conflated(prices));
        push(b"newest", 0, Cause::Conflated(prices));
        assert_eq!(backlog.bytes(), 3 + 6 + 4 + 6);
        assert_eq!((backlog.answer_bytes(), backlog.pushed_bytes()), (6, 13));
        let runs: Vec<_> = backlog.into_runs().map(|(frames, _)| frames).collect();
        assert_eq!(runs, [&b"gun"[..], b"answer", b"here", b"newest"]);
    }

    #[test]
    fn bytes_are_counted_as_they_come_and_go() {
        let mut backlog = Backlog::default();
        let now = Instant::now();
        backlog.push(Bytes::from_static(b"abcdef"), 2, Cause::Asked, now);
        backlog.push(Bytes::from_static(b"gh"), 0, Cause::Pushed, now);
        assert_eq!((backlog.bytes(), backlog.first()), (6, &b"cdef"[..]));
        assert_eq!((backlog.answer_bytes(), backlog.pushed_bytes()), (4, 2));
        backlog.advance(4);
        assert_eq!((backlog.bytes(), backlog.first()), (2, &b"gh"[..]));
        assert_eq!((backlog.answer_bytes(), backlog.pushed_bytes()), (0, 2));
        backlog.advance(2);
        assert!(backlog.is_empty() && backlog.bytes() == 0);
        assert_eq!(backlog.waits_since(), None);
    }
}
