//! What strangers do to a server. Each attack is bounded, counted or closed, and those who behave
//! do not notice.

use std::{
    io::{BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Client, Message, Node, NodeCommand, Opcode, PATIENCE, exchange, frame, read_response,
    upgrade_request, wait_until,
};

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether the server has closed. Throws away what it sent.
fn is_gone(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Somebody who behaves is served like on any other day.
fn check_service(node: &Node) {
    let mut good = node.join("good");
    good.send_text("good day");
    assert_eq!(good.receive_text(), "good day");
    good.close();
}

/// Sockets that never finish their handshake hold places that others need. `begin` is what each
/// sends at once, `go_on` what it sends every few milliseconds.
fn check_dawdlers(what: &str, begin: &str, go_on: &str) {
    const PLACES: usize = 8;
    let node = Node::start(&["limits.handshake_age=1s", "limits.handshakes=8"]);
    let mut dawdlers: Vec<_> = (0..PLACES).map(|_| connect(node.address)).collect();
    for dawdler in &mut dawdlers {
        dawdler.write_all(begin.as_bytes()).unwrap();
        dawdler.set_nonblocking(true).unwrap();
    }
    let began_at = Instant::now();
    let good = thread::scope(|scope| {
        let good = scope.spawn(|| check_service(&node));
        while !dawdlers.is_empty() {
            assert!(began_at.elapsed() < PATIENCE, "{what}: {} are left", dawdlers.len());
            dawdlers.retain_mut(|dawdler| {
                let _ = dawdler.write(go_on.as_bytes());
                !is_gone(dawdler)
            });
            // The pace of a trickle.
            thread::sleep(Duration::from_millis(20));
        }
        good.join()
    });
    assert!(good.is_ok(), "{what}: nobody else gets in");
    node.assert_conserved();
}

#[test]
fn a_handshake_that_takes_too_long_is_cut_off_whatever_trickles_in() {
    check_dawdlers("silent", "", "");
    check_dawdlers("a byte at a time", "GET /ws HTTP/1.1\r\nX-Slow: ", "x");
}

#[test]
fn pages_do_not_hold_a_place_for_long() {
    let page = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    check_dawdlers("idle after a page", page, "");
    check_dawdlers("page after page", page, page);
    let post = "POST /ws HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    check_dawdlers("an endless body", post, "x");
}

/// A client that asks and asks and never reads an answer.
#[test]
fn answers_that_nobody_reads_do_not_hold_a_place_for_long() {
    let node = Node::start(&["limits.handshake_age=1s", "limits.handshakes=8"]);
    let pages = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
    let deaf: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect(node.address);
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(pages.as_bytes());
            stream
        })
        .collect();
    let began_at = Instant::now();
    check_service(&node);
    assert!(began_at.elapsed() < Duration::from_secs(20), "places are held");
    drop(deaf);
    node.assert_conserved();
}

#[test]
fn header_bombs_are_refused() {
    let node = Node::start(&[]);
    let request = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
    };
    let many: String = (0..200).map(|number| format!("X-{number}: x\r\n")).collect();
    let long = "x".repeat(1 << 20);
    for (what, request) in [
        ("many headers", request("/ws", &many)),
        ("a long header", request("/ws", &format!("X: {long}\r\n"))),
        ("a long name", request("/ws", &format!("{long}: x\r\n"))),
        ("a long path", request(&format!("/ws/{long}"), "")),
        ("a long method", format!("{long} / HTTP/1.1\r\n\r\n")),
        ("no line end", long.clone()),
        ("empty lines", "\r\n".repeat(1 << 20)),
        ("many extensions", {
            let many = "permessage-deflate, ".repeat(700);
            upgrade_request("/ws")
                .replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Extensions: {many}x\r\n\r\n"))
        }),
    ] {
        let mut stream = connect(node.address);
        // It may close in the middle of all that.
        let _ = stream.write_all(request.as_bytes());
        if let Some(response) = read_response(&mut BufReader::new(&stream)) {
            assert!((400..500).contains(&response.status), "{what}: {}", response.status);
        }
        wait_until(what, || is_gone(&stream));
    }
    check_service(&node);
    node.assert_conserved();
}

