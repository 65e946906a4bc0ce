//! Starting: the ways to a server, and the sentences that refuse.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use dunlin_core::broker::BrokerStatus;
use dunlin_redis::{
    broker::Settings,
    url::{Endpoint, RedisUrl, Security},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    time::sleep,
};

use crate::{
    node::Node,
    server::{RedisServer, free_port},
};

async fn refusal(settings: Settings) -> String {
    match Node::start_with(settings, 1000).await {
        Ok(_) => panic!("it started"),
        Err(error) => {
            assert!(std::error::Error::source(&error).is_none(), "the sentence says it all");
            error.to_string()
        }
    }
}

fn with_access(server: &RedisServer, credentials: &str) -> Settings {
    let url = format!("redis+unix://{credentials}{}", server.socket().display());
    Settings::new(url.parse().unwrap())
}

async fn talks(node: &Node) {
    node.join("chat").await;
    node.say("chat", "hi").await;
    assert_eq!(node.receive_texts(1).await, ["hi"]);
}

#[tokio::test]
async fn where_nobody_listens() {
    let port = free_port();
    let url = format!("redis://:hunter2@127.0.0.1:{port}");
    let refusal = refusal(Settings::new(url.parse().unwrap())).await;
    let start = format!("redis at redis://127.0.0.1:{port} cannot be reached: ");
    assert!(refusal.starts_with(&start) && !refusal.contains("hunter2"), "{refusal}");

    let directory = TempDir::new().unwrap();
    let url = format!("redis+unix://{}/no.sock", directory.path().display());
    let refusal = self::refusal(Settings::new(url.parse().unwrap())).await;
    assert!(refusal.contains("/no.sock cannot be reached: No such file"), "{refusal}");
}

#[tokio::test]
async fn names_and_passwords() {
    let server = RedisServer::start_with(&[
        "--requirepass",
        "s3:cret/",
        "--user",
        "ann",
        "on",
        ">pass",
        "&dunlin:*",
        "+@all",
    ]);
    for (credentials, complaint) in [
        ("", "wants a password, and the url has none"),
        (":wrong@", "does not accept the user name or password"),
        ("bob:s3%3Acret%2F@", "does not accept the user name or password"),
    ] {
        let refusal = refusal(with_access(&server, credentials)).await;
        assert!(refusal.ends_with(complaint), "{refusal}");
        assert!(!refusal.contains("wrong@") && !refusal.contains("cret"), "{refusal}");
    }
    for credentials in [":s3%3Acret%2F@", "default:s3%3Acret%2F@", "ann:pass@"] {
        let node = Node::start_with(with_access(&server, credentials), 1000).await.unwrap();
        talks(&node).await;
    }
}

#[tokio::test]
async fn a_user_who_may_not_ping() {
    let rules = ["--user", "ann", "on", ">pass", "allchannels", "+@all", "-ping"];
    let server = RedisServer::start_with(&rules);
    let refusal = refusal(with_access(&server, "ann:pass@")).await;
    assert!(refusal.contains("refused: NOPERM"), "{refusal}");
}

#[tokio::test]
async fn a_port_and_a_database() {
    let port = free_port().to_string();
    let _server = RedisServer::start_with(&["--port", &port]);
    let url = format!("redis://localhost:{port}/3");
    let node = Node::start_with(Settings::new(url.parse().unwrap()), 1000).await.unwrap();
    talks(&node).await;
    let refusal = refusal(Settings::new(format!("redis://localhost:{port}/99").parse().unwrap()));
    let refusal = refusal.await;
    assert!(refusal.contains("refused: ERR DB index is out of range"), "{refusal}");
}

/// A server that gives one answer to whatever it is asked.
async fn answer_with(answer: &'static str) -> String {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("fake.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let serve = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1000]).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.read(&mut [0; 1000]).await;
    });
    let url = format!("redis+unix://ann:hunter2@{}", path.display());
    let connect_timeout = Duration::from_millis(300);
    let refusal =
        refusal(Settings { connect_timeout, ..Settings::new(url.parse().unwrap()) }).await;
    serve.abort();
    assert!(!refusal.contains("hunter2"), "{refusal}");
    refusal.split_once(".sock ").unwrap().1.to_owned()
}

