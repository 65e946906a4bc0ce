//! Stands between a node and its server and loses what they say, on demand.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

pub(crate) struct Proxy {
    socket: PathBuf,
    /// Whether what the node says is lost.
    loses_commands: Arc<AtomicBool>,
    /// Whether what the server says is lost.
    loses_answers: Arc<AtomicBool>,
    cuts: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn start(server: &Path) -> Self {
        let socket = server.with_extension("proxy");
        let listener = UnixListener::bind(&socket).unwrap();
        let (loses_commands, loses_answers) = (Arc::default(), Arc::default());
        let cuts = watch::Sender::new(());
        let accepting = tokio::spawn({
            let (server, cuts) = (server.to_owned(), cuts.clone());
            let losses = [Arc::clone(&loses_commands), Arc::clone(&loses_answers)];
            async move {
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    let Ok(server) = UnixStream::connect(&server).await else { continue };
                    let (from_client, to_client) = tokio::io::split(client);
                    let (from_server, to_server) = tokio::io::split(server);
                    let [commands, answers] = losses.clone();
                    tokio::spawn(pass_on(from_client, to_server, commands, cuts.subscribe()));
                    tokio::spawn(pass_on(from_server, to_client, answers, cuts.subscribe()));
                }
            }
        });
        Self { socket, loses_commands, loses_answers, cuts, accepting }
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

    /// Cuts all connections; those made from now on lose nothing.
    pub(crate) fn cut(&self) {
        self.cuts.send_replace(());
        self.loses_commands.store(false, Ordering::SeqCst);
        self.loses_answers.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    loses: Arc<AtomicBool>,
    mut cuts: watch::Receiver<()>,
) {
    let mut buffer = [0; 4096];
    loop {
        let read = tokio::select! {
            biased;
            _ = cuts.changed() => return,
            read = from.read(&mut buffer) => read,
        };
        let Ok(length @ 1..) = read else { return };
        let is_lost = loses.load(Ordering::SeqCst);
        if !is_lost && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
