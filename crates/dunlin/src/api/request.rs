//! How the body of a call of the HTTP API becomes a request. Pure: any bytes give a request or a
//! refusal.
//!
//! As in the API that this one is compatible with, a field that is absent, null or empty is the
//! same, and a field that is not known is skipped. Whether a request makes sense is judged by the
//! method that gets it.

use std::collections::BTreeMap;

use dunlin_core::json::{self, Object};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{
    Channels, Connections, Disconnect, History, InvalidateUserTokens, OfChannel, Publish, Refresh,
    RevokeToken, Rpc, Subscribe, Top, Unsubscribe,
};

/// Most arrays and objects within each other in a body.
pub const DEPTH_MAX: usize = 64;

/// What a body asks for.
#[derive(Debug)]
pub enum Request {
    /// One call.
    One(Box<Call>),
    /// Several calls with one body.
    Batch {
        /// The calls.
        calls: Vec<Call>,
        /// They need not wait for one another.
        is_parallel: bool,
    },
    /// Several calls in the old form: `{"method": …, "params": …}`, one behind the other.
    Legacy(Vec<Call>),
}

/// One call of a method.
#[derive(Debug)]
pub enum Call {
    /// Publishes to a channel.
    Publish(Publish),
    /// Publishes to many channels.
    Broadcast(Publish),
    /// Subscribes a user's clients.
    Subscribe(Subscribe),
    /// Ends subscriptions.
    Unsubscribe(Unsubscribe),
    /// Ends connections.
    Disconnect(Disconnect),
    /// Sets a new expiry of connections.
    Refresh(Refresh),
    /// Who is in a channel.
    Presence(OfChannel),
    /// How many are in a channel.
    PresenceStats(OfChannel),
    /// What was published to a channel.
    History(History),
    /// Forgets what was published.
    HistoryRemove(OfChannel),
    /// Which channels have subscribers.
    Channels(Channels),
    /// Which connections a user has.
    Connections(Connections),
    /// How the nodes are.
    Info,
    /// Which connections have most of something.
    Top(Top),
    /// A method of an extension.
    Rpc(Rpc),
    /// Revokes a token.
    RevokeToken(RevokeToken),
    /// Revokes a user's tokens.
    InvalidateUserTokens(InvalidateUserTokens),
    /// Something that this server does not offer.
    Unknown,
}

/// The body cannot be read, and why.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// No text at all.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// More than [`DEPTH_MAX`].
    #[error("the body is nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// No JSON, or not of the method's form.
    #[error("the body is not the JSON that the method takes: {0}")]
    WrongForm(#[from] serde_json::Error),
    /// Which of the two comes first, nobody could tell.
    #[error("a command of the batch names more than one method; give each a command of its own")]
    TwoMethods,
    /// No command in the old form.
    #[error("the body has no command; expected {{\"method\": \"…\", \"params\": {{…}}}}")]
    NoCommand,
}

/// The names of all methods that are called alone or in a batch, as in `/api/publish`.
pub const METHODS: [&str; 17] = [
    "publish",
    "broadcast",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "refresh",
    "presence",
    "presence_stats",
    "history",
    "history_remove",
    "channels",
    "connections",
    "info",
    "top",
    "rpc",
    "revoke_token",
    "invalidate_user_tokens",
];

impl Request {
    /// Reads the body of a request to `/api/{method}`, or to `/api` when there is no method.
    ///
    /// # Errors
    /// [`Undecodable`].
    pub fn parse(method: Option<&str>, body: &[u8]) -> Result<Self, Undecodable> {
        let body = str::from_utf8(body).map_err(|_| Undecodable::NotUtf8)?;
        if !json::is_shallow(body.as_bytes(), DEPTH_MAX) {
            return Err(Undecodable::TooDeep);
        }
        match method {
            None => legacy(body),
            Some("batch") => batch(body),
            Some(method) => Ok(Self::One(Box::new(Call::parse(method, body)?))),
        }
    }
}

