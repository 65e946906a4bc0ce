//! One table for each right: the options that are on, who asks, and what becomes of it.

use std::time::Duration;

use super::*;
use crate::namespace::{ChannelRegex, NamespaceName};

const ANN: Asker<'_> = Asker { user: "ann", trust: Trust::Checked };
const NOBODY: Asker<'_> = Asker { user: "", trust: Trust::Checked };
const TRUSTED: Asker<'_> = Asker { user: "", trust: Trust::Insecure };

const DENIED: Result<(), ClientError> = Err(ClientError::PermissionDenied);

type Set = fn(&mut ChannelOptions);

/// Namespaces in which channels without one, and those in `xy`, have the options that are set.
fn namespaces(set: &[Set]) -> Namespaces {
    let mut options = ChannelOptions::default();
    set.iter().for_each(|set| set(&mut options));
    Namespaces::new(options.clone(), [(NamespaceName::new("xy").unwrap(), options)])
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

#[track_caller]
fn check_subscribe(
    set: &[Set],
    name: &str,
    asker: Asker<'_>,
    proof: Proof,
    expected: Result<(), ClientError>,
) {
    let outcome = subscribe(&namespaces(set), &channel(name), asker, proof).map(|_| ());
    assert_eq!(outcome, expected, "{name} by {asker:?} with {proof:?}");
}

#[test]
fn entering_is_judged_in_order() {
    let client: Set = |o| o.allow_subscribe_for_client = true;
    let anonymous: Set = |o| o.allow_subscribe_for_anonymous = true;
    let limited: Set = |o| o.allow_user_limited_channels = true;
    let letters: Set = |o| o.channel_regex = Some(ChannelRegex::new("^[a-z]+$").unwrap());
    let unknown = Err(ClientError::UnknownChannel);
    let bad = Err(ClientError::BadRequest);
    let (nothing, token) = (Proof::Nothing, Proof::Token);
    for (set, name, asker, proof, expected) in [
        // The namespace exists, whatever is proved, and the name fits.
        (&[client][..], "zz:a", ANN, token, unknown),
        (&[client], "zz:a", TRUSTED, nothing, unknown),
        (&[client, letters], "xy:9", TRUSTED, token, bad),
        (&[client, letters], "xy:nine", ANN, nothing, Ok(())),
        // Private channels take a token, whatever else is on.
        (&[client, anonymous], "$a", ANN, nothing, DENIED),
        (&[client], "$xy:a", TRUSTED, nothing, DENIED),
        (&[client, limited], "$a#ann", ANN, nothing, DENIED),
        (&[], "$a", ANN, token, Ok(())),
        (&[], "xy:a", NOBODY, token, Ok(())),
        // Some users' channels are theirs.
        (&[limited], "a#ann", ANN, nothing, Ok(())),
        (&[limited], "xy:#bob,ann", ANN, nothing, Ok(())),
        (&[limited], "a#anna", ANN, nothing, DENIED),
        (&[limited], "a#", NOBODY, nothing, DENIED),
        (&[limited, client], "a#bob", ANN, nothing, DENIED),
        (&[client], "a#bob", ANN, nothing, DENIED),
        (&[client], "a#ann", ANN, nothing, DENIED),
        (&[limited], "a#bob", ANN, token, Ok(())),
        // Else the namespace decides.
        (&[], "a", ANN, nothing, DENIED),
        (&[client], "a", ANN, nothing, Ok(())),
        (&[client], "a", NOBODY, nothing, DENIED),
        (&[anonymous], "a", NOBODY, nothing, DENIED),
        (&[client, anonymous], "a", NOBODY, nothing, Ok(())),
        // And for trials nobody does.
        (&[], "a", TRUSTED, nothing, Ok(())),
        (&[], "a#bob", TRUSTED, nothing, Ok(())),
    ] {
        check_subscribe(set, name, asker, proof, expected);
    }
}

/// What publishing, presence and history have in common.
fn check_rule(
    judge: impl Fn(&Namespaces, &ChannelName, Asker<'_>, Membership) -> Result<(), ClientError>,
    available: Set,
    [subscriber, client, anonymous]: [Set; 3],
) {
    let (inside, outside) = (Membership::Subscriber, Membership::Outsider);
    for (set, asker, membership, expected) in [
        (&[][..], ANN, inside, DENIED),
        (&[subscriber], ANN, inside, Ok(())),
        (&[subscriber], ANN, outside, DENIED),
        (&[subscriber], NOBODY, inside, DENIED),
        (&[subscriber, anonymous], NOBODY, inside, Ok(())),
        (&[subscriber, anonymous], NOBODY, outside, DENIED),
        (&[client], ANN, outside, Ok(())),
        (&[client], NOBODY, outside, DENIED),
        (&[client, anonymous], NOBODY, outside, Ok(())),
        (&[anonymous], NOBODY, inside, DENIED),
        (&[], TRUSTED, outside, Ok(())),
    ] {
        let namespaces = namespaces(&[&[available], set].concat());
        for name in ["a", "xy:a", "$a", "a#bob"] {
            let outcome = judge(&namespaces, &channel(name), asker, membership);
            assert_eq!(outcome, expected, "{name} by {asker:?}, {membership:?}");
        }
        let outcome = judge(&namespaces, &channel("zz:a"), TRUSTED, inside);
        assert_eq!(outcome, Err(ClientError::UnknownChannel));
    }
}

fn with_history(options: &mut ChannelOptions) {
    options.history_size = 1;
    options.history_ttl = Duration::from_secs(1);
}

#[test]
fn publishing_presence_and_history_follow_one_rule_each() {
    check_rule(
        |namespaces, channel, asker, membership| {
            publish(namespaces, channel, asker, membership).map(|_| ())
        },
        |_| {},
        [
            |o| o.allow_publish_for_subscriber = true,
            |o| o.allow_publish_for_client = true,
            |o| o.allow_publish_for_anonymous = true,
        ],
    );
    check_rule(
        |namespaces, channel, asker, membership| {
            presence(namespaces, channel, asker, membership).map(|_| ())
        },
        |o| o.presence = true,
        [
            |o| o.allow_presence_for_subscriber = true,
            |o| o.allow_presence_for_client = true,
            |o| o.allow_presence_for_anonymous = true,
        ],
    );
    check_rule(
        |namespaces, channel, asker, membership| {
            history(namespaces, channel, asker, membership).map(|_| ())
        },
        with_history,
        [
            |o| o.allow_history_for_subscriber = true,
            |o| o.allow_history_for_client = true,
            |o| o.allow_history_for_anonymous = true,
        ],
    );
}

#[test]
fn what_is_off_is_not_available_to_anybody() {
    let none = namespaces(&[|o| {
        o.allow_presence_for_client = true;
        o.allow_history_for_client = true;
    }]);
    let name = channel("a");
    for judge in [presence, history] {
        let outcome = judge(&none, &name, TRUSTED, Membership::Subscriber).map(|_| ());
        assert_eq!(outcome, Err(ClientError::NotAvailable));
    }
}

#[test]
fn features_are_granted_by_the_options() {
    const NONE: Features = Features { positioned: false, recoverable: false, join_leave: false };
    const ALL: Features = Features { positioned: true, recoverable: true, join_leave: true };
    const POSITIONED: Features = Features { positioned: true, ..NONE };
    const RECOVERABLE: Features = Features { recoverable: true, ..POSITIONED };
    const JOIN_LEAVE: Features = Features { join_leave: true, ..NONE };
    let history: Set = with_history;
    let joins: Set = |o| o.join_leave = true;
    for (set, asker, wanted, granted) in [
        (&[][..], TRUSTED, ALL, NONE),
        (&[history], ANN, ALL, NONE),
        (&[history, |o| o.allow_positioning = true], ANN, ALL, POSITIONED),
        (&[history, |o| o.allow_positioning = true], ANN, NONE, NONE),
        (&[history, |o| o.force_positioning = true], ANN, NONE, POSITIONED),
        (&[history, |o| o.allow_recovery = true], ANN, ALL, RECOVERABLE),
        (&[history, |o| o.allow_recovery = true], ANN, JOIN_LEAVE, NONE),
        (&[history, |o| o.force_recovery = true], ANN, NONE, RECOVERABLE),
        (&[|o| o.force_recovery = true], ANN, ALL, NONE),
        (&[history, |o| o.allow_history_for_subscriber = true], ANN, ALL, RECOVERABLE),
        (&[history, |o| o.allow_history_for_subscriber = true], NOBODY, ALL, NONE),
        (&[history, |o| o.allow_history_for_client = true], ANN, POSITIONED, POSITIONED),
        (&[joins], ANN, ALL, NONE),
        (&[joins, |o| o.allow_presence_for_subscriber = true], ANN, ALL, JOIN_LEAVE),
        (&[joins, |o| o.allow_presence_for_subscriber = true], ANN, NONE, NONE),
        (&[joins, |o| o.force_push_join_leave = true], NOBODY, NONE, JOIN_LEAVE),
        (&[|o| o.force_push_join_leave = true], ANN, ALL, NONE),
        (&[history, joins], TRUSTED, ALL, ALL),
    ] {
        let options = namespaces(set);
        let options = options.options(&channel("a")).unwrap();
        assert_eq!(features(options, asker, wanted), granted, "{options:?} wanted {wanted:?}");
    }
}

#[test]
fn plain_clients_join_and_publish_where_they_may() {
    let join: Set = |o| o.allow_plain_subscribe = true;
    let publish: Set = |o| o.allow_plain_publish = true;
    let right = |set: &[Set], name| {
        plain(&namespaces(set), &channel(name)).map(|options| options.allow_plain_publish)
    };
    assert_eq!(right(&[], "a"), Err(ClientError::PermissionDenied));
    assert_eq!(right(&[publish], "a"), Err(ClientError::PermissionDenied));
    assert_eq!(right(&[join], "xy:a"), Ok(false));
    assert_eq!(right(&[join, publish], "xy:a"), Ok(true));
    assert_eq!(right(&[join, publish], "zz:a"), Err(ClientError::UnknownChannel));
    let letters: Set = |o| o.channel_regex = Some(ChannelRegex::new("^[a-z]+$").unwrap());
    assert_eq!(right(&[join, publish, letters], "9"), Err(ClientError::BadRequest));
}
