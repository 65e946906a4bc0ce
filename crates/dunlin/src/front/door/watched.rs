//! A visitor's socket, which tells the door when its client is silent.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::Pass;

/// A socket that tells the door when nothing comes from it, and when it takes what it is sent.
pub(crate) struct Watched {
    tcp: TcpStream,
    pass: Pass,
    /// What was read to see what it is, and is still to be read.
    early: BytesMut,
}

/// Bytes that are read at a time before it is known what they are: less than anybody who reads
/// afterwards takes at once.
const EARLY_BYTES: usize = 512;

impl Watched {
    pub(crate) fn new(tcp: TcpStream, pass: Pass) -> Self {
        Self { tcp, pass, early: BytesMut::new() }
    }

    /// The socket, unless something was read from it that nobody took.
    pub(crate) fn into_inner(self) -> Option<TcpStream> {
        self.early.is_empty().then_some(self.tcp)
    }

    /// What has come so far and will be read again.
    pub(crate) fn early(&self) -> &[u8] {
        &self.early
    }

    /// Adds to [`Watched::early`]; 0 = nothing more comes.
    pub(crate) async fn read_early(&mut self) -> io::Result<usize> {
        let mut bytes = [0; EARLY_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        poll_fn(|context| self.poll_read_socket(context, &mut buffer)).await?;
        self.early.extend_from_slice(buffer.filled());
        Ok(buffer.filled().len())
    }

    /// Takes `count` bytes of [`Watched::early`] for good.
    pub(crate) fn skip(&mut self, count: usize) {
        self.early.advance(count);
    }

    fn poll_read_socket(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.tcp).poll_read(context, buffer);
        if read.is_pending() {
            self.pass.found_silent();
        }
        read
    }

    fn tcp(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().tcp)
    }

    fn took(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.pass.took();
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return self.poll_read_socket(context, buffer);
        }
        let count = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..count]);
        self.early.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().tcp().poll_write(context, bytes);
        self.took(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().tcp().poll_write_vectored(context, slices);
        self.took(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_shutdown(context)
    }
}
