//! The greeting: what a link says first, and what the server at the other end says of itself. Which
//! server that is counts as much as where it is: an address may lead to another one after every
//! dial, and a server may have been demoted since the last one.

use sha1::{Digest, Sha1};
use tokio::time::timeout;

use super::{
    command,
    connection::{Connection, SILENCE_MAX},
    error::{LinkError, tells_not_ready},
    value::{Frame, Value},
};
use crate::url::{Endpoint, RedisUrl, Secret, Sentinels};

/// How to get in.
pub(crate) struct Access<'a> {
    user: Option<&'a str>,
    password: Option<&'a Secret>,
    database: u32,
    wanted: Wanted,
}

/// What the address promises.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Sentinel,
    /// A server for all channels.
    Whole,
    /// A node of a cluster.
    Part,
}

impl<'a> Access<'a> {
    /// To a sentinel.
    pub(crate) fn to_sentinel(sentinels: &'a Sentinels) -> Self {
        let (user, password) = (sentinels.user.as_deref(), sentinels.password.as_ref());
        Self { user, password, database: 0, wanted: Wanted::Sentinel }
    }

    pub(crate) fn of(url: &'a RedisUrl) -> Self {
        let (user, password) = (url.user.as_deref(), url.password.as_ref());
        let wanted = match url.endpoint {
            Endpoint::Cluster(_) => Wanted::Part,
            _ => Wanted::Whole,
        };
        Self { user, password, database: url.database, wanted }
    }
}

/// The server at the other end of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Server {
    /// Names the reign of this process as a primary: another process has another one, and so has
    /// the same process once it was a replica in between. 0 = the user may not ask.
    pub(crate) reign: u32,
    /// What the server calls this connection.
    pub(crate) connection: i64,
}

/// Greets who is only to tell where others are: a sentinel, or a node of a cluster in any role.
pub(crate) async fn greet_informant(
    connection: &mut Connection,
    access: &Access<'_>,
) -> Result<(), LinkError> {
    hello(connection, access).await?.check_mode(access.wanted)
}

/// Brings RESP3, the role and the version in one round trip.
async fn hello(connection: &mut Connection, access: &Access<'_>) -> Result<Facts, LinkError> {
    let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
    if let Some(password) = access.password {
        let user = access.user.unwrap_or("default");
        hello.extend([b"AUTH", user.as_bytes(), password.expose().as_bytes()]);
    }
    hello.extend([&b"SETNAME"[..], b"dunlin"]);
    match access.ask(connection, &hello).await? {
        Value::Map(facts) => Ok(Facts(facts)),
        _ => Err(LinkError::Protocol("HELLO was not answered with a map".to_owned())),
    }
}

/// Greets a primary.
pub(crate) async fn greet(
    connection: &mut Connection,
    access: &Access<'_>,
) -> Result<Server, LinkError> {
    let facts = hello(connection, access).await?;
    facts.check_mode(access.wanted)?;
    facts.check_role()?;
    if access.database != 0 {
        let database = access.database.to_string();
        access.ask(connection, &[b"SELECT", database.as_bytes()]).await?;
    }
    // A user who may not ping would be cut off later, when the silence is taken for death.
    access.ask(connection, &[b"PING", b"dunlin"]).await?;
    let reign = access.name_reign(connection).await?;
    access.try_script(connection, &facts).await?;
    Ok(Server { reign, connection: facts.connection() })
}

