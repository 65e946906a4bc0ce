//! Publishing: to one channel, or the same to many.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use dunlin_core::{
    broker::{Publish, ReplyTo, Terms},
    channel::ChannelName,
    error::{ClientError, PublishOutcome},
    limits::{Deed, Scope},
    publication::{Details, Kind, Publication},
};
use tokio::sync::oneshot;

use super::{
    Api,
    failure::Failure,
    fields,
    reply::{Answer, Published, Reply, Wrapped},
};

/// Publications of one broadcast that are on their way at once.
const IN_FLIGHT_MAX: usize = 1024;

/// What is published, wherever to.
struct Post {
    kind: Kind,
    data: Bytes,
    details: Details,
    terms: Option<Box<Terms>>,
    skip_history: bool,
}

impl Post {
    fn new(fields: fields::Publish) -> Result<Self, Failure> {
        let (kind, data) = match (fields.b64data, fields.data) {
            (Some(base64), data) if !base64.is_empty() || data.is_none() => {
                // Any bytes may be meant, so it is binary whatever it holds.
                let data = BASE64_STANDARD.decode(base64);
                let data = data.map_err(|why| Failure::of_field("b64data", why))?;
                (Kind::Binary, Bytes::from(data))
            }
            (_, Some(json)) => (Kind::Text, Bytes::from(Box::<str>::from(json).into_string())),
            _ => return Err(Failure::of_field("data", "it is missing, and so is b64data")),
        };
        let terms = Terms {
            idempotency_key: fields.idempotency_key.unwrap_or_default(),
            version: fields.version.unwrap_or_default(),
            version_epoch: fields.version_epoch.unwrap_or_default(),
        };
        Ok(Self {
            kind,
            data,
            details: Details {
                info: None,
                tags: fields.tags.unwrap_or_default(),
                allows_delta: fields.delta.unwrap_or_default(),
            },
            terms: (terms != Terms::default()).then(|| Box::new(terms)),
            skip_history: fields.skip_history.unwrap_or_default(),
        })
    }
}

impl Api {
    pub(super) async fn publish(&self, mut fields: fields::Publish) -> Reply {
        let channel = fields.channel.take();
        let post = Post::new(fields)?;
        let sent = self.send("channel", channel.as_deref().unwrap_or_default(), &post).await?;
        Ok(Answer::Published(outcome(sent).await?))
    }

    /// Publishes side by side; the responses are in the order of the channels.
    pub(super) async fn broadcast(&self, mut fields: fields::Publish) -> Reply {
        let channels = fields.channels.take().unwrap_or_default();
        if channels.is_empty() {
            return Err(Failure::of_field("channels", "there is none"));
        }
        let post = Post::new(fields)?;
        let mut responses = Vec::with_capacity(channels.len());
        for channels in channels.chunks(IN_FLIGHT_MAX) {
            let mut in_flight = Vec::with_capacity(channels.len());
            for channel in channels {
                in_flight.push(self.send("channels", channel, &post).await);
            }
            for sent in in_flight {
                let response = match sent {
                    Ok(sent) => outcome(sent).await,
                    Err(failure) => Err(failure),
                };
                responses.push(Wrapped(response.map_err(|failure| self.explained(failure))));
            }
        }
        Ok(Answer::Broadcast { responses })
    }

    /// Hands a publication to the broker, and returns as soon as that takes one more.
    async fn send(
        &self,
        field: &'static str,
        channel: &str,
        post: &Post,
    ) -> Result<oneshot::Receiver<PublishOutcome>, Failure> {
        let channel = ChannelName::new(channel);
        let channel = channel.map_err(|why| Failure::of_field(field, why))?;
        let options = self.options(&channel)?;
        if post.data.is_empty() && !options.allow_empty_data {
            let why = "it is empty, which allow_empty_data of the namespace does not allow";
            return Err(Failure::of_field("b64data", why));
        }
        if let Some(rate) = options.publications_per_second
            && !self.paces.may(&channel, rate)
        {
            self.metrics.count_limited(Deed::Publications.label(), Scope::Channel);
            let why = format_args!("{channel} has as many publications per second as it may have");
            return Err(Failure::new(ClientError::TooManyRequests, why));
        }
        let retention = options.retention().filter(|_| !post.skip_history);
        let mut details = post.details.clone();
        details.allows_delta |= options.delta_publish;
        let publication =
            Publication::new(channel, post.kind, post.data.clone()).with_details(details);
        let publish = Publish { publication, retention, terms: post.terms.clone() };
        let (reply, answered) = oneshot::channel();
        if let Some(room) = self.node.publish(publish, ReplyTo::Caller(reply)) {
            room.await;
        }
        Ok(answered)
    }
}

async fn outcome(sent: oneshot::Receiver<PublishOutcome>) -> Result<Published, Failure> {
    // The broker answers every publish; one that died has no answer for anybody.
    let outcome = sent.await.map_err(|_| ClientError::Internal)?;
    Ok(outcome?.into())
}
