//! Replies to commands, and the pushes that bring no publication.

use dunlin_core::{
    channel::ChannelName,
    error::ClientError,
    event::{Connected, Event, Expiry, HistoryPage, Outcome, Push, Subscribed, Unsubscribe},
    position::Position,
    presence::PresenceStats,
    publication::{ClientInfo, Delta},
};

use super::{publication, writer::Writer};

/// Writes the reply that tells an event; a ping is the empty one.
pub(super) fn event(reply: &mut Writer<'_>, event: &Event) {
    match event {
        Event::Reply { id, outcome } => {
            reply.number(1, "id", *id);
            match outcome {
                Ok(outcome) => self::outcome(reply, outcome),
                Err(error) => reply.field(2, "error", |message| client_error(message, *error)),
            }
        }
        Event::Push(channel, push) => {
            reply.field(4, "push", |message| self::push(message, channel, push));
        }
        Event::Refreshed(it) => reply.field(4, "push", |message| {
            message.field(12, "refresh", |message| expiry(message, 1, *it));
        }),
        Event::Missed(publication) => reply.field(4, "push", |message| {
            message.text(2, "channel", publication.channel().as_str());
            message.field(4, "pub", |message| publication::whole(message, publication, Delta::Off));
        }),
        Event::Ping => {}
    }
}

fn client_error(message: &mut Writer<'_>, error: ClientError) {
    message.number(1, "code", error.code());
    message.text(2, "message", error.message());
    message.flag(3, "temporary", error.is_temporary());
}

fn outcome(reply: &mut Writer<'_>, outcome: &Outcome) {
    match outcome {
        Outcome::Connect(it) => reply.field(5, "connect", |message| connected(message, it)),
        Outcome::Subscribe(it) => reply.field(6, "subscribe", |message| subscribed(message, it)),
        Outcome::Unsubscribe => reply.field(7, "unsubscribe", |_| {}),
        Outcome::Publish => reply.field(8, "publish", |_| {}),
        Outcome::Presence(it) => reply.field(9, "presence", |message| presence(message, it)),
        Outcome::PresenceStats(it) => {
            reply.field(10, "presence_stats", |message| presence_stats(message, *it));
        }
        Outcome::History(it) => reply.field(11, "history", |message| history(message, it)),
        Outcome::Refresh(it) => reply.field(14, "refresh", |message| expiry(message, 3, *it)),
        Outcome::SubRefresh(it) => {
            reply.field(15, "sub_refresh", |message| expiry(message, 1, *it));
        }
    }
}

fn connected(message: &mut Writer<'_>, connected: &Connected) {
    message.text(1, "client", &connected.client);
    message.text(2, "version", connected.version);
    expiry(message, 3, connected.expiry);
    if !connected.subscriptions.is_empty() {
        let subscriptions = connected.subscriptions.iter().map(|(name, it)| (name.as_str(), it));
        message.map(6, "subs", subscriptions, |entry, number, channel, it| {
            entry.field(number, channel, |message| subscribed(message, it));
        });
    }
    message.number(7, "ping", connected.ping_s);
    message.flag(8, "pong", connected.ping_s > 0);
}

fn subscribed(message: &mut Writer<'_>, it: &Subscribed) {
    expiry(message, 1, it.expiry);
    message.flag(3, "recoverable", it.recoverable);
    position(message, it.position, PositionTags { epoch: 6, offset: 9 });
    let delta = if it.delta { Delta::Full } else { Delta::Off };
    message.list(7, "publications", &it.publications, |message, it| {
        publication::whole(message, it, delta);
    });
    message.flag(8, "recovered", it.recovered);
    message.flag(10, "positioned", it.positioned);
    message.data(11, "data", it.data.as_deref());
    message.flag(12, "was_recovering", it.was_recovering);
    message.flag(13, "delta", it.delta);
    message.number(14, "id", it.number.unwrap_or_default());
}

fn presence(message: &mut Writer<'_>, members: &[ClientInfo]) {
    let members = members.iter().map(|info| (&*info.client, info));
    message.map(1, "presence", members, |entry, number, client, info| {
        entry.field(number, client, |message| publication::client_info(message, info));
    });
}

fn presence_stats(message: &mut Writer<'_>, stats: PresenceStats) {
    message.always_number(1, "num_clients", stats.clients as u64);
    message.always_number(2, "num_users", stats.users as u64);
}

fn history(message: &mut Writer<'_>, page: &HistoryPage) {
    message.always_list(1, "publications", &page.publications, |message, it| {
        publication::whole(message, it, Delta::Off);
    });
    message.always_text(2, "epoch", &page.top.epoch.to_string());
    message.always_number(3, "offset", page.top.offset);
}

fn push(message: &mut Writer<'_>, channel: &ChannelName, push: &Push) {
    message.text(2, "channel", channel.as_str());
    match push {
        Push::Unsubscribe(it) => {
            message.field(7, "unsubscribe", |message| unsubscribed(message, *it))
        }
        Push::Subscribe(it) => message.field(9, "subscribe", |message| {
            message.flag(1, "recoverable", it.recoverable);
            position(message, it.position, PositionTags { epoch: 4, offset: 5 });
            message.flag(6, "positioned", it.positioned);
            message.data(7, "data", it.data.as_deref());
        }),
    }
}

fn unsubscribed(message: &mut Writer<'_>, why: Unsubscribe) {
    message.number(2, "code", why.code());
    message.text(3, "reason", why.reason());
}

/// Writes the two fields of an expiry, which have numbers in sequence.
fn expiry(message: &mut Writer<'_>, first: u32, expiry: Expiry) {
    message.flag(first, "expires", expiry.0.is_some());
    message.number(first + 1, "ttl", expiry.0.unwrap_or_default());
}

/// The numbers of the two fields of a position, which each message numbers in its own way.
#[derive(Clone, Copy)]
struct PositionTags {
    epoch: u32,
    offset: u32,
}

fn position(message: &mut Writer<'_>, position: Option<Position>, tags: PositionTags) {
    if let Some(position) = position {
        message.text(tags.epoch, "epoch", &position.epoch.to_string());
        message.number(tags.offset, "offset", position.offset);
    }
}
