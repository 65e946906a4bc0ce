//! Clients over TLS have what others have; certificates change without anybody's notice.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};

use crate::{
    cli::dunlin,
    harness::{
        Client, Message, Node, NodeCommand, Opcode, PATIENCE, connect, connect_with_little_room,
        frame, upgrade_request, wait_until,
    },
};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A node with a certificate in files of its own.
struct TlsNode {
    node: Node,
    certificate: CertificateDer<'static>,
    folder: tempfile::TempDir,
}

impl TlsNode {
    fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = write_pair(folder.path());
        let files = files(folder.path());
        let files = files.each_ref().map(String::as_str);
        let node = NodeCommand::new().set(&files).set(settings).start();
        Self { node, certificate, folder }
    }

    fn handshake(&self, tcp: TcpStream) -> Tls {
        handshake(tcp, &self.certificate)
    }

    fn join(&self, channel: &str) -> Client<Tls> {
        let stream = self.handshake(connect(self.node.address).unwrap());
        let request = upgrade_request(&format!("/ws/{channel}"));
        Client::upgrade(stream, &request).unwrap().0
    }

    /// The values of a page of metrics that has `name`.
    fn metric(&self, name: &str) -> f64 {
        let mut stream = self.handshake(connect(self.node.address).unwrap());
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).trim().parse().unwrap()
    }

    fn wait_until_empty(&self) {
        for name in ["dunlin_connections_active", "dunlin_subscriptions", "dunlin_backlog_bytes"] {
            wait_until(name, || self.metric(name) == 0.0);
        }
        assert_eq!(self.metric("dunlin_panics_total"), 0.0);
    }
}

fn files(folder: &Path) -> [String; 2] {
    [
        format!("tls.cert_file={}", folder.join("cert.pem").display()),
        format!("tls.key_file={}", folder.join("key.pem").display()),
    ]
}

fn write_pair(folder: &Path) -> CertificateDer<'static> {
    let names = vec!["localhost".to_owned()];
    let pair = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(folder.join("cert.pem"), pair.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    pair.cert.der().clone()
}

fn handshake(tcp: TcpStream, certificate: &CertificateDer<'static>) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, tcp)
}

#[test]
fn messages_pass_as_they_are() {
    // Room for everything below: the sender reads its own echo after it has sent all.
    let node = TlsNode::start(&["shards=2", "limits.backlog_bytes=4MiB"]);
    let mut clients: Vec<_> = (0..4).map(|_| node.join("secret")).collect();
    for size in [0, 1, 125, 126, 16_384, 16_385, 65_535, 65_536] {
        let data: Vec<u8> = (0..size).map(|number| (number % 251) as u8).collect();
        clients[size % 4].send_binary(&data);
        for client in &mut clients {
            assert!(client.receive() == Message::Binary(data.clone()), "{size} bytes");
        }
    }
    // Much at once, so that what the socket takes and what TLS holds back do not agree.
    let many: Vec<u8> = (0..300)
        .flat_map(|number| frame(Opcode::Text, format!("{number:05000}").as_bytes()))
        .collect();
    let mut sender = clients.pop().unwrap();
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            thread::spawn(move || {
                for number in 0..300 {
                    assert!(client.receive_text() == format!("{number:05000}"), "{number}");
                }
                client.close();
            })
        })
        .collect();
    sender.send_bytes(&many);
    for number in 0..300 {
        assert!(sender.receive_text() == format!("{number:05000}"), "{number}");
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    sender.close();
    node.wait_until_empty();
}

#[test]
fn what_a_client_sends_before_it_has_its_101_is_not_lost() {
    // A ping's answer would wake the reader.
    let node = TlsNode::start(&["ws.ping_interval=0"]);
    for size in [1, 1000, 5000, 20_000, 60_000] {
        let texts: Vec<_> = (0..3).map(|number| format!("{number}").repeat(size)).collect();
        let mut bytes = upgrade_request("/ws/eager").into_bytes();
        bytes.extend(texts.iter().flat_map(|text| frame(Opcode::Text, text.as_bytes())));
        let stream = node.handshake(connect(node.node.address).unwrap());
        let (mut client, _) = Client::upgrade_bytes(stream, &bytes).unwrap();
        for text in &texts {
            assert!(client.receive_text() == *text, "{size}");
        }
    }
    node.wait_until_empty();
}

