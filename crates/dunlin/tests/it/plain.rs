//! The plain dialect: what any WebSocket client may rely on, with one node and with several.

use std::{
    collections::HashMap,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Client, Flock, Message, Node, Opcode, PATIENCE, UPGRADE_HEADERS, exchange, frame, get,
    upgrade_request, wait_until,
};

#[test]
fn everybody_gets_every_message_as_it_was_the_sender_too() {
    let messages = [
        Message::Text("hello".to_owned()),
        Message::Text(String::new()),
        Message::Text("grüße, 世界 🐦\u{0}\u{10ffff}".to_owned()),
        Message::Text("x".repeat(64 * 1024)),
        Message::Binary(Vec::new()),
        Message::Binary(vec![0xff]),
        Message::Binary(b"\xff\x01text".to_vec()),
        Message::Binary(b"valid text".to_vec()),
        Message::Binary((0..64 * 1024_u32).map(|number| (number % 251) as u8).collect()),
        Message::Binary(vec![0xff; 126]),
    ];
    Flock::each(&[], |flock| {
        for path in ["/ws", "/ws/a-channel=@,.;_Z9"] {
            let mut clients: Vec<_> =
                (0..4).map(|turn| Client::open(flock.node(turn).address, path)).collect();
            for (turn, message) in messages.iter().enumerate() {
                let sender = &mut clients[turn % 4];
                match message {
                    Message::Text(text) => sender.send_text(text),
                    Message::Binary(data) => sender.send_binary(data),
                    _ => unreachable!("only messages are listed"),
                }
                for client in &mut clients {
                    assert!(client.receive() == *message, "{path}: message {turn} is another");
                }
            }
        }
    });
}

#[test]
fn the_default_channel_is_a_channel_like_others_and_can_be_chosen() {
    for (settings, name) in [(&[][..], "chat_channel"), (&["plain.default_channel=lobby"], "lobby")]
    {
        Flock::each(settings, |flock| {
            let mut by_default = Client::open(flock.node(0).address, "/ws");
            let mut by_name = flock.node(1).join(name);
            let mut with_query =
                Client::open(flock.node(1).address, &format!("/ws/{name}?token=x"));
            by_default.send_text("to all");
            for client in [&mut by_default, &mut by_name, &mut with_query] {
                assert_eq!(client.receive_text(), "to all");
            }
        });
    }
}

#[test]
fn channels_do_not_hear_each_other() {
    // On a busy machine this takes long enough for pings to be heard.
    Flock::each(&["ws.ping_interval=0"], |flock| {
        let names = ["a", "b", "A", "ab", "a;b"];
        let mut clients: Vec<_> = names.iter().map(|name| (*name, flock.join(name, 2))).collect();
        for round in 0..10 {
            for (name, clients) in &mut clients {
                clients[0].send_text(&format!("{name} {round}"));
            }
        }
        for (name, clients) in &mut clients {
            for client in clients {
                let heard: Vec<_> = (0..10).map(|_| client.receive_text()).collect();
                let sent: Vec<_> = (0..10).map(|round| format!("{name} {round}")).collect();
                assert_eq!(heard, sent);
            }
        }
        for (name, clients) in &clients {
            let is_silent = clients.iter().all(|c| c.is_silent_for(Duration::from_millis(20)));
            assert!(is_silent, "{name} hears what is not its own");
        }
    });
}

#[test]
fn all_subscribers_see_one_order_which_keeps_that_of_each_publisher() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 500;
    Flock::each(&[], |flock| {
        let subscribers = flock.join("order", 4);
        let readers: Vec<_> = subscribers
            .into_iter()
            .map(|mut client| {
                thread::spawn(move || {
                    (0..PUBLISHERS * MESSAGES).map(|_| client.receive_text()).collect::<Vec<_>>()
                })
            })
            .collect();
        thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                scope.spawn(move || {
                    let mut client = flock.node(publisher).join("order");
                    for number in 0..MESSAGES {
                        client.send_text(&format!("{publisher} {number}"));
                    }
                    // A socket that is closed with unread bytes in it would be reset.
                    let mut own = 0;
                    while own < MESSAGES {
                        let text = client.receive_text();
                        own += usize::from(text.starts_with(&format!("{publisher} ")));
                    }
                });
            }
        });
        let heard: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        let mut next = HashMap::new();
        for text in &heard[0] {
            let (publisher, number) = text.split_once(' ').unwrap();
            let next = next.entry(publisher).or_insert(0);
            assert_eq!(number.parse::<usize>().unwrap(), *next, "of publisher {publisher}");
            *next += 1;
        }
        for other in &heard[1..] {
            assert!(*other == heard[0], "two subscribers saw two orders");
        }
    });
}

