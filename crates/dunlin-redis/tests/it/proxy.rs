//! Stands between a node and its server and loses or holds what they say, or leads to another
//! server, on demand.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

pub(crate) struct Proxy {
    socket: PathBuf,
    /// Whether what the node says is lost.
    loses_commands: Arc<AtomicBool>,
    /// Whether what the server says is lost.
    loses_answers: Arc<AtomicBool>,
    /// How long a KiB takes in the direction of the node, in microseconds.
    kib_micros: Arc<AtomicU64>,
    /// Whether commands to subscribe are lost, and whether one was.
    loses_subscriptions: [Arc<AtomicBool>; 2],
    cuts: watch::Sender<()>,
    /// Where the next connections lead to.
    server: Arc<Mutex<PathBuf>>,
    /// What nodes say on each connection that was ever made.
    saying: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// How many of the first connections are held.
    held: watch::Sender<usize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn start(server: &Path) -> Self {
        let socket = server.with_extension("proxy");
        let listener = UnixListener::bind(&socket).unwrap();
        let (loses_commands, loses_answers) = (Arc::default(), Arc::default());
        let kib_micros: Arc<AtomicU64> = Arc::default();
        let loses_subscriptions: [_; 2] = Default::default();
        let (cuts, held) = (watch::Sender::new(()), watch::Sender::new(0));
        let server = Arc::new(Mutex::new(server.to_owned()));
        let saying = Arc::<Mutex<Vec<_>>>::default();
        let accepting = tokio::spawn({
            let (server, saying) = (Arc::clone(&server), Arc::clone(&saying));
            let (cuts, held) = (cuts.clone(), held.clone());
            let loses_subscriptions = loses_subscriptions.clone();
            let kib_micros = Arc::clone(&kib_micros);
            let losses = [Arc::clone(&loses_commands), Arc::clone(&loses_answers)];
            async move {
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    let server = server.lock().unwrap().clone();
                    let Ok(server) = UnixStream::connect(&server).await else { continue };
                    let (from_client, to_client) = tokio::io::split(client);
                    let (from_server, to_server) = tokio::io::split(server);
                    let [commands, answers] = losses.clone();
                    let mut saying = saying.lock().unwrap();
                    let way = |loses, kib_micros| Way {
                        loses,
                        kib_micros,
                        loses_subscriptions: loses_subscriptions.clone(),
                        number: saying.len(),
                        held: held.subscribe(),
                        cuts: cuts.subscribe(),
                    };
                    tokio::spawn(
                        way(answers, Arc::clone(&kib_micros)).pass_on(from_server, to_client),
                    );
                    let commands = way(commands, Arc::default()).pass_on(from_client, to_server);
                    saying.push(tokio::spawn(commands));
                }
            }
        });
        Self {
            socket,
            loses_commands,
            loses_answers,
            kib_micros,
            loses_subscriptions,
            cuts,
            server,
            saying,
            held,
            accepting,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    pub(crate) fn lose_answers(&self) {
        self.loses_answers.store(true, Ordering::SeqCst);
    }

    pub(crate) fn lose_commands(&self) {
        self.loses_commands.store(true, Ordering::SeqCst);
    }

    /// Lets so many MiB pass to the node in a second, over each connection.
    pub(crate) fn slow_down(&self, mib_per_second: u64) {
        self.kib_micros.store(1_000_000 / 1024 / mib_per_second, Ordering::SeqCst);
    }

    /// Loses commands to subscribe, if each comes alone.
    pub(crate) fn lose_subscriptions(&self) {
        self.loses_subscriptions[0].store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_lost_subscriptions(&self) -> bool {
        self.loses_subscriptions[1].load(Ordering::SeqCst)
    }

    /// Leads all connections that are made from now on to this server.
    pub(crate) fn lead_to(&self, server: &Path) {
        server.clone_into(&mut self.server.lock().unwrap());
    }

    /// Holds whatever is said on the connections that there are, and keeps them open.
    pub(crate) fn hold(&self) {
        self.held.send_replace(self.saying.lock().unwrap().len());
    }

    /// Lets go of what was held. Returns once the server has it, or does not want it any more; for
    /// that the node must have left those connections.
    pub(crate) async fn release(&self) {
        let held = self.held.send_replace(0);
        let saying: Vec<_> = self.saying.lock().unwrap().drain(..held).collect();
        for said in saying {
            said.await.unwrap();
        }
    }

    /// Cuts all connections; those made from now on lose nothing.
    pub(crate) fn cut(&self) {
        // None is made meanwhile.
        let _saying = self.saying.lock().unwrap();
        self.cuts.send_replace(());
        self.loses_commands.store(false, Ordering::SeqCst);
        self.loses_answers.store(false, Ordering::SeqCst);
        self.loses_subscriptions[0].store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One direction of a connection.
struct Way {
    loses: Arc<AtomicBool>,
    kib_micros: Arc<AtomicU64>,
    loses_subscriptions: [Arc<AtomicBool>; 2],
    number: usize,
    held: watch::Receiver<usize>,
    cuts: watch::Receiver<()>,
}

impl Way {
    async fn pass_on(mut self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = tokio::select! {
                biased;
                _ = self.cuts.changed() => return,
                read = from.read(&mut buffer) => read,
            };
            let Ok(length @ 1..) = read else {
                let _ = to.shutdown().await;
                return;
            };
            let micros = self.kib_micros.load(Ordering::SeqCst) * length as u64 / 1024;
            if micros > 0 {
                // The pace of the way.
                sleep(Duration::from_micros(micros)).await;
            }
            let number = self.number;
            let is_subscription = buffer[..length].windows(9).any(|it| it == b"SUBSCRIBE");
            if is_subscription && self.loses_subscriptions[0].load(Ordering::SeqCst) {
                self.loses_subscriptions[1].store(true, Ordering::SeqCst);
                continue;
            }
            let is_lost = self.loses.load(Ordering::SeqCst)
                || self.held.wait_for(|held| number >= *held).await.is_err();
            if !is_lost && to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}
