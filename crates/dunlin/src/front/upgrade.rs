//! The upgrade: from a GET request to a stream on a shard. The seat comes before the 101: a client
//! that has its 101 is subscribed.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderName, HeaderValue, StatusCode, Version, header},
    response::Response,
};
use bytes::BytesMut;
use dunlin_core::{
    channel::{ChannelName, InvalidPlainName},
    error::ClientError,
    publication::Encoding,
    rights,
};
use dunlin_ws::{Accept, Compression, Refusal};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_rustls::server::TlsStream;

use super::{
    Front,
    crowd::{AddressPlace, Crowded},
    door::Watched,
    peer::ClientAddress,
    refuse, retry_after,
};
use crate::{
    config::PlainSubprotocols,
    memory::Level,
    shard::{Arrival, Newcomer, NoSeat, Seat},
    stream::DetachedStream,
};

/// `GET /ws`: joins `plain.default_channel`.
pub(super) async fn default_channel(State(front): State<Arc<Front>>, request: Request) -> Response {
    let channel = front.plain.default_channel.clone();
    upgrade_plain(&front, channel, request).await
}

/// `GET /ws/`: joins nothing.
pub(super) async fn no_channel(State(front): State<Arc<Front>>) -> Response {
    bad_channel(&front)
}

/// `GET /ws/{channel}`: joins that channel.
pub(super) async fn channel(
    State(front): State<Arc<Front>>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A name that is rejected is not even UTF-8.
    let channel = name.ok().and_then(|Path(name)| ChannelName::plain(&name).ok());
    match channel {
        Some(channel) => upgrade_plain(&front, channel, request).await,
        None => bad_channel(&front),
    }
}

fn bad_channel(front: &Front) -> Response {
    front.count_refusal("bad_channel");
    refuse(StatusCode::BAD_REQUEST, "bad_channel", &InvalidPlainName.to_string())
}

/// `GET /connection/websocket`: the Centrifuge dialect.
pub(super) async fn centrifuge(State(front): State<Arc<Front>>, request: Request) -> Response {
    if let Some(unsettled) = front.control.unsettled() {
        return busy(&front, unsettled.word(), "this node is not ready yet");
    }
    let query = request.uri().query().unwrap_or_default();
    let asks = |what: &str| query.split('&').any(|pair| pair == what);
    let protocols = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut protocols = protocols.iter().filter_map(|value| value.to_str().ok());
    // The first of ours that the client offers; it may offer none.
    let protocol = protocols.find_map(|offered| {
        let mut offered = offered.split(',').map(str::trim);
        offered.find_map(|name| PROTOCOLS.iter().find(|(ours, _)| *ours == name))
    });
    let by_query = asks("cf_protocol=protobuf") || asks("format=protobuf");
    let encoding = match protocol {
        Some((_, encoding)) => *encoding,
        None if by_query => Encoding::Protobuf,
        None => Encoding::Json,
    };
    let pings_by_frames = asks("cf_ws_frame_ping_pong=true");
    let newcomer = Newcomer::Centrifuge { encoding, pings_by_frames };
    let response = upgrade(&front, newcomer, request).await;
    agree_to(response, protocol.map(|(name, _)| HeaderValue::from_static(name)))
}

/// Names the subprotocol in the answer to a client that is let in (RFC 6455 section 4.2.2).
fn agree_to(mut response: Response, subprotocol: Option<HeaderValue>) -> Response {
    if let Some(name) = subprotocol
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    response
}

