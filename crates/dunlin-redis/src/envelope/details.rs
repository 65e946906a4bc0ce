//! What is known of a publication beside its payload, as bytes.
//!
//! ```text
//! details  length of all that follows, then: what there is (a byte of flags), and of it
//!          01 user, client
//!          02 what the connection's token says     04 what the subscription's says
//!          08 how many tags, then name and value of each
//!          10 it may be sent as a difference
//! ```
//!
//! Numbers are LEB128 of at most four bytes; texts and bytes stand behind their length. A reader
//! ignores flags that it does not know and what follows behind what it knows.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Buf, BufMut, Bytes};
use dunlin_core::publication::{ClientInfo, Details};

/// Appends them.
pub(super) fn write(out: &mut Vec<u8>, details: &Details) {
    let mut body = vec![0];
    let mut flags = 0;
    if let Some(info) = &details.info {
        flags |= INFO;
        write_bytes(&mut body, info.user.as_bytes());
        write_bytes(&mut body, info.client.as_bytes());
        for (flag, part) in [(CONN_INFO, &info.conn_info), (CHAN_INFO, &info.chan_info)] {
            if let Some(part) = part {
                flags |= flag;
                write_bytes(&mut body, part);
            }
        }
    }
    if !details.tags.is_empty() {
        flags |= TAGS;
        write_number(&mut body, details.tags.len());
        for (name, value) in &details.tags {
            write_bytes(&mut body, name.as_bytes());
            write_bytes(&mut body, value.as_bytes());
        }
    }
    if details.allows_delta {
        flags |= ALLOWS_DELTA;
    }
    body[0] = flags;
    write_bytes(out, &body);
}

/// Takes them off the front of `message`; none if they make no sense.
pub(super) fn take(message: &mut Bytes) -> Option<Details> {
    let mut body = take_bytes(message)?;
    let flags = body.try_get_u8().ok()?;
    let has = |flag| flags & flag != 0;
    let mut details = Details { allows_delta: has(ALLOWS_DELTA), ..Details::default() };
    if has(INFO) {
        details.info = Some(ClientInfo {
            user: take_text(&mut body)?,
            client: take_text(&mut body)?,
            conn_info: if has(CONN_INFO) { Some(take_bytes(&mut body)?) } else { None },
            chan_info: if has(CHAN_INFO) { Some(take_bytes(&mut body)?) } else { None },
        });
    }
    if has(TAGS) {
        details.tags = take_tags(&mut body)?;
    }
    Some(details)
}

fn take_tags(body: &mut Bytes) -> Option<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for _ in 0..take_number(body)? {
        let (name, value): (Arc<str>, Arc<str>) = (take_text(body)?, take_text(body)?);
        tags.insert((*name).to_owned(), (*value).to_owned());
    }
    Some(tags)
}

fn take_text(body: &mut Bytes) -> Option<Arc<str>> {
    let bytes = take_bytes(body)?;
    std::str::from_utf8(&bytes).ok().map(Arc::from)
}

fn take_bytes(body: &mut Bytes) -> Option<Bytes> {
    let length = take_number(body)?;
    (length <= body.len()).then(|| body.split_to(length))
}

fn take_number(body: &mut Bytes) -> Option<usize> {
    let mut number = 0;
    for shift in [0, 7, 14, 21] {
        let byte = body.try_get_u8().ok()?;
        number |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_number(out, bytes.len());
    out.put_slice(bytes);
}

/// Four bytes hold 256 MiB less one, far above the longest message that a client may send.
fn write_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

const INFO: u8 = 0x01;
const CONN_INFO: u8 = 0x02;
const CHAN_INFO: u8 = 0x04;
const TAGS: u8 = 0x08;
const ALLOWS_DELTA: u8 = 0x10;

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::{Strategy, any, prop, proptest};

    use super::*;

    /// Any details, empty ones too.
    pub(in crate::envelope) fn some_details() -> impl Strategy<Value = Details> {
        let bytes = || prop::option::of(any::<Vec<u8>>().prop_map(Bytes::from));
        let info = (any::<String>(), any::<String>(), bytes(), bytes()).prop_map(
            |(user, client, conn_info, chan_info)| ClientInfo {
                user: user.into(),
                client: client.into(),
                conn_info,
                chan_info,
            },
        );
        let tags = prop::collection::btree_map(any::<String>(), any::<String>(), 0..4);
        (prop::option::of(info), tags, any::<bool>())
            .prop_map(|(info, tags, allows_delta)| Details { info, tags, allows_delta })
    }

    #[test]
    fn what_a_newer_node_knows_is_ignored() {
        let mut message = Bytes::from_static(b"\x08\x91\x01u\x01cNEWhi");
        let details = take(&mut message).unwrap();
        let info = details.info.unwrap();
        assert_eq!((&*info.user, &*info.client, details.allows_delta), ("u", "c", true));
        assert_eq!(&message[..], b"hi");
    }

    #[test]
    fn what_is_cut_short_makes_no_sense() {
        let whole = b"\x09\x09\x01u\x01c\x01\x01n\x00";
        for end in 0..whole.len() {
            assert_eq!(take(&mut Bytes::from_static(&whole[..end])), None, "{end}");
        }
        let many = b"\x05\x08\xFF\xFF\xFF\x7F";
        assert_eq!(take(&mut Bytes::from_static(many)), None);
        assert_eq!(take(&mut Bytes::from_static(b"\xFF\xFF\xFF\xFF\x00")), None);
    }

    proptest! {
        #[test]
        fn details_come_back(details in some_details(), rest in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            write(&mut out, &details);
            out.extend_from_slice(&rest);
            let mut message = Bytes::from(out);
            assert_eq!(take(&mut message), Some(details));
            assert_eq!(message, rest);
        }
    }
}
