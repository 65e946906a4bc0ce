//! What the pages for people say of the program is so: its metrics, its settings, their links.

use std::{collections::BTreeSet, fs, path::Path};

use crate::harness::{Flock, KEY_SETTING, NodeCommand, exchange, get, wait_until};

const PAGES: [&str; 7] = [
    "README.md",
    "SECURITY.md",
    "docs/http-api.md",
    "docs/operations.md",
    "docs/out-of-scope.md",
    "docs/security.md",
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
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(path) } else { folder.join(file) };
            assert!(target.exists(), "{path}: {link} is not there");
            let headings = || fs::read_to_string(&target).unwrap();
            let leads =
                heading.is_empty() || headings().lines().any(|line| anchor(line) == heading);
            assert!(leads, "{path}: {link} has no such heading");
        }
    }
}

/// What a heading is called in links.
fn anchor(line: &str) -> String {
    let title = line.trim_start_matches('#').trim_start();
    let is_heading = title.len() < line.len();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    match is_heading {
        true => kept.collect::<String>().to_lowercase().replace(' ', "-"),
        false => String::new(),
    }
}

/// Whoever changes a default reads there what it protects from.
#[test]
fn defaults_that_the_page_about_security_names_are_so() {
    let default: toml::Table = page("crates/dunlin/src/config/default.toml").parse().unwrap();
    let text = page("docs/security.md");
    for (key, value, words) in [
        ("limits.handshakes", "1024", "1,024 places"),
        ("limits.handshake_age", "\"10s\"", "10 s to the end of the handshake"),
        ("limits.address_handshakes", "512", "512 silent ones"),
        ("limits.header_bytes", "\"16KiB\"", "| 16 KiB |"),
        ("limits.address_connections", "0", "| nothing hinders it | `limits.address_connections`"),
        ("client.user_connection_limit", "0", "| nothing hinders it | `client.user_conn"),
        ("limits.message_bytes", "\"64KiB\"", "| 64 KiB, 256 fragments, 30 s;"),
        ("limits.message_fragments", "256", "256 fragments"),
        ("limits.message_age", "\"30s\"", "30 s;"),
        ("ws.compression", "false", "compression is off"),
        ("limits.inflate_ratio", "100", "at most 100 times"),
        ("limits.control_rate", "10", "10 a second"),
        ("limits.control_burst", "30", "30 at once"),
        ("limits.private_bytes", "\"48MiB\"", "48 MiB for each node"),
        ("limits.backlog_bytes", "\"1MiB\"", "1 MiB for each client"),
        ("limits.backlog_age", "\"10s\"", "nothing taken for 10 s"),
        ("limits.history_bytes", "\"256MiB\"", "256 MiB of histories"),
        ("client.channel_limit", "128", "128 for each client"),
        ("client.expired_close_delay", "\"25s\"", "(25 s)"),
        ("client.token.jwks_age_max", "\"1day\"", "a day after it was last fetched"),
        ("client.allow_anonymous_connect_without_token", "false", "need a token"),
        ("channel.without_namespace.allow_plain_publish", "true", "may do both in channels"),
        ("ws.ping_interval", "\"25s\"", "`ws.ping_interval` (25 s)"),
        ("shutdown.accept_for", "\"2s\"", "`shutdown.accept_for` + `shutdown.drain` (6 s)"),
        ("shutdown.drain", "\"4s\"", "(6 s)"),
    ] {
        let mut names = key.split('.');
        let section = &default[names.next().unwrap()];
        let found = names.fold(section, |section, name| &section[name]);
        assert_eq!(found.to_string(), value, "{key}");
        assert!(text.contains(words), "{key}: {words:?} is not on the page");
    }
}
