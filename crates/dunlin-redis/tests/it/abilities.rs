//! Servers that lack what Dunlin rests on: what they can do counts, and not what they call
//! themselves.

use std::path::PathBuf;

use dunlin_redis::broker::Settings;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::{
    cluster::Cluster,
    node::Node,
    server::RedisServer,
    start::{refusal, talks},
};

/// Stands before a server and answers one command itself.
struct Disguise {
    directory: TempDir,
    accepting: JoinHandle<()>,
}

impl Disguise {
    fn new(server: &RedisServer, command: &'static str, answer: &'static str) -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("other.sock")).unwrap();
        let socket = server.socket();
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(disguise(client, socket.clone(), command, answer));
            }
        });
        Self { directory, accepting }
    }

    fn settings(&self) -> Settings {
        let socket = self.directory.path().join("other.sock");
        Settings::new(format!("redis+unix://{}", socket.display()).parse().unwrap())
    }
}

impl Drop for Disguise {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn disguise(mut client: UnixStream, server: PathBuf, command: &str, answer: &str) {
    let mut server = UnixStream::connect(server).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 100_000], vec![0; 100_000]);
    loop {
        tokio::select! {
            length = client.read(&mut asked) => {
                let Ok(length @ 1..) = length else { return };
                let is_it = String::from_utf8_lossy(&asked[..length]).contains(command);
                server.write_all(&asked[..length]).await.unwrap();
                if is_it {
                    let _ = server.read(&mut answered).await;
                    let _ = client.write_all(answer.as_bytes()).await;
                }
            }
            length = server.read(&mut answered) => {
                let Ok(length @ 1..) = length else { return };
                let _ = client.write_all(&answered[..length]).await;
            }
        }
    }
}

const HELLO_2_41: &str = "%3\r\n$6\r\nserver\r\n$5\r\nother\r\n$7\r\nversion\r\n$6\r\n2.41.0\r\n\
    $4\r\nmode\r\n$10\r\nstandalone\r\n";
const NO_SHEBANG: &str = "-ERR Error compiling script (new function): user_script:1: unexpected \
    symbol near '#'\r\n";

#[tokio::test]
async fn a_product_that_counts_its_versions_differently_will_do() {
    let server = RedisServer::start();
    let other = Disguise::new(&server, "HELLO", HELLO_2_41);
    talks(&Node::start_with(other.settings(), 1000).await.unwrap()).await;
}

#[tokio::test]
async fn a_server_without_scripts_is_refused_in_words() {
    let server = RedisServer::start_with(&["--rename-command", "EVAL", ""]);
    let refusal = refusal(Settings::new(server.url())).await;
    assert!(refusal.contains("runs no scripts as Redis does since 7.0"), "{refusal}");
    assert!(refusal.contains("unknown command"), "in its own words: {refusal}");

    let server = RedisServer::start();
    let old = Disguise::new(&server, "EVAL", NO_SHEBANG);
    let refusal = self::refusal(old.settings()).await;
    assert!(refusal.contains("runs no scripts as Redis does since 7.0"), "{refusal}");
}

#[tokio::test]
async fn a_server_of_32_bits_is_refused_in_words() {
    let server = RedisServer::start();
    let narrow = Disguise::new(&server, "EVAL", "$8\r\n\0\0\0\0\0\0\0\0\r\n");
    let refusal = refusal(narrow.settings()).await;
    assert!(
        refusal.ends_with("is built for 32 bits, so that positions in histories would be wrong")
    );
}

#[tokio::test]
async fn a_server_without_sections_of_info_is_refused_in_words() {
    let server = RedisServer::start();
    for answer in ["-ERR section is not supported\r\n", "$10\r\n# Server\r\n\r\n"] {
        let nameless = Disguise::new(&server, "INFO", answer);
        let refusal = refusal(nameless.settings()).await;
        assert!(refusal.contains("does not say which server it is (run_id in INFO"), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_is_not_taken_for_a_server_of_its_own() {
    let cluster = tokio::task::block_in_place(|| Cluster::start(0));
    let url = format!("redis://{}", cluster.nodes[0].address());
    let refusal = refusal(Settings::new(url.parse().unwrap())).await;
    assert!(refusal.contains("is a node of a cluster"), "{refusal}");
}
