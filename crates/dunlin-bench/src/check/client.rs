//! One client: what it has asked on its present connection, and what it does with the answers, as
//! the SDKs do it.

use std::collections::HashMap;

use crate::{
    centrifuge::{Command, Encoding, Refusal, Reply, Subscribed},
    connection::{Connection, Ending},
    open::Attempt,
};

/// A client, connected or not.
pub(super) struct Client {
    /// The names of its channels.
    pub(super) channels: Vec<String>,
    pub(super) token: String,
    pub(super) link: Link,
    /// When it is cut, or gives up, or comes back (`clock::now`).
    pub(super) due: u64,
    /// Publications so far.
    pub(super) sequence: u32,
}

/// Its way to the server.
pub(super) enum Link {
    Down,
    Opening(Attempt),
    Open(Session),
}

/// An open connection.
pub(super) struct Session {
    pub(super) connection: Connection,
    encoding: Encoding,
    /// Commands without an answer.
    asked: HashMap<u32, Asked>,
    /// Subscriptions that the server cannot make now, and when to ask again (`clock::now`).
    refused: Vec<usize>,
    again_at: u64,
    last_id: u32,
    /// Commands to be sent as one frame.
    frame: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Asked {
    Connect,
    /// The index among the client's channels, and whether it was there before.
    Subscribe(usize, bool),
    /// The number of the publication.
    Publish(u32),
}

/// What a reply means to a client.
pub(super) enum Event {
    /// A subscription is granted; whether the client asked to recover.
    Subscribed { index: usize, recovering: bool, granted: Subscribed },
    /// A publication.
    Delivered { index: usize, offset: u64, data: String },
    /// A publication of its own is in the stream.
    Acknowledged(u32),
    /// The fate of a publication of its own is unknown.
    Unsure(u32, Refusal),
    /// The server asks to subscribe anew.
    Resubscribe(usize),
    /// It cannot make this subscription now.
    Refused(usize, Refusal),
    /// There is no going on with this connection.
    Failed(Refusal),
    /// Nothing to do.
    Nothing,
}

impl Session {
    pub(super) fn new(connection: Connection, encoding: Encoding) -> Self {
        let (asked, refused, frame) = (HashMap::new(), Vec::new(), Vec::new());
        Self { connection, encoding, asked, refused, again_at: 0, last_id: 0, frame }
    }

    pub(super) fn connect(&mut self, token: &str) {
        self.ask(Asked::Connect, Command::Connect { token });
    }

    /// `recover` is where the client was before.
    pub(super) fn subscribe(&mut self, index: usize, channel: &str, recover: Option<(u64, &str)>) {
        let asked = Asked::Subscribe(index, recover.is_some());
        self.ask(asked, Command::Subscribe { channel, recover });
    }

    pub(super) fn publish(&mut self, channel: &str, sequence: u32, data: &str) {
        self.ask(Asked::Publish(sequence), Command::Publish { channel, data });
    }

    /// Sends the commands asked since the last time; true when the socket took all.
    pub(super) fn send(&mut self, mask: [u8; 4]) -> Result<bool, Ending> {
        if !self.frame.is_empty() {
            self.connection.queue(self.encoding.opcode(), &self.frame, mask);
            self.frame.clear();
        }
        self.connection.flush()
    }

    /// Whether it is connected and subscribed to everything.
    pub(super) fn is_ready(&self) -> bool {
        self.refused.is_empty()
            && self.asked.values().all(|asked| matches!(asked, Asked::Publish(_)))
    }

    /// A subscription is to be asked for again at `at`, and those that wait already with it.
    pub(super) fn postpone(&mut self, index: usize, at: u64) {
        self.refused.push(index);
        self.again_at = at;
    }

    /// The subscriptions to ask for again by `now`.
    pub(super) fn take_postponed(&mut self, now: u64) -> Vec<usize> {
        if self.again_at > now { Vec::new() } else { std::mem::take(&mut self.refused) }
    }

    /// How many publications have no answer.
    pub(super) fn unanswered(&self) -> u64 {
        self.pending().count() as u64
    }

    /// The numbers of publications without an answer.
    pub(super) fn pending(&self) -> impl Iterator<Item = u32> {
        self.asked.values().filter_map(|asked| match asked {
            Asked::Publish(sequence) => Some(*sequence),
            _ => None,
        })
    }

    /// Answers pings; says what else there is to do.
    pub(super) fn take(&mut self, reply: Reply, channels: &[String]) -> Event {
        if reply.is_ping() {
            self.encoding.put(&mut self.frame, 0, Command::Pong);
            return Event::Nothing;
        }
        if let Some(push) = reply.push {
            let Some(index) = channels.iter().position(|channel| *channel == push.channel) else {
                return Event::Nothing;
            };
            return match (push.publication, push.unsubscribe) {
                (Some(publication), _) => {
                    Event::Delivered { index, offset: publication.offset, data: publication.data }
                }
                (None, Some(end)) if end.code >= RESUBSCRIBE => Event::Resubscribe(index),
                (None, Some(end)) => {
                    Event::Failed(Refusal { code: end.code, message: "unsubscribed".into() })
                }
                (None, None) => Event::Nothing,
            };
        }
        let Some(asked) = self.asked.remove(&reply.id) else {
            return Event::Failed(Refusal { code: 0, message: "answer to no command".into() });
        };
        match (asked, reply.error, reply.subscribe) {
            (Asked::Publish(sequence), None, _) => Event::Acknowledged(sequence),
            (Asked::Publish(sequence), Some(refusal), _) => Event::Unsure(sequence, refusal),
            (Asked::Subscribe(index, _), Some(refusal), _) if refusal.code == INTERNAL => {
                Event::Refused(index, refusal)
            }
            (_, Some(refusal), _) => Event::Failed(refusal),
            (Asked::Connect, None, _) => Event::Nothing,
            (Asked::Subscribe(index, recovering), None, Some(granted)) => {
                Event::Subscribed { index, recovering, granted }
            }
            (Asked::Subscribe(..), None, None) => {
                Event::Failed(Refusal { code: 0, message: "empty answer".into() })
            }
        }
    }

    /// All replies of a frame.
    pub(super) fn read(&self, frame: &[u8]) -> Option<Vec<Reply>> {
        self.encoding.read(frame).ok()
    }

    fn ask(&mut self, asked: Asked, command: Command<'_>) {
        self.last_id += 1;
        self.encoding.put(&mut self.frame, self.last_id, command);
        self.asked.insert(self.last_id, asked);
    }
}

/// From this code on an SDK subscribes again at once.
const RESUBSCRIBE: u32 = 2500;
/// A subscription that is refused with this code an SDK asks for again; its connection stays.
const INTERNAL: u32 = 100;
