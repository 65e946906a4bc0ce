//! What the log says of connections: who came, what they did, why they were closed.

use serde_json::json;

use crate::harness::{
    CentrifugeClient, KEY_SETTING, Message, Node, SECRET_SETTING, token, wait_until,
};

/// The lines of the log that have all of these words.
fn lines(node: &Node, words: &[&str]) -> Vec<String> {
    let log = node.log();
    let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    lines.map(str::to_owned).collect()
}

/// The one line of the log that has all of these words, once it is there.
#[track_caller]
fn line(node: &Node, words: &[&str]) -> String {
    wait_until(&format!("{words:?}\n{}", node.log()), || !lines(node, words).is_empty());
    let mut found = lines(node, words);
    assert_eq!(found.len(), 1, "{words:?}: {found:#?}");
    found.remove(0)
}

#[track_caller]
fn assert_says(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word} is not in {line}");
    }
}

#[test]
fn a_close_by_the_server_is_told_with_its_reason_but_not_each_of_many() {
    let node = Node::start(&[]);
    for _ in 0..8 {
        let mut client = node.join("chat");
        client.send_bytes(b"\x81\x01x");
        assert_eq!(client.receive_close().0, 1002);
    }
    drop(node.join("chat"));
    node.wait_until_empty();
    let told = || lines(&node, &["INFO", "closed a connection", "why=\"protocol_error\""]);
    wait_until("five closes are told", || told().len() == 5);
    assert_says(
        &told()[0],
        &[
            "address=\"127.0.0.1\"",
            "dialect=\"plain\"",
            "transport=\"ws\"",
            "code=1002",
            "reason=\"protocol error\"",
            "open_for=",
        ],
    );
    // What is ordinary, or no close at all, is nothing for this level.
    assert_eq!(lines(&node, &["connection="]).len(), 5, "{}", node.log());
}

#[test]
fn each_step_of_a_connection_is_told_at_level_debug() {
    let settings = [
        SECRET_SETTING,
        KEY_SETTING,
        "log.level=info,dunlin::connection=debug,dunlin::api=debug",
        "channel.without_namespace.allow_subscribe_for_client=true",
    ];
    let node = Node::start(&settings);
    let pass = token(&json!({"sub": "eve"}));
    let mut client = CentrifugeClient::open(&node);
    let id = client.enter(&pass)["client"].as_str().unwrap().to_owned();
    client.subscribe("chat");
    assert_eq!(client.error("subscribe", json!({"channel": "no:such"})), 102);

    let entry = line(&node, &["let a client in", &id]);
    assert_says(&entry, &["user=\"eve\"", "DEBUG"]);
    let connection = entry.split_whitespace().find(|word| word.starts_with("connection="));
    let connection = connection.unwrap();
    let opened = line(&node, &["opened a connection", connection]);
    assert_says(&opened, &["address=\"127.0.0.1\"", "dialect=\"centrifuge-json\""]);
    line(&node, &["subscribed", connection, "channel=\"chat\""]);
    let refused = line(&node, &["refused a command", connection]);
    assert_says(&refused, &["code=102", "why=\"unknown channel\""]);

    node.result(
        "disconnect",
        r#"{"user": "eve", "disconnect": {"code": 4100, "reason": "sold\nout"}}"#,
    );
    while !matches!(client.socket.receive(), Message::Close(4100, _)) {}
    let closed = line(&node, &["closed a connection", connection]);
    let says =
        ["INFO", &id, "user=\"eve\"", "why=\"forced\"", "code=4100", "reason=\"sold\\nout\""];
    assert_says(&closed, &says);
    line(&node, &["did what the application asked for", "method=\"disconnect\""]);
    assert_eq!(node.error("publish", "{}"), 107);
    line(&node, &["did not do", "method=\"publish\"", "code=107", "data"]);

    drop(node.join("news"));
    line(&node, &["DEBUG", "closed a connection", "dialect=\"plain\"", "why=\"client_left\""]);
    assert!(!node.log().contains(&pass), "tokens are secrets:\n{}", node.log());
}

#[test]
fn nobody_writes_lines_of_his_own_into_the_log() {
    let settings = [
        SECRET_SETTING,
        "log.level=debug",
        "channel.without_namespace.allow_subscribe_for_client=true",
    ];
    let node = Node::start(&settings);
    let user =
        format!("eve\n2030-01-01T00:00:00Z  INFO dunlin: forged\u{1b}[2K{}", "x".repeat(150));
    let mut client = CentrifugeClient::open(&node);
    client.enter(&token(&json!({"sub": user})));
    let channel = format!("a forged {}", "y".repeat(150));
    client.subscribe(&channel);
    drop(client);
    line(&node, &["closed a connection", "why=\"client_left\"", "eve"]);
    let log = node.log();
    let forged: Vec<_> = log.lines().filter(|line| line.starts_with("forged")).collect();
    assert!(forged.is_empty() && !log.contains('\u{1b}'), "{log}");
    assert!(log.lines().all(|line| !line.starts_with("2030")), "{log}");
    for name in ["x", "y"] {
        assert!(!log.contains(&name.repeat(101)), "long names are cut:\n{log}");
    }
}
