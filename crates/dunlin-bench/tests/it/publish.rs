//! `publish`: every answer is counted, and a connection that ends is a failure.

use crate::harness::{Floor, report};

#[test]
fn answers_are_counted() {
    let floor = Floor::start(&["--centrifuge"]);
    let mut arguments = vec!["publish", "--url", &floor.url, "--dialect", "centrifuge-json"];
    arguments.extend(["--connections", "4", "--window", "8", "--seconds", "0.3"]);
    let (success, published) = report(&arguments);
    assert!(success, "{published:#}");
    let count = |key: &str| published[key].as_u64().unwrap();
    assert!(count("acknowledged") > 100, "{published:#}");
    // One channel for all: each publication comes back to all four, but for the last ones.
    assert!(count("deliveries") > 2 * count("acknowledged"), "{published:#}");
}

#[test]
fn no_answer_is_no_success() {
    let dead = ["publish", "--url", "ws://127.0.0.1:1/connection/websocket", "--seconds", "0.1"];
    let (success, published) = report(&dead);
    assert!(!success, "{published:#}");
    assert_eq!(published["failures"]["Connection refused (os error 111)"], 16, "{published:#}");
}
