//! Listening: on an address, or on a socket that whoever started the node has handed over. Such a
//! socket outlives the node: what comes while no node accepts waits in it for the next one.

use std::{io, net::SocketAddr};

use anyhow::Context;
use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel completes before we accept them: a storm waits there.
const LISTEN_BACKLOG: i32 = 4096;

/// The sockets that were handed over (`LISTEN_FDS`), in the order in which they are taken.
pub(crate) struct Listeners {
    handed_over: ListenFd,
    taken: usize,
}

impl Listeners {
    /// Those that the environment names, if it means this process.
    pub(crate) fn from_env() -> Self {
        Self { handed_over: ListenFd::from_env(), taken: 0 }
    }

    /// Whether some were handed over that nobody took.
    pub(crate) fn has_more(&self) -> bool {
        self.taken < self.handed_over.len()
    }

    /// The next socket that was handed over, wherever it listens; without one, a new one on
    /// `address`.
    ///
    /// # Errors
    /// When it is no listening TCP socket, or the address is in use or not ours to listen on.
    pub(crate) fn take(&mut self, address: SocketAddr) -> anyhow::Result<TcpListener> {
        if !self.has_more() {
            return listen(address).with_context(|| format!("cannot listen on {address}"));
        }
        let number = self.taken;
        self.taken += 1;
        let mut inherited = || -> io::Result<TcpListener> {
            let listener = self.handed_over.take_tcp_listener(number)?;
            let listener = listener.ok_or_else(|| io::Error::other("it is taken already"))?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let listener = inherited().with_context(|| {
            format!("cannot use socket {} of those handed over by LISTEN_FDS", number + 1)
        })?;
        tracing::info!("took the socket that was handed over");
        Ok(listener)
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}
