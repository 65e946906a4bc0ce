//! What a client's commands cause, counted: for itself, its user and its address. What is too much
//! is refused, and who does not stop at that is closed, such that it may come again.

use std::time::Instant;

use super::{Done, Effect, Session, effect::Step};
use crate::{
    channel::ChannelName,
    command::Request,
    error::{ClientError, Disconnect},
    limits::{Deed, Deeds, Scope},
};

/// What a client has caused.
#[derive(Debug)]
pub(super) struct Metering {
    since: Instant,
    deeds: Deeds,
    /// By how many more of its commands were refused than not.
    refused: u16,
}

/// By how many more commands may be refused than not before the client is closed.
const REFUSED_MAX: u16 = 256;

impl Session {
    /// Counts what a command causes.
    ///
    /// # Errors
    /// When that is too much.
    pub(super) fn meter(&mut self, request: &Request, step: &mut Step<'_>) -> Done {
        match request {
            Request::Publish { channel, .. } => {
                self.count(Deed::Publications, 1, step)?;
                let subscribers = ChannelName::new(channel)
                    .map_or(0, |channel| step.context.meter.subscribers(&channel));
                self.count(Deed::Deliveries, subscribers, step)?;
            }
            Request::Subscribe(subscribe) => {
                self.count(Deed::Subscribes, 1, step)?;
                if subscribe.resume.is_some() {
                    self.count(Deed::Questions, 1, step)?;
                }
            }
            Request::Presence(_) | Request::PresenceStats(_) | Request::History(_) => {
                self.count(Deed::Questions, 1, step)?;
            }
            // The others cause nothing that a message does not.
            _ => return Ok(()),
        }
        if let Some(metering) = &mut self.metering {
            metering.refused = metering.refused.saturating_sub(1);
        }
        Ok(())
    }

