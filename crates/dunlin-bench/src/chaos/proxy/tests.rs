//! The proxy between a client and a server that sends everything back.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{Proxy, Side, Way};

fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn link() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ask(&mut stream, b"hello"), b"hello");
    (proxy, stream)
}

fn ask(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let silent = stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    silent
}

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn bytes_pass_in_every_manner() {
    let (proxy, mut stream) = link();
    for way in [Way::Sliced, Way::Limited(1000), Way::Delayed(Duration::from_millis(30)), Way::Open]
    {
        proxy.set_way(way);
        let began = Instant::now();
        assert_eq!(ask(&mut stream, &[b'x'; 50]), [b'x'; 50], "{way:?}");
        let least = match way {
            // There and back.
            Way::Delayed(delay) => delay * 2,
            Way::Limited(per_second) => Duration::from_secs(50) / per_second as u32,
            _ => Duration::ZERO,
        };
        assert!(began.elapsed() >= least, "{way:?}");
    }
}

#[test]
fn what_is_sent_into_a_blocked_way_arrives_later_even_from_who_gave_up() {
    let (proxy, mut stream) = link();
    for way in [Way::Blocked, Way::Lost, Way::Mute] {
        proxy.set_way(way);
        stream.write_all(b"later").unwrap();
        assert!(is_silent(&mut stream), "{way:?}");
        proxy.set_way(Way::Open);
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"later");
    }

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    proxy.set_way(Way::Blocked);
    stream.write_all(b"last words").unwrap();
    drop(stream);
    proxy.set_way(Way::Open);
    let mut words = String::new();
    server.read_to_string(&mut words).unwrap();
    assert_eq!(words, "last words");
}

#[test]
fn links_end_in_every_manner() {
    let (proxy, mut stream) = link();
    assert_eq!(proxy.cut(), 1);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);

    let mut stream = TcpStream::connect(proxy.address).unwrap();
    assert_eq!(ask(&mut stream, b"again"), b"again");
    assert_eq!(proxy.reset(), 1);
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let mut stream = TcpStream::connect(proxy.address).unwrap();
    assert_eq!(ask(&mut stream, b"again"), b"again");
    assert_eq!(proxy.half_close(Side::Node), 1);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    stream.write_all(b"still taken").unwrap();
}

#[test]
fn a_half_closed_link_still_carries_what_goes_the_other_way() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    stream.write_all(b"a").unwrap();
    server.read_exact(&mut [0]).unwrap();
    proxy.half_close(Side::Node);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    server.write_all(b"lost").unwrap();
    stream.write_all(b"b").unwrap();
    let mut byte = [0];
    server.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"b");
}
