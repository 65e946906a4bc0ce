//! What clients send: each command by transcript, framing and refusals by hand.

use bytes::Bytes;
use dunlin_core::{
    command::{Command, Request},
    filter::{InvalidFilter, TagsFilter},
    publication::Encoding,
};
use dunlin_protocol::centrifuge::{DecodeError, commands};

use super::{
    client::{self, nested_filter},
    transcript::scenes,
};

const TRANSCRIPT: &str = include_str!("../../transcripts/commands.txt");

#[test]
fn commands_are_read_as_in_the_transcript() {
    for scene in scenes(TRANSCRIPT) {
        let expected = format!("[Ok({})]", scene.line("command"));
        let check = |encoding, message: &[u8]| {
            let read: Vec<_> = commands(encoding, message, usize::MAX).collect();
            assert_eq!(format!("{read:?}"), expected, "{}, {encoding:?}", scene.title);
        };
        check(Encoding::Json, scene.line("json").as_bytes());
        check(Encoding::Protobuf, &scene.protobuf());
    }
}

#[test]
fn a_message_brings_commands_in_order() {
    let all = scenes(TRANSCRIPT);
    let lines: Vec<_> = all.iter().map(|scene| scene.line("json")).collect();
    let expected: Vec<_> = all.iter().map(|scene| scene.line("command")).collect();
    let expected = format!("[Ok({})]", expected.join("), Ok("));
    for json in [lines.join("\n"), lines.join("\n") + "\n", lines.join(" \r\n\t")] {
        let read: Vec<_> = commands(Encoding::Json, json.as_bytes(), usize::MAX).collect();
        assert_eq!(format!("{read:?}"), expected);
    }
    let protobuf: Vec<_> = all.iter().flat_map(|scene| scene.protobuf()).collect();
    let read: Vec<_> = commands(Encoding::Protobuf, &protobuf, usize::MAX).collect();
    assert_eq!(format!("{read:?}"), expected);
}

#[test]
fn messages_that_are_no_commands_are_refused() {
    let json = [
        "",
        "\n",
        " ",
        "{}\n\n{}",
        "\n{}",
        "{}{}",
        "{",
        "{}x",
        "[]",
        "null",
        "1",
        "\"connect\"",
        "{'id':1}",
        r#"{"id":-1,"connect":{}}"#,
        r#"{"id":4294967296,"connect":{}}"#,
        r#"{"id":1.5,"connect":{}}"#,
        r#"{"id":"1","connect":{}}"#,
        r#"{"id":1,"connect":[{}]}"#,
        r#"{"id":1,"connect":"{}"}"#,
        r#"{"id":1,"id":2,"connect":{}}"#,
        r#"{"id":1,"subscribe":{"channel":7}}"#,
        r#"{"id":1,"subscribe":{"channel":"c","recover":1}}"#,
        r#"{"id":1,"subscribe":{"channel":"c","offset":-1}}"#,
        r#"{"id":1,"subscribe":{"channel":"c","offset":18446744073709551616}}"#,
        r#"{"id":1,"history":{"channel":"c","limit":2147483648}}"#,
        r#"{"id":1,"publish":{"channel":"c","data":{]}}"#,
        r#"{"id":1,"publish":{"channel":"c","data":01}}"#,
        r#"{"id":1,"publish":{"channel":"\ud800","data":1}}"#,
    ];
    for message in json {
        refused(Encoding::Json, message.as_bytes());
    }
    refused(Encoding::Json, b"{\"id\":1,\"send\":{\"data\":\"\xFF\"}}");
    let protobuf: [&[u8]; 12] = [
        b"",
        b"\x01",                                         // no byte of one
        b"\x02\x08",                                     // one byte of two
        b"\x80",                                         // half a length
        b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", // a length of more than 64 bits
        b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01",     // a length of 64 bits
        b"\x01\x08",                                     // a field without a value
        b"\x02\x22\x01",                                 // a field longer than its message
        b"\x02\x22\x80",                                 // half the length of a field
        b"\x02\x20\x00",                                 // a number for a message
        b"\x02\x00\x00",                                 // the field 0
        b"\x05\x32\x03\x0A\x01\xFF",                     // a channel that is no UTF-8
    ];
    for message in protobuf {
        refused(Encoding::Protobuf, message);
    }
}

/// What precedes an error is read: its answers are on their way when the connection ends.
#[test]
fn an_error_comes_at_its_place() {
    let pong = Ok(Command { id: 0, request: Request::Pong });
    for (encoding, message) in
        [(Encoding::Json, &b"{}\n{}\nx"[..]), (Encoding::Protobuf, b"\x00\x00\x01")]
    {
        let read: Vec<_> = commands(encoding, message, usize::MAX).collect();
        assert_eq!(read, [pong.clone(), pong.clone(), Err(DecodeError::Malformed)]);
    }
}