#[tokio::test]
async fn servers_that_will_not_do() {
    let old = "%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n\
        $5\r\nproto\r\n:3\r\n";
    assert_eq!(
        answer_with(old).await,
        "is too old: its version is 6.2.14, and 7.0 is the oldest that will do"
    );
    let ancient = "-ERR unknown command `HELLO`, with args beginning with: \
        `3`, `AUTH`, `ann`, `hunter2`, \r\n";
    assert!(answer_with(ancient).await.starts_with("is too old: "));
    assert!(answer_with("-NOPROTO unsupported protocol version\r\n").await.contains("too old"));
    let sentinel = "%2\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n";
    assert!(answer_with(sentinel).await.contains("sentinel"));
    assert_eq!(
        answer_with("-ERR max clients, hunter2\r\n").await,
        "refused: ERR max clients, [redacted]"
    );
    assert!(
        answer_with("HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .starts_with("does not speak the redis protocol: ")
    );
    assert_eq!(answer_with("").await, "did not answer within 300ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_server_that_comes_later() {
    let mut server = RedisServer::prepare();
    let settings = Settings { start_wait: Duration::from_secs(15), ..Settings::new(server.url()) };
    let start = tokio::spawn(async { Node::start_with(settings, 1000).await });
    // Long enough for some attempts that fail.
    sleep(Duration::from_millis(200)).await;
    assert!(!start.is_finished());
    tokio::task::block_in_place(|| server.run());
    talks(&start.await.unwrap().unwrap()).await;

    let settings = Settings { start_wait: Duration::from_millis(300), ..settings_of_nobody() };
    let start = Instant::now();
    assert!(refusal(settings).await.contains("cannot be reached"));
    assert!(start.elapsed() < Duration::from_secs(2));
}

/// Stands for a server that greets and is not ready: it answers one ping after the other with an
/// error of `errors`, and from then on as a server would that is.
async fn serve_when_ready(listener: UnixListener, errors: &[&str]) {
    let mut errors = errors.iter();
    let mut streams = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 1000];
        let _ = stream.read(&mut asked).await.unwrap();
        let hello = "%1\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n";
        stream.write_all(hello.as_bytes()).await.unwrap();
        let length = stream.read(&mut asked).await.unwrap();
        assert!(String::from_utf8_lossy(&asked[..length]).contains("PING"));
        let error = errors.next();
        let answer = error.map_or("$6\r\ndunlin\r\n".to_owned(), |error| format!("-{error}\r\n"));
        stream.write_all(answer.as_bytes()).await.unwrap();
        if error.is_none() {
            let length = stream.read(&mut asked).await.unwrap();
            assert!(String::from_utf8_lossy(&asked[..length]).contains("INFO"));
            stream.write_all(b"$15\r\nrun_id:0123abcd\r\n").await.unwrap();
            streams.push(stream);
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_waited_for() {
    let not_ready = [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script",
        "MASTERDOWN Link with MASTER is down",
    ];
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("fake.sock");
    let server = tokio::spawn({
        let listener = UnixListener::bind(&path).unwrap();
        async move { serve_when_ready(listener, &not_ready).await }
    });
    let url = format!("redis+unix://{}", path.display());
    let settings =
        Settings { start_wait: Duration::from_secs(10), ..Settings::new(url.parse().unwrap()) };
    let start = Instant::now();
    let _node = Node::start_with(settings.clone(), 1000).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "it is asked often");
    server.abort();

    // Without patience the sentence says what it is.
    fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move { serve_when_ready(listener, &not_ready).await });
    let settings = Settings { start_wait: Duration::ZERO, ..settings };
    assert!(
        refusal(settings)
            .await
            .ends_with("is not ready: LOADING Redis is loading the dataset in memory")
    );
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_not_ready_is_asked_often() {
    let mut server = RedisServer::start();
    let node = Node::start(&server).await;
    tokio::task::block_in_place(|| server.crash());
    node.wait_for(BrokerStatus::Lost);
    fs::remove_file(server.socket()).unwrap();
    let listener = UnixListener::bind(server.socket()).unwrap();
    let errors = ["LOADING Redis is loading the dataset in memory"; 20];
    let loading = tokio::spawn(async move { serve_when_ready(listener, &errors).await });
    let start = Instant::now();
    node.wait_for(BrokerStatus::Ready);
    // Three links ask seven times each, every eighth of a second on average.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    loading.abort();
}

fn settings_of_nobody() -> Settings {
    Settings::new(format!("redis://127.0.0.1:{}", free_port()).parse().unwrap())
}

/// A certificate authority and a key for `localhost` that it signed, as files in PEM.
struct Certificates {
    directory: TempDir,
    authority_pem: Vec<u8>,
}

impl Certificates {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority_pem = params.self_signed(&key).unwrap().pem().into_bytes();
        let issuer = Issuer::new(params, key);

        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(directory.path().join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(directory.path().join("certificate.pem"), certificate.pem()).unwrap();
        Self { directory, authority_pem }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

#[tokio::test]
async fn tls() {
    let certificates = Certificates::new();
    let port = free_port();
    let server = RedisServer::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        certificates.file("certificate.pem").to_str().unwrap(),
        "--tls-key-file",
        certificates.file("key.pem").to_str().unwrap(),
        "--tls-auth-clients",
        "no",
    ]);
    let url: RedisUrl = format!("rediss://localhost:{port}").parse().unwrap();
    let settings = Settings {
        authorities_pem: Some(certificates.authority_pem.clone()),
        ..Settings::new(url.clone())
    };
    let node = Node::start_with(settings.clone(), 100_000).await.unwrap();
    talks(&node).await;
    // More than a socket takes at once, both ways.
    let text = "x".repeat(1 << 20);
    for _ in 0..8 {
        drop(node.publish("chat", dunlin_core::publication::Kind::Text, text.as_bytes()));
    }
    assert!(node.receive_texts(8).await.iter().all(|received| received == text.as_bytes()));

    let stranger = Certificates::new();
    let settings = Settings { authorities_pem: Some(stranger.authority_pem), ..settings };
    let refusal = refusal(settings.clone()).await;
    assert!(refusal.contains("failed the tls handshake: "), "{refusal}");

    let other_name = Endpoint::Tcp { host: "127.0.0.1".into(), port, security: Security::Tls };
    let settings = Settings {
        url: RedisUrl { endpoint: other_name, ..url },
        authorities_pem: Some(certificates.authority_pem),
        ..settings
    };
    let refusal = self::refusal(settings.clone()).await;
    assert!(refusal.contains("failed the tls handshake: "), "{refusal}");

    let settings = Settings { authorities_pem: Some(b"no certificate".to_vec()), ..settings };
    let refusal = self::refusal(settings).await;
    assert!(refusal.contains("certificate authorities"), "{refusal}");
    drop(server);
}

/// Takes every log line of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    async fn wait_for(&self, words: &str) {
        let start = Instant::now();
        while !self.text().contains(words) {
            assert!(start.elapsed() < Duration::from_secs(15), "no {words:?}: {}", self.text());
            // Polls up to a deadline: the links run beside this test.
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_line_tells_a_password() {
    // While there is just one subscriber, whoever comes to a line first decides for good whether it
    // is wanted, and the threads of other tests want none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let mut server = RedisServer::start_with(&["--requirepass", "hunter2"]);
    let settings = with_access(&server, ":hunter2@");
    assert!(!format!("{settings:?}").contains("hunter2"));
    let _node = Node::start_with(settings, 1000).await.unwrap();
    server.crash();
    log.wait_for("redis closed the connection").await;
    // It comes back with another password: the links are refused.
    server.set_arguments(&["--requirepass", "hunter3"]);
    server.run();
    log.wait_for("does not accept the user name").await;
    assert!(!log.text().contains("hunter"), "{}", log.text());
}
