//! The history command: which part of what is kept it tells.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{each, node, nodes};
use crate::harness::{CentrifugeClient, token};

/// What is asked for beside the channel, and the offsets of what comes.
#[track_caller]
fn check(client: &mut CentrifugeClient, rest: &Value, expected: &[u64]) {
    let mut params = json!({"channel": "kept:a"});
    params.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let page = client.result("history", params);
    let none = Vec::new();
    let publications = page["publications"].as_array().unwrap_or(&none);
    let offsets: Vec<_> = publications.iter().map(|it| it["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, expected, "{rest}");
    assert_eq!(page["offset"], 12, "{rest}");
    assert!(publications.iter().all(|it| it["data"] == it["offset"]), "{page}");
}

#[test]
fn a_history_is_read_page_by_page() {
    each(&["client.history_max_publication_limit=8"], |flock| {
        let mut client = CentrifugeClient::connect(flock.node(1), "42");
        let epoch = client.subscribe("kept:a")["epoch"].clone();
        for number in 1..=12 {
            client.publish("kept:a", number);
            assert_eq!(client.publication("kept:a"), number);
        }
        let since = |offset: u64, limit: i64, is_reverse: bool| {
            let since = json!({"offset": offset, "epoch": epoch});
            json!({"since": since, "limit": limit, "reverse": is_reverse})
        };
        // Ten are kept, eight are told at once.
        check(&mut client, &json!({}), &[]);
        check(&mut client, &json!({"limit": 0}), &[]);
        check(&mut client, &json!({"limit": 2}), &[3, 4]);
        check(&mut client, &json!({"limit": -1}), &[3, 4, 5, 6, 7, 8, 9, 10]);
        check(&mut client, &json!({"limit": 1000}), &[3, 4, 5, 6, 7, 8, 9, 10]);
        check(&mut client, &json!({"limit": 2, "reverse": true}), &[12, 11]);
        check(&mut client, &since(10, 5, false), &[11, 12]);
        check(&mut client, &since(0, 1, false), &[3]);
        check(&mut client, &since(12, 5, false), &[]);
        check(&mut client, &since(5, 5, true), &[4, 3]);
        check(&mut client, &since(3, 5, true), &[]);
        check(&mut client, &json!({"since": {"offset": 11}, "limit": 5}), &[12]);
        for (rest, code) in [
            (json!({"since": {"offset": 0, "epoch": epoch}, "reverse": true}), 107),
            (json!({"since": {"offset": 1, "epoch": "0123456789abcdef"}}), 112),
            (json!({"since": {"offset": 1, "epoch": "foreign"}, "limit": 1}), 112),
        ] {
            let mut params = rest.clone();
            params["channel"] = json!("kept:a");
            assert_eq!(client.error("history", params), code, "{rest}");
        }
    });
}

#[test]
fn who_may_read_a_history() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    for (channel, code) in
        [("", 107), ("not:there", 102), ("c", 108), ("kept:a", 103), ("cache:a", 103)]
    {
        assert_eq!(client.error("history", json!({"channel": channel})), code, "{channel}");
    }
    client.subscribe("kept:a");
    client.result("history", json!({"channel": "kept:a"}));
    client.subscribe("cache:a");
    assert_eq!(client.error("history", json!({"channel": "cache:a"})), 103);
}

#[test]
fn who_may_publish() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    for (channel, data, code) in [
        ("", json!(1), 107),
        ("\u{e9}", json!(1), 107),
        ("not:there", json!(1), 102),
        ("closed:c", json!(1), 103),
        ("seen:a", json!(1), 103),
    ] {
        let params = json!({"channel": channel, "data": data});
        assert_eq!(client.error("publish", params), code, "{channel}");
    }
    assert_eq!(client.error("publish", json!({"channel": "c"})), 107);
    let token = token(&json!({"sub": "42", "channel": "closed:c"}));
    client.result("subscribe", json!({"channel": "closed:c", "token": token}));
    assert_eq!(client.error("publish", json!({"channel": "closed:c", "data": 1})), 103);
    client.expect_nothing();
}

/// However much a client asks for at once, others are answered in between.
#[test]
fn who_asks_for_much_does_not_make_others_wait() {
    type Slow = (i64, i64, i64, Vec<Vec<u8>>, String, String);
    let flock = nodes(1, &[]);
    let redis = flock.redis.as_ref().unwrap();
    let mut clients = ["kept:greedy", "kept:modest"].map(|channel| {
        let mut client = CentrifugeClient::connect(flock.node(0), "42");
        client.subscribe(channel);
        client
    });
    let mut observer = redis.connect();
    for (name, value) in [("slowlog-log-slower-than", 0), ("slowlog-max-len", 1000)] {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut observer).unwrap();
    }

    let server = Pid::from_raw(i32::try_from(redis.pid()).unwrap()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    let [greedy, modest] = &mut clients;
    greedy.pipeline(&vec![("history", json!({"channel": "kept:greedy"})); 200]);
    greedy.expect_nothing();
    let id = modest.pipeline(&[("history", json!({"channel": "kept:modest"}))]);
    modest.expect_nothing();
    kill_process(server, Signal::CONT).unwrap();
    assert!(modest.reply(id).get("history").is_some());

    let log: Vec<Slow> = redis::cmd("SLOWLOG").arg("GET").arg(-1).query(&mut observer).unwrap();
    let asks = |call: &Slow, name: &str| {
        let is_about = |argument: &Vec<u8>| argument.ends_with(name.as_bytes());
        call.3[0].starts_with(b"EVAL") && call.3.iter().any(is_about)
    };
    let before = log.iter().rev().take_while(|call| !asks(call, "kept:modest"));
    let before = before.filter(|call| asks(call, "kept:greedy")).count();
    assert!(before <= 4, "{before} questions of the other one came first");
}
