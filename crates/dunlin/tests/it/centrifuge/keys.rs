//! Tokens of a key that is not there: it may come with the key set, or never.

use serde_json::{Value, json};

use super::node;
use crate::harness::{CentrifugeClient, Node, token};

/// A token with these claims that names the key `new`.
fn named(claims: &Value) -> String {
    const HEADER: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6Im5ldyJ9";
    let token = token(claims);
    format!("{HEADER}.{}", token.split_once('.').unwrap().1)
}

/// A node whose key set cannot be fetched yet.
fn waiting_node() -> Node {
    node(&["client.token.jwks_public_endpoint=https://localhost:1/keys"])
}

#[test]
fn a_key_that_may_come_with_the_set_is_waited_for() {
    let node = waiting_node();
    let mut fresh = CentrifugeClient::open(&node);
    assert_eq!(fresh.error("connect", json!({"token": named(&json!({"sub": "42"}))})), 100);

    let mut client = CentrifugeClient::connect(&node, "42");
    let claims = json!({"sub": "42", "channel": "closed:c"});
    let asked = json!({"channel": "closed:c", "token": named(&claims)});
    assert_eq!(client.error("subscribe", asked.clone()), 100);
    client.result("subscribe", json!({"channel": "closed:c", "token": token(&claims)}));
    assert_eq!(client.error("sub_refresh", asked), 100);
    assert_eq!(client.error("refresh", json!({"token": named(&json!({"sub": "42"}))})), 100);
    client.expect_nothing();
}

#[test]
fn without_a_set_no_key_comes() {
    let node = node(&[]);
    let mut client = CentrifugeClient::open(&node);
    client.pipeline(&[("connect", json!({"token": named(&json!({"sub": "42"}))}))]);
    client.expect_close(3500);
}
