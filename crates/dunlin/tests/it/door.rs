//! Who gets in, and at whose cost: sockets without a 101, by the address they come from.

use std::{
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::harness::{
    Client, Node, PATIENCE, Response, UPGRADE_HEADERS, connect_from, read_response,
    upgrade_request, wait_until,
};

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Nobody is closed for taking too long.
const FOR_EVER: &str = "limits.handshake_age=5m";

/// Sends `request` from 127.0.0.`host`.
fn exchange_from(host: u8, address: SocketAddr, request: &str) -> Option<Response> {
    let mut stream = connect_from(host, address);
    stream.write_all(request.as_bytes()).ok()?;
    read_response(&mut BufReader::new(stream))
}

/// Whoever is at 127.0.0.`host` is served.
fn check_service(node: &Node, host: u8) {
    let stream = connect_from(host, node.address);
    let (mut good, _) = Client::upgrade(stream, &upgrade_request("/ws/good")).unwrap();
    good.send_text("good day");
    assert_eq!(good.receive_text(), "good day");
    good.close();
    let health = exchange_from(host, node.address, HEALTH).unwrap();
    assert_eq!(health.status, 200);
}

/// Sockets from 127.0.0.`host` that each send `begin` and nothing more.
fn silent(node: &Node, host: u8, count: usize, begin: &str) -> Vec<TcpStream> {
    let one = |_| {
        let mut stream = connect_from(host, node.address);
        stream.write_all(begin.as_bytes()).unwrap();
        stream
    };
    (0..count).map(one).collect()
}

fn evicted(node: &Node, reason: &str) -> f64 {
    node.metrics().sum(&format!("dunlin_handshakes_evicted_total{{reason=\"{reason}\"}}"))
}

#[test]
fn the_longest_silent_one_makes_room() {
    let node = Node::start(&[FOR_EVER, "limits.handshakes=16", "limits.address_handshakes=0"]);
    let half_a_body = "POST /ws HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx";
    for begin in ["", "GET /ws HTTP/1.1\r\nX-Slow: ", HEALTH, half_a_body] {
        let silent = silent(&node, 2, 200, begin);
        for host in [2, 3] {
            check_service(&node, host);
        }
        drop(silent);
    }
    // A body that nobody reads ends a connection by itself.
    assert!(evicted(&node, "full") >= 3.0 * 150.0);
    assert_eq!(evicted(&node, "address_full"), 0.0);
    node.wait_until_empty();
}

#[test]
fn an_address_that_has_too_many_loses_its_own() {
    let node = Node::start(&[FOR_EVER, "limits.handshakes=64", "limits.address_handshakes=8"]);
    let mut early = connect_from(3, node.address);
    let silent = silent(&node, 2, 200, "");
    wait_until("all were seen", || evicted(&node, "address_full") >= 192.0);
    assert_eq!(evicted(&node, "full"), 0.0);
    for host in [2, 4] {
        check_service(&node, host);
    }
    // Who came before them all, from elsewhere, still has its place.
    early.write_all(HEALTH.as_bytes()).unwrap();
    assert_eq!(read_response(&mut BufReader::new(early)).unwrap().status, 200);
    let mut last = silent.last().unwrap();
    last.write_all(HEALTH.as_bytes()).unwrap();
    assert_eq!(read_response(&mut BufReader::new(last)).unwrap().status, 200);
    let mut first = silent.first().unwrap();
    assert_eq!(first.read(&mut [0]).unwrap_or(0), 0, "the longest silent one is closed");
    drop(silent);
    node.wait_until_empty();
}

/// An upgrade from 127.0.0.`host`, or the answer that was no 101.
fn join_from(node: &Node, host: u8) -> Result<Client, Response> {
    let stream = connect_from(host, node.address);
    let joined = Client::upgrade(stream, &upgrade_request("/ws/crowd"));
    joined.map(|(client, _)| client).map_err(|refusal| refusal.expect("an answer"))
}

fn check_refusal(joined: Result<Client, Response>, code: &str) {
    let refusal = joined.err().expect("it is refused");
    assert_eq!(refusal.status, 429);
    assert!(refusal.body.contains(code), "{}", refusal.body);
    assert!(refusal.header("retry-after").is_some());
}

#[test]
fn an_address_has_no_more_connections_than_it_may() {
    let node = Node::start(&["limits.address_connections=3", "shards=2"]);
    let mut clients: Vec<_> = (0..3).map(|_| join_from(&node, 2).unwrap()).collect();
    for _ in 0..2 {
        check_refusal(join_from(&node, 2), "\"address_full\"");
    }
    let other = join_from(&node, 3).unwrap();
    let full = "dunlin_upgrades_refused_total{reason=\"address_full\"}";
    assert_eq!(node.metrics().sum(full), 2.0);
    // However a connection ends, its place comes back.
    clients.pop().unwrap().close();
    clients.pop();
    wait_until("there is room", || {
        clients.extend(join_from(&node, 2));
        clients.len() == 3
    });
    check_refusal(join_from(&node, 2), "\"address_full\"");
    drop((clients, other));
    node.wait_until_empty();
    let again: Vec<_> = (0..3).map(|_| join_from(&node, 2).unwrap()).collect();
    drop(again);
    node.wait_until_empty();
}

#[test]
fn a_bound_per_address_is_about_clients_and_not_about_their_proxy() {
    let node = Node::start(&["limits.address_connections=1", "proxy.trusted=127.0.0.2"]);
    let join = |client: &str| {
        let headers = format!("{UPGRADE_HEADERS}X-Forwarded-For: {client}\r\n");
        let request = format!("GET /ws/crowd HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        Client::upgrade(connect_from(2, node.address), &request)
    };
    let _clients = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|client| join(client).unwrap());
    assert_eq!(join("192.0.2.2").err().flatten().unwrap().status, 429);
    assert_eq!(join("2001:db8::2").err().flatten().unwrap().status, 429);
}

#[test]
fn an_address_connects_no_more_often_than_it_may() {
    let node = Node::start(&["limits.address_connect_rate=1", "limits.address_connect_burst=5"]);
    let clients: Vec<_> = (0..5).map(|_| join_from(&node, 2).unwrap()).collect();
    check_refusal(join_from(&node, 2), "\"address_hasty\"");
    drop(join_from(&node, 3).unwrap());
    assert_eq!(exchange_from(2, node.address, HEALTH).unwrap().status, 200);
    drop(clients);
    node.wait_until_empty();
}

#[test]
fn pages_of_other_origins_are_refused() {
    let allowed = "client.allowed_origins=https://example.com,https://*.example.org";
    let node = Node::start(&[allowed, "client.insecure=true"]);
    let attempt = |path: &str, origin: &str| {
        let headers = format!("{UPGRADE_HEADERS}{origin}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        exchange_from(2, node.address, &request).unwrap()
    };
    for path in ["/ws/good", "/connection/websocket"] {
        for origin in ["", "Origin: https://example.com\r\n", "Origin: https://a.example.org\r\n"] {
            assert_eq!(attempt(path, origin).status, 101, "{path} {origin}");
        }
        for origin in ["null", "https://example.com.evil.org", "http://example.com"] {
            let refusal = attempt(path, &format!("Origin: {origin}\r\n"));
            assert_eq!(refusal.status, 403, "{path} {origin}");
            assert!(refusal.body.contains("\"origin_denied\""), "{}", refusal.body);
        }
    }
    let denied = "dunlin_upgrades_refused_total{reason=\"origin_denied\"}";
    assert_eq!(node.metrics().sum(denied), 6.0);
    node.wait_until_empty();
}

/// Answers that are large and that nobody reads count as silence.
#[test]
fn whoever_takes_no_answer_makes_room() {
    let node = Node::start(&[FOR_EVER, "limits.handshakes=8"]);
    let pages = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
    let deaf: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect_from(2, node.address);
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(pages.as_bytes());
            stream
        })
        .collect();
    for host in [2, 3] {
        check_service(&node, host);
    }
    drop(deaf);
    node.wait_until_empty();
}

