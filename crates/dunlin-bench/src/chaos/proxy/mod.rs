//! A TCP proxy between a node and a Redis, whose way can be made bad in every manner a network has.
//! Two threads per link, one for each direction.

mod pump;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::net::connect_unspec;

use self::pump::Direction;

/// How bytes pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    Open,
    /// Each direction takes so much longer.
    Delayed(Duration),
    /// So many bytes per second in each direction, all links together.
    Limited(u64),
    /// One byte at a time.
    Sliced,
    /// Nothing passes. What is sent meanwhile arrives when the way is open again, as with packets
    /// that are lost and sent again: also what a side sent before it gave the link up.
    Blocked,
    /// As with [`Self::Blocked`], but when the way is open again, what was held arrives when TCP
    /// would have sent it again: the longer it was held, the later.
    Lost,
    /// The same as blocked for what the server says only.
    Mute,
}

/// A listener whose links all go to one server.
pub(crate) struct Proxy {
    /// Where to connect to.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    server: SocketAddr,
    way: Way,
    links: Vec<Link>,
    last_number: u64,
    closed: bool,
    /// When what has been let into a limited way will have passed it, by direction.
    free_at: [u64; 2],
}

/// Both sockets of a link.
struct Link {
    number: u64,
    node: TcpStream,
    server: TcpStream,
    /// How many of them still go on.
    directions: u8,
}

impl Proxy {
    /// Listens on a free port.
    pub(crate) fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (way, links) = (Way::Open, Vec::new());
        let state = State { server, way, links, last_number: 0, closed: false, free_at: [0; 2] };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for node in listener.incoming() {
                if accepting.lock().closed {
                    break;
                }
                if let Ok(node) = node {
                    // A server that is not there refuses: the link ends at once.
                    let _ = accepting.link(node);
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// From now on bytes pass like this.
    pub(crate) fn set_way(&self, way: Way) {
        self.shared.lock().way = way;
        self.shared.changed.notify_all();
    }

    /// From now on new links go to this server.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        self.shared.lock().server = server;
    }

    /// Ends one link, chosen by any number.
    pub(crate) fn cut_one(&self, choice: usize) {
        let mut state = self.shared.lock();
        if !state.links.is_empty() {
            let index = choice % state.links.len();
            let link = state.links.swap_remove(index);
            let _ = link.node.shutdown(Shutdown::Both);
            let _ = link.server.shutdown(Shutdown::Both);
        }
    }

    /// Ends all links, as a peer does that closes.
    pub(crate) fn cut(&self) -> usize {
        self.end(|link| {
            let _ = link.node.shutdown(Shutdown::Both);
            let _ = link.server.shutdown(Shutdown::Both);
        })
    }

    /// Ends all links by RST.
    pub(crate) fn reset(&self) -> usize {
        self.end(|link| {
            let _ = connect_unspec(&link.node);
            let _ = connect_unspec(&link.server);
        })
    }

    /// Tells one side of all links that the other has said its last word; the other direction goes
    /// on.
    pub(crate) fn half_close(&self, side: Side) -> usize {
        let state = self.shared.lock();
        for link in &state.links {
            let _ = match side {
                Side::Node => link.node.shutdown(Shutdown::Write),
                Side::Server => link.server.shutdown(Shutdown::Write),
            };
        }
        state.links.len()
    }

    fn end(&self, end: impl FnMut(&Link)) -> usize {
        let links = std::mem::take(&mut self.shared.lock().links);
        links.iter().for_each(end);
        self.shared.changed.notify_all();
        links.len()
    }
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Side {
    Node,
    Server,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.cut();
        // The listener's thread is told to look.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(self: &Arc<Self>, node: TcpStream) -> io::Result<()> {
        let server = self.lock().server;
        let server = TcpStream::connect_timeout(&server, DIAL_TIMEOUT)?;
        node.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let up = (node.try_clone()?, server.try_clone()?, Direction::Up);
        let down = (server.try_clone()?, node.try_clone()?, Direction::Down);
        let mut state = self.lock();
        state.last_number += 1;
        let number = state.last_number;
        state.links.push(Link { number, node, server, directions: 2 });
        drop(state);
        for (from, to, direction) in [up, down] {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                let passed = shared.pump(from, to, direction);
                shared.end_direction(number, passed.is_err());
            });
        }
        Ok(())
    }

    /// A direction has ended; a link ends with both, or when one has failed.
    fn end_direction(&self, number: u64, failed: bool) {
        let mut state = self.lock();
        let Some(index) = state.links.iter().position(|link| link.number == number) else {
            return;
        };
        let link = &mut state.links[index];
        link.directions -= 1;
        if failed || link.directions == 0 {
            let link = state.links.swap_remove(index);
            let _ = link.node.shutdown(Shutdown::Both);
            let _ = link.server.shutdown(Shutdown::Both);
        }
    }
}

const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
