//! A bad configuration never starts a node: exit code 78 and a sentence that says where.

use std::{fs, process::Command};

use crate::{
    cli::{dunlin, stderr, stdout},
    harness::{Client, Node, connect, get, upgrade_request},
};

#[test]
fn genconfig_prints_the_defaults_which_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dunlin.toml");
    let generated = dunlin(&["genconfig"]);
    assert_eq!(stdout(&generated), include_str!("../../src/config/default.toml"));
    fs::write(&path, &generated.stdout).unwrap();
    let checked = dunlin(&["check-config", "--config", path.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", stderr(&checked));
}

#[test]
fn check_config_prints_what_is_in_effect_without_passwords() {
    let arguments = ["check-config", "--redis", "redis://:hunter2@h:1", "--set", "shards=3"];
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin"))
        .args(arguments)
        .env_clear()
        .env("DUNLIN_LIMITS_BACKLOG_AGE", "90")
        .output()
        .unwrap();
    let text = stdout(&output);
    for line in [
        "# shards is set by --set",
        "# limits.backlog_age is set by environment variable DUNLIN_LIMITS_BACKLOG_AGE",
        "shards = 3",
        "backlog_age = \"1m 30s\"",
        "url = \"redis://:[redacted]@h:1\"",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
    }
    assert!(!text.contains("hunter2"));
}

#[test]
fn every_verb_that_reads_a_bad_configuration_exits_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dunlin.toml");
    fs::write(&path, "[limits]\nbacklog_bites = 1\n").unwrap();
    let path = path.to_str().unwrap();
    let expected = format!(
        "dunlin: {path}:2: limits.backlog_bites: unknown key, did you mean limits.backlog_bytes?\n"
    );
    for verb in [&["serve"][..], &[], &["check-config"], &["healthcheck"]] {
        let output = dunlin(&[verb, &["--config", path]].concat());
        assert_eq!(output.status.code(), Some(78), "{verb:?}");
        assert_eq!(stderr(&output), expected, "{verb:?}");
    }
    for files in [
        ["--set", "tls.cert_file=/nowhere.pem", "--set", "tls.key_file=/nowhere.pem"],
        ["--redis", "rediss://127.0.0.1:1", "--set", "redis.ca_file=/nowhere.pem"],
    ] {
        for verb in ["serve", "check-config"] {
            let any_port = ["--listen", "127.0.0.1:0", "--log-level", "off"];
            let output = dunlin(&[&[verb], &files[..], &any_port].concat());
            assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
            assert!(stderr(&output).contains("/nowhere.pem: "), "{}", stderr(&output));
        }
    }
}

#[test]
fn insecure_modes_shout_at_start() {
    let modes = [
        "client.insecure",
        "client.token.insecure_skip_signature_verify",
        "client.subscription_token.insecure_skip_signature_verify",
        "http_api.insecure",
    ];
    let settings = modes.map(|mode| format!("{mode}=true"));
    let loud = Node::start(&settings.each_ref().map(String::as_str)).log();
    let quiet = Node::start(&[]).log();
    for mode in modes {
        let is_warning = |line: &str| line.contains("WARN") && line.contains(mode);
        assert!(loud.lines().any(is_warning), "{mode}: {loud}");
    }
    assert!(!quiet.contains("INSECURE"), "{quiet}");
}

#[test]
fn what_is_hardly_meant_is_said_at_start_and_by_check_config() {
    let setting = "channel.without_namespace.join_leave=true";
    let doubt = "--set: channel.without_namespace.join_leave: nobody may see it";
    let log = Node::start(&[setting]).log();
    let is_warning = |line: &str| line.contains("WARN") && line.contains(doubt);
    assert!(log.lines().any(is_warning), "{log}");
    let output = dunlin(&["check-config", "--set", setting]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains(&format!("# warning: {doubt}")), "{printed}");
}

#[test]
fn production_refuses_what_is_unsafe_all_of_it_at_once() {
    let settings = ["--set", "mode=production", "--set", "client.insecure=true"];
    for verb in ["serve", "check-config"] {
        let output = dunlin(&[&[verb], &settings[..]].concat());
        assert_eq!(output.status.code(), Some(78), "{verb}");
        let said = stderr(&output);
        for key in ["client.insecure", "allow_plain_publish", "internal.listen", "tls.cert_file"] {
            let lines = said.lines().filter(|line| line.contains(&format!("{key}: mode is")));
            assert_eq!(lines.count(), 1, "{key} in {said}");
        }
    }
}

#[test]
fn in_production_pages_of_the_same_host_connect_and_there_is_no_demo() {
    let node = Node::start(&[
        "mode=production",
        "internal.listen=127.0.0.1:0",
        "proxy.trusted=127.0.0.1",
        "limits.address_connections=100",
        "channel.without_namespace.allow_plain_subscribe=true",
        "channel.without_namespace.allow_plain_publish=true",
    ]);
    assert_eq!(get(node.address, "/").status, 404);
    assert_eq!(get(node.address, "/memory").status, 404);
    let refusal = |origin: &str| {
        let headers = format!("Host: chat.test\r\nOrigin: {origin}");
        let request = upgrade_request("/ws/chat").replace("Host: localhost", &headers);
        let upgraded = Client::upgrade(connect(node.address).unwrap(), &request);
        upgraded.err().map(|response| response.expect("an answer").status)
    };
    assert_eq!(refusal("https://chat.test"), None);
    assert_eq!(refusal("https://evil.test"), Some(403));
}
