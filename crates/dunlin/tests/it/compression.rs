//! permessage-deflate through the real server: only for those who ask, and never a way to more
//! memory than the limits allow.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::harness::{Client, Flock, Message, Node, Opcode, connect, frame, upgrade_request};

const FIN: u8 = 0x80;
/// The first reserved bit: the message is compressed.
const RSV1: u8 = 0x40;

/// Joins with an offer to compress; returns what was agreed.
fn join_with_offer(node: &Node, channel: &str, offer: &str) -> (Client, Option<String>) {
    let extensions = format!("\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n");
    let request = upgrade_request(&format!("/ws/{channel}")).replace("\r\n\r\n", &extensions);
    let stream = connect(node.address).unwrap();
    let (client, response) = Client::upgrade(stream, &request).unwrap();
    (client, response.header("sec-websocket-extensions").map(str::to_owned))
}

fn join_compressed(node: &Node, channel: &str) -> Client {
    let (client, agreed) = join_with_offer(node, channel, "permessage-deflate");
    let agreed = agreed.expect("compression is on");
    for part in ["permessage-deflate", "server_no_context_takeover", "client_no_context_takeover"] {
        assert!(agreed.split("; ").any(|have| have == part), "{part} is not in {agreed}");
    }
    client
}

/// Compresses a message as RFC 7692 says, 7.2.1.
fn deflate(message: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(message.len() / 16 + 4096);
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(message, &mut deflated, FlushCompress::Sync).unwrap();
    assert!(deflated.ends_with(&[0, 0, 0xff, 0xff]));
    deflated.truncate(deflated.len() - 4);
    deflated
}

fn inflate(deflated: &[u8]) -> Vec<u8> {
    let deflated = [deflated, &[0, 0, 0xff, 0xff]].concat();
    let mut message = Vec::with_capacity(1 << 20);
    let mut decompress = Decompress::new(false);
    decompress.decompress_vec(&deflated, &mut message, FlushDecompress::Sync).unwrap();
    message
}

fn compressed_frame(opcode: Opcode, deflated: &[u8]) -> Vec<u8> {
    let mut frame = frame(opcode, deflated);
    frame[0] |= RSV1;
    frame
}

/// The next message's opcode and content, and whether it came compressed. Answers no pings.
fn receive(client: &mut Client) -> (u8, Vec<u8>, bool) {
    let (first, payload) = client.receive_frame().unwrap();
    let is_compressed = first & RSV1 != 0;
    assert_eq!(first & !(RSV1 | 0x0f), FIN);
    let content = if is_compressed { inflate(&payload) } else { payload };
    (first & 0x0f, content, is_compressed)
}

#[test]
fn each_gets_it_in_the_way_it_asked_for() {
    Flock::each(&["ws.compression=true", "ws.ping_interval=0"], |flock| {
        let mut plain = flock.node(0).join("mixed");
        let mut deflated = join_compressed(flock.node(1), "mixed");
        let mut other = join_compressed(flock.node(0), "mixed");
        let text = "the same words again and again, ".repeat(100);
        for turn in 0..3 {
            match turn {
                0 => plain.send_text(&text),
                1 => {
                    deflated.send_bytes(&compressed_frame(Opcode::Text, &deflate(text.as_bytes())))
                }
                // Who may compress need not.
                _ => other.send_text(&text),
            }
            assert_eq!(plain.receive_text(), text);
            for client in [&mut deflated, &mut other] {
                let (opcode, content, is_compressed) = receive(client);
                assert_eq!((opcode, is_compressed), (Opcode::Text as u8, true));
                assert_eq!(content, text.as_bytes());
            }
        }
        let data: Vec<u8> = (0..2000_u32).map(|number| (number * 7919 % 251) as u8).collect();
        deflated.send_bytes(&compressed_frame(Opcode::Binary, &deflate(&data)));
        assert_eq!(plain.receive(), Message::Binary(data.clone()));
        assert_eq!(receive(&mut other).1, data);
        assert_eq!(receive(&mut deflated).1, data);
        plain.send_text("");
        assert_eq!(receive(&mut deflated).1, b"");
        assert_eq!(plain.receive_text(), "");
    });
}

