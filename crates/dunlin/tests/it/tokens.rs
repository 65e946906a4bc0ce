//! `gen-token` and `check-token` as a script sees them, with keys from settings and from a server.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    sync::Arc,
    thread,
};

use dunlin_core::auth::signing::{Hash, sign};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};

use crate::cli::{dunlin, stderr, stdout};

const KEY: &str = "client.token.hmac_secret_key=secret";

/// An Ed25519 token that names the key `ed`, and the set that holds it.
const NAMED: &str = concat!(
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.eyJzdWIiOiI0MiJ9.ItJdawrTGnTBkAEC6KatYYUUbr6",
    "YwOLL08_9YD11rYAAqVZ3gJV2FQ01Stf8hPbks8v1Bw1MAugbf9Yy3RhKCw",
);
const KEY_SET: &str = concat!(
    r#"{"keys":[{"kty":"OKP","kid":"ed","alg":"EdDSA","crv":"Ed25519","#,
    r#""x":"_ccOuOlPq0DOVmYIw4DNIqrwZKar7S-BTbqqPhsj95Y"}]}"#,
);

#[track_caller]
fn made(arguments: &[&str]) -> String {
    let output = dunlin(&[&["gen-token", "-q"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).trim().to_owned()
}

#[track_caller]
fn checked(arguments: &[&str], code: i32, expected: &str) {
    let output = dunlin(&[&["check-token"], arguments].concat());
    let said = [stdout(&output), stderr(&output)].concat();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_token_that_is_made_is_good() {
    let token = made(&["--user", "42", "--ttl", "90s", "--set", KEY]);
    checked(&[&token, "--set", KEY], 0, "user: \"42\"\nexpires: ");
    checked(&[&token, "--set", "client.token.hmac_secret_key=other"], 1, "no key verifies it");
    let forever = made(&["--ttl", "0", "--algorithm", "hs512", "--set", KEY]);
    checked(&[&forever, "--set", KEY], 0, "expires: never");
    let ours = ["--set", KEY, "--set", "client.token.issuer=app"];
    checked(&[&made(&ours), ours[0], ours[1], ours[2], ours[3]], 0, "connection token");
    checked(&[&token, ours[0], ours[1], ours[2], ours[3]], 1, "another issuer");

    let said = dunlin(&["gen-token", "--set", KEY]);
    assert!(stdout(&said).starts_with("# {\"sub\":\"\",\"iat\":"), "{}", stdout(&said));
}

#[test]
fn a_subscription_token_has_keys_of_its_own_if_so_configured() {
    let token = made(&["--channel", "news", "--user", "42", "--set", KEY]);
    checked(&[&token, "--set", KEY], 0, "a good subscription token\nuser: \"42\"\nchannel: news");
    let both = [
        "--set",
        KEY,
        "--set",
        "client.subscription_token.enabled=true",
        "--set",
        "client.subscription_token.hmac_secret_key=own",
    ];
    let other = made(&[&["--channel", "news"], &both[..]].concat());
    checked(&[&[other.as_str()], &both[..]].concat(), 0, "channel: news");
    checked(&[&other, "--set", KEY], 1, "no key verifies it");
    checked(&[&[token.as_str()], &both[..]].concat(), 1, "it is a subscription token");
}

#[test]
fn times_in_milliseconds_are_told_to_be_so() {
    let claims = r#"{"sub":"42","exp":1900000000000}"#;
    let said = "exp is in milliseconds, not in seconds";
    checked(&[&sign(claims, Hash::Sha256, "secret"), "--set", KEY], 1, said);
    let claims = r#"{"sub":"42","channel":"c","exp":1900000000000}"#;
    checked(&[&sign(claims, Hash::Sha256, "secret"), "--set", KEY], 1, said);
}

#[test]
fn without_keys_there_is_no_token() {
    let output = dunlin(&["gen-token"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("client.token.hmac_secret_key"), "{}", stderr(&output));
    checked(&[NAMED], 1, "no key is configured");
    checked(&[NAMED, "--set", KEY], 1, "unknown key");
    checked(&["x", "--set", "client.token.rsa_public_key=x"], 78, "client.token: expected keys");
}

/// Answers one TLS connection with the key set; returns its port and the PEM of who vouches for it.
fn key_server() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let mut request = [0; 1024];
        if stream.read(&mut request).is_ok() {
            let length = KEY_SET.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{KEY_SET}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (port, made.cert.pem())
}

#[test]
fn keys_are_fetched_from_who_is_trusted_only() {
    let directory = tempfile::tempdir().unwrap();
    let authorities = directory.path().join("authorities.pem");
    for is_trusted in [true, false] {
        let (port, pem) = key_server();
        let (_, other) = key_server();
        fs::write(&authorities, if is_trusted { pem } else { other }).unwrap();
        let keys = format!("client.token.jwks_public_endpoint=https://localhost:{port}/keys");
        let output = Command::new(env!("CARGO_BIN_EXE_dunlin"))
            .args(["check-token", NAMED, "--set", &keys])
            .env_clear()
            .env("SSL_CERT_FILE", &authorities)
            .output()
            .unwrap();
        assert_eq!(output.status.success(), is_trusted, "{}", stderr(&output));
        match is_trusted {
            true => assert!(stdout(&output).contains("user: \"42\""), "{}", stdout(&output)),
            false => assert!(stderr(&output).contains("fetching https://"), "{}", stderr(&output)),
        }
    }
}
