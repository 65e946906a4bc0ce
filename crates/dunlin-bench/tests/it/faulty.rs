//! A fan-out server over tungstenite (so that our client meets a WebSocket it does not know) that
//! makes one mistake.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use tungstenite::{Error, Message, WebSocket, protocol::frame::CloseFrame};

/// What goes wrong, once, at the `AT`-th message for the last connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    Nothing,
    Drop,
    Duplicate,
    SwapWithNext,
    Foreign,
    Close(u16),
    HangUp,
}

/// Which message.
const AT: usize = 10;

type Socket = WebSocket<TcpStream>;

/// Serves `connections` at a time: accepts so many, fans out until all are gone, starts again.
pub(crate) fn serve(connections: usize, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        loop {
            fan_out(accept(&listener, connections), fault);
        }
    });
    address
}

fn accept(listener: &TcpListener, connections: usize) -> Vec<Socket> {
    let accept = |_| {
        let (stream, _) = listener.accept().unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        // A ping right behind the handshake, where a client may forget to look.
        socket.send(Message::Ping("are you there".into())).unwrap();
        socket
    };
    (0..connections).map(accept).collect()
}

fn fan_out(mut sockets: Vec<Socket>, fault: Fault) {
    let (mut count, mut held) = (0, None);
    loop {
        let mut arrived = Vec::new();
        sockets.retain_mut(|socket| {
            match socket.read() {
                Ok(Message::Text(text)) => arrived.push(Message::Text(text)),
                Ok(Message::Pong(text)) => assert_eq!(&text[..], b"are you there"),
                Ok(_) => {}
                Err(Error::Io(error)) if is_timeout(error.kind()) => {}
                Err(_) => return false,
            }
            true
        });
        let Some((last, others)) = sockets.split_last_mut() else { return };
        for message in arrived {
            count += 1;
            others.iter_mut().for_each(|socket| send(socket, &message));
            if count == AT {
                commit(fault, last, &message, &mut held);
            } else {
                send(last, &message);
                held.take().iter().for_each(|held| send(last, held));
            }
        }
    }
}

fn commit(fault: Fault, socket: &mut Socket, message: &Message, held: &mut Option<Message>) {
    match fault {
        Fault::Nothing => send(socket, message),
        Fault::Drop => {}
        Fault::Duplicate => {
            send(socket, message);
            send(socket, message);
        }
        Fault::SwapWithNext => *held = Some(message.clone()),
        Fault::Foreign => {
            send(socket, &Message::text("hello"));
            send(socket, message);
        }
        Fault::Close(code) => {
            let frame = CloseFrame { code: code.into(), reason: "try again later".into() };
            socket.close(Some(frame)).unwrap();
        }
        Fault::HangUp => socket.get_ref().shutdown(std::net::Shutdown::Both).unwrap(),
    }
}

/// What became of the connection shows in the client's report.
fn send(socket: &mut Socket, message: &Message) {
    let _ = socket.send(message.clone());
}

/// Whether nothing has come yet.
pub(crate) fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
