//! How publishes with an idempotency key were answered.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{channel::ChannelName, position::Position};

/// How publishes with an idempotency key were answered.
#[derive(Default)]
pub(super) struct Answers {
    by_key: HashMap<(ChannelName, String), Option<Position>>,
    /// The keys of the table, the oldest first.
    ages: VecDeque<(Instant, (ChannelName, String))>,
    bytes: usize,
}

/// What an answer takes beside twice its key.
const ANSWER_BYTES: usize = 256;

/// How long an answer is remembered.
const IDEMPOTENCY_TTL: Duration = Duration::from_secs(5 * 60);

impl Answers {
    pub(super) fn get(
        &mut self,
        channel: &ChannelName,
        key: &str,
        now: Instant,
    ) -> Option<Option<Position>> {
        self.expire(now);
        if key.is_empty() {
            return None;
        }
        self.by_key.get(&(channel.clone(), key.to_owned())).copied()
    }

    pub(super) fn keep(
        &mut self,
        channel: ChannelName,
        key: String,
        answer: Option<Position>,
        now: Instant,
    ) {
        if !key.is_empty() {
            self.bytes += bytes(&channel, &key);
            self.ages.push_back((now + IDEMPOTENCY_TTL, (channel.clone(), key.clone())));
            self.by_key.insert((channel, key), answer);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self.ages.front().is_some_and(|(over_at, _)| *over_at <= now) {
            self.drop_oldest();
        }
    }

    /// About how much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Says whether there was any.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let Some((_, key)) = self.ages.pop_front() else { return false };
        self.bytes -= bytes(&key.0, &key.1);
        self.by_key.remove(&key);
        true
    }
}

fn bytes(channel: &ChannelName, key: &str) -> usize {
    ANSWER_BYTES + 2 * (channel.as_str().len() + key.len())
}