impl Access<'_> {
    /// A user who may not ask for it can do all that needs no history.
    async fn name_reign(&self, connection: &mut Connection) -> Result<u32, LinkError> {
        let (mut info, mut complaint) = (String::new(), String::new());
        for section in [&b"server"[..], b"replication"] {
            match ask(connection, &[b"INFO", section]).await? {
                Value::Error(text) if text.starts_with(b"NOPERM ") => return Ok(0),
                Value::Error(text) if tells_not_ready(&text) => return Err(self.refusal(&text)),
                // Not everything that speaks the protocol has every section.
                Value::Error(text) => complaint = self.redact(&String::from_utf8_lossy(&text)),
                value => {
                    let text = value.as_bytes().map(|text| String::from_utf8_lossy(text));
                    info.push_str(&text.unwrap_or_default());
                }
            }
        }
        reign(&info).ok_or(LinkError::Nameless(complaint))
    }

    /// Tries what everything here rests on. The version does not tell: others than Redis count in
    /// their own way. A user who may not run scripts is let in as well.
    async fn try_script(
        &self,
        connection: &mut Connection,
        facts: &Facts,
    ) -> Result<(), LinkError> {
        match ask(connection, &[b"EVAL", TRIAL, b"0"]).await? {
            Value::Error(text) if text.starts_with(b"NOPERM ") => Ok(()),
            Value::Error(text) if tells_not_ready(&text) => Err(self.refusal(&text)),
            Value::Error(text) => Err(LinkError::NoScripts {
                version: facts.text(b"version").unwrap_or_else(|| "unknown".to_owned()),
                complaint: self.redact(&String::from_utf8_lossy(&text)),
            }),
            answer if answer.as_bytes().is_some_and(|bytes| bytes[..] == TRIAL_ANSWER) => Ok(()),
            _ => Err(LinkError::Narrow),
        }
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        arguments: &[&[u8]],
    ) -> Result<Value, LinkError> {
        match ask(connection, arguments).await? {
            Value::Error(text) => Err(self.refusal(&text)),
            value => Ok(value),
        }
    }

    fn refusal(&self, text: &[u8]) -> LinkError {
        let text = String::from_utf8_lossy(text);
        let code = text.split(' ').next().unwrap_or_default();
        match code {
            "WRONGPASS" => LinkError::WrongPassword,
            "NOAUTH" => LinkError::NoPassword,
            "NOPROTO" => LinkError::TooOld("it has no RESP3"),
            // Such a server repeats HELLO's arguments, the password among them.
            "ERR" if text.starts_with("ERR unknown command") => {
                LinkError::TooOld("it has no HELLO")
            }
            _ if tells_not_ready(text.as_bytes()) => LinkError::NotReady(self.redact(&text)),
            _ => LinkError::Refused(self.redact(&text)),
        }
    }

    fn redact(&self, text: &str) -> String {
        let text: String =
            text.chars().filter(|c| !c.is_control()).take(REFUSAL_CHARS_MAX).collect();
        match self.password {
            Some(password) => text.replace(password.expose(), "[redacted]"),
            None => text,
        }
    }
}

pub(crate) async fn ask(
    connection: &mut Connection,
    arguments: &[&[u8]],
) -> Result<Value, LinkError> {
    command::write(&mut connection.out, arguments);
    connection.expect(1);
    reply(connection).await
}

/// Waits for the answer to the oldest command that has none.
pub(crate) async fn reply(connection: &mut Connection) -> Result<Value, LinkError> {
    loop {
        match connection.next_frame()? {
            Some(Frame::Reply(value)) => return Ok(value),
            // Some servers push invalidations or notices to whoever speaks RESP3.
            Some(_) => {}
            // Whoever waits for the greeting bounds how long it may take.
            None => connection.heard().await?,
        }
    }
}

/// Whether nothing more happens of what an old connection carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fenced {
    Yes,
    /// This user may not kill connections.
    No,
}

/// Sees to it that nothing more happens of what an old connection carried.
///
/// # Errors
/// When the new connection is lost, or silent for [`SILENCE_MAX`].
pub(crate) async fn fence(connection: &mut Connection, old: Server) -> Result<Fenced, LinkError> {
    if connection.server.reign != old.reign {
        // The process that it led to is no primary, or no more.
        return Ok(Fenced::Yes);
    }
    let id = old.connection.to_string();
    let kill: [&[u8]; 4] = [b"CLIENT", b"KILL", b"ID", id.as_bytes()];
    let killed = timeout(SILENCE_MAX, ask(connection, &kill)).await;
    match killed.unwrap_or(Err(LinkError::Timeout(SILENCE_MAX)))? {
        Value::Integer(_) => Ok(Fenced::Yes),
        answer => {
            tracing::warn!(
                "redis does not let a lost connection be killed, so that nothing is \
                repeated: {answer:?}"
            );
            Ok(Fenced::No)
        }
    }
}

