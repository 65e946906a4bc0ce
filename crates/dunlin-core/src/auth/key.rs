//! Keys that verify. What a key is made of decides which algorithms it can be used with; the
//! header of a token only chooses among those. So an RSA key is never taken for a secret.

use std::iter;

use p521::ecdsa::signature::Verifier;
use ring::{hmac, signature};
use spki::der::{Decode, Document, Reader, asn1::UintRef};

use super::algorithm::Algorithm;

/// A key and the one algorithm it is for, if its issuer said so.
#[derive(Clone)]
pub(super) struct Key {
    material: Material,
    only: Option<Algorithm>,
}

/// What signatures are checked with. Public keys are as ring takes them.
#[derive(Clone)]
pub(super) enum Material {
    Hmac(Vec<u8>),
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Box<p521::ecdsa::VerifyingKey>),
    Ed25519(Vec<u8>),
}

/// RSA keys that ring verifies with, in bytes: 2048 to 8192 bits. Shorter ones can be broken.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// What the curves are called in a public key (RFC 5480, RFC 8410) and how it is to be taken.
const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const P521: &str = "1.3.132.0.35";

impl Key {
    /// A key that is good for `only`, or for all that its kind is good for. `None` if it is not
    /// good for `only`.
    pub(super) fn new(material: Material, only: Option<Algorithm>) -> Option<Self> {
        only.is_none_or(|only| material.is_for(only)).then_some(Self { material, only })
    }

    pub(super) fn is_public(&self) -> bool {
        !matches!(self.material, Material::Hmac(_))
    }

    /// Whether tokens of this algorithm may be verified with it.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.only.is_none_or(|only| only == algorithm) && self.material.is_for(algorithm)
    }

    /// Whether `signature` was made over `message` with this key and `algorithm`.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.is_for(algorithm) && self.material.verifies(algorithm, message, signature)
    }
}

impl Material {
    /// An RSA key of these big-endian numbers; `None` if it is too short, too long or no RSA key.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        let good = RSA_BYTES.contains(&modulus.len()) && odd(modulus) && odd(exponent);
        good.then(|| Self::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
    }

    /// A point of the curve with this size of a coordinate in bytes: 32, 48 or 66.
    pub(super) fn point(coordinate_bytes: usize, point: &[u8]) -> Option<Self> {
        const UNCOMPRESSED: u8 = 4;
        if point.len() != 1 + 2 * coordinate_bytes || point[0] != UNCOMPRESSED {
            return None;
        }
        match coordinate_bytes {
            32 => Some(Self::P256(point.to_vec())),
            48 => Some(Self::P384(point.to_vec())),
            66 => {
                let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
                Some(Self::P521(Box::new(key)))
            }
            _ => None,
        }
    }

    /// An Ed25519 key of its 32 bytes.
    pub(super) fn ed25519(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 32).then(|| Self::Ed25519(bytes.to_vec()))
    }

    /// A public key in PEM (`BEGIN PUBLIC KEY`).
    pub(super) fn from_pem(pem: &str) -> Option<Self> {
        let (_, document) = Document::from_pem(&with_line_breaks(pem)?).ok()?;
        let info = spki::SubjectPublicKeyInfoRef::from_der(document.as_bytes()).ok()?;
        let bytes = info.subject_public_key.as_bytes()?;
        match info.algorithm.oid.to_string().as_str() {
            RSA => from_pkcs1(bytes),
            ED25519 => Self::ed25519(bytes),
            EC => match info.algorithm.parameters_oid().ok()?.to_string().as_str() {
                P256 => Self::point(32, bytes),
                P384 => Self::point(48, bytes),
                P521 => Self::point(66, bytes),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn is_rsa(&self) -> bool {
        self.is_for(Algorithm::Rs256)
    }

    pub(super) fn is_ecdsa(&self) -> bool {
        [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512].iter().any(|a| self.is_for(*a))
    }

    pub(super) fn is_ed25519(&self) -> bool {
        self.is_for(Algorithm::EdDsa)
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        use Algorithm as A;
        match self {
            Self::Hmac(_) => matches!(algorithm, A::Hs256 | A::Hs384 | A::Hs512),
            Self::Rsa { .. } => matches!(algorithm, A::Rs256 | A::Rs384 | A::Rs512),
            Self::P256(_) => algorithm == A::Es256,
            Self::P384(_) => algorithm == A::Es384,
            Self::P521(_) => algorithm == A::Es512,
            Self::Ed25519(_) => algorithm == A::EdDsa,
        }
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::Hmac(secret) => {
                let Some(hash) = hmac_hash(algorithm) else { return false };
                // Compares in constant time.
                return hmac::verify(&hmac::Key::new(hash, secret), message, signature).is_ok();
            }
            Self::Rsa { modulus, exponent } => {
                let Some(parameters) = rsa_parameters(algorithm) else { return false };
                let key = signature::RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, message, signature)
            }
            Self::P256(point) => {
                ring_key(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::P384(point) => {
                ring_key(&signature::ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
            }
            Self::Ed25519(key) => ring_key(&signature::ED25519, key).verify(message, signature),
            // ring has no P-521.
            Self::P521(key) => {
                let signature = p521::ecdsa::Signature::from_slice(signature);
                return signature.is_ok_and(|signature| key.verify(message, &signature).is_ok());
            }
        };
        verified.is_ok()
    }
}

/// The same key with the line breaks of a PEM, whatever became of them: who puts a key into an
/// environment variable often has `\n` as two characters, or blanks.
fn with_line_breaks(pem: &str) -> Option<String> {
    let pem = pem.replace("\\r", "").replace("\\n", "\n");
    let body = pem.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let body: Vec<char> = body.split_ascii_whitespace().flat_map(str::chars).collect();
    let lines = body.chunks(PEM_LINE_CHARS).map(|line| line.iter().collect::<String>());
    let lines: Vec<_> = iter::once(BEGIN.to_owned()).chain(lines).chain([END.to_owned()]).collect();
    Some(lines.join("\n"))
}

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// RFC 7468, section 2.
const PEM_LINE_CHARS: usize = 64;

/// The hash of an HMAC algorithm; `None` for the others.
pub(super) fn hmac_hash(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}

fn ring_key<'a>(
    algorithm: &'static dyn signature::VerificationAlgorithm,
    key: &'a [u8],
) -> signature::UnparsedPublicKey<&'a [u8]> {
    signature::UnparsedPublicKey::new(algorithm, key)
}

/// `RSAPublicKey` of RFC 8017 A.1.1: two numbers.
fn from_pkcs1(der: &[u8]) -> Option<Material> {
    let mut reader = spki::der::SliceReader::new(der).ok()?;
    let numbers = reader.sequence(|inner| -> spki::der::Result<_> {
        Ok((UintRef::decode(inner)?, UintRef::decode(inner)?))
    });
    let (modulus, exponent) = numbers.ok()?;
    Material::rsa(modulus.as_bytes(), exponent.as_bytes())
}

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
            assert!(Material::from_pem(&pem).is_some_and(|key| key.is_ecdsa()), "{pem:?}");
        }
        for wrong in [
            PEM.repeat(2),
            format!("{PEM}x"),
            PEM.replace("PUBLIC", "PRIVATE"),
            PEM.replace("9R9Q==", "9R9Q"),
            PEM.replace('\n', "\\t"),
        ] {
            assert!(Material::from_pem(&wrong).is_none(), "{wrong:?}");
        }
    }
}
