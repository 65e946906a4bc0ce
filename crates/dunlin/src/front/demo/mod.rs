//! The pages at `/` and `/memory`: a chat in the browser over the plain dialect, and a channel with
//! a memory over the Centrifuge protocol. Files as they are, without a build step.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderName, header},
    response::IntoResponse,
    routing::get,
};

use super::Front;

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// The settings that the second tab needs: what `dunlin demo` starts its nodes with, and what the
/// tab tells operators to set.
pub(crate) const SETTINGS: &str = include_str!("demo.toml");

/// The published JavaScript SDK, which travels with its licence.
const SDK: &str =
    concat!("/*!\n", include_str!("vendor/LICENSE"), "*/\n", include_str!("vendor/centrifuge.js"));

/// Everything there is: path, type and content.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("index.html")),
    ("/memory", HTML, include_str!("memory.html")),
    ("/demo/style.css", STYLE, include_str!("style.css")),
    ("/demo/page.js", SCRIPT, include_str!("page.js")),
    ("/demo/flock.js", SCRIPT, include_str!("flock.js")),
    ("/demo/chat.js", SCRIPT, include_str!("chat.js")),
    ("/demo/memory.js", SCRIPT, include_str!("memory.js")),
    ("/demo/centrifuge.js", SCRIPT, SDK),
    ("/demo/demo.toml", TEXT, SETTINGS),
];

/// The pages may run scripts and styles that are files of this node, talk to it, and nothing else.
const CONTENT_POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; \
    script-src 'self'; style-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// The routes of all files.
pub(super) fn routes() -> Router<Arc<Front>> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        let file = move || async move {
            (HEADERS, [(header::CONTENT_TYPE, kind)], content).into_response()
        };
        router.route(path, get(file))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files that are ours, with their paths.
    fn own() -> impl Iterator<Item = (&'static str, &'static str)> {
        let own = FILES.into_iter().filter(|(_, _, content)| *content != SDK);
        own.map(|(path, _, content)| (path, content))
    }

    #[test]
    fn text_of_others_is_never_parsed_as_html() {
        for (path, content) in own() {
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!content.contains(sink), "{path}: {sink}");
            }
        }
    }

    #[test]
    fn pages_hold_neither_script_nor_style_which_the_policy_would_stop() {
        for (path, content) in own().filter(|(_, content)| content.starts_with("<!doctype")) {
            for stopped in
                ["<script>", "<style", " style=\"", " onclick=", " onsubmit=", " onload="]
            {
                assert!(!content.contains(stopped), "{path}: {stopped}");
            }
        }
    }

    #[test]
    fn the_pages_need_no_other_host() {
        for (path, content) in own() {
            let content = content.replace("http://www.w3.org/2000/svg", "");
            for other in ["http://", "https://", "//cdn", "@import"] {
                assert!(!content.contains(other), "{path}: {other}");
            }
        }
    }

    #[test]
    fn what_the_pages_ask_for_is_there() {
        for (path, content) in own() {
            let quoted = content.split('"').filter(|text| text.starts_with("demo/"));
            let imported = content.split("from \"./").skip(1);
            let imported = imported.map(|rest| format!("demo/{}", rest.split('"').next().unwrap()));
            for file in quoted.map(str::to_owned).chain(imported) {
                let is_there = FILES.iter().any(|(path, ..)| path.strip_prefix('/') == Some(&file));
                assert!(is_there, "{path} asks for {file}");
            }
        }
    }

    #[test]
    fn the_settings_of_the_second_tab_are_good_ones() {
        let config = crate::config::parse(SETTINGS).unwrap();
        assert!(config.client.allow_anonymous_connect_without_token);
    }
}
