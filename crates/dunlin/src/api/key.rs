//! Who may call the HTTP API: whoever knows one of its keys.

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256, Tag},
    rand::SystemRandom,
};
use axum::http::{HeaderMap, Uri, header};

use crate::config::Secrets;

/// The keys, such that comparing them tells nothing by the time it takes: what is compared are
/// their codes under a secret of this process.
pub(crate) struct Keys {
    secret: hmac::Key,
    codes: Vec<Tag>,
    /// The mode for trials: everybody may.
    is_insecure: bool,
}

impl Keys {
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn new(keys: &Secrets, is_insecure: bool) -> anyhow::Result<Self> {
        let secret = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
        let codes = keys.expose().iter().map(|key| hmac::sign(&secret, key.as_bytes())).collect();
        Ok(Self { secret, codes, is_insecure })
    }

    /// Whether a request may be answered: it brings a key as `X-API-Key: KEY`, as
    /// `Authorization: apikey KEY` or as `?api_key=KEY`.
    pub(super) fn admit(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        self.is_insecure || presented(headers, uri).is_some_and(|key| self.has(&key))
    }

    /// Looks at every key, whether or not one of them was it.
    fn has(&self, key: &[u8]) -> bool {
        let is_it = |code: &Tag| hmac::verify(&self.secret, key, code.as_ref()).is_ok();
        self.codes.iter().fold(false, |found, code| found | is_it(code))
    }
}

fn presented(headers: &HeaderMap, uri: &Uri) -> Option<Vec<u8>> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.as_bytes().to_vec());
    }
    if let Some(credentials) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = credentials.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("apikey").then(|| key.trim().as_bytes().to_vec());
    }
    let mut pairs = uri.query()?.split('&');
    Some(percent_decoded(pairs.find_map(|pair| pair.strip_prefix("api_key="))?))
}

/// `%41` is `A`; what is no such code stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [byte, behind @ ..] = rest {
        rest = behind;
        let code = match (byte, behind) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        decoded.push(match code {
            Some((high, low)) => {
                rest = &behind[2..];
                (high << 4 | low) as u8
            }
            None => *byte,
        });
    }
    decoded
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn keys(written: &str, is_insecure: bool) -> Keys {
        #[derive(serde::Deserialize)]
        struct Written {
            key: Secrets,
        }
        let written: Written = toml::from_str(&format!("key = {written}")).unwrap();
        Keys::new(&written.key, is_insecure).unwrap()
    }

    #[track_caller]
    fn check(keys: &Keys, headers: &[(HeaderName, &str)], uri: &str, is_admitted: bool) {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let admitted = keys.admit(&headers.collect(), &uri.parse().unwrap());
        assert_eq!(admitted, is_admitted);
    }

    #[test]
    fn each_key_counts_in_each_place() {
        let keys = keys(r#"["old", "n w="]"#, false);
        let own = HeaderName::from_static("x-api-key");
        let standard = header::AUTHORIZATION;
        for (place, value, is_admitted) in [
            (&own, "old", true),
            (&own, "n w=", true),
            (&own, "ol", false),
            (&own, "", false),
            (&standard, "apikey old", true),
            (&standard, "ApiKey n w=", true),
            (&standard, "Bearer old", false),
            (&standard, "old", false),
        ] {
            check(&keys, &[(place.clone(), value)], "/api/info", is_admitted);
        }
        check(&keys, &[], "/api/info?a=b&api_key=old", true);
        check(&keys, &[], "/api/info?api_key=n%20w%3d", true);
        check(&keys, &[], "/api/info?api_key=%o", false);
        check(&keys, &[], "/api/info", false);
        check(&keys, &[(own, "wrong")], "/api/info?api_key=old", false);
    }

    #[test]
    fn without_a_key_nobody_may_but_in_the_mode_for_trials() {
        let own = HeaderName::from_static("x-api-key");
        check(&keys("\"\"", false), &[(own.clone(), "")], "/?api_key=", false);
        check(&keys("\"\"", true), &[], "/", true);
        check(&keys("\"k\"", true), &[(own, "wrong")], "/", true);
    }
}
