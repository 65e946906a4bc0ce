//! Publications, joins and leaves as they are pushed: by transcript, and the rules of differences.

use bytes::Bytes;
use dunlin_core::{
    channel::ChannelName,
    position::{Epoch, Position},
    publication::{ClientInfo, Delta, Details, Encoding, Kind, Publication, PushFormat},
};
use dunlin_protocol::{centrifuge::push, fossil};
use serde_json::Value;

use super::transcript::{hex, scenes};

const TRANSCRIPT: &str = include_str!("../../transcripts/pushes.txt");

const OLD: &str = r#"{"symbol":"DUNL","price":101.25,"volume":1200,"open":true}"#;
const NEW: &str = r#"{"symbol":"DUNL","price":101.75,"volume":1200,"open":true}"#;

#[test]
fn publications_are_pushed_as_in_the_transcript() {
    let pushes = pushes();
    for ((title, publication), scene) in pushes.iter().zip(scenes(TRANSCRIPT)) {
        assert_eq!(*title, scene.title);
        let json = pushed(publication, Encoding::Json, Delta::Off, None);
        assert_eq!(String::from_utf8(json).unwrap(), scene.line("json"), "{title}");
        let protobuf = pushed(publication, Encoding::Protobuf, Delta::Off, None);
        assert_eq!(hex(&protobuf), scene.line("protobuf"), "{title}");
    }
    assert_eq!(pushes.len(), scenes(TRANSCRIPT).len(), "each scene is played");
}