/// What HELLO is answered with.
pub(crate) struct Facts(pub(crate) Vec<(Value, Value)>);

impl Facts {
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Value> {
        let is_it = |key: &Value| key.as_bytes().is_some_and(|key| key == name);
        self.0.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self, name: &[u8]) -> Option<String> {
        let bytes = self.get(name)?.as_bytes()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    fn connection(&self) -> i64 {
        match self.get(b"id") {
            Some(Value::Integer(id)) => *id,
            _ => 0,
        }
    }

    fn check_mode(&self, wanted: Wanted) -> Result<(), LinkError> {
        let refusal = |why: &str| Err(LinkError::Refused(why.to_owned()));
        match (wanted, self.text(b"mode").as_deref()) {
            (Wanted::Sentinel, Some("sentinel")) | (Wanted::Part, Some("cluster")) => Ok(()),
            (Wanted::Sentinel, _) => refusal("it is no sentinel"),
            (_, Some("sentinel")) => refusal("it is a sentinel, which carries no messages"),
            (Wanted::Whole, Some("cluster")) => Err(LinkError::ClusterNode),
            (Wanted::Whole, _) => Ok(()),
            (Wanted::Part, _) => Err(LinkError::NoClusterNode),
        }
    }

    fn check_role(&self) -> Result<(), LinkError> {
        // What is published to a replica reaches nobody else, and what it hears comes late.
        if self.text(b"role").is_some_and(|role| role != "master") {
            return Err(LinkError::Replica);
        }
        Ok(())
    }
}

/// The same as [`Server::reign`], from an answer to INFO.
pub(crate) fn reign_in(info: &Value) -> Option<u32> {
    reign(str::from_utf8(info.as_bytes()?).ok()?)
}

/// Every digit of both ids counts: there are servers whose ids begin alike.
fn reign(info: &str) -> Option<u32> {
    let fact = |name| info.lines().find_map(|line| line.strip_prefix(name));
    let process = fact("run_id:")?;
    // Changes with every promotion. What does not tell it is never promoted.
    let replication = fact("master_replid:").unwrap_or_default();
    let hash = Sha1::digest(format!("{} {}", process.trim(), replication.trim()));
    let [first, ..] = hash.as_chunks::<4>().0 else { return None };
    Some(u32::from_be_bytes(*first).max(1))
}

/// Scripts begin like this since Redis 7.0. This one changes nothing, so that no passing need is a
/// reason to refuse it.
const TRIAL: &[u8] =
    b"#!lua flags=no-writes,allow-oom,allow-stale\nreturn struct.pack('>I8', 4294967296)";
/// Servers that are built for 32 bits lose the high half.
const TRIAL_ANSWER: [u8; 8] = 4_294_967_296_u64.to_be_bytes();
const REFUSAL_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    /// Publishers wait meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_fence_waits_for_nobody_who_is_silent() {
        let (near, mut far) = duplex(1024);
        let mut connection = Connection::new(Box::new(near), 1024);
        let old = connection.server;
        far.write_all(b":0\r\n").await.unwrap();
        assert_eq!(fence(&mut connection, old).await.unwrap(), Fenced::Yes, "it was gone already");
        let fenced = fence(&mut connection, old).await;
        assert!(matches!(fenced, Err(LinkError::Timeout(_))), "{fenced:?}");
    }

    #[test]
    fn every_digit_of_both_ids_names_the_reign() {
        let name = |process: &str, replication: &str| {
            reign(&format!("# Server\r\nrun_id:{process}\r\nmaster_replid:{replication}\r\n"))
        };
        let (process, replication) = ("0".repeat(40), "7".repeat(40));
        let first = name(&process, &replication);
        assert!(first.is_some_and(|name| name != 0));
        assert_eq!(name(&process, &replication), first);
        for at in [0, 20, 39] {
            let other = |id: &str| format!("{}f{}", &id[..at], &id[at + 1..]);
            assert_ne!(name(&other(&process), &replication), first);
            assert_ne!(name(&process, &other(&replication)), first);
        }
        assert_eq!(reign("# Server\r\n"), None);
    }
}
