//! Replies to commands and the pushes that bring no publication, by transcript.

use std::sync::Arc;

use bytes::Bytes;
use dunlin_core::{
    channel::ChannelName,
    error::ClientError,
    event::{Connected, Event, Expiry, HistoryPage, Outcome, Push, Subscribed, Unsubscribe},
    position::{Epoch, Position},
    presence::PresenceStats,
    publication::{ClientInfo, Details, Encoding, Kind, Publication},
};
use dunlin_protocol::centrifuge::{message_kind, write_event};
use dunlin_ws::MessageKind;

use super::transcript::{hex, scene, scenes};

const TRANSCRIPT: &str = include_str!("../../transcripts/replies.txt");

#[test]
fn events_are_written_as_in_the_transcript() {
    let events = events();
    for (title, event) in &events {
        let scene = scene(TRANSCRIPT, title);
        let json = written(Encoding::Json, [event]);
        assert_eq!(String::from_utf8(json).unwrap(), scene.line("json"), "{title}");
        let protobuf = written(Encoding::Protobuf, [event]);
        assert_eq!(hex(&protobuf), scene.line("protobuf"), "{title}");
    }
    assert_eq!(events.len(), scenes(TRANSCRIPT).len(), "each scene is played");
}

/// SDKs take the epoch of a publication for that of their subscription, and what was missed may be
/// of an earlier branch.
#[test]
fn what_was_missed_names_no_epoch() {
    let missed = || vec![published(1), published(2)];
    let top = Position { epoch: Epoch { id: 0xAA, branch: 2 << 32 }, ..position(0) };
    let position = Some(top);
    let subscribed = Subscribed { position, publications: missed(), ..Subscribed::default() };
    let page = HistoryPage { publications: missed(), top };
    let reply = |outcome| Event::Reply { id: 7, outcome: Ok(outcome) };
    let events = [
        reply(Outcome::Subscribe(Box::new(subscribed))),
        reply(Outcome::History(Box::new(page))),
        Event::Missed(published(1)),
    ];
    let its = top.epoch.to_string();
    for (event, epochs) in events.iter().zip([1, 1, 0]) {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let written = written(encoding, [event]);
            let text = String::from_utf8_lossy(&written);
            assert_eq!(text.matches("00000000000000aa").count(), epochs, "{text}");
            assert_eq!(text.matches(&its).count(), epochs, "{text}");
        }
    }
}

#[test]
fn a_message_holds_events_in_order() {
    let events = events();
    let scenes = scenes(TRANSCRIPT);
    let lines: Vec<_> = scenes.iter().map(|scene| scene.line("json")).collect();
    let json = written(Encoding::Json, events.iter().map(|(_, event)| event));
    assert_eq!(String::from_utf8(json).unwrap(), lines.join("\n"));
    let messages: Vec<_> = scenes.iter().flat_map(|scene| scene.protobuf()).collect();
    assert_eq!(written(Encoding::Protobuf, events.iter().map(|(_, event)| event)), messages);
}

#[test]
fn each_encoding_has_its_kind_of_message() {
    assert_eq!(message_kind(Encoding::Json), MessageKind::Text);
    assert_eq!(message_kind(Encoding::Protobuf), MessageKind::Binary);
}

fn written<'a>(encoding: Encoding, events: impl IntoIterator<Item = &'a Event>) -> Vec<u8> {
    let mut message = Vec::new();
    events.into_iter().for_each(|event| write_event(encoding, event, &mut message));
    message
}

/// Every kind of event, by its title in the transcript.
fn events() -> Vec<(&'static str, Event)> {
    let mut events = vec![("a ping", Event::Ping)];
    events.extend(outcomes().map(|(title, outcome)| {
        let outcome = Ok(outcome);
        (title, Event::Reply { id: 7, outcome })
    }));
    events.extend(errors().map(|(title, error)| {
        let outcome = Err(error);
        (title, Event::Reply { id: u32::MAX, outcome })
    }));
    events.push(("refreshed by the application", Event::Refreshed(Expiry(Some(60)))));
    events.push(("refreshed for good", Event::Refreshed(Expiry(None))));
    events.extend(pushes().map(|(title, push)| (title, Event::Push(channel("news"), push))));
    events
}

