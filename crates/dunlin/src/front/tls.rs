//! Certificate and key: loaded at start, loaded anew on SIGHUP. Connections that exist keep what
//! they began with; a file that cannot be used leaves the old certificate in place.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::config::{Place, Problem, Problems, TlsConfig};

/// TLS as configured: what the accept loop needs, and the certificate that can be replaced.
pub(crate) struct Tls {
    /// For every new connection.
    pub(crate) server: Arc<ServerConfig>,
    /// The certificate in use.
    pub(crate) certificate: Arc<Certificate>,
}

/// Reads both files; `None` without `tls.cert_file`.
///
/// # Errors
/// Which file cannot be used, and why.
pub(crate) fn load(config: &TlsConfig) -> Result<Option<Tls>, Problems> {
    let (Some(cert_file), Some(key_file)) = (&config.cert_file, &config.key_file) else {
        return Ok(None);
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificate = Arc::new(Certificate {
        current: RwLock::new(Arc::new(read(cert_file, key_file, &provider)?)),
        cert_file: cert_file.clone(),
        key_file: key_file.clone(),
        provider: Arc::clone(&provider),
    });
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has the cipher suites of TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Tls { server: Arc::new(server), certificate }))
}

/// A certificate with its key that can be replaced while connections are accepted.
#[derive(Debug)]
pub(crate) struct Certificate {
    current: RwLock<Arc<CertifiedKey>>,
    cert_file: PathBuf,
    key_file: PathBuf,
    provider: Arc<CryptoProvider>,
}

impl Certificate {
    /// Reads both files anew; new handshakes get what they hold.
    ///
    /// # Errors
    /// Which file cannot be used, and why; the certificate then stays what it was.
    pub(crate) fn reload(&self) -> Result<(), Problems> {
        let fresh = read(&self.cert_file, &self.key_file, &self.provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }

    /// The node's own certificate, without the chain.
    pub(crate) fn leaf(&self) -> CertificateDer<'static> {
        self.current().cert[0].clone()
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn read(
    cert_file: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Problems> {
    let about_cert = |message: String| problem("tls.cert_file", cert_file, message);
    let about_key = |message: String| problem("tls.key_file", key_file, message);
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect)
        .map_err(|error| about_cert(reason(&error, "certificate")))?;
    if chain.is_empty() {
        return Err(about_cert(reason(&pem::Error::NoItemsFound, "certificate")));
    }
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| about_key(reason(&error, "private key")))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            about_key(format!("does not belong to the certificate in {}", cert_file.display()))
        }
        rustls::Error::InvalidCertificate(_) => about_cert(format!("cannot be used: {error}")),
        _ => about_key(format!("cannot be used: {error}")),
    })?;
    Ok(certified)
}

fn reason(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        pem::Error::NoItemsFound => format!("holds no {what} in PEM format"),
        // The error's own text may repeat lines of the file, which may be a key.
        _ => format!("holds a {what} that is not valid PEM"),
    }
}

fn problem(key: &str, path: &Path, message: String) -> Problems {
    let place = Place::File { path: path.to_owned(), line: None };
    Problem { place, key: Some(key.to_owned()), message }.into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::CertifiedKey as Generated;

    use super::*;

    fn write_pair(folder: &Path) -> (TlsConfig, CertificateDer<'static>) {
        let Generated { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&cert_file, cert.pem()).unwrap();
        fs::write(&key_file, signing_key.serialize_pem()).unwrap();
        let config = TlsConfig { cert_file: Some(cert_file), key_file: Some(key_file) };
        (config, cert.der().clone())
    }

    #[test]
    fn reload_takes_what_is_good_and_keeps_the_old_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let (config, first) = write_pair(folder.path());
        let certificate = load(&config).unwrap().unwrap().certificate;
        assert_eq!(certificate.leaf(), first);

        let (_, second) = write_pair(folder.path());
        certificate.reload().unwrap();
        assert_eq!(certificate.leaf(), second);

        fs::write(config.cert_file.as_ref().unwrap(), "not a certificate").unwrap();
        certificate.reload().unwrap_err();
        assert_eq!(certificate.leaf(), second);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (config, _) = write_pair(folder.path());
        let (foreign, _) = write_pair(other.path());
        let broken = folder.path().join("broken.pem");
        let secret = "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----\n";
        fs::write(&broken, secret).unwrap();
        let (cert, key) = (config.cert_file, config.key_file);
        for (cert_file, key_file, about, because) in [
            (Some("/nowhere".into()), key.clone(), "tls.cert_file", "cannot be read"),
            (cert.clone(), Some("/nowhere".into()), "tls.key_file", "cannot be read"),
            (key.clone(), key.clone(), "tls.cert_file", "holds no certificate"),
            (cert.clone(), cert.clone(), "tls.key_file", "holds no private key"),
            (cert.clone(), foreign.key_file, "tls.key_file", "does not belong"),
            (cert.clone(), Some(broken), "tls.key_file", "not valid PEM"),
        ] {
            let error = load(&TlsConfig { cert_file, key_file }).err().unwrap().to_string();
            assert!(error.contains(about) && error.contains(because), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(load(&TlsConfig { cert_file: None, key_file: None }).unwrap().is_none());
    }
}
