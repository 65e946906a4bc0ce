//! Tokens: any text has a verdict, and what is believed was signed and is within its bounds.

use std::sync::LazyLock;

use dunlin_core::auth::{
    ID_BYTES_MAX, TOKEN_BYTES_MAX, TokenError,
    keyring::{Keyring, KeyringSource},
    signing::{Hash, sign},
};

const NOW: u64 = 1_700_000_000;

static KEYS: LazyLock<Keyring> = LazyLock::new(|| {
    let source = KeyringSource {
        hmac_secret_keys: vec!["secret".to_owned()],
        rsa_public_keys: vec![include_str!("auth/rsa.pem").to_owned()],
        ..KeyringSource::default()
    };
    Keyring::new(&source).expect("the keys are good")
});

/// Takes the input for a token, for a key set, and for claims that are signed with the right key.
pub fn token(data: &[u8]) {
    let _set = KEYS.with_jwks(data);
    let Ok(text) = str::from_utf8(data) else { return };
    assert!(KEYS.verify_connection(text, NOW).is_err(), "nobody signed this");
    assert!(KEYS.verify_subscription(text, NOW).is_err(), "nobody signed this");

    let signed = sign(text, Hash::Sha256, "secret");
    let connection = KEYS.verify_connection(&signed, NOW);
    let subscription = KEYS.verify_subscription(&signed, NOW);
    assert!(connection.is_err() || subscription.is_err(), "it is of one kind");
    if signed.len() > TOKEN_BYTES_MAX {
        assert_eq!(connection.as_ref().err(), Some(&TokenError::TooLarge));
    }
    if let Ok(claims) = connection {
        assert!(claims.user.len() <= ID_BYTES_MAX);
        assert!(claims.expire_at.is_none_or(|at| at > NOW));
        let options = claims.subscriptions.values().flat_map(|one| [&one.info, &one.data]);
        [&claims.info, &claims.meta]
            .into_iter()
            .chain(options)
            .flatten()
            .for_each(|json| within(json));
    }
    if let Ok(claims) = subscription {
        assert!(claims.expire_at.is_none_or(|at| at > NOW));
        claims.info.iter().for_each(|json| within(json));
    }
}

/// Asserts that `json` can be part of a line of JSON.
fn within(json: &[u8]) {
    assert!(!json.contains(&b'\n'));
    serde_json::from_slice::<serde_json::Value>(json).expect("claims that are copied are JSON");
}
