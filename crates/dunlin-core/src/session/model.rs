//! A world around one session, for tests: it carries effects out as a shard does, answers when it
//! is told to, and keeps the books. Whatever comes in, in any order, the books must balance.

mod books;
mod world;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use self::{
    books::Books,
    world::{answer, channel, namespaces, order, rates},
};
use super::{
    Answer, Clock, Context, Effect, Effects, Input, Inquiry, Join, Place, Rules, Session,
    Subscription, Ticket, subscription::State,
};
use crate::{
    auth::revocation::Revocations,
    channel::ChannelName,
    command::{Command, Request},
    error::{ClientError, PublishError},
    hub::{Hub, SubscriptionId},
    ids::{ConnectionId, ShardId},
    inbox::Joined,
    namespace::Namespaces,
    position::{Epoch, Position},
    publication::{Encoding, Kind},
    rights::Trust,
    stream::{Snapshot, Turn},
};

/// Something that happens to a session or in the world around it. Numbers choose among what there
/// is, modulo how many there are.
#[derive(Clone, Debug)]
pub enum Act {
    /// The client sends a command; its number is replaced by one of the model's.
    Command(Command),
    /// An inquiry is answered: which one, and how.
    Answer(u8, u8),
    /// ... a second time.
    AnswerAgain(u8),
    /// A place comes, with or without a gap.
    Place(u8, bool),
    /// A place cannot be had.
    NoPlace(u8),
    /// A publish ends.
    Published(u8, bool),
    /// A channel turns.
    Turned(u8, u8),
    /// The application orders something: which order, and about which channel.
    Order(u8, u8),
    /// Tokens are revoked, perhaps the client's.
    Revoked(u8),
    /// So many seconds pass.
    Wait(u8),
}

/// See the module's text.
pub struct Model {
    session: Session,
    rules: Rules,
    namespaces: Namespaces,
    clock: Hands,
    hub: Hub,
    /// Places in the hub that the session holds.
    places: BTreeMap<ChannelName, SubscriptionId>,
    inquiries: Vec<(Ticket, Inquiry)>,
    answered: Vec<Ticket>,
    joins: Vec<Join>,
    publishes: Vec<u32>,
    books: Books,
}

struct Hands {
    began_at: Instant,
    seconds: Cell<u64>,
}

impl Clock for Hands {
    fn now(&self) -> Instant {
        self.began_at + Duration::from_secs(self.seconds.get())
    }

    fn unix(&self) -> u64 {
        1_000 + self.seconds.get()
    }
}

impl Model {
    /// A session that nothing has happened to.
    #[must_use]
    pub fn new(encoding: Encoding, allows_anonymous: bool) -> Self {
        let clock = Hands { began_at: Instant::now(), seconds: Cell::new(0) };
        let rules = Rules {
            trust: Trust::Checked,
            allows_anonymous,
            ping_s: 25,
            connect_within: Duration::from_secs(15),
            connection_grace: Duration::from_secs(25),
            subscription_grace: Duration::from_secs(25),
            channels_max: 4,
            history_max: 10,
            recovery_max: 10,
            rates: rates(),
            is_metered: true,
            personal_namespace: None,
        };
        let connect_by = clock.now() + rules.connect_within;
        Self {
            session: Session::new(encoding, false, connect_by),
            rules,
            namespaces: namespaces(),
            clock,
            hub: Hub::default(),
            places: BTreeMap::new(),
            inquiries: Vec::new(),
            answered: Vec::new(),
            joins: Vec::new(),
            publishes: Vec::new(),
            books: Books::default(),
        }
    }

