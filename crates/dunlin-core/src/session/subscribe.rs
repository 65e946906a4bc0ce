//! Subscriptions, from what a client asks for to a place in the channel's order.
//!
//! The place comes as a notice in the shard's inbox, and only then is the client in the hub: what
//! comes before the notice is in its snapshot, what comes behind it is pushed.

use std::{mem, sync::Arc};

use super::{
    Done, Effect, Inquiry, Join, Place, Session, Side, Subscription,
    asking::Next,
    effect::Step,
    entry::{Entry, Wanted},
    subscription::{AnswerTo, Joining, State},
};
use crate::{
    auth::{TokenError, claims::SubscriptionClaims},
    channel::ChannelName,
    command,
    error::{ClientError, Disconnect},
    event::{Event, Outcome, Push, Subscribed},
    hub::Manner,
    inbox::Joined,
    presence::Farewell,
    publication::{ClientInfo, Kind, Publication},
    rights::Features,
};

impl Session {
    /// Subscribes a client that asks for it.
    pub(super) fn subscribe(
        &mut self,
        id: u32,
        mut asked: command::Subscribe,
        step: &mut Step<'_>,
    ) -> Done {
        let channel = self.may_ask_for(&asked, step)?;
        if asked.token.is_empty() {
            let wanted = self.judge(id, channel, asked, Entry::none(), step)?;
            self.join(wanted, step);
            return Ok(());
        }
        let token = Inquiry::SubscriptionToken(mem::take(&mut asked.token));
        self.ask(token, Next::Subscribe(Box::new(asked)), step)?;
        self.add_subscription(Subscription::asked_for(channel, id));
        Ok(())
    }

    /// Goes on with what the token for a subscription says.
    pub(super) fn subscribe_with(
        &mut self,
        asked: command::Subscribe,
        claims: Result<Box<SubscriptionClaims>, TokenError>,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        let Ok(channel) = ChannelName::new(&asked.channel) else { return Ok(()) };
        let Some(asked_for) = self.remove_subscription(&channel) else { return Ok(()) };
        let State::Joining(before) = asked_for.state else { return Ok(()) };
        let AnswerTo::Command(id) = before.answer_to else { return Ok(()) };
        let entry = self.entry(&channel, claims, step);
        match entry.and_then(|entry| self.judge(id, channel, asked, entry, step)) {
            Ok(mut wanted) => {
                if let State::Joining(joining) = &mut wanted.subscription.state {
                    joining.ended = before.ended;
                    joining.waiting = before.waiting;
                }
                self.join(wanted, step);
                Ok(())
            }
            Err(refusal) => {
                Self::conclude(id, Err(refusal), step)?;
                self.take_waiting(before.waiting, step)
            }
        }
    }

    /// Has a place asked for.
    pub(super) fn join(&mut self, wanted: Wanted, step: &mut Step<'_>) {
        let Wanted { subscription, retention, resume } = wanted;
        let presence = self.shown(&subscription);
        let channel = subscription.channel.clone();
        step.push(Effect::Join(Box::new(Join { channel, retention, resume, presence })));
        self.add_subscription(subscription);
    }

    /// What presence shows of a subscriber, if anything.
    pub(super) fn shown(&self, subscription: &Subscription) -> Option<(ClientInfo, Farewell)> {
        let shown = || (self.info(subscription.info.clone()), subscription.farewell());
        subscription.is_present.then(shown)
    }

    /// How the client is served that a place has come for; none when it does not want it, or not
    /// this one.
    #[must_use]
    pub fn manner(&self, joined: &Joined, is_deflated: bool) -> Option<Manner> {
        let subscription = self.subscription(&joined.channel)?;
        let State::Joining(joining) = &subscription.state else { return None };
        let is_lost = joining.was_recovering && !joined.snapshot.recovered;
        let hears_joins = subscription.features.join_leave;
        let manner = || joining.manner(self.encoding, is_deflated, joined.number, hears_joins);
        (!(is_lost && joining.rejects_unrecovered)).then(manner)
    }

