//! As much of an HTTP client as asking a node for its state takes: one GET, plain or TLS, the
//! status and the first bytes of the body.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::pinned::PinnedClient;

/// Longest wait for each of connecting, sending and receiving.
const PATIENCE: Duration = Duration::from_secs(3);

/// Most bytes of an answer that are read.
const ANSWER_BYTES: u64 = 64 * 1024;

/// Asks for `path`; `host` goes into the header. With `tls` only the node that holds that very
/// certificate is talked to.
///
/// # Errors
/// Whatever goes wrong below HTTP, and an answer that is not HTTP.
pub(super) fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    tls: Option<&PinnedClient>,
) -> io::Result<(u16, String)> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = match tls {
        None => exchange(stream, &request)?,
        Some(tls) => exchange(tls.connect(stream)?, &request)?,
    };
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    Ok((status, body.to_owned()))
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES).read_to_end(&mut answer) {
        // Some end a connection without a farewell; what came is what counts.
        Err(_) if !answer.is_empty() => Ok(answer),
        Err(error) => Err(error),
        Ok(_) => Ok(answer),
    }
}
