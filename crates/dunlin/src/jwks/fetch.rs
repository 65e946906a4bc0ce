//! One GET, as little HTTP as it takes: no redirects, no cookies, no proxies, bounded in size and
//! time.

use std::{io, sync::Arc, time::Duration};

use axum::body::{self, Body};
use bytes::Bytes;
use dunlin_core::auth::KEY_SET_BYTES_MAX;
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::Address;

/// Longest fetch, from the lookup of the name to the last byte.
const FETCH_AGE_MAX: Duration = Duration::from_secs(10);

/// Why a key set was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or it broke.
    #[error("cannot talk to the server of the key set: {0}")]
    Io(#[from] io::Error),
    /// It does not speak HTTP/1.1 as it should.
    #[error("the server of the key set broke the protocol: {0}")]
    Http(#[from] hyper::Error),
    /// It answered something else than 200; redirects are not followed.
    #[error("the server of the key set answered {0}, not 200")]
    Status(StatusCode),
    /// The answer is too large or was cut off.
    #[error("the key set is larger than {KEY_SET_BYTES_MAX} bytes or was cut off")]
    Body,
    /// It took longer than ten seconds.
    #[error("the server of the key set did not answer in time")]
    Late,
}

/// Fetches the document at `address`.
///
/// # Errors
/// [`FetchError`] when it is not there, too large, too late, or elsewhere.
pub async fn fetch(address: &Address) -> Result<Bytes, FetchError> {
    timeout(FETCH_AGE_MAX, Box::pin(connect_and_get(address)))
        .await
        .map_err(|_| FetchError::Late)?
}

async fn connect_and_get(address: &Address) -> Result<Bytes, FetchError> {
    let stream = TcpStream::connect((address.host(), address.port())).await?;
    if !address.is_tls() {
        return get(stream, address).await;
    }
    let name = ServerName::try_from(address.host().to_owned()).map_err(io::Error::other)?;
    Box::pin(get(tls_connector()?.connect(name, stream).await?, address)).await
}

async fn get<S>(stream: S, address: &Address) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(address.path())
        .header(header::HOST, address.authority())
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Body::empty())
        .map_err(io::Error::other)?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Body::new(answer.into_body());
        body::to_bytes(body, KEY_SET_BYTES_MAX).await.map_err(|_| FetchError::Body)
    };
    tokio::pin!(answer);
    // The connection does the work and lives no longer than the answer takes.
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => {
            ended?;
            answer.await
        }
    }
}

/// Trusts whom this system trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise.
fn tls_connector() -> Result<TlsConnector, FetchError> {
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
