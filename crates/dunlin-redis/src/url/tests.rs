//! URLs, and the mistakes in them.

use super::*;

fn tcp(host: &str, port: u16, security: Security) -> Endpoint {
    Endpoint::Tcp { host: host.into(), port, security }
}

fn check(text: &str, endpoint: &Endpoint, access: (Option<&str>, Option<&str>), database: u32) {
    let url: RedisUrl = text.parse().unwrap();
    let password = url.password.as_ref().map(Secret::expose);
    let user = url.user.as_deref();
    assert_eq!((&url.endpoint, (user, password), url.database), (endpoint, access, database));
}

#[test]
fn urls_are_read() {
    let local = tcp("localhost", 6379, Security::Plain);
    check("redis://localhost", &local, (None, None), 0);
    check("redis://localhost/", &local, (None, None), 0);
    check("redis://localhost:6379/3", &local, (None, None), 3);
    check("redis://:p%40ss%2fword@localhost", &local, (None, Some("p@ss/word")), 0);
    check("redis://ann:s:e@cret@localhost", &local, (Some("ann"), Some("s:e@cret")), 0);
    check("redis://:@localhost", &local, (None, None), 0);
    let secure = tcp("::1", 7000, Security::Tls);
    check("rediss://u:p@[::1]:7000/1", &secure, (Some("u"), Some("p")), 1);
    check("redis://[fe80::1]", &tcp("fe80::1", 6379, Security::Plain), (None, None), 0);
    let socket = Endpoint::Unix { path: "/run/redis a.sock".into() };
    check("redis+unix:///run/redis%20a.sock", &socket, (None, None), 0);
    check("redis+unix://u:p@/run/redis%20a.sock?db=2", &socket, (Some("u"), Some("p")), 2);
}

#[test]
fn sentinels_are_read() {
    let url: RedisUrl =
        "rediss+sentinel://ann:pass@a:1,[::1]:2,c/main/3?sentinel_password=o%26".parse().unwrap();
    let Endpoint::Sentinel(sentinels) = &url.endpoint else { panic!("{url:?}") };
    let addresses = [("a", 1), ("::1", 2), ("c", 26379)];
    assert!(sentinels.addresses.iter().map(|(host, port)| (host.as_str(), *port)).eq(addresses));
    assert_eq!((sentinels.service.as_str(), sentinels.security), ("main", Security::Tls));
    assert_eq!(sentinels.password.as_ref().map(Secret::expose), Some("o&"));
    assert_eq!((url.user.as_deref(), url.database), (Some("ann"), 3));
    assert_eq!(url.to_string(), "rediss+sentinel://a:1,[::1]:2,c:26379/main");
}

#[test]
fn clusters_are_read() {
    let seeds = |addresses: &[(&str, u16)], security| {
        let addresses = addresses.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
        Endpoint::Cluster(Seeds { addresses, security })
    };
    let one = seeds(&[("a", 6379)], Security::Plain);
    check("redis+cluster://a", &one, (None, None), 0);
    check("redis+cluster://a/0", &one, (None, None), 0);
    let several = seeds(&[("a", 7000), ("::1", 2), ("c", 6379)], Security::Tls);
    let text = "rediss+cluster://ann:pass@a:7000,[::1]:2,c/";
    check(text, &several, (Some("ann"), Some("pass")), 0);
    let url: RedisUrl = text.parse().unwrap();
    assert_eq!(url.to_string(), "rediss+cluster://a:7000,[::1]:2,c:6379");
}

#[test]
fn mistakes_are_named() {
    let cases = [
        ("", UrlError::Scheme),
        ("http://localhost", UrlError::Scheme),
        ("redis://", UrlError::Host),
        ("redis://:6379", UrlError::Host),
        ("redis://[::1", UrlError::Host),
        ("redis://[::1]6379", UrlError::Port),
        ("redis://localhost:0", UrlError::Port),
        ("redis://localhost:65536", UrlError::Port),
        ("redis://user:pass/word@localhost", UrlError::Port),
        ("redis://localhost/x", UrlError::Database),
        ("redis://localhost/-1", UrlError::Database),
        ("redis://user@localhost", UrlError::Password),
        ("redis://user:@localhost", UrlError::Password),
        ("redis://:%4@localhost", UrlError::Encoding),
        ("redis://:%zz@localhost", UrlError::Encoding),
        ("redis://:%ff@localhost", UrlError::Encoding),
        ("redis://localhost?x=1", UrlError::Query),
        ("redis://a,b", UrlError::Hosts),
        ("redis+sentinel://a:1,b:2", UrlError::Service),
        ("redis+sentinel://a:1/", UrlError::Service),
        ("redis+sentinel://a:1,/main", UrlError::Host),
        ("redis+sentinel://a:x/main", UrlError::Port),
        ("redis+sentinel://a/main/x", UrlError::Database),
        ("redis+sentinel://a/main?password=x", UrlError::Query),
        ("redis+cluster://a:1,,b:2", UrlError::Host),
        ("redis+cluster://a:x", UrlError::Port),
        ("redis+cluster://a/x", UrlError::Database),
        ("redis+cluster://a:1,b:2/3", UrlError::ClusterDatabase),
        ("redis+cluster://a?password=x", UrlError::Query),
        ("redis+unix://run/redis.sock", UrlError::Path),
        ("redis+unix://", UrlError::Path),
        ("redis+unix:///run/redis.sock?x=1", UrlError::Query),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<RedisUrl>(), Err(error), "{text}");
    }
}

#[test]
fn a_url_is_shown_as_its_address_alone() {
    for (text, shown) in [
        ("redis://ann:hunter2@db.example/4", "redis://db.example:6379"),
        ("rediss://:hunter2@[::1]:7000", "rediss://[::1]:7000"),
        ("redis+cluster://u:hunter2@a,b", "redis+cluster://a:6379,b:6379"),
        ("redis+unix://u:hunter2@/run/r.sock", "redis+unix:///run/r.sock"),
    ] {
        let url: RedisUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), shown);
        assert!(!format!("{url:?}").contains("hunter2"), "{url:?}");
    }
}