    /// Lets something happen.
    ///
    /// # Panics
    /// When the books do not balance.
    pub fn act(&mut self, act: Act) {
        match act {
            Act::Command(command) => self.command(command),
            Act::Answer(which, how) => self.answer(which, how),
            Act::AnswerAgain(which) => {
                if let Some(ticket) = choose(&self.answered, which).copied() {
                    let answer = Answer::Outcome(Err(ClientError::Internal));
                    let effects = self.handle(Input::Answer(ticket, answer));
                    assert!(effects.is_empty(), "an answer counted twice: {effects:?}");
                }
            }
            Act::Place(which, recovered) => self.place(which, recovered),
            Act::NoPlace(which) => {
                if !self.joins.is_empty() {
                    let join = self.joins.swap_remove(which as usize % self.joins.len());
                    self.feed(Input::NotJoined(&join.channel, ClientError::Internal));
                }
            }
            Act::Published(which, is_well) => {
                if !self.publishes.is_empty() {
                    let at = which as usize % self.publishes.len();
                    let id = self.publishes.swap_remove(at);
                    let outcome = if is_well { Ok(None) } else { Err(PublishError::Refused) };
                    self.feed(Input::Published(id, outcome));
                }
            }
            Act::Turned(which, how) => {
                let turns = [Turn::Lost, Turn::Refused, Turn::Dropped];
                let channel = channel(which);
                // A hub tells only those who are in it.
                if self.places.contains_key(&channel) {
                    let turn = turns[usize::from(how) % turns.len()];
                    self.feed(Input::Turned(&channel, turn));
                }
            }
            Act::Order(what, which) => {
                let order = order(what, channel(which));
                self.feed(Input::Order(&order));
            }
            Act::Revoked(what) => {
                let mut revocations = Revocations::new(10);
                let id = if what == 0 { "t" } else { "u" };
                revocations.revoke_token(id, None, self.clock.unix()).expect("there is room");
                self.feed(Input::Revoked(&revocations));
            }
            Act::Wait(seconds) => {
                self.clock.seconds.set(self.clock.seconds.get() + u64::from(seconds));
                let context = context(&self.rules, &self.namespaces, &self.clock);
                if self.session.wakes_at(&context).is_some_and(|at| at <= self.clock.now()) {
                    self.feed(Input::Deadline);
                }
            }
        }
    }

    /// Lets everything come that is still to come, ends the connection, and looks at the books once
    /// more.
    ///
    /// # Panics
    /// When they do not balance.
    pub fn finish(mut self) {
        while !self.inquiries.is_empty() || !self.joins.is_empty() || !self.publishes.is_empty() {
            self.answer(0, 0);
            self.place(0, true);
            self.act(Act::Published(0, true));
        }
        let (books, session) = (&self.books, &self.session);
        if !books.has_ended && session.connect_by().is_none() {
            assert!(books.open.is_empty(), "never answered: {:?}", books.open);
        }
        self.books.has_ended = true;
        self.feed(Input::Closed);
        assert!(self.places.is_empty(), "still in the hub: {:?}", self.places);
        let shown: Vec<_> = self.books.shown.iter().filter(|(_, count)| **count > 0).collect();
        assert!(shown.is_empty(), "still shown: {shown:?}");
        assert!(self.books.announced.is_empty(), "still here: {:?}", self.books.announced);
        assert!(!self.books.is_admitted, "still counted");
        assert_eq!(self.session.subscriptions().len(), 0);
        let again = self.handle(Input::Closed);
        assert!(matches!(&*again, [Effect::WakeAt(None)]), "{again:?}");
    }

    fn command(&mut self, mut command: Command) {
        if command.id != 0 {
            self.books.last_id += 1;
            command.id = self.books.last_id;
            let about = match &command.request {
                Request::Subscribe(asked) => Some(asked.channel.as_str()),
                Request::Unsubscribe(channel) => Some(channel.as_str()),
                _ => None,
            };
            let about = about.and_then(|name| ChannelName::new(name).ok());
            let is_answered = !matches!(command.request, Request::Send(_) | Request::Pong);
            if is_answered && !self.books.has_ended {
                self.books.open.insert(command.id, about);
            }
        }
        self.feed(Input::Command(command));
    }

    fn answer(&mut self, which: u8, how: u8) {
        if self.inquiries.is_empty() {
            return;
        }
        let (ticket, inquiry) = self.inquiries.remove(which as usize % self.inquiries.len());
        self.answered.push(ticket);
        let answer = answer(&inquiry, how, self.clock.unix());
        if matches!(answer, Answer::Admission(Some(_))) && !self.books.has_ended {
            self.books.is_admitted = true;
        }
        let named = self.session.is_connected().then(|| named(&answer)).flatten();
        self.feed(Input::Answer(ticket, answer));
        if let Some(named) = named.filter(|_| !self.books.has_ended) {
            self.check_token(&named);
        }
    }

    /// Holds a session against the channels that its new token names.
    fn check_token(&self, named: &BTreeSet<ChannelName>) {
        let goes_on = |s: &&Subscription| match &s.state {
            State::Joining(joining) => joining.ended.is_none(),
            State::Standing(_) => true,
        };
        let by_token = self.session.subscriptions().iter().filter(|s| s.is_named_by_token);
        for subscription in by_token.filter(goes_on) {
            assert!(named.contains(&subscription.channel), "goes on unnamed: {subscription:?}");
        }
        for channel in named {
            let is_in = |s: &&Subscription| goes_on(s) || !s.is_named_by_token;
            let subscription = self.session.subscription(channel);
            assert!(subscription.filter(is_in).is_some(), "has not begun: {channel}");
        }
    }