#[test]
fn a_number_stands_for_the_channel_where_that_is_agreed() {
    let publication = publication(Kind::Text, "1");
    let format = |encoding| PushFormat { encoding, number: Some(300), delta: Delta::Off };
    let json = push(&publication, format(Encoding::Json), None);
    assert_eq!(json, br#"{"push":{"id":300,"pub":{"data":1}}}"#);
    let protobuf = push(&publication, format(Encoding::Protobuf), None);
    assert_eq!(protobuf, b"\x0A\x22\x08\x08\xAC\x02\x22\x03\x22\x011");
}

#[test]
fn with_differences_all_data_is_a_string_of_its_json() {
    for (payload, text) in [
        (NEW, NEW),
        ("{\n\t\"a\": 1\r\n}", "{\t\"a\": 1}"),
        ("\"h\u{e9}\"", "\"h\u{e9}\""),
        ("not JSON", "\"not JSON\""),
    ] {
        let publication = differing(Kind::Text, payload);
        for (delta, base) in [(Delta::Full, Some(OLD)), (Delta::Full, None), (Delta::Fossil, None)]
        {
            let base = base.map(|base| differing(Kind::Text, base));
            let json = pushed(&publication, Encoding::Json, delta, base.as_ref());
            assert_eq!(data(&json), (Value::from(text), false), "{payload:?} {delta:?}");
        }
    }
}

#[test]
fn who_has_the_publication_before_gets_the_difference() {
    let publication = differing(Kind::Text, NEW);
    let base = differing(Kind::Text, OLD);
    let difference = fossil::create_text(OLD, NEW).unwrap();
    let json = pushed(&publication, Encoding::Json, Delta::Fossil, Some(&base));
    assert_eq!(data(&json), (Value::from(difference.clone()), true));
    let protobuf = pushed(&publication, Encoding::Protobuf, Delta::Fossil, Some(&base));
    let message = [b"\"", &[difference.len() as u8][..], difference.as_bytes(), b"\x40\x01"];
    assert!(protobuf.ends_with(&message.concat()), "{}", protobuf.escape_ascii());
}

/// The client has the text that was sent, not the one that was published.
#[test]
fn a_difference_is_between_the_texts_that_are_sent() {
    let spread = |text: &str| text.replace(',', ",\n  ");
    let publication = differing(Kind::Text, &spread(NEW));
    let base = differing(Kind::Text, &spread(OLD));
    let sent = |text: &str| text.replace(',', ",  ");
    let difference = fossil::create_text(&sent(OLD), &sent(NEW)).unwrap();
    let json = pushed(&publication, Encoding::Json, Delta::Fossil, Some(&base));
    assert_eq!(data(&json), (Value::from(difference), true));
    // In Protobuf both are the same.
    let difference = fossil::create_text(&spread(OLD), &spread(NEW)).unwrap();
    let protobuf = pushed(&publication, Encoding::Protobuf, Delta::Fossil, Some(&base));
    let message = [difference.as_bytes(), b"\x40\x01"].concat();
    assert!(protobuf.ends_with(&message), "{}", protobuf.escape_ascii());
}

#[test]
fn what_may_not_or_does_not_pay_to_be_a_difference_is_whole() {
    let base = differing(Kind::Text, OLD);
    for publication in [publication(Kind::Text, NEW), differing(Kind::Text, "[1]")] {
        let whole = str::from_utf8(publication.data()).unwrap();
        for delta in [Delta::Full, Delta::Fossil] {
            let json = pushed(&publication, Encoding::Json, delta, Some(&base));
            assert_eq!(data(&json), (Value::from(whole), false));
            if publication.details().is_none() {
                let protobuf = pushed(&publication, Encoding::Protobuf, delta, Some(&base));
                assert!(protobuf.ends_with(whole.as_bytes()));
            }
        }
    }
    let off = pushed(&differing(Kind::Text, NEW), Encoding::Json, Delta::Off, Some(&base));
    assert_eq!(data(&off), (serde_json::from_str(NEW).unwrap(), false));
}

#[test]
fn who_reads_json_has_no_binary_publication_to_differ_from() {
    let (base, publication) = (differing(Kind::Binary, OLD), differing(Kind::Text, NEW));
    let json = pushed(&publication, Encoding::Json, Delta::Fossil, Some(&base));
    assert_eq!(data(&json), (Value::from(NEW), false));
    let protobuf = pushed(&publication, Encoding::Protobuf, Delta::Fossil, Some(&base));
    assert!(protobuf.ends_with(b"\x40\x01"));
}

/// Publications by their titles, in the order of the transcript.
fn pushes() -> Vec<(&'static str, Publication)> {
    let text = |payload| publication(Kind::Text, payload);
    let at = |offset| Position { offset, epoch: Epoch { id: 0xAA, branch: 0 } };
    let tags = |tags: &[(&str, &str)]| {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Details { tags: tags.collect(), ..Details::default() }
    };
    let info = |info| Details { info: Some(info), ..Details::default() };
    let named = ClientInfo {
        user: "42".into(),
        client: "c1".into(),
        conn_info: Some(Bytes::from_static(b"{\"name\":\n\"Ada\"}")),
        chan_info: Some(Bytes::from_static(b"no JSON")),
    };
    let nobody = ClientInfo { user: "".into(), conn_info: None, chan_info: None, ..named.clone() };
    let joined = |info_of: &ClientInfo| text("").with_details(info(info_of.clone()));
    let with_kind = |kind| publication(kind, "").with_details(info(named.clone()));
    vec![
        ("JSON", text(r#"{"text":"h\u00e9llo","n":[1,2.50,1e400]}"#)),
        ("spread JSON", text("\r\n{\n  \"text\": \"a\\nb\",\r\n  \"n\": []\n}\n")),
        ("a JSON string", text("\"h\u{e9}\"")),
        ("a text that is no JSON", text("he said \"hi\",\n\u{e9} \u{1}")),
        ("an empty text", text("")),
        ("bytes", Publication::new(news(), Kind::Binary, Bytes::from_static(b"\xFF\x00{}"))),
        ("the first of an epoch", text("1").at(at(1))),
        ("a later one", text("2").at(at(2))),
        ("the last offset", text("3").at(at(u64::MAX))),
        ("tags", text("4").with_details(tags(&[("lang", "en"), ("\"\u{e9}\n", "")]))),
        ("a client's", joined(&named)),
        ("nobody's", joined(&nobody)),
        ("a join", with_kind(Kind::Join)),
        ("a leave", with_kind(Kind::Leave)),
    ]
}

/// A publication that may be sent as a difference.
fn differing(kind: Kind, payload: &str) -> Publication {
    let details = Details { allows_delta: true, ..Details::default() };
    publication(kind, payload).with_details(details)
}

fn publication(kind: Kind, payload: &str) -> Publication {
    Publication::new(news(), kind, Bytes::copy_from_slice(payload.as_bytes()))
}

fn news() -> ChannelName {
    ChannelName::new("news").unwrap()
}

fn pushed(
    publication: &Publication,
    encoding: Encoding,
    delta: Delta,
    base: Option<&Publication>,
) -> Vec<u8> {
    push(publication, PushFormat { encoding, number: None, delta }, base)
}

/// The data of a pushed publication, and whether it is a difference.
fn data(json: &[u8]) -> (Value, bool) {
    let mut reply: Value = serde_json::from_slice(json).unwrap();
    let publication = &mut reply["push"]["pub"];
    (publication["data"].take(), publication["delta"] == true)
}
