//! What the broker is asked about streams, and what becomes of its answers.

use std::time::Instant;

use super::{
    Interest, PARTITIONS,
    entry::Entry,
    heals::{Question, Urgency},
};
use crate::{
    channel::ChannelName,
    history::Recovery,
    limits::HEAL_PATIENCE,
    position::Position,
    stream::{Flow, Gap, Healed, Progress, Turn},
};

impl Interest {
    /// Waits for the next question that is to be put to the broker. Each must be answered by
    /// [`Interest::located`], [`Interest::healed`] or [`Interest::not_answered`]. Cancel-safe.
    pub async fn next_question(&self) -> Question {
        loop {
            match self.heals.next().await {
                Question::Positions(mut asked) => {
                    asked.retain(|(channel, gap)| self.waits_for(channel, *gap));
                    if !asked.is_empty() {
                        return Question::Positions(asked);
                    }
                }
                Question::Audit(mut asked) => {
                    asked.retain(|(channel, gap)| self.waits_for(channel, *gap));
                    if !asked.is_empty() {
                        return Question::Audit(asked);
                    }
                    self.heals.end_audit();
                }
                Question::Page(channel, gap) if self.waits_for(&channel, gap) => {
                    return Question::Page(channel, gap);
                }
                Question::Page(_, gap) => self.heals.end_page(gap),
            }
        }
    }

    /// Whether a question is still worth an answer.
    fn waits_for(&self, channel: &ChannelName, gap: Gap) -> bool {
        let partition = self.partition(channel).lock();
        let stream = partition.entries.get(channel).and_then(|entry| entry.stream.as_ref());
        stream.is_some_and(|stream| stream.waits_for(gap))
    }

    /// An audit has been answered as far as it will be.
    pub fn end_audit(&self) {
        self.heals.end_audit();
    }

    /// Where a channel is.
    pub fn located(&self, channel: &ChannelName, gap: Gap, position: Position) {
        let now = Instant::now();
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return };
        let Some(stream) = &mut entry.stream else { return };
        let Some(healed) = stream.located(gap, position, now) else { return };
        self.go_on(channel, entry, &healed, now);
        let change = self.rings.settle(entry);
        self.rings.follow(&mut partition, channel, change);
    }

    /// What a channel's stream misses, or that it misses it for good.
    pub fn healed(&self, channel: &ChannelName, gap: Gap, recovery: Recovery) {
        self.heals.end_page(gap);
        let now = Instant::now();
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return };
        let Some(stream) = &mut entry.stream else { return };
        let Some(healed) = stream.healed(gap, recovery, now) else { return };
        self.go_on(channel, entry, &healed, now);
        let change = self.rings.settle(entry);
        self.rings.follow(&mut partition, channel, change);
    }

    /// A question could not be put to the broker: [`Interest::audit`] has it tried again.
    pub fn not_answered(&self, channel: ChannelName, gap: Gap) {
        match gap.bytes() {
            0 => {}
            _ => self.heals.end_page(gap),
        }
        self.heals.postpone(channel, gap, Urgency::Return);
    }

    /// Hands on what an answer brought.
    fn go_on(&self, channel: &ChannelName, entry: &mut Entry, healed: &Healed, now: Instant) {
        if healed.turn != Turn::None {
            self.push_turn(&entry.shards, channel, healed.turn);
        }
        self.push(&entry.shards, &healed.through);
        match healed.flow {
            Flow::On => entry.grant(),
            Flow::Stopped(gap) => self.ask(channel, entry, gap, now),
        }
    }

    /// Holds an entry whose stream has stopped until a question is answered.
    pub(super) fn ask(&self, channel: &ChannelName, entry: &mut Entry, gap: Gap, now: Instant) {
        entry.hold();
        let urgency = if gap.since.is_none() { Urgency::Join } else { Urgency::Return };
        self.heals.push(channel.clone(), gap, urgency);
        let progress = entry.stream.as_ref().and_then(|stream| stream.progress());
        if let Some(progress) = progress.filter(|progress| progress.is_first()) {
            self.heals.note_progress(channel.clone(), progress, now);
        }
    }

    /// Asks anew what could not be answered, tells subscribers of streams that nothing came of for
    /// [`HEAL_PATIENCE`], and asks whether channels that have been silent for a minute or so should
    /// have been. Called about once a second.
    pub fn audit(&self, number: usize, now: Instant) {
        self.inboxes.iter().for_each(|inbox| inbox.look_after());
        self.heals.resume();
        self.rings.make_room(&self.partitions, number);
        if let Some(then) = now.checked_sub(HEAL_PATIENCE) {
            for (channel, progress) in self.heals.take_begun_before(then) {
                self.lose_patience(channel, progress, now);
            }
        }
        // Those of the last time are not even asked yet: more would only be in the way.
        if self.heals.is_auditing() {
            return;
        }
        let mut partition = self.partitions[number % PARTITIONS].lock();
        for (channel, entry) in &mut partition.entries {
            if let Some(gap) = entry.stream.as_mut().and_then(|stream| stream.audit()) {
                self.heals.push(channel.clone(), gap, Urgency::Audit);
            }
        }
    }

    /// Asks whether these channels missed something, if they are not asked about already.
    pub fn check(&self, is_it: &dyn Fn(&ChannelName) -> bool) {
        for partition in &self.partitions {
            let mut partition = partition.lock();
            let chosen = partition.entries.iter_mut().filter(|(channel, _)| is_it(channel));
            for (channel, entry) in chosen {
                if let Some(gap) = entry.stream.as_mut().and_then(|stream| stream.check()) {
                    self.heals.push(channel.clone(), gap, Urgency::Return);
                }
            }
        }
    }

    /// Gives up a heal that is no further than it was, so that nobody is silent for ever.
    fn lose_patience(&self, channel: ChannelName, was: Progress, now: Instant) {
        let mut partition = self.partition(&channel).lock();
        let Some(entry) = partition.entries.get_mut(&channel) else { return };
        let Some(stream) = &mut entry.stream else { return };
        match stream.progress() {
            Some(is) if is == was => {
                let healed = stream.give_up();
                self.go_on(&channel, entry, &healed, now);
                let _smaller = self.rings.settle(entry);
            }
            Some(is) if is.is_of_the_same_heal(was) => self.heals.note_progress(channel, is, now),
            _ => {}
        }
    }

    /// Stops an entry's stream, if it has one, until the broker has said where it is.
    pub(super) fn heal(&self, channel: &ChannelName, entry: &mut Entry) {
        if let Some(stream) = &mut entry.stream {
            let gap = stream.stop();
            self.ask(channel, entry, gap, Instant::now());
        }
    }
}
