//! Reads what stands behind the scheme of a URL.

use std::path::PathBuf;

use super::{Endpoint, RedisUrl, Secret, Security, Seeds, Sentinels, UrlError};

pub(super) fn parse_sentinel(rest: &str, security: Security) -> Result<RedisUrl, UrlError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if rest.contains('#') {
        return Err(UrlError::Query);
    }
    let (authority, path) = rest.split_once('/').ok_or(UrlError::Service)?;
    let (service, database) = path.split_once('/').unwrap_or((path, ""));
    let service = decode_percent(service)?;
    if service.is_empty() {
        return Err(UrlError::Service);
    }
    let (credentials, hosts) = split_credentials(authority);
    let (user, password) = parse_credentials(credentials)?;
    let addresses = parse_hosts(hosts, SENTINEL_PORT)?;
    let (mut own_user, mut own_password) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').ok_or(UrlError::Query)? {
            ("sentinel_user", user) => own_user = Some(decode_percent(user)?),
            ("sentinel_password", text) => {
                own_password = Some(Secret::new(decode_percent(text)?));
            }
            _ => return Err(UrlError::Query),
        }
    }
    let sentinels =
        Sentinels { addresses, service, security, user: own_user, password: own_password };
    let endpoint = Endpoint::Sentinel(sentinels);
    Ok(RedisUrl { endpoint, user, password, database: parse_database(database)? })
}

pub(super) fn parse_cluster(rest: &str, security: Security) -> Result<RedisUrl, UrlError> {
    if rest.contains(['?', '#']) {
        return Err(UrlError::Query);
    }
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = split_credentials(authority);
    let (user, password) = parse_credentials(credentials)?;
    let seeds = Seeds { addresses: parse_hosts(hosts, PORT)?, security };
    match parse_database(database)? {
        0 => Ok(RedisUrl { endpoint: Endpoint::Cluster(seeds), user, password, database: 0 }),
        _ => Err(UrlError::ClusterDatabase),
    }
}

fn parse_hosts(text: &str, default_port: u16) -> Result<Vec<(String, u16)>, UrlError> {
    let address = |text: &str| {
        let (host, port) = parse_host(text)?;
        Ok((host, port.unwrap_or(default_port)))
    };
    text.split(',').map(address).collect()
}

fn parse_host(text: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = split_port(text)?;
    let host = decode_percent(host)?;
    if host.is_empty() {
        return Err(UrlError::Host);
    }
    let number = |port: &str| port.parse().ok().filter(|port| *port > 0).ok_or(UrlError::Port);
    Ok((host, port.map(number).transpose()?))
}

pub(super) fn parse_tcp(rest: &str, security: Security) -> Result<RedisUrl, UrlError> {
    if rest.contains(['?', '#']) {
        return Err(UrlError::Query);
    }
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, host_and_port) = split_credentials(authority);
    let (user, password) = parse_credentials(credentials)?;
    if host_and_port.contains(',') {
        return Err(UrlError::Hosts);
    }
    let (host, port) = parse_host(host_and_port)?;
    let port = port.unwrap_or(PORT);
    let database = parse_database(database)?;
    Ok(RedisUrl { endpoint: Endpoint::Tcp { host, port, security }, user, password, database })
}

pub(super) fn parse_unix(rest: &str) -> Result<RedisUrl, UrlError> {
    let path_at = rest.find('/').ok_or(UrlError::Path)?;
    let (authority, path) = rest.split_at(path_at);
    let (credentials, nothing) = split_credentials(authority);
    if !nothing.is_empty() {
        return Err(UrlError::Path);
    }
    let (user, password) = parse_credentials(credentials)?;
    let (path, database) = match path.split_once('?') {
        None => (path, ""),
        Some((path, query)) => (path, query.strip_prefix("db=").ok_or(UrlError::Query)?),
    };
    let database = parse_database(database)?;
    let path = PathBuf::from(decode_percent(path)?);
    Ok(RedisUrl { endpoint: Endpoint::Unix { path }, user, password, database })
}

/// Splits at the last `@`: a password with an unencoded one is understood as it was meant.
fn split_credentials(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((credentials, rest)) => (Some(credentials), rest),
        None => (None, authority),
    }
}

fn parse_credentials(
    credentials: Option<&str>,
) -> Result<(Option<String>, Option<Secret>), UrlError> {
    let Some(credentials) = credentials else { return Ok((None, None)) };
    let (user, password) = credentials.split_once(':').ok_or(UrlError::Password)?;
    let (user, password) = (decode_percent(user)?, decode_percent(password)?);
    if password.is_empty() && !user.is_empty() {
        return Err(UrlError::Password);
    }
    let user = (!user.is_empty()).then_some(user);
    let password = (!password.is_empty()).then(|| Secret::new(password));
    Ok((user, password))
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UrlError::Host)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(UrlError::Port),
        };
    }
    Ok(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

fn parse_database(text: &str) -> Result<u32, UrlError> {
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| UrlError::Database) }
}

fn decode_percent(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, others @ ..] = rest else { return Err(UrlError::Encoding) };
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(UrlError::Encoding);
        bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = others;
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Encoding)
}

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
