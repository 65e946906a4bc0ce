//! TLS on the way to the server: whom a node trusts, and what it says of the others.

use std::{fs, ops::RangeInclusive, path::PathBuf, sync::Arc};

use dunlin_core::publication::Kind;
use dunlin_redis::{
    broker::Settings,
    url::{Endpoint, RedisUrl, Security},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{io::copy_bidirectional, net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::{
    node::Node,
    server::{RedisServer, free_port},
    start::{refusal, talks},
};

/// A certificate for `localhost` and its key as files in PEM.
struct Certificate {
    directory: TempDir,
    /// What a node has to trust.
    authority_pem: Vec<u8>,
}

impl Certificate {
    /// One that an authority signed.
    fn signed() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority_pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);

        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Self::write(&certificate.pem(), &key, authority_pem)
    }

    /// One that nobody else signed, as it comes out of `openssl req -x509`: it says that it is an
    /// authority's.
    fn self_signed(name: &str, years: RangeInclusive<i32>) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(*years.start(), 1, 1);
        params.not_after = date_time_ymd(*years.end(), 1, 1);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self::write(&pem, &key, pem.clone())
    }

    fn write(pem: &str, key: &KeyPair, authority_pem: String) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(directory.path().join("certificate.pem"), pem).unwrap();
        Self { directory, authority_pem: authority_pem.into_bytes() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A server that speaks TLS on a port. One that was built without gets a front that does.
struct TlsServer {
    _server: RedisServer,
    front: Option<JoinHandle<()>>,
    port: u16,
}

impl TlsServer {
    async fn start(certificate: &Certificate) -> Self {
        let port = free_port();
        let (file, key) = (certificate.file("certificate.pem"), certificate.file("key.pem"));
        let mut server = RedisServer::prepare();
        server.set_arguments(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            file.to_str().unwrap(),
            "--tls-key-file",
            key.to_str().unwrap(),
            "--tls-auth-clients",
            "no",
        ]);
        let mut front = None;
        if !server.try_run() {
            server.set_arguments(&[]);
            server.run();
            let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
            let acceptor = acceptor(&file, &key);
            front = Some(tokio::spawn(stand_before(server.socket(), listener, acceptor)));
        }
        Self { _server: server, front, port }
    }

    fn url(&self, host: &str) -> RedisUrl {
        format!("rediss://{host}:{}", self.port).parse().unwrap()
    }

    fn settings(&self, trusted: &Certificate) -> Settings {
        let authorities_pem = Some(trusted.authority_pem.clone());
        Settings { authorities_pem, ..Settings::new(self.url("localhost")) }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        if let Some(front) = &self.front {
            front.abort();
        }
    }
}

fn acceptor(certificate: &PathBuf, key: &PathBuf) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn stand_before(socket: PathBuf, listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (acceptor, socket) = (acceptor.clone(), socket.clone());
        tokio::spawn(async move {
            // A client that trusts nobody goes away in the middle of the handshake.
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let mut server = tokio::net::UnixStream::connect(socket).await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority() {
    let certificate = Certificate::signed();
    let server = TlsServer::start(&certificate).await;
    let settings = server.settings(&certificate);
    let node = Node::start_with(settings.clone(), 100_000).await.unwrap();
    talks(&node).await;
    // More than a socket takes at once, both ways.
    let text = "x".repeat(1 << 20);
    for _ in 0..8 {
        drop(node.publish("chat", Kind::Text, text.as_bytes()));
    }
    assert!(node.receive_texts(8).await.iter().all(|received| received == text.as_bytes()));

    let refusal = refusal(server.settings(&Certificate::signed())).await;
    assert!(refusal.contains("failed the tls handshake: nobody here trusts"), "{refusal}");
    assert!(refusal.contains("redis.ca_file"), "{refusal}");

    let other_name =
        Endpoint::Tcp { host: "127.0.0.1".into(), port: server.port, security: Security::Tls };
    let url = RedisUrl { endpoint: other_name, ..settings.urls[0].clone() };
    let refusal = self::refusal(Settings { urls: vec![url], ..settings.clone() }).await;
    assert!(refusal.contains("not for the name 127.0.0.1"), "{refusal}");

    let settings = Settings { authorities_pem: Some(b"no certificate".to_vec()), ..settings };
    let refusal = self::refusal(settings).await;
    assert!(refusal.contains("certificate authorities"), "{refusal}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_if_it_is_the_very_one() {
    let certificate = Certificate::self_signed("localhost", GOOD_YEARS);
    let server = TlsServer::start(&certificate).await;
    let node = Node::start_with(server.settings(&certificate), 1000).await.unwrap();
    talks(&node).await;

    // Of the same names, and yet another.
    let other = Certificate::self_signed("localhost", GOOD_YEARS);
    let refusal = refusal(server.settings(&other)).await;
    assert!(refusal.contains("failed the tls handshake: nobody here trusts"), "{refusal}");
    assert!(refusal.contains("redis.ca_file"), "{refusal}");
    let url = server.url("127.0.0.1");
    let refusal =
        self::refusal(Settings { urls: vec![url], ..server.settings(&certificate) }).await;
    assert!(refusal.contains("not for the name 127.0.0.1"), "{refusal}");
}

#[tokio::test]
async fn a_self_signed_certificate_has_its_time() {
    for years in [2000..=2001, 4000..=4001] {
        let certificate = Certificate::self_signed("localhost", years);
        let server = TlsServer::start(&certificate).await;
        let refusal = refusal(server.settings(&certificate)).await;
        assert!(refusal.contains("failed the tls handshake: "), "{refusal}");
    }
}

const GOOD_YEARS: RangeInclusive<i32> = 2000..=4000;
