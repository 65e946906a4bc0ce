//! RESP3 is read the same in any split, and nonsense is refused within bounds.

use bytes::{Bytes, BytesMut};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::{Decoder, RespError};
use crate::link::value::{Frame, Value};

const BYTES_MAX: usize = 1 << 20;

/// Feeds `pieces` one after the other; returns every frame and how it ended.
fn decode_pieces<'a>(
    bytes_max: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Result<(), RespError>) {
    let (mut decoder, mut buffer, mut frames) =
        (Decoder::new(bytes_max), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(()))
}

fn decode(bytes: &[u8]) -> (Vec<Frame>, Result<(), RespError>) {
    decode_pieces(BYTES_MAX, [bytes])
}

fn bulk(text: &'static str) -> Value {
    Value::Bulk(Bytes::from_static(text.as_bytes()))
}

fn message(channel: &'static str, payload: &'static str) -> Frame {
    Frame::Message { channel: channel.into(), payload: payload.into() }
}

#[test]
fn every_type_is_read() {
    let cases: [(&str, Value); 17] = [
        ("+OK\r\n", Value::Simple("OK".into())),
        ("-ERR no\r\n", Value::Error("ERR no".into())),
        ("!6\r\nERR\r\nx\r\n", Value::Error("ERR\r\nx".into())),
        (":-42\r\n", Value::Integer(-42)),
        ("$5\r\nhe\nlo\r\n", bulk("he\nlo")),
        ("$0\r\n\r\n", bulk("")),
        ("$-1\r\n", Value::Null),
        ("*-1\r\n", Value::Null),
        ("_\r\n", Value::Null),
        ("=7\r\ntxt:abc\r\n", Value::Verbatim("txt:abc".into())),
        (",1.5\r\n", Value::Double("1.5".into())),
        ("(123456789012345678901\r\n", Value::BigNumber("123456789012345678901".into())),
        ("#t\r\n", Value::Boolean(true)),
        ("*2\r\n*1\r\n:1\r\n~0\r\n", {
            let inner = Value::Array(vec![Value::Integer(1)]);
            Value::Array(vec![inner, Value::Set(vec![])])
        }),
        ("%1\r\n$1\r\na\r\n#f\r\n", Value::Map(vec![(bulk("a"), Value::Boolean(false))])),
        ("%0\r\n", Value::Map(vec![])),
        // An attribute is read and dropped, outside and inside.
        ("|1\r\n+a\r\n:1\r\n*1\r\n|1\r\n+b\r\n:2\r\n:3\r\n", Value::Array(vec![Value::Integer(3)])),
    ];
    for (bytes, value) in cases {
        assert_eq!(decode(bytes.as_bytes()), (vec![Frame::Reply(value)], Ok(())), "{bytes:?}");
    }
}

#[test]
fn pushes_are_told_from_replies() {
    let bytes = b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n+PONG\r\n\
        >3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n:1\r\n\
        >3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n\
        >3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
    let frames = vec![
        Frame::Push(vec![bulk("subscribe"), bulk("c"), Value::Integer(1)]),
        Frame::Reply(Value::Simple("PONG".into())),
        message("c", "hi"),
        Frame::Reply(Value::Integer(1)),
        Frame::Push(vec![bulk("sunsubscribe"), bulk("c"), Value::Integer(0)]),
        message("c", "hi"),
    ];
    assert_eq!(decode(bytes), (frames, Ok(())));
}

#[test]
fn answers_to_a_transaction_hold_nothing_of_the_buffer() {
    let (mut decoder, mut buffer) = (Decoder::new(BYTES_MAX), BytesMut::with_capacity(64));
    let room = buffer.capacity();
    buffer.extend_from_slice(b"+QUEUED\r\n*2\r\n:0\r\n:1\r\n");
    let frames = [(); 2].map(|()| decoder.decode(&mut buffer).unwrap().unwrap());
    assert!(buffer.try_reclaim(room), "{frames:?}");
}

#[test]
fn nonsense_is_refused() {
    let deep = "*1\r\n".repeat(9);
    let long = format!("+{}\r\n", "x".repeat(70_000));
    let cases = [
        ("?\r\n", RespError::UnknownType(b'?')),
        ("\r\n", RespError::BadEnd),
        ("+a\n", RespError::BadEnd),
        ("$1\r\nabc", RespError::BadEnd),
        (":x\r\n", RespError::BadNumber),
        (":9223372036854775808\r\n", RespError::BadNumber),
        ("#x\r\n", RespError::BadNumber),
        ("$-2\r\n", RespError::BadNumber),
        ("$+1\r\n", RespError::BadNumber),
        ("$?\r\n", RespError::BadNumber),
        ("$9999999999\r\n", RespError::BadNumber),
        (">0\r\n", RespError::BadNumber),
        ("*1\r\n>1\r\n", RespError::NestedPush),
        (&deep, RespError::TooDeep),
        (&long, RespError::LineTooLong),
        (&long[..66_000], RespError::LineTooLong),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode(bytes.as_bytes()), (vec![], Err(error)), "{bytes:.20?}");
    }
}