#[test]
fn an_upgrade_with_a_body_is_no_upgrade() {
    let node = Node::start(&[]);
    for header in [
        "Content-Length: 30",
        "Transfer-Encoding: chunked",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
    ] {
        let request = upgrade_request("/ws")
            .replace("Host: localhost", &format!("Host: localhost\r\n{header}"));
        let status = exchange(node.address, &request).status;
        assert_eq!(status, 400, "{header}");
    }
    node.assert_conserved();
}

#[test]
fn a_length_that_is_only_declared_takes_no_memory() {
    let sizes = ["limits.message_bytes", "limits.backlog_bytes", "redis.queue_bytes"];
    let settings = sizes.map(|key| format!("{key}=64MiB"));
    let node = Node::start(&settings.each_ref().map(String::as_str));
    let mut clients: Vec<_> = (0..100).map(|_| node.join("declared")).collect();
    let resident = node.resident_bytes();
    for client in &mut clients {
        let mut header = vec![0x82, 0x80 | 127];
        header.extend((60_u64 << 20).to_be_bytes());
        header.extend([1, 2, 3, 4]);
        client.send_bytes(&header);
        client.send_bytes(b"the beginning");
    }
    wait_until("all is read", || node.metrics().sum("dunlin_received_bytes_total") >= 2700.0);
    let grown = node.resident_bytes().saturating_sub(resident);
    assert!(grown < 16 << 20, "{} KiB for nothing", grown / 1024);
    drop(clients);
    node.assert_conserved();
}

#[test]
fn fragments_without_end_are_cut_off() {
    let node = Node::start(&[]);
    let start = || {
        let mut client = node.join("fragments");
        client.send_fragment(Opcode::Text, b"");
        client
    };
    for payload in [&b""[..], b"x"] {
        let mut client = start();
        let mut fragment = frame(Opcode::Continuation, payload);
        fragment[0] = Opcode::Continuation as u8;
        // The server may close before it has them all.
        let _ = client.try_send_bytes(&fragment.repeat(10_000));
        assert_eq!(client.receive_close(), (1008, "too many fragments".to_owned()));
    }
    check_service(&node);
    node.assert_conserved();
}

#[test]
fn a_message_that_is_never_finished_is_closed_in_time() {
    let node = Node::start(&["limits.message_age=500ms"]);
    let text = frame(Opcode::Text, b"half of this");
    let mut clients: Vec<_> = (0..4).map(|_| node.join("half")).collect();
    clients[0].send_bytes(&text[..1]);
    clients[1].send_bytes(&text[..10]);
    clients[2].send_fragment(Opcode::Text, b"a fragment");
    clients[3].send_fragment(Opcode::Text, b"more and more");
    let mut last = clients.pop().unwrap();
    for client in &mut clients {
        assert_eq!(client.receive_close(), (1008, "message not finished in time".to_owned()));
    }
    // Neither fragments nor pings buy time.
    let began_at = Instant::now();
    while node.metrics().closed("message_unfinished") < 4.0 {
        assert!(began_at.elapsed() < PATIENCE);
        let _ = last.try_send_bytes(&frame(Opcode::Ping, b""));
        // A pace that no flood has.
        thread::sleep(Duration::from_millis(150));
        if !last.is_silent_for(Duration::from_millis(1))
            && let Message::Close(code, _) = last.receive_any()
        {
            assert_eq!(code, 1008);
            break;
        }
    }
    drop((clients, last));
    check_service(&node);
    node.assert_conserved();
}

#[test]
fn messages_that_follow_each_other_without_pause_are_each_given_their_time() {
    let node = Node::start(&["limits.message_age=1s"]);
    let mut client = node.join("steady");
    let bytes: Vec<u8> = frame(Opcode::Text, b"tick").repeat(100);
    let began_at = Instant::now();
    // Cut so that there is always a message under way.
    let mut sent = 0;
    while began_at.elapsed() < Duration::from_secs(2) {
        let at = sent % bytes.len();
        let end = (at + 7).min(bytes.len());
        client.send_bytes(&bytes[at..end]);
        sent += end - at;
        // Longer than the deadline in all, and never a pause between two messages.
        thread::sleep(Duration::from_millis(5));
        while !client.is_silent_for(Duration::from_millis(1)) {
            assert_eq!(client.receive_text(), "tick");
        }
    }
    assert!(sent > 100, "the machine is too busy to tell");
    drop(client);
    node.assert_conserved();
}

