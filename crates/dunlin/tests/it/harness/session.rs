//! A client of the Centrifuge dialect, in JSON, that shows what it is told.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Client, Message, token};

/// A connected client.
pub(crate) struct Session {
    client: Client,
    /// Its client id.
    pub(crate) id: String,
    /// Replies and pushes that came in one message and were not taken yet.
    waiting: Vec<Value>,
    commands: u64,
}

impl Session {
    /// Connects as `user`.
    pub(crate) fn connect(address: SocketAddr, user: &str) -> Self {
        Self::connect_by(address, &json!({"sub": user}))
    }

    /// Connects by a token of these claims.
    pub(crate) fn connect_by(address: SocketAddr, claims: &Value) -> Self {
        Self::try_connect(address, claims).unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    /// Connects, or returns the code of the close frame.
    pub(crate) fn try_connect(address: SocketAddr, claims: &Value) -> Result<Self, (u16, String)> {
        let client = Client::open(address, "/connection/websocket");
        let mut session = Self { client, id: String::new(), waiting: Vec::new(), commands: 0 };
        session.send(&json!({"connect": {"token": token(claims)}}));
        let reply = session.next()?;
        session.id = reply["connect"]["client"].as_str().expect("a client id").to_owned();
        Ok(session)
    }

    /// Sends a command.
    pub(crate) fn send(&mut self, command: &Value) {
        self.commands += 1;
        let mut command = command.clone();
        command["id"] = self.commands.into();
        self.client.send_text(&command.to_string());
    }

    /// Sends a command and returns the next thing that comes.
    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        self.send(command);
        self.receive()
    }

    /// The next reply or push; panics when the server closes instead.
    pub(crate) fn receive(&mut self) -> Value {
        self.next().unwrap_or_else(|close| panic!("closed by {close:?}"))
    }

    /// Skips everything up to the close frame.
    pub(crate) fn receive_close(mut self) -> (u16, String) {
        self.client.receive_close()
    }

    /// Whether it is still connected, and nothing else comes before the answer to a question.
    pub(crate) fn is_undisturbed(&mut self) -> bool {
        let answer = self.ask(&json!({"rpc": {"method": "m"}}));
        answer["id"] == self.commands
    }

    /// The next thing but pings, or the close frame.
    fn next(&mut self) -> Result<Value, (u16, String)> {
        loop {
            if let Some(next) = self.waiting.pop() {
                match next == json!({}) {
                    true => self.client.send_text("{}"),
                    false => return Ok(next),
                }
                continue;
            }
            match self.client.receive() {
                Message::Text(text) => {
                    let all = text.lines().rev().map(|line| serde_json::from_str(line).unwrap());
                    self.waiting = all.collect();
                }
                Message::Close(code, reason) => return Err((code, reason)),
                other => panic!("{other:?}"),
            }
        }
    }
}
