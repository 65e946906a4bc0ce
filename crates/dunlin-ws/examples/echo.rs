//! An echo server with one thread per connection: what a caller of this crate has to do.
//!
//! `cargo run --release -p dunlin-ws --example echo -- 127.0.0.1:9001`

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use dunlin_ws::{
    CloseCode, Compression, Context, Decoder, Deflater, Event, Limits, Request, accept,
    close_frame, compressed_message_frame, message_frame, pong_frame,
};

/// Far beyond the defaults: conformance suites send big messages in many fragments.
const LIMITS: Limits =
    Limits { message_bytes: 32 << 20, message_fragments: 131_072, inflate_ratio: 1000 };

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let listener = TcpListener::bind(address)?;
    loop {
        let (stream, _) = listener.accept()?;
        thread::spawn(|| serve(stream));
    }
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(compression) = upgrade(&mut stream)? else { return Ok(()) };
    let mut decoder = Decoder::new(compression);
    let mut context = Context::new(LIMITS); // a real server has one per thread
    let mut deflater = Deflater::new(); // as well
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let filled = stream.read(&mut buffer)?;
        if filled == 0 {
            return Ok(());
        }
        let mut at = 0;
        while at < filled {
            let (used, event) = match decoder.decode(&mut context, &mut buffer[at..filled]) {
                Ok(decoded) => decoded,
                Err(error) => {
                    let frame = close_frame(error.close_code(), &error.to_string());
                    return stream.write_all(&frame);
                }
            };
            at += used;
            let answer = match event {
                Some(Event::Message { kind, payload }) if compression.may_send() => {
                    compressed_message_frame(kind, deflater.deflate(payload))
                }
                Some(Event::Message { kind, payload }) => message_frame(kind, payload),
                Some(Event::Ping(payload)) => pong_frame(payload),
                Some(Event::Close { code, reason }) => {
                    let code = code.unwrap_or(CloseCode::NORMAL);
                    return stream.write_all(&close_frame(code, reason));
                }
                Some(Event::Pong(_)) | None => continue,
            };
            stream.write_all(&answer)?;
        }
    }
}

/// Answers the handshake; `None` if it was refused.
fn upgrade(stream: &mut TcpStream) -> io::Result<Option<Compression>> {
    let head: Vec<String> = BufReader::new(stream.try_clone()?.take(16 * 1024))
        .lines()
        .take_while(|line| line.as_ref().map_or(true, |line| !line.is_empty()))
        .collect::<Result<_, _>>()?;
    let (first, headers) = head.split_first().ok_or(io::ErrorKind::UnexpectedEof)?;
    let headers = headers.iter().filter_map(|line| line.split_once(':'));
    let request = Request {
        method: first.split(' ').next().unwrap_or_default(),
        http_11: first.ends_with("HTTP/1.1"),
        headers: headers.map(|(name, value)| (name, value.trim().as_bytes())),
    };
    let accept = match accept(request, Compression::On) {
        Ok(accept) => accept,
        Err(refusal) => {
            write!(stream, "HTTP/1.1 {} Refused\r\n\r\n{refusal}", refusal.status())?;
            return Ok(None);
        }
    };
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        accept.key
    );
    if let Some(extensions) = accept.extensions {
        answer += &format!("Sec-WebSocket-Extensions: {extensions}\r\n");
    }
    stream.write_all((answer + "\r\n").as_bytes())?;
    Ok(Some(accept.compression))
}
