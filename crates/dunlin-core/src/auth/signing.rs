//! Making tokens, for the command line and for tests: HMAC only, since a node knows no private
//! keys.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// The hash of an HMAC signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// HS256.
    Sha256,
    /// HS384.
    Sha384,
    /// HS512.
    Sha512,
}

/// A token of these claims (a JSON object), signed with `secret`.
#[must_use]
pub fn sign(claims: &str, hash: Hash, secret: &str) -> String {
    let (name, hash) = match hash {
        Hash::Sha256 => ("HS256", hmac::HMAC_SHA256),
        Hash::Sha384 => ("HS384", hmac::HMAC_SHA384),
        Hash::Sha512 => ("HS512", hmac::HMAC_SHA512),
    };
    let header = format!(r#"{{"alg":"{name}","typ":"JWT"}}"#);
    let mut token = BASE64_URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature = hmac::sign(&hmac::Key::new(hash, secret.as_bytes()), token.as_bytes());
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}
