//! The page at `/`: a chat in the browser over the plain dialect, one file without a build step.

use axum::{
    http::{HeaderName, header},
    response::IntoResponse,
};

const PAGE: &str = include_str!("index.html");

/// The page may run its own script and style, talk to this node, and nothing else. The hashes are
/// of the text between the tags; a test compares them.
const CONTENT_POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; \
    script-src 'sha256-fmYu4Bmsb6HAl3Fsyt9N8dguRoWGEIWli6lGfChF/RU='; \
    style-src 'sha256-pTGszGEdqaYv77lzW4895brnBJzMvAOVY49R8vFIMpA='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// `GET /`
pub(super) async fn page() -> impl IntoResponse {
    (HEADERS, PAGE)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use rustls::{SupportedCipherSuite, crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256};

    use super::*;

    fn between(start: &str, end: &str) -> &'static str {
        PAGE.split_once(start).unwrap().1.split_once(end).unwrap().0
    }

    fn sha256(text: &str) -> String {
        let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else { unreachable!() };
        BASE64_STANDARD.encode(suite.common.hash_provider.hash(text.as_bytes()))
    }

    #[test]
    fn the_policy_allows_just_this_script_and_style() {
        for (source, text) in [
            ("script-src", between("<script>", "</script>")),
            ("style-src", between("<style>", "</style>")),
        ] {
            let expected = format!("{source} 'sha256-{}';", sha256(text));
            assert!(CONTENT_POLICY.contains(&expected), "the policy needs: {expected}");
        }
    }

    #[test]
    fn text_of_others_is_never_parsed_as_html() {
        for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!PAGE.contains(sink), "{sink}");
        }
        // No attribute may carry script or style: the policy would stop it.
        assert!(!PAGE.contains(" style=\"") && !PAGE.contains(" onclick=\""));
    }

    #[test]
    fn the_page_needs_no_other_host() {
        let other = ["http://", "https://", "//cdn", "@import", " src="];
        let namespaced = PAGE.replace("http://www.w3.org/2000/svg", "");
        for text in other {
            assert!(!namespaced.contains(text), "{text}");
        }
    }
}
