//! Targets for what comes from Redis.

use bytes::{Bytes, BytesMut};
use dunlin_core::{
    channel::ChannelName,
    publication::{Details, Kind, Publication},
};
use dunlin_redis::{
    envelope::{self, Format},
    link::{
        resp::{Decoder, RespError},
        value::{Frame, Value},
    },
};

/// Bytes of a server decode to the same frames in one piece and in pieces, and no frame keeps more
/// than the bound.
///
/// Input: a byte that chooses the bound, a seed for the cuts, the bytes of the server.
pub fn resp_decode(data: &[u8]) {
    let [bound, cuts, bytes @ ..] = data else { return };
    let bytes_max = match bound & 3 {
        0 => 1 << 20,
        1 => 1000,
        2 => 48,
        _ => 0,
    };
    let (mut pieces, mut rest, mut state) = (Vec::new(), bytes, *cuts);
    while !rest.is_empty() {
        state = state.wrapping_mul(5).wrapping_add(3);
        let (piece, others) = rest.split_at((1 + usize::from(state >> 3)).min(rest.len()));
        pieces.push(piece);
        rest = others;
    }
    let whole = decode(&[bytes], bytes_max);
    assert_eq!(whole, decode(&pieces, bytes_max), "in one piece and in pieces");
    for frame in &whole.0 {
        let kept = match frame {
            Frame::Message { channel, payload } => channel.len() + payload.len(),
            Frame::Push(values) => values.iter().map(kept).sum(),
            Frame::Reply(value) => kept(value),
        };
        assert!(kept <= bytes_max, "{kept} bytes kept");
    }
}

/// A message opens to what its first bytes promise, and what is published comes back.
pub fn envelope(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    match envelope::open(message.clone()) {
        Ok(opened) => {
            assert!(message.ends_with(&opened.data), "a payload is the end of its message");
            let is_text = std::str::from_utf8(&opened.data).is_ok();
            assert!(is_text || opened.kind != Kind::Text);
            if data.first() != Some(&0xFF) {
                assert_eq!((&opened.data, opened.kind == Kind::Text), (&message, is_text));
            }
            comes_back(opened.kind, &opened.data, opened.details.unwrap_or_default());
        }
        Err(_) => {
            let kept = data.strip_prefix(b"\xFF\x14\x00").and_then(|placed| placed.get(24..));
            let is_newer = [Some(data), kept].iter().flatten().any(|m| m.starts_with(b"\xFFDun"));
            assert!(is_newer, "what no newer node wrote is always opened");
        }
    }
    let is_text = std::str::from_utf8(data).is_ok();
    for kind in [if is_text { Kind::Text } else { Kind::Binary }, Kind::Binary] {
        comes_back(kind, &message, Details::default());
    }
}

fn comes_back(kind: Kind, data: &Bytes, details: Details) {
    let channel = ChannelName::new("c").expect("it is a name");
    let publication = Publication::new(channel, kind, data.clone()).with_details(details.clone());
    let head = envelope::head(&publication, Format::Enveloped);
    let message = Bytes::from([&head, &data[..]].concat());
    let opened = envelope::open(message).expect("what we write we can read");
    assert_eq!((opened.position, opened.kind, &opened.data), (None, kind, data));
    assert_eq!(opened.details.unwrap_or_default(), details);
}

fn decode(pieces: &[&[u8]], bytes_max: usize) -> (Vec<Frame>, Result<(), RespError>) {
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

fn kept(value: &Value) -> usize {
    match value {
        Value::Simple(bytes)
        | Value::Error(bytes)
        | Value::Bulk(bytes)
        | Value::Verbatim(bytes)
        | Value::Double(bytes)
        | Value::BigNumber(bytes) => bytes.len(),
        Value::Array(values) | Value::Set(values) => values.iter().map(kept).sum(),
        Value::Map(pairs) => pairs.iter().map(|(key, value)| kept(key) + kept(value)).sum(),
        Value::Integer(_) | Value::Boolean(_) | Value::Null | Value::Skipped { .. } => 0,
    }
}
