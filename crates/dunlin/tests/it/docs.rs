//! What the pages for people say of the program is so: its metrics, its settings, their links.

use std::{collections::BTreeSet, fs, path::Path};

use crate::harness::{Flock, KEY_SETTING, NodeCommand, exchange, get, wait_until};

const PAGES: [&str; 6] = [
    "README.md",
    "SECURITY.md",
    "docs/http-api.md",
    "docs/operations.md",
    "docs/out-of-scope.md",
    "docs/tokens.md",
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The words of `text` made of `a-z`, `_` and `extra`.
fn words(text: &str, extra: char) -> impl Iterator<Item = &str> {
    text.split(move |c: char| !c.is_ascii_lowercase() && c != '_' && c != extra)
}

#[test]
fn operations_name_every_metric_and_no_other() {
    let flock = Flock::redis(1, &["rate_limits.bad_keys=1 burst 1"]);
    let (node, redis) = (&flock.nodes[0], flock.redis.as_ref().unwrap());
    let metrics = || get(node.address, "/metrics").body;
    // What has labels appears with its first count: an upgrade and calls are refused, all links are
    // cut.
    assert_eq!(node.status_of("/ws"), 400);
    assert_eq!(node.post("/api/info", "", "{}").status, 401);
    assert_eq!(node.post("/api/info", "", "{}").status, 429);
    assert_eq!(exchange(node.address, "PROXY UNKNOWN\r\n").status, 400);
    for (kind, links) in [("normal", 2), ("pubsub", 1)] {
        let kill = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind).to_owned();
        assert_eq!(kill.query::<usize>(&mut redis.connect()).unwrap(), links);
    }
    wait_until("all links are back", || {
        metrics().matches("\ndunlin_redis_reconnects_total{").count() == 3
    });

    let metrics = metrics();
    let kinds = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let exist: BTreeSet<_> = kinds
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, _) => name.to_owned(),
        })
        .collect();
    let operations = page("docs/operations.md");
    let named = words(&operations, '_').filter(|word| word.starts_with("dunlin_"));
    let named: BTreeSet<_> = named.map(str::to_owned).collect();
    let missing: Vec<_> = exist.difference(&named).collect();
    let invented: Vec<_> = named.difference(&exist).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "docs/operations.md lacks {missing:?} and invents {invented:?}"
    );
}

#[test]
fn calls_that_the_page_of_the_api_shows_go_well() {
    let readme = page("README.md");
    let config = readme.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    let node = NodeCommand::new().text(config).set(&[KEY_SETTING]).start();
    let page = page("docs/http-api.md");
    let start = "curl -H \"X-API-Key: $KEY\" http://127.0.0.1:8080/api/";
    let calls: Vec<_> = page.lines().filter(|line| line.starts_with("curl ")).collect();
    assert!(calls.len() > 5, "{calls:?}");
    for call in calls {
        let (method, body) =
            call.strip_prefix(start).and_then(|rest| rest.split_once(' ')).unwrap();
        let body = body.strip_prefix("-d '").and_then(|rest| rest.strip_suffix('\'')).unwrap();
        let answer = node.call(method, body);
        assert!(answer.get("error").is_none(), "{call}: {answer}");
    }
}

#[test]
fn settings_that_the_pages_name_exist() {
    let default: toml::Table = page("crates/dunlin/src/config/default.toml").parse().unwrap();
    for path in PAGES {
        let text = page(path);
        // The last dot of a sentence is no part of a key.
        for word in words(&text, '.').map(|word| word.trim_end_matches('.')) {
            let mut names = word.split('.');
            let section = names.next().and_then(|name| default.get(name));
            if word.contains('.') && section.is_some_and(toml::Value::is_table) {
                let found = names.try_fold(section.unwrap(), |section, name| section.get(name));
                let exists = found.is_some() || word == "channel.namespaces";
                assert!(exists, "{path}: there is no setting {word}");
            }
        }
    }
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let decisions =
        ["0001-own-websocket-codec.md", "0002-own-redis-link.md", "0005-tokens-by-aws-lc.md"];
    let decisions = decisions.map(|name| format!("docs/decisions/{name}"));
    for path in PAGES.into_iter().chain(decisions.iter().map(String::as_str)) {
        let text = page(path);
        let folder = root().join(path).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let is_ours = !link.starts_with("https://");
            assert!(!is_ours || folder.join(link).exists(), "{path}: {link} is not there");
        }
    }
}
