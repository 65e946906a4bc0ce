//! Makes connections: dials, shakes hands for TLS, greets the server and checks what it is.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    command,
    connection::{Connection, Ear, Stream},
    error::{LinkError, tells_not_ready},
    reconnect::Backoff,
    value::{Frame, Value},
};
use crate::url::{Endpoint, RedisUrl, Security};

/// Makes connections to one server, all alike.
#[derive(Clone)]
pub(crate) struct Dialer {
    url: RedisUrl,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    connect_timeout: Duration,
    frame_bytes_max: usize,
}

/// Shows the server's address, nothing secret.
impl fmt::Display for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl Dialer {
    /// Prepares everything that does not need the server. `authorities_pem` replaces the system's
    /// certificate authorities.
    pub(crate) fn new(
        url: RedisUrl,
        authorities_pem: Option<&[u8]>,
        connect_timeout: Duration,
        frame_bytes_max: usize,
    ) -> Result<Self, LinkError> {
        let tls = match &url.endpoint {
            Endpoint::Tcp { host, security: Security::Tls, .. } => {
                let name = ServerName::try_from(host.clone()).map_err(|_| LinkError::ServerName)?;
                Some((tls_connector(authorities_pem)?, name))
            }
            _ => None,
        };
        Ok(Self { url, tls, connect_timeout, frame_bytes_max })
    }

    /// The same for connections whose frames keep at most so many bytes.
    pub(crate) fn with_frame_bytes_max(&self, frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max, ..self.clone() }
    }

    /// Connects and greets, within the time-out in all.
    pub(crate) async fn dial(&self) -> Result<Connection, LinkError> {
        timeout(self.connect_timeout, self.connect_and_greet())
            .await
            .unwrap_or(Err(LinkError::Timeout(self.connect_timeout)))
    }

    /// Dials until it succeeds, after a loss that `lost` tells of. Cancel-safe.
    pub(crate) async fn redial(&self, lost: &LinkError) -> Connection {
        let mut backoff = Backoff::default();
        let mut failure = lost.failure();
        loop {
            sleep(backoff.next_wait(failure)).await;
            match self.dial().await {
                Ok(connection) => return connection,
                Err(error) => {
                    tracing::debug!(address = %self, "redis {error}");
                    failure = error.failure();
                }
            }
        }
    }

    async fn connect_and_greet(&self) -> Result<Connection, LinkError> {
        let mut connection = Connection::new(self.connect().await?, self.frame_bytes_max);
        self.greet(&mut connection).await?;
        Ok(connection)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, LinkError> {
        let stream = match &self.url.endpoint {
            Endpoint::Unix { path } => {
                let stream = UnixStream::connect(path).await.map_err(LinkError::Unreachable)?;
                return Ok(Box::new(stream));
            }
            Endpoint::Tcp { host, port, .. } => TcpStream::connect((host.as_str(), *port)).await,
        }
        .map_err(LinkError::Unreachable)?;
        stream.set_nodelay(true).map_err(LinkError::Broken)?;
        let Some((connector, name)) = &self.tls else { return Ok(Box::new(stream)) };
        let stream = connector.connect(name.clone(), stream).await.map_err(LinkError::Tls)?;
        Ok(Box::new(stream))
    }

    /// HELLO brings RESP3, the identity and the server's version in one round trip.
    async fn greet(&self, connection: &mut Connection) -> Result<(), LinkError> {
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &self.url.password {
            let user = self.url.user.as_deref().unwrap_or("default");
            hello.extend([b"AUTH", user.as_bytes(), password.expose().as_bytes()]);
        }
        hello.extend([&b"SETNAME"[..], b"dunlin"]);
        match self.ask(connection, &hello).await? {
            Value::Map(facts) => check_version(&facts)?,
            _ => return Err(LinkError::Protocol("HELLO was not answered with a map".to_owned())),
        }
        if self.url.database != 0 {
            let database = self.url.database.to_string();
            self.ask(connection, &[b"SELECT", database.as_bytes()]).await?;
        }
        // A user who may not ping would be cut off later, when the silence is taken for death.
        self.ask(connection, &[b"PING", b"dunlin"]).await?;
        connection.server = self.name_server(connection).await?;
        Ok(())
    }

    /// The name of the server at the other end of this very connection. A user who may not ask for
    /// it can do all that needs no history.
    async fn name_server(&self, connection: &mut Connection) -> Result<u32, LinkError> {
        command::write(&mut connection.out, &[b"INFO", b"server"]);
        connection.expect(1);
        match next_reply(connection).await? {
            Value::Error(text) if text.starts_with(b"NOPERM ") => Ok(0),
            Value::Error(text) => Err(self.refusal(&text)),
            value => {
                run_id(&value).ok_or_else(|| LinkError::Protocol("INFO told no run_id".to_owned()))
            }
        }
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        arguments: &[&[u8]],
    ) -> Result<Value, LinkError> {
        command::write(&mut connection.out, arguments);
        connection.expect(1);
        match next_reply(connection).await? {
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
            "NOPROTO" => LinkError::TooOld("unknown, for it has no RESP3".to_owned()),
            // Such a server repeats HELLO's arguments, the password among them.
            "ERR" if text.starts_with("ERR unknown command") => {
                LinkError::TooOld("unknown, for it has no HELLO".to_owned())
            }
            _ if tells_not_ready(text.as_bytes()) => LinkError::NotReady(self.redact(&text)),
            _ => LinkError::Refused(self.redact(&text)),
        }
    }

    fn redact(&self, text: &str) -> String {
        let text: String =
            text.chars().filter(|c| !c.is_control()).take(REFUSAL_CHARS_MAX).collect();
        match &self.url.password {
            Some(password) => text.replace(password.expose(), "[redacted]"),
            None => text,
        }
    }
}

