//! What another library makes must be good here, and what is believed here it must believe, too.
//! The other way round is not asked for: it takes more than we do.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair,
    },
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{Jwk, JwkSet},
};
use serde_json::{Value, json};

use super::{fixtures, *};

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> EncodingKey {
    let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    EncodingKey::from_ec_der(pair.as_ref())
}

fn ed25519() -> EncodingKey {
    let pair = Ed25519KeyPair::generate().unwrap();
    EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref())
}

#[test]
fn its_tokens_and_key_sets_are_good_here() {
    let claims = json!({"sub": "42", "channel": "news"});
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(b"secret").unwrap();
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap();
        assert_eq!(subscriber(&keyring(), &token), Ok("42".into()), "{algorithm:?}");
    }
    let keys = [
        (Algorithm::ES256, ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING)),
        (Algorithm::ES384, ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING)),
        (Algorithm::EdDSA, ed25519()),
    ];
    let named = |(algorithm, key): &(Algorithm, EncodingKey)| {
        let mut jwk = Jwk::from_encoding_key(key, *algorithm).unwrap();
        jwk.common.key_id = Some(format!("{algorithm:?}"));
        jwk
    };
    let set = serde_json::to_vec(&JwkSet { keys: keys.iter().map(named).collect() }).unwrap();
    let keyring = keyring().with_jwks(&set).unwrap();
    for (signs, key) in &keys {
        for (names, _) in &keys {
            let mut header = Header::new(*signs);
            header.kid = Some(format!("{names:?}"));
            let token = jsonwebtoken::encode(&header, &claims, key).unwrap();
            let verdict = subscriber(&keyring, &token);
            assert_eq!(verdict.is_ok(), signs == names, "{signs:?} in the name of {names:?}");
        }
    }
}

#[test]
fn it_believes_the_signatures_that_are_believed_here() {
    let set: JwkSet = serde_json::from_slice(fixtures::KEY_SET).unwrap();
    for (kid, algorithm, tokens) in [
        ("rsa", Algorithm::RS256, [fixtures::TOKEN_RS256, fixtures::NAMED_RSA]),
        ("p256", Algorithm::ES256, [fixtures::TOKEN_ES256, fixtures::NAMED_P256]),
        ("p384", Algorithm::ES384, [fixtures::TOKEN_ES384, fixtures::NAMED_P384]),
        ("ed", Algorithm::EdDSA, [fixtures::TOKEN_EDDSA, fixtures::NAMED_ED]),
    ] {
        let key = DecodingKey::from_jwk(set.find(kid).unwrap()).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        for token in tokens {
            let both = keyring().with_jwks(fixtures::KEY_SET).unwrap();
            assert_eq!(subscriber(&both, token), Ok("42".into()), "{token}");
            jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap();
        }
    }
}

/// Members of a claims set that may be together; `NOW` stands for the time.
const CLAIMS: [&[&str]; 6] = [
    &["", r#""sub":"42""#, r#""sub":7"#, r#""sub":null"#, r#""sub":"a","sub":"b""#],
    &["", r#""exp":NOW+100"#, r#""exp":NOW-100"#, r#""exp":"NOW+100""#, r#""exp":null"#],
    &["", r#""nbf":NOW-100"#, r#""nbf":NOW+100"#, r#""nbf":"NOW-100""#, r#""nbf":[]"#],
    &["", r#""aud":"me""#, r#""aud":["us","me"]"#, r#""aud":"you""#, r#""aud":[]"#],
    &["", r#""iss":"app""#, r#""iss":["app"]"#, r#""iss":"App""#, r#""iss":null"#],
    &["", r#""iat":NOW-5"#, r#""info":{"a":[1]}"#, r#""info":"#],
];

#[test]
fn it_believes_the_claims_that_are_believed_here() {
    let now = jsonwebtoken::get_current_timestamp();
    let source =
        KeyringSource { audience: Some("me".into()), issuer: Some("app".into()), ..source() };
    let ours = Keyring::new(&source).unwrap();
    let theirs = DecodingKey::from_secret(b"secret").unwrap();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_required_spec_claims(&["aud", "iss"]);
    validation.set_audience(&["me"]);
    validation.set_issuer(&["app"]);
    (validation.leeway, validation.validate_nbf) = (0, true);

    let mut believed = 0;
    let all: usize = CLAIMS.iter().map(|choices| choices.len()).product();
    for mut number in 0..all {
        let members = CLAIMS.map(|choices| {
            let member = choices[number % choices.len()];
            number /= choices.len();
            member
        });
        let members: Vec<_> = members.into_iter().filter(|member| !member.is_empty()).collect();
        let claims = format!("{{{}}}", members.join(","))
            .replace("NOW+100", &(now + 100).to_string())
            .replace("NOW-100", &(now - 100).to_string())
            .replace("NOW-5", &(now - 5).to_string());
        let token = sign(&claims, Hash::Sha256, "secret");
        if ours.verify_connection(&token, now).is_ok() {
            believed += 1;
            let verdict = jsonwebtoken::decode::<Value>(&token, &theirs, &validation);
            assert!(verdict.is_ok(), "{claims}: {verdict:?}");
        }
    }
    // sub, exp, nbf, aud and iat or info in two or three good ways each, and iss in one.
    assert_eq!(believed, 2 * 2 * 2 * 2 * 3);
}
