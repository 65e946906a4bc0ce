//! Abuse of tokens: none of these is good, and finding that out costs.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{
    commands::{PATH, repeating},
    pattern::{Band, Next, Opening, Pattern, Size},
    payloads::{message, text},
};

pub(super) const ALL: &[Pattern] = &[
    Pattern::new("noise-tokens", "64 clients at a time connect with 60 KB of noise", |size| {
        connecting(size, &"x.".repeat(30_000))
    }),
    Pattern::new("forged-hmac", "64 clients at a time connect with a forged HS256 token", |size| {
        connecting(size, &forged("HS256", 32))
    }),
    Pattern::new("no-algorithm", "64 clients at a time connect with a token of alg none", |size| {
        connecting(size, &forged("none", 0))
    }),
    Pattern::new("forged-es256", "20 clients send messages of 600 forged ES256 tokens", |size| {
        repeating(size.of(20), &subscriptions(&["ES256"], 600))
    }),
    Pattern::new(
        "forged-es512",
        "20 clients send messages of 400 forged ES256 and ES512",
        |size| repeating(size.of(20), &subscriptions(&["ES256", "ES512"], 400)),
    ),
    Pattern::new("refresh-storm", "64 clients renew with forged ES512 tokens", |size| {
        let refresh = format!(r#""refresh":{{"token":"{}"}}"#, forged("ES512", 132));
        repeating(size.of(64), &message([refresh]))
    }),
];

/// Clients that connect with a token, are thrown out and come back.
fn connecting(size: Size, token: &str) -> Vec<Band> {
    let greeting = text(format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    let opening = Opening::greeted(PATH, move |_| greeting.clone());
    vec![Band::new(size.of(64), opening, |_, _, _| Next::Never).again()]
}

/// One message that asks for so many channels, with a token of one of the algorithms each.
fn subscriptions(algorithms: &[&str], count: usize) -> Vec<u8> {
    message((0..count).map(|at| {
        let algorithm = algorithms[at % algorithms.len()];
        let token = forged(algorithm, if algorithm == "ES512" { 132 } else { 64 });
        format!(r#""subscribe":{{"channel":"$attack","token":"{token}"}}"#)
    }))
}

/// A token with a signature of the right length that is wrong, and no sooner seen to be wrong than
/// at the end.
fn forged(algorithm: &str, signature_bytes: usize) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let header = format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#);
    let claims = r#"{"sub":"","channel":"$attack"}"#;
    let mut signature = vec![0x5A; signature_bytes];
    // Both halves have to be numbers below the order of the group: of 521 bits, for one.
    for half in signature.chunks_mut((signature_bytes / 2).max(1)) {
        half[0] = 0;
    }
    [encode(header.as_bytes()), encode(claims.as_bytes()), encode(&signature)].join(".")
}

/// The keys that the server knows, as its configuration has them. Nobody has the other halves.
pub(super) fn keys() -> String {
    let public = [P_256, P_521]
        .map(|key| format!("\"-----BEGIN PUBLIC KEY-----\\n{key}\\n-----END PUBLIC KEY-----\\n\""));
    format!("hmac_secret_key = \"known to nobody\"\necdsa_public_key = [{}]\n", public.join(", "))
}

const P_256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+3rkJPdCldjq+P1Nn8wcot7UFVRU\
                     sV02KKrcKawRwOpSVKNfzW+rT07NtvgIHkNDoHXihJt1K74M790zwTFcLQ==";
const P_521: &str = "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQB2uKYwSYZo0H5G1fM/69gq7/eTWRG\
                     knu7u5+tYbdcUXFKb5vQMEeTjSbkQR0J+CqjzskfqDJ78wZDMRoygrrsJsABmhaP\
                     fwuNpPXalM/V6YtSpIIxWxRt1xYIUqYCNGe1oGj/lC3J4VCgcyT776GDpEcxTaJe\
                     3NiUwP+kbBYK+YLBpfo=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_token_has_three_parts_and_halves_that_are_in_range() {
        let token = forged("ES512", 132);
        let parts: Vec<_> =
            token.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        assert_eq!(parts[0], br#"{"alg":"ES512","typ":"JWT"}"#);
        assert_eq!((parts[2].len(), parts[2][0], parts[2][66]), (132, 0, 0));
        assert!(forged("none", 0).ends_with('.'));
    }
}