fn outcomes() -> impl Iterator<Item = (&'static str, Outcome)> {
    let refresh = |expiry| Outcome::Refresh(Expiry(expiry));
    let subscribe = |subscribed| Outcome::Subscribe(Box::new(subscribed));
    let page = |publications, top| Outcome::History(Box::new(HistoryPage { publications, top }));
    [
        ("connected", connected(vec![], 0)),
        ("connected with everything", connected(server_side(), 25)),
        ("subscribed", subscribe(Subscribed::default())),
        ("subscribed with everything", subscribe(everything())),
        ("subscribed to differences", subscribe(Subscribed { delta: true, ..everything() })),
        ("not recovered", subscribe(Subscribed { was_recovering: true, ..positioned() })),
        ("unsubscribed", Outcome::Unsubscribe),
        ("published", Outcome::Publish),
        ("nobody is there", Outcome::Presence(vec![])),
        ("two are there", Outcome::Presence(vec![informed("c1"), named("c\"2")])),
        ("how many are there", Outcome::PresenceStats(PresenceStats { clients: 2, users: 1 })),
        ("nobody to count", Outcome::PresenceStats(PresenceStats::default())),
        ("an empty history", page(vec![], position(0))),
        ("a page of history", page(vec![published(1), published(2)], position(300))),
        ("connected for good", refresh(None)),
        ("connected for a while", refresh(Some(60))),
        ("subscribed for good", Outcome::SubRefresh(Expiry(None))),
        ("subscribed for a while", Outcome::SubRefresh(Expiry(Some(60)))),
    ]
    .into_iter()
}

fn errors() -> impl Iterator<Item = (&'static str, ClientError)> {
    [
        ("internal", ClientError::Internal),
        ("unauthorized", ClientError::Unauthorized),
        ("unknown channel", ClientError::UnknownChannel),
        ("permission denied", ClientError::PermissionDenied),
        ("method not found", ClientError::MethodNotFound),
        ("already subscribed", ClientError::AlreadySubscribed),
        ("limit exceeded", ClientError::LimitExceeded),
        ("bad request", ClientError::BadRequest),
        ("not available", ClientError::NotAvailable),
        ("token expired", ClientError::TokenExpired),
        ("expired", ClientError::Expired),
        ("too many requests", ClientError::TooManyRequests),
        ("unrecoverable position", ClientError::UnrecoverablePosition),
        ("concurrent pagination", ClientError::ConcurrentPagination),
    ]
    .into_iter()
}

fn pushes() -> impl Iterator<Item = (&'static str, Push)> {
    [
        ("subscribed by the application", Push::Subscribe(Box::default())),
        ("subscribed by the application with everything", Push::Subscribe(Box::new(everything()))),
        ("unsubscribed by the application", Push::Unsubscribe(Unsubscribe::Server)),
        ("unsubscribed for its position", Push::Unsubscribe(Unsubscribe::PositionLost)),
        ("unsubscribed for its token", Push::Unsubscribe(Unsubscribe::Expired)),
    ]
    .into_iter()
}

fn connected(subscriptions: Vec<(ChannelName, Subscribed)>, ping_s: u32) -> Outcome {
    let expiry = Expiry((ping_s > 0).then_some(3600));
    let client = "c1".into();
    Outcome::Connect(Box::new(Connected {
        client,
        version: "0.3.0",
        expiry,
        subscriptions,
        ping_s,
    }))
}

fn server_side() -> Vec<(ChannelName, Subscribed)> {
    vec![(channel("#42"), everything()), (channel("say \"hi\""), Subscribed::default())]
}

fn everything() -> Subscribed {
    Subscribed {
        expiry: Expiry(Some(120)),
        positioned: true,
        recoverable: true,
        position: Some(position(u64::MAX)),
        was_recovering: true,
        recovered: true,
        publications: vec![published(1), published(2)],
        data: Some(Bytes::from_static(b"{\n  \"motd\": \"hi\"\r\n}")),
        delta: false,
        number: Some(u32::MAX),
    }
}

fn positioned() -> Subscribed {
    Subscribed { positioned: true, position: Some(position(0)), ..Subscribed::default() }
}

/// The first publication of the channel, which a client made, or another one.
fn published(offset: u64) -> Arc<Publication> {
    let data = Bytes::from_static(b"{\"n\": [1,\n2]}");
    let tags = [("lang".to_owned(), "en".to_owned()), ("\u{e9}\"".to_owned(), String::new())];
    let details = match offset {
        1 => Details { info: Some(informed("c9")), tags: tags.into(), allows_delta: true },
        _ => Details::default(),
    };
    let publication = Publication::new(channel("news"), Kind::Text, data);
    Arc::new(publication.with_details(details).at(position(offset)))
}

fn informed(client: &str) -> ClientInfo {
    let conn_info = Some(Bytes::from_static(b"{\"name\":\"Ada\"}"));
    let chan_info = Some(Bytes::from_static(b"[1,\n2]"));
    ClientInfo { user: "42".into(), conn_info, chan_info, ..named(client) }
}

fn named(client: &str) -> ClientInfo {
    ClientInfo { user: "".into(), client: client.into(), conn_info: None, chan_info: None }
}

fn position(offset: u64) -> Position {
    Position { offset, epoch: Epoch { id: 0xAA, branch: 1 << 32 } }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}
