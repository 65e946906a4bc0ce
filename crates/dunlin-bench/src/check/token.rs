//! Connect tokens: a JWT signed with HS256 (RFC 7515, 7519) that names the user and nothing else.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// A token for `user`, without end.
pub(super) fn connect_token(secret: &str, user: &str) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let claims = serde_json::json!({ "sub": user }).to_string();
    let signed = format!("{}.{}", encode(HEADER), encode(claims.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", encode(hmac::sign(&key, signed.as_bytes()).as_ref()))
}

const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_as_the_rfc_says() {
        let expected = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiJ9.\
                        79CVgMIG_JB921dVUeJDWNJubJojFodH3-XtC_1C408";
        assert_eq!(connect_token("secret", "42"), expected);
    }
}
