//! Bodies of the HTTP API and messages between nodes: any bytes have a verdict.

use dunlin::api::request::{Call, DEPTH_MAX, METHODS, Request};
use dunlin_core::control::{Glob, MESSAGE_BYTES_MAX, Message};

/// Takes the first byte for the method, and what follows for a body.
pub fn api_body(data: &[u8]) {
    let Some((number, body)) = data.split_first() else { return };
    let paths = METHODS.iter().copied().map(Some).chain([Some("batch"), Some("dance"), None]);
    let paths: Vec<_> = paths.collect();
    let path = paths[usize::from(*number) % paths.len()];
    let Ok(request) = Request::parse(path, body) else { return };
    assert!(str::from_utf8(body).is_ok());
    match request {
        Request::One(call) => {
            let method = path.expect("a call has a method");
            let is_known = METHODS.contains(&method);
            assert_eq!(call.method(), if is_known { method } else { "" });
            payload(&call, body);
        }
        Request::Batch { calls, .. } => {
            assert_eq!(path, Some("batch"));
            calls.iter().for_each(|call| payload(call, body));
        }
        Request::Legacy(calls) => {
            assert!(path.is_none() && !calls.is_empty());
            calls.iter().for_each(|call| payload(call, body));
        }
    }
}

/// A payload is a part of its body, byte for byte, and not too deep.
fn payload(call: &Call, body: &[u8]) {
    let (Call::Publish(fields) | Call::Broadcast(fields)) = call else { return };
    let Some(data) = &fields.data else { return };
    let data = data.get().as_bytes();
    assert!(body.windows(data.len()).any(|part| part == data), "it keeps its text");
    assert!(dunlin_core::json::is_shallow(data, DEPTH_MAX));
}

/// Takes the input for a message of another node, and for a pattern and a name.
pub fn control_message(data: &[u8]) {
    if let Ok(message) = Message::parse(data) {
        assert!(data.len() <= MESSAGE_BYTES_MAX);
        let text = message.to_text();
        assert_eq!(Message::parse(text.as_bytes()), Ok(message), "{text}");
    }
    let Ok(text) = str::from_utf8(data) else { return };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, text));
    let Ok(glob) = Glob::new(pattern) else { return };
    let is_literal = !pattern.is_empty() && !pattern.contains(['*', '?']);
    if is_literal {
        assert_eq!(glob.matches(name), pattern == name);
    }
}
