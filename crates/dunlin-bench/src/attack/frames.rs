//! Abuse of frames by clients that have their 101.

use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};

use super::{
    pattern::{Band, Next, Opening, Pattern, Reads, Size},
    payloads::{FIN, WRITE_BYTES, put_declared, put_frame, repeated, text},
};
use crate::websocket::{BINARY, CLOSE, PING, PONG, TEXT};

pub(super) const ALL: &[Pattern] = &[
    Pattern::new("byte-fragments", "20 clients send messages in 250 fragments of a byte", |size| {
        flood(size.of(20), &fragments(250, b"x"))
    }),
    Pattern::new("empty-fragments", "20 clients send messages in 250 empty fragments", |size| {
        flood(size.of(20), &fragments(250, b""))
    }),
    Pattern::new("endless-fragments", "20 clients send fragments and no last one", |size| {
        flood(size.of(20), &endless())
    }),
    Pattern::new("unfinished", "500 clients send a fragment of a byte a second", unfinished),
    Pattern::new("ping-flood", "20 clients send pings without a pause", |size| {
        flood(size.of(20), &frames(FIN | PING, &[b'p'; 125]))
    }),
    Pattern::new("pong-flood", "20 clients send pongs without a pause", |size| {
        flood(size.of(20), &frames(FIN | PONG, b""))
    }),
    Pattern::new("ping-flood-unread", "20 clients send pings and read no pong", ping_flood_unread),
    Pattern::new("pings-as-allowed", "500 clients send 9 pings of 125 bytes a second", |size| {
        let mut ping = Vec::new();
        put_frame(&mut ping, FIN | PING, &[b'p'; 125]);
        paced(size.of(500), ping, Duration::from_millis(111))
    }),
    Pattern::new("never-sent", "500 clients declare 60,000 bytes and send none", |size| {
        let mut head = Vec::new();
        put_declared(&mut head, FIN | BINARY, 60_000);
        once(size.of(500), head)
    }),
    Pattern::new("lying-length", "64 clients declare a message of an exbibyte", |size| {
        let mut head = Vec::new();
        put_declared(&mut head, FIN | BINARY, 1 << 60);
        flood(size.of(64), &head)
    }),
    Pattern::new("oversized", "20 clients send messages of a byte more than is taken", |size| {
        let mut message = Vec::new();
        put_frame(&mut message, FIN | BINARY, &[0; (64 << 10) + 1]);
        flood(size.of(20), &message)
    }),
    Pattern::new("unmasked", "64 clients send frames without a mask", |size| {
        flood(size.of(64), &b"\x81\x05hello".repeat(100))
    }),
    Pattern::new("reserved-bits", "64 clients set bits that mean nothing", |size| {
        flood(size.of(64), &frames(FIN | 0x70 | TEXT, b"hello"))
    }),
    Pattern::new("reserved-opcodes", "64 clients send frames of no known kind", |size| {
        flood(size.of(64), &frames(FIN | 0x0B, b"hello"))
    }),
    Pattern::new("bytewise", "200 clients send a message at a byte a millisecond", bytewise),
    Pattern::new("split-text", "20 clients cut each letter of a text in fragments", |size| {
        flood(size.of(20), &split_text())
    }),
    Pattern::new("bad-text", "64 clients send text that is none", |size| {
        flood(size.of(64), &text([b"hello\xF0\x28\x8C\x28", &[b'x'; 1024][..]].concat()))
    }),
    Pattern::new("close-junk", "64 clients say goodbye with junk, and go on", |size| {
        flood(size.of(64), &frames(FIN | CLOSE, &[0xFF; 125]))
    }),
    Pattern::new("inflate-bomb", "20 clients send 16 MiB of zeros, deflated", |size| {
        deflated(size.of(20), &vec![0; 16 << 20])
    })
    .with(&["ws.compression=true"]),
    Pattern::new("inflate-within", "20 clients send what inflates manyfold, as it may", |size| {
        deflated(size.of(20), &almost_nothing())
    })
    .with(&["ws.compression=true"]),
];

/// So many clients of the plain dialect that send the same all the time, and come back when they
/// are thrown out.
fn flood(count: usize, bytes: &[u8]) -> Vec<Band> {
    let bytes = repeated(bytes, WRITE_BYTES);
    let feed = move |_, _, out: &mut Vec<u8>| {
        out.extend_from_slice(&bytes);
        Next::AtOnce
    };
    vec![Band::new(count, Opening::upgraded(PLAIN), feed).again()]
}

fn paced(count: usize, bytes: Vec<u8>, pause: Duration) -> Vec<Band> {
    let feed = move |_, _, out: &mut Vec<u8>| {
        out.extend_from_slice(&bytes);
        Next::In(pause)
    };
    vec![Band::new(count, Opening::upgraded(PLAIN), feed).again()]
}