#[test]
fn a_compressed_message_may_come_in_parts() {
    let node = Node::start(&["ws.compression=true"]);
    let mut client = join_compressed(&node, "parts");
    let text = "in parts ".repeat(50);
    let deflated = deflate(text.as_bytes());
    for (number, part) in deflated.chunks(7).enumerate() {
        let is_last = (number + 1) * 7 >= deflated.len();
        let opcode = if number == 0 { Opcode::Text } else { Opcode::Continuation };
        let mut bytes = frame(opcode, part);
        bytes[0] &= if is_last { 0xff } else { !FIN };
        bytes[0] |= if number == 0 { RSV1 } else { 0 };
        client.send_bytes(&bytes);
    }
    assert_eq!(receive(&mut client).1, text.as_bytes());
}

#[test]
fn without_it_being_on_or_asked_for_nothing_is_compressed() {
    let off = Node::start(&[]);
    assert_eq!(join_with_offer(&off, "c", "permessage-deflate").1, None);
    let on = Node::start(&["ws.compression=true"]);
    for offer in ["x-webkit-deflate-frame", "permessage-deflate; unknown=1"] {
        let (mut client, agreed) = join_with_offer(&on, "c", offer);
        assert_eq!(agreed, None, "{offer}");
        client.send_text(&"x".repeat(1000));
        assert_eq!(client.receive_text(), "x".repeat(1000));
        client.send_bytes(&compressed_frame(Opcode::Text, &deflate(b"x")));
        assert_eq!(client.receive_close().0, 1002, "{offer}");
    }
}

#[test]
fn bombs_and_broken_data_are_closed_and_cost_no_memory() {
    let node = Node::start(&["ws.compression=true"]);
    let mut bystander = node.join("bombs");
    let zeros = deflate(&vec![0; 1 << 20]);
    assert!(zeros.len() < 2000);
    let many_zeros = &deflate(&vec![0; 64 << 20])[..60_000];
    let not_text = deflate(b"\xff\xfe");
    let mut after = compressed_frame(Opcode::Continuation, b"x");
    after.splice(0..0, {
        let mut first = frame(Opcode::Text, b"x");
        first[0] &= !FIN;
        first
    });
    let resident = node.resident_bytes();
    for (what, bytes, code) in [
        ("a mebibyte of zeros", compressed_frame(Opcode::Binary, &zeros), 1009),
        ("60 million zeros", compressed_frame(Opcode::Binary, many_zeros), 1009),
        ("just over the limit", compressed_frame(Opcode::Text, &deflate(&[b'x'; 65_537])), 1009),
        ("not utf-8", compressed_frame(Opcode::Text, &not_text), 1007),
        ("not deflated", compressed_frame(Opcode::Binary, &[0xff; 100]), 1007),
        ("compressed continuation", after, 1002),
        ("compressed ping", compressed_frame(Opcode::Ping, b"x"), 1002),
    ] {
        for _ in 0..10 {
            let mut client = join_compressed(&node, "bombs");
            client.send_bytes(&bytes);
            assert_eq!(client.receive_close().0, code, "{what}");
        }
    }
    let grown = node.resident_bytes().saturating_sub(resident);
    assert!(grown < 16 << 20, "{} KiB more in memory", grown / 1024);
    bystander.send_text("still here");
    assert_eq!(bystander.receive_text(), "still here");
    drop(bystander);
    node.wait_until_empty();
}

#[test]
fn how_much_a_message_may_be_compressed_is_for_the_operator_to_say() {
    let zeros = compressed_frame(Opcode::Binary, &deflate(&[0; 60_000]));
    assert!(zeros.len() < 600);
    for (ratio, passes) in [("100", false), ("1000", true), ("0", true)] {
        let setting = format!("limits.inflate_ratio={ratio}");
        let node = Node::start(&["ws.compression=true", &setting]);
        let mut client = join_compressed(&node, "zeros");
        client.send_bytes(&zeros);
        match passes {
            true => assert_eq!(receive(&mut client).1, [0; 60_000], "{ratio}"),
            false => assert_eq!(client.receive_close().0, 1009, "{ratio}"),
        }
    }
}
