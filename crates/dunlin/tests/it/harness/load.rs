//! Load with a memory: publishers that know what they sent, listeners that know what they heard.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Client, Message, Opcode, frame};

/// What was published over one connection.
pub(crate) struct Sent {
    name: String,
    count: usize,
    /// Whether the publisher knows that its last publishes may be lost: it was closed with 1013, or
    /// its node died.
    was_told: bool,
}

impl Sent {
    pub(crate) fn was_told(&self) -> bool {
        self.was_told
    }
}

/// Publishes numbered texts to `load` until told to stop, over as many connections as it takes.
pub(crate) fn publish(address: SocketAddr, name: &str, stop: &AtomicBool) -> Vec<Sent> {
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        // Refused while Redis is away, or the node is gone.
        let Ok(mut client) = Client::try_open(address, "/ws/load") else {
            // Polls: a node tells nobody that it is back.
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        let name = format!("{name}.{}", sent.len());
        let mut count = 0;
        let mut was_told = false;
        while !stop.load(Ordering::Relaxed) && !was_told {
            if client
                .try_send_bytes(&frame(Opcode::Text, format!("{name} {count}").as_bytes()))
                .is_err()
            {
                was_told = true;
            }
            count += 1;
            while !client.is_silent_for(Duration::from_millis(2)) && !was_told {
                match client.receive() {
                    Message::Text(_) => {}
                    Message::Close(code, _) => {
                        assert_eq!(code, 1013);
                        was_told = true;
                    }
                    Message::End => was_told = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        sent.push(Sent { name, count, was_told });
        if !was_told {
            // All of it was sent in order; the end of the stream must not cut off the rest.
            client.close();
        }
    }
    sent
}

/// A subscriber that writes down what it hears, and when it last heard which publisher.
pub(crate) struct Listener {
    heard: Arc<Mutex<Heard>>,
    thread: thread::JoinHandle<()>,
}

#[derive(Default)]
struct Heard {
    texts: Vec<String>,
    last_of: HashMap<String, Instant>,
}

impl Listener {
    pub(crate) fn start(mut client: Client) -> Self {
        let heard = Arc::<Mutex<Heard>>::default();
        let thread = thread::spawn({
            let heard = Arc::clone(&heard);
            move || {
                loop {
                    match client.receive() {
                        Message::Text(text) if text == "end" => return,
                        Message::Text(text) => {
                            let mut heard = heard.lock().unwrap();
                            let (publisher, _) = text.split_once('.').unwrap();
                            heard.last_of.insert(publisher.to_owned(), Instant::now());
                            heard.texts.push(text);
                        }
                        other => panic!("a subscriber got {other:?}"),
                    }
                }
            }
        });
        Self { heard, thread }
    }

    /// How many publishers it has heard since then.
    pub(crate) fn heard_since(&self, then: Instant) -> usize {
        self.heard.lock().unwrap().last_of.values().filter(|last| **last > then).count()
    }

    /// What it heard up to the text "end".
    pub(crate) fn end(self) -> Vec<String> {
        self.thread.join().unwrap();
        std::mem::take(&mut self.heard.lock().unwrap().texts)
    }
}

/// Nothing twice, each publisher's order kept, and what is missing was told to its publisher.
pub(crate) fn check(heard: &[String], sent: &[Sent]) {
    let unique: HashSet<_> = heard.iter().collect();
    assert_eq!(unique.len(), heard.len(), "something was delivered twice");
    for Sent { name, count, was_told } in sent {
        let prefix = format!("{name} ");
        let numbers: Vec<usize> =
            heard.iter().filter_map(|text| text.strip_prefix(&prefix)?.parse().ok()).collect();
        assert!(numbers.is_sorted(), "{name} was reordered");
        let missing = count - numbers.len();
        assert!(missing == 0 || *was_told, "{missing} of {count} of {name} are lost in silence");
    }
}