impl Call {
    /// Reads the fields of a method; none at all are as good as `{}`.
    fn parse(method: &str, fields: &str) -> Result<Self, Undecodable> {
        fn read<'a, T: Deserialize<'a>>(fields: &'a str) -> serde_json::Result<T> {
            serde_json::from_str(fields).map(|Object(fields)| fields)
        }
        let fields = if fields.trim_ascii().is_empty() { "{}" } else { fields };
        Ok(match method {
            "publish" => Self::Publish(read(fields)?),
            "broadcast" => Self::Broadcast(read(fields)?),
            "subscribe" => Self::Subscribe(read(fields)?),
            "unsubscribe" => Self::Unsubscribe(read(fields)?),
            "disconnect" => Self::Disconnect(read(fields)?),
            "refresh" => Self::Refresh(read(fields)?),
            "presence" => Self::Presence(read(fields)?),
            "presence_stats" => Self::PresenceStats(read(fields)?),
            "history" => Self::History(read(fields)?),
            "history_remove" => Self::HistoryRemove(read(fields)?),
            "channels" => Self::Channels(read(fields)?),
            "connections" => Self::Connections(read(fields)?),
            "info" => read::<Nothing>(fields).map(|_| Self::Info)?,
            "top" => Self::Top(read(fields)?),
            "rpc" => Self::Rpc(read(fields)?),
            "revoke_token" => Self::RevokeToken(read(fields)?),
            "invalidate_user_tokens" => Self::InvalidateUserTokens(read(fields)?),
            _ => Self::Unknown,
        })
    }

    /// The name of its method; "" when there is none.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Publish(_) => "publish",
            Self::Broadcast(_) => "broadcast",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Disconnect(_) => "disconnect",
            Self::Refresh(_) => "refresh",
            Self::Presence(_) => "presence",
            Self::PresenceStats(_) => "presence_stats",
            Self::History(_) => "history",
            Self::HistoryRemove(_) => "history_remove",
            Self::Channels(_) => "channels",
            Self::Connections(_) => "connections",
            Self::Info => "info",
            Self::Top(_) => "top",
            Self::Rpc(_) => "rpc",
            Self::RevokeToken(_) => "revoke_token",
            Self::InvalidateUserTokens(_) => "invalidate_user_tokens",
            Self::Unknown => "",
        }
    }
}

/// `{"commands": [{"publish": {…}}, …], "parallel": true}`
fn batch(body: &str) -> Result<Request, Undecodable> {
    #[derive(Deserialize)]
    struct Batch {
        commands: Option<Vec<BTreeMap<String, Box<RawValue>>>>,
        parallel: Option<bool>,
    }
    let Object(Batch { commands, parallel }) = serde_json::from_str(body)?;
    let call = |command: BTreeMap<String, Box<RawValue>>| {
        let mut known = command.iter().filter(|(method, _)| METHODS.contains(&method.as_str()));
        match (known.next(), known.next()) {
            (Some((method, fields)), None) => Call::parse(method, fields.get()),
            (None, _) => Ok(Call::Unknown),
            (Some(_), Some(_)) => Err(Undecodable::TwoMethods),
        }
    };
    let calls = commands.unwrap_or_default().into_iter().map(call).collect::<Result<_, _>>()?;
    Ok(Request::Batch { calls, is_parallel: parallel.unwrap_or_default() })
}

fn legacy(body: &str) -> Result<Request, Undecodable> {
    #[derive(Deserialize)]
    struct Command {
        method: Option<String>,
        params: Option<Box<RawValue>>,
    }
    let commands = serde_json::Deserializer::from_str(body).into_iter::<Object<Command>>();
    let calls = commands.map(|command| {
        let Object(Command { method, params }) = command?;
        let params = params.as_ref().map_or("", |params| params.get());
        Call::parse(&method.unwrap_or_default(), params)
    });
    let calls = calls.collect::<Result<Vec<_>, _>>()?;
    if calls.is_empty() { Err(Undecodable::NoCommand) } else { Ok(Request::Legacy(calls)) }
}

#[derive(Deserialize)]
struct Nothing {}
