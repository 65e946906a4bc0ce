//! Both encodings against bytes written by hand.

use proptest::prelude::*;

use super::*;

fn frame(encoding: Encoding, commands: &[(u32, Command<'_>)]) -> Vec<u8> {
    let mut frame = Vec::new();
    commands.iter().for_each(|&(id, command)| encoding.put(&mut frame, id, command));
    frame
}

#[test]
fn commands_are_batched_as_the_protocol_says() {
    let commands = [
        (1, Command::Connect { token: "t" }),
        (2, Command::Subscribe { channel: "c", recover: Some((300, "e")) }),
        (3, Command::Publish { channel: "c", data: "d" }),
    ];
    let json = String::from_utf8(frame(Encoding::Json, &commands)).unwrap();
    let lines: Vec<serde_json::Value> =
        json.split('\n').map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        serde_json::json!({"id": 1, "connect": {"token": "t"}}),
        serde_json::json!({"id": 2, "subscribe":
            {"channel": "c", "recover": true, "offset": 300, "epoch": "e"}}),
        serde_json::json!({"id": 3, "publish": {"channel": "c", "data": "d"}}),
    ];
    assert_eq!(lines, expected);

    let expected = [
        &b"\x07\x08\x01\x22\x03\x0a\x01t"[..],
        b"\x0f\x08\x02\x2a\x0b\x0a\x01c\x18\x01\x32\x01e\x38\xac\x02",
        b"\x0c\x08\x03\x3a\x08\x0a\x01c\x12\x03\"d\"",
    ];
    assert_eq!(frame(Encoding::Protobuf, &commands), expected.concat());
}

#[test]
fn a_pong_is_the_empty_command() {
    assert_eq!(frame(Encoding::Json, &[(0, Command::Pong)]), b"{}");
    assert_eq!(frame(Encoding::Protobuf, &[(0, Command::Pong)]), [0]);
}

#[test]
fn replies_are_read_in_both_encodings() {
    let json = concat!(
        r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","publications":"#,
        r#"[{"data":"d","offset":301}],"recovered":true,"offset":300,"was_recovering":true}}"#,
        "\n{}\n",
        r#"{"push":{"channel":"c","pub":{"data":{"x":1},"offset":7}}}"#,
        "\n",
        r#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"x"}}}"#,
        "\n",
        r#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#,
    );
    let protobuf = [
        &b"\x1a\x08\x02\x32\x16\x18\x01\x32\x01e\x3a\x08\x22\x03\"d\"\x30\xad\x02"[..],
        b"\x40\x01\x48\xac\x02\x60\x01",
        b"\x00",
        b"\x10\x22\x0e\x12\x01c\x22\x09\x22\x05{x:1}\x30\x07",
        b"\x0d\x22\x0b\x12\x01c\x3a\x06\x10\xc4\x13\x1a\x01x",
        b"\x17\x08\x03\x12\x13\x08\x67\x12\x0fpermission deni",
    ]
    .concat();
    let expected = |message: &str| {
        let publication = |data: &str, offset| Publication { data: data.to_owned(), offset };
        let push = |publication, unsubscribe| Reply {
            push: Some(Push { channel: "c".into(), publication, unsubscribe }),
            ..Reply::default()
        };
        let subscribed = Subscribed {
            recoverable: true,
            epoch: "e".into(),
            publications: vec![publication("d", 301)],
            recovered: true,
            offset: 300,
            was_recovering: true,
        };
        let error = Some(Refusal { code: 103, message: message.to_owned() });
        vec![
            Reply { id: 2, subscribe: Some(subscribed), ..Reply::default() },
            Reply::default(),
            push(Some(publication("", 7)), None),
            push(None, Some(Unsubscribed { code: 2500 })),
            Reply { id: 3, error, ..Reply::default() },
        ]
    };
    assert_eq!(Encoding::Json.read(json.as_bytes()).unwrap(), expected("permission denied"));
    assert_eq!(Encoding::Protobuf.read(&protobuf).unwrap(), expected("permission deni"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
        let _ = Encoding::Json.read(&bytes);
        let _ = Encoding::Protobuf.read(&bytes);
    }
}
