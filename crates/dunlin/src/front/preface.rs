//! The first bytes of a connection: a header of the PROXY protocol where one is due, and what can
//! be said of everything that is neither HTTP nor TLS where these are.

use std::{io, net::IpAddr, time::Duration};

use hyper::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    door::Watched,
    peer::{
        Proxies,
        proxy_protocol::{self, Beginning, Malformed},
    },
};

/// Why nothing can be made of what came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// A header of the PROXY protocol from somebody who is not believed.
    ProxyHeader,
    /// None, or none that can be read, from somebody who has to send one.
    NoProxyHeader(&'static str),
    /// TLS where HTTP is spoken.
    Tls,
    /// HTTP where TLS is spoken.
    NoTls,
    /// Nothing that anybody can begin a request with.
    NotHttp,
}

/// What bytes are, as far as they have come.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It takes more to tell.
    Unknown,
    /// A header of the PROXY protocol comes first, and is taken.
    Header(proxy_protocol::Header),
    /// The rest is for HTTP, or TLS.
    Good,
    Unfit(Unfit),
}

/// Who is at the other end, as told before the first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) address: IpAddr,
    /// Whether somebody is there whom a proxy serves and does not name: what is said on from there
    /// are a stranger's words, not the proxy's.
    pub(super) is_unnamed: bool,
}

/// Reads up to where HTTP or TLS begins, and who is served.
///
/// # Errors
/// When the connection breaks off, or ends within the header that is due. What ends without a word
/// is good: there is nothing to answer.
pub(super) async fn read(
    stream: &mut Watched,
    near: IpAddr,
    proxies: &Proxies,
    is_tls: bool,
) -> io::Result<Result<Caller, Unfit>> {
    let mut caller = Caller { address: near, is_unnamed: false };
    let mut is_header_due = proxies.speak_protocol(near);
    loop {
        match judge(stream.early(), is_header_due, is_tls) {
            Verdict::Header(header) => {
                stream.skip(header.length);
                caller.address = header.client.unwrap_or(near);
                caller.is_unnamed = header.client.is_none() && !header.is_local;
                is_header_due = false;
            }
            Verdict::Good => return Ok(Ok(caller)),
            Verdict::Unfit(unfit) => return Ok(Err(unfit)),
            Verdict::Unknown if stream.read_early().await? == 0 => {
                let is_cut = is_header_due && !stream.early().is_empty();
                return if is_cut {
                    Err(io::ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(Ok(caller))
                };
            }
            Verdict::Unknown => {}
        }
    }
}

fn judge(bytes: &[u8], is_header_due: bool, is_tls: bool) -> Verdict {
    let Some(first) = bytes.first() else { return Verdict::Unknown };
    match (proxy_protocol::decode(bytes), is_header_due) {
        (Ok(Beginning::Part), true) => Verdict::Unknown,
        (Ok(Beginning::Header(header)), true) => Verdict::Header(header),
        (Ok(Beginning::Other), true) => Verdict::Unfit(Unfit::NoProxyHeader("there is none")),
        (Err(Malformed(why)), true) => Verdict::Unfit(Unfit::NoProxyHeader(why)),
        (Ok(Beginning::Header(_)) | Err(_), false) => Verdict::Unfit(Unfit::ProxyHeader),
        // Some of these bytes can begin a request, too.
        (Ok(Beginning::Part), false) => Verdict::Unknown,
        (Ok(Beginning::Other), false) => match first {
            b'A'..=b'Z' | b'a'..=b'z' if is_tls => Verdict::Unfit(Unfit::NoTls),
            _ if is_tls => Verdict::Good,
            &TLS_HANDSHAKE => Verdict::Unfit(Unfit::Tls),
            b'\r' | b'\n' | b'!'..=b'~' => Verdict::Good,
            _ => Verdict::Unfit(Unfit::NotHttp),
        },
    }
}

/// The type of the record that a TLS connection begins with.
const TLS_HANDSHAKE: u8 = 22;

/// How long whoever is refused may take to hear why.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Unfit {
    /// What happened, as a word of a closed set.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::ProxyHeader => "proxy_header",
            Self::NoProxyHeader(_) => "no_proxy_header",
            Self::Tls => "tls",
            Self::NoTls => "no_tls",
            Self::NotHttp => "not_http",
        }
    }

    /// Whether it is most likely a mistake in somebody's configuration.
    pub(super) fn concerns_a_proxy(self) -> bool {
        matches!(self, Self::ProxyHeader | Self::NoProxyHeader(_))
    }

    pub(super) fn message(self) -> String {
        match self {
            Self::ProxyHeader => "this is a header of the PROXY protocol: it is taken from \
                addresses in proxy.trusted if proxy.protocol is true"
                .to_owned(),
            Self::NoProxyHeader(why) => format!(
                "a header of the PROXY protocol was expected first, since proxy.protocol is true \
                 and this address is in proxy.trusted: {why}"
            ),
            Self::Tls => "this is TLS, and plain HTTP is spoken here: tls.cert_file is not set, \
                or this is internal.listen"
                .to_owned(),
            Self::NoTls => {
                "this is no TLS, which is spoken here: use https:// or wss://".to_owned()
            }
            Self::NotHttp => "this is no HTTP request".to_owned(),
        }
    }

    /// Says so, in HTTP, as there is no better language.
    pub(super) async fn tell(self, stream: &mut Watched) {
        let body = super::error_body(self.code(), &self.message()).to_string();
        let status = StatusCode::BAD_REQUEST;
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        let telling = async {
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            // What is not read would take the answer away again.
            let mut rest = [0; 1024];
            while stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Nobody is told whether it arrived.
        let _ = timeout(LAST_WORDS, telling).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_beginning_has_its_verdict() {
        const V1: &[u8] = b"PROXY UNKNOWN\r\n";
        const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        for (bytes, due, is_tls, expected) in [
            (&b""[..], false, false, None),
            (b"P", false, false, None),
            (b"PU", false, false, Some("")),
            (b"GET / HTTP/1.1\r\n", false, false, Some("")),
            (b"\r\nGET", false, false, Some("")),
            (b"PRO", true, true, None),
            (b"GET / HTTP/1.1\r\n", true, false, Some("no_proxy_header")),
            (b"PROXY nonsense\r\n", true, false, Some("no_proxy_header")),
            (V1, false, false, Some("proxy_header")),
            (V1, false, true, Some("proxy_header")),
            (V2, false, false, Some("proxy_header")),
            (V2, true, true, Some("header")),
            (V1, true, false, Some("header")),
            (b"\x16\x03\x01", false, false, Some("tls")),
            (b"\x16\x03\x01", false, true, Some("")),
            (b"GET / HTTP/1.1\r\n", false, true, Some("no_tls")),
            (b"\0\0\0", false, false, Some("not_http")),
        ] {
            let verdict = match judge(bytes, due, is_tls) {
                Verdict::Unknown => None,
                Verdict::Good => Some(""),
                Verdict::Header(_) => Some("header"),
                Verdict::Unfit(unfit) => Some(unfit.code()),
            };
            assert_eq!(verdict, expected, "{bytes:?} {due} {is_tls}");
        }
    }
}