    /// A place has come: tells whom it concerns.
    pub(super) fn stand(
        &mut self,
        joined: Joined,
        place: Option<Place>,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        let Joined { channel, number, snapshot, .. } = joined;
        let Some(Place { subscription: id, manner }) = place else {
            return self.not_joined(&channel, ClientError::UnrecoverablePosition, step);
        };
        let is_joining = |s: &&mut Subscription| matches!(s.state, State::Joining(_));
        let Some(subscription) = self.subscription_mut(&channel).filter(is_joining) else {
            step.push(Effect::Leave(id));
            return Ok(());
        };
        let state = mem::replace(&mut subscription.state, State::Standing(id));
        let State::Joining(joining) = state else { return Ok(()) };
        let features = subscription.features;
        let subscribed = Subscribed {
            expiry: step.context.expiry(subscription.expire_at),
            positioned: features.positioned,
            recoverable: features.recoverable,
            position: snapshot.position.filter(|_| features.positioned),
            was_recovering: joining.was_recovering,
            recovered: snapshot.recovered,
            publications: wanted(snapshot.publications, &manner),
            data: joining.data,
            delta: joining.wants_delta,
            number: joining.wants_number.then_some(number),
        };
        let chan_info = subscription.is_announced.then(|| subscription.info.clone());
        self.set_wake(step);
        if joining.answer_to == AnswerTo::Connect {
            self.connect_subscribed(channel.clone(), subscribed, step)?;
        } else {
            tell_subscribed(&channel, joining.answer_to, subscribed, step);
            if let Some(chan_info) = chan_info {
                let info = self.info(chan_info);
                step.push(Effect::Announce(channel.clone(), Kind::Join, info));
            }
        }
        if let Some(why) = joining.ended {
            self.unsubscribe(&channel, why, step);
        }
        self.take_waiting(joining.waiting, step)
    }

    /// A subscription could not be made.
    pub(super) fn not_joined(
        &mut self,
        channel: &ChannelName,
        error: ClientError,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        let subscription = self.subscription(channel);
        // Its place may have come in the last moment.
        if !subscription.is_some_and(|s| matches!(s.state, State::Joining(_))) {
            return Ok(());
        }
        let Some(subscription) = self.remove_subscription(channel) else { return Ok(()) };
        self.disappear(&subscription, step);
        let State::Joining(joining) = subscription.state else { return Ok(()) };
        match joining.answer_to {
            AnswerTo::Command(id) => step.reply(id, Err(error)),
            AnswerTo::Connect => return self.refuse_connect(error, step),
            // Its client comes again, by the same token, as long as it takes.
            AnswerTo::Nobody if subscription.is_named_by_token && joining.ended.is_none() => {
                return Err(Disconnect::Internal);
            }
            // The application asked, and the client knows nothing of it.
            AnswerTo::Nobody => {}
        }
        self.take_waiting(joining.waiting, step)
    }
}

impl Subscription {
    /// One whose right is still to be found out.
    fn asked_for(channel: ChannelName, command: u32) -> Self {
        Self {
            channel,
            side: Side::Client,
            is_named_by_token: false,
            state: State::Joining(Box::new(Joining::new(AnswerTo::Command(command)))),
            features: Features::default(),
            is_announced: false,
            is_present: false,
            info: None,
            token: None,
            expire_at: None,
        }
    }
}

fn tell_subscribed(
    channel: &ChannelName,
    answer_to: AnswerTo,
    mut subscribed: Subscribed,
    step: &mut Step<'_>,
) {
    if let AnswerTo::Command(id) = answer_to {
        return step.reply(id, Ok(Outcome::Subscribe(Box::new(subscribed))));
    }
    // The push has no place for them.
    let missed = mem::take(&mut subscribed.publications);
    let push = Push::Subscribe(Box::new(subscribed));
    step.tell(Event::Push(channel.clone(), push));
    for publication in missed {
        step.tell(Event::Missed(publication));
    }
}

/// What of its snapshot a subscriber gets: as of all that follows, what it can read and picks.
fn wanted(mut publications: Vec<Arc<Publication>>, manner: &Manner) -> Vec<Arc<Publication>> {
    publications.retain(|publication| manner.wants(publication));
    publications
}
