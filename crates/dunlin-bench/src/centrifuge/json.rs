//! JSON: commands and replies are objects joined by newlines.

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Command, Malformed, Reply};

/// Puts a command behind those already in a frame.
pub(super) fn put(frame: &mut Vec<u8>, id: u32, command: Command<'_>) {
    let value = match command {
        Command::Connect { token: "" } => json!({"id": id, "connect": {}}),
        Command::Connect { token } => json!({"id": id, "connect": {"token": token}}),
        Command::Subscribe { channel, recover: None } => {
            json!({"id": id, "subscribe": {"channel": channel}})
        }
        Command::Subscribe { channel, recover: Some((offset, epoch)) } => json!({
            "id": id,
            "subscribe": {"channel": channel, "recover": true, "offset": offset, "epoch": epoch},
        }),
        Command::Publish { channel, data } => {
            // The one command of which there are many: written as it stands.
            let channel = Value::from(channel);
            separate(frame);
            frame.extend_from_slice(
                format!(r#"{{"id":{id},"publish":{{"channel":{channel},"data":"{data}"}}}}"#)
                    .as_bytes(),
            );
            return;
        }
        Command::Pong => json!({}),
    };
    separate(frame);
    frame.extend_from_slice(value.to_string().as_bytes());
}

fn separate(frame: &mut Vec<u8>) {
    if !frame.is_empty() {
        frame.push(b'\n');
    }
}

/// Reads all replies of a frame.
pub(super) fn read(frame: &[u8]) -> Result<Vec<Reply>, Malformed> {
    let lines = frame.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let replies = lines.map(|line| serde_json::from_slice(line).map_err(|_| Malformed));
    let replies = replies.collect::<Result<Vec<Reply>, _>>()?;
    if replies.is_empty() { Err(Malformed) } else { Ok(replies) }
}

/// The text of a JSON string; nothing of any other value.
pub(super) fn text<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(value)? {
        Value::String(text) => text,
        _ => String::new(),
    })
}
