//! JSON: commands and replies are objects joined by newlines.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Command, Malformed, Reply};

/// Puts a command behind those already in a frame: its id first, as the SDKs do.
pub(super) fn put(frame: &mut Vec<u8>, id: u32, command: Command<'_>) {
    let text = match command {
        Command::Connect { token: "" } => format!(r#"{{"id":{id},"connect":{{}}}}"#),
        Command::Connect { token } => {
            format!(r#"{{"id":{id},"connect":{{"token":{}}}}}"#, Value::from(token))
        }
        Command::Subscribe { channel, recover: None } => {
            format!(r#"{{"id":{id},"subscribe":{{"channel":{}}}}}"#, Value::from(channel))
        }
        Command::Subscribe { channel, recover: Some((offset, epoch)) } => {
            let (channel, epoch) = (Value::from(channel), Value::from(epoch));
            format!(r#"{{"id":{id},"subscribe":{{"channel":{channel},"recover":true,"#)
                + &format!(r#""offset":{offset},"epoch":{epoch}}}}}"#)
        }
        Command::Publish { channel, data } => format!(
            r#"{{"id":{id},"publish":{{"channel":{},"data":"{data}"}}}}"#,
            Value::from(channel)
        ),
        Command::Pong => "{}".to_owned(),
    };
    if !frame.is_empty() {
        frame.push(b'\n');
    }
    frame.extend_from_slice(text.as_bytes());
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