/// Without it, a client could not tell the end of a stream from one that somebody cut.
#[test]
fn whoever_ends_it_the_stream_has_the_end_that_tls_asks_for() {
    let node = TlsNode::start(&[]);
    let good_bye = frame(Opcode::Close, &1000_u16.to_be_bytes());
    let mistake = b"\xc1\x80".to_vec();
    for (what, bytes) in [("good-bye", good_bye), ("mistake", mistake), ("silence", Vec::new())] {
        let mut stream = node.handshake(connect(node.node.address).unwrap());
        stream.write_all(upgrade_request("/ws/end").as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{what}");
        stream.write_all(&bytes).unwrap();
        if what == "silence" {
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
        let end = stream.read_to_end(&mut Vec::new());
        assert!(end.is_ok(), "{what}: {end:?}");
    }
    node.wait_until_empty();
}

#[test]
fn a_slow_reader_finds_whole_messages_and_the_reason() {
    let node = TlsNode::start(&["limits.backlog_bytes=64KiB", "limits.backlog_age=5m"]);
    let mut publisher = node.join("slow");
    let stream = node.handshake(connect_with_little_room(node.node.address));
    let (mut slow, _) = Client::upgrade(stream, &upgrade_request("/ws/slow")).unwrap();
    wait_until("both are counted", || node.metric("dunlin_subscriptions") == 2.0);
    let text = |number: usize| format!("{number:01024}");
    let mut count = 0;
    while node.metric("dunlin_subscriptions") == 2.0 {
        for _ in 0..64 {
            publisher.send_text(&text(count));
            assert!(publisher.receive_text() == text(count));
            count += 1;
        }
        assert!(count < 100_000, "nobody was slow enough");
    }
    for number in 0.. {
        match slow.receive() {
            Message::Text(got) => assert!(got == text(number), "{number} is missing"),
            Message::Close(code, _) => {
                assert_eq!(code, 1013);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(slow.receive(), Message::End);
    drop((slow, publisher));
    node.wait_until_empty();
}

#[test]
fn clients_are_told_when_the_node_leaves() {
    let mut node = TlsNode::start(&["shutdown.accept_for=0", "shutdown.drain=0"]);
    let mut clients: Vec<_> = (0..4).map(|_| node.join("leaving")).collect();
    node.node.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.receive_close().0, 1012);
        assert_eq!(client.receive(), Message::End);
    }
    drop(clients);
    assert_eq!(node.node.wait_for_end().code(), Some(0));
}

#[test]
fn who_cannot_or_will_not_speak_tls_is_cut_off() {
    let node = TlsNode::start(&["limits.handshake_age=1s", "limits.handshakes=4"]);
    let began_at = Instant::now();
    let mut sockets: Vec<_> = (0..4).map(|_| connect(node.node.address).unwrap()).collect();
    // Nothing; plain HTTP; the beginning of a record; garbage.
    sockets[1].write_all(upgrade_request("/ws").as_bytes()).unwrap();
    sockets[2].write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    sockets[3].write_all(&[0xff; 1000]).unwrap();
    // All places are taken; they become free.
    let mut good = node.join("good");
    good.send_text("hello");
    assert_eq!(good.receive_text(), "hello");
    for socket in &mut sockets {
        // An alert may come first, and then the end of one kind or the other.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    assert!(began_at.elapsed() < PATIENCE);
    drop(good);
    node.wait_until_empty();
}

/// Handshakes that are begun or not even that hold nobody up: the longest silent one goes.
#[test]
fn silent_sockets_leave_places_to_others() {
    let node = TlsNode::start(&["limits.handshake_age=5m", "limits.handshakes=16"]);
    let silent: Vec<_> = (0..200)
        .map(|number| {
            let mut socket = connect(node.node.address).unwrap();
            let begin: &[u8] = if number % 2 == 0 { b"" } else { &[22, 3, 1, 2, 0, 1] };
            socket.write_all(begin).unwrap();
            socket
        })
        .collect();
    let mut good = node.join("good");
    good.send_text("hello");
    assert_eq!(good.receive_text(), "hello");
    assert!(node.metric("dunlin_handshakes_evicted_total{reason=\"full\"}") >= 150.0);
    drop((silent, good));
    node.wait_until_empty();
}

#[test]
fn the_proxy_protocol_comes_before_tls() {
    let node = TlsNode::start(&["proxy.trusted=127.0.0.1", "proxy.protocol=true"]);
    let mut tcp = connect(node.node.address).unwrap();
    tcp.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n").unwrap();
    let request = upgrade_request("/ws/good");
    let (mut good, _) = Client::upgrade(node.handshake(tcp), &request).unwrap();
    good.send_text("hello");
    assert_eq!(good.receive_text(), "hello");
}

#[test]
fn plain_http_is_told_that_tls_is_spoken_here() {
    let node = TlsNode::start(&[]);
    let answer = crate::harness::get(node.node.address, "/health");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("\"no_tls\""), "{}", answer.body);
}

/// An answer that trickles in over TLS is bounded by the one deadline of the handshake too.
#[test]
fn tls_and_http_share_one_deadline() {
    let node = TlsNode::start(&["limits.handshake_age=1s"]);
    let mut stream = node.handshake(connect(node.node.address).unwrap());
    stream.write_all(b"GET /ws HTTP/1.1\r\nX-Slow: ").unwrap();
    let began_at = Instant::now();
    while stream.write_all(b"x").is_ok() {
        assert!(began_at.elapsed() < Duration::from_secs(20), "it goes on for ever");
        // The pace of a trickle.
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn sighup_brings_a_new_certificate_and_keeps_who_is_there() {
    let mut node = TlsNode::start(&[]);
    let address = node.node.address;
    let mut member = node.join("members");
    let knows = |certificate: &CertificateDer<'static>, address: SocketAddr| {
        let mut stream = handshake(connect(address).unwrap(), certificate);
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").is_ok()
    };
    let files = files(node.folder.path());
    let listen = address.to_string();
    let healthcheck = || {
        let flags = ["healthcheck", "--listen", &listen, "--set", &files[0], "--set", &files[1]];
        dunlin(&flags).status.success()
    };
    assert!(knows(&node.certificate, address) && healthcheck());

    let fresh = write_pair(node.folder.path());
    assert!(!knows(&fresh, address) && !healthcheck(), "it cannot know that one yet");
    node.node.signal(Signal::HUP);
    node.node.wait_for_log("SIGHUP: reloaded the certificate");
    assert!(knows(&fresh, address) && healthcheck());
    assert!(!knows(&node.certificate, address));
    member.send_text("still here");
    assert_eq!(member.receive_text(), "still here");

    fs::write(node.folder.path().join("key.pem"), "no key").unwrap();
    node.node.signal(Signal::HUP);
    node.node.wait_for_log("SIGHUP: kept the old certificate");
    assert!(knows(&fresh, address));
}
