//! A real server on a loopback port, which answers what the test says.

use dunlin_core::auth::{KEY_SET_BYTES_MAX, TokenError, keyring::KeyringSource};
use hyper::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// The key of RFC 8037 appendix A and a token header that names it.
const KEY_SET: &str = concat!(
    r#"{"keys":[{"kty":"OKP","kid":"a","crv":"Ed25519","#,
    r#""x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
);
const AGE_MAX: Duration = Duration::from_secs(100);
const NAMES_A: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImEifQ.e30.AAAA";

async fn server(answers: Vec<String>) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/keys?x=1", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            assert!(request.starts_with(b"GET /keys?x=1 HTTP/1.1\r\n"));
            // A client that has seen enough may be gone already.
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn keys_come_over_tls_or_from_this_machine() {
    for good in [
        "https://example.com/jwks",
        "https://example.com:8443",
        "http://localhost:80/x",
        "http://127.0.0.1/",
        "http://[::1]:9/x",
        "https://[2001:db8::1]/x",
    ] {
        let address: Address = good.parse().expect(good);
        assert!(!address.host().contains('['), "{good}");
    }
    for bad in [
        "",
        "example.com",
        "/jwks",
        "http://example.com/jwks",
        "http://127.0.0.1.example.com/",
        "http://localhost@example.com/",
        "https://user:password@example.com/",
        "http://169.254.169.254/",
        "ftp://localhost/",
        "file:///etc/passwd",
        "https://",
    ] {
        bad.parse::<Address>().expect_err(bad);
    }
}

#[tokio::test]
async fn a_document_is_fetched() {
    let address = server(vec![ok(KEY_SET)]).await;
    assert_eq!(fetch(&address).await.unwrap(), KEY_SET);
}

#[tokio::test]
async fn anything_but_a_small_200_is_refused() {
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n".to_owned();
    let endless = "HTTP/1.1 200 OK\r\n\r\n".to_owned() + &"x".repeat(KEY_SET_BYTES_MAX + 1);
    let address = server(vec![
        elsewhere,
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        endless,
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx".to_owned(),
        "no http at all\r\n\r\n".to_owned(),
    ])
    .await;
    assert!(matches!(fetch(&address).await, Err(FetchError::Status(StatusCode::FOUND))));
    assert!(matches!(fetch(&address).await, Err(FetchError::Status(StatusCode::NOT_FOUND))));
    assert!(matches!(fetch(&address).await, Err(FetchError::Body)));
    let cut = fetch(&address).await;
    assert!(matches!(cut, Err(FetchError::Body | FetchError::Http(_))), "{cut:?}");
    assert!(matches!(fetch(&address).await, Err(FetchError::Http(_))));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    assert!(matches!(fetch(&address).await, Err(FetchError::Late)));
}

#[tokio::test]
async fn a_keyring_takes_good_keys_and_keeps_them_when_worse_come() {
    let address = server(vec![ok(KEY_SET), ok("[]")]).await;
    let keyring = Keyring::new(&KeyringSource::default()).unwrap();
    let live = LiveKeyring::new(keyring, Some(address.clone()), AGE_MAX);
    let verdict = || live.current().verify_connection(NAMES_A, 0).unwrap_err();
    assert_eq!(verdict(), TokenError::UnknownKey);
    live.refresh(&address).await.unwrap();
    assert!(matches!(verdict(), TokenError::Invalid(_)), "the key is known now");
    live.refresh(&address).await.unwrap_err();
    live.refresh(&address).await.unwrap_err();
    assert!(matches!(verdict(), TokenError::Invalid(_)), "and it stays known");
}

#[tokio::test]
async fn a_set_that_was_emptied_takes_its_keys_along() {
    let address = server(vec![ok(KEY_SET), ok(r#"{"keys":[]}"#)]).await;
    let keyring = Keyring::new(&KeyringSource::default()).unwrap();
    let live = LiveKeyring::new(keyring, Some(address.clone()), AGE_MAX);
    live.refresh(&address).await.unwrap();
    assert!(live.current().has_named());
    live.refresh(&address).await.unwrap();
    assert!(!live.current().has_named());
}

#[tokio::test]
async fn keys_end_that_could_not_be_confirmed_for_too_long() {
    let address = server(vec![ok(KEY_SET), ok(KEY_SET)]).await;
    for (age_max, is_forgotten) in [(AGE_MAX, true), (Duration::ZERO, false)] {
        let keyring = Keyring::new(&KeyringSource::default()).unwrap();
        let live = LiveKeyring::new(keyring, Some(address.clone()), age_max);
        live.refresh(&address).await.unwrap();
        live.forget_old(&address, Instant::now() + AGE_MAX / 2);
        assert!(live.current().has_named());
        live.forget_old(&address, Instant::now() + AGE_MAX);
        assert_eq!(live.current().has_named(), !is_forgotten);
    }
}

#[tokio::test]
async fn following_begins_at_once() {
    let address = server(vec![ok(KEY_SET)]).await;
    let keyring = Keyring::new(&KeyringSource::default()).unwrap();
    let live = LiveKeyring::new(keyring, Some(address), AGE_MAX);
    let known = async {
        while live.current().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = live.follow() => unreachable!("it has an address to follow"),
        () = known => {}
    }
}