/// Whoever has its 101 gets what anybody publishes from then on, without a moment's delay.
#[test]
fn a_client_with_its_101_misses_nothing() {
    Flock::each(&[], |flock| {
        let mut publishers: Vec<_> = (0..8).map(|_| flock.node(0).join("busy")).collect();
        for round in 0..60 {
            // A channel that its node does not know yet, and one that it does.
            let fresh = format!("fresh-{round}");
            let mut publisher = flock.node(0).join(&fresh);
            let mut first = flock.node(1).join(&fresh);
            publisher.send_text("at once");
            assert_eq!(first.receive_text(), "at once");
            let mut second = flock.node(1).join(&fresh);
            first.send_text("again");
            assert_eq!(second.receive_text(), "again");

            let publisher = &mut publishers[round % 8];
            let mut joiner = flock.node(1).join("busy");
            publisher.send_text(&format!("{round}"));
            assert_eq!(joiner.receive_text(), format!("{round}"));
        }
    });
}

#[test]
fn requests_that_are_no_upgrade_get_the_status_that_says_why() {
    let node = Node::start(&[]);
    let without = |name: &str| {
        let lines = UPGRADE_HEADERS.split_inclusive("\r\n");
        let others: String = lines.filter(|line| !line.starts_with(name)).collect();
        format!("GET /ws/a HTTP/1.1\r\nHost: localhost\r\n{others}\r\n")
    };
    let with = |replaced: &str, by: &str| upgrade_request("/ws/a").replace(replaced, by);
    for (request, status, header) in [
        (with("GET", "POST"), 405, Some(("allow", "GET"))),
        (with("GET", "HEAD"), 405, Some(("allow", "GET"))),
        (with("GET", "OPTIONS"), 405, Some(("allow", "GET"))),
        (with("GET", "DELETE"), 405, Some(("allow", "GET"))),
        (with("GET", "BREW"), 405, Some(("allow", "GET"))),
        (without("Connection"), 400, None),
        (without("Upgrade"), 400, None),
        (without("Sec-WebSocket-Key"), 400, None),
        (with("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400, None),
        (with("Host: localhost\r\n", ""), 400, None),
        (with("Host: localhost", "Host: localhost\r\nContent-Length: 5"), 400, None),
        (with("HTTP/1.1", "HTTP/1.0"), 400, None),
        (with("Version: 13", "Version: 8"), 426, Some(("sec-websocket-version", "13"))),
        (without("Sec-WebSocket-Version"), 426, Some(("sec-websocket-version", "13"))),
        (with("/ws/a", "/nowhere"), 404, None),
        (with("/ws/a", "/ws/a").replace("GET ", "GET\t"), 400, None),
        (with("Connection: ", "Conn ection: "), 400, None),
    ] {
        let response = exchange(node.address, &request);
        assert_eq!(response.status, status, "{request}");
        if let Some((name, value)) = header {
            assert_eq!(response.header(name), Some(value), "{request}");
        }
        let is_ours = response.header("content-type") == Some("application/json");
        if is_ours && !request.starts_with("HEAD") {
            assert!(response.body.starts_with("{\"error\":{\"code\":\""), "{}", response.body);
        }
    }
    node.wait_until_empty();
}

#[test]
fn a_channel_s_name_that_breaks_the_rule_is_told_the_rule() {
    let node = Node::start(&[]);
    let longest = "x".repeat(200);
    Client::join(node.address, &longest).close();
    Client::join(node.address, "%63%3D%3b").close();
    for name in [
        "",
        &format!("{longest}x"),
        "a/b",
        "a/",
        "a%2Fb",
        "a%20b",
        "a+b",
        "a%00",
        "a%0d%0aX-Injected:%201",
        "caf%C3%A9",
        "%ff",
        "%",
        "%zz",
        "a*",
        "%3Cscript%3E",
    ] {
        let refusal = Client::try_open(node.address, &format!("/ws/{name}")).err().flatten();
        let refusal = refusal.unwrap_or_else(|| panic!("{name:?} is taken"));
        assert_eq!(refusal.status, 400, "{name:?}: {}", refusal.body);
        assert_eq!(refusal.header("content-type"), Some("application/json"), "{name:?}");
        assert!(refusal.body.contains("\"bad_channel\""), "{name:?}: {}", refusal.body);
        assert!(refusal.body.contains("A-Z a-z 0-9 _ - = @ , . ; :"), "{}", refusal.body);
        assert!(refusal.header("x-injected").is_none());
    }
    node.wait_until_empty();
}

#[test]
fn pages_for_machines() {
    // Pings would count among the bytes.
    Flock::each(&["ws.ping_interval=0"], |flock| {
        let node = flock.node(0);
        assert!(get(node.address, "/health").body.contains("\"status\":\"ok\""));
        assert!(get(node.address, "/ready").body.contains("\"status\":\"ready\""));
        let mut clients = flock.join("counted", 4);
        clients[0].send_text("123");
        clients.iter_mut().for_each(|client| assert_eq!(client.receive_text(), "123"));
        let here = 4 / flock.nodes.len();
        let settled = |name: &str, value: f64| {
            wait_until(name, || node.metrics().sum(&format!("dunlin_{name}")) == value);
        };
        settled("connections_active", here as f64);
        settled("subscriptions", here as f64);
        settled("channels", 1.0);
        settled("publications_in_total", 1.0);
        settled("deliveries_total", here as f64);
        settled("received_bytes_total", frame(Opcode::Text, b"123").len() as f64);
        settled("sent_bytes_total", (here * 5) as f64);
        let metrics = get(node.address, "/metrics");
        assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics"));
        assert!(metrics.body.ends_with("# EOF\n"));
    });
}

/// A read brings as many messages as fit; all of them pass, however small they are.
#[test]
fn many_tiny_messages_at_once_all_come_back() {
    const COUNT: usize = 11_000;
    Flock::each(&[], |flock| {
        let mut client = flock.node(0).join("tiny");
        client.send_bytes(&frame(Opcode::Binary, b"").repeat(COUNT));
        for _ in 0..COUNT {
            assert_eq!(client.receive(), Message::Binary(Vec::new()));
        }
        client.close();
    });
}

#[test]
fn pings_are_answered_in_order_and_with_their_payload() {
    Flock::each(&[], |flock| {
        let mut client = flock.node(0).join("pings");
        for number in 0..20_u8 {
            client.send(Opcode::Ping, &vec![number; usize::from(number) * 6]);
        }
        for number in 0..20_u8 {
            let payload = vec![number; usize::from(number) * 6];
            assert_eq!(client.receive(), Message::Pong(payload));
        }
    });
}

#[test]
fn a_client_that_answers_pings_stays_and_a_dead_one_goes() {
    let node = Node::start(&["ws.ping_interval=2s", "ws.pong_timeout=1s"]);
    let mut alive = node.join("pinged");
    let mut talker = node.join("pinged");
    let dead = node.join("pinged");
    let began_at = Instant::now();
    let mut pings = 0;
    while node.metrics().closed("pong_timeout") == 0.0 || pings < 2 {
        assert!(began_at.elapsed() < PATIENCE, "the dead one stays, {pings} pings");
        // Any byte is a sign of life, not only a pong.
        talker.send_text("noise");
        loop {
            match alive.receive_any() {
                Message::Ping(payload) => {
                    pings += 1;
                    alive.send(Opcode::Pong, &payload);
                }
                Message::Text(_) => break,
                other => panic!("{other:?}"),
            }
        }
        // Keeps the pace of a talker that is quieter than the limits on control frames.
        thread::sleep(Duration::from_millis(50));
    }
    alive.send_text("alive");
    while alive.receive_text() != "alive" {}
    assert_eq!(node.metrics().closed("pong_timeout"), 1.0);
    drop((alive, talker, dead));
    node.wait_until_empty();
}

#[test]
fn what_a_client_sends_before_it_has_its_101_is_not_lost() {
    Flock::each(&[], |flock| {
        let mut other = flock.node(1).join("eager");
        for size in [1, 100, 20_000] {
            let mut bytes = upgrade_request("/ws/eager").into_bytes();
            for number in 0..3 {
                let text = format!("{number}").repeat(size);
                bytes.extend(frame(Opcode::Text, text.as_bytes()));
            }
            let stream = TcpStream::connect(flock.node(0).address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let (mut eager, _) = Client::upgrade_bytes(stream, &bytes).unwrap();
            for number in 0..3 {
                let text = format!("{number}").repeat(size);
                assert!(eager.receive_text() == text, "{size}");
                assert!(other.receive_text() == text, "{size}");
            }
        }
    });
}

/// Many clients refuse a connection in which none of what they offer is agreed to.
#[test]
fn the_first_subprotocol_is_agreed_to_unless_none_should_be() {
    let request = |offered: &str| {
        format!("GET /ws HTTP/1.1\r\nHost: localhost\r\n{UPGRADE_HEADERS}{offered}\r\n")
    };
    let agreed = |node: &Node, offered: &str| {
        let stream = TcpStream::connect(node.address).unwrap();
        let (_, response) = Client::upgrade(stream, &request(offered)).unwrap();
        response.header("sec-websocket-protocol").map(str::to_owned)
    };
    let node = Node::start(&[]);
    assert_eq!(agreed(&node, ""), None);
    let offered = "Sec-WebSocket-Protocol: chat.v2 , chat\r\n";
    assert_eq!(agreed(&node, offered).as_deref(), Some("chat.v2"));
    let node = Node::start(&["plain.subprotocols=none"]);
    assert_eq!(agreed(&node, offered), None);
}
