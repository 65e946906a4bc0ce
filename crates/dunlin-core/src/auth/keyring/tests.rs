//! A token is believed for each algorithm and rejected for each defect. Tokens of public keys are
//! fixtures, those of secrets are made here.

use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::*;
use crate::auth::{
    KEY_SET_BYTES_MAX,
    signing::{Hash, sign},
};

mod fixtures;
mod hostile;
mod second_opinion;

const NOW: u64 = 1_700_000_000;

fn source() -> KeyringSource {
    KeyringSource {
        hmac_secret_keys: vec!["secret".into(), "older".into()],
        rsa_public_keys: vec![fixtures::RSA.into()],
        ecdsa_public_keys: [fixtures::P256, fixtures::P384, fixtures::P521].map(Into::into).into(),
        ed25519_public_keys: vec![fixtures::ED25519.into()],
        ..KeyringSource::default()
    }
}

fn keyring() -> Keyring {
    Keyring::new(&source()).unwrap()
}

fn user(keyring: &Keyring, token: &str) -> Result<String, TokenError> {
    keyring.verify_connection(token, NOW).map(|claims| claims.user.to_string())
}

fn subscriber(keyring: &Keyring, token: &str) -> Result<String, TokenError> {
    keyring.verify_subscription(token, NOW).map(|claims| claims.user.to_string())
}

/// A token with this header and these claims and an HS256 signature of `secret`.
fn forge(header: &str, claims: &str) -> String {
    let signed = sign(claims, Hash::Sha256, "secret");
    let claims = signed.split('.').nth(1).unwrap();
    let message = format!("{}.{claims}", BASE64_URL_SAFE_NO_PAD.encode(header));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"secret");
    let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[track_caller]
fn rejected(token: &str) {
    for keyring in [keyring(), keyring().with_jwks(fixtures::KEY_SET).unwrap()] {
        let error = keyring.verify_connection(token, NOW).expect_err(token);
        assert!(matches!(error, TokenError::Invalid(_)), "{error} for {token}");
        keyring.verify_subscription(token, NOW).expect_err(token);
    }
}

#[track_caller]
fn claims_rejected(claims: &str) {
    rejected(&sign(claims, Hash::Sha256, "secret"));
}

#[test]
fn each_algorithm_is_believed_and_each_flaw_in_it_is_not() {
    let mut tokens = [
        fixtures::TOKEN_RS256,
        fixtures::TOKEN_RS384,
        fixtures::TOKEN_RS512,
        fixtures::TOKEN_ES256,
        fixtures::TOKEN_ES384,
        fixtures::TOKEN_ES512,
        fixtures::TOKEN_EDDSA,
    ]
    .map(str::to_owned)
    .to_vec();
    let claims = r#"{"sub":"42","channel":"news"}"#;
    for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        tokens.push(sign(claims, hash, "secret"));
        tokens.push(sign(claims, hash, "older"));
        rejected(&sign(claims, hash, "guess"));
    }
    for token in tokens {
        assert_eq!(subscriber(&keyring(), &token), Ok("42".into()), "{token}");

        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, payload) = message.split_once('.').unwrap();
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[9] ^= 1;
        rejected(&format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(&bytes)));
        bytes.fill(0);
        rejected(&format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(&bytes)));
        rejected(&format!("{message}."));
        rejected(&format!("{message}.{}", &signature[..signature.len() - 4]));
        let other = BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"43"}"#);
        rejected(&format!("{header}.{other}.{signature}"));
        rejected(&format!("{header}.{payload}.{signature}.x"));
        rejected(&format!("{header}.{payload}.{signature}="));
        let empty = Keyring::new(&KeyringSource::default()).unwrap();
        subscriber(&empty, &token).unwrap_err();
    }
}