fn once(count: usize, bytes: Vec<u8>) -> Vec<Band> {
    let feed = move |_, _, out: &mut Vec<u8>| {
        out.extend_from_slice(&bytes);
        Next::Never
    };
    vec![Band::new(count, Opening::upgraded(PLAIN), feed)]
}

/// Many frames of a kind.
fn frames(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    put_frame(&mut frame, first, payload);
    repeated(&frame, WRITE_BYTES)
}

/// One message in so many fragments.
fn fragments(count: usize, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for index in 0..count {
        let opcode = if index == 0 { TEXT } else { 0 };
        let last = if index + 1 == count { FIN } else { 0 };
        put_frame(&mut message, last | opcode, payload);
    }
    message
}

/// A message that begins, and more fragments than it may have.
fn endless() -> Vec<u8> {
    let mut message = Vec::new();
    put_frame(&mut message, TEXT, b"");
    message.extend(frames(0, b""));
    message
}

/// A text of letters of four bytes, each byte in a fragment of its own.
fn split_text() -> Vec<u8> {
    let mut message = Vec::new();
    put_frame(&mut message, TEXT, b"");
    for byte in "🦆".repeat(60).bytes() {
        put_frame(&mut message, 0, &[byte]);
    }
    put_frame(&mut message, FIN, b"");
    message
}

fn unfinished(size: Size) -> Vec<Band> {
    let feed = |_, round: u64, out: &mut Vec<u8>| {
        put_frame(out, if round == 0 { TEXT } else { 0 }, b"x");
        Next::In(Duration::from_secs(1))
    };
    vec![Band::new(size.of(500), Opening::upgraded(PLAIN), feed)]
}

fn bytewise(size: Size) -> Vec<Band> {
    let message = text([b'x'; 2000]);
    let feed = move |_, round: u64, out: &mut Vec<u8>| {
        out.push(message[round as usize % message.len()]);
        Next::In(Duration::from_millis(1))
    };
    vec![Band::new(size.of(200), Opening::upgraded(PLAIN), feed)]
}

fn ping_flood_unread(size: Size) -> Vec<Band> {
    let bands = flood(size.of(20), &frames(FIN | PING, &[b'p'; 125]));
    bands.into_iter().map(|band| band.reading(Reads::Nothing)).collect()
}

/// Clients that may compress send this, a message each time.
fn deflated(count: usize, bytes: &[u8]) -> Vec<Band> {
    let mut message = Vec::new();
    put_frame(&mut message, FIN | 0x40 | BINARY, &deflate(bytes));
    let opening = Opening::Upgraded {
        path: PLAIN,
        headers: "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        greeting: Box::new(|_| Vec::new()),
    };
    let bytes = repeated(&message, WRITE_BYTES);
    let feed = move |_, _, out: &mut Vec<u8>| {
        out.extend_from_slice(&bytes);
        Next::AtOnce
    };
    vec![Band::new(count, opening, feed).again()]
}

/// Sixty thousand bytes in which a few are hard to foresee.
fn almost_nothing() -> Vec<u8> {
    let noise = |at: usize| (at.wrapping_mul(0x9E37_79B1) >> 11) as u8;
    (0..60_000).map(|at| if at % 250 == 0 { noise(at) } else { 0 }).collect()
}

/// As RFC 7692 wants it: flushed, and without the four bytes that every flush ends with.
fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(bytes.len() / 500 + 1024);
    let done = Compress::new(Compression::best(), false).compress_vec(
        bytes,
        &mut deflated,
        FlushCompress::Sync,
    );
    debug_assert!(done.is_ok());
    deflated.truncate(deflated.len().saturating_sub(4));
    deflated
}

/// A channel that no good client is in.
const PLAIN: &str = "/ws/attack";

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Decompress, FlushDecompress};

    #[test]
    fn what_is_deflated_inflates_to_what_it_was() {
        let mut deflated = deflate(&vec![0; 1 << 20]);
        assert!(deflated.len() < 2048, "{}", deflated.len());
        deflated.extend_from_slice(&[0, 0, 0xFF, 0xFF]);
        let mut inflated = Vec::with_capacity(1 << 21);
        Decompress::new(false)
            .decompress_vec(&deflated, &mut inflated, FlushDecompress::Sync)
            .unwrap();
        assert_eq!(inflated, vec![0; 1 << 20]);
    }

    #[test]
    fn what_a_server_takes_inflates_less_than_a_hundredfold() {
        let (inflated, deflated) = (almost_nothing().len(), deflate(&almost_nothing()).len());
        assert!((40..90).contains(&(inflated / deflated)), "{inflated} of {deflated}");
    }
}