async fn next_reply(connection: &mut Connection) -> Result<Value, LinkError> {
    loop {
        match connection.next_frame()? {
            Some(Frame::Reply(value)) => return Ok(value),
            // Some servers push invalidations or notices to whoever speaks RESP3.
            Some(_) => {}
            None => {
                connection.progress(Ear::Open).await?;
            }
        }
    }
}

/// The first half word of the run id.
fn run_id(info: &Value) -> Option<u32> {
    let text = str::from_utf8(info.as_bytes()?).ok()?;
    let id = text.lines().find_map(|line| line.strip_prefix("run_id:"))?;
    let id = u32::from_str_radix(id.get(..8)?, 16).ok()?;
    Some(id.max(1))
}

fn check_version(facts: &[(Value, Value)]) -> Result<(), LinkError> {
    let fact = |name: &[u8]| {
        let found = facts.iter().find(|(key, _)| key.as_bytes().is_some_and(|key| key == name));
        found.and_then(|(_, value)| value.as_bytes())
    };
    if fact(b"mode").is_some_and(|mode| &mode[..] == b"sentinel") {
        return Err(LinkError::Refused("it is a sentinel, which carries no messages".to_owned()));
    }
    let version = fact(b"version").map(|version| String::from_utf8_lossy(version).into_owned());
    let version = version.ok_or(LinkError::Protocol("HELLO told no version".to_owned()))?;
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major >= VERSION_MAJOR_MIN => Ok(()),
        _ => Err(LinkError::TooOld(version)),
    }
}

fn tls_connector(authorities_pem: Option<&[u8]>) -> Result<TlsConnector, LinkError> {
    let unusable = |error: &dyn fmt::Display| LinkError::Certificates(error.to_string());
    let mut authorities = RootCertStore::empty();
    if let Some(pem) = authorities_pem {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            authorities.add(certificate).map_err(|error| unusable(&error))?;
        }
        if authorities.is_empty() {
            return Err(unusable(&"the file of certificate authorities holds none"));
        }
    } else {
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if authorities.is_empty() {
            return Err(unusable(&"this system has no certificate authorities"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

const VERSION_MAJOR_MIN: u32 = 7;
const REFUSAL_CHARS_MAX: usize = 200;
