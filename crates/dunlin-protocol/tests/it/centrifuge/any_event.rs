//! Any event and any publication, for properties.

use std::sync::Arc;

use dunlin_core::{
    channel::ChannelName,
    event::{Connected, Event, Expiry, HistoryPage, Outcome, Push, Subscribed},
    position::{Epoch, Position},
    presence::PresenceStats,
    publication::{ClientInfo, Details, Kind, Publication},
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};

use super::any_command::json;

/// Any event but errors, which are few enough to be told one by one.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    let outcome = prop_oneof![
        connected().prop_map(|it| Outcome::Connect(Box::new(it))),
        subscribed().prop_map(|it| Outcome::Subscribe(Box::new(it))),
        vec(info(), 0..4).prop_map(|members| Outcome::Presence(unlike(members))),
        (publications(), position()).prop_map(|(publications, top)| {
            Outcome::History(Box::new(HistoryPage { publications, top }))
        }),
        expiry().prop_map(Outcome::Refresh),
        (0..3_usize, 0..3_usize).prop_map(|(clients, users)| {
            Outcome::PresenceStats(PresenceStats { clients, users })
        }),
        expiry().prop_map(Outcome::SubRefresh),
    ];
    prop_oneof![
        (any::<u32>(), outcome).prop_map(|(id, outcome)| Event::Reply { id, outcome: Ok(outcome) }),
        subscribed().prop_map(|it| Event::Push(channel(), Push::Subscribe(Box::new(it)))),
        expiry().prop_map(Event::Refreshed),
        Just(()).prop_map(|()| Event::Ping),
    ]
}

prop_compose! {
    fn connected()(
        client: String,
        expiry in expiry(),
        subscriptions in vec(subscribed(), 0..3),
        ping_s: u32,
    ) -> Connected {
        let name = |n: usize| ChannelName::new(&format!("\"{n}\"")).unwrap();
        let subscriptions = subscriptions.into_iter().enumerate();
        let subscriptions = subscriptions.map(|(n, it)| (name(n), it)).collect();
        Connected { client: client.into(), version: "v", expiry, subscriptions, ping_s }
    }
}

prop_compose! {
    /// In Protobuf data is never a string of its JSON, so that both are alike only without.
    fn subscribed()(
        expiry in expiry(),
        [positioned, recoverable, was_recovering, recovered]: [bool; 4],
        position in option::of(position()),
        publications in publications(),
        data in option::of(json()),
        number in option::of(1_u32..),
    ) -> Subscribed {
        Subscribed {
            expiry, positioned, recoverable, position, was_recovering, recovered, publications,
            data, delta: false, number,
        }
    }
}

fn publications() -> impl Strategy<Value = Vec<Arc<Publication>>> {
    let brings_data = |it: &Publication| it.kind() == Kind::Text;
    vec(publication().prop_filter("not who comes and goes", brings_data).prop_map(Arc::new), 0..4)
}

prop_compose! {
    /// A publication of JSON, a join or a leave.
    pub(crate) fn publication()(
        kind in prop_oneof![6 => Just(Kind::Text), 1 => Just(Kind::Join), 1 => Just(Kind::Leave)],
        data in json(),
        position in option::of(position()),
        info in option::of(info()),
        tags in btree_map(any::<String>(), any::<String>(), 0..3),
    ) -> Publication {
        let details = Details { info, tags, allows_delta: true };
        let publication = Publication::new(channel(), kind, data).with_details(details);
        match position {
            Some(position) => publication.at(position),
            None => publication,
        }
    }
}

prop_compose! {
    fn info()(
        user: String,
        client: String,
        conn_info in option::of(json()),
        chan_info in option::of(json()),
    ) -> ClientInfo {
        ClientInfo { user: user.into(), client: client.into(), conn_info, chan_info }
    }
}

/// Members of a channel have ids of their own.
fn unlike(members: Vec<ClientInfo>) -> Vec<ClientInfo> {
    let numbered = members.into_iter().enumerate();
    let named = |(n, it): (usize, ClientInfo)| ClientInfo {
        client: format!("{n}{}", it.client).into(),
        ..it
    };
    numbered.map(named).collect()
}

fn position() -> impl Strategy<Value = Position> {
    let offset = prop_oneof![0_u64..3, any::<u64>()];
    let epoch = (any::<u64>(), any::<u64>()).prop_map(|(id, branch)| Epoch { id, branch });
    (offset, epoch).prop_map(|(offset, epoch)| Position { offset, epoch })
}

fn expiry() -> impl Strategy<Value = Expiry> {
    option::of(any::<u32>()).prop_map(Expiry)
}

/// Where all of it happens.
pub(crate) fn channel() -> ChannelName {
    ChannelName::new("news:\\\"1\"").unwrap()
}
