//! What namespaces allow to clients of the plain dialect.

use std::fs;

use crate::harness::{Client, Message, Node, NodeCommand, Opcode, frame, wait_until};

/// A node with this configuration file.
fn node(file: &str) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dunlin.toml");
    fs::write(&path, file).unwrap();
    NodeCommand::new().file(&path).start()
}

const NAMESPACES: &str = r#"
    [[channel.namespaces]]
    name = "open"
    allow_plain_subscribe = true
    allow_plain_publish = true
    channel_regex = "^[a-z]+$"

    [[channel.namespaces]]
    name = "news"
    allow_plain_subscribe = true

    [[channel.namespaces]]
    name = "closed"
    allow_plain_publish = true
"#;

#[test]
fn plain_clients_join_only_where_their_namespace_lets_them() {
    let node = node(NAMESPACES);
    for (channel, status, code) in [
        ("open:9", 400, "bad_channel"),
        ("closed:a", 403, "not_allowed"),
        ("other:a", 404, "unknown_channel"),
        (":a", 404, "unknown_channel"),
        ("Open:a", 404, "unknown_channel"),
    ] {
        let refusal = Client::try_open(node.address, &format!("/ws/{channel}")).err().flatten();
        let refusal = refusal.unwrap_or_else(|| panic!("{channel} is taken"));
        assert_eq!(refusal.status, status, "{channel}: {}", refusal.body);
        assert!(refusal.body.contains(&format!("\"{code}\"")), "{channel}: {}", refusal.body);
    }
    let mut clients = ["open:a", "open:a", "anything"].map(|channel| node.join(channel));
    clients[0].send_text("to all");
    clients[2].send_text("to itself");
    assert_eq!(clients[1].receive_text(), "to all");
    assert_eq!(clients[2].receive_text(), "to itself");
    drop(clients);
    node.wait_until_empty();
}

#[test]
fn who_may_only_listen_is_closed_when_it_publishes() {
    let node = node(NAMESPACES);
    let mut listener = node.join("news:a");
    let mut speaker = node.join("news:a");
    speaker.send_text("me too");
    assert_eq!(speaker.receive_close(), (1008, "publishing is not allowed here".to_owned()));
    wait_until("the close is counted", || node.metrics().closed("not_allowed") == 1.0);
    assert_eq!(node.metrics().sum("dunlin_publications_in_total"), 0.0);
    // Who keeps quiet stays, and heard nothing of it.
    listener.send_bytes(&frame(Opcode::Ping, b"still here"));
    assert_eq!(listener.receive(), Message::Pong(b"still here".to_vec()));
}

#[test]
fn the_plain_dialect_can_be_closed_altogether() {
    let node = node("[channel.without_namespace]\nallow_plain_subscribe = false");
    for path in ["/ws", "/ws/chat"] {
        let refusal = Client::try_open(node.address, path).err().flatten().unwrap();
        assert_eq!(refusal.status, 403, "{}", refusal.body);
    }
}
