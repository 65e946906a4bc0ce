//! What clients do with what they get.

use super::{ANSWER_NS, REFUSED_NS, Swarm, exponential, record::Recording};
use crate::{
    centrifuge::{Publication, Subscribed},
    check::{
        client::{Event, Link, Session},
        judge::{Message, Start},
        verdict::Counts,
    },
    clock,
    connection::Connection,
    epoll::Ready,
    payload::Stamp,
};

impl Swarm {
    /// Does what a ready socket allows.
    pub(super) fn serve(&mut self, ready: Ready) {
        let number = ready.token;
        match &mut self.clients[number].link {
            Link::Down => {}
            Link::Opening(attempt) => match attempt.advance(&self.epoll, number) {
                Ok(false) => {}
                Ok(true) => self.greet(number),
                Err(failure) => {
                    Counts::note(&mut self.counts.failures, failure.to_string());
                    self.lose(number);
                    self.clients[number].due = clock::now() + REFUSED_NS;
                }
            },
            Link::Open(_) => {
                if ready.readable {
                    self.receive(number);
                }
                self.send(number);
            }
        }
    }

    /// Connects and subscribes in one frame, as the SDKs do.
    fn greet(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Link::Opening(attempt) = std::mem::replace(&mut client.link, Link::Down) else {
            return;
        };
        let opened = attempt.into_opened();
        let connection = Connection::new(opened.socket, opened.leftover);
        let mut session = Session::new(connection, self.encoding);
        session.connect(&client.token);
        for (index, channel) in client.channels.iter().enumerate() {
            let position = self.judge.position(number * self.subscriptions + index);
            session.subscribe(index, channel, position);
        }
        client.link = Link::Open(session);
        let lives = if self.cutting { exponential(self.lives) } else { ANSWER_NS };
        client.due = clock::now() + lives;
        self.counts.reconnects += u64::from(self.opened >= self.clients.len() as u64);
        self.opened += 1;
        self.receive(number);
        self.send(number);
    }

    fn receive(&mut self, number: usize) {
        let Link::Open(session) = &mut self.clients[number].link else { return };
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let received = session.connection.receive(&mut self.buffer).and_then(|filled| {
            session.connection.read(&self.buffer[..filled], |frame| frames.push(frame.to_vec()))
        });
        for frame in frames {
            let Link::Open(session) = &self.clients[number].link else { return };
            let Some(replies) = session.read(&frame) else {
                return self.fail(number, "malformed frame".into());
            };
            for reply in replies {
                let client = &mut self.clients[number];
                let Link::Open(session) = &mut client.link else { return };
                let event = session.take(reply, &client.channels);
                self.handle(number, event);
            }
        }
        if let Err(ending) = received {
            Counts::note(&mut self.counts.closed, ending.to_string());
            self.lose(number);
        }
    }

    fn handle(&mut self, number: usize, event: Event) {
        match event {
            Event::Nothing => {}
            Event::Delivered { index, offset, data } => {
                self.deliver(number, index, &Publication { data, offset });
            }
            Event::Acknowledged(sequence) => {
                self.counts.acknowledged += 1;
                self.judge.acknowledge(Message { publisher: number, sequence });
                self.note_answer(number, sequence, true);
            }
            Event::Unsure(sequence, refusal) => {
                self.counts.unknown += 1;
                self.note_answer(number, sequence, false);
                let kind = format!("publish {} {}", refusal.code, refusal.message);
                Counts::note(&mut self.counts.refused, kind);
            }
            Event::Subscribed { index, recovering, granted } => {
                self.subscribed(number, index, recovering, granted);
            }
            Event::Resubscribe(index) => {
                self.counts.resubscribed += 1;
                self.subscribe(number, index);
            }
            Event::Refused(index, refusal) => {
                let reason = format!("{} {}", refusal.code, refusal.message);
                Counts::note(&mut self.counts.refused, reason);
                let client = &mut self.clients[number];
                let Link::Open(session) = &mut client.link else { return };
                session.postpone(index, clock::now() + REFUSED_NS);
                if number < self.steady {
                    // It has its answer.
                    client.due = u64::MAX;
                    self.recording.iter().for_each(|it| it.signals.troubled());
                }
            }
            Event::Failed(refusal) => {
                self.fail(number, format!("{} {}", refusal.code, refusal.message));
            }
        }
    }

    /// Asks for a subscription on an open connection.
    fn subscribe(&mut self, number: usize, index: usize) {
        let client = &mut self.clients[number];
        let Link::Open(session) = &mut client.link else { return };
        let position = self.judge.position(number * self.subscriptions + index);
        session.subscribe(index, &client.channels[index], position);
        client.due = client.due.min(clock::now() + ANSWER_NS);
    }

    /// Asks for those again that were refused a moment ago.
    pub(super) fn subscribe_again(&mut self, number: usize, now: u64) {
        let Link::Open(session) = &mut self.clients[number].link else { return };
        let postponed = session.take_postponed(now);
        if postponed.is_empty() {
            return;
        }
        for index in postponed {
            self.subscribe(number, index);
        }
        self.send(number);
    }

    fn subscribed(&mut self, number: usize, index: usize, recovering: bool, granted: Subscribed) {
        if !granted.recoverable {
            let channel = &self.clients[number].channels[index];
            self.hopeless = Some(format!("channel {channel} has no recovery: configure history"));
            return;
        }
        let reader = number * self.subscriptions + index;
        // Who asked to recover and is not told that it failed takes it for done.
        let start = match recovering && (granted.recovered || !granted.was_recovering) {
            true => Start::Recovered { publications: granted.publications.len() },
            false => Start::Anew,
        };
        if recovering {
            let recovered = matches!(start, Start::Recovered { .. });
            self.counts.recovered += u64::from(recovered);
            self.counts.not_recovered += u64::from(!recovered);
        }
        if granted.offset > OFFSET_MAX {
            return self.fail(number, "malformed offset".into());
        }
        self.judge.subscribe(reader, start, &granted.epoch, granted.offset);
        if let Some(Recording { journal, .. }) = &mut self.recording {
            journal.started(reader, clock::now(), start, &granted.epoch, granted.offset);
        }
        for publication in granted.publications {
            self.deliver(number, index, &publication);
        }
    }

    fn deliver(&mut self, number: usize, index: usize, publication: &Publication) {
        if publication.offset > OFFSET_MAX {
            return self.fail(number, "malformed offset".into());
        }
        self.counts.deliveries += 1;
        let stamp = Stamp::read(publication.data.as_bytes()).filter(|stamp| stamp.run == self.run);
        let message = stamp
            .map(|stamp| Message { publisher: stamp.publisher as usize, sequence: stamp.sequence });
        let reader = number * self.subscriptions + index;
        self.judge.deliver(reader, publication.offset, message);
        let Some(Recording { journal, signals }) = &mut self.recording else { return };
        let now = clock::now();
        journal.delivered(reader, now, publication.offset, message);
        if let Some(Stamp { sent_ns, .. }) = stamp
            && number < self.steady
        {
            signals.delivered(journal.readers[reader].channel, sent_ns, now);
        }
    }
}

/// What a JSON number carries exactly.
const OFFSET_MAX: u64 = 1 << 53;
