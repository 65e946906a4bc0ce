//! Entry: whether a client may have the subscription that it asks for, and how it will be.

use bytes::Bytes;
use dunlin_core::{
    auth::{TokenError, claims::Overrides},
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

use super::{
    Session, Side, Subscription, TokenMark,
    commands::{Refusal, channel_name},
    subscription::{Answer, Joining, State, overridden},
};
use crate::shard::Shard;

/// What a subscription is to become.
pub(super) struct Wanted {
    pub(super) subscription: Subscription,
    pub(super) retention: Option<Retention>,
    pub(super) resume: Option<Resume>,
}

impl Shard {
    /// What a client gets that asks for a subscription.
    pub(super) fn judge(
        &self,
        session: &Session,
        id: u32,
        asked: command::Subscribe,
    ) -> Result<Wanted, Refusal> {
        if asked.channel.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        let channel = channel_name(&asked.channel)?;
        if asked.kind != 0 {
            return Err(ClientError::PermissionDenied.into());
        }
        if session.subscription(&channel).is_some() {
            return Err(ClientError::AlreadySubscribed.into());
        }
        if session.subscriptions.len() >= self.policy().channels_max {
            return Err(ClientError::LimitExceeded.into());
        }
        rights::known(self.node().namespaces(), &channel)?;
        let entry = self.entry(session, &channel, &asked.token)?;
        let asker = session.asker(self.policy());
        let options = rights::subscribe(self.node().namespaces(), &channel, asker, entry.proof)?;
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
                && session.encoding == Encoding::Json,
            wants_delta,
            filter: filter.map(Into::into),
            ..Joining::new(Answer::Reply(id))
        };
        let features = rights::features(&options, asker, features);
        let resume = asked.resume.filter(|_| features.recoverable);
        Ok(Wanted {
            retention: options.retention(),
            resume: resume.map(|resume| self.resume(&options, &resume)),
            subscription: Subscription {
                channel,
                state: State::Joining(Box::new(joining)),
                side: Side::Client,
                features,
                is_announced: options.join_leave,
                is_present: options.presence,
                info: entry.info,
                token: entry.token,
                expire_at: entry.expire_at,
            },
        })
    }

    /// What a client brings to enter a channel.
    fn entry(
        &self,
        session: &Session,
        channel: &ChannelName,
        token: &str,
    ) -> Result<Entry, Refusal> {
        if token.is_empty() {
            return Ok(Entry::default());
        }
        let claims = match self.policy().subscription(token) {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(ClientError::TokenExpired.into()),
            // The key may be there when the client asks again.
            Err(TokenError::UnknownKey) => return Err(ClientError::Internal.into()),
            Err(_) => return Err(ClientError::PermissionDenied.into()),
        };
        if claims.channel != *channel || claims.user != session.identity.user {
            tracing::debug!(%channel, "subscription token refused: not for this user and channel");
            return Err(Disconnect::InvalidToken.into());
        }
        Ok(Entry {
            proof: Proof::Token,
            overrides: claims.overrides,
            info: claims.info,
            token: Some(Box::new(TokenMark { id: claims.token_id, issued_at: claims.issued_at })),
            expire_at: claims.expire_at,
        })
    }

    /// Where a subscriber wants to go on from, as the stream understands it.
    pub(super) fn resume(&self, options: &ChannelOptions, asked: &command::Resume) -> Resume {
        // A text that is no epoch of ours is of a past that nobody remembers.
        let foreign = || Some(Epoch { id: 0, branch: 0 });
        let epoch = match asked.epoch.as_str() {
            "" => None,
            text => text.parse().ok().or_else(foreign),
        };
        Resume {
            since: Since { offset: asked.offset, epoch },
            limit: self.policy().recovery_max,
            is_cache: options.force_recovery_mode == RecoveryMode::Cache,
        }
    }
}

/// What a client brings to enter a channel.
struct Entry {
    proof: Proof,
    overrides: Overrides,
    info: Option<Bytes>,
    token: Option<Box<TokenMark>>,
    expire_at: Option<u64>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            proof: Proof::Nothing,
            overrides: Overrides::default(),
            info: None,
            token: None,
            expire_at: None,
        }
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
