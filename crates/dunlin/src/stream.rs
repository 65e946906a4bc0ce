//! A client's byte stream, plain or TLS: non-blocking reads and writes that tell when to wait.
//!
//! A stream is used by two tasks of one shard, one for each direction, and by the hub's fan-out.

use std::{
    cell::RefCell,
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    task::{Context, Poll},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SendFlags, send},
};
use rustls::ServerConnection;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use crate::front::crowd::AddressPlace;

/// A stream that a shard owns.
pub(crate) enum Stream {
    /// Bytes as they are.
    Tcp(TcpStream),
    /// The same, counted for its address. Boxed, so that a stream that is not counted stays small.
    CountedTcp(Box<CountedTcp>),
    /// Bytes through TLS.
    Tls(Box<TlsStream>),
}

/// TLS over TCP, driven by hand: the handshake is over.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    session: RefCell<ServerConnection>,
    /// Given back with the stream.
    place: Option<Box<AddressPlace>>,
}

/// A socket with its place among the connections of its address.
pub(crate) struct CountedTcp {
    tcp: TcpStream,
    /// Given back with the stream.
    place: Box<AddressPlace>,
}

/// A stream on its way from the front to a shard, bound to no event loop.
pub(crate) struct DetachedStream {
    kind: DetachedKind,
    place: Option<Box<AddressPlace>>,
}

enum DetachedKind {
    Tcp(std::net::TcpStream),
    Tls(std::net::TcpStream, Box<ServerConnection>),
}

/// Unsent bytes the kernel may hold before the socket counts as full. Without it the kernel would
/// hide up to 4 MB per slow reader from the backlog's bound.
const UNSENT_BYTES: u32 = 32 * 1024;

/// How long sent bytes may stay without an acknowledgement before the kernel gives up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// How long the kernel keeps the last words for a client that does not read.
#[cfg(target_os = "linux")]
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Sets what every client's socket needs. Fails only when the client is gone already.
pub(crate) fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    }
    #[cfg(not(target_os = "linux"))]
    socket.set_send_buffer_size(4 * UNSENT_BYTES as usize)?;
    Ok(())
}

impl DetachedStream {
    /// Bytes as they are.
    pub(crate) fn tcp(tcp: std::net::TcpStream) -> Self {
        Self { kind: DetachedKind::Tcp(tcp), place: None }
    }

    /// Bytes through TLS, after the handshake.
    pub(crate) fn tls(tcp: std::net::TcpStream, session: ServerConnection) -> Self {
        Self { kind: DetachedKind::Tls(tcp, Box::new(session)), place: None }
    }

    /// With a place that is given back when the stream is gone.
    pub(crate) fn with_place(self, place: Option<Box<AddressPlace>>) -> Self {
        Self { place, ..self }
    }

    /// Sends `bytes`, as far as the socket takes them at once, and closes.
    pub(crate) fn say_last(self, bytes: &[u8]) {
        // Best effort: nobody is told whether it arrived.
        let _ = match self.kind {
            DetachedKind::Tcp(mut tcp) => tcp.write_all(bytes),
            DetachedKind::Tls(mut tcp, mut session) => session
                .writer()
                .write_all(bytes)
                .and_then(|()| session.write_tls(&mut tcp))
                .map(|_| ()),
        };
    }

    /// Binds the stream to the event loop of the calling shard.
    pub(crate) fn attach(self) -> io::Result<Stream> {
        Ok(match (self.kind, self.place) {
            (DetachedKind::Tcp(tcp), None) => Stream::Tcp(TcpStream::from_std(tcp)?),
            (DetachedKind::Tcp(tcp), Some(place)) => {
                let tcp = TcpStream::from_std(tcp)?;
                Stream::CountedTcp(Box::new(CountedTcp { tcp, place }))
            }
            (DetachedKind::Tls(tcp, session), place) => Stream::Tls(Box::new(TlsStream {
                tcp: TcpStream::from_std(tcp)?,
                session: RefCell::new(*session),
                place,
            })),
        })
    }
}

