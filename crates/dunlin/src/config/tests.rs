//! One table per promise: what is accepted, and what each mistake is answered with.

use std::{fmt::Write as _, time::Duration};

use dunlin_core::{
    channel::ChannelName,
    limits::Rate,
    namespace::{ChannelOptions, ChannelRegex, DeltaType, RecoveryMode},
};
use proptest::prelude::*;

use super::*;

fn load_all(
    file: &str,
    environment: &[(&str, &str)],
    flags: Vec<Setting>,
) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dunlin.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, text)| (name.into(), text.into())).collect();
    load(Sources { file: Some(path.clone()), environment, flags, ..Sources::default() })
        .map_err(|problems| problems.to_string().replace(path.to_str().unwrap(), "FILE"))
}

#[test]
fn default_toml_holds_every_key_and_nothing_else() {
    let written: toml::Table = DEFAULT.parse().unwrap();
    let config = parse("").unwrap();
    assert_eq!(toml::Table::try_from(&config).unwrap(), written);
    parse(DEFAULT).unwrap();
}

#[test]
fn default_toml_documents_every_key() {
    let mut before = "";
    for (number, line) in DEFAULT.lines().enumerate() {
        let is_key = line.contains(" = ") && !line.starts_with('#');
        assert!(!is_key || before.starts_with("# "), "line {}: no comment above", number + 1);
        before = line;
    }
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let file = "listen = \"127.0.0.1:1\"\nshards = 1\n[limits]\nbacklog_age = 11\n";
    let environment = [("DUNLIN_LISTEN", "127.0.0.1:2"), ("DUNLIN_SHARDS", "2"), ("HOME", "/")];
    let flags = vec![
        Setting::flag("--set", "listen", "127.0.0.1:3"),
        Setting::flag("--listen", "listen", "127.0.0.1:4"),
    ];
    let Loaded { config, places, .. } = load_all(file, &environment, flags).unwrap();
    assert_eq!(config.listen, "127.0.0.1:4".parse().unwrap());
    assert_eq!(config.shards, 2);
    assert_eq!(config.limits.backlog_age, Duration::from_secs(11));
    assert_eq!(config.limits.backlog_bytes, 1 << 20);
    assert_eq!(places["listen"], Place::Flag("--listen"));
    assert_eq!(places["shards"], Place::Variable("DUNLIN_SHARDS".to_owned()));
    assert!(places["limits.backlog_age"].to_string().ends_with("dunlin.toml:4"));
    assert_eq!(places.len(), 3);
}

#[test]
fn values_are_read_as_written() {
    let age =
        |text: &str| parse(&format!("limits.backlog_age = {text}")).unwrap().limits.backlog_age;
    assert_eq!(age("25"), Duration::from_secs(25));
    assert_eq!(age("\"25\""), Duration::from_secs(25));
    assert_eq!(age("\"250ms\""), Duration::from_millis(250));
    assert_eq!(age("\"1m 30s\""), Duration::from_secs(90));
    let size =
        |text: &str| parse(&format!("redis.queue_bytes = {text}")).unwrap().redis.queue_bytes;
    assert_eq!(size("100000"), 100_000);
    assert_eq!(size("\"100000\""), 100_000);
    assert_eq!(size("\"64 KiB\""), 65_536);
    assert_eq!(size("\"1gib\""), 1 << 30);
    assert_eq!(size("\"2MB\""), 2_000_000);
}

