//! Starting: the ways to a server, and the sentences that refuse.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use dunlin_redis::broker::Settings;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{UnixListener, UnixStream},
    time::sleep,
};

use crate::{
    node::{Node, Status},
    server::{RedisServer, free_port},
};

pub(crate) async fn refusal(settings: Settings) -> String {
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

pub(crate) async fn talks(node: &Node) {
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
        "~dunlin2:*",
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

/// Stands before a server while it is not ready: answers the ping of one connection after another
/// with an error of `errors`, and from then on lets all through.
async fn serve_when_ready(listener: UnixListener, errors: &[&str], server: PathBuf) {
    let mut errors = errors.iter();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let Some(error) = errors.next() else {
            let mut server = UnixStream::connect(&server).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut stream, &mut server).await });
            continue;
        };
        let mut asked = [0; 1000];
        let _ = stream.read(&mut asked).await.unwrap();
        let hello = "%1\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n";
        stream.write_all(hello.as_bytes()).await.unwrap();
        let length = stream.read(&mut asked).await.unwrap();
        assert!(String::from_utf8_lossy(&asked[..length]).contains("PING"));
        stream.write_all(format!("-{error}\r\n").as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_waited_for() {
    let not_ready = [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script",
        "MASTERDOWN Link with MASTER is down",
        "ERR max number of clients reached",
    ];
    let real = RedisServer::start();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("fake.sock");
    let serve =
        |listener, server| async move { serve_when_ready(listener, &not_ready, server).await };
    let server = tokio::spawn(serve(UnixListener::bind(&path).unwrap(), real.socket()));
    let url = format!("redis+unix://{}", path.display());
    let settings =
        Settings { start_wait: Duration::from_secs(10), ..Settings::new(url.parse().unwrap()) };
    let start = Instant::now();
    let _node = Node::start_with(settings.clone(), 1000).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "it is asked often");
    server.abort();

    // Without patience the sentence says what it is.
    fs::remove_file(&path).unwrap();
    let server = tokio::spawn(serve(UnixListener::bind(&path).unwrap(), real.socket()));
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
    let other = RedisServer::start();
    let node = Node::start(&server).await;
    tokio::task::block_in_place(|| server.crash());
    node.wait_for(Status::Lost);
    fs::remove_file(server.socket()).unwrap();
    let listener = UnixListener::bind(server.socket()).unwrap();
    let errors = ["LOADING Redis is loading the dataset in memory"; 20];
    let real = other.socket();
    let loading = tokio::spawn(async move { serve_when_ready(listener, &errors, real).await });
    let start = Instant::now();
    node.wait_for(Status::Ready);
    // Three links ask seven times each, every eighth of a second on average.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    loading.abort();
}

fn settings_of_nobody() -> Settings {
    Settings::new(format!("redis://127.0.0.1:{}", free_port()).parse().unwrap())
}

/// Takes every log line of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes all lines of the tasks of this thread until the guard is dropped.
    fn of_this_thread() -> (Self, LogGuard) {
        // While there is just one subscriber, whoever comes to a line first decides for good
        // whether it is wanted, and the threads of other tests want none.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, LogGuard { _second: second, _default: tracing::subscriber::set_default(subscriber) })
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    async fn wait_for(&self, mut is_there: impl FnMut(&str) -> bool) {
        let start = Instant::now();
        while !is_there(&self.text()) {
            assert!(start.elapsed() < Duration::from_secs(15), "not there: {}", self.text());
            // Polls up to a deadline: the links run beside this test.
            sleep(Duration::from_millis(5)).await;
        }
    }
}

struct LogGuard {
    _second: tracing::Dispatch,
    _default: tracing::subscriber::DefaultGuard,
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_room_for_no_more_clients_is_waited_for() {
    let server = RedisServer::start_with(&["--maxclients", "3"]);
    let clients: Vec<_> = (0..3).map(|_| server.client().get_connection().unwrap()).collect();
    let settings = Settings::new(server.url());
    let refusal = refusal(settings.clone()).await;
    assert!(refusal.contains("is not ready: ERR max number of clients"), "{refusal}");
    let settings = Settings { start_wait: Duration::from_secs(15), ..settings };
    let start = tokio::spawn(async { Node::start_with(settings, 1000).await });
    // Long enough for some attempts that fail.
    sleep(Duration::from_millis(300)).await;
    assert!(!start.is_finished());
    drop(clients);
    talks(&start.await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn the_log_says_once_why_there_is_no_link() {
    let (log, _guard) = Log::of_this_thread();
    let mut server = RedisServer::start();
    let _node = Node::start(&server).await;
    server.crash();
    // Three links that try again and again.
    let reason = "cannot be reached: Connection refused";
    log.wait_for(|text| text.matches(reason).count() >= 10).await;
    let lines = log.text();
    let told: Vec<_> =
        lines.lines().filter(|line| line.contains(reason) && line.contains(" WARN ")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn no_log_line_tells_a_password() {
    let (log, _guard) = Log::of_this_thread();
    let mut server = RedisServer::start_with(&["--requirepass", "hunter2"]);
    let settings = with_access(&server, ":hunter2@");
    assert!(!format!("{settings:?}").contains("hunter2"));
    let _node = Node::start_with(settings, 1000).await.unwrap();
    server.crash();
    log.wait_for(|text| text.contains("redis cannot be reached")).await;
    // It comes back with another password: the links are refused.
    server.set_arguments(&["--requirepass", "hunter3"]);
    server.run();
    log.wait_for(|text| text.contains("does not accept the user name")).await;
    assert!(!log.text().contains("hunter"), "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_refused_and_waited_for_until_it_is_promoted() {
    let server = RedisServer::start();
    let follow = |host: &str, port: &str| {
        server.run_command::<()>(&[b"REPLICAOF", host.as_bytes(), port.as_bytes()]);
    };
    follow("127.0.0.1", &free_port().to_string());
    let refusal = refusal(Settings::new(server.url())).await;
    assert!(refusal.ends_with("is a replica: its primary is wanted"), "{refusal}");

    let patient = Settings { start_wait: Duration::from_secs(10), ..Settings::new(server.url()) };
    let starting = tokio::spawn(Node::start_with(patient, 1000));
    follow("NO", "ONE");
    talks(&starting.await.unwrap().unwrap()).await;
}
