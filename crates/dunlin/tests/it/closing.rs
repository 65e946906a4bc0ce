//! How connections end: close codes, and what still passes before a good-bye.

use std::{
    io::{BufReader, Read, Write},
    net::Shutdown,
};

use rustix::process::Signal;

use crate::harness::{
    Flock, Message, Node, Opcode, connect, frame, read_response, upgrade_request, wait_until,
};

/// The echo comes by way of the broker; the good-bye must not overtake it.
#[test]
fn what_was_sent_before_a_good_bye_comes_back_before_it() {
    let node = Node::start(&[]);
    for (last, code) in
        [(frame(Opcode::Close, &1000_u16.to_be_bytes()), 1000), (b"\xc1\x80".to_vec(), 1002)]
    {
        for _ in 0..50 {
            let mut client = node.join("last-words");
            let words = [frame(Opcode::Text, b"one"), frame(Opcode::Text, b"two"), last.clone()];
            client.send_bytes(&words.concat());
            // Who will not send any more still listens.
            client.socket().shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.receive_text(), "one");
            assert_eq!(client.receive_text(), "two");
            assert_eq!(client.receive_close().0, code);
        }
    }
    node.wait_until_empty();
}

#[test]
fn what_breaks_the_protocol_is_closed_with_the_code_that_says_so() {
    const FIN: u8 = 0x80;
    let node = Node::start(&["limits.message_bytes=1000", "limits.message_fragments=3"]);
    let masked = |first: u8, payload: &[u8]| {
        let mut bytes = frame(Opcode::Text, payload);
        bytes[0] = first;
        bytes
    };
    let fragments = |count: usize| {
        let mut bytes = masked(1, b"");
        bytes.extend((1..count).flat_map(|_| masked(0, b"")));
        bytes
    };
    let violations: [(&str, Vec<u8>, u16, &str); 23] = [
        ("unmasked", b"\x81\x01x".to_vec(), 1002, "protocol_error"),
        ("unmasked, only the header", b"\x81\x05".to_vec(), 1002, "protocol_error"),
        ("first reserved bit", masked(FIN | 0x41, b"x"), 1002, "protocol_error"),
        ("second reserved bit", masked(FIN | 0x21, b"x"), 1002, "protocol_error"),
        ("third reserved bit", masked(FIN | 0x11, b"x"), 1002, "protocol_error"),
        ("opcode 3", masked(FIN | 3, b"x"), 1002, "protocol_error"),
        ("opcode 15", masked(FIN | 15, b"x"), 1002, "protocol_error"),
        ("fragmented ping", masked(9, b""), 1002, "protocol_error"),
        ("long ping", masked(FIN | 9, &[0; 126]), 1002, "protocol_error"),
        ("continuation of nothing", masked(FIN, b"x"), 1002, "protocol_error"),
        (
            "message in a message",
            [masked(1, b"x"), masked(FIN | 1, b"x")].concat(),
            1002,
            "protocol_error",
        ),
        ("length not minimal", b"\x81\xfe\x00\x01\0\0\0\0x".to_vec(), 1002, "protocol_error"),
        ("length of 2^63", b"\x82\xff\x80\0\0\0\0\0\0\0".to_vec(), 1002, "protocol_error"),
        ("close of one byte", masked(FIN | 8, b"x"), 1002, "protocol_error"),
        ("close 1005", masked(FIN | 8, b"\x03\xed"), 1002, "protocol_error"),
        ("close 999", masked(FIN | 8, b"\x03\xe7"), 1002, "protocol_error"),
        ("text not utf-8", masked(FIN | 1, b"\xff"), 1007, "invalid_text"),
        ("text cut in a character", masked(FIN | 1, b"\xe2\x82"), 1007, "invalid_text"),
        ("surrogate", masked(FIN | 1, b"\xed\xa0\x80"), 1007, "invalid_text"),
        ("one byte too big", masked(FIN | 2, &[0; 1001]), 1009, "message_too_big"),
        (
            "declared far too big",
            b"\x82\xff\0\0\0\xff\xff\xff\xff\xff".to_vec(),
            1009,
            "message_too_big",
        ),
        (
            "too big in parts",
            [masked(2, &[0; 999]), masked(FIN, b"xx")].concat(),
            1009,
            "message_too_big",
        ),
        ("a fragment too many", fragments(4), 1008, "too_many_fragments"),
    ];
    for (what, bytes, code, label) in violations {
        let before = node.metrics().closed(label);
        let mut bystander = node.join("violated");
        let mut client = node.join("violated");
        client.send_text("before");
        assert_eq!(client.receive_text(), "before", "{what}");
        client.send_bytes(&[bytes, frame(Opcode::Text, b"after")].concat());
        let (got, reason) = client.receive_close();
        assert_eq!(got, code, "{what}");
        assert!(!reason.is_empty(), "{what}");
        assert_eq!(client.receive(), Message::End, "{what}");
        drop(client);
        wait_until(what, || node.metrics().closed(label) == before + 1.0);
        assert_eq!(bystander.receive_text(), "before", "{what}");
        bystander.send_text("still here");
        assert_eq!(bystander.receive_text(), "still here", "{what}");
    }
    node.wait_until_empty();
}