#[test]
fn mistakes_in_a_file_name_line_and_key() {
    for (file, expected) in [
        ("x = 1", "FILE:1: x: unknown key (dunlin genconfig lists all)"),
        (
            "[limits]\n\nbacklog_bites = 5",
            "FILE:3: limits.backlog_bites: unknown key, did you mean limits.backlog_bytes?",
        ),
        ("backlog_age = 5", "FILE:1: backlog_age: unknown key, did you mean limits.backlog_age?"),
        ("\"limits.backlog_age\" = 5", "FILE:1: \"limits.backlog_age\": unknown key"),
        ("limits = 5", "FILE:1: limits: this is a section: its keys are set one by one"),
        ("[server]\nport = 1", "FILE:1: server: unknown key"),
        ("[node.name]\nx = 1", "FILE:1: node.name: invalid type: map, expected a string"),
        ("\nlisten = \"here\"", "FILE:2: listen: invalid value: string \"here\", expected an IP"),
        ("shards = -1", "FILE:1: shards: invalid value: integer `-1`, expected a whole number"),
        (
            "shards = 99999999999999999999",
            "FILE:1: shards: invalid type: floating point `inf`, expected",
        ),
        ("shards = \"2\"", "FILE:1: shards: invalid type: string \"2\", expected a whole number"),
        ("ws.compression = 1", "FILE:1: ws.compression: invalid type: integer `1`, expected a boo"),
        (
            "limits.backlog_age = \"10 parsecs\"",
            "FILE:1: limits.backlog_age: invalid value: string \"10 parsecs\", expected a duration",
        ),
        ("limits.backlog_age = -1", "FILE:1: limits.backlog_age: invalid value: integer `-1`"),
        ("limits.backlog_age = \"-1s\"", "FILE:1: limits.backlog_age: invalid value"),
        (
            "limits.backlog_age = \"99999999999999999999999y\"",
            "FILE:1: limits.backlog_age: invalid value",
        ),
        ("limits.message_bytes = \"1 mile\"", "expected a size such as"),
        ("limits.message_bytes = \"-1B\"", "expected a size such as"),
        ("limits.message_bytes = \"99999999999GiB\"", "expected a size such as"),
        ("log.format = \"xml\"", "FILE:1: log.format: unknown variant `xml`, expected one of"),
        ("[limits]\na = = 2", "FILE:2: not valid TOML: "),
        ("shards = 1\nshards = 2", "FILE:2: not valid TOML: duplicate key"),
    ] {
        let error = load_all(file, &[], vec![]).unwrap_err();
        assert!(error.contains(expected), "{file}: got {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn mistakes_elsewhere_name_their_place() {
    for (name, text, expected) in [
        (
            "DUNLIN_LIMITS_BACKLOG_BITES",
            "5",
            "environment variable DUNLIN_LIMITS_BACKLOG_BITES: belongs to no key, \
             did you mean DUNLIN_LIMITS_BACKLOG_BYTES?",
        ),
        (
            "DUNLIN_SHARDS",
            "many",
            "environment variable DUNLIN_SHARDS: shards: invalid value: `many`",
        ),
        ("DUNLIN_WS_COMPRESSION", "yes", "invalid value: `yes`, expected true or false"),
    ] {
        let error = load_all("", &[(name, text)], vec![]).unwrap_err();
        assert!(error.contains(expected), "got {error}");
    }
    let flags = vec![Setting::flag("--set", "limits.nothing", "1")];
    let error = load_all("", &[], flags).unwrap_err();
    assert!(error.starts_with("--set: limits.nothing: unknown key"), "{error}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let error = load_all("a = 1\nb = 2", &[("DUNLIN_X", "")], vec![]).unwrap_err();
    assert_eq!(error.lines().count(), 3, "{error}");
    let missing = Sources { file: Some("/nowhere/dunlin.toml".into()), ..Sources::default() };
    let error = load(missing).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/dunlin.toml: cannot be read: "), "{error}");
}

#[test]
fn what_kubernetes_injects_is_passed_over() {
    let injected = [
        ("DUNLIN_SERVICE_HOST", "10.0.0.1"),
        ("DUNLIN_SERVICE_PORT", "8080"),
        ("DUNLIN_SERVICE_PORT_HTTP", "8080"),
        ("DUNLIN_PORT", "tcp://10.0.0.1:8080"),
        ("DUNLIN_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("DUNLIN_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("DUNLIN_REDIS_SERVICE_HOST", "10.0.0.2"),
        ("DUNLIN_REDIS_PORT_6379_TCP_PROTO", "tcp"),
        ("DUNLIN_CONFIG", "dunlin.toml"),
    ];
    assert!(load_all("", &injected, vec![]).unwrap().places.is_empty());
    load_all("", &[("DUNLIN_REPORT", "1")], vec![]).unwrap_err();
}

const NEWS: &str = "[[channel.namespaces]]\nname = \"news\"\n";

#[test]
fn namespaces_are_read_as_written() {
    let file = "[channel.without_namespace]
        history_size = 7
        history_ttl = \"300s\"
        force_recovery_mode = \"cache\"
        channel_regex = \"^a\"
        [[channel.namespaces]]
        name = \"news\"
        presence = true
        allowed_delta_types = [\"fossil\"]
        [[channel.namespaces]]
        allow_plain_subscribe = true
        name = \"chat\"";
    let Loaded { config, places, .. } = load_all(file, &[], vec![]).unwrap();
    assert!(places["channel.without_namespace.history_ttl"].to_string().ends_with(":3"));
    assert!(places["channel.namespaces[0].presence"].to_string().ends_with(":8"));
    assert!(places["channel.namespaces[1].name"].to_string().ends_with(":12"));

    let defaults = ChannelOptions::default();
    let without = &config.channel.without_namespace;
    let expected = ChannelOptions {
        history_size: 7,
        history_ttl: Duration::from_secs(300),
        force_recovery_mode: RecoveryMode::Cache,
        channel_regex: Some(ChannelRegex::new("^a").unwrap()),
        allow_plain_subscribe: true,
        allow_plain_publish: true,
        ..defaults.clone()
    };
    assert_eq!(*without, expected);
    let namespaces = config.channel.namespaces();
    let options = |name| {
        namespaces.options(&ChannelName::new(name).unwrap()).map(|options| (**options).clone())
    };
    let allowed_delta_types = vec![DeltaType::Fossil];
    let news = ChannelOptions { presence: true, allowed_delta_types, ..defaults.clone() };
    assert_eq!(options("news:1"), Some(news));
    assert_eq!(options("chat:1"), Some(ChannelOptions { allow_plain_subscribe: true, ..defaults }));
    assert_eq!(options("blog:1"), None);
    assert_eq!(options("blog"), Some(expected));

    let again = parse(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again.channel.namespaces[0].options, config.channel.namespaces[0].options);
    assert_eq!(again.channel.namespaces[1].name, "chat");
}

#[test]
fn mistakes_in_namespaces_name_line_and_key() {
    for (file, expected) in [
        (
            "histroy_size = 5",
            "FILE:3: channel.namespaces[0].histroy_size: unknown key, \
             did you mean channel.namespaces[0].history_size?",
        ),
        ("backlog_age = 5", "unknown key, did you mean limits.backlog_age?"),
        ("history_size = -1", "FILE:3: channel.namespaces[0].history_size: invalid value"),
        ("presence = 1", "FILE:3: channel.namespaces[0].presence: invalid type: integer `1`"),
        ("presence.x = 1", "FILE:3: channel.namespaces[0].presence: invalid type: map"),
        (
            "allowed_delta_types = [\"fosil\"]",
            "FILE:3: channel.namespaces[0].allowed_delta_types: unknown variant `fosil`",
        ),
        (
            "channel_regex = \"(\"",
            "FILE:3: channel.namespaces[0].channel_regex: not a regular expression: unclosed",
        ),
        (
            "[[channel.namespaces]]\nname = \"news\"",
            "FILE:4: channel.namespaces[1].name: expected a name that no other has",
        ),
        (
            "[[channel.namespaces]]\nname = \"a\"",
            "FILE:4: channel.namespaces[1].name: expected a namespace's name: 2-64 bytes of",
        ),
        (
            "[[channel.namespaces]]",
            "FILE:3: channel.namespaces[1].name: expected a namespace's name: 2-64 bytes of",
        ),
        ("history_size = 5", "channel.namespaces[0].history_ttl: expected more than 0s: hist"),
        ("force_recovery = true", "FILE:3: channel.namespaces[0].force_recovery: expected false"),
        (
            "[channel.\"namespaces[9]\"]\nname = \"xy\"",
            "FILE:3: channel.\"namespaces[9]\": unknown key",
        ),
    ] {
        let error = load_all(&format!("{NEWS}{file}"), &[], vec![]).unwrap_err();
        assert!(error.contains(expected), "{file}: got {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    for file in ["channel.namespaces = 5", "channel.namespaces = [5]", "[channel.namespaces]"] {
        let error = load_all(file, &[], vec![]).unwrap_err();
        assert!(error.starts_with("FILE:1: channel.namespaces: expected tables [["), "{error}");
    }
    let flags = vec![Setting::flag("--set", "channel.namespaces[99999999].name", "x")];
    let error = load_all(NEWS, &[], flags).unwrap_err();
    assert!(error.contains("expected tables [[channel.namespaces]] in a file"), "{error}");
}

#[test]
fn sections_in_sections_are_set_from_everywhere() {
    let file = "client.token.audience = \"file\"\nclient.token.issuer = \"file\"\n\
                client.channel_limit = 1";
    let environment = [
        ("DUNLIN_CLIENT_TOKEN_ISSUER", "environment"),
        ("DUNLIN_CHANNEL_WITHOUT_NAMESPACE_PRESENCE", "true"),
        ("DUNLIN_CHANNEL_WITHOUT_NAMESPACE_ALLOWED_DELTA_TYPES", "fossil, fossil"),
        ("DUNLIN_INTERNAL_LISTEN", "127.0.0.1:9"),
    ];
    let flags = vec![Setting::flag("--set", "client.channel_limit", "2")];
    let config = load_all(file, &environment, flags).unwrap().config;
    assert_eq!(config.client.token.audience.as_deref(), Some("file"));
    assert_eq!(config.client.token.issuer.as_deref(), Some("environment"));
    assert_eq!(config.client.channel_limit, 2);
    assert!(config.channel.without_namespace.presence);
    assert_eq!(config.channel.without_namespace.allowed_delta_types.len(), 2);
    assert_eq!(config.internal.listen, Some("127.0.0.1:9".parse().unwrap()));
    let error = load_all("client.token = 5", &[], vec![]).unwrap_err();
    assert!(error.contains("client.token: this is a section"), "{error}");
}

#[test]
fn keys_may_be_several_and_are_never_printed() {
    let keys = |text: &str| {
        parse(&format!("http_api.key = {text}")).unwrap().http_api.key.expose().to_vec()
    };
    assert_eq!(keys("\"\""), [""; 0]);
    assert_eq!(keys("\"a,b\""), ["a,b"]);
    assert_eq!(keys("[\"a\", \"b\"]"), ["a", "b"]);

    let pem = concat!(
        r"-----BEGIN PUBLIC KEY-----\n",
        r"MCowBQYDK2VwAyEA/ccOuOlPq0DOVmYIw4DNIqrwZKar7S+BTbqqPhsj95Y=\n",
        r"-----END PUBLIC KEY-----",
    );
    let config = parse(&format!(
        "http_api.key = \"hunter2\"
         client.token.hmac_secret_key = [\"hunter2\", \"hunter22\"]
         client.token.ed25519_public_key = [\"{pem}\", \"{pem}\"]
         client.subscription_token.hmac_secret_key = \"hunter2\"",
    ));
    let config = config.unwrap();
    assert_eq!(config.client.subscription_token().hmac_secret_key.expose().len(), 2);
    let text = toml::to_string(&config).unwrap();
    assert_eq!(text.matches("-----BEGIN PUBLIC KEY-----").count(), 2, "{text}");
    for printed in [format!("{config:?}"), text] {
        assert!(printed.contains("[redacted]") && !printed.contains("hunter2"), "{printed}");
    }
    for (key, wrong) in [
        ("http_api.key", "4711"),
        ("http_api.key", "[\"4711\", \"\"]"),
        ("client.token.hmac_secret_key", "[4711]"),
        ("client.subscription_token.hmac_secret_key", "{ a = \"4711\" }"),
    ] {
        let error = parse(&format!("{key} = {wrong}")).unwrap_err().to_string();
        assert!(error.contains(&format!("{key}: expected a text, or a list of")), "{error}");
        assert!(!error.contains("4711"), "{error}");
    }
    let own = parse("client.subscription_token = { enabled = true, hmac_secret_key = \"x\" }");
    assert_eq!(own.unwrap().client.subscription_token().hmac_secret_key.expose(), ["x"]);
}

#[test]
fn a_line_break_at_the_end_is_no_part_of_a_secret() {
    let read = |text: &str| {
        let environment =
            [("DUNLIN_HTTP_API_KEY", text), ("DUNLIN_CLIENT_TOKEN_HMAC_SECRET_KEY", text)];
        let config = load_all("", &environment, vec![]).unwrap().config;
        assert_eq!(config.http_api.key, config.client.token.hmac_secret_key);
        config.http_api.key.expose().to_vec()
    };
    for (text, expected) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")] {
        assert_eq!(read(text), [expected], "{text:?}");
    }
    assert_eq!(read("\n"), [""; 0]);
    let config = parse("http_api.key = [\"\"\"a\n\"\"\", \"b\"]").unwrap();
    assert_eq!(config.http_api.key.expose(), ["a", "b"]);
}

#[test]
fn namespaces_in_the_environment_are_sent_to_a_file() {
    for name in ["DUNLIN_CHANNEL_NAMESPACES", "DUNLIN_CHANNEL_NAMESPACES_0_NAME"] {
        let error = load_all("", &[(name, "[]")], vec![]).unwrap_err();
        let expected = "channel.namespaces: expected tables [[channel.namespaces]] in a file \
                        (--config FILE, or DUNLIN_CONFIG)";
        assert_eq!(error, format!("environment variable {name}: {expected}"));
    }
}

#[test]
fn the_defaults_of_namespaces_are_those_of_the_core() {
    let config = parse(NEWS).unwrap();
    assert_eq!(config.channel.namespaces[0].options, ChannelOptions::default());
}

#[test]
fn keys_are_checked_against_each_other() {
    for (file, key) in [
        ("tls.cert_file = \"a.pem\"", "tls.key_file"),
        ("tls.key_file = \"a.pem\"", "tls.cert_file"),
        ("shutdown.timeout = 7", "shutdown.timeout"),
        ("shutdown.drain = 6", "shutdown.timeout"),
        ("ws.pong_timeout = 25", "ws.pong_timeout"),
        ("ws.pong_timeout = 0", "ws.pong_timeout"),
        ("plain.default_channel = \"\"", "plain.default_channel"),
        ("plain.default_channel = \"a b\"", "plain.default_channel"),
        ("shards = 257", "shards"),
        ("limits.message_fragments = 0", "limits.message_fragments"),
        ("limits.backlog_age = 0", "limits.backlog_age"),
        ("redis.queue_age = \"10y\"", "redis.queue_age"),
        ("redis.queue_age = 0", "redis.queue_age"),
        ("redis.queue_bytes = 0", "redis.queue_bytes"),
        ("limits.header_bytes = \"4KiB\"", "limits.header_bytes"),
        ("redis.url = \"redis://a\"\nhttp_api.body_bytes = \"17MiB\"", "http_api.body_bytes"),
        ("log.level = \"inof\"", "log.level"),
        ("plain.default_channel = \"news:today\"", "plain.default_channel"),
        ("channel.without_namespace.history_ttl = 1", "channel.without_namespace.history_size"),
        (
            "channel.without_namespace = { history_size = 1, history_ttl = \"31days\" }",
            "channel.without_namespace.history_meta_ttl",
        ),
        (
            "channel.without_namespace = { conflate = true, history_size = 1, history_ttl = 1 }",
            "channel.without_namespace.conflate",
        ),
        (
            "channel.without_namespace = { conflate = true, join_leave = true }",
            "channel.without_namespace.conflate",
        ),
        (
            "channel.without_namespace = { conflate = true, allowed_delta_types = [\"fossil\"] }",
            "channel.without_namespace.conflate",
        ),
        ("client.ping_interval = \"2500ms\"", "client.ping_interval"),
        ("client.pong_timeout = 25", "client.pong_timeout"),
        ("client.stale_close_delay = 0", "client.stale_close_delay"),
        ("client.channel_limit = 0", "client.channel_limit"),
        (
            "client.token.jwks_public_endpoint = \"file:///etc/passwd\"",
            "client.token.jwks_public_endpoint",
        ),
        (
            "client.token.jwks_public_endpoint = \"http://example.com/jwks\"",
            "client.token.jwks_public_endpoint",
        ),
        ("client.token.rsa_public_key = \"no key\"", "client.token"),
        ("client.subscription_token.ecdsa_public_key = \"no key\"", "client.subscription_token"),
        (
            "client.subscribe_to_user_personal_channel.namespace = \"own\"",
            "client.subscribe_to_user_personal_channel.namespace",
        ),
        ("internal.listen = \"127.0.0.1:8080\"", "internal.listen"),
    ] {
        let Problems(problems) = parse(file).unwrap_err();
        assert!(problems.iter().any(|p| p.key.as_deref() == Some(key)), "{file}: {problems:?}");
    }
    parse("ws.ping_interval = 0\nws.pong_timeout = 0").unwrap();
    parse("channel.without_namespace.conflate = true").unwrap();
    parse(&format!("{NEWS}[plain]\ndefault_channel = \"news:today\"")).unwrap();
}

#[test]
fn what_is_hardly_meant_is_said() {
    let history = "history_size = 301\nhistory_ttl = 60\n";
    for (namespace, rest, key) in [
        ("", "client.subscription_token.hmac_secret_key = \"0123456789abcdef\"", "enabled"),
        ("", "client.token.hmac_secret_key = \"x\"", "hmac_secret_key"),
        ("", "http_api.key = [\"0123456789abcdef\", \"x\"]", "http_api.key"),
        ("", "rate_limits.connection.subscribes = \"1 burst 127\"", "connection.subscribes"),
        ("", "rate_limits.connection.bytes = \"1 burst 65535\"", "connection.bytes"),
        (
            "",
            "rate_limits.connection.messages = 10\nrate_limits.user.messages = \"10 burst 99\"",
            "user.messages",
        ),
        (
            "",
            "rate_limits.connection.messages = 10\nrate_limits.address.messages = 9",
            "address.messages",
        ),
        (&format!("{history}force_recovery = true"), "", "history_size"),
        (&format!("{history}force_recovery_mode = \"cache\""), "", "force_recovery_mode"),
        ("join_leave = true", "", "join_leave"),
        ("force_push_join_leave = true", "", "force_push_join_leave"),
        ("", "channel.without_namespace.allow_plain_subscribe = false", "allow_plain_subscribe"),
    ] {
        let Loaded { doubts, .. } =
            load_all(&format!("{rest}\n{NEWS}{namespace}"), &[], vec![]).unwrap();
        let [doubt] = &doubts[..] else { panic!("{namespace} {rest}: {doubts:?}") };
        assert!(doubt.key.as_ref().is_some_and(|it| it.ends_with(key)), "{key}: {doubt}");
    }
    for meant in [
        "",
        "history_size = 301\nhistory_ttl = 60",
        "[rate_limits.connection]\nsubscribes = \"1 burst 128\"\nmessages = 10",
        "join_leave = true\nallow_presence_for_subscriber = true",
        "history_size = 301\nhistory_ttl = 60\nallow_recovery = true
         force_recovery_mode = \"cache\"",
    ] {
        let Loaded { doubts, .. } = load_all(&format!("{NEWS}{meant}"), &[], vec![]).unwrap();
        assert_eq!(doubts, [], "{meant}");
    }
}

#[test]
fn rates_are_read_as_written() {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    for (written, read) in [
        ("0", None),
        ("\"0\"", None),
        ("7", rate(7, 70)),
        ("\"7\"", rate(7, 70)),
        ("\"7 burst 9\"", rate(7, 9)),
        ("\"64KiB burst 1MiB\"", rate(65_536, 1 << 20)),
        ("4294967295", rate(u32::MAX, u32::MAX)),
    ] {
        let config = parse(&format!("rate_limits.bad_keys = {written}")).unwrap();
        assert_eq!(config.rate_limits.bad_keys, read, "{written}");
        let again = parse(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again.rate_limits.bad_keys, read, "{written}");
    }
    for wrong in
        ["-1", "4294967296", "\"\"", "\"1 burst\"", "\"0 burst 5\"", "\"5 burst 0\"", "true"]
    {
        let problems = parse(&format!("rate_limits.bad_keys = {wrong}")).unwrap_err().to_string();
        assert!(problems.contains("rate_limits.bad_keys"), "{wrong}: {problems}");
    }
    let flag = Setting::flag("--set", "rate_limits.user.bytes", "1KiB");
    let Loaded { config, .. } = load_all("", &[], vec![flag]).unwrap();
    assert_eq!(config.rate_limits.user.bytes, rate(1024, 10_240));
}

#[test]
fn several_servers_are_a_list_or_a_text() {
    let urls = |value: &str| {
        let config = parse(&format!("redis.url = {value}"))?;
        Ok::<_, Problems>(config.redis.url.map(|urls| urls.to_string()).unwrap_or_default())
    };
    let both = "redis://a:1,redis://b:2";
    assert_eq!(urls(r#"["redis://a:1", "redis://b:2"]"#).unwrap(), both);
    assert_eq!(urls(r#""redis://a:1, redis://b:2""#).unwrap(), both);
    assert_eq!(urls("\"\"").unwrap(), "");
    let Problems(problems) = urls(r#"["redis://a", "redis://a/1"]"#).unwrap_err();
    assert!(problems[0].to_string().contains("stands twice"), "{problems:?}");
    assert!(urls("[]").is_err());
}

#[test]
fn a_cluster_stands_alone() {
    let config = parse("redis.url = \"redis+cluster://a:1,b:2\"").unwrap();
    assert!(config.redis.url.as_ref().unwrap().is_cluster());
    for list in ["redis+cluster://a:1,redis://b:2", "redis://b:2,redis+cluster://a:1,c:3"] {
        let error = parse(&format!("redis.url = {list:?}")).unwrap_err().to_string();
        assert!(error.contains("redis.url: a redis cluster stands alone"), "{error}");
    }
    for prefix in ["{", "a}:"] {
        let prefix = format!("redis.channel_prefix = {prefix:?}");
        assert!(parse(&prefix).is_ok());
        let error = parse(&format!("{prefix}\nredis.url = \"redis+cluster://a\"")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("redis.channel_prefix: expected no { and no }"), "{error}");
    }
}

#[test]
fn no_password_is_ever_printed() {
    for (url, shown) in [
        ("redis://localhost:6379/1", "redis://localhost:6379/1"),
        ("redis://[::1]", "redis://[::1]:6379"),
        ("redis://:hunter2@h:1", "redis://:[redacted]@h:1"),
        ("rediss://ann:hunter2@h/0", "rediss://ann:[redacted]@h:6379"),
        ("redis://ann:p@hunter2@h", "redis://ann:[redacted]@h:6379"),
        ("redis+unix:///run/r.sock", "redis+unix:///run/r.sock"),
        (
            "redis+sentinel://:hunter2@a:1,b:2/main?sentinel_password=hunter2",
            "redis+sentinel://:[redacted]@a:1,b:2/main",
        ),
        ("rediss+cluster://:hunter2@a:1,b", "rediss+cluster://:[redacted]@a:1,b:6379"),
        ("redis://:hunter2@a,redis://b:1", "redis://:[redacted]@a:6379,redis://b:1"),
        ("redis+unix://:hunter2@/run/r.sock?db=2", "redis+unix://:[redacted]@/run/r.sock?db=2"),
    ] {
        let config = parse(&format!("redis.url = {url:?}")).unwrap();
        let printed = config.redis.url.as_ref().unwrap();
        assert_eq!((printed.expose().as_str(), printed.to_string().as_str()), (url, shown));
        let mut all = format!("{config:?}");
        write!(all, "{}", toml::to_string(&config).unwrap()).unwrap();
        assert!(!all.contains("hunter2"), "{all}");
    }
    for wrong in [
        "http://:hunter2@h",
        "hunter2",
        "redis://hunter2@h",
        "redis://ann:a/hunter2@h",
        "redis://ann:a?hunter2@h",
        "redis://h/0?password=hunter2",
        "redis+unix:///run/r.sock?password=hunter2",
        "redis://a,redis://:hunter2@a",
        "redis://a,hunter2",
        "redis+cluster://:hunter2@a/1",
    ] {
        let error = parse(&format!("redis.url = {wrong:?}")).unwrap_err().to_string();
        assert!(error.contains("redis.url: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_value_is_answered(key in 0..keys::keys().count(), value in "[-0-9a-zA-Z\". ]{0,30}") {
        let key = keys::keys().nth(key).unwrap();
        let _ = parse(&format!("{key} = {value}"));
        let flags = vec![Setting::flag("--set", key, value)];
        let _ = load(Sources { flags, ..Sources::default() });
    }

    #[test]
    fn written_values_come_back(bytes in 65_536usize..1 << 40, ms in 1u64..1 << 30) {
        let mut config = parse("").unwrap();
        config.redis.queue_bytes = bytes;
        config.limits.backlog_age = Duration::from_millis(ms);
        let again = parse(&toml::to_string(&config).unwrap()).unwrap();
        prop_assert_eq!(again.redis.queue_bytes, bytes);
        prop_assert_eq!(again.limits.backlog_age, config.limits.backlog_age);
    }
}
