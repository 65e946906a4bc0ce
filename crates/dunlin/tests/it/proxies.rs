//! Proxies in front: who is believed about where clients are, and what others are told.

use std::{
    io::{BufReader, Write},
    net::TcpStream,
};

use crate::harness::{
    Client, Node, Response, connect_from, read_response, upgrade_request, wait_until,
};

/// A proxy at 127.0.0.2 is trusted. Who was refused what is in the log.
const TRUSTED: [&str; 2] = ["proxy.trusted=127.0.0.2", "log.level=debug"];

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// 192.0.2.8, with a TLV behind it.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\
    \xc0\0\x02\x08\xc6\x33\x64\x01\xdc\x04\x01\xbb\x03\0\x04abcd";

fn start(settings: &[&str]) -> Node {
    Node::start(&[&TRUSTED[..], settings].concat())
}

/// Sends `bytes` from 127.0.0.`host`.
fn send(node: &Node, host: u8, bytes: &[u8]) -> BufReader<TcpStream> {
    let mut stream = connect_from(host, node.address);
    stream.write_all(bytes).unwrap();
    BufReader::new(stream)
}

fn answer(node: &Node, host: u8, bytes: &[u8]) -> Response {
    read_response(&mut send(node, host, bytes)).expect("an answer")
}

/// A request that is refused, which is logged with whom it came from.
fn refused(headers: &str) -> String {
    format!("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// Whoever sent `bytes` from 127.0.0.`host` is taken for `client`.
fn check_client(mut node: Node, host: u8, bytes: &[u8], client: &str) {
    assert_eq!(answer(&node, host, bytes).status, 404);
    node.wait_for_log(&format!("refused a request client={client} "));
}

fn counted(node: &Node, reason: &str) -> f64 {
    let name = format!("dunlin_connections_refused_total{{reason=\"{reason}\"}}");
    node.metrics().sum(&name)
}

#[test]
fn a_header_tells_of_the_client_if_the_proxy_is_trusted() {
    let forwarded_for = refused("X-Forwarded-For: 203.0.113.9, 192.0.2.7, 127.0.0.2\r\n");
    check_client(start(&[]), 2, forwarded_for.as_bytes(), "192.0.2.7");
    check_client(start(&[]), 3, forwarded_for.as_bytes(), "127.0.0.3");
    check_client(start(&["proxy.header=off"]), 2, forwarded_for.as_bytes(), "127.0.0.2");
    let forwarded = refused("Forwarded: for=\"[2001:db8::7]:80\";proto=https\r\n");
    let header = "proxy.header=forwarded";
    check_client(start(&[header]), 2, forwarded.as_bytes(), "2001:db8::7");
    check_client(start(&[]), 2, forwarded.as_bytes(), "127.0.0.2");
}

#[test]
fn the_proxy_protocol_tells_of_the_client() {
    let rest = refused("");
    for (header, client) in [(V1, "192.0.2.7"), (V2, "192.0.2.8"), (V2_LOCAL, "127.0.0.2")] {
        let node = start(&["proxy.protocol=true"]);
        check_client(node, 2, &[header, rest.as_bytes()].concat(), client);
    }
    // The proxy behind the balancer is trusted, too.
    let rest = refused("X-Forwarded-For: 192.0.2.9\r\n");
    let header = b"PROXY TCP4 127.0.0.2 198.51.100.1 1 2\r\n";
    let node = start(&["proxy.protocol=true"]);
    check_client(node, 2, &[header, rest.as_bytes()].concat(), "192.0.2.9");
}

#[test]
fn clients_come_through_the_proxy_protocol() {
    let node = start(&["proxy.protocol=true"]);
    for header in [V1, V2] {
        let stream = connect_from(2, node.address);
        let request = [header, upgrade_request("/ws/good").as_bytes()].concat();
        let (mut client, _) = Client::upgrade_bytes(stream, &request).unwrap();
        client.send_text("hello");
        assert_eq!(client.receive_text(), "hello");
        client.close();
    }
    // Byte by byte, as it may come.
    let mut slow = connect_from(2, node.address);
    slow.set_nodelay(true).unwrap();
    for byte in [V2, refused("").as_bytes()].concat() {
        slow.write_all(&[byte]).unwrap();
    }
    assert_eq!(read_response(&mut BufReader::new(slow)).unwrap().status, 404);
    // Others speak as they always do.
    let stream = connect_from(3, node.address);
    Client::upgrade(stream, &upgrade_request("/ws/good")).unwrap();
    node.wait_until_empty();
}

#[test]
fn who_is_not_expected_to_speak_the_proxy_protocol_is_told() {
    let mut node = start(&[]);
    let request = refused("");
    for (number, header) in [V1, V2, V2_LOCAL].into_iter().enumerate() {
        // Trusted or not, it takes the setting.
        let host = 2 + u8::try_from(number % 2).unwrap();
        let answer = answer(&node, host, &[header, request.as_bytes()].concat());
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("\"proxy_header\""), "{}", answer.body);
        assert!(answer.body.contains("proxy.protocol"), "{}", answer.body);
    }
    assert_eq!(counted(&node, "proxy_header"), 3.0);
    node.wait_for_log("WARN");

    let node = start(&["proxy.protocol=true"]);
    assert_eq!(answer(&node, 3, V1).status, 400);
    for bytes in [request.as_bytes(), b"PROXY nonsense\r\n", &[V1, V1].concat()] {
        assert_eq!(answer(&node, 2, bytes).status, 400);
    }
    assert_eq!(counted(&node, "proxy_header"), 2.0);
    assert_eq!(counted(&node, "no_proxy_header"), 2.0);
}

#[test]
fn who_is_denied_gets_nothing_else() {
    let lists = ["door.allow=127.0.0.0/28,192.0.2.0/24", "door.deny=127.0.0.3,192.0.2.7"];
    let node = start(&lists);
    let ask = |host: u8, client: &str| {
        let headers = format!("X-Forwarded-For: {client}\r\n");
        let request = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        answer(&node, host, request.as_bytes())
    };
    for (host, client) in [(1, "192.0.2.7"), (4, ""), (2, "192.0.2.1"), (2, "")] {
        assert_eq!(ask(host, client).status, 200, "127.0.0.{host} for {client}");
    }
    for (host, client) in [(3, ""), (77, ""), (2, "192.0.2.7"), (2, "203.0.113.1"), (2, "::1")] {
        let refusal = ask(host, client);
        assert_eq!(refusal.status, 403, "127.0.0.{host} for {client}");
        assert!(refusal.body.contains("\"address_denied\""), "{}", refusal.body);
        assert_eq!(refusal.header("connection"), Some("close"));
    }
    assert_eq!(answer(&node, 3, upgrade_request("/ws/chat").as_bytes()).status, 403);
    assert_eq!(counted(&node, "address_denied"), 6.0);
    let joined = Client::upgrade(connect_from(4, node.address), &upgrade_request("/ws/chat"));
    assert!(joined.is_ok());
}

#[test]
fn what_is_no_http_is_told_and_counted() {
    let node = Node::start(&[]);
    for (bytes, reason) in [(&b"\x16\x03\x01\x02\0\x01"[..], "tls"), (b"\0\0\0\0", "not_http")] {
        let answer = answer(&node, 2, bytes);
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains(reason), "{}", answer.body);
        assert_eq!(counted(&node, reason), 1.0);
    }
    assert_eq!(answer(&node, 2, b"GET HTTP 1.1 please\r\n\r\n").status, 400);
    wait_until("it is counted", || counted(&node, "bad_http") == 1.0);
}
