//! TLS on the way to a server: whom a link trusts, and why it does not, in words.

use std::{fmt, io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::error::LinkError;

/// Shakes hands with the server of one name.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts what `authorities_pem` names, else the authorities of the system.
    pub(crate) fn new(host: &str, authorities_pem: Option<&[u8]>) -> Result<Self, LinkError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| LinkError::ServerName)?;
        let verifier = match authorities_pem {
            Some(pem) => Verifier::of_file(pem)?,
            None => Verifier::of_system()?,
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// The same for a server of another name.
    pub(crate) fn to(&self, host: &str) -> Result<Self, LinkError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| LinkError::ServerName)?;
        Ok(Self { connector: self.connector.clone(), name })
    }

    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, LinkError> {
        let connected = self.connector.connect(self.name.clone(), stream).await;
        connected.map_err(|error| self.failure(error))
    }

    /// A server that has no room for another client goes away in the middle of the handshake; that
    /// says nothing against its certificate.
    fn failure(&self, error: io::Error) -> LinkError {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        LinkError::Tls(match cause {
            None => return LinkError::Broken(error),
            // The signature is bad where another authority has the name of one that is trusted.
            // And another's own certificate may say anything but that it is a server's.
            Some(Error::InvalidCertificate(
                CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::Other(_),
            )) => "nobody here trusts its certificate (redis.ca_file names whom to trust: the \
                 authority, or the certificate itself)"
                .to_owned(),
            Some(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => format!(
                "its certificate is not for the name {} (only subject alternative names count)",
                self.name.to_str()
            ),
            Some(cause) => cause.to_string(),
        })
    }
}

/// Trusts authorities as everybody does, and the very certificates of the file as well: a server's
/// own one, self-signed, mostly says that it is an authority, and such a one is no server's
/// according to the book.
#[derive(Debug)]
struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn of_file(pem: &[u8]) -> Result<Self, LinkError> {
        let mut authorities = RootCertStore::empty();
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|error| unusable(&error))?;
        for certificate in &certificates {
            authorities.add(certificate.clone()).map_err(|error| unusable(&error))?;
        }
        if authorities.is_empty() {
            return Err(unusable(&"the file of certificate authorities holds none"));
        }
        Self::new(authorities, certificates)
    }

    fn of_system() -> Result<Self, LinkError> {
        let mut authorities = RootCertStore::empty();
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if authorities.is_empty() {
            return Err(unusable(&"this system has no certificate authorities"));
        }
        Self::new(authorities, Vec::new())
    }

    fn new(
        authorities: RootCertStore,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<Self, LinkError> {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider());
        let authorities = verifier.build().map_err(|error| unusable(&error))?;
        Ok(Self { authorities, certificates })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // Who signed it does not matter for one that is known; when and for whom it is, does.
            Err(error) if !is_out_of_date(&error) && self.certificates.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// The server's own dates are looked at before anything else of it.
fn is_out_of_date(error: &Error) -> bool {
    let Error::InvalidCertificate(error) = error else { return false };
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn unusable(error: &dyn fmt::Display) -> LinkError {
    LinkError::Certificates(error.to_string())
}
