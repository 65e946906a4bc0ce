//! Targets for what comes from Redis.

use bytes::{Bytes, BytesMut};
use dunlin_core::publication::Kind;
use dunlin_redis::{
    envelope,
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

/// A payload opens to what its first bytes promise, and what is published comes back.
pub fn envelope(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    match envelope::open(payload.clone()) {
        Ok((kind, opened)) if data.first() != Some(&0xFF) => {
            assert_eq!(opened, payload);
            assert_eq!(kind == Kind::Text, std::str::from_utf8(data).is_ok());
        }
        Ok((kind, opened)) => {
            assert_eq!(opened, payload[3..]);
            assert!(kind == Kind::Binary || std::str::from_utf8(&opened).is_ok());
        }
        Err(_) => assert_eq!(data.first(), Some(&0xFF), "a raw payload is always opened"),
    }
    let kind = if std::str::from_utf8(data).is_ok() { Kind::Text } else { Kind::Binary };
    for kind in [kind, Kind::Binary] {
        let published = Bytes::from([envelope::prelude(kind), data].concat());
        assert_eq!(envelope::open(published), Ok((kind, payload.clone())));
    }
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
