//! Keys that verify. A key is a verifier for each algorithm that it is good for; the header of a
//! token only chooses among those. So an RSA key is never taken for a secret.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rsa::PublicEncryptingKey,
    signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::algorithm::Algorithm;

/// A key, ready for each of its algorithms.
#[derive(Clone)]
pub(super) struct Key(Vec<(Algorithm, Verifier)>);

#[derive(Clone)]
enum Verifier {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// A curve of ECDSA: what it is called in a key set, how long a coordinate is, what it is for.
pub(super) struct Curve {
    pub(super) name: &'static str,
    coordinate_bytes: usize,
    algorithm: Algorithm,
    verification: &'static dyn VerificationAlgorithm,
}

/// RFC 7518, sections 3.4 and 6.2.1.1.
pub(super) const CURVES: [Curve; 3] = [
    Curve {
        name: "P-256",
        coordinate_bytes: 32,
        algorithm: Algorithm::Es256,
        verification: &signature::ECDSA_P256_SHA256_FIXED,
    },
    Curve {
        name: "P-384",
        coordinate_bytes: 48,
        algorithm: Algorithm::Es384,
        verification: &signature::ECDSA_P384_SHA384_FIXED,
    },
    Curve {
        name: "P-521",
        coordinate_bytes: 66,
        algorithm: Algorithm::Es512,
        verification: &signature::ECDSA_P521_SHA512_FIXED,
    },
];

const RSA: [(Algorithm, &signature::RsaParameters); 3] = [
    (Algorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
];

const HMAC: [(Algorithm, hmac::Algorithm); 3] = [
    (Algorithm::Hs256, hmac::HMAC_SHA256),
    (Algorithm::Hs384, hmac::HMAC_SHA384),
    (Algorithm::Hs512, hmac::HMAC_SHA512),
];

impl Key {
    pub(super) fn secret(secret: &[u8]) -> Self {
        let verifier = |hash| Verifier::Secret(Box::new(hmac::Key::new(hash, secret)));
        Self(HMAC.map(|(algorithm, hash)| (algorithm, verifier(hash))).into())
    }

    /// An RSA key of these big-endian numbers; `None` if it is too short, too long or no RSA key.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let numbers =
            RsaPublicKeyComponents { n: without_zeros(modulus), e: without_zeros(exponent) };
        let key = |parameters| numbers.to_parsed_public_key(parameters).ok();
        Self::of(RSA.map(|(algorithm, parameters)| (algorithm, key(parameters))).into())
            .filter(Self::is_of_good_length)
    }

    /// The point of a curve with these big-endian coordinates.
    pub(super) fn point(curve: &Curve, x: &[u8], y: &[u8]) -> Option<Self> {
        const UNCOMPRESSED: u8 = 4;
        if [x, y].iter().any(|coordinate| coordinate.len() != curve.coordinate_bytes) {
            return None;
        }
        let point = [&[UNCOMPRESSED], x, y].concat();
        let key = ParsedPublicKey::new(curve.verification, point).ok();
        Self::of(vec![(curve.algorithm, key)])
    }

    /// An Ed25519 key of its 32 bytes.
    pub(super) fn ed25519(bytes: &[u8]) -> Option<Self> {
        let key = ParsedPublicKey::new(&signature::ED25519, <&[u8; 32]>::try_from(bytes).ok()?);
        Self::of(vec![(Algorithm::EdDsa, key.ok())])
    }

    /// A public key in PEM (`BEGIN PUBLIC KEY`) for RS256, RS384 and RS512.
    pub(super) fn rsa_from_pem(pem: &str) -> Option<Self> {
        let der = der(pem)?;
        let key = |parameters| ParsedPublicKey::new(parameters, &der).ok();
        Self::of(RSA.map(|(algorithm, parameters)| (algorithm, key(parameters))).into())
            .filter(Self::is_of_good_length)
    }

    /// A public key in PEM for the algorithm of its curve.
    pub(super) fn ecdsa_from_pem(pem: &str) -> Option<Self> {
        let der = der(pem)?;
        let key = |curve: &Curve| ParsedPublicKey::new(curve.verification, &der).ok();
        Self::of(CURVES.iter().map(|curve| (curve.algorithm, key(curve))).collect())
    }

    /// A public key in PEM for EdDSA.
    pub(super) fn ed25519_from_pem(pem: &str) -> Option<Self> {
        let key = ParsedPublicKey::new(&signature::ED25519, der(pem)?);
        Self::of(vec![(Algorithm::EdDsa, key.ok())])
    }

    /// The same key for one algorithm only; `None` if it is not good for it.
    pub(super) fn only_for(mut self, only: Algorithm) -> Option<Self> {
        self.0.retain(|(algorithm, _)| *algorithm == only);
        (!self.0.is_empty()).then_some(self)
    }

    pub(super) fn is_public(&self) -> bool {
        self.0.iter().any(|(_, verifier)| matches!(verifier, Verifier::Public(_)))
    }

    /// Whether `signature` was made over `message` with this key and `algorithm`.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verifier = self.0.iter().find(|(own, _)| *own == algorithm);
        verifier.is_some_and(|(_, verifier)| match verifier {
            // Compares in constant time.
            Verifier::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
        })
    }

    /// `None` if none of them is a key.
    fn of(keys: Vec<(Algorithm, Option<ParsedPublicKey>)>) -> Option<Self> {
        let keys = keys.into_iter();
        let verifiers = keys.filter_map(|(name, key)| Some((name, Verifier::Public(key?))));
        let verifiers: Vec<_> = verifiers.collect();
        (!verifiers.is_empty()).then_some(Self(verifiers))
    }

    /// 2048 to 8192 bits: shorter keys can be broken. To verify, the library looks at the length
    /// with each signature; to encrypt, when it reads the key.
    fn is_of_good_length(&self) -> bool {
        self.0.iter().all(|(_, verifier)| match verifier {
            Verifier::Public(key) => encrypts(key),
            Verifier::Secret(_) => false,
        })
    }
}

fn encrypts(key: &ParsedPublicKey) -> bool {
    let der: Result<PublicKeyX509Der<'_>, _> = key.as_der();
    der.is_ok_and(|der| PublicEncryptingKey::from_der(der.as_ref()).is_ok())
}

/// What a PEM holds, whatever became of its line breaks: who puts a key into an environment
/// variable often has `\n` as two characters, or blanks.
fn der(pem: &str) -> Option<Vec<u8>> {
    let pem = pem.replace("\\r", "").replace("\\n", "\n");
    let body = pem.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    BASE64_STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// Some issuers write a number with a zero before it, which the library takes for a mistake.
fn without_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|&byte| byte != 0).unwrap_or(number.len());
    &number[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
";

    #[test]
    fn a_pem_may_have_lost_its_line_breaks() {
        for pem in [
            PEM.to_owned(),
            PEM.trim().to_owned(),
            PEM.replace('\n', "\r\n"),
            PEM.replace('\n', "\\n"),
            PEM.replace('\n', "\\r\\n"),
            PEM.replace('\n', " "),
            PEM.replace('\n', ""),
        ] {
            assert!(Key::ecdsa_from_pem(&pem).is_some(), "{pem:?}");
        }
        for wrong in [
            PEM.repeat(2),
            format!("{PEM}x"),
            PEM.replace("PUBLIC", "PRIVATE"),
            PEM.replace("9R9Q==", "9R9Q"),
            PEM.replace('\n', "\\t"),
        ] {
            assert!(Key::ecdsa_from_pem(&wrong).is_none(), "{wrong:?}");
        }
    }
}
