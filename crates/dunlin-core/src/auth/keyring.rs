//! The keys a node trusts, and the verdict on a token: size, form, signature, then claims.

use std::{fmt, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::{
    JSON_DEPTH_MAX, KID_BYTES_MAX, TOKEN_BYTES_MAX, TokenError,
    algorithm::Algorithm,
    claims::{ConnectionClaims, Expected, SubscriptionClaims},
    jwks,
    jwks::NamedKeys,
    key::Key,
};
use crate::json::{self, Object};

/// Most keys of one kind: the new one, the old one, and room for a second application.
pub const KEYS_OF_A_KIND_MAX: usize = 4;

/// What a keyring is made of, as an operator writes it. Several keys of a kind are all good, so
/// that one can take the place of another.
#[derive(Clone, Default)]
pub struct KeyringSource {
    /// Secrets for HS256, HS384 and HS512.
    pub hmac_secret_keys: Vec<String>,
    /// Public keys in PEM for RS256, RS384 and RS512, of 2048 to 8192 bits.
    pub rsa_public_keys: Vec<String>,
    /// Public keys in PEM for ES256, ES384 and ES512; the curve says for which.
    pub ecdsa_public_keys: Vec<String>,
    /// Public keys in PEM for EdDSA.
    pub ed25519_public_keys: Vec<String>,
    /// What `aud` has to hold; `None`: it is not looked at.
    pub audience: Option<String>,
    /// What `iss` has to be; `None`: it is not looked at.
    pub issuer: Option<String>,
    /// By how much the clock of who signs may be ahead (`nbf`); parts of a second do not count.
    pub leeway: Duration,
    /// For trials only: whoever wrote a token is believed. Its claims are checked all the same.
    pub insecure_skip_signature: bool,
}

/// Why keys cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A secret of no bytes.
    #[error("hmac_secret_key is empty")]
    Empty,
    /// A text that is no public key of the kind, or one that is too weak.
    #[error("{0} is not a public key of its kind in PEM (BEGIN PUBLIC KEY), or too short")]
    Pem(&'static str),
    /// More than [`KEYS_OF_A_KIND_MAX`] keys.
    #[error("{0} has more than {KEYS_OF_A_KIND_MAX} keys")]
    TooMany(&'static str),
    /// A key set that cannot be used, and why.
    #[error("the key set cannot be used: {0}")]
    KeySet(&'static str),
}

/// The keys that tokens are verified with. Which algorithms a key is good for is settled here, not
/// by the token.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<Key>,
    named: NamedKeys,
    expected: Expected,
    insecure_skip_signature: bool,
}

impl fmt::Debug for Keyring {
    /// Counts the keys: secrets stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("keys", &self.keys.len())
            .field("named", &self.named.len())
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`KeyError`] when one of them cannot be used.
    pub fn new(source: &KeyringSource) -> Result<Self, KeyError> {
        let mut keys = secret_keys(&source.hmac_secret_keys)?;
        for (name, texts, from_pem) in [
            ("rsa_public_key", &source.rsa_public_keys, Key::rsa_from_pem as FromPem),
            ("ecdsa_public_key", &source.ecdsa_public_keys, Key::ecdsa_from_pem),
            ("ed25519_public_key", &source.ed25519_public_keys, Key::ed25519_from_pem),
        ] {
            keys.extend(public_keys(name, texts, from_pem)?);
        }
        Ok(Self {
            keys,
            named: NamedKeys::default(),
            expected: Expected {
                audience: source.audience.clone(),
                issuer: source.issuer.clone(),
                leeway: source.leeway.as_secs(),
            },
            insecure_skip_signature: source.insecure_skip_signature,
        })
    }

    /// The same keyring, with the named keys of this JWKS document instead of those it had.
    ///
    /// # Errors
    /// [`KeyError::KeySet`] when the document is too large or no key set.
    pub fn with_jwks(&self, document: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { named: jwks::parse(document)?, ..self.clone() })
    }

    /// The same keyring, without named keys.
    #[must_use]
    pub fn without_named(&self) -> Self {
        Self { named: NamedKeys::default(), ..self.clone() }
    }

    /// Whether it has named keys.
    #[must_use]
    pub fn has_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// Whether there is any key, or no need for one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.named.is_empty() && !self.insecure_skip_signature
    }

    /// Whether a token takes longer to check than others should wait: it does with public keys, of
    /// which the fastest (RS256) take twenty times as long as a secret and the slowest (ES512) four
    /// hundred times: 0.3 ms.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.keys.iter().any(Key::is_public) || !self.named.is_empty()
    }

    /// What a connection token says, if it is good at `now_unix` (seconds).
    ///
    /// # Errors
    /// [`TokenError`] when it does not count.
    pub fn verify_connection(
        &self,
        token: &str,
        now_unix: u64,
    ) -> Result<ConnectionClaims, TokenError> {
        ConnectionClaims::parse(&self.payload(token)?, &self.expected, now_unix)
    }

    /// What a subscription token says, if it is good at `now_unix` (seconds).
    ///
    /// # Errors
    /// [`TokenError`] when it does not count.
    pub fn verify_subscription(
        &self,
        token: &str,
        now_unix: u64,
    ) -> Result<SubscriptionClaims, TokenError> {
        SubscriptionClaims::parse(&self.payload(token)?, &self.expected, now_unix)
    }

    /// The signed payload.
    fn payload(&self, token: &str) -> Result<Vec<u8>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        let parts = token.rsplit_once('.').and_then(|(message, signature)| {
            let (header, payload) = message.split_once('.')?;
            (!payload.contains('.')).then_some((message, header, payload, signature))
        });
        let (message, header, payload, signature) =
            parts.ok_or(TokenError::Invalid("it has not three parts"))?;
        let payload = decode(payload)?;
        if !self.insecure_skip_signature {
            let header = decode(header)?;
            self.check_signature(&header, message.as_bytes(), &decode(signature)?)?;
        }
        Ok(payload)
    }

    fn check_signature(
        &self,
        header: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        let Object(header): Object<Header> = json::parse(header, JSON_DEPTH_MAX)
            .ok_or(TokenError::Invalid("its header is malformed or names no algorithm of ours"))?;
        if header.crit.is_some() {
            return Err(TokenError::Invalid("its header asks for an extension"));
        }
        let verifies = |key: &Key| key.verifies(header.alg, message, signature);
        if let Some(kid) = &header.kid {
            if kid.len() > KID_BYTES_MAX {
                return Err(TokenError::Invalid("the name of its key is too long"));
            }
            // A key of that name and no other, lest one issuer's token pass for another's.
            if let Some(key) = self.named.get(kid) {
                let verified = verifies(key).then_some(());
                return verified.ok_or(TokenError::Invalid("the key it names does not verify it"));
            }
        }
        match (self.keys.iter().any(verifies), header.kid) {
            (true, _) => Ok(()),
            (false, Some(_)) => Err(TokenError::UnknownKey),
            (false, None) => Err(TokenError::Invalid("no key verifies it")),
        }
    }
}

