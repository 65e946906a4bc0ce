//! The HTTP API: who may call it, what it publishes, what it tells of channels, and how it says no.

use std::{fs, time::Instant};

use serde_json::{Value, json};

use crate::harness::{
    Flock, KEY, KEY_SETTING, Message, Node, NodeCommand, Response, SECRET_SETTING, Session,
    exchange, get,
};

const NAMESPACES: &str = r#"
    [http_api]
    key = "k3y"

    [[channel.namespaces]]
    name = "kept"
    allow_plain_subscribe = true
    history_size = 5
    history_ttl = "60s"

    [[channel.namespaces]]
    name = "seen"
    presence = true
"#;

/// A node with the memory broker and a namespace with history.
fn node() -> Node {
    node_of(NAMESPACES)
}

/// A node with this configuration file.
fn node_of(file: &str) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dunlin.toml");
    fs::write(&path, file).unwrap();
    NodeCommand::new().file(&path).start()
}

/// What a request that is no call is told; the code is that of the status.
#[track_caller]
fn refusal(response: &Response) -> String {
    let body: Value = serde_json::from_str(&response.body).expect("refusals are JSON");
    assert_eq!(body["error"]["code"], response.status);
    body["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn only_those_who_know_a_key_may_call() {
    let node = node_of("http_api.key = [\"old key\", \"new\"]");
    for (path, headers, status) in [
        ("/api/publish", "X-API-Key: old key\r\n", 200),
        ("/api/publish", "x-api-key: new\r\n", 200),
        ("/api/publish", "Authorization: apikey new\r\n", 200),
        ("/api/publish", "Authorization: APIKEY old key\r\n", 200),
        ("/api/publish?api_key=new", "", 200),
        ("/api/publish?api_key=old%20key", "", 200),
        ("/api", "X-API-Key: new\r\n", 200),
        ("/api/publish/", "X-API-Key: new\r\n", 200),
        ("/api/", "X-API-Key: new\r\n", 200),
        ("/api/publish/", "", 401),
        ("/api/publish", "", 401),
        ("/api/publish", "X-API-Key: ne\r\n", 401),
        ("/api/publish", "X-API-Key: newer\r\n", 401),
        ("/api/publish", "X-API-Key: \r\n", 401),
        ("/api/publish", "Authorization: Bearer new\r\n", 401),
        ("/api/publish?api_key=", "", 401),
        ("/api", "", 401),
        ("/api/batch", "", 401),
        ("/api/dance", "", 401),
    ] {
        let response = node.post(path, headers, "{}");
        assert_eq!(response.status, status, "{path} {headers}");
        assert!(status != 401 || refusal(&response).contains("X-API-Key"), "{}", response.body);
    }
}

#[test]
fn without_a_key_nobody_may_call_unless_everybody_may() {
    let node = Node::start(&[]);
    assert_eq!(node.post("/api/publish", "X-API-Key: \r\n", "{}").status, 401);
    let node = Node::start(&["http_api.insecure=true"]);
    assert_eq!(node.post("/api/publish", "", "{}").status, 200);
    assert!(node.log().contains("INSECURE: http_api.insecure"), "{}", node.log());
}

#[test]
fn a_publication_reaches_subscribers_as_it_was_written() {
    Flock::each(&[KEY_SETTING], |flock| {
        let mut clients = flock.join("chat", 4);
        let data = "{ \"a\" : [1, 1e3,\"\\u00e9\"] }";
        let body = format!(r#"{{"channel":"chat","data":{data}}}"#);
        assert_eq!(flock.nodes[0].result("publish", &body), json!({}));
        let body = r#"{"channel":"chat","b64data":"AAH/"}"#;
        assert_eq!(flock.nodes[0].result("publish", body), json!({}));
        for client in &mut clients {
            assert_eq!(client.receive_text(), data);
            assert_eq!(client.receive(), Message::Binary(vec![0, 1, 255]));
        }
    });
}

#[test]
fn a_publish_that_makes_no_sense_is_refused() {
    let node = node();
    for (body, code) in [
        (r#"{"channel":"","data":1}"#, 107),
        (r#"{"data":1}"#, 107),
        (r#"{"channel":null,"data":1}"#, 107),
        (r#"{"channel":"c"}"#, 107),
        (r#"{"channel":"c","b64data":"%"}"#, 107),
        (r#"{"channel":"c\n","data":1}"#, 107),
        (r#"{"channel":"$ctl.all","data":1}"#, 107),
        (r#"{"channel":"none:c","data":1}"#, 102),
        ("", 107),
    ] {
        assert_eq!(node.error("publish", body), code, "{body}");
    }
    assert_eq!(node.result("publish", r#"{"channel":"c","data":null}"#), json!({}));
    let empty = r#"{"channel":"c","b64data":""}"#;
    assert_eq!(node.error("publish", empty), 107);
    let lenient = Node::start(&[KEY_SETTING, "channel.without_namespace.allow_empty_data=true"]);
    assert_eq!(lenient.result("publish", empty), json!({}));
    assert_eq!(lenient.error("publish", r#"{"channel":"c"}"#), 107);
    assert_eq!(node.error("rpc", r#"{"method":"m"}"#), 108);
    assert_eq!(node.error("rpc", "{}"), 107);
}

#[test]
fn history_has_what_was_published_and_answers_tell_where() {
    let node = node();
    let publish = |body: &str| node.result("publish", body);
    let first = publish(r#"{"channel":"kept:a","data":{"n": 1},"tags":{"k":"v"}}"#);
    assert_eq!(first["offset"], 1);
    let epoch = first["epoch"].as_str().unwrap();
    assert_eq!(publish(r#"{"channel":"kept:a","b64data":"AAH/"}"#)["offset"], 2);
    let skipped = r#"{"channel":"kept:a","data":0,"skip_history":true}"#;
    assert_eq!(publish(skipped), json!({}));

    let history = |rest: &str| node.call("history", &format!(r#"{{"channel":"kept:a"{rest}}}"#));
    let one = json!({"data": {"n": 1}, "offset": 1, "tags": {"k": "v"}});
    let two = json!({"data": null, "b64data": "AAH/", "offset": 2});
    let page = |kept: Value| json!({"result": {"publications": kept, "offset": 2, "epoch": epoch}});
    let since = |offset, epoch: &str| {
        format!(r#","limit":-1,"since":{{"offset":{offset},"epoch":"{epoch}"}}"#)
    };
    for (rest, answer) in [
        (String::new(), page(json!([]))),
        (r#","limit":0"#.to_owned(), page(json!([]))),
        (r#","limit":-1"#.to_owned(), page(json!([one, two]))),
        (r#","limit":1"#.to_owned(), page(json!([one]))),
        (r#","limit":1,"reverse":true"#.to_owned(), page(json!([two]))),
        (since(1, epoch), page(json!([two]))),
        (since(1, ""), page(json!([two]))),
        (since(2, epoch) + r#","reverse":true"#, page(json!([one]))),
    ] {
        assert_eq!(history(&rest), answer, "{rest}");
    }
    for (rest, code) in [
        (since(1, "0123456789abcdef"), 112),
        (since(1, "of another server"), 112),
        (since(0, epoch) + r#","reverse":true"#, 107),
    ] {
        assert_eq!(history(&rest)["error"]["code"], code, "{rest}");
    }
    assert_eq!(node.error("history", r#"{"channel":"c","limit":1}"#), 108);

    assert_eq!(node.result("history_remove", r#"{"channel":"kept:a"}"#), json!({}));
    assert_eq!(history(r#","limit":-1"#), page(json!([])));
    assert_eq!(node.error("history_remove", r#"{"channel":"c"}"#), 108);
}

#[test]
fn a_repeated_or_outdated_publish_does_nothing() {
    let node = node();
    let mut client = node.join("kept:a");
    let publish = |fields: &str| {
        let body = format!(r#"{{"channel":"kept:a","data":"{{}}",{fields}}}"#);
        node.result("publish", &body)["offset"].as_u64().unwrap()
    };
    assert_eq!(publish(r#""idempotency_key":"a""#), 1);
    assert_eq!(publish(r#""idempotency_key":"a""#), 1);
    assert_eq!(publish(r#""idempotency_key":"b""#), 2);
    assert_eq!(publish(r#""version":5,"version_epoch":"x""#), 3);
    assert_eq!(publish(r#""version":5,"version_epoch":"x""#), 3);
    assert_eq!(publish(r#""version":4,"version_epoch":"x""#), 3);
    assert_eq!(publish(r#""version":1,"version_epoch":"y""#), 4);
    for _ in 0..4 {
        assert_eq!(client.receive_text(), "\"{}\"");
    }
    node.result("publish", r#"{"channel":"kept:a","data":"last"}"#);
    assert_eq!(client.receive_text(), "\"last\"");
}

#[test]
fn nodes_share_what_is_published_and_who_is_there() {
    let settings = [
        KEY_SETTING,
        SECRET_SETTING,
        "channel.without_namespace.history_size=5",
        "channel.without_namespace.history_ttl=60s",
        "channel.without_namespace.presence=true",
        "channel.without_namespace.allow_subscribe_for_client=true",
    ];
    Flock::each(&settings, |flock| {
        let (here, there) = (flock.node(0), flock.node(1));
        let mut session = Session::connect(there.address, "42");
        session.ask(&json!({"subscribe": {"channel": "c"}}));
        let publish = r#"{"channel":"c","data":{"n":1},"tags":{"k":"v"},"idempotency_key":"i"}"#;
        let first = here.result("publish", publish);
        assert_eq!(first["offset"], 1);
        assert_eq!(there.result("publish", publish), first);
        let push = session.receive()["push"]["pub"].clone();
        assert_eq!(push["data"], json!({"n": 1}));
        assert_eq!((&push["offset"], &push["tags"]), (&json!(1), &json!({"k": "v"})));

        let history = there.result("history", r#"{"channel":"c","limit":-1}"#);
        let kept = json!([{"data": {"n": 1}, "offset": 1, "tags": {"k": "v"}}]);
        assert_eq!((&history["publications"], &history["epoch"]), (&kept, &first["epoch"]));
        here.result("history_remove", r#"{"channel":"c"}"#);
        let history = there.result("history", r#"{"channel":"c","limit":-1}"#);
        assert_eq!((&history["publications"], &history["offset"]), (&json!([]), &json!(1)));

        let member = json!({"user": "42", "client": session.id});
        let presence = here.result("presence", r#"{"channel":"c"}"#);
        assert_eq!(presence, json!({"presence": {&session.id: member}}));
        let stats = here.result("presence_stats", r#"{"channel":"c"}"#);
        assert_eq!(stats, json!({"num_clients": 1, "num_users": 1}));
    });
}

#[test]
fn a_broadcast_answers_for_each_channel_in_order() {
    let node = node();
    let mut client = node.join("kept:c1999");
    let channels: Vec<_> = (0..2000).map(|number| format!("kept:c{number}")).collect();
    let mut channels = json!(channels);
    channels[7] = json!("none:c");
    channels[8] = json!("");
    channels[9] = json!("free");
    let answer = node.result("broadcast", &json!({"channels": channels, "data": 7}).to_string());
    let responses = answer["responses"].as_array().unwrap();
    assert_eq!(responses.len(), 2000);
    for (place, response) in responses.iter().enumerate() {
        match place {
            7 => assert_eq!(response["error"]["code"], 102),
            8 => assert_eq!(response["error"]["code"], 107),
            9 => assert_eq!(*response, json!({"result": {}})),
            _ => assert_eq!(response["result"]["offset"], 1, "{place}"),
        }
    }
    assert_eq!(client.receive_text(), "7");
    assert_eq!(node.error("broadcast", r#"{"channels":[],"data":1}"#), 107);
    assert_eq!(node.error("broadcast", r#"{"channels":["c"]}"#), 107);
}

#[test]
fn presence_is_told_where_it_is_known() {
    let node = node();
    let of = |channel: &str| format!(r#"{{"channel":"{channel}"}}"#);
    assert_eq!(node.result("presence", &of("seen:a")), json!({"presence": {}}));
    let none = json!({"num_clients": 0, "num_users": 0});
    assert_eq!(node.result("presence_stats", &of("seen:a")), none);
    for method in ["presence", "presence_stats"] {
        assert_eq!(node.error(method, &of("c")), 108);
        assert_eq!(node.error(method, &of("none:c")), 102);
        assert_eq!(node.error(method, &of("")), 107);
    }
}

#[test]
fn a_batch_answers_each_call_in_order() {
    let node = node();
    for parallel in [false, true] {
        let mut commands: Vec<_> = (0..2000)
            .map(|n| json!({"publish": {"channel": format!("kept:{parallel}-{n}"), "data": n}}))
            .collect();
        commands[1] = json!({"history": {"channel": format!("kept:{parallel}-0"), "limit": 1}});
        commands[2] = json!({"presence": {"channel": "c"}});
        commands[3] = json!({"dance": {}});
        commands[4] = json!({"batch": {"commands": []}});
        let body = json!({"commands": commands, "parallel": parallel}).to_string();
        let answer = node.call("batch", &body);
        let replies = answer["replies"].as_array().unwrap();
        assert_eq!(replies.len(), 2000);
        assert_eq!(replies[0]["publish"]["offset"], 1);
        if !parallel {
            assert_eq!(replies[1]["history"]["publications"][0]["data"], 0);
        }
        for (place, code) in [(2, 108), (3, 104), (4, 104)] {
            assert_eq!(replies[place]["error"]["code"], code);
        }
        assert!(replies[5..].iter().all(|reply| reply["publish"]["offset"] == 1));
    }
    assert_eq!(node.call("batch", "{}"), json!({"replies": []}));
}

#[test]
fn the_old_form_has_a_line_for_each_reply() {
    let node = node();
    let body = r#"{"method":"publish","params":{"channel":"kept:a","data":1}}
        {"method":"presence","params":{"channel":"c"}} {"method":"dance"}"#;
    let response = node.post("/api", &format!("X-API-Key: {KEY}\r\n"), body);
    assert_eq!(response.status, 200);
    let lines: Vec<Value> =
        response.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["result"]["offset"], 1);
    assert_eq!(lines[1]["error"]["code"], 108);
    assert_eq!(lines[2]["error"]["code"], 104);
}

#[test]
fn errors_can_be_told_by_the_status() {
    let always = node_of(&NAMESPACES.replace("key =", "error_mode = \"transport\"\nkey ="));
    let asked = node();
    let key = format!("X-API-Key: {KEY}\r\n");
    let wrong = r#"{"channel":"kept:a","since":{"epoch":"x"}}"#;
    for (method, body, status, code) in [
        ("publish", r#"{"channel":"none:c","data":1}"#, 404, 102),
        ("publish", "{}", 400, 107),
        ("presence", r#"{"channel":"c"}"#, 400, 108),
        ("history", wrong, 416, 112),
    ] {
        let path = format!("/api/{method}");
        let by_header = format!("{key}X-Centrifugo-Error-Mode: transport\r\n");
        for response in [always.post(&path, &key, body), asked.post(&path, &by_header, body)] {
            assert_eq!(response.status, status, "{method}");
            let error: Value = serde_json::from_str(&response.body).unwrap();
            assert_eq!(error["code"], code, "{method}");
            assert!(error["message"].is_string());
        }
        assert_eq!(asked.error(method, body), code);
    }
    assert_eq!(always.result("publish", r#"{"channel":"c","data":1}"#), json!({}));
}

#[test]
fn bodies_are_bounded_and_have_to_be_json() {
    let node = Node::start(&[KEY_SETTING, "http_api.body_bytes=4KiB"]);
    let key = format!("X-API-Key: {KEY}\r\n");
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let publish = |data: &str| format!(r#"{{"channel":"c","data":{data}}}"#);
    for (method, body, status) in [
        ("publish", publish(&nested(63)), 200),
        ("publish", publish(&nested(64)), 400),
        ("publish", publish(&nested(1900)), 400),
        ("publish", publish("1") + &" ".repeat(4096 - publish("1").len()), 200),
        ("publish", publish("1") + &" ".repeat(4097 - publish("1").len()), 413),
        ("publish", "{".to_owned(), 400),
        ("publish", "[]".to_owned(), 400),
        ("publish", publish("1") + "x", 400),
        ("publish", r#"{"channel":1,"data":1}"#.to_owned(), 400),
        ("publish", r#"{"channel":"a","channel":"b","data":1}"#.to_owned(), 400),
        ("publish", r#"{"channel":"c","data":1,"version":-1}"#.to_owned(), 400),
        ("batch", r#"{"commands":[{"publish":{"channel":1}}]}"#.to_owned(), 400),
        ("batch", r#"{"commands":[{"info":{},"publish":{}}]}"#.to_owned(), 400),
        ("batch", r#"{"commands":{}}"#.to_owned(), 400),
        ("dance", "{}".to_owned(), 404),
    ] {
        let response = node.post(&format!("/api/{method}"), &key, &body);
        assert_eq!(response.status, status, "{method} {}", &body[..body.len().min(80)]);
    }
    for (body, status) in [("", 400), ("{} x", 400), ("[]", 400)] {
        assert_eq!(node.post("/api", &key, body).status, status, "{body}");
    }
    assert_eq!(get(node.address, &format!("/api/publish?api_key={KEY}")).status, 405);
    assert_eq!(node.metrics().sum("dunlin_panics_total"), 0.0);
}

#[test]
fn a_body_has_to_come_in_time() {
    let node = Node::start(&[KEY_SETTING, "limits.handshake_age=1s"]);
    let request = format!(
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\
         Content-Length: 100\r\n\r\n{{\"channel\""
    );
    let response = exchange(node.address, &request);
    assert_eq!(response.status, 408);
    assert!(refusal(&response).contains("limits.handshake_age"), "{}", response.body);
}

#[test]
fn a_request_that_is_no_call_is_told_why() {
    let node =
        Node::start(&[KEY_SETTING, "http_api.body_bytes=1KiB", "log.level=info,dunlin=debug"]);
    let key = format!("X-API-Key: {KEY}\r\n");
    for (path, body, status, words) in [
        ("/api/publish", r#"{"channel":"c","#.to_owned(), 400, "line 1 column 15"),
        ("/api/publish", r#"{"channel":1}"#.to_owned(), 400, "integer `1`, expected a string"),
        ("/api/publish", "[".repeat(65), 400, "more than 64 deep"),
        ("/api/batch", r#"{"commands":[{"info":{},"rpc":{}}]}"#.to_owned(), 400, "one method"),
        ("/api", String::new(), 400, "no command"),
        ("/api/dance", "{}".to_owned(), 404, "openapi.json"),
        ("/api/publish", " ".repeat(1025), 413, "1024 bytes of http_api.body_bytes"),
    ] {
        let response = node.post(path, &key, &body);
        assert_eq!(response.status, status, "{path} {body}");
        let told = refusal(&response);
        assert!(told.contains(words), "{told}");
    }
    let response = get(node.address, &format!("/api/publish?api_key={KEY}"));
    assert_eq!((response.status, response.header("allow")), (405, Some("POST")));
    assert!(refusal(&response).contains("POST"), "{}", response.body);
    assert!(node.log().contains("no such method"), "{}", node.log());
}

#[test]
fn calls_are_counted_by_how_they_end() {
    let node = node();
    node.result("publish", r#"{"channel":"c","data":1}"#);
    node.error("publish", "{}");
    node.call("batch", r#"{"commands":[{"publish":{}},{"rpc":{"method":"m"}},{"dance":{}}]}"#);
    node.post("/api/publish", "", "{}");
    let metrics = node.metrics();
    for (method, code, count) in [
        ("publish", 0, 1.0),
        ("publish", 107, 2.0),
        ("rpc", 108, 1.0),
        ("", 104, 1.0),
        ("", 401, 1.0),
    ] {
        let name = format!("dunlin_api_calls_total{{method=\"{method}\",code=\"{code}\"}}");
        assert_eq!(metrics.sum(&name), count, "{name}");
    }
}

#[test]
fn without_redis_a_publish_is_refused_within_its_bounds() {
    let mut flock = Flock::redis(1, &[KEY_SETTING, "redis.queue_age=1s"]);
    flock.redis.as_mut().unwrap().stop();
    let node = &flock.nodes[0];
    let asked_at = Instant::now();
    assert_eq!(node.error("publish", r#"{"channel":"c","data":1}"#), 100);
    assert!(asked_at.elapsed().as_secs() < 8, "{:?}", asked_at.elapsed());
    let answer = node.call("broadcast", r#"{"channels":["a","b"],"data":1}"#);
    let responses = answer["result"]["responses"].as_array().unwrap();
    assert!(responses.iter().all(|response| response["error"]["code"] == 100), "{answer}");
    assert_eq!(node.error("disconnect", r#"{"user":"42"}"#), 100);
    assert_eq!(node.result("info", "{}")["nodes"].as_array().unwrap().len(), 1);
    let headers = format!("X-API-Key: {KEY}\r\nX-Centrifugo-Error-Mode: transport\r\n");
    let response = node.post("/api/publish", &headers, r#"{"channel":"c","data":1}"#);
    assert_eq!(response.status, 500);
}
