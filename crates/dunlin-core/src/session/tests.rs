//! Sessions by random histories: the books of the model balance whatever happens, in any order.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::model::{Act, Model};
use crate::{
    command::{Command, Connect, History, Request, Resume, Subscribe},
    publication::Encoding,
};

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(&["a", "$a", "all:a", "$all:b", "none:a", ""][..]).prop_map(str::to_owned)
}

/// A token is the name of its channel, mostly the right one.
fn subscribe() -> impl Strategy<Value = Request> {
    (name(), any::<bool>(), any::<bool>(), 0..4_i64, any::<bool>()).prop_map(
        |(channel, brings_token, resumes, flag, join_leave)| {
            let token = if brings_token { channel.clone() } else { String::new() };
            let resume = resumes.then(Resume::default);
            let (positioned, recoverable) = (resumes, resumes);
            Request::Subscribe(Box::new(Subscribe {
                channel,
                token,
                resume,
                positioned,
                recoverable,
                join_leave,
                flag,
                ..Subscribe::default()
            }))
        },
    )
}

fn payload() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["{}", "null", ""][..])
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        6 => subscribe(),
        3 => name().prop_map(Request::Unsubscribe),
        4 => (name(), payload())
            .prop_map(|(channel, data)| Request::Publish { channel, data: Bytes::from(data) }),
        1 => name().prop_map(Request::Presence),
        1 => name().prop_map(Request::PresenceStats),
        2 => name().prop_map(|channel| {
            Request::History(Box::new(History { channel, limit: 2, ..History::default() }))
        }),
        3 => Just(Request::Refresh("t".to_owned())),
        2 => name().prop_map(|channel| Request::SubRefresh { token: channel.clone(), channel }),
        1 => Just(Request::Rpc { method: String::new(), data: Bytes::new() }),
    ]
}

fn command(request: impl Strategy<Value = Request>) -> impl Strategy<Value = Act> {
    request.prop_map(|request| Act::Command(Command { id: 1, request }))
}

fn connect() -> impl Strategy<Value = Act> {
    let token = prop::sample::select(&["", "t"][..]);
    let resume = prop::option::of(Just(Resume::default()));
    command((token, vec((name(), resume), 0..4)).prop_map(|(token, channels)| {
        Request::Connect(Box::new(Connect { token: token.to_owned(), channels }))
    }))
}

fn act() -> impl Strategy<Value = Act> {
    // Mostly well, so that histories are long.
    let how = prop_oneof![5 => 0..5_u8, 1 => 5..8_u8];
    prop_oneof![
        10 => command(request()),
        6 => (any::<u8>(), how).prop_map(|(which, how)| Act::Answer(which, how)),
        1 => any::<u8>().prop_map(Act::AnswerAgain),
        6 => (any::<u8>(), any::<bool>()).prop_map(|(which, well)| Act::Place(which, well)),
        1 => any::<u8>().prop_map(Act::NoPlace),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, well)| Act::Published(which, well)),
        1 => (any::<u8>(), 0..2_u8).prop_map(|(which, how)| Act::Turned(which, how)),
        2 => (0..5_u8, any::<u8>()).prop_map(|(what, which)| Act::Order(what, which)),
        1 => (1..20_u8).prop_map(Act::Revoked),
        1 => (0..20_u8).prop_map(Act::Wait),
        // What ends nearly every history.
        1 => prop_oneof![
            connect(),
            Just(Act::Turned(0, 2)),
            Just(Act::Order(5, 0)),
            Just(Act::Revoked(0)),
            Just(Act::Command(Command { id: 0, request: Request::Unknown })),
            Just(Act::Command(Command { id: 1, request: Request::Pong })),
        ],
    ]
}

/// What a world answers that has a connection token name so many channels.
fn names(channels: u8) -> Act {
    Act::Answer(0, channels)
}

#[test]
fn a_token_takes_back_what_the_one_before_it_ended() {
    let refresh = || Act::Command(Command { id: 1, request: Request::Refresh("t".to_owned()) });
    let token = Connect { token: "t".to_owned(), ..Connect::default() };
    let mut model = Model::new(Encoding::Json, false);
    let connect = Request::Connect(Box::new(token));
    model.act(Act::Command(Command { id: 1, request: connect }));
    for act in [names(0), Act::Answer(0, 0)] {
        model.act(act);
    }
    // The place does not come before the third token names the channel again.
    for channels in [2, 0, 2] {
        model.act(refresh());
        model.act(names(channels));
    }
    model.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance(
        first in connect(),
        how in 0..8_u8,
        acts in vec(act(), 0..80),
        is_json in any::<bool>(),
        allows_anonymous in any::<bool>(),
    ) {
        let encoding = if is_json { Encoding::Json } else { Encoding::Protobuf };
        let mut model = Model::new(encoding, allows_anonymous);
        model.act(first);
        model.act(Act::Answer(0, how));
        model.act(Act::Answer(0, how));
        for act in acts {
            model.act(act);
        }
        model.finish();
    }
}