/// The first subprotocol that a client offers. What is no token names none.
fn first_offered(request: &Request) -> Option<HeaderValue> {
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.iter().filter_map(|value| value.to_str().ok());
    let first =
        offered.flat_map(|value| value.split(',')).map(str::trim).find(|it| is_token(it))?;
    HeaderValue::from_str(first).ok()
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

/// The subprotocols of the Centrifuge dialect.
const PROTOCOLS: [(&str, Encoding); 2] =
    [("centrifuge-protobuf", Encoding::Protobuf), ("centrifuge-json", Encoding::Json)];

async fn upgrade_plain(front: &Arc<Front>, channel: ChannelName, request: Request) -> Response {
    match rights::plain(front.node.namespaces(), &channel) {
        Ok(options) => {
            let newcomer = Newcomer::Plain { channel, options: Arc::clone(options) };
            let subprotocol = match front.plain.subprotocols {
                PlainSubprotocols::Echo => first_offered(&request),
                PlainSubprotocols::None => None,
            };
            agree_to(upgrade(front, newcomer, request).await, subprotocol)
        }
        Err(error) => refuse_channel(front, error),
    }
}

async fn upgrade(front: &Arc<Front>, newcomer: Newcomer, mut request: Request) -> Response {
    if !front.pages.may_connect(request.headers()) {
        front.count_refusal("origin_denied");
        let message = "pages of this origin may not connect";
        return refuse(StatusCode::FORBIDDEN, "origin_denied", message);
    }
    let accept = match judge(front, &request) {
        Ok(accept) => accept,
        Err(refusal) => return refuse_handshake(front, refusal),
    };
    if front.memory.is(Level::Tight) {
        return busy(front, "memory_short", "this node has too little memory left");
    }
    let address = ClientAddress::of(&request);
    let address_place = match address.map_or(Ok(None), |address| front.crowd.admit(address)) {
        Ok(place) => place,
        Err(crowded) => return refuse_crowd(front, crowded),
    };
    let Some(place) = front.places.take() else {
        return busy(front, "server_full", "this node has all the connections it may have");
    };
    let arrival = Arrival {
        address: address.map_or(Ipv6Addr::UNSPECIFIED, in_ipv6),
        compression: accept.compression,
        place,
    };
    let seat = match front.next_shard().reserve(newcomer, arrival).await {
        Ok(seat) => seat,
        Err(NoSeat::BrokerLost) => {
            return busy(front, "broker_lost", "the broker is away, nothing can be promised now");
        }
        Err(NoSeat::NodeLeaving) => {
            return busy(front, "node_leaving", "this node is leaving, another one will serve you");
        }
    };
    let upgraded = hyper::upgrade::on(&mut request);
    // The stream is ours once hyper has written the answer; until then this task waits for it.
    tokio::spawn(hand_over(upgraded, seat, address_place));
    switching_protocols(&accept)
}

/// An address as IPv6, that of IPv4 as mapped into it.
fn in_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn judge(front: &Front, request: &Request) -> Result<Accept, Refusal> {
    let headers = request.headers().iter();
    let headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let head = dunlin_ws::Request {
        method: request.method().as_str(),
        http_11: request.version() == Version::HTTP_11,
        headers: headers.iter().copied(),
    };
    let offered = if front.compression { Compression::On } else { Compression::Off };
    dunlin_ws::accept(head, offered)
}

/// The channel's namespace will not have a plain client.
fn refuse_channel(front: &Front, error: ClientError) -> Response {
    let (status, code, message) = match error {
        ClientError::UnknownChannel => {
            (StatusCode::NOT_FOUND, "unknown_channel", "the channel's namespace does not exist")
        }
        ClientError::BadRequest => {
            let message = "the channel's namespace has a rule for names that this one breaks";
            (StatusCode::BAD_REQUEST, "bad_channel", message)
        }
        _ => (StatusCode::FORBIDDEN, "not_allowed", "plain clients may not join this channel"),
    };
    front.count_refusal(code);
    refuse(status, code, message)
}

fn refuse_handshake(front: &Front, refusal: Refusal) -> Response {
    front.count_refusal("bad_handshake");
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = refuse(status, "bad_handshake", &refusal.to_string());
    if let Some((name, value)) = refusal.header() {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refuse_crowd(front: &Front, crowded: Crowded) -> Response {
    let (code, message) = match crowded {
        Crowded::Full => ("address_full", "your address has all the connections it may have"),
        Crowded::Hasty => ("address_hasty", "your address connects too often"),
    };
    refuse_for_now(front, StatusCode::TOO_MANY_REQUESTS, code, message)
}

/// Nothing is wrong with the request: this node cannot take it now.
fn busy(front: &Front, code: &'static str, message: &str) -> Response {
    refuse_for_now(front, StatusCode::SERVICE_UNAVAILABLE, code, message)
}

/// Refuses with a hint that spreads those who come back.
fn refuse_for_now(
    front: &Front,
    status: StatusCode,
    code: &'static str,
    message: &str,
) -> Response {
    front.count_refusal(code);
    let mut response = refuse(status, code, message);
    response.headers_mut().insert(header::RETRY_AFTER, retry_after());
    response
}

fn switching_protocols(accept: &Accept) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let key = HeaderValue::from_str(&accept.key).expect("base64 is a header value");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    if let Some(extensions) = accept.extensions {
        let extensions = HeaderValue::from_static(extensions);
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, extensions);
    }
    response
}

/// Takes the stream back from hyper and gives it to the seat's shard.
async fn hand_over(upgraded: OnUpgrade, seat: Seat, place: Option<Box<AddressPlace>>) {
    // A client that left before its 101 was written leaves an empty seat, given back by its drop.
    let Ok(upgraded) = upgraded.await else { return };
    if let Some((stream, early)) = detach(upgraded) {
        seat.attach(stream.with_place(place), early).await;
    }
}

/// The socket under an upgraded stream, and what hyper had read beyond the request.
fn detach(upgraded: Upgraded) -> Option<(DetachedStream, BytesMut)> {
    match upgraded.downcast::<TokioIo<Watched>>() {
        Ok(parts) => {
            let tcp = parts.io.into_inner().into_inner()?.into_std().ok()?;
            Some((DetachedStream::tcp(tcp), parts.read_buf.into()))
        }
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<TlsStream<Watched>>>().ok()?;
            let (tcp, session) = parts.io.into_inner().into_inner();
            let stream = DetachedStream::tls(tcp.into_inner()?.into_std().ok()?, session);
            Some((stream, parts.read_buf.into()))
        }
    }
}
