//! Frames on a connection of the plain dialect, alone in its channel: what it publishes comes back.

use std::net::Shutdown;

use super::{Case, Event};
use crate::harness::{Client, Message, Node, Opcode, connect, frame, upgrade_request};

pub(super) fn play(node: &Node, case: &Case) -> Vec<Event> {
    play_with(node, case, "")
}

/// On a connection whose client may compress and whose server does not.
pub(super) fn play_compressed(node: &Node, case: &Case) -> Vec<Event> {
    let offer = "permessage-deflate; server_max_window_bits=9";
    play_with(node, case, &format!("Sec-WebSocket-Extensions: {offer}\r\n"))
}

fn play_with(node: &Node, case: &Case, headers: &str) -> Vec<Event> {
    let channel = case.name.replace('/', ".");
    let request = upgrade_request(&format!("/ws/{channel}"));
    let request = request.replacen("\r\n\r\n", &format!("\r\n{headers}\r\n"), 1);
    let (mut client, _) = Client::upgrade(connect(node.address).unwrap(), &request).unwrap();
    // The server may close before it has all of it.
    let _ = client.try_send_bytes(&[&case.before[..], &case.input].concat());
    if case.ends {
        let _ = client.socket().shutdown(Shutdown::Write);
    } else {
        let _ = client.try_send_bytes(&frame(Opcode::Text, LAST.as_bytes()));
    }
    let mut seen = until_the_last(&mut client);
    if seen.is_empty() {
        seen.push(Event::new("nothing", None, None));
    }
    seen
}

/// What comes before [`LAST`], or up to the end.
pub(super) fn until_the_last(client: &mut Client) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        seen.push(match client.receive_any() {
            Message::Text(text) if text == LAST => return seen,
            Message::Text(text) => Event::new("text", None, Some(text.into())),
            Message::Binary(data) => Event::new("binary", None, Some(data)),
            // One of the node's own accord.
            Message::Ping(_) => continue,
            Message::Pong(data) => Event::new("pong", None, Some(data)),
            Message::Close(code, reason) => {
                seen.push(Event::new("close", Some(code.into()), Some(reason.into())));
                return seen;
            }
            Message::End => {
                seen.push(Event::new("closed", None, None));
                return seen;
            }
        });
    }
}

/// What comes back when nothing is wrong.
pub(super) const LAST: &str = "the last one of all";
