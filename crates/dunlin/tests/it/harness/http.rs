//! HTTP/1.1 by hand: what is sent is what the test says, and nothing is corrected.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use socket2::{Domain, Type};

use super::PATIENCE;

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// All headers of a good upgrade but the Host, each with its line end.
pub(crate) const UPGRADE_HEADERS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A good upgrade to `path`.
pub(crate) fn upgrade_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE_HEADERS}\r\n")
}

pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A connection from another address of this machine: `host` is the last part of 127.0.0.x.
pub(crate) fn connect_from(host: u8, address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection whose client takes little before its reads.
pub(crate) fn connect_with_little_room(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// Sends `request` on a connection of its own.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> Response {
    let mut stream = connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    read_response(&mut BufReader::new(stream)).expect("an answer")
}

/// Reads one answer; none when the server closed instead.
pub(crate) fn read_response(stream: &mut impl BufRead) -> Option<Response> {
    let status_line = read_line(stream)?;
    let status = status_line.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response { status, headers, body: String::new() };
    let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
    stream.take(length).read_to_string(&mut response.body).ok()?;
    Some(response)
}

fn read_line(stream: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let length = stream.read_line(&mut line).ok()?;
    (length > 0).then(|| line.trim_end().to_owned())
}
