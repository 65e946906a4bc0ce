//! What the world around a session says and orders, well or badly.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::Hands;
use crate::{
    auth::{
        TokenError,
        claims::{ConnectionClaims, Overrides, SubscriptionClaims, SubscriptionOptions},
    },
    channel::ChannelName,
    control::{self, Order, Whom},
    error::ClientError,
    event::{HistoryPage, Outcome},
    limits::{Deed, Rate, Rates, Scope},
    namespace::{ChannelOptions, NamespaceName, Namespaces},
    position::{Epoch, Position},
    presence::PresenceStats,
    session::{Answer, Inquiry, Meter},
};

/// Little enough for histories to meet it.
pub(super) fn rates() -> Rates {
    Rates::new(|_| Some(Rate { per_second: 1, burst: 6 }))
}

impl Meter for Hands {
    fn subscribers(&self, channel: &ChannelName) -> u32 {
        u32::try_from(channel.as_str().len()).unwrap_or(u32::MAX)
    }

    /// Now and then others have used up what they share.
    fn share(&self, _: &Arc<str>, _: Deed, _: u32) -> Result<(), Scope> {
        if self.seconds.get() % 5 == 4 { Err(Scope::User) } else { Ok(()) }
    }

    fn may_publish(&self, _: &ChannelName, _: Rate) -> bool {
        self.seconds.get() % 7 != 6
    }
}

/// The channels of the model; the last ones have everything on, and a token is needed for `$`.
const CHANNELS: [&str; 5] = ["a", "$a", "all:a", "$all:b", "none:a"];

pub(super) fn channel(which: u8) -> ChannelName {
    ChannelName::new(CHANNELS[usize::from(which) % CHANNELS.len()]).expect("a good name")
}

pub(super) fn namespaces() -> Namespaces {
    let plain = ChannelOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_subscriber: true,
        allow_publish_for_anonymous: true,
        publications_per_second: Some(Rate { per_second: 1, burst: 1 }),
        ..ChannelOptions::default()
    };
    let all = ChannelOptions {
        history_size: 10,
        history_ttl: Duration::from_secs(60),
        force_recovery: true,
        presence: true,
        join_leave: true,
        allow_presence_for_client: true,
        allow_presence_for_anonymous: true,
        allow_history_for_client: true,
        allow_history_for_anonymous: true,
        ..plain.clone()
    };
    Namespaces::new(plain, [(NamespaceName::new("all").expect("a good name"), all)])
}

pub(super) fn order(what: u8, channel: ChannelName) -> Order {
    let whom = Whom { user: "ann".into(), client: None };
    match what % 6 {
        0 => Order::Unsubscribe(control::Unsubscribe { whom, channel: None }),
        1 => Order::Unsubscribe(control::Unsubscribe { whom, channel: Some(channel) }),
        2 | 3 => Order::Subscribe(Box::new(control::Subscribe {
            whom,
            channel,
            options: SubscriptionOptions::default(),
            expire_at: (what == 3).then_some(1_040),
            recover_since: None,
        })),
        4 => Order::Refresh(control::Refresh {
            whom,
            expired: false,
            expire_at: Some(2_000),
            info: Some(Bytes::from_static(b"4")),
        }),
        _ => Order::Disconnect(control::Disconnect {
            whom,
            whitelist: Vec::new(),
            code: 3_999,
            reason: "bye".into(),
        }),
    }
}

/// What the world says, well or badly. A subscription token is its channel's name.
pub(super) fn answer(inquiry: &Inquiry, how: u8, unix: u64) -> Answer {
    let error = match how % 8 {
        5 => Some(TokenError::Expired),
        6 => Some(TokenError::UnknownKey),
        7 => Some(TokenError::Invalid("no")),
        _ => None,
    };
    let expire_at = (how % 3 == 1).then_some(unix + 10);
    let token_id = (how % 2 == 1).then(|| Arc::from("t"));
    match inquiry {
        Inquiry::ConnectionToken(_) => Answer::Connection(match error {
            Some(error) => Err(error),
            None => Ok(Box::new(connection_claims(how, expire_at, token_id))),
        }),
        Inquiry::SubscriptionToken(token) => Answer::Subscription(match error {
            Some(error) => Err(error),
            None => Ok(Box::new(SubscriptionClaims {
                user: "ann".into(),
                channel: ChannelName::new(token).unwrap_or_else(|_| channel(how)),
                expire_at,
                issued_at: None,
                token_id,
                info: info(how),
                overrides: Overrides::default(),
            })),
        }),
        Inquiry::Admission(_) => Answer::Admission((how % 8 != 7).then(|| "client".into())),
        Inquiry::Presence(_) => Answer::Outcome(Ok(Outcome::Presence(Vec::new()))),
        Inquiry::PresenceStats(_) => {
            Answer::Outcome(Ok(Outcome::PresenceStats(PresenceStats::default())))
        }
        Inquiry::History(..) => {
            let top = Position { epoch: Epoch { id: 1, branch: 1 }, offset: 1 };
            let page = HistoryPage { publications: Vec::new(), top };
            let error = Err(ClientError::UnrecoverablePosition);
            let outcome = Ok(Outcome::History(Box::new(page)));
            Answer::Outcome(if how % 8 == 7 { error } else { outcome })
        }
    }
}

fn connection_claims(
    how: u8,
    expire_at: Option<u64>,
    token_id: Option<Arc<str>>,
) -> ConnectionClaims {
    let from_the_start = [channel(0), channel(2), channel(3)].into_iter();
    let subscriptions = from_the_start.take(usize::from(how % 4));
    ConnectionClaims {
        user: "ann".into(),
        expire_at,
        issued_at: None,
        token_id,
        info: info(how),
        meta: None,
        subscriptions: subscriptions
            .map(|name| (name, SubscriptionOptions { info: info(how / 4), ..Default::default() }))
            .collect(),
    }
}

/// What a token tells others of its client, if anything.
fn info(how: u8) -> Option<Bytes> {
    [None, Some("1"), Some("2")][usize::from(how % 3)].map(Bytes::from)
}
