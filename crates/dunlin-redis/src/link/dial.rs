//! Makes connections: finds the server, dials, shakes hands for TLS, and has it greeted.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{
    complaints::Complaints,
    connection::{Connection, Stream},
    error::LinkError,
    greeting::{Access, greet, greet_informant},
    place::Place,
    tls::Tls,
};
use crate::url::{Endpoint, RedisUrl, Security, Seeds, Sentinels};

/// Makes connections to one server, all alike.
#[derive(Clone)]
pub(crate) struct Dialer {
    url: RedisUrl,
    place: Place,
    tls: Option<Tls>,
    connect_timeout: Duration,
    frame_bytes_max: usize,
    complaints: Arc<Complaints>,
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
                Some(Tls::new(host, authorities_pem)?)
            }
            Endpoint::Sentinel(Sentinels { security: Security::Tls, .. })
            | Endpoint::Cluster(Seeds { security: Security::Tls, .. }) => {
                // Its name is that of whichever server is dialled.
                Some(Tls::new("whichever", authorities_pem)?)
            }
            _ => None,
        };
        let (place, complaints) = (Place::Fixed(url.endpoint.clone()), Arc::default());
        Ok(Self { url, place, tls, connect_timeout, frame_bytes_max, complaints })
    }

    /// The same for connections whose frames keep at most so many bytes.
    pub(crate) fn with_frame_bytes_max(&self, frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max, ..self.clone() }
    }

    /// The same for a server whose place is told.
    pub(crate) fn at(&self, place: Place) -> Self {
        Self { place, ..self.clone() }
    }

    /// How a place is written that it leads to.
    pub(crate) fn address_of(&self, endpoint: &Endpoint) -> String {
        RedisUrl { endpoint: endpoint.clone(), ..self.url.clone() }.to_string()
    }

    /// The sentinels that know the place, and how each of them is dialled.
    pub(crate) fn sentinels(&self) -> Option<(&Sentinels, Vec<Self>)> {
        let Endpoint::Sentinel(sentinels) = &self.url.endpoint else { return None };
        let dialer = |(host, port): &(String, u16)| {
            let (host, port, security) = (host.clone(), *port, sentinels.security);
            self.at(Place::Fixed(Endpoint::Tcp { host, port, security }))
        };
        Some((sentinels, sentinels.addresses.iter().map(dialer).collect()))
    }

    /// The nodes that know a cluster.
    pub(crate) fn seeds(&self) -> Option<&Seeds> {
        match &self.url.endpoint {
            Endpoint::Cluster(seeds) => Some(seeds),
            _ => None,
        }
    }

    /// The longest time to connect and greet.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Where the server is, as far as that changes.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Connects and greets, within the time-out in all.
    pub(crate) async fn dial(&self) -> Result<Connection, LinkError> {
        let greeted = async {
            let mut connection = self.connect().await?;
            connection.server = greet(&mut connection, &Access::of(&self.url)).await?;
            Ok(connection)
        };
        let dialled = self.in_time(greeted).await;
        if dialled.is_err() {
            self.place.doubt();
        }
        dialled
    }

    /// The same to who is only to tell where others are: a sentinel, or a node of a cluster.
    pub(crate) async fn dial_informant(&self) -> Result<Connection, LinkError> {
        let access = match &self.url.endpoint {
            Endpoint::Sentinel(sentinels) => Access::to_sentinel(sentinels),
            _ => Access::of(&self.url),
        };
        let greeted = async {
            let mut connection = self.connect().await?;
            greet_informant(&mut connection, &access).await?;
            Ok(connection)
        };
        self.in_time(greeted).await
    }

    async fn in_time(
        &self,
        greeted: impl Future<Output = Result<Connection, LinkError>>,
    ) -> Result<Connection, LinkError> {
        let late = || self.place.unknown().unwrap_or(LinkError::Timeout(self.connect_timeout));
        timeout(self.connect_timeout, greeted).await.unwrap_or_else(|_| Err(late()))
    }

    /// Tells the log why a start waits, once in a while.
    pub(crate) fn note_waiting(&self, error: &LinkError) {
        let reason = error.to_string();
        if self.complaints.is_due(&reason) {
            tracing::info!(address = %self, "waiting: redis {reason}");
        }
    }

    async fn connect(&self) -> Result<Connection, LinkError> {
        let endpoint = self.place.find().await;
        let stream = self.open(&endpoint).await?;
        let mut connection = Connection::new(stream, self.frame_bytes_max);
        connection.endpoint = Some(endpoint);
        Ok(connection)
    }

    async fn open(&self, endpoint: &Endpoint) -> Result<Box<dyn Stream>, LinkError> {
        let (host, port) = match endpoint {
            Endpoint::Unix { path } => {
                let stream = UnixStream::connect(path).await.map_err(LinkError::Unreachable)?;
                return Ok(Box::new(stream));
            }
            Endpoint::Tcp { host, port, .. } => (host.as_str(), *port),
            Endpoint::Sentinel(_) => {
                return Err(LinkError::NoPrimary("its sentinels are not asked".to_owned()));
            }
            Endpoint::Cluster(_) => {
                return Err(LinkError::NoPrimary("its nodes are not asked".to_owned()));
            }
        };
        let stream = TcpStream::connect((host, port)).await.map_err(LinkError::Unreachable)?;
        stream.set_nodelay(true).map_err(LinkError::Broken)?;
        match &self.tls {
            Some(tls) => Ok(Box::new(tls.to(host)?.connect(stream).await?)),
            None => Ok(Box::new(stream)),
        }
    }
}
