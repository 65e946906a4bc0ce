//! The decoder from outside: what clients send, in any pieces, and what becomes of it.

use dunlin_ws::{
    CloseCode, Compression, Context, Decoder, Deflater, Event, Limits, MessageKind, ProtocolError,
};
use proptest::{prelude::*, sample::Index};

const LIMITS: Limits = Limits { message_bytes: 1000, message_fragments: 4, inflate_ratio: 100 };

/// An [`Event`] that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Error(ProtocolError),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message { kind, payload } => Self::Message(kind, payload.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close { code, reason } => {
                Self::Close(code.map(CloseCode::get), reason.to_owned())
            }
        }
    }
}

/// Decodes chunks one after the other, up to an error.
fn decode(chunks: &[&[u8]], limits: Limits, compression: Compression) -> (Vec<Seen>, Decoder) {
    let mut context = Context::new(limits);
    let mut decoder = Decoder::new(compression);
    let mut seen = Vec::new();
    'chunks: for chunk in chunks {
        let mut chunk = chunk.to_vec();
        let mut rest = &mut chunk[..];
        loop {
            match decoder.decode(&mut context, rest) {
                Ok((used, Some(event))) => {
                    seen.push(event.into());
                    rest = &mut rest[used..];
                }
                Ok((used, None)) => {
                    assert_eq!(used, rest.len(), "without an event all input is used up");
                    break;
                }
                Err(error) => {
                    seen.push(Seen::Error(error));
                    break 'chunks;
                }
            }
        }
    }
    (seen, decoder)
}

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x1F, 0x9A, 0x00, 0xC3];
    let mut frame = head(first, payload.len() as u64);
    frame.extend_from_slice(&KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The header of a masked frame up to its key.
fn head(first: u8, length: u64) -> Vec<u8> {
    match length {
        0..=125 => vec![first, 0x80 | length as u8],
        126..=0xFFFF => [&[first, 0xFE], &(length as u16).to_be_bytes()[..]].concat(),
        _ => [&[first, 0xFF], &length.to_be_bytes()[..]].concat(),
    }
}

fn text(payload: &str) -> Seen {
    Seen::Message(MessageKind::Text, payload.as_bytes().to_vec())
}

/// Checks frames in one piece and byte by byte.
fn check(frames: &[Vec<u8>], compression: Compression, expected: &[Seen]) {
    let bytes = frames.concat();
    let (seen, _) = decode(&[&bytes], LIMITS, compression);
    assert_eq!(seen, expected, "in one piece: {frames:x?}");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    let (seen, _) = decode(&single, LIMITS, compression);
    assert_eq!(seen, expected, "byte by byte: {frames:x?}");
}

fn check_plain(frames: &[Vec<u8>], expected: &[Seen]) {
    check(frames, Compression::Off, expected);
}

fn check_fails(frames: &[Vec<u8>], error: ProtocolError) {
    check(frames, Compression::Off, &[Seen::Error(error)]);
}

#[test]
fn messages() {
    check_plain(&[], &[]);
    check_plain(&[frame(0x81, b"")], &[text("")]);
    check_plain(&[frame(0x81, "é".as_bytes())], &[text("é")]);
    let binary = Seen::Message(MessageKind::Binary, vec![0xFF; 300]);
    check_plain(&[frame(0x82, &[0xFF; 300])], &[binary]);
    let fragments = [frame(0x01, b"a\xC3"), frame(0x00, b"\xA9"), frame(0x80, b"z")];
    check_plain(&fragments, &[text("aéz")]);
    check_plain(&[frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")], &[text("")]);
    check_plain(&[frame(0x81, b"a"), frame(0x81, b"b")], &[text("a"), text("b")]);
}

#[test]
fn control_frames() {
    check_plain(&[frame(0x89, b"")], &[Seen::Ping(vec![])]);
    check_plain(&[frame(0x89, &[7; 125])], &[Seen::Ping(vec![7; 125])]);
    check_plain(&[frame(0x8A, b"x")], &[Seen::Pong(b"x".to_vec())]);
    check_plain(&[frame(0x88, b"")], &[Seen::Close(None, String::new())]);
    check_plain(&[frame(0x88, b"\x03\xE8ok")], &[Seen::Close(Some(1000), "ok".to_owned())]);
    let between = [frame(0x01, b"a"), frame(0x89, b"p"), frame(0x8A, b""), frame(0x80, b"b")];
    let ping = Seen::Ping(b"p".to_vec());
    check_plain(&between, &[ping, Seen::Pong(vec![]), text("ab")]);
}

#[test]
fn errors_of_the_protocol() {
    use ProtocolError as E;
    check_fails(&[vec![0x81, 0x01, b'x']], E::NotMasked);
    check_fails(&[frame(0xC1, b"")], E::ReservedBit);
    check_fails(&[frame(0x85, b"")], E::ReservedOpcode);
    check_fails(&[frame(0x80, b"")], E::UnexpectedContinuation);
    check_fails(&[frame(0x01, b""), frame(0x82, b"")], E::ExpectedContinuation);
    check_fails(&[frame(0x01, b""), frame(0x02, b"")], E::ExpectedContinuation);
    check_fails(&[frame(0x88, b"\x03")], E::CloseTooShort);
    check_fails(&[frame(0x88, b"\x03\xEE")], E::CloseCodeInvalid);
    check_fails(&[frame(0x88, b"\x03\xE8\xFF")], E::NotUtf8);
    check_fails(&[frame(0x81, b"\xC3")], E::NotUtf8);
    check_fails(&[frame(0x01, b"\xC3"), frame(0x80, b"a")], E::NotUtf8);
    check_fails(&[frame(0x01, b"\xC3"), frame(0x80, b"")], E::NotUtf8);
}

#[test]
fn sizes_are_refused_before_the_payload_arrives() {
    let key = vec![0; 4];
    check_fails(&[head(0x82, 1001), key.clone()], ProtocolError::MessageTooBig);
    check_fails(&[head(0x82, u64::MAX >> 1), key.clone()], ProtocolError::MessageTooBig);
    check_fails(&[frame(0x82, &[0; 1001])], ProtocolError::MessageTooBig);
    let most = frame(0x02, &[0; 999]);
    check_fails(&[most.clone(), head(0x00, 2), key.clone()], ProtocolError::MessageTooBig);
    check_fails(&[most.clone(), head(0x00, u64::MAX >> 1), key], ProtocolError::MessageTooBig);
    let whole = Seen::Message(MessageKind::Binary, vec![0; 1000]);
    check_plain(&[most, frame(0x80, &[0])], &[whole]);
}

#[test]
fn empty_fragments_count() {
    let empty = || frame(0x00, b"");
    check_plain(&[frame(0x01, b""), empty(), empty(), frame(0x80, b"")], &[text("")]);
    let five = [frame(0x01, b""), empty(), empty(), empty(), empty()];
    check_fails(&five, ProtocolError::TooManyFragments);
}

#[test]
fn bad_text_fails_with_the_chunk_that_brings_it() {
    let bytes = frame(0x81, b"good \xFF and a long rest");
    let (seen, _) = decode(&[&bytes[..11]], LIMITS, Compression::Off);
    assert_eq!(seen, []);
    let (seen, _) = decode(&[&bytes[..11], &bytes[11..12]], LIMITS, Compression::Off);
    assert_eq!(seen, [Seen::Error(ProtocolError::NotUtf8)]);
}

#[test]
fn an_idle_decoder_is_small_and_holds_nothing() {
    assert!(size_of::<Decoder>() <= 16);
    let bytes = [frame(0x01, b"a"), frame(0x89, b"p"), frame(0x80, b"b")].concat();
    for end in 0..=bytes.len() {
        let (_, decoder) = decode(&[&bytes[..end]], LIMITS, Compression::Off);
        assert_eq!(decoder.is_mid_message(), end != 0 && end != bytes.len(), "{end}");
        let holds_nothing = format!("{decoder:?}").contains("partial: None");
        assert_eq!(holds_nothing, !decoder.is_mid_message());
    }
}

/// If any byte were examined again with each fragment or read, these would take hours.
#[test]
fn a_mebibyte_in_single_bytes_costs_no_more_than_its_bytes() {
    const BYTES: usize = 1 << 20;
    let limits = Limits { message_bytes: BYTES, message_fragments: u32::MAX, ..LIMITS };
    let payload = "é".repeat(BYTES / 2);
    let expected = [text(&payload)];

    let mut fragments = frame(0x01, b"");
    payload.bytes().for_each(|byte| fragments.extend(frame(0x00, &[byte])));
    fragments.extend(frame(0x80, b""));
    let (seen, _) = decode(&[&fragments], limits, Compression::Off);
    assert!(seen == expected, "one-byte fragments");

    let whole = frame(0x81, payload.as_bytes());
    let reads: Vec<&[u8]> = whole.chunks(1).collect();
    let (seen, _) = decode(&reads, limits, Compression::Off);
    assert!(seen == expected, "one-byte reads");
}

/// The payload of a compressed frame.
fn deflated(payload: &[u8]) -> Vec<u8> {
    Deflater::new().deflate(payload).to_vec()
}

#[test]
fn compressed_messages() {
    let on = |frames: &[Vec<u8>], expected: &[Seen]| {
        check(frames, Compression::On, expected);
        check(frames, Compression::ReceiveOnly, expected);
    };
    on(&[frame(0xC1, &deflated(b"Hello"))], &[text("Hello")]);
    on(&[frame(0xC1, &deflated(b""))], &[text("")]);
    on(&[frame(0x81, b"plain")], &[text("plain")]);
    on(&[frame(0xC1, &deflated(b"a")), frame(0xC1, &deflated(b"b"))], &[text("a"), text("b")]);
    // The examples of RFC 7692, 7.2.3: in two fragments, stored, marked final, in two blocks.
    let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
    on(&[frame(0x41, &hello[..3]), frame(0x80, &hello[3..])], &[text("Hello")]);
    on(&[frame(0xC1, b"\x00\x05\x00\xFA\xFFHello\x00")], &[text("Hello")]);
    on(&[frame(0xC1, b"\xF3\x48\xCD\xC9\xC9\x07\x00\x00")], &[text("Hello")]);
    let final_then_more = [&[0xF3], &hello[1..], &hello].concat();
    on(&[frame(0xC1, &final_then_more)], &[text("HelloHello")]);
    let blocks = b"\xF2\x48\x05\x00\x00\x00\xFF\xFF\xCA\xC9\xC9\x07\x00";
    on(&[frame(0xC1, blocks)], &[text("Hello")]);
}

#[test]
fn errors_of_compressed_messages() {
    use ProtocolError as E;
    let fails = |frames: &[Vec<u8>], error| check(frames, Compression::On, &[Seen::Error(error)]);
    fails(&[frame(0xC9, b"")], E::ReservedBit);
    fails(&[frame(0x41, b""), frame(0xC0, b"")], E::ReservedBit);
    fails(&[frame(0xC1, b"\xFF\xFF")], E::BrokenDeflate);
    fails(&[frame(0xC1, b"")], E::BrokenDeflate);
    let hello = deflated(b"Hello");
    fails(&[frame(0xC1, &hello[..hello.len() - 2])], E::BrokenDeflate);
    let cut_in_stored_block = b"\x00\x64\x00\x9B\xFFcontent";
    fails(&[frame(0xC1, cut_in_stored_block)], E::BrokenDeflate);
    fails(&[frame(0xC1, &deflated(b"\xFF"))], E::NotUtf8);
    fails(&[frame(0xC2, &deflated(&[0; 1001]))], E::MessageTooBig);
    let whole = Seen::Message(MessageKind::Binary, vec![0; 1000]);
    check(&[frame(0xC2, &deflated(&[0; 1000]))], Compression::On, &[whole]);
}

#[test]
fn inflating_stops_at_the_ratio() {
    let limits = Limits { message_bytes: 1 << 20, ..LIMITS };
    let check = |content: usize, expected| {
        let bytes = frame(0xC2, &deflated(&vec![0; content]));
        assert_eq!(decode(&[&bytes], limits, Compression::On).0, [expected], "{content}");
    };
    check(16 << 10, Seen::Message(MessageKind::Binary, vec![0; 16 << 10]));
    check(1 << 17, Seen::Error(ProtocolError::InflateRatio));
}

/// Cuts `bytes` at the given places.
fn split<'a, const N: usize>(bytes: &'a [u8], cuts: &[Index; N]) -> Vec<&'a [u8]> {
    let mut ends = cuts.map(|cut| cut.index(bytes.len() + 1));
    ends.sort_unstable();
    let begins = [0].into_iter().chain(ends);
    let ends = ends.into_iter().chain([bytes.len()]);
    begins.zip(ends).map(|(begin, end)| &bytes[begin..end]).collect()
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        ".{0,60}".prop_map(String::into_bytes),
        Just(b"again and again ".repeat(30)),
    ]
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        0x01, 0x81, 0x02, 0x82, 0x00, 0x80, 0x80, 0x89, 0x8A, 0x41, 0xC1, 0x88,
    ]);
    (first, payloads()).prop_map(|(first, mut payload)| {
        if first & 0x08 != 0 {
            payload.truncate(125);
        }
        if first & 0x40 != 0 && payload.len() % 3 != 0 {
            payload = deflated(&payload);
        }
        frame(first, &payload)
    })
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        frames in proptest::collection::vec(frames(), 0..8),
        cuts: [Index; 6],
        compression in prop::sample::select(vec![Compression::Off, Compression::On]),
    ) {
        let bytes = frames.concat();
        let (whole, _) = decode(&[&bytes], LIMITS, compression);
        let (parts, _) = decode(&split(&bytes, &cuts), LIMITS, compression);
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn what_is_sent_arrives(
        messages in proptest::collection::vec(
            (any::<bool>(), any::<Option<Index>>(), payloads()), 0..6),
        cuts: [Index; 4],
    ) {
        let mut sent = Vec::new();
        let mut bytes = Vec::new();
        for (compressed, cut, payload) in messages {
            let is_text = std::str::from_utf8(&payload).is_ok();
            let kind = if is_text { MessageKind::Text } else { MessageKind::Binary };
            let wire = if compressed { deflated(&payload) } else { payload.clone() };
            let first = if is_text { 1 } else { 2 } | if compressed { 0x40 } else { 0 };
            match cut.map(|cut| wire.split_at(cut.index(wire.len() + 1))) {
                Some((start, end)) => {
                    bytes.extend([frame(first, start), frame(0x80, end)].concat());
                }
                None => bytes.extend(frame(first | 0x80, &wire)),
            }
            sent.push(Seen::Message(kind, payload));
        }
        let (seen, decoder) = decode(&split(&bytes, &cuts), LIMITS, Compression::On);
        prop_assert_eq!(seen, sent);
        prop_assert!(!decoder.is_mid_message());
    }

    #[test]
    fn no_input_panics(bytes: Vec<u8>, compressed: bool) {
        let compression = if compressed { Compression::On } else { Compression::Off };
        decode(&[&bytes], LIMITS, compression);
    }
}