#[test]
fn what_a_server_announces_is_not_reserved() {
    let mut decoder = Decoder::new(BYTES_MAX);
    let mut buffer = BytesMut::from(&b"*1000000\r\n$1000000\r\nab"[..]);
    let capacity = buffer.capacity();
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert!(decoder.open[0].values.capacity() <= 4 && buffer.capacity() <= capacity);
}

#[test]
fn a_body_beyond_the_bound_is_skipped_and_the_next_frame_read() {
    let mut bytes = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5000\r\n".to_vec();
    bytes.extend_from_slice(&[b'x'; 5000]);
    bytes.extend_from_slice(b"\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nok\r\n");
    let skipped = vec![bulk("message"), bulk("c"), Value::Skipped { length: 5000 }];
    let (frames, end) = decode_pieces(1000, bytes.chunks(100));
    assert_eq!((frames, end), (vec![Frame::Push(skipped), message("c", "ok")], Ok(())));
}

#[test]
fn the_text_of_a_frame_is_bounded_in_all() {
    let bytes = format!("*101\r\n{}$3\r\nabc\r\n:7\r\n", "+0123456789\r\n".repeat(100));
    let (frames, end) = decode_pieces(1000, [bytes.as_bytes()]);
    assert_eq!(end, Ok(()));
    let [Frame::Reply(Value::Skipped { .. }), next] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(*next, Frame::Reply(Value::Integer(7)), "what follows is nobody's fault");
}

#[test]
fn the_values_of_a_frame_are_bounded_in_all() {
    let announced = format!("*1048577\r\n{}:7\r\n", ":1\r\n".repeat(1_048_577));
    let nested = format!("*2\r\n*1048575\r\n{}:1\r\n:7\r\n", ":1\r\n".repeat(1_048_575));
    for bytes in [announced, nested] {
        let (frames, end) = decode_pieces(16 << 20, bytes.as_bytes().chunks(1 << 16));
        assert_eq!(end, Ok(()));
        let [Frame::Reply(Value::Skipped { .. }), next] = &frames[..] else { panic!("kept") };
        assert_eq!(*next, Frame::Reply(Value::Integer(7)));
    }
}

#[test]
fn a_whole_message_costs_no_copy() {
    for (kind, payload_at) in [("$7\r\nmessage", 31), ("$8\r\nsmessage", 32)] {
        let bytes = format!(">3\r\n{kind}\r\n$4\r\nchat\r\n$5\r\nhello\r\n");
        let mut buffer = BytesMut::from(bytes.as_bytes());
        let start = buffer.as_ptr();
        let frame = Decoder::new(BYTES_MAX).decode(&mut buffer).unwrap();
        let Some(Frame::Message { payload, .. }) = frame else { panic!("{frame:?}") };
        assert_eq!(payload.as_ptr() as usize - start as usize, payload_at);
    }
}

/// Bytes that look much like RESP, right and wrong.
fn near_resp() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: &'static str| Just(text.as_bytes().to_vec());
    let piece = prop_oneof![
        8 => text(">3\r\n$7\r\nmessage\r\n$4\r\nchat\r\n$5\r\nhello\r\n"),
        8 => text(">3\r\n$8\r\nsmessage\r\n$4\r\nchat\r\n$5\r\nhello\r\n"),
        2 => text(">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"),
        1 => text(">3\r\n$7\r\nmessage\r\n"),
        1 => text("$3\r\nabc\r\n"),
        1 => text("$12\r\n"),
        1 => text("*2\r\n"),
        1 => text("%1\r\n"),
        1 => text("|1\r\n"),
        1 => text("*0\r\n"),
        1 => text("+OK\r\n"),
        1 => text("-ERR\r\n"),
        1 => text(":1\r\n"),
        1 => text("_\r\n"),
        1 => text("\r\n"),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_reads_the_same_as_the_whole(
        bytes in near_resp(),
        sizes in prop::collection::vec(1..20_usize, 1..8),
        bytes_max in prop_oneof![Just(BYTES_MAX), 16..80_usize],
    ) {
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, others) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = others;
        }
        let split = decode_pieces(bytes_max, pieces);
        assert_eq!(split, decode_pieces(bytes_max, [&bytes[..]]));
    }
}