    fn count(&mut self, deed: Deed, count: u32, step: &mut Step<'_>) -> Done {
        let (rules, clock) = (step.context.rules, step.context.clock);
        let metering = self.metering.get_or_insert_with(|| {
            let (since, deeds) = (clock.now(), Deeds::default());
            Box::new(Metering { since, deeds, refused: 0 })
        });
        let now_ms = clock.now().saturating_duration_since(metering.since).as_millis() as u64;
        let limited = match metering.deeds.may(&rules.rates, deed, count, now_ms) {
            true => step.context.meter.share(&self.identity.user, deed, count).err(),
            false => Some(Scope::Connection),
        };
        let Some(scope) = limited else { return Ok(()) };
        metering.refused += 1;
        step.push(Effect::Limited(deed, scope));
        match metering.refused {
            REFUSED_MAX.. => Err(Disconnect::TooManyRequests.into()),
            _ => Err(ClientError::TooManyRequests.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc, time::Duration};

    use bytes::Bytes;

    use super::*;
    use crate::{
        command::{Command, History, Resume, Subscribe},
        event::Event,
        limits::{Rate, Rates},
        namespace::{ChannelOptions, Namespaces},
        publication::Encoding,
        rights::Trust,
        session::{Answer, Clock, Context, Effects, Input, Meter, Rules},
    };

    /// A client in a world where it may do everything, and each deed ten times at once and once a
    /// second.
    struct World {
        session: Session,
        rules: Rules,
        namespaces: Namespaces,
        around: Around,
    }

    struct Around {
        began_at: Instant,
        now: Cell<Duration>,
        subscribers: u32,
        shared: Cell<Result<(), Scope>>,
    }

    impl Clock for Around {
        fn now(&self) -> Instant {
            self.began_at + self.now.get()
        }

        fn unix(&self) -> u64 {
            self.now.get().as_secs()
        }
    }

    impl Meter for Around {
        fn subscribers(&self, _: &ChannelName) -> u32 {
            self.subscribers
        }

        fn share(&self, _: &Arc<str>, _: Deed, _: u32) -> Result<(), Scope> {
            self.shared.get()
        }

        fn may_publish(&self, _: &ChannelName, rate: Rate) -> bool {
            u64::from(rate.per_second) > self.unix()
        }
    }

    impl World {
        fn new() -> Self {
            let rules = Rules {
                trust: Trust::Insecure,
                allows_anonymous: true,
                ping_s: 25,
                connect_within: Duration::from_secs(15),
                connection_grace: Duration::from_secs(25),
                subscription_grace: Duration::from_secs(25),
                channels_max: 1000,
                history_max: 10,
                recovery_max: 10,
                rates: Rates::new(|_| Some(Rate { per_second: 1, burst: 10 })),
                is_metered: true,
                personal_namespace: None,
            };
            let around = Around {
                began_at: Instant::now(),
                now: Cell::default(),
                subscribers: 0,
                shared: Cell::new(Ok(())),
            };
            let connect_by = around.now() + rules.connect_within;
            let session = Session::new(Encoding::Json, false, connect_by);
            let mut world =
                Self { session, rules, namespaces: Namespaces::new(kept(), []), around };
            let effects = world.command(Request::Connect(Box::default()));
            let [Effect::Ask(ticket, _)] = &*effects else { panic!("{effects:?}") };
            world.handle(Input::Answer(*ticket, Answer::Admission(Some("c".into()))));
            assert!(world.session.is_connected());
            world
        }

        fn handle(&mut self, input: Input<'_>) -> Effects {
            let mut effects = Vec::new();
            let (rules, namespaces, around) = (&self.rules, &self.namespaces, &self.around);
            let context = Context { rules, namespaces, clock: around, meter: around };
            self.session.handle(input, &context, &mut effects);
            effects
        }

        fn command(&mut self, request: Request) -> Effects {
            self.handle(Input::Command(Command { id: 7, request }))
        }

        /// Whether it was taken; if not, it was refused as the protocol has it, and counted.
        fn may(&mut self, request: Request, deed: Deed, scope: Scope) -> bool {
            let effects = self.command(request);
            let limited = effects.iter().any(|effect| matches!(effect, Effect::Limited(..)));
            if limited {
                let [Effect::Limited(what, whose), Effect::Tell(Event::Reply { id: 7, outcome })] =
                    &*effects
                else {
                    panic!("{effects:?}");
                };
                assert_eq!((*what, *whose), (deed, scope));
                assert_eq!(outcome.as_ref().err(), Some(&ClientError::TooManyRequests));
            }
            !limited
        }

        fn taken(&mut self, request: impl Fn(u32) -> Request, deed: Deed) -> usize {
            (0..20).filter(|number| self.may(request(*number), deed, Scope::Connection)).count()
        }
    }

    fn kept() -> ChannelOptions {
        ChannelOptions {
            history_size: 1,
            history_ttl: Duration::from_secs(1),
            allow_recovery: true,
            presence: true,
            ..ChannelOptions::default()
        }
    }

    fn publish(_: u32) -> Request {
        Request::Publish { channel: "a".to_owned(), data: Bytes::from_static(b"1") }
    }

    fn subscribe(channel: String, resume: Option<Resume>) -> Request {
        let recoverable = resume.is_some();
        Request::Subscribe(Box::new(Subscribe {
            channel,
            resume,
            recoverable,
            ..Subscribe::default()
        }))
    }

    #[test]
    fn each_deed_has_its_burst_and_comes_back_with_time() {
        let mut world = World::new();
        assert_eq!(world.taken(publish, Deed::Publications), 10);
        let history = |_| {
            Request::History(Box::new(History { channel: "a".to_owned(), ..History::default() }))
        };
        assert_eq!(world.taken(history, Deed::Questions), 10);
        let presence = |_| Request::Presence("a".to_owned());
        let stats = |_| Request::PresenceStats("a".to_owned());
        assert_eq!(world.taken(presence, Deed::Questions), 0);
        assert_eq!(world.taken(stats, Deed::Questions), 0);
        let anew = |number| subscribe(format!("n{number}"), None);
        assert_eq!(world.taken(anew, Deed::Subscribes), 10);
        world.around.now.set(Duration::from_secs(3));
        assert_eq!(world.taken(publish, Deed::Publications), 3);
        assert_eq!(world.taken(history, Deed::Questions), 3);
        // What bounds nothing is refused to nobody.
        let unsubscribe = |number| Request::Unsubscribe(format!("n{number}"));
        assert_eq!(world.taken(unsubscribe, Deed::Subscribes), 20);
    }

    #[test]
    fn a_recovery_is_a_question_too() {
        let mut world = World::new();
        let presence = |_| Request::Presence("a".to_owned());
        assert_eq!(world.taken(presence, Deed::Questions), 10);
        let back = subscribe("b".to_owned(), Some(Resume::default()));
        assert!(!world.may(back, Deed::Questions, Scope::Connection));
        assert!(world.may(subscribe("b".to_owned(), None), Deed::Subscribes, Scope::Connection));
    }

    #[test]
    fn a_publication_costs_its_subscribers() {
        let mut world = World::new();
        let rate = Rate { per_second: 1, burst: 10 };
        world.rules.rates = Rates::new(|deed| (deed == Deed::Deliveries).then_some(rate));
        world.around.subscribers = 4;
        assert_eq!(world.taken(publish, Deed::Deliveries), 2);
        world.around.subscribers = 10_000;
        world.around.now.set(Duration::from_secs(8));
        assert_eq!(world.taken(publish, Deed::Deliveries), 1, "it is paid back later");
        world.around.now.set(Duration::from_secs(10_000));
        assert_eq!(world.taken(publish, Deed::Deliveries), 0);
    }

    #[test]
    fn what_all_connections_do_together_is_refused_to_each() {
        let mut world = World::new();
        for scope in [Scope::User, Scope::Address] {
            world.around.shared.set(Err(scope));
            assert!(!world.may(publish(0), Deed::Publications, scope));
        }
        world.around.shared.set(Ok(()));
        assert!(world.may(publish(0), Deed::Publications, Scope::User));
    }

    #[test]
    fn a_channel_has_a_bound_of_its_own() {
        let mut world = World::new();
        let rate = Rate { per_second: 3, burst: 3 };
        let bound = ChannelOptions { publications_per_second: Some(rate), ..kept() };
        world.namespaces = Namespaces::new(bound, []);
        assert!(world.may(publish(0), Deed::Publications, Scope::Channel));
        world.around.now.set(Duration::from_secs(3));
        assert!(!world.may(publish(0), Deed::Publications, Scope::Channel));
    }

    #[test]
    fn who_goes_on_is_closed_and_who_slows_down_is_not() {
        let mut world = World::new();
        for second in 0..1_000 {
            world.around.now.set(Duration::from_secs(second));
            // One of two is refused in the long run.
            world.command(publish(0));
            assert!(!matches!(&*world.command(publish(0)), [.., Effect::End(_)]));
        }
        let ends = (0..=u32::from(REFUSED_MAX)).map(publish).map(|publish| world.command(publish));
        let last = ends.filter(|effects| matches!(&**effects, [.., Effect::End(_)])).last();
        let [Effect::Limited(..), Effect::End(Disconnect::TooManyRequests)] =
            &*last.expect("it is closed")
        else {
            panic!("closed for something else");
        };
    }
}
