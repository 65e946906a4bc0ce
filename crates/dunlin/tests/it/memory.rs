//! Memory: when it becomes short, nobody new is let in, and those pay for whom most is kept.

use crate::harness::{Client, Message, Node, NodeCommand, get, wait_until};

/// A publication that is nearly as long as one may be.
const LARGE: usize = 900_000;

#[test]
fn short_memory_costs_those_for_whom_most_is_kept() {
    let node = Node::start(&[
        "limits.memory_bytes=128MiB",
        "limits.message_bytes=1MiB",
        // Neither is what ends them.
        "limits.backlog_age=10m",
        "ws.ping_interval=0s",
    ]);
    let mut good = node.join("good");
    let channels: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    let join = |channel: &String| Client::join_with_little_room(node.address, channel);
    let hogs: Vec<_> = channels.iter().map(join).collect();
    let mut publishers: Vec<_> = channels.iter().map(|channel| node.join(channel)).collect();
    let large = vec![b'x'; LARGE];
    let mut refusal = None;
    for publisher in &mut publishers {
        publisher.send_binary(&large);
        match publisher.receive() {
            // As much is kept for the one that does not read.
            Message::Binary(echo) => assert!(echo == large, "{} bytes", echo.len()),
            // So much was kept of its own message at that moment.
            other => assert_eq!(other, Message::Close(1013, "node is short of memory".into())),
        }
        good.send_text("still there?");
        assert_eq!(good.receive_text(), "still there?");
        refusal = refusal.or(Client::try_open(node.address, "/ws/good").err().flatten());
        if node.log().contains("memory is critical") {
            break;
        }
    }
    wait_until("somebody is closed for it", || node.metrics().closed("memory_short") > 0.0);
    let closed = node.metrics().closed("memory_short");
    assert!(closed < 50.0, "{closed} are closed where about eight are enough:\n{}", node.log());
    let refusal = refusal.unwrap_or_else(|| panic!("everybody was let in:\n{}", node.log()));
    assert_eq!(refusal.status, 503);
    assert!(refusal.body.contains("memory_short"), "{}", refusal.body);
    assert!(refusal.header("retry-after").is_some());
    assert!(node.log().contains("memory is tight"), "{}", node.log());
    drop((hogs, publishers));
    wait_until("memory is ample again", || get(node.address, "/ready").status == 200);
    node.join("good").send_text("still there?");
    assert_eq!(good.receive_text(), "still there?");
}

#[test]
fn a_node_that_is_short_of_memory_is_not_ready() {
    let node = Node::start(&["limits.memory_bytes=1MiB"]);
    wait_until("it is seen", || get(node.address, "/ready").status == 503);
    assert!(get(node.address, "/ready").body.contains("memory_short"));
    assert_eq!(node.status_of("/health"), 200);
}

#[test]
fn what_the_system_allows_is_a_bound() {
    let node = NodeCommand::after("ulimit -d 400000").start();
    wait_until("it is seen", || {
        node.metrics().sum("dunlin_memory_limit_bytes") == 400_000.0 * 1024.0
    });
    assert!(node.metrics().sum("dunlin_memory_bytes") > 0.0);
    assert!(node.log().contains("a cache takes a quarter of the memory"), "{}", node.log());
    assert_eq!(node.status_of("/ready"), 200);
}
