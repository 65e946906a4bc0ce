//! Abuse by clients that do not read what they asked for.

use std::time::Duration;

use super::{
    commands::PATH,
    good::HALL,
    pattern::{Band, Next, Opening, Pattern, Reads, Size},
    payloads::{CONNECT, message, publish, subscribe},
};

pub(super) const ALL: &[Pattern] = &[
    Pattern::new("stopped-readers", "200 members of a busy channel stop reading", |size| {
        beside_a_flood(size, Reads::Nothing)
    }),
    Pattern::new("slow-readers", "200 members of a busy channel read 20 KB a second", |size| {
        beside_a_flood(size, Reads::Sips(1000))
    }),
    Pattern::new(
        "stopped-in-hall",
        "200 stop reading in the channel of all good clients",
        |size| vec![idle_member(size.of(200), HALL).reading(Reads::Nothing)],
    ),
    Pattern::new(
        "private-backlog",
        "200 clients ask for 400 KB of history and do not read",
        |size| {
            let opening = Opening::greeted(PATH, |_| message([CONNECT]));
            let history = r#""history":{"channel":"kept:long","limit":100}"#;
            let ask = message(vec![history; 4]);
            let feed = move |_, _, out: &mut Vec<u8>| {
                out.extend_from_slice(&ask);
                Next::In(Duration::from_millis(200))
            };
            let asks = Band::new(size.of(200), opening, feed).again().reading(Reads::Sips(256));
            vec![publisher("kept:long", Duration::from_millis(5)), asks]
        },
    ),
];

fn beside_a_flood(size: Size, reads: Reads) -> Vec<Band> {
    let readers = idle_member(size.of(200), "busy").again().reading(reads);
    vec![publisher("busy", Duration::from_millis(2)), readers]
}

/// A client that publishes 4 KB each time.
pub(super) fn publisher(channel: &'static str, pause: Duration) -> Band {
    let one = message([publish(channel, 4000)]);
    let opening = Opening::greeted(PATH, |_| message([CONNECT]));
    Band::new(1, opening, move |_, _, out: &mut Vec<u8>| {
        out.extend_from_slice(&one);
        Next::In(pause)
    })
}

/// Members that do nothing but, perhaps, read.
fn idle_member(count: usize, channel: &'static str) -> Band {
    let opening =
        Opening::greeted(PATH, move |_| message([CONNECT.to_owned(), subscribe(channel)]));
    Band::new(count, opening, |_, _, _| Next::In(Duration::from_millis(50)))
}
