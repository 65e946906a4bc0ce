//! What forgers try: a good token changed in one place, a name of another algorithm, and keys used
//! for what they are not for.

use aws_lc_rs::hmac;
use base64::prelude::BASE64_STANDARD;

use super::{fixtures, *};

/// A good token of each algorithm.
fn tokens() -> Vec<(&'static str, String)> {
    let secret = |hash| sign(r#"{"sub":"42","channel":"news"}"#, hash, "secret");
    vec![
        ("HS256", secret(Hash::Sha256)),
        ("HS384", secret(Hash::Sha384)),
        ("HS512", secret(Hash::Sha512)),
        ("RS256", fixtures::TOKEN_RS256.into()),
        ("RS384", fixtures::TOKEN_RS384.into()),
        ("RS512", fixtures::TOKEN_RS512.into()),
        ("ES256", fixtures::TOKEN_ES256.into()),
        ("ES384", fixtures::TOKEN_ES384.into()),
        ("ES512", fixtures::TOKEN_ES512.into()),
        ("EdDSA", fixtures::TOKEN_EDDSA.into()),
    ]
}

/// A keyring of one key alone, and the algorithms that it is for.
fn keyrings() -> Vec<(&'static [&'static str], Keyring)> {
    let ring = |source: KeyringSource| Keyring::new(&source).unwrap();
    let default = KeyringSource::default;
    let ecdsa =
        |pem: &str| ring(KeyringSource { ecdsa_public_keys: vec![pem.into()], ..default() });
    vec![
        (
            &["HS256", "HS384", "HS512"],
            ring(KeyringSource { hmac_secret_keys: vec!["secret".into()], ..default() }),
        ),
        (
            &["RS256", "RS384", "RS512"],
            ring(KeyringSource { rsa_public_keys: vec![fixtures::RSA.into()], ..default() }),
        ),
        (&["ES256"], ecdsa(fixtures::P256)),
        (&["ES384"], ecdsa(fixtures::P384)),
        (&["ES512"], ecdsa(fixtures::P521)),
        (
            &["EdDSA"],
            ring(KeyringSource {
                ed25519_public_keys: vec![fixtures::ED25519.into()],
                ..default()
            }),
        ),
    ]
}

/// The same token with another algorithm in its header.
fn renamed(token: &str, algorithm: &str) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#));
    format!("{header}.{}", token.split_once('.').unwrap().1)
}