#[test]
fn floods_of_control_frames_are_closed() {
    let node = Node::start(&[]);
    for opcode in [Opcode::Ping, Opcode::Pong] {
        let mut client = node.join("flood");
        // The server may close before it has them all.
        let _ = client.try_send_bytes(&frame(opcode, &[0; 100]).repeat(1000));
        assert_eq!(client.receive_close(), (1008, "too many control frames".to_owned()));
    }
    wait_until("both are counted", || node.metrics().closed("control_flood") == 2.0);
    check_service(&node);
    node.assert_conserved();
}

#[test]
fn no_more_connections_than_the_limit() {
    let node = Node::start(&["limits.connections=5", "shards=2"]);
    let mut clients: Vec<_> = (0..5).map(|_| node.join("full")).collect();
    for _ in 0..3 {
        let refusal = Client::try_open(node.address, "/ws/full").err().flatten().unwrap();
        assert_eq!(refusal.status, 503);
        assert!(refusal.body.contains("\"server_full\""), "{}", refusal.body);
        assert!(refusal.header("retry-after").is_some());
    }
    assert_eq!(node.status_of("/health"), 200);
    assert_eq!(node.metrics().sum("dunlin_upgrades_refused_total"), 3.0);
    clients.pop().unwrap().close();
    wait_until("there is room", || Client::try_open(node.address, "/ws/full").is_ok());
    drop(clients);
    node.assert_conserved();
}

#[test]
fn running_out_of_files_is_a_pause_and_no_spin() {
    let settings = ["limits.handshake_age=5m", "shards=1"];
    let mut node = NodeCommand::after("ulimit -n 64").set(&settings).start();
    let mut member = node.join("member");
    let idle: Vec<_> = (0..100).map(|_| connect(node.address)).collect();
    node.wait_for_log("cannot accept");
    let before = node.cpu_time();
    // The time over which it is measured.
    thread::sleep(Duration::from_secs(1));
    let spent = node.cpu_time() - before;
    assert!(spent < Duration::from_millis(300), "{spent:?} of a second spent on nothing");
    member.send_text("still served");
    assert_eq!(member.receive_text(), "still served");
    drop(idle);
    check_service(&node);
    assert!(node.metrics().sum("dunlin_accept_errors_total") >= 1.0);
    drop(member);
    node.assert_conserved();
}

#[test]
fn garbage_brings_nobody_down() {
    let node = Node::start(&["limits.handshake_age=2s", "limits.message_age=2s"]);
    let mut bystander = node.join("garbage");
    let mut random = fastrand::Rng::with_seed(4711);
    let mut garbage = |length: usize| -> Vec<u8> { (0..length).map(|_| random.u8(..)).collect() };
    for round in 0..300 {
        let mut stream = connect(node.address);
        let mut bytes = garbage(1 + round * 7 % 3000);
        if round % 3 == 1 {
            bytes = [b"GET /ws HTTP/1.1\r\n", &bytes[..]].concat();
        }
        let _ = stream.write_all(&bytes);

        let mut client = node.join("garbage");
        let mut bytes = garbage(1 + round * 11 % 5000);
        // Half of them begin like a frame.
        if round % 2 == 0 {
            bytes[0] = [0x81, 0x82, 0x01, 0x89, 0x88, 0xc1][round / 2 % 6];
            bytes.resize(bytes.len().max(2), 0);
            bytes[1] |= 0x80;
        }
        let _ = client.try_send_bytes(&bytes);
    }
    bystander.send_text("still here");
    loop {
        match bystander.receive() {
            Message::Text(text) if text == "still here" => break,
            Message::Text(_) | Message::Binary(_) => {}
            other => panic!("{other:?}"),
        }
    }
    check_service(&node);
    drop(bystander);
    node.assert_conserved();
}
