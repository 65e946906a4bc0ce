//! Abuse before anybody has a 101, and of the 101 itself.

use std::time::Duration;

use super::{
    pattern::{Band, Bars, Newcomers, Next, Opening, Pattern, Size},
    payloads::{WRITE_BYTES, repeated},
};

pub(super) const ALL: &[Pattern] = &[
    Pattern::new("held-silent", "2,000 sockets that connect and say nothing", held_silent)
        .within(Bars::HELD),
    Pattern::new("trickled-head", "500 requests at one byte a second", trickled_head),
    Pattern::new("huge-header", "50 requests with a header that never ends", huge_header),
    Pattern::new("many-headers", "50 requests with headers without end", many_headers),
    Pattern::new("not-http", "64 sockets that send noise instead of HTTP", not_http),
    Pattern::new("bad-upgrades", "32 sockets that ask for upgrades in wrong ways", bad_upgrades),
    Pattern::new("held-after-page", "2,000 sockets that get a page and stay", held_after_page)
        .within(Bars::HELD),
    Pattern::new("page-storm", "20 sockets that ask for pages without a pause", page_storm),
    Pattern::new("key-guessing", "32 sockets that try API keys without a pause", key_guessing),
    Pattern::new("body-flood", "16 calls of the API whose bodies never end", body_flood),
    Pattern::new("trickled-body", "500 calls of the API, a byte of body a second", trickled_body),
    Pattern::new("connect-storm", "64 sockets at a time that connect and leave", connect_storm),
    Pattern::new("upgrade-storm", "64 clients at a time that upgrade and leave", upgrade_storm),
    Pattern::new("forwarded-for", "the same under ever new X-Forwarded-For", forwarded_for),
    Pattern::new("full-house", "2,000 clients want the 1,000 places there are", full_house)
        .with(&["limits.connections=1000"])
        .within(Bars { newcomers: Newcomers::Crowded, ..Bars::HELD }),
    Pattern::new(
        "never-connecting",
        "2,000 clients with a 101 that never say who",
        never_connecting,
    )
    .within(Bars::HELD),
];

fn held_silent(size: Size) -> Vec<Band> {
    vec![Band::new(size.of(2000), Opening::Raw, |_, _, _| Next::Never)]
}

fn trickled_head(size: Size) -> Vec<Band> {
    trickle(
        size.of(500),
        b"",
        b"GET /connection/websocket HTTP/1.1\r\nHost: here\r\nX: yyyyyyyyyyy",
    )
}

fn trickled_body(size: Size) -> Vec<Band> {
    let head = b"POST /api/info HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
                 X-API-Key: guess\r\nContent-Length: 100000\r\n\r\n";
    trickle(size.of(500), head, b"{\"channel\":")
}

/// `begin` at once, and of `rest` a byte a second, again and again.
fn trickle(count: usize, begin: &'static [u8], rest: &'static [u8]) -> Vec<Band> {
    let feed = move |_, round: u64, out: &mut Vec<u8>| {
        if round == 0 {
            out.extend_from_slice(begin);
        }
        out.push(rest[round as usize % rest.len()]);
        Next::In(Duration::from_secs(1))
    };
    vec![Band::new(count, Opening::Raw, feed).again()]
}

fn huge_header(size: Size) -> Vec<Band> {
    endless(size.of(50), b"GET / HTTP/1.1\r\nHost: here\r\nX: ", vec![b'x'; WRITE_BYTES])
}

fn many_headers(size: Size) -> Vec<Band> {
    let headers = repeated(b"X: y\r\n", WRITE_BYTES);
    endless(size.of(50), b"GET / HTTP/1.1\r\nHost: here\r\n", headers)
}