#[test]
fn an_algorithm_is_no_choice_of_the_token() {
    let claims = r#"{"sub":"42"}"#;
    for algorithm in ["none", "None", "NONE", "", "hs256", "PS256", "ES256K", "HS1"] {
        rejected(&forge(&format!(r#"{{"alg":"{algorithm}"}}"#), claims));
        let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
        rejected(&format!("{header}.{}.", BASE64_URL_SAFE_NO_PAD.encode(claims)));
    }
    // Public keys, as text and without its end, taken for secrets.
    for public in [fixtures::RSA, fixtures::P256, fixtures::P384, fixtures::ED25519] {
        for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            rejected(&sign(claims, hash, public));
            rejected(&sign(claims, hash, public.trim()));
        }
    }
    // The signature of one algorithm under the name of another.
    for algorithm in ["HS384", "HS512", "RS256", "ES256", "ES384", "ES512", "EdDSA"] {
        rejected(&forge(&format!(r#"{{"alg":"{algorithm}"}}"#), claims));
    }
}

#[test]
fn a_header_is_taken_literally() {
    let claims = r#"{"sub":"42"}"#;
    assert_eq!(user(&keyring(), &forge(r#"{"typ":"x","alg":"HS256"}"#, claims)), Ok("42".into()));
    for header in [
        r#"{}"#,
        r#"[]"#,
        "",
        r#"{"alg":"HS256"} x"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"alg":"HS256","kid":null}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":[]}"#,
    ] {
        rejected(&forge(header, claims));
    }
    let deep = format!(r#"{{"alg":"HS256","x":{}{}}}"#, "[".repeat(16), "]".repeat(16));
    rejected(&forge(&deep, claims));
    rejected(&forge(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(65)), claims));
}

#[test]
fn a_named_key_verifies_and_no_other_in_its_place() {
    let none = Keyring::new(&KeyringSource::default()).unwrap();
    let keyring = none.with_jwks(fixtures::KEY_SET).unwrap();
    for token in [
        fixtures::NAMED_RSA,
        fixtures::NAMED_P256,
        fixtures::NAMED_P384,
        fixtures::NAMED_P521,
        fixtures::NAMED_ED,
    ] {
        assert_eq!(subscriber(&none, token), Err(TokenError::UnknownKey));
        assert_eq!(subscriber(&keyring, token), Ok("42".into()), "{token}");
    }
    // A key of a set says for which algorithm it is.
    rejected(fixtures::TOKEN_RS512.replacen('.', "x.", 1).as_str());
    for unnamed in [fixtures::TOKEN_RS256, fixtures::TOKEN_EDDSA] {
        assert!(matches!(subscriber(&keyring, unnamed), Err(TokenError::Invalid(_))));
    }
    // Whoever knows the secret cannot speak in the name of a key that somebody else holds.
    let both = self::keyring().with_jwks(fixtures::KEY_SET).unwrap();
    let posing = forge(r#"{"alg":"HS256","kid":"rsa"}"#, r#"{"sub":"42","channel":"news"}"#);
    assert!(matches!(subscriber(&both, &posing), Err(TokenError::Invalid(_))));
    for (kid, verdict) in [("unknown", Ok("42".into())), ("secret", Ok("42".into()))] {
        let token = forge(
            &format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#),
            r#"{"sub":"42","channel":"news"}"#,
        );
        assert_eq!(subscriber(&both, &token), verdict);
        // Names of keys are looked up, never followed.
        assert_eq!(subscriber(&keyring, &token), Err(TokenError::UnknownKey));
    }
}

#[test]
fn a_key_set_is_checked() {
    let check = |document: &str| keyring().with_jwks(document.as_bytes());
    let key = concat!(
        r#"{"kty":"OKP","kid":"a","crv":"Ed25519","#,
        r#""x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    );
    check(&format!(r#"{{"keys":[{key}]}}"#)).unwrap();
    let verifies = key.replace('}', r#","use":"sig","key_ops":["sign","verify"]}"#);
    check(&format!(r#"{{"keys":[{verifies}]}}"#)).unwrap();
    // What is not there any more does not count any more, also when nothing of use is there.
    for document in [
        r#"{"keys":[]}"#.into(),
        r#"{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}"#.into(),
        format!(r#"{{"keys":[{}]}}"#, key.replace('}', r#","alg":"RS256"}"#)),
        format!(r#"{{"keys":[{}]}}"#, key.replace('}', r#","alg":"none"}"#)),
        format!(r#"{{"keys":[{}]}}"#, key.replace('}', r#","use":"enc"}"#)),
        format!(r#"{{"keys":[{}]}}"#, key.replace('}', r#","key_ops":["sign"]}"#)),
        format!(r#"{{"keys":[{}]}}"#, key.replace('}', r#","key_ops":[]}"#)),
        format!(r#"{{"keys":[{}]}}"#, key.replace("\"a\"", &format!("\"{}\"", "k".repeat(65)))),
        format!(r#"{{"keys":[{}]}}"#, key.replace("11qY", "")),
    ] {
        let emptied = check(&document).unwrap();
        assert!(!emptied.has_named(), "{document}");
    }
    for document in [
        String::new(),
        "[]".into(),
        "[[]]".into(),
        format!(r#"{{"keys":[{key},{key}]}}"#),
        format!(r#"{{"keys":[{key}],"x":{}}}"#, "[".repeat(99) + &"]".repeat(99)),
        format!(r#"{{"keys":[{key}],"x":"{}"}}"#, "x".repeat(KEY_SET_BYTES_MAX)),
        format!(
            r#"{{"keys":[{}]}}"#,
            (0..65)
                .map(|n| key.replace("\"a\"", &format!("\"{n}\"")))
                .collect::<Vec<_>>()
                .join(",")
        ),
    ] {
        assert!(matches!(check(&document), Err(KeyError::KeySet(_))), "{document}");
    }
}

#[test]
fn keys_are_checked() {
    let check = |change: fn(&mut KeyringSource)| {
        let mut source = source();
        change(&mut source);
        Keyring::new(&source).unwrap_err()
    };
    assert_eq!(check(|s| s.hmac_secret_keys[0].clear()), KeyError::Empty);
    assert_eq!(
        check(|s| s.hmac_secret_keys = vec!["x".into(); KEYS_OF_A_KIND_MAX + 1]),
        KeyError::TooMany("hmac_secret_key")
    );
    let rsa = KeyError::Pem("rsa_public_key");
    assert_eq!(check(|s| s.rsa_public_keys[0] = fixtures::RSA_SHORT.into()), rsa);
    assert_eq!(check(|s| s.rsa_public_keys[0] = fixtures::P256.into()), rsa);
    assert_eq!(check(|s| s.rsa_public_keys[0] = "secret".into()), rsa);
    let ecdsa = KeyError::Pem("ecdsa_public_key");
    assert_eq!(check(|s| s.ecdsa_public_keys[0] = fixtures::RSA.into()), ecdsa);
    let ed25519 = KeyError::Pem("ed25519_public_key");
    assert_eq!(check(|s| s.ed25519_public_keys[0] = fixtures::P256.into()), ed25519);
    let shown = format!("{:?}", keyring());
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn claims_are_read() {
    let token = sign(
        r#"{"sub":"42","exp":1700000100.9,"expire_at":0,"iat":1700000000,"jti":"a","nbf":1,
            "info":{"name" : "Alice Doe"},"meta":{"plan": 1},"own":{"x":null},
            "channels":["news","chat"],
            "subs":{"chat":{"b64info":"eyAiYSI6MSB9","data":[1, 2],
                "override":{"presence":{"value":true},"join_leave":{"value":false}}}}}"#,
        Hash::Sha512,
        "secret",
    );
    let claims = keyring().verify_connection(&token, NOW).unwrap();
    assert_eq!(&*claims.user, "42");
    assert_eq!((claims.expire_at, claims.issued_at), (None, Some(NOW)));
    assert_eq!(claims.token_id.as_deref(), Some("a"));
    assert_eq!(claims.info.unwrap(), br#"{"name":"Alice Doe"}"#[..]);
    assert_eq!(claims.meta.unwrap(), br#"{"plan":1}"#[..]);
    let channels: Vec<_> = claims.subscriptions.keys().map(|name| name.as_str()).collect();
    assert_eq!(channels, ["chat", "news"]);
    let chat = &claims.subscriptions["chat"];
    assert_eq!(chat.info.as_deref(), Some(&br#"{"a":1}"#[..]));
    assert_eq!(chat.data.as_deref(), Some(&b"[1,2]"[..]));
    assert_eq!((chat.overrides.presence, chat.overrides.join_leave), (Some(true), Some(false)));
    assert_eq!(chat.overrides.force_recovery, None);
    assert_eq!(claims.subscriptions["news"], Default::default());

    let token = sign(
        r#"{"sub":"","channel":"c","expire_at":1700000009,
            "override":{"force_recovery":{"value":true}}}"#,
        Hash::Sha384,
        "older",
    );
    let claims = keyring().verify_subscription(&token, NOW).unwrap();
    assert_eq!((&*claims.user, claims.expire_at), ("", Some(NOW + 9)));
    assert_eq!(claims.channel.as_str(), "c");
    let posing = keyring().verify_connection(&token, NOW);
    assert_eq!(posing, Err(TokenError::OF_A_SUBSCRIPTION));
    assert_eq!(claims.overrides.force_recovery, Some(true));
    assert!(keyring().verify_subscription(&sign("{}", Hash::Sha256, "secret"), NOW).is_err());
}

#[test]
fn time_runs_out_to_the_second() {
    let verdict = |claims: &str| user(&keyring(), &sign(claims, Hash::Sha256, "secret"));
    for good in [
        r#"{"exp":1700000001}"#,
        r#"{"expire_at":0}"#,
        r#"{}"#,
        r#"{"nbf":1700000000}"#,
        r#"{"exp":1700000001.0,"expire_at":1700000001}"#,
        r#"{"exp":99999999999}"#,
    ] {
        assert_eq!(verdict(good), Ok(String::new()), "{good}");
    }
    for over in [
        r#"{"exp":1700000000}"#,
        r#"{"exp":1700000000.999}"#,
        r#"{"exp":0}"#,
        r#"{"exp":1,"expire_at":0}"#,
        r#"{"exp":1700000001,"expire_at":1700000000}"#,
        r#"{"expire_at":1}"#,
    ] {
        assert_eq!(verdict(over), Err(TokenError::Expired), "{over}");
    }
}

#[test]
fn a_clock_may_be_a_little_ahead_and_then_its_token_is_good_later() {
    let source = KeyringSource { leeway: Duration::from_secs(5), ..source() };
    let lenient = Keyring::new(&source).unwrap();
    for (ahead, strictly, leniently) in [
        (0, Ok("42"), Ok("42")),
        (1, Err(TokenError::NotYet), Ok("42")),
        (5, Err(TokenError::NotYet), Ok("42")),
        (6, Err(TokenError::NotYet), Err(TokenError::NotYet)),
        (86_400, Err(TokenError::NotYet), Err(TokenError::NotYet)),
    ] {
        let at = NOW + ahead;
        let claims = format!(r#"{{"sub":"42","channel":"c","iat":{at},"nbf":{at}}}"#);
        let token = sign(&claims, Hash::Sha256, "secret");
        assert_eq!(subscriber(&keyring(), &token), strictly.map(Into::into), "{claims}");
        assert_eq!(subscriber(&lenient, &token), leniently.map(Into::into), "{claims}");
    }
    // The end of a token has no leeway.
    let over = sign(&format!(r#"{{"exp":{NOW}}}"#), Hash::Sha256, "secret");
    assert_eq!(user(&lenient, &over), Err(TokenError::Expired));
}

#[test]
fn milliseconds_are_no_seconds() {
    for claim in ["exp", "expire_at", "nbf", "iat"] {
        for at in ["1700000000000", "100000000000", "100000000000.5", "18446744073709551615"] {
            let claims = format!(r#"{{"{claim}":{at}}}"#);
            let error = user(&keyring(), &sign(&claims, Hash::Sha256, "secret")).unwrap_err();
            let told = format!("invalid token: {claim} is in milliseconds, not in seconds");
            assert_eq!(error.to_string(), told, "{claims}");
        }
    }
    // What is wrong at any time is told first.
    rejected(&sign(r#"{"exp":1700000000000}"#, Hash::Sha256, "guess"));
}

#[test]
fn a_claim_of_the_wrong_type_is_not_an_absent_one() {
    for claim in ["exp", "expire_at", "iat", "nbf"] {
        for value in ["\"never\"", "\"1800000000\"", "null", "-1", "true", "[]", "1e300", "{}"] {
            claims_rejected(&format!(r#"{{"sub":"42","{claim}":{value}}}"#));
        }
    }
    for claim in ["sub", "jti", "iss", "aud", "b64info"] {
        for value in ["7", "null", "{}", "[7]", "true"] {
            claims_rejected(&format!(r#"{{"{claim}":{value}}}"#));
        }
    }
    for claims in [
        "",
        "[]",
        "\"42\"",
        "{} {}",
        r#"{"sub":"a","sub":"b"}"#,
        r#"{"exp":1800000000,"exp":1900000000}"#,
        r#"{"channels":"news"}"#,
        r#"{"channels":[1]}"#,
        r#"{"channels":[""]}"#,
        r#"{"subs":[]}"#,
        r#"{"subs":{"":{}}}"#,
        r#"{"subs":{"a":null}}"#,
        r#"{"subs":{"a":{"override":{"presence":true}}}}"#,
        r#"{"subs":{"a":{"override":{"presence":{"value":"yes"}}}}}"#,
        r#"{"b64info":"?"}"#,
        r#"{"b64info":"bm8ganNvbg=="}"#,
    ] {
        claims_rejected(claims);
    }
    claims_rejected(&format!(r#"{{"info":{}{}}}"#, "[".repeat(16), "]".repeat(16)));
    claims_rejected(&format!(r#"{{"sub":"{}"}}"#, "u".repeat(256)));
    claims_rejected(&format!(r#"{{"jti":"{}"}}"#, "j".repeat(256)));
}

#[test]
fn a_token_has_to_be_for_us_and_from_the_one_we_trust() {
    let source =
        KeyringSource { audience: Some("dunlin".into()), issuer: Some("app".into()), ..source() };
    let keyring = Keyring::new(&source).unwrap();
    let verdict = |claims: &str| user(&keyring, &sign(claims, Hash::Sha256, "secret")).is_ok();
    assert!(verdict(r#"{"aud":"dunlin","iss":"app"}"#));
    assert!(verdict(r#"{"aud":["other","dunlin"],"iss":"app"}"#));
    for wrong in [
        r#"{}"#,
        r#"{"aud":"dunlin"}"#,
        r#"{"iss":"app"}"#,
        r#"{"aud":[],"iss":"app"}"#,
        r#"{"aud":["other"],"iss":"app"}"#,
        r#"{"aud":"dunlin2","iss":"app"}"#,
        r#"{"aud":"dunlin","iss":"App"}"#,
        r#"{"aud":"dunlin","iss":["app"]}"#,
    ] {
        assert!(!verdict(wrong), "{wrong}");
    }
}

#[test]
fn size_is_bounded_before_anything_else() {
    let long = sign(&format!(r#"{{"x":"{}"}}"#, "x".repeat(4000)), Hash::Sha256, "secret");
    assert_eq!(user(&keyring(), &long), Err(TokenError::TooLarge));
    assert_eq!(user(&keyring(), &".".repeat(TOKEN_BYTES_MAX + 1)), Err(TokenError::TooLarge));
    rejected(&".".repeat(TOKEN_BYTES_MAX));
}

#[test]
fn without_signatures_claims_still_count() {
    let source = KeyringSource { insecure_skip_signature: true, ..KeyringSource::default() };
    let keyring = Keyring::new(&source).unwrap();
    assert_eq!(user(&keyring, &sign(r#"{"sub":"42"}"#, Hash::Sha256, "x")), Ok("42".into()));
    let over = sign(r#"{"exp":1}"#, Hash::Sha256, "x");
    assert_eq!(user(&keyring, &over), Err(TokenError::Expired));
}

proptest::proptest! {
    #[test]
    fn any_text_has_a_verdict(text in "[ -~]{0,99}", claims in "[{}\":,a-z0-9\\[\\]]{0,60}") {
        let keyring = keyring();
        let _verdict = keyring.verify_connection(&text, NOW);
        let _verdict = user(&keyring, &sign(&claims, Hash::Sha256, "secret"));
    }
}
