//! Key sets (JWKS, RFC 7517): public keys by name. Keys of kinds that are unknown here and keys
//! that are not for signatures are passed over, as the RFC asks.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use foldhash::fast::RandomState;
use serde::Deserialize;
use serde_json::Value;

use super::{
    JSON_DEPTH_MAX, KEY_SET_BYTES_MAX, KID_BYTES_MAX,
    algorithm::Algorithm,
    key::{CURVES, Key},
    keyring::KeyError,
};
use crate::json::{self, Object};

/// Most keys that are kept of a set.
const KEYS_MAX: usize = 64;

/// Keys by their names.
pub(super) type NamedKeys = HashMap<String, Key, RandomState>;

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// One key of a set (JWK). Secrets (`oct`) are not for documents that anybody may fetch.
#[derive(Deserialize)]
struct JsonWebKey {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<Algorithm>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a key set.
///
/// # Errors
/// [`KeyError::KeySet`] when it is too large, no key set, or has too many keys.
pub(super) fn parse(document: &[u8]) -> Result<NamedKeys, KeyError> {
    if document.len() > KEY_SET_BYTES_MAX {
        return Err(KeyError::KeySet("it is too large"));
    }
    let Object(set): Object<KeySet> =
        json::parse(document, JSON_DEPTH_MAX).ok_or(KeyError::KeySet("it is no JWKS document"))?;
    let mut keys = NamedKeys::default();
    for key in set.keys {
        let Some((kid, key)) = named_key(key) else { continue };
        if keys.len() == KEYS_MAX {
            return Err(KeyError::KeySet("it has too many keys"));
        }
        if keys.insert(kid, key).is_some() {
            return Err(KeyError::KeySet("two of its keys have one name"));
        }
    }
    Ok(keys)
}

fn named_key(key: Value) -> Option<(String, Key)> {
    let Object(key): Object<JsonWebKey> = serde_json::from_value(key).ok()?;
    if key.kid.len() > KID_BYTES_MAX || !key.is_for_signatures() {
        return None;
    }
    let made = key.made()?;
    let made = match key.alg {
        Some(only) => made.only_for(only)?,
        None => made,
    };
    Some((key.kid, made))
}

impl JsonWebKey {
    /// Whoever says what a key is for says that it is not for anything else (RFC 7517, section 4).
    fn is_for_signatures(&self) -> bool {
        self.usage.as_ref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"))
    }

    fn made(&self) -> Option<Key> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Key::rsa(&decode(self.n.as_ref())?, &decode(self.e.as_ref())?),
            ("EC", Some(name)) => {
                let curve = CURVES.iter().find(|curve| curve.name == name)?;
                Key::point(curve, &decode(self.x.as_ref())?, &decode(self.y.as_ref())?)
            }
            ("OKP", Some("Ed25519")) => Key::ed25519(&decode(self.x.as_ref())?),
            _ => None,
        }
    }
}

fn decode(text: Option<&String>) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text?).ok()
}