fn not_http(size: Size) -> Vec<Band> {
    let noise = (0..WRITE_BYTES).map(|at| (at.wrapping_mul(0x9E37_79B1) >> 7) as u8).collect();
    endless(size.of(64), b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03", noise)
}

fn page_storm(size: Size) -> Vec<Band> {
    endless(size.of(20), b"", repeated(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n", 2048))
}

fn key_guessing(size: Size) -> Vec<Band> {
    let call = b"POST /api/info HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
                 X-API-Key: 0123456789abcdef\r\nContent-Length: 2\r\n\r\n{}";
    endless(size.of(32), b"", repeated(call, 2048))
}

fn body_flood(size: Size) -> Vec<Band> {
    let head = b"POST /api/info HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
                 X-API-Key: guess\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [b"400\r\n", &[b'['; 0x400][..], b"\r\n"].concat();
    endless(size.of(16), head, repeated(&chunk, WRITE_BYTES))
}

/// `begin`, and behind it the same without end.
fn endless(count: usize, begin: &'static [u8], more: Vec<u8>) -> Vec<Band> {
    let feed = move |_, round: u64, out: &mut Vec<u8>| {
        if round == 0 {
            out.extend_from_slice(begin);
        }
        out.extend_from_slice(&more);
        Next::AtOnce
    };
    vec![Band::new(count, Opening::Raw, feed).again()]
}

fn bad_upgrades(size: Size) -> Vec<Band> {
    const HOST: &str = "Host: here\r\n";
    const ASKS: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let heads = [
        ("GET", [HOST, ASKS, VERSION, "Sec-WebSocket-Key: short\r\n"]),
        ("GET", [HOST, ASKS, VERSION, ""]),
        ("GET", [HOST, ASKS, "Sec-WebSocket-Version: 8\r\n", KEY]),
        ("GET", [HOST, ASKS, KEY, KEY]),
        ("GET", [ASKS, VERSION, KEY, ""]),
        ("POST", [HOST, ASKS, VERSION, KEY]),
        ("GET", [HOST, "Connection: Upgrade\r\n", VERSION, KEY]),
    ];
    let feed = move |number: usize, round: u64, out: &mut Vec<u8>| {
        let (method, lines) = heads[(number + round as usize) % heads.len()];
        let head = format!("{method} /ws/attack HTTP/1.1\r\n{}\r\n", lines.concat());
        out.extend_from_slice(head.as_bytes());
        Next::AtOnce
    };
    vec![Band::new(size.of(32), Opening::Raw, feed).again()]
}

fn held_after_page(size: Size) -> Vec<Band> {
    let feed = |_, _, out: &mut Vec<u8>| {
        out.extend_from_slice(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n");
        Next::Never
    };
    vec![Band::new(size.of(2000), Opening::Raw, feed)]
}

fn connect_storm(size: Size) -> Vec<Band> {
    vec![Band::new(size.of(64), Opening::Raw, |_, _, _| Next::Leave).again()]
}

fn upgrade_storm(size: Size) -> Vec<Band> {
    let opening = Opening::upgraded("/connection/websocket");
    vec![Band::new(size.of(64), opening, |_, _, _| Next::Leave).again()]
}

fn forwarded_for(size: Size) -> Vec<Band> {
    let feed = |number: usize, round: u64, out: &mut Vec<u8>| {
        if round > 0 {
            return Next::Leave;
        }
        let [a, b, c, d] = fastrand::u32(..).to_be_bytes();
        let head = format!(
            "GET /connection/websocket HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             X-Forwarded-For: {a}.{b}.{c}.{d}\r\nX-Real-IP: {d}.{c}.{b}.{number}\r\n\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        Next::In(Duration::from_millis(20))
    };
    vec![Band::new(size.of(64), Opening::Raw, feed).again()]
}

fn full_house(size: Size) -> Vec<Band> {
    let opening = Opening::upgraded("/ws/attack");
    vec![Band::new(size.of(2000), opening, |_, _, _| Next::Never).again()]
}

fn never_connecting(size: Size) -> Vec<Band> {
    let opening = Opening::upgraded("/connection/websocket");
    vec![Band::new(size.of(2000), opening, |_, _, _| Next::Never)]
}
