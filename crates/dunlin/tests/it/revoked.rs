//! What is revoked stays revoked, whatever becomes of Redis's data.

use serde_json::json;

use crate::harness::{
    Flock, KEY_SETTING, Node, NodeCommand, Redis, SECRET_SETTING, Session, get, wait_until,
};

const SETTINGS: [&str; 2] = [KEY_SETTING, SECRET_SETTING];

/// Another node of the flock.
fn command(redis: &Redis) -> NodeCommand {
    NodeCommand::new().set(&SETTINGS).set(&[&format!("redis.url={}", redis.url())])
}

/// Whether the node takes this token.
fn takes(node: &Node, token_id: &str) -> bool {
    Session::try_connect(node.address, &json!({"sub": "42", "jti": token_id})).is_ok()
}

/// The keys of what is kept of the revocations.
fn keys(redis: &Redis) -> Vec<String> {
    redis::cmd("KEYS").arg("*$ctl.revoked").query(&mut redis.connect()).unwrap()
}

#[test]
fn revocations_outlive_the_data_of_redis() {
    let mut flock = Flock::redis(2, &SETTINGS);
    for number in 0..700 {
        flock.nodes[0].result("revoke_token", &format!(r#"{{"uid":"t{number}"}}"#));
    }
    flock.nodes[0].result("invalidate_user_tokens", r#"{"user":"43"}"#);
    wait_until("both know it", || !takes(&flock.nodes[1], "t699"));
    let redis = flock.redis.as_ref().unwrap();
    redis::cmd("FLUSHALL").exec(&mut redis.connect()).unwrap();

    let later = command(redis).start();
    let is_as_before = |node: &Node| {
        for token_id in ["t0", "t350", "t699"] {
            assert!(!takes(node, token_id), "{token_id}");
        }
        let claims = json!({"sub": "43", "iat": 1000});
        assert_eq!(Session::try_connect(node.address, &claims).err().unwrap().0, 3500);
        assert!(takes(node, "t700"));
    };
    is_as_before(&later);
    // It is in Redis again, for those that start when nobody else is there.
    flock.nodes.iter_mut().for_each(Node::kill);
    drop(later);
    is_as_before(&command(redis).start());
}

#[test]
fn nobody_comes_by_a_token_before_it_is_known_what_is_revoked() {
    let flock = Flock::redis(1, &SETTINGS);
    flock.nodes[0].result("revoke_token", r#"{"uid":"bad"}"#);
    let redis = flock.redis.as_ref().unwrap();
    let broken = keys(redis);
    drop(flock.nodes);
    for key in &broken {
        redis::cmd("SET").arg(key).arg("no stream").exec(&mut redis.connect()).unwrap();
    }

    let node = command(redis).start();
    let ready = get(node.address, "/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("revocations_unknown"), "{}", ready.body);
    let upgrade = get(node.address, "/connection/websocket");
    assert_eq!(upgrade.status, 503, "{upgrade:?}");
    assert!(node.log().contains("which tokens are revoked"), "{}", node.log());
    node.join("no-token-needed");

    redis::cmd("DEL").arg(broken).exec(&mut redis.connect()).unwrap();
    wait_until("it is ready", || node.status_of("/ready") == 200);
    assert!(takes(&node, "good"));
}
