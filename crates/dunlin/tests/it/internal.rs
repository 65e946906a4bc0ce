//! The internal listener: it alone answers those who run the node, and it answers no client.

use std::{
    io::{BufReader, ErrorKind, Read, Write},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    cli::dunlin,
    harness::{KEY_SETTING, Node, NodeCommand, PATIENCE, connect, exchange, get, read_response},
};

const INTERNAL: &str = "internal.listen=127.0.0.1:0";

/// Where a node's internal listener is.
fn internal(node: &Node) -> SocketAddr {
    let log = node.log();
    let (_, address) = log.split_once("on the internal http://").expect("it is logged");
    address.split_whitespace().next().unwrap().parse().unwrap()
}

fn call(address: SocketAddr) -> u16 {
    let head = "POST /api/info HTTP/1.1\r\nHost: localhost\r\nX-API-Key: k3y\r\n";
    exchange(address, &format!("{head}Content-Length: 2\r\n\r\n{{}}")).status
}

#[test]
fn it_alone_has_api_metrics_and_health() {
    let node = Node::start(&[INTERNAL, KEY_SETTING]);
    let internal = internal(&node);
    for path in ["/health", "/ready", "/metrics", "/api/openapi.json"] {
        assert_eq!(get(internal, path).status, 200, "{path}");
        assert_eq!(get(node.address, path).status, 404, "{path}");
    }
    assert_eq!((call(internal), call(node.address)), (200, 404));
    for path in ["/", "/ws", "/ws/chat", "/connection/websocket"] {
        assert_eq!(get(internal, path).status, 404, "{path}");
        assert_ne!(get(node.address, path).status, 404, "{path}");
    }
    drop(node.join("chat"));

    let internal = format!("internal.listen={internal}");
    let asked = dunlin(&["healthcheck", "--listen", "127.0.0.1:1", "--set", &internal]);
    assert!(asked.status.success(), "{asked:?}");
}

/// Lists and proxies are for clients.
#[test]
fn it_lets_everybody_in_and_believes_nobody() {
    let deny = ["door.deny=127.0.0.1", "proxy.trusted=127.0.0.1", "proxy.protocol=true"];
    let node = Node::start(&[&[INTERNAL], &deny[..]].concat());
    assert_eq!(get(internal(&node), "/health").status, 200);
    assert_eq!(exchange(internal(&node), "PROXY UNKNOWN\r\n").status, 400);
    let denied = "PROXY UNKNOWN\r\nGET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(exchange(node.address, denied).status, 403);
}

#[test]
fn it_speaks_no_tls_when_the_public_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    let tls = [
        format!("tls.cert_file={}", cert_file.display()),
        format!("tls.key_file={}", key_file.display()),
    ];
    let node = NodeCommand::new().set(&[INTERNAL, &tls[0], &tls[1]]).start();
    assert_eq!(get(internal(&node), "/health").status, 200);
}

#[test]
fn a_caller_with_a_key_may_stay_and_a_stranger_may_not() {
    let node = Node::start(&[KEY_SETTING, "limits.handshake_age=1s"]);
    let open = || BufReader::new(connect(node.address).unwrap());
    let (mut caller, mut stranger) = (open(), open());
    let ask = |stream: &mut BufReader<std::net::TcpStream>, key: &str| {
        let head = format!("POST /api/rpc HTTP/1.1\r\nHost: localhost\r\n{key}");
        let request = format!("{head}Content-Length: 2\r\n\r\n{{}}");
        let written = stream.get_mut().write_all(request.as_bytes());
        written.ok().and_then(|()| read_response(stream)).map(|response| response.status)
    };
    let until = std::time::Instant::now() + PATIENCE;
    // Longer than a stranger may stay, and never silent for that long.
    while ask(&mut stranger, "").is_some() {
        assert_eq!(ask(&mut caller, "X-API-Key: k3y\r\n"), Some(200));
        assert!(std::time::Instant::now() < until, "the stranger is still there");
    }
    for _ in 0..100 {
        assert_eq!(ask(&mut caller, "X-API-Key: k3y\r\n"), Some(200));
    }
    // Nor does quiet for longer than that end it: balancers keep connections for later.
    caller.get_ref().set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let quiet = caller.get_mut().read(&mut [0]).unwrap_err().kind();
    assert!(matches!(quiet, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{quiet}");
    caller.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ask(&mut caller, "X-API-Key: k3y\r\n"), Some(200));
}