/// A body that takes its time is a request under way: whoever shows the key needs no place at all.
#[test]
fn calls_with_the_key_are_not_closed_for_others() {
    let node = Node::start(&[FOR_EVER, "limits.handshakes=4", "http_api.key=k3y"]);
    let mut caller = connect_from(3, node.address);
    let head = "POST /api/info HTTP/1.1\r\nHost: localhost\r\nX-API-Key: k3y\r\n";
    let call = format!("{head}Content-Length: 2\r\n\r\n");
    caller.write_all(format!("{call}{{}}").as_bytes()).unwrap();
    let mut reader = BufReader::new(caller.try_clone().unwrap());
    assert_eq!(read_response(&mut reader).unwrap().status, 200);
    caller.write_all(format!("{call}{{").as_bytes()).unwrap();
    let silent = silent(&node, 2, 50, "");
    wait_until("all were seen", || evicted(&node, "full") >= 40.0);
    caller.write_all(b"}").unwrap();
    assert_eq!(read_response(&mut reader).unwrap().status, 200);
    drop(silent);
    node.wait_until_empty();
}

/// Places are not shared between the listeners.
#[test]
fn the_internal_listener_has_places_of_its_own() {
    let node = Node::start(&[FOR_EVER, "limits.handshakes=8", "internal.listen=127.0.0.1:0"]);
    let log = node.log();
    let (_, internal) = log.split_once("on the internal http://").expect("it is logged");
    let internal = internal.split_whitespace().next().unwrap().parse().unwrap();
    let mut probe = connect_from(1, internal);
    let silent = silent(&node, 2, 100, "");
    let evicted = || {
        let metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        exchange_from(1, internal, metrics).unwrap().body
    };
    wait_until("all were seen", || {
        let page = evicted();
        let line = page
            .lines()
            .find(|line| line.starts_with("dunlin_handshakes_evicted_total{reason=\"full"));
        line.is_some_and(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() >= 92.0)
    });
    // It was there before all of them.
    probe.set_read_timeout(Some(PATIENCE)).unwrap();
    probe.write_all(HEALTH.as_bytes()).unwrap();
    assert_eq!(read_response(&mut BufReader::new(probe)).unwrap().status, 200);
    drop(silent);
}