#[test]
fn a_token_that_is_changed_in_any_one_place_is_refused() {
    for (algorithm, token) in tokens() {
        let (_, keyring) =
            keyrings().into_iter().find(|(names, _)| names.contains(&algorithm)).unwrap();
        assert_eq!(subscriber(&keyring, &token), Ok("42".into()), "{algorithm}");
        for at in 0..token.len() {
            let (before, after) = (&token[..at], &token[at + 1..]);
            let byte = &token[at..=at];
            let next = if byte == "A" { "B" } else { "A" };
            for changed in [
                format!("{before}{next}{after}"),
                format!("{before}{after}"),
                format!("{before}{byte}{byte}{after}"),
            ] {
                let verdict = subscriber(&keyring, &changed);
                assert!(matches!(verdict, Err(TokenError::Invalid(_))), "{at}: {changed}");
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_other_byte_in_any_place_is_refused(
        which in 0..10_usize,
        at in proptest::prelude::any::<proptest::sample::Index>(),
        byte in 0..128_u8,
    ) {
        let (_, token) = tokens().swap_remove(which);
        let mut changed = token.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(subscriber(&keyring(), &changed).is_ok(), changed == token, "{changed}");
    }
}

#[test]
fn a_key_verifies_the_tokens_of_its_own_algorithms_only() {
    for (algorithm, token) in tokens() {
        for (names, keyring) in keyrings() {
            let is_own = names.contains(&algorithm);
            assert_eq!(subscriber(&keyring, &token).is_ok(), is_own, "{algorithm} by {names:?}");
        }
        for (other, _) in tokens().iter().filter(|(other, _)| *other != algorithm) {
            rejected(&renamed(&token, other));
        }
    }
}

#[test]
fn a_public_key_in_no_form_is_a_secret() {
    let set: serde_json::Value = serde_json::from_slice(fixtures::KEY_SET).unwrap();
    let mut forms: Vec<Vec<u8>> = Vec::new();
    for pem in [fixtures::RSA, fixtures::P256, fixtures::P384, fixtures::P521, fixtures::ED25519] {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = BASE64_STANDARD.decode(&body).unwrap();
        forms.extend([32, 65, 97, 133, 270].map(|n| der[der.len().saturating_sub(n)..].to_vec()));
        forms.extend([pem.into(), pem.trim().into(), body.into(), der]);
    }
    for key in set["keys"].as_array().unwrap() {
        forms.push(key.to_string().into());
        for number in ["n", "x", "y"].iter().filter_map(|name| key[name].as_str()) {
            forms.extend([number.into(), BASE64_URL_SAFE_NO_PAD.decode(number).unwrap()]);
        }
    }
    for secret in forms {
        for (name, hash) in [
            ("HS256", hmac::HMAC_SHA256),
            ("HS384", hmac::HMAC_SHA384),
            ("HS512", hmac::HMAC_SHA512),
        ] {
            for kid in ["", r#","kid":"rsa""#, r#","kid":"p256""#, r#","kid":"ed""#] {
                let header = format!(r#"{{"alg":"{name}"{kid}}}"#);
                let message = [header.as_str(), r#"{"sub":"42","channel":"news"}"#]
                    .map(|part| BASE64_URL_SAFE_NO_PAD.encode(part))
                    .join(".");
                let code = hmac::sign(&hmac::Key::new(hash, &secret), message.as_bytes());
                let token = format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(code));
                for keyring in [keyring(), keyring().with_jwks(fixtures::KEY_SET).unwrap()] {
                    subscriber(&keyring, &token).expect_err(&token);
                }
            }
        }
    }
}

#[test]
fn a_key_that_can_be_broken_is_no_key() {
    let number = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let rsa = |modulus: &[u8], exponent: &[u8]| {
        format!(r#""kty":"RSA","n":"{}","e":"{}""#, number(modulus), number(exponent))
    };
    let curve = |name: &str, x: &[u8], y: &[u8]| {
        format!(r#""kty":"EC","crv":"{name}","x":"{}","y":"{}""#, number(x), number(y))
    };
    let taken = |key: &str| {
        let set = format!(r#"{{"keys":[{{"kid":"a",{key}}}]}}"#);
        keyring().with_jwks(set.as_bytes()).unwrap().has_named()
    };
    let (odd, even) = ([0xff; 256], [0xfe; 256]);
    assert!(taken(&rsa(&odd, &[1, 0, 1])));
    assert!(taken(&rsa(&[&[0, 0], &odd[..]].concat(), &[0, 1, 0, 1])), "zeros before it");
    for broken in [
        rsa(&odd[1..], &[1, 0, 1]),
        rsa(&[0xff; 1025], &[1, 0, 1]),
        rsa(&even, &[1, 0, 1]),
        rsa(&odd, &[2]),
        rsa(&odd, &[1]),
        rsa(&odd, &[]),
        rsa(&[], &[1, 0, 1]),
        curve("P-256", &[1; 32], &[1; 32]),
        curve("P-384", &[1; 48], &[1; 48]),
        curve("P-521", &[0; 66], &[0; 66]),
        curve("P-256", &[1; 31], &[1; 33]),
        curve("P-192", &[1; 24], &[1; 24]),
        format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, number(&[1; 31])),
        format!(r#""kty":"OKP","crv":"X25519","x":"{}""#, number(&[1; 32])),
    ] {
        assert!(!taken(&broken), "{broken}");
    }
}
