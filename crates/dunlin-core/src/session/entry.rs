//! Entry: whether a client may have the subscription that it asks for, and how it will be.

use bytes::Bytes;

use super::{
    Effect, Refusal, Rules, Session, Side, Subscription, TokenMark, channel_name,
    effect::Step,
    subscription::{AnswerTo, Joining, State, overridden},
};
use crate::{
    auth::{
        TokenError,
        claims::{ConnectionClaims, Overrides, SubscriptionClaims},
    },
    broker::Since,
    channel::ChannelName,
    command,
    error::{ClientError, Disconnect},
    filter::{FilterNode, TagsFilter},
    namespace::{ChannelOptions, DeltaType, RecoveryMode, Retention},
    position::Epoch,
    publication::Encoding,
    rights::{self, Features, Proof},
    stream::Resume,
};

/// How many subscription tokens that are none end a connection.
const BAD_TOKENS_MAX: u8 = 16;

/// What a subscription is to become.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) subscription: Subscription,
    pub(super) retention: Option<Retention>,
    pub(super) resume: Option<Resume>,
}

impl Wanted {
    /// The same, with a note of whether the token names it. A user's own channel needs no token.
    pub(super) fn named_by(mut self, claims: &ConnectionClaims, rules: &Rules) -> Self {
        let channel = &self.subscription.channel;
        let is_own = rules.personal_channel(&claims.user).as_ref() == Some(channel);
        self.subscription.is_named_by_token = claims.subscriptions.contains_key(channel) && !is_own;
        self
    }
}

impl Session {
    /// Whether there can be the channel that a client wants to enter, and room for it.
    pub(super) fn may_ask_for(
        &self,
        asked: &command::Subscribe,
        step: &Step<'_>,
    ) -> Result<ChannelName, Refusal> {
        if asked.channel.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        let channel = channel_name(&asked.channel)?;
        if asked.kind != 0 {
            return Err(ClientError::PermissionDenied.into());
        }
        if self.subscription(&channel).is_some() {
            return Err(ClientError::AlreadySubscribed.into());
        }
        if self.subscriptions.len() >= step.context.rules.channels_max {
            return Err(ClientError::LimitExceeded.into());
        }
        rights::known(step.context.namespaces, &channel)?;
        Ok(channel)
    }

    /// What a client gets that asks for a subscription and brings `entry`.
    pub(super) fn judge(
        &self,
        id: u32,
        channel: ChannelName,
        asked: command::Subscribe,
        entry: Entry,
        step: &Step<'_>,
    ) -> Result<Wanted, Refusal> {
        let rules = step.context.rules;
        let asker = self.asker(rules);
        let options = rights::subscribe(step.context.namespaces, &channel, asker, entry.proof)?;
        let options = overridden(options, entry.overrides);
        let features = Features {
            positioned: asked.positioned,
            recoverable: asked.recoverable,
            join_leave: asked.join_leave,
        };
        let filter = filter(&options, asked.filter)?;
        let wants_delta = delta(&options, &asked.delta)? && filter.is_none();
        let joining = Joining {
            was_recovering: asked.resume.is_some(),
            rejects_unrecovered: asked.flag & command::Subscribe::REJECT_UNRECOVERED != 0,
            wants_number: asked.flag & command::Subscribe::COMPACT != 0
                // The JavaScript SDK asks for it and then does not find the channel of a number
                // that came as Protobuf.
                && self.encoding == Encoding::Json,
            wants_delta,
            filter: filter.map(Into::into),
            ..Joining::new(AnswerTo::Command(id))
        };
        let features = rights::features(&options, asker, features);
        let asked = asked.resume.filter(|_| features.recoverable);
        Ok(Wanted {
            retention: options.retention(),
            resume: asked.map(|asked| resume(&options, &asked, rules)),
            subscription: Subscription {
                channel,
                state: State::Joining(Box::new(joining)),
                side: Side::Client,
                is_named_by_token: false,
                features,
                is_announced: options.join_leave,
                is_present: options.presence,
                info: entry.info,
                token: entry.token,
                expire_at: entry.expire_at,
            },
        })
    }

    /// What a subscription token is worth for a channel.
    pub(super) fn entry(
        &mut self,
        channel: &ChannelName,
        claims: Result<Box<SubscriptionClaims>, TokenError>,
        step: &mut Step<'_>,
    ) -> Result<Entry, Refusal> {
        let claims = match claims {
            Ok(claims) => claims,
            Err(TokenError::Expired | TokenError::NotYet) => {
                return Err(ClientError::TokenExpired.into());
            }
            // The key may be there when the client asks again.
            Err(TokenError::UnknownKey) => return Err(ClientError::Internal.into()),
            Err(TokenError::NotChecked) => return Err(ClientError::TooManyRequests.into()),
            Err(TokenError::Invalid(_) | TokenError::TooLarge) => {
                self.bad_tokens += 1;
                return Err(match self.bad_tokens {
                    // Who goes on and on makes others wait for checks.
                    BAD_TOKENS_MAX.. => Disconnect::InvalidToken.into(),
                    _ => ClientError::PermissionDenied.into(),
                });
            }
        };
        self.check_holder(channel, &claims, step)?;
        Ok(Entry {
            proof: Proof::Token,
            overrides: claims.overrides,
            info: claims.info,
            token: Some(Box::new(TokenMark { id: claims.token_id, issued_at: claims.issued_at })),
            expire_at: claims.expire_at,
        })
    }

    /// Whether a subscription token is for this user and this channel.
    pub(super) fn check_holder(
        &self,
        channel: &ChannelName,
        claims: &SubscriptionClaims,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        if claims.channel == *channel && claims.user == self.identity.user {
            return Ok(());
        }
        let why = "subscription token refused: not for this user and channel";
        step.push(Effect::Note(why));
        Err(Disconnect::InvalidToken)
    }
}

/// What a client brings to enter a channel.
#[derive(Debug)]
pub(super) struct Entry {
    proof: Proof,
    overrides: Overrides,
    info: Option<Bytes>,
    token: Option<Box<TokenMark>>,
    expire_at: Option<u64>,
}

impl Entry {
    /// It brings nothing.
    pub(super) fn none() -> Self {
        Self {
            proof: Proof::Nothing,
            overrides: Overrides::default(),
            info: None,
            token: None,
            expire_at: None,
        }
    }
}

/// Where a subscriber wants to go on from, as the stream understands it.
pub(super) fn resume(options: &ChannelOptions, asked: &command::Resume, rules: &Rules) -> Resume {
    // A text that is no epoch of ours is of a past that nobody remembers.
    let foreign = || Some(Epoch { id: 0, branch: 0 });
    let epoch = match asked.epoch.as_str() {
        "" => None,
        text => text.parse().ok().or_else(foreign),
    };
    Resume {
        since: Since { offset: asked.offset, epoch },
        limit: rules.recovery_max,
        is_cache: options.force_recovery_mode == RecoveryMode::Cache,
    }
}

fn filter(
    options: &ChannelOptions,
    asked: Option<FilterNode>,
) -> Result<Option<TagsFilter>, ClientError> {
    let Some(node) = asked else { return Ok(None) };
    if !options.allow_tags_filter {
        return Err(ClientError::PermissionDenied);
    }
    TagsFilter::new(node).map(Some).map_err(|_| ClientError::BadRequest)
}

fn delta(options: &ChannelOptions, asked: &str) -> Result<bool, Disconnect> {
    match asked {
        "" => Ok(false),
        "fossil" => Ok(options.allowed_delta_types.contains(&DeltaType::Fossil)),
        _ => Err(Disconnect::BadRequest),
    }
}