#[test]
fn null_is_absent_and_what_is_unknown_is_skipped() {
    for message in [
        r#"{"id":null,"connect":null,"subscribe":null,"send":null}"#,
        r#"{"later":{"deep":[[[{}]]]},"x":1.5e400}"#,
    ] {
        assert_eq!(one(Encoding::Json, message.as_bytes()), Ok(Request::Pong));
    }
    let null = r#"{"id":1,"subscribe":{"channel":null,"token":null,"recover":null,"epoch":null,
        "offset":null,"positioned":null,"recoverable":null,"join_leave":null,"delta":null,
        "tf":null,"flag":null,"type":null,"phase":null,"x":{}}}"#;
    let empty = one(Encoding::Json, br#"{"id":1,"subscribe":{}}"#);
    assert_eq!(one(Encoding::Json, null.replace('\n', "").as_bytes()), empty);
    let null = r#"{"id":1,"connect":{"token":null,"subs":null}}"#;
    let empty = one(Encoding::Json, br#"{"id":1,"connect":{}}"#);
    assert_eq!(one(Encoding::Json, null.as_bytes()), empty);
    // A payload that is null is one.
    for (written, data) in [("", ""), (r#","data":null"#, "null")] {
        let message = format!(r#"{{"id":1,"publish":{{"channel":"c"{written}}}}}"#);
        let expected = Request::Publish { channel: "c".to_owned(), data: Bytes::from(data) };
        assert_eq!(one(Encoding::Json, message.as_bytes()), Ok(expected));
    }

    // Numbers, texts and fixed sizes at numbers that no one gave out.
    let unknown = b"\x17\xF8\x01\x2A\xFA\x01\x01x\xFD\x01\0\0\0\0\xF9\x01\0\0\0\0\0\0\0\0";
    assert_eq!(one(Encoding::Protobuf, unknown), Ok(Request::Pong));
}

#[test]
fn data_stays_as_it_was_written() {
    let data = "{ \"b\" : 1.50 ,\t\"a\":\"\\u00e9\\/é\", \"b\":[ ] }";
    let message = format!(r#"{{"id":1,"publish":{{"data": {data} ,"channel":"c"}}}}"#);
    let expected = Request::Publish { channel: "c".to_owned(), data: data.to_owned().into() };
    assert_eq!(one(Encoding::Json, message.as_bytes()), Ok(expected));
}

#[test]
fn other_kinds_of_subscriptions_are_unknown_here() {
    for json in [
        r#"{"id":1,"publish":{"type":1,"channel":"c","key":"k","data":1}}"#,
        r#"{"id":1,"sub_refresh":{"type":1,"channel":"c","track":[{"signature":"s"}]}}"#,
    ] {
        assert_eq!(one(Encoding::Json, json.as_bytes()), Ok(Request::Unknown));
    }
    for tag in [7, 15] {
        let request = client::message(tag, &[client::text(1, "c"), client::number(3, 1)].concat());
        let message = client::framed(&[client::number(1, 1), request].concat());
        assert_eq!(one(Encoding::Protobuf, &message), Ok(Request::Unknown));
    }
    // A subscription says its kind itself, so that its reply can refuse it.
    let map = one(Encoding::Json, br#"{"id":1,"subscribe":{"channel":"c","type":1,"phase":2}}"#);
    assert!(matches!(map, Ok(Request::Subscribe(subscribe)) if subscribe.kind == 1));
}

#[test]
fn a_filter_that_is_a_little_too_deep_is_read_and_one_much_too_deep_is_not() {
    for (encoding, message) in nested_filter(TagsFilter::DEPTH_MAX + 20) {
        let Ok(Request::Subscribe(subscribe)) = one(encoding, &message) else {
            panic!("{encoding:?}: not read");
        };
        let judged = TagsFilter::new(subscribe.filter.unwrap());
        assert_eq!(judged, Err(InvalidFilter::TooDeep), "{encoding:?}");
    }
    for depth in [1000, 5000] {
        for (encoding, message) in nested_filter(depth) {
            refused(encoding, &message);
        }
    }
}

/// However long the message is that they come in.
#[test]
fn a_command_has_a_bound_of_its_own() {
    for (encoding, message, longest) in
        [(Encoding::Json, &b"{}\n{ }\n{}"[..], 3), (Encoding::Protobuf, b"\x00\x02\x08\x01\x00", 2)]
    {
        let within: Vec<_> = commands(encoding, message, longest).collect();
        assert!(within.len() == 3 && within.iter().all(Result::is_ok), "{within:?}");
        let beyond: Vec<_> = commands(encoding, message, longest - 1).take(2).collect();
        assert!(matches!(beyond[..], [Ok(_), Err(DecodeError::TooLong)]), "{beyond:?}");
    }
}

#[test]
fn data_may_be_nested_as_deep_as_it_fits() {
    let data = "[".repeat(30_000) + &"]".repeat(30_000);
    let message = format!(r#"{{"id":1,"rpc":{{"method":"m","data":{data}}}}}"#);
    let expected = Request::Rpc { method: "m".to_owned(), data: data.into() };
    assert_eq!(one(Encoding::Json, message.as_bytes()), Ok(expected));
}

/// What the only command of a message asks for.
#[track_caller]
fn one(encoding: Encoding, message: &[u8]) -> Result<Request, DecodeError> {
    let mut read = commands(encoding, message, usize::MAX);
    let first = read.next().expect("there is a command or an error");
    assert_eq!(read.next(), None, "there is one command");
    first.map(|command| command.request)
}

#[track_caller]
fn refused(encoding: Encoding, message: &[u8]) {
    let read: Vec<_> = commands(encoding, message, usize::MAX).collect();
    assert!(read.iter().any(Result::is_err), "{:?}: {read:?}", message.escape_ascii().to_string());
}
