//! Whole connections of HTTP: handshakes, PROXY headers, calls of the API.

use std::{
    io::{BufReader, Write},
    net::{Shutdown, SocketAddr},
};

use serde_json::Value;

use super::{Case, Event};
use crate::harness::{Client, Message, Node, Opcode, Response, connect_from, frame, read_response};

/// Whoever sends requests is at 127.0.0.2: a proxy, to nodes that trust one.
const HOST: u8 = 2;

/// The status and the body; after a 101 the connection has to work.
pub(super) fn play(node: &Node, case: &Case) -> Vec<Event> {
    let (mut stream, response) = exchange(node.address, case);
    match response {
        None => vec![Event::new("closed", None, None)],
        Some(response) if response.status == 101 => {
            stream.get_mut().write_all(&frame(Opcode::Text, b"echo")).unwrap();
            let mut client = Client::on(stream);
            let works = client.receive() == Message::Text("echo".to_owned());
            let told = |name| response.header(name).unwrap_or("none");
            let [protocol, extensions] =
                ["sec-websocket-protocol", "sec-websocket-extensions"].map(told);
            let told = format!("protocol: {protocol}, extensions: {extensions}.");
            let status = Event::new("status", Some(101), Some(told.into_bytes()));
            vec![status, Event::new(if works { "works" } else { "broken" }, None, None)]
        }
        Some(response) => {
            vec![Event::new("status", Some(response.status.into()), Some(response.body.into()))]
        }
    }
}

/// As [`play`], and what the answer of the API says.
pub(super) fn play_call(node: &Node, case: &Case) -> Vec<Event> {
    let (_, Some(response)) = exchange(node.address, case) else {
        return vec![Event::new("closed", None, None)];
    };
    let mut seen = vec![Event::new("status", Some(response.status.into()), None)];
    let answers = response.body.lines().map(|line| serde_json::from_str::<Value>(line).ok());
    for answer in answers {
        match answer {
            None => seen.push(Event::new("words", None, None)),
            Some(answer) => match answer["replies"].as_array() {
                Some(replies) => seen.extend(replies.iter().map(reply)),
                None => seen.push(reply(&answer)),
            },
        }
    }
    seen
}

/// What a reply says, or an error alone.
fn reply(reply: &Value) -> Event {
    match (reply["error"]["code"].as_u64(), reply["code"].as_u64()) {
        (Some(code), _) => Event::new("error", Some(code), None),
        (None, Some(code)) => Event::new("code", Some(code), None),
        (None, None) => Event::new("result", None, None),
    }
}

fn exchange(
    address: SocketAddr,
    case: &Case,
) -> (BufReader<std::net::TcpStream>, Option<Response>) {
    let mut stream = connect_from(HOST, address);
    // The server may answer and close before it has all of it.
    let _ = stream.write_all(&[&case.before[..], &case.input].concat());
    if case.ends {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut stream = BufReader::new(stream);
    let response = read_response(&mut stream);
    (stream, response)
}