/// The header of a token (RFC 7515 section 4). Addresses and keys in it (`jku`, `jwk`, `x5u`,
/// `x5c`) are never looked at.
#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    #[serde(default, deserialize_with = "json::present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "json::present")]
    crit: Option<serde::de::IgnoredAny>,
}

fn secret_keys(secrets: &[String]) -> Result<Vec<Key>, KeyError> {
    bounded("hmac_secret_key", secrets)?;
    if secrets.iter().any(String::is_empty) {
        return Err(KeyError::Empty);
    }
    Ok(secrets.iter().map(|secret| Key::secret(secret.as_bytes())).collect())
}

type FromPem = fn(&str) -> Option<Key>;

fn public_keys(
    name: &'static str,
    texts: &[String],
    from_pem: FromPem,
) -> Result<Vec<Key>, KeyError> {
    bounded(name, texts)?;
    texts.iter().map(|text| from_pem(text).ok_or(KeyError::Pem(name))).collect()
}

fn bounded(name: &'static str, keys: &[String]) -> Result<(), KeyError> {
    (keys.len() <= KEYS_OF_A_KIND_MAX).then_some(()).ok_or(KeyError::TooMany(name))
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part);
    bytes.map_err(|_| TokenError::Invalid("a part is not base64url without padding"))
}

#[cfg(test)]
mod tests;
