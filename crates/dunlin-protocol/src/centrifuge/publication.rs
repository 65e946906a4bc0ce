//! Publications, joins and leaves, and the differences between publications.

use std::borrow::Cow;

use dunlin_core::publication::{ClientInfo, Delta, Encoding, Kind, Publication, PushFormat};

use super::{json, writer::Writer};
use crate::fossil;

/// Writes the push of a publication, join or leave.
pub(super) fn push(
    push: &mut Writer<'_>,
    publication: &Publication,
    format: PushFormat,
    base: Option<&Publication>,
) {
    match format.number {
        Some(number) => push.number(1, "id", number),
        None => push.text(2, "channel", publication.channel().as_str()),
    }
    match publication.kind() {
        Kind::Text | Kind::Binary => push.field(4, "pub", |message| {
            let payload = Payload::new(format.encoding, publication, format.delta, base);
            write(message, publication, &payload);
            name_epoch(message, publication);
        }),
        Kind::Join => push.field(5, "join", |join| who(join, 1, publication)),
        Kind::Leave => push.field(6, "leave", |leave| who(leave, 1, publication)),
    }
}

/// Writes a publication as a whole. It names no epoch: what a client missed may be of an earlier
/// branch than its subscription, and SDKs take the epoch that a publication names for their own.
pub(super) fn whole(message: &mut Writer<'_>, publication: &Publication, delta: Delta) {
    let payload = Payload::new(message.encoding(), publication, delta, None);
    write(message, publication, &payload);
}

/// Writes who a client is.
pub(super) fn client_info(message: &mut Writer<'_>, info: &ClientInfo) {
    message.always_text(1, "user", &info.user);
    message.always_text(2, "client", &info.client);
    message.data(3, "conn_info", info.conn_info.as_deref());
    message.data(4, "chan_info", info.chan_info.as_deref());
}

fn write(message: &mut Writer<'_>, publication: &Publication, payload: &Payload<'_>) {
    message.raw(4, "data", &payload.data);
    who(message, 5, publication);
    if let Some(position) = publication.position() {
        message.number(6, "offset", position.offset);
    }
    if let Some(details) = publication.details().filter(|details| !details.tags.is_empty()) {
        let tags = details.tags.iter().map(|(key, value)| (key.as_str(), value));
        message.map(7, "tags", tags, |tag, number, key, value| tag.any_text(number, key, value));
    }
    message.flag(8, "delta", payload.is_difference);
}

/// With the first of an epoch subscribers learn that there is a new one. What is pushed is of the
/// subscription's own epoch: of another one subscribers are told in another way.
fn name_epoch(message: &mut Writer<'_>, publication: &Publication) {
    if let Some(position) = publication.position().filter(|position| position.offset == 1) {
        message.text(14, "epoch", &position.epoch.to_string());
    }
}

/// Writes the client that published, joined or left, if there is one.
fn who(message: &mut Writer<'_>, tag: u32, publication: &Publication) {
    if let Some(info) = publication.details().and_then(|details| details.info.as_ref()) {
        message.field(tag, "info", |message| client_info(message, info));
    }
}

/// A payload as an encoding wants it.
struct Payload<'a> {
    data: Cow<'a, [u8]>,
    is_difference: bool,
}

impl<'a> Payload<'a> {
    fn new(
        encoding: Encoding,
        publication: &'a Publication,
        delta: Delta,
        base: Option<&Publication>,
    ) -> Self {
        let allows_delta = publication.details().is_some_and(|details| details.allows_delta);
        let base = base.filter(|_| delta == Delta::Fossil && allows_delta);
        match encoding {
            Encoding::Json => Self::json(publication, delta, base),
            Encoding::Protobuf => Self::protobuf(publication, base),
        }
    }

    /// Where differences may come, all data is the JSON string of a text: of the JSON itself or of
    /// the difference between two.
    fn json(publication: &'a Publication, delta: Delta, base: Option<&Publication>) -> Self {
        let text = json::text(publication.data());
        if delta == Delta::Off {
            let data = match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            };
            return Self { data, is_difference: false };
        }
        // Who reads JSON did not get a base that is binary.
        let base = base.filter(|base| base.kind() == Kind::Text);
        let difference = base.and_then(|base| fossil::create_text(&json::text(base.data()), &text));
        let string = json::string(difference.as_deref().unwrap_or(&text));
        Self { data: string.into_bytes().into(), is_difference: difference.is_some() }
    }

    fn protobuf(publication: &'a Publication, base: Option<&Publication>) -> Self {
        match base.and_then(|base| fossil::create(base.data(), publication.data())) {
            Some(difference) => Self { data: difference.into(), is_difference: true },
            None => Self { data: publication.data().into(), is_difference: false },
        }
    }
}