    fn place(&mut self, which: u8, recovered: bool) {
        if self.joins.is_empty() {
            return;
        }
        let join = self.joins.swap_remove(which as usize % self.joins.len());
        let position = Position { epoch: Epoch { id: 1, branch: 1 }, offset: 1 };
        let snapshot = Snapshot { position: Some(position), recovered, ..Snapshot::default() };
        let connection = ConnectionId { shard: ShardId::new(0), slot: 0, generation: 1 };
        let joined = Joined { connection, channel: join.channel.clone(), number: 7, snapshot };
        let place = self.session.manner(&joined, false).map(|manner| {
            let (subscription, _) = self.hub.subscribe(&join.channel, &manner, 0);
            let before = self.places.insert(join.channel.clone(), subscription);
            assert!(before.is_none(), "twice in the hub: {}", join.channel);
            Place { subscription, manner }
        });
        self.feed(Input::Joined(joined, place));
    }

    fn handle(&mut self, input: Input<'_>) -> Effects {
        let mut effects = Vec::new();
        let context = context(&self.rules, &self.namespaces, &self.clock);
        self.session.handle(input, &context, &mut effects);
        effects
    }

    fn feed(&mut self, input: Input<'_>) {
        let mut has_end = false;
        for effect in self.handle(input) {
            assert!(!has_end, "behind the end: {effect:?}");
            has_end = matches!(effect, Effect::End(_));
            self.carry_out(effect);
        }
        let books = &self.books;
        if !books.has_ended && !books.is_held_back {
            let served: BTreeSet<_> = self.places.keys().cloned().collect();
            assert_eq!(served, books.client_is_in, "who is served is not who is told so");
        }
        for subscription in self.session.subscriptions() {
            if let Some((info, _)) = self.session.shown(subscription) {
                let seen = self.books.seen.get(&subscription.channel);
                assert_eq!(seen, Some(&info), "presence shows the past");
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let books = &mut self.books;
        match effect {
            Effect::Tell(event) if books.is_held_back => books.held_back.push(event),
            Effect::Tell(event) => books.tell(event),
            Effect::HoldBack => books.is_held_back = true,
            Effect::TellFirst(event) => {
                books.is_held_back = false;
                books.tell(event);
                std::mem::take(&mut books.held_back)
                    .into_iter()
                    .for_each(|event| books.tell(event));
            }
            Effect::DropHeldBack => books.held_back.clear(),
            Effect::WakeAt(_) | Effect::Note(_) | Effect::Limited(..) => {}
            Effect::Ask(ticket, inquiry) => self.inquiries.push((ticket, inquiry)),
            Effect::Publish(_, id) => {
                assert!(self.session.is_connected(), "published by a stranger");
                self.publishes.push(id);
            }
            Effect::Join(join) => {
                assert!(books.is_admitted, "a stranger joins");
                if let Some((info, _)) = &join.presence {
                    books.seen.insert(join.channel.clone(), info.clone());
                    *books.shown.entry(join.channel.clone()).or_default() += 1;
                }
                self.joins.push(*join);
            }
            Effect::Appear(channel, info, _) => {
                assert!(books.shown.get(&channel).is_some_and(|count| *count > 0), "not there");
                books.seen.insert(channel, info);
            }
            Effect::Leave(place) => {
                let (channel, _) = self.hub.unsubscribe(place);
                assert_eq!(self.places.remove(&channel), Some(place));
            }
            Effect::Disappear(channel, client) => {
                assert!(!client.is_empty(), "nobody disappears");
                let count = books.shown.get_mut(&channel).expect("it was shown");
                *count = count.checked_sub(1).expect("it was shown");
            }
            Effect::Announce(channel, Kind::Join, _) => {
                assert!(books.announced.insert(channel), "came twice");
            }
            Effect::Announce(channel, _, _) => {
                assert!(books.announced.remove(&channel), "left without having come");
            }
            Effect::Dismiss(_) => {
                assert!(books.is_admitted, "dismissed twice");
                books.is_admitted = false;
            }
            Effect::End(_) | Effect::EndWith(..) => books.has_ended = true,
        }
    }
}

/// What a connection token names, if that is the answer.
fn named(answer: &Answer) -> Option<BTreeSet<ChannelName>> {
    match answer {
        Answer::Connection(Ok(claims)) => Some(claims.subscriptions.keys().cloned().collect()),
        _ => None,
    }
}

fn context<'a>(rules: &'a Rules, namespaces: &'a Namespaces, clock: &'a Hands) -> Context<'a> {
    Context { rules, namespaces, clock, meter: clock }
}

fn choose<T>(all: &[T], which: u8) -> Option<&T> {
    (!all.is_empty()).then(|| &all[usize::from(which) % all.len()])
}