impl Stream {
    /// Waits until reading may make progress. For one task at a time.
    pub(crate) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_read_ready(context)
    }

    /// Waits until writing may make progress. For one task at a time.
    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_write_ready(context)
    }

    /// Reads what is there. `Ok(0)` is the end; [`ErrorKind::WouldBlock`] means wait.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tls(tls) => tls.try_read(buffer),
            _ => try_read(self.tcp(), buffer),
        }
    }

    /// Writes what the socket takes. [`ErrorKind::WouldBlock`] means wait.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tls(tls) => tls.try_write(bytes),
            _ => try_write(self.tcp(), bytes),
        }
    }

    /// Pushes out what [`Stream::try_write`] took and the socket did not. True when all is out.
    pub(crate) fn try_flush(&self) -> io::Result<bool> {
        match self {
            Self::Tls(tls) => tls.try_flush(),
            _ => Ok(true),
        }
    }

    /// Lets the kernel take the last words to a client that does not read: they are a frame's rest
    /// and a close frame, and wait there until it does, or for [`LAST_WORDS`].
    pub(crate) fn make_room_for_last_words(&self) {
        #[cfg(target_os = "linux")]
        {
            let socket = SockRef::from(self.tcp());
            // Best effort: without it they go out when the client reads in time.
            let _ = socket.set_tcp_notsent_lowat(u32::MAX);
            let _ = socket.set_tcp_user_timeout(Some(LAST_WORDS));
        }
    }

    /// Tells the client, where TLS asks for it, that what it got is all there was.
    pub(crate) fn announce_end(&self) {
        if let Self::Tls(tls) = self {
            tls.session.borrow_mut().send_close_notify();
            // Best effort: the connection ends either way.
            let _ = tls.try_flush();
        }
    }

    /// Tells the client that nothing follows; it can still be read from.
    pub(crate) fn shutdown_write(&self) {
        self.announce_end();
        let _ = SockRef::from(self.tcp()).shutdown(Shutdown::Write);
    }

    /// Its place among the connections of its address, if anything is counted by that.
    pub(crate) fn place(&self) -> Option<&AddressPlace> {
        match self {
            Self::Tcp(_) => None,
            Self::CountedTcp(counted) => Some(&counted.place),
            Self::Tls(tls) => tls.place.as_deref(),
        }
    }

    /// Whether it goes through TLS here; a proxy may have ended it before.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::CountedTcp(counted) => &counted.tcp,
            Self::Tls(tls) => &tls.tcp,
        }
    }
}

impl TlsStream {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            if session.read_tls(&mut Socket(&self.tcp))? == 0 {
                // The next read of plaintext says whether that end was announced.
                session.process_new_packets().map_err(io::Error::other)?;
                return session.reader().read(buffer);
            }
            let state = session.process_new_packets();
            if session.wants_write() {
                // An alert or a key update; what does not fit now goes out with the next write.
                let _ = session.write_tls(&mut Socket(&self.tcp));
            }
            state.map_err(io::Error::other)?;
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.try_flush()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = self.session.borrow_mut().writer().write(bytes)?;
        self.try_flush()?;
        Ok(taken)
    }

    fn try_flush(&self) -> io::Result<bool> {
        let mut session = self.session.borrow_mut();
        while session.wants_write() {
            match session.write_tls(&mut Socket(&self.tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Lets rustls read and write a non-blocking socket.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        try_read(self.0, buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        try_write(self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes once, without asking the event loop first: it nearly always succeeds, and asking costs a
/// look at memory that no delivery has touched. Only a full socket makes the event loop wait.
fn try_write(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match send(tcp, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => {
            let full = || Err::<(), _>(ErrorKind::WouldBlock.into());
            tcp.try_io(Interest::WRITABLE, full)?;
            Err(ErrorKind::WouldBlock.into())
        }
        outcome => Ok(outcome?),
    }
}

/// Reads once. A read that does not fill the buffer has emptied the socket, so the readiness is
/// cleared with it: the next wait is for new bytes and needs no read that finds nothing.
fn try_read(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut outcome = None;
    let attempt = tcp.try_io(Interest::READABLE, || {
        let count = (&mut &*SockRef::from(tcp)).read(buffer)?;
        outcome = Some(count);
        if 0 < count && count < buffer.len() {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    match outcome {
        Some(count) => Ok(count),
        None => attempt.map(|()| 0),
    }
}
