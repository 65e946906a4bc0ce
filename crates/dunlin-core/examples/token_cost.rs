//! What checking a token costs, by algorithm, in microseconds: here, and by `jsonwebtoken`. Run it
//! with `cargo run --release -p dunlin-core --example token_cost`; only the columns of one run
//! compare.

#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use dunlin_core::auth::{
    keyring::{Keyring, KeyringSource},
    signing::{Hash, sign},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../src/auth/keyring/tests/fixtures.rs"]
mod fixtures;

const BATCHES: usize = 9;
const BATCH: Duration = Duration::from_millis(20);
const NOW: u64 = 1_700_000_000;

fn main() {
    let secret =
        KeyringSource { hmac_secret_keys: vec!["secret".to_owned()], ..KeyringSource::default() };
    let keyring = Keyring::new(&secret).and_then(|keys| keys.with_jwks(fixtures::KEY_SET));
    let keyring = keyring.expect("the keys of the tests are good");
    let set: JwkSet = serde_json::from_slice(fixtures::KEY_SET).expect("it is a key set");
    let public = |kid: &str| set.find(kid).and_then(|key| DecodingKey::from_jwk(key).ok());
    let claims = r#"{"sub":"42","channel":"news"}"#;
    println!("{:8}{:>9}{:>14}", "", "here", "jsonwebtoken");
    for (name, token, its) in [
        ("HS256", sign(claims, Hash::Sha256, "secret"), Some(Algorithm::HS256)),
        ("HS512", sign(claims, Hash::Sha512, "secret"), Some(Algorithm::HS512)),
        ("RS256", fixtures::NAMED_RSA.to_owned(), Some(Algorithm::RS256)),
        ("ES256", fixtures::NAMED_P256.to_owned(), Some(Algorithm::ES256)),
        ("ES384", fixtures::NAMED_P384.to_owned(), Some(Algorithm::ES384)),
        ("ES512", fixtures::NAMED_P521.to_owned(), None),
        ("EdDSA", fixtures::NAMED_ED.to_owned(), Some(Algorithm::EdDSA)),
    ] {
        let here = micros(|| keyring.verify_subscription(black_box(&token), NOW).is_ok());
        let its = its.map(|algorithm| {
            let kid = jsonwebtoken::decode_header(&token).expect("it has a header").kid;
            let key = match &kid {
                Some(kid) => public(kid),
                None => DecodingKey::from_secret(b"secret").ok(),
            };
            let key = key.expect("the keys of the tests are good");
            let mut validation = Validation::new(algorithm);
            validation.required_spec_claims.clear();
            micros(|| {
                let token = black_box(&token);
                jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation).is_ok()
            })
        });
        let its = its.map_or_else(|| "no".to_owned(), |its| format!("{its:.2}"));
        println!("{name:8}{here:9.2}{its:>14}");
    }
}

/// How long one check takes: the best of several batches.
fn micros(check: impl Fn() -> bool) -> f64 {
    let batch = |count: u32| {
        let began = Instant::now();
        (0..count).for_each(|_| assert!(check(), "the token is good"));
        began.elapsed()
    };
    let mut count = 1;
    while batch(count) < BATCH {
        count *= 2;
    }
    let best = (0..BATCHES).map(|_| batch(count)).min().unwrap_or_default();
    best.as_secs_f64() * 1e6 / f64::from(count)
}