#[test]
fn what_is_within_the_limits_passes() {
    let settings = ["limits.message_bytes=1000", "limits.message_fragments=3"];
    Flock::each(&settings, |flock| {
        let mut client = flock.node(0).join("limits");
        let mut other = flock.node(1).join("limits");
        client.send_binary(&[7; 1000]);
        assert_eq!(other.receive(), Message::Binary(vec![7; 1000]));
        assert_eq!(client.receive(), Message::Binary(vec![7; 1000]));
        client.send_fragment(Opcode::Text, b"gr\xc3");
        client.send(Opcode::Ping, b"in between");
        client.send_fragment(Opcode::Continuation, b"");
        client.send(Opcode::Continuation, b"\xbc\xc3\x9fe");
        assert_eq!(client.receive(), Message::Pong(b"in between".to_vec()));
        assert_eq!(client.receive_text(), "grüße");
        assert_eq!(other.receive_text(), "grüße");
    });
}

#[test]
fn a_goodbye_is_answered_with_its_code() {
    Flock::each(&[], |flock| {
        let node = flock.node(0);
        for (number, (payload, code)) in [
            (&b""[..], 1000),
            (b"\x03\xe8", 1000),
            (b"\x03\xe9going away", 1001),
            (b"\x0b\xb8", 3000),
            (b"\x13\x87own", 4999),
        ]
        .into_iter()
        .enumerate()
        {
            // Each in a channel of its own: over Redis the words of the one before may come late.
            let mut client = node.join(&format!("bye-{number}"));
            client.send_text("last words");
            client.send(Opcode::Close, payload);
            let mut answer = client.receive();
            if answer == Message::Text("last words".to_owned()) {
                answer = client.receive();
            }
            assert_eq!(answer, Message::Close(code, String::new()));
            assert_eq!(client.receive(), Message::End);
        }
        wait_until("all goodbyes are counted", || node.metrics().closed("client_left") == 5.0);
    });
}

/// As Caddy writes it to both sides of all its connections when it is reloaded.
#[test]
fn a_proxy_that_says_good_bye_for_its_client_is_told_apart() {
    let node = Node::start(&[]);
    for (number, farewell) in (1_u8..).zip([&b"\x88\x02\x03\xe9"[..], b"\x88\0"]) {
        let mut client = node.join("proxied");
        client.send_bytes(farewell);
        assert_eq!(client.receive_close().0, 1002);
        wait_until("it is counted", || node.metrics().closed("proxy_left") == f64::from(number));
    }
    assert_eq!(node.metrics().closed("protocol_error"), 0.0);
    node.wait_until_empty();
}

#[test]
fn clients_that_know_the_codes_of_rfc_6455_alone_are_told_no_others() {
    for (codes, expected) in [("registered", 1012), ("rfc6455", 1001)] {
        let settings = ["shutdown.accept_for=0s", "shutdown.drain=0s"];
        let node = Node::start(
            &[&[format!("plain.close_codes={codes}").as_str()], &settings[..]].concat(),
        );
        let mut client = node.join("codes");
        let mut wrong = node.join("codes");
        wrong.send_bytes(b"\xc1\x80");
        assert_eq!(wrong.receive_close().0, 1002);
        node.signal(Signal::TERM);
        assert_eq!(client.receive_close(), (expected, "node is leaving, reconnect".to_owned()));
    }
}

#[test]
fn a_refused_upgrade_ends_its_connection_and_an_agreed_one_does_not_say_so() {
    let node = Node::start(&["limits.connections=1"]);
    let mut stream = BufReader::new(connect(node.address).unwrap());
    let request = upgrade_request("/ws/one");
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let agreed = read_response(&mut stream).unwrap();
    assert_eq!((agreed.status, agreed.header("connection")), (101, Some("Upgrade")));
    for (path, status) in [("/ws/two", 503), ("/ws/no:such", 404), ("/ws/", 400)] {
        let mut stream = BufReader::new(connect(node.address).unwrap());
        stream.get_mut().write_all(upgrade_request(path).as_bytes()).unwrap();
        let refused = read_response(&mut stream).unwrap();
        assert_eq!((refused.status, refused.header("connection")), (status, Some("close")));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{path} is closed");
    }
}
