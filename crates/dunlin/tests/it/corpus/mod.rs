//! Bad inputs, each with the answer that it gets, replayed over real sockets against a real node.
//! The inputs and how they are written: `tests/corpus/README.md`.

mod commands;
mod envelopes;
mod file;
mod frames;
mod requests;
mod terms;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use self::file::{Case, Corpus, Event};
use crate::harness::{Node, NodeCommand};

/// How many cases are played at once.
const AT_ONCE: usize = 24;

/// Plays one case against the node; returns what was seen of it.
type Player = fn(&Node, &Case) -> Vec<Event>;

/// Plays all cases of a file, and checks that the node is none the worse for it.
fn replay(name: &str, settings: &[&str], play: Player) -> Node {
    let corpus = Corpus::load(name);
    let own = corpus.settings.iter().map(String::as_str);
    let settings: Vec<_> = settings.iter().copied().chain(own).collect();
    let node = NodeCommand::new().set(&settings).start();
    let wrong = play_all(&corpus.cases, |case| play(&node, case));
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    check_service(&node);
    node.assert_conserved();
    node
}

/// Plays the cases, many at once; returns what is wrong with them, in their order.
fn play_all(cases: &[Case], play: impl Fn(&Case) -> Vec<Event> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let seen = play(case);
                    let is_met = case.expected.len() == seen.len()
                        && case
                            .expected
                            .iter()
                            .zip(&seen)
                            .all(|(event, seen)| event.is_met_by(seen));
                    if !is_met {
                        wrong.lock().unwrap().push(difference(case, &seen));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    wrong
}

fn difference(case: &Case, seen: &[Event]) -> String {
    let tell = |events: &[Event]| {
        let events = events.iter().map(|event| {
            let number = event.number.map(|number| format!(":{number}")).unwrap_or_default();
            let bytes = event.bytes.as_ref().map(|bytes| {
                let bytes = bytes.escape_ascii().to_string();
                format!("('{}')", bytes.chars().take(300).collect::<String>())
            });
            format!("{}{number}{}", event.name, bytes.unwrap_or_default())
        });
        events.collect::<Vec<_>>().join(" ")
    };
    let Case { place, name, expected, .. } = case;
    format!("{place} {name}\n    expected {}\n    seen     {}", tell(expected), tell(seen))
}

/// Somebody who behaves is served as ever.
fn check_service(node: &Node) {
    let mut good = node.join("good");
    good.send_text("good day");
    assert_eq!(good.receive_text(), "good day");
    good.close();
}

#[test]
fn handshakes_are_answered_as_told() {
    replay("handshakes", &[], requests::play);
}

#[test]
fn frames_are_answered_as_told() {
    replay("frames", &[], frames::play);
}

#[test]
fn compressed_frames_are_answered_as_told() {
    replay("deflate", &[], frames::play_compressed);
}

#[test]
fn json_commands_are_answered_as_told() {
    replay("json", &[], commands::play_json);
}

#[test]
fn protobuf_commands_are_answered_as_told() {
    replay("protobuf", &[], commands::play_protobuf);
}

#[test]
fn tokens_are_answered_as_told() {
    replay("tokens", &[], commands::play_json);
}

#[test]
fn proxy_headers_are_answered_as_told() {
    replay("proxy", &[], requests::play);
}

#[test]
fn api_calls_are_answered_as_told() {
    replay("api", &[], requests::play_call);
}

#[test]
fn there_are_thousands_of_them() {
    let names = [
        "handshakes",
        "frames",
        "deflate",
        "json",
        "protobuf",
        "tokens",
        "proxy",
        "api",
        "envelopes",
    ];
    let count: usize = names.map(|name| Corpus::load(name).cases.len()).iter().sum();
    assert!(count >= 3000, "{count}");
}
