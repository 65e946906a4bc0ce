//! What the application orders of clients reaches them on whichever node they are, and what it asks
//! is answered by all nodes.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    CentrifugeClient, Flock, KEY_SETTING, Message, Node, NodeCommand, SECRET_SETTING, Session,
    token, wait_until,
};

const SETTINGS: [&str; 4] = [
    KEY_SETTING,
    SECRET_SETTING,
    "channel.without_namespace.allow_subscribe_for_client=true",
    "channel.without_namespace.presence=true",
];

#[test]
fn a_user_is_disconnected_on_every_node() {
    Flock::each(&SETTINGS, |flock| {
        let connect = |turn, user| Session::connect(flock.node(turn).address, user);
        let (one, two, spared) = (connect(0, "42"), connect(1, "42"), connect(1, "42"));
        let mut other = connect(1, "43");
        let body = json!({"user": "42", "whitelist": [spared.id]}).to_string();
        assert_eq!(flock.nodes[0].result("disconnect", &body), json!({}));
        for gone in [one, two] {
            assert_eq!(gone.receive_close(), (3503, "force disconnect".to_owned()));
        }

        let third = connect(0, "42");
        let body = json!({
            "user": "42", "client": spared.id, "disconnect": {"code": 4321, "reason": "go"},
        });
        flock.node(0).result("disconnect", &body.to_string());
        assert_eq!(spared.receive_close(), (4321, "go".to_owned()));
        let body = json!({"user": "42", "session": third.id}).to_string();
        flock.node(1).result("disconnect", &body);
        assert_eq!(third.receive_close().0, 3503);

        assert_eq!(flock.node(0).result("disconnect", r#"{"user":"nobody"}"#), json!({}));
        assert!(other.is_undisturbed());
    });
}

/// The code that says that all is done reaches the client; the one that says that a socket just
/// ended is told by ending it, so that SDKs come again.
#[test]
fn a_connection_ends_in_order_or_without_a_word() {
    Flock::each(&SETTINGS, |flock| {
        let mut client = CentrifugeClient::connect(flock.node(1), "42");
        let order = |code: u32| {
            let disconnect = json!({"code": code, "reason": "done"});
            let body = json!({"user": "42", "disconnect": disconnect}).to_string();
            flock.node(0).result("disconnect", &body);
        };
        order(1000);
        assert_eq!(client.socket.receive(), Message::Close(1000, "done".to_owned()));
        let mut client = CentrifugeClient::connect(flock.node(1), "42");
        order(3000);
        assert_eq!(client.socket.receive(), Message::End);
    });
}

#[test]
fn subscriptions_are_made_and_ended_on_every_node() {
    Flock::each(&SETTINGS, |flock| {
        let mut sessions: Vec<_> =
            (0..3).map(|turn| Session::connect(flock.node(turn).address, "42")).collect();
        let mut other = Session::connect(flock.node(1).address, "43");
        let body = r#"{"user":"42","channel":"news","data":{"a": 1}}"#;
        assert_eq!(flock.nodes[0].result("subscribe", body), json!({}));
        for session in &mut sessions {
            let push = &session.receive()["push"];
            assert_eq!(push["channel"], "news");
            assert_eq!(push["subscribe"]["data"], json!({"a": 1}));
        }
        flock.nodes[0].result("publish", r#"{"channel":"news","data":7}"#);
        for session in &mut sessions {
            assert_eq!(session.receive()["push"]["pub"]["data"], 7);
        }
        let body = json!({"user": "42", "channel": "news", "client": sessions[2].id}).to_string();
        flock.nodes[0].result("unsubscribe", &body);
        assert_eq!(sessions[2].receive()["push"]["unsubscribe"]["code"], 2000);
        flock.nodes[0].result("unsubscribe", r#"{"user":"42"}"#);
        for session in &mut sessions[..2] {
            assert_eq!(session.receive()["push"]["unsubscribe"]["code"], 2000);
        }
        for session in sessions.iter_mut().chain([&mut other]) {
            assert!(session.is_undisturbed());
        }
    });
}

#[test]
fn connections_expire_when_the_application_says_so() {
    Flock::each(&SETTINGS, |flock| {
        let one = Session::connect(flock.node(1).address, "42");
        flock.nodes[0].result("refresh", r#"{"user":"42","expired":true}"#);
        assert_eq!(one.receive_close().0, 3005);
    });
}

#[test]
fn nobody_has_the_names_of_two_connections() {
    let node = Node::start(&[KEY_SETTING, SECRET_SETTING]);
    let (mut one, mut two) =
        (Session::connect(node.address, "42"), Session::connect(node.address, "42"));
    for method in ["subscribe", "unsubscribe", "disconnect", "refresh"] {
        let body = json!({
            "user": "42", "channel": "c", "expired": true, "client": one.id, "session": two.id,
        });
        assert_eq!(node.result(method, &body.to_string()), json!({}), "{method}");
    }
    assert!(one.is_undisturbed() && two.is_undisturbed());
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let node = Node::start(&[KEY_SETTING]);
    let long = "x".repeat(256);
    for (method, body, code) in [
        ("disconnect", json!({}), 107),
        ("disconnect", json!({"user": ""}), 107),
        ("disconnect", json!({"client": "c"}), 107),
        ("refresh", json!({"client": "c", "session": "d"}), 107),
        ("disconnect", json!({"user": "4", "disconnect": {"code": 1001}}), 107),
        ("disconnect", json!({"user": "4", "disconnect": {"code": 2999}}), 107),
        ("disconnect", json!({"user": "4", "disconnect": {"code": 5000}}), 107),
        ("disconnect", json!({"user": "4", "disconnect": {"reason": long}}), 107),
        ("subscribe", json!({"user": "4"}), 107),
        ("subscribe", json!({"channel": "c"}), 107),
        ("subscribe", json!({"user": "4", "channel": "none:c"}), 102),
        ("subscribe", json!({"user": "4", "channel": "c", "b64info": "e30"}), 107),
        ("subscribe", json!({"user": "4", "channel": "c", "b64data": "aGk="}), 107),
        ("unsubscribe", json!({"channel": "c"}), 107),
        ("unsubscribe", json!({"user": "4", "channel": "none:c"}), 102),
        ("refresh", json!({"expired": true}), 107),
        ("revoke_token", json!({}), 107),
        ("revoke_token", json!({"uid": long}), 107),
        ("invalidate_user_tokens", json!({"issued_before": 1}), 107),
        ("invalidate_user_tokens", json!({"user": "4", "channel": "c"}), 108),
        ("connections", json!({"user": "4", "expression": "true"}), 108),
        ("channels", json!({"pattern": long}), 107),
    ] {
        assert_eq!(node.error(method, &body.to_string()), code, "{method} {body}");
    }
}

#[test]
fn a_revoked_token_ends_its_connection_and_opens_no_other() {
    Flock::each(&SETTINGS, |flock| {
        let (bad, good) = (json!({"sub": "42", "jti": "bad"}), json!({"sub": "42", "jti": "good"}));
        let connect = |turn, claims| Session::connect_by(flock.node(turn).address, claims);
        let (gone, mut stays) = (connect(1, &bad), connect(1, &good));
        let answer = flock.nodes[0].result("revoke_token", r#"{"uid":"bad"}"#);
        assert_eq!(answer, json!({}));
        assert_eq!(gone.receive_close().0, 3500);
        for node in &flock.nodes {
            wait_until("the token counts nowhere any more", || {
                Session::try_connect(node.address, &bad).is_err()
            });
        }
        assert!(stays.is_undisturbed());

        let (old, new) = (json!({"sub": "42", "iat": 1000}), json!({"sub": "42", "iat": 2000}));
        let (gone, mut stays) = (connect(1, &old), connect(1, &new));
        let body = r#"{"user":"42","issued_before":1500}"#;
        flock.nodes[0].result("invalidate_user_tokens", body);
        assert_eq!(gone.receive_close().0, 3500);
        assert!(stays.is_undisturbed());
    });
}

#[test]
fn a_revoked_token_ends_the_subscription_that_it_opened() {
    Flock::each(&SETTINGS, |flock| {
        let claims = json!({"sub": "42", "jti": "connects"});
        let mut client = Session::connect_by(flock.node(1).address, &claims);
        let right = token(&json!({"sub": "42", "channel": "$a", "jti": "subscribes"}));
        let subscribe = json!({"subscribe": {"channel": "$a", "token": right}});
        assert!(client.ask(&subscribe)["subscribe"].is_object());
        flock.nodes[0].result("revoke_token", r#"{"uid":"subscribes"}"#);
        let push = client.receive();
        assert_eq!(push["push"]["unsubscribe"]["code"], 2000, "{push}");
        assert_eq!(client.ask(&subscribe)["error"]["code"], 103);
    });
}

#[test]
fn a_node_that_starts_later_knows_what_is_revoked() {
    let flock = Flock::redis(1, &SETTINGS);
    for number in 0..1200 {
        flock.nodes[0].result("revoke_token", &format!(r#"{{"uid":"t{number}"}}"#));
    }
    let url = format!("redis.url={}", flock.redis.as_ref().unwrap().url());
    let later = NodeCommand::new().set(&[&url]).set(&SETTINGS).start();
    for number in [0, 700, 1199] {
        let claims = json!({"sub": "42", "jti": format!("t{number}")});
        let refusal = Session::try_connect(later.address, &claims).err().unwrap();
        assert_eq!(refusal.0, 3500);
    }
    Session::connect_by(later.address, &json!({"sub": "42", "jti": "t1200"}));
}

#[test]
fn nodes_tell_how_they_are() {
    let flock = Flock::redis(2, &SETTINGS);
    let mut sessions: Vec<_> =
        (0..3).map(|turn| Session::connect(flock.node(turn).address, "42")).collect();
    for session in &mut sessions {
        session.ask(&json!({"subscribe": {"channel": "news"}}));
    }
    let info = |node: &Node| node.result("info", "{}");
    wait_until("the nodes know each other", || {
        flock.nodes.iter().all(|node| info(node)["nodes"].as_array().unwrap().len() == 2)
    });
    let all = info(&flock.nodes[0]);
    let sum = |field: &str| -> u64 {
        all["nodes"].as_array().unwrap().iter().map(|node| node[field].as_u64().unwrap()).sum()
    };
    assert_eq!((sum("num_clients"), sum("num_subs")), (3, 3));
    assert_eq!((sum("num_users"), sum("num_channels")), (2, 2));
    for node in all["nodes"].as_array().unwrap() {
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
        assert!(node["name"].is_string() && node["uptime"].is_u64());
        assert_eq!(node["uid"].as_str().unwrap().len(), 16);
    }
    assert!(all.get("missing").is_none());
}

#[test]
fn channels_and_connections_of_all_nodes_are_found() {
    Flock::each(&SETTINGS, |flock| {
        let plain = flock.join("chat", 2);
        let mut sessions: Vec<_> =
            (0..4).map(|turn| Session::connect(flock.node(turn).address, "42")).collect();
        for session in &mut sessions {
            session.ask(&json!({"subscribe": {"channel": "news"}}));
        }
        let other = Session::connect(flock.node(1).address, "43");
        let node = &flock.nodes[0];
        wait_until("the nodes know each other", || {
            node.result("info", "{}")["nodes"].as_array().unwrap().len() == flock.nodes.len()
        });
        let channels = |pattern: &str| {
            node.result("channels", &json!({"pattern": pattern}).to_string())["channels"].clone()
        };
        let news = json!({"news": {"num_clients": 4}});
        assert_eq!(channels("n*"), news);
        assert_eq!(channels("none*"), json!({}));
        let all = json!({"news": {"num_clients": 4}, "chat": {"num_clients": 2}});
        assert_eq!(channels(""), all);

        let found = node.result("connections", r#"{"user":"42"}"#)["connections"].clone();
        assert_eq!(found.as_object().unwrap().len(), 4);
        for session in &sessions {
            let connection = &found[&session.id];
            assert_eq!(connection["user"], "42");
            assert_eq!(connection["transport"], "websocket");
            assert_eq!(connection["protocol"], "json");
            assert_eq!(connection["state"]["channels"], json!({"news": {}}));
        }
        let all = node.result("connections", "{}")["connections"].clone();
        assert_eq!(all[&other.id]["user"], "43");
        drop(plain);
    });
}

#[test]
fn an_answer_in_many_parts_is_whole() {
    let flock = Flock::redis(2, &SETTINGS);
    let mut session = Session::connect(flock.nodes[1].address, "42");
    for number in 0..100 {
        session.ask(&json!({"subscribe": {"channel": format!("c{number}")}}));
    }
    let plain: Vec<_> = (0..500).map(|number| flock.nodes[1].join(&format!("p{number}"))).collect();
    let node = &flock.nodes[0];
    wait_until("all are found", || {
        let found = node.result("channels", "{}");
        found["channels"].as_object().unwrap().len() == 600
    });
    drop(plain);
}

#[test]
fn a_node_that_does_not_answer_is_named() {
    let flock = Flock::redis(2, &[&SETTINGS[..], &["node.name=me"]].concat());
    let (asked, mute) = (&flock.nodes[0], &flock.nodes[1]);
    let nodes = || asked.result("info", "{}")["nodes"].as_array().unwrap().clone();
    wait_until("the nodes know each other", || nodes().len() == 2);
    mute.signal(Signal::STOP);
    let missing = |answer: &Value| answer["missing"].as_array().map_or(0, Vec::len);
    let answer = asked.result("info", "{}");
    assert_eq!((answer["nodes"].as_array().unwrap().len(), missing(&answer)), (1, 1));
    assert_eq!(answer["missing"][0]["name"], "me");
    let answer = asked.result("channels", "{}");
    assert_eq!(missing(&answer), 1);
    // After a while it is none of the nodes any more.
    wait_until("it is forgotten", || missing(&asked.result("info", "{}")) == 0);
    mute.signal(Signal::CONT);
    wait_until("it is known again", || nodes().len() == 2);
}

#[test]
fn a_node_that_leaves_is_not_waited_for() {
    let mut flock = Flock::redis(
        2,
        &[&SETTINGS[..], &["shutdown.accept_for=0s", "shutdown.drain=0s"]].concat(),
    );
    let nodes = |flock: &Flock| flock.nodes[0].result("info", "{}");
    wait_until("the nodes know each other", || {
        nodes(&flock)["nodes"].as_array().unwrap().len() == 2
    });
    flock.nodes[1].signal(Signal::TERM);
    flock.nodes[1].wait_for_end();
    let answer = nodes(&flock);
    assert_eq!(answer["nodes"].as_array().unwrap().len(), 1);
    assert!(answer.get("missing").is_none(), "{answer}");
}
