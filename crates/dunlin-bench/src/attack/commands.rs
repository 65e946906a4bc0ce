//! Abuse by commands of the Centrifuge dialect.

use std::time::Duration;

use super::{
    good::HALL,
    pattern::{Band, Bars, Next, Opening, Pattern, Reads, Size},
    payloads::{CONNECT, WRITE_BYTES, message, publish, repeated, subscribe, text, unsubscribe},
    readers::publisher,
};

pub(super) const ALL: &[Pattern] = &[
    Pattern::new("hall-flood", "a member floods the channel of all good clients", |_| {
        members(1, HALL, &message(vec![publish(HALL, 8); 50]))
    })
    .within(Bars::FLOODED),
    Pattern::new("hall-flood-large", "the same with 30 KB each", |_| {
        members(1, HALL, &message([publish(HALL, 30_000)]))
    })
    .within(Bars::FLOODED),
    Pattern::new("lonely-flood", "8 members flood a channel of their own", |size| {
        members(size.of(8), "attack", &message(vec![publish("attack", 8); 50]))
    }),
    Pattern::new("unheard-flood", "8 clients flood a channel that nobody is in", |size| {
        repeating(size.of(8), &message(vec![publish("nobody", 8); 50]))
    }),
    Pattern::new("new-names", "8 clients publish to ever new channels with history", |size| {
        changing(size.of(8), |number, round| {
            (0..50).map(|it| publish(&format!("kept:{number}-{round}-{it}"), 1000)).collect()
        })
    }),
    Pattern::new("churn", "a client subscribes and unsubscribes without end", |_| {
        repeating(1, &churn("attack"))
    }),
    Pattern::new("churn-of-many", "20 clients do so in one channel", |size| {
        repeating(size.of(20), &churn("attack"))
    }),
    Pattern::new("churn-of-names", "20 clients do so in ever new channels", |size| {
        changing(size.of(20), |number, round| {
            let name = |it| format!("kept:{number}-{round}-{it}");
            (0..25).flat_map(|it| [subscribe(&name(it)), unsubscribe(&name(it))]).collect()
        })
    }),
    Pattern::new("churn-with-presence", "50 clients do so in a channel with presence", |size| {
        repeating(size.of(50), &churn("seen:attack"))
    }),
    Pattern::new("many-names", "50 clients subscribe to more than they may", |size| {
        changing(size.of(50), |number, round| {
            (0..50).map(|it| subscribe(&format!("{number}-{round}-{it}"))).collect()
        })
    }),
    Pattern::new("deep-json", "20 clients publish 30,000 brackets in brackets", |size| {
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        let publish = format!(r#""publish":{{"channel":"attack","data":{deep}}}"#);
        repeating(size.of(20), &message([publish]))
    }),
    Pattern::new("wide-json", "20 clients send commands of 5,000 unknown keys", |size| {
        let keys: Vec<String> = (0..5_000).map(|key| format!("\"k{key}\":0")).collect();
        repeating(size.of(20), &message([keys.join(",")]))
    }),
    Pattern::new("small-commands", "20 clients send 1 MB of small commands at once", |size| {
        repeating(size.of(20), &message(vec![r#""rpc":{}"#; 1 << 15]))
    }),
    Pattern::new("unread-answers", "300 send 1 MB of commands and read no answer", unread_answers),
    Pattern::new("presence", "200 members ask who is in their channel", |size| {
        let ask = message([r#""presence":{"channel":"seen:attack"}"#]);
        members(size.of(200), "seen:attack", &ask)
    }),
    Pattern::new("presence-paced", "200 members ask so five times a second", |size| {
        let ask = message([r#""presence":{"channel":"seen:attack"}"#]);
        clients(size.of(200), Some("seen:attack"), ask, Next::In(EVERY * 10))
    }),
    Pattern::new("history", "20 clients read 400 KB of history again and again", |size| {
        kept(repeating(size.of(20), &message([HISTORY])))
    }),
    Pattern::new("history-paced", "20 clients read it 50 times a second", |size| {
        kept(clients(size.of(20), None, message([HISTORY]), Next::In(EVERY)))
    }),
    Pattern::new("history-unread", "20 clients ask for all of it and do not read it", |size| {
        kept(unread(clients(size.of(20), None, message([HISTORY]), Next::In(EVERY))))
    }),
    Pattern::new("history-storm-unread", "20 clients ask for it and do not read it", |size| {
        kept(unread(repeating(size.of(20), &message([HISTORY]))))
    }),
    Pattern::new("recovery", "20 clients recover 100 publications again and again", |size| {
        kept(repeating(size.of(20), &recovery()))
    }),
    Pattern::new("recovery-paced", "20 clients recover so 50 times a second", |size| {
        kept(clients(size.of(20), None, recovery(), Next::In(EVERY)))
    }),
    Pattern::new("recovery-unread", "20 clients recover so and do not read it", |size| {
        kept(unread(clients(size.of(20), None, recovery(), Next::In(EVERY))))
    }),
    Pattern::new(
        "recover-entries",
        "50 clients connect with 1,000 positions each",
        recover_entries,
    ),
    Pattern::new("unknown-commands", "64 clients send commands that nobody knows", |size| {
        repeating(size.of(64), &message([r#""dance":{}"#]))
    }),
    Pattern::new("no-json", "64 clients send what is no command at all", |size| {
        repeating(size.of(64), &text("{\"id\":1,\"connect\":"))
    }),
    Pattern::new("rpc-storm", "64 clients call procedures that are not there", |size| {
        repeating(size.of(64), &message(vec![r#""rpc":{"method":"m","data":{}}"#; 20]))
    }),
    Pattern::new("connect-twice", "64 clients connect once more, and again", |size| {
        repeating(size.of(64), &message([CONNECT]))
    }),
];

/// So many clients that send the same all the time.
pub(super) fn repeating(count: usize, bytes: &[u8]) -> Vec<Band> {
    clients(count, None, repeated(bytes, WRITE_BYTES), Next::AtOnce)
}

/// The same by members of a channel.
fn members(count: usize, channel: &'static str, bytes: &[u8]) -> Vec<Band> {
    clients(count, Some(channel), repeated(bytes, WRITE_BYTES), Next::AtOnce)
}

/// Clients, in a channel perhaps, that send the same again and again.
fn clients(count: usize, channel: Option<&'static str>, bytes: Vec<u8>, next: Next) -> Vec<Band> {
    let feed = move |_, _, out: &mut Vec<u8>| {
        out.extend_from_slice(&bytes);
        next
    };
    let greeting = std::iter::once(CONNECT.to_owned()).chain(channel.map(subscribe));
    let greeting = message(greeting);
    vec![Band::new(count, Opening::greeted(PATH, move |_| greeting.clone()), feed).again()]
}

/// So many clients that send other commands each time.
fn changing(
    count: usize,
    commands: impl Fn(usize, u64) -> Vec<String> + Send + 'static,
) -> Vec<Band> {
    let feed = move |number, round, out: &mut Vec<u8>| {
        out.extend_from_slice(&message(commands(number, round)));
        Next::AtOnce
    };
    vec![Band::new(count, Opening::greeted(PATH, |_| message([CONNECT])), feed).again()]
}

fn unread(bands: Vec<Band>) -> Vec<Band> {
    bands.into_iter().map(|band| band.reading(Reads::Nothing)).collect()
}

/// With somebody who fills the history of a channel first.
fn kept(mut bands: Vec<Band>) -> Vec<Band> {
    bands.push(publisher("kept:long", Duration::from_millis(5)));
    bands
}

fn churn(channel: &str) -> Vec<u8> {
    message((0..20).flat_map(|_| [subscribe(channel), unsubscribe(channel)]))
}

fn recovery() -> Vec<u8> {
    let subscribe = r#""subscribe":{"channel":"kept:long","recover":true,"offset":1,"epoch":""}"#;
    message([subscribe.to_owned(), unsubscribe("kept:long")])
}

fn unread_answers(size: Size) -> Vec<Band> {
    let commands = message(vec![r#""rpc":{}"#; 1 << 15]);
    let feed = move |_, _, out: &mut Vec<u8>| {
        out.extend_from_slice(&commands);
        Next::Never
    };
    let opening = Opening::greeted(PATH, |_| message([CONNECT]));
    vec![Band::new(size.of(300), opening, feed).reading(Reads::Nothing)]
}

fn recover_entries(size: Size) -> Vec<Band> {
    let greeting = |number| {
        let position = r#"{"recover":true,"offset":1,"epoch":"elsewhere"}"#;
        let subs: Vec<String> =
            (0..1000).map(|it| format!("\"kept:{number}-{it}\":{position}")).collect();
        message([format!("\"connect\":{{\"subs\":{{{}}}}}", subs.join(","))])
    };
    let leaving = |_, round, _: &mut Vec<u8>| {
        if round < 5 { Next::In(Duration::from_millis(20)) } else { Next::Leave }
    };
    vec![Band::new(size.of(50), Opening::greeted(PATH, greeting), leaving).again()]
}

const EVERY: Duration = Duration::from_millis(20);
const HISTORY: &str = r#""history":{"channel":"kept:long","limit":100}"#;
pub(super) const PATH: &str = "/connection/websocket";
