//! A client of the Centrifuge dialect that writes its commands by hand, right or wrong.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use dunlin_core::auth::signing::{Hash, sign};
use serde_json::{Value, json};

use super::{Client, Message, Node, PATIENCE};

/// The key of the tokens that [`token`] makes.
const SECRET: &str = "secret";

/// Lets clients in whose token [`token`] made.
pub(crate) const SECRET_SETTING: &str = "client.token.hmac_secret_key=secret";

/// One connection. What comes while a reply is awaited is kept for [`CentrifugeClient::next`].
pub(crate) struct CentrifugeClient {
    pub(crate) socket: Client,
    /// What has come and was not asked for yet.
    come: VecDeque<Value>,
    last_id: u64,
}

impl CentrifugeClient {
    /// A connection that has not sent its connect command.
    pub(crate) fn open(node: &Node) -> Self {
        Self::open_with(node, "")
    }

    /// As [`CentrifugeClient::open`], with a query in the address.
    pub(crate) fn open_with(node: &Node, query: &str) -> Self {
        Self::on(Client::open(node.address, &format!("/connection/websocket{query}")))
    }

    /// Over a socket that has its 101.
    pub(crate) fn on(socket: Client) -> Self {
        Self { socket, come: VecDeque::new(), last_id: 0 }
    }

    /// A client that is in, as this user.
    pub(crate) fn connect(node: &Node, user: &str) -> Self {
        let mut client = Self::open(node);
        client.enter(&token(&json!({"sub": user})));
        client
    }

    /// Connects with this token; returns the result.
    #[track_caller]
    pub(crate) fn enter(&mut self, token: &str) -> Value {
        self.result("connect", json!({"token": token}))
    }

    /// Sends a message as it is.
    pub(crate) fn send(&mut self, message: &str) {
        self.socket.send_text(message);
    }

    /// Sends commands in one message, each with the next id; returns the first id.
    pub(crate) fn pipeline(&mut self, commands: &[(&str, Value)]) -> u64 {
        let first = self.last_id + 1;
        let lines = commands.iter().map(|(method, params)| {
            self.last_id += 1;
            json!({"id": self.last_id, *method: params}).to_string()
        });
        let lines: Vec<_> = lines.collect();
        self.send(&lines.join("\n"));
        first
    }

    /// Sends a command and waits for its reply.
    #[track_caller]
    pub(crate) fn command(&mut self, method: &str, params: Value) -> Value {
        let id = self.pipeline(&[(method, params)]);
        self.reply(id)
    }

    /// Waits for the reply to the command `id`.
    #[track_caller]
    pub(crate) fn reply(&mut self, id: u64) -> Value {
        let mut before = VecDeque::new();
        loop {
            let next = self.next();
            if next["id"] == id {
                before.append(&mut self.come);
                self.come = before;
                return next;
            }
            before.push_back(next);
        }
    }

    /// The result of a command that goes well.
    #[track_caller]
    pub(crate) fn result(&mut self, method: &str, params: Value) -> Value {
        let mut reply = self.command(method, params);
        assert!(reply.get(method).is_some(), "{method}: {reply}");
        reply[method].take()
    }

    /// The code of the error of a command that does not.
    #[track_caller]
    pub(crate) fn error(&mut self, method: &str, params: Value) -> u64 {
        let reply = self.command(method, params);
        reply["error"]["code"].as_u64().unwrap_or_else(|| panic!("{method}: {reply}"))
    }

    #[track_caller]
    pub(crate) fn subscribe(&mut self, channel: &str) -> Value {
        self.result("subscribe", json!({"channel": channel}))
    }

    /// Subscribes to go on behind this position.
    #[track_caller]
    pub(crate) fn recover(&mut self, channel: &str, offset: u64, epoch: &str) -> Value {
        let params = json!({"channel": channel, "recover": true, "offset": offset, "epoch": epoch});
        self.result("subscribe", params)
    }

    #[track_caller]
    pub(crate) fn publish(&mut self, channel: &str, data: impl Into<Value>) {
        let data: Value = data.into();
        self.result("publish", json!({"channel": channel, "data": data}));
    }

    /// The next reply or push. Pings are answered.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(next) = self.come.pop_front() {
                if next == json!({}) {
                    // The server may be gone by now; the next read tells.
                    let _ = self.socket.try_send_bytes(&super::frame(super::Opcode::Text, b"{}"));
                    continue;
                }
                return next;
            }
            let lines = self.next_message();
            self.come.extend(lines);
        }
        panic!("nothing but pings came in time")
    }

    /// The replies and pushes of the next message that comes, pings included.
    #[track_caller]
    pub(crate) fn next_message(&mut self) -> Vec<Value> {
        match self.socket.receive() {
            Message::Text(text) => lines(&text),
            other => panic!("expected replies or pushes, not {other:?}"),
        }
    }

    /// The next push.
    #[track_caller]
    pub(crate) fn push(&mut self) -> Value {
        let mut next = self.next();
        assert!(next.get("push").is_some(), "expected a push, not {next}");
        next["push"].take()
    }

    /// The payload of the next push, which is a publication in this channel.
    #[track_caller]
    pub(crate) fn publication(&mut self, channel: &str) -> Value {
        let mut push = self.push();
        assert!(push["channel"] == channel && push.get("pub").is_some(), "{push}");
        push["pub"]["data"].take()
    }

    /// Nothing is on its way to the client: the reply to a command that changes nothing is next.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        let id = self.pipeline(&[("unsubscribe", json!({"channel": "not subscribed"}))]);
        assert_eq!(self.next(), json!({"id": id, "unsubscribe": {}}));
    }

    /// Skips what comes before the close frame, which has this code.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16) {
        let (closed_with, reason) = self.socket.receive_close();
        assert_eq!(closed_with, code, "{reason}");
    }
}

/// The objects of a message.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A token with these claims, signed with [`SECRET`].
pub(crate) fn token(claims: &Value) -> String {
    sign(&claims.to_string(), Hash::Sha256, SECRET)
}

/// The unix time in seconds, `ahead` from now.
pub(crate) fn unix_time(ahead: i64) -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap() + ahead
}

/// Longer than a second, by which tokens count.
pub(crate) const A_LITTLE: Duration = Duration::from_millis(1200);
