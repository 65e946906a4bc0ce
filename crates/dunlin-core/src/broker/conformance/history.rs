//! The part of the contract that is about what is kept: positions, history, recovery and terms.

mod recovery;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{Flock, name};
use crate::{
    broker::{HistoryQuery, PageBounds, Publish, Recovery, ReplyTo, Since, Terms},
    channel::ChannelName,
    error::HistoryError,
    namespace::Retention,
    position::{Epoch, Position},
    publication::{ClientInfo, Details, Kind, Publication},
};

const RETENTION: Retention =
    Retention { size: 3, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(600_000) };
const ALL: HistoryQuery = HistoryQuery { since: None, limit: 100, is_reverse: false };

impl Flock {
    pub(super) async fn keeps_its_promises_of_history(&self) {
        self.keeps_and_delivers_at_one_place().await;
        self.keeps_all_that_is_known_of_a_publication().await;
        self.tells_parts_of_a_history().await;
        self.has_a_position_before_the_first_publication().await;
        self.recovers_all_or_says_that_it_cannot().await;
        self.recovers_page_by_page().await;
        self.tells_the_positions_of_many_channels_at_once().await;
        self.forgets_publications_and_no_position().await;
        self.answers_an_idempotency_key_once().await;
        self.takes_only_newer_versions().await;
        self.numbers_what_many_publish_without_a_gap().await;
        self.keeps_one_order_of_what_is_kept_and_what_is_not().await;
        self.lets_go_when_the_time_is_over().await;
    }

    async fn keeps_and_delivers_at_one_place(&self) {
        let channel = name("kept");
        self.join(&channel, 0).await;
        let mut answered = Vec::new();
        for text in ["a", "b", "c", "d", "e"] {
            answered.push(self.keep(&channel, text).await);
        }
        assert!(answered.iter().map(|position| position.offset).eq(1..=5), "{answered:?}");
        assert!(answered.iter().all(|position| position.epoch == answered[0].epoch));
        let received = self.receive(0, 5).await;
        let delivered: Vec<_> = received.iter().map(|it| it.position().unwrap_or(NONE)).collect();
        assert_eq!(delivered, answered, "a publication is delivered where it is kept");
        let (top, texts) = self.history(&channel, ALL).await;
        assert_eq!(top, answered[4]);
        assert_eq!(texts, [(3, "c".into()), (4, "d".into()), (5, "e".into())]);

        // What is not kept has no place, and takes none.
        self.publish(&channel, Kind::Text, b"passing").await;
        assert_eq!(self.receive(0, 1).await[0].position(), None);
        assert_eq!(self.history(&channel, ALL).await.0, top);
    }

    async fn keeps_all_that_is_known_of_a_publication(&self) {
        let channel = name("known");
        self.join(&channel, 0).await;
        let info = ClientInfo {
            user: "bob".into(),
            client: "client-1".into(),
            conn_info: Some(Bytes::from_static(br#"{"name":"B\u00f6b"}"#)),
            chan_info: None,
        };
        let tags = BTreeMap::from([("lang".to_owned(), "de".to_owned())]);
        let full = Details { info: Some(info.clone()), tags, allows_delta: true };
        let bare = Details { info: Some(info), ..Details::default() };
        let cases: [(Kind, &[u8], Details); 5] = [
            (Kind::Text, "grüße".as_bytes(), full.clone()),
            (Kind::Binary, b"\xff\x14\x00\x00", full),
            (Kind::Join, b"", bare.clone()),
            (Kind::Leave, b"", bare),
            (Kind::Binary, b"", Details::default()),
        ];
        let retention = Retention { size: 10, ..RETENTION };
        for retention in [None, Some(retention)] {
            for (kind, data, details) in cases.clone() {
                let publication = Publication::new(channel.clone(), kind, data.into());
                let publication = publication.with_details(details);
                let publish = Publish { publication, retention, terms: None };
                self.ask_to_publish(publish).await.expect("it happens");
            }
        }
        let history = self.broker.history(&channel, ALL, retention).await.expect("it is there");
        let received = self.receive(0, 10).await;
        for (publication, (kind, data, details)) in
            received.iter().chain(&history.publications).zip(cases.iter().cycle())
        {
            assert_eq!((publication.kind(), publication.data()), (*kind, *data));
            assert_eq!(publication.details().cloned().unwrap_or_default(), *details);
            assert_eq!(*publication.channel(), channel);
        }
        assert_eq!(history.publications.len(), 5);
    }

    async fn tells_parts_of_a_history(&self) {
        let channel = name("parts");
        let retention = Retention { size: 5, ..RETENTION };
        for offset in 1..=7 {
            self.keep_with(&channel, &offset.to_string(), retention).await;
        }
        let check = async |since: Option<u64>, limit, is_reverse, expected: &[u64]| {
            let since = since.map(|offset| Since { offset, epoch: None });
            let query = HistoryQuery { since, limit, is_reverse };
            let history = self.broker.history(&channel, query, retention).await;
            let history = history.expect("it is there");
            let offsets = history.publications.iter().map(|it| it.position().unwrap_or(NONE));
            assert!(offsets.eq(expected.iter().map(|&offset| Position { offset, ..history.top })));
            let texts = history.publications.iter().map(|it| text(it));
            assert!(texts.eq(expected.iter().map(u64::to_string)), "{query:?}");
            assert_eq!(history.top.offset, 7);
        };
        check(None, 100, false, &[3, 4, 5, 6, 7]).await;
        check(None, 2, false, &[3, 4]).await;
        check(None, 0, false, &[]).await;
        check(None, 2, true, &[7, 6]).await;
        check(None, usize::MAX, true, &[7, 6, 5, 4, 3]).await;
        check(Some(5), 100, false, &[6, 7]).await;
        check(Some(0), 1, false, &[3]).await;
        check(Some(7), 100, false, &[]).await;
        check(Some(u64::MAX), 100, false, &[]).await;
        check(Some(5), 100, true, &[4, 3]).await;
        check(Some(3), 100, true, &[]).await;
        check(Some(0), 100, true, &[]).await;
        check(Some(u64::MAX), 1, true, &[7]).await;

        let top = self.top(&channel).await;
        let within = async |epoch| {
            let since = Some(Since { offset: 6, epoch: Some(epoch) });
            let query = HistoryQuery { since, limit: 10, is_reverse: false };
            self.broker.history(&channel, query, retention).await.map(|it| it.publications.len())
        };
        assert_eq!(within(top.epoch).await, Ok(1));
        let foreign = Epoch { id: top.epoch.id ^ 1, ..top.epoch };
        assert_eq!(within(foreign).await, Err(HistoryError::WrongEpoch));
    }

    async fn forgets_publications_and_no_position(&self) {
        let channel = name("forgotten");
        self.keep(&channel, "a").await;
        let top = self.keep(&channel, "b").await;
        for _ in 0..2 {
            self.broker.remove_history(&channel).await.expect("the broker is there");
            assert_eq!(self.history(&channel, ALL).await, (top, vec![]));
        }
        assert_eq!(self.recover(&channel, top).await, Ok(vec![]));
        let before = Position { offset: 1, ..top };
        assert_eq!(self.recover(&channel, before).await, Err(top));
        let next = self.keep(&channel, "c").await;
        assert_eq!(next, Position { offset: 3, ..top });
        assert_eq!(self.history(&channel, ALL).await, (next, vec![(3, "c".into())]));
        self.broker.remove_history(&name("forgotten-never-known")).await.expect("it is there");
    }

    async fn answers_an_idempotency_key_once(&self) {
        let (channel, other) = (name("once:a"), name("once"));
        self.join(&channel, 0).await;
        self.join(&other, 0).await;
        let publish = async |channel: &ChannelName, key: &str, text: &str, retention| {
            let terms = Terms { idempotency_key: key.to_owned(), ..Terms::default() };
            let publication = publication(channel, text);
            let publish = Publish { publication, retention, terms: Some(Box::new(terms)) };
            self.ask_to_publish(publish).await.expect("it happens")
        };
        let first = publish(&channel, "k", "first", Some(RETENTION)).await;
        assert_eq!(first.map(|position| position.offset), Some(1));
        assert_eq!(publish(&channel, "k", "again", Some(RETENTION)).await, first);
        let second = publish(&channel, "k2", "second", Some(RETENTION)).await;
        assert_eq!(second.map(|position| position.offset), Some(2));
        assert_eq!(publish(&channel, "k", "late", Some(RETENTION)).await, first);
        // The same characters, parted elsewhere.
        assert_eq!(
            publish(&other, "a:k", "other", Some(RETENTION)).await.map(|p| p.offset),
            Some(1)
        );
        for (key, text) in [("p", "passing"), ("p", "again"), ("p2", "passing too")] {
            assert_eq!(publish(&channel, key, text, None).await, None);
        }
        assert_eq!(publish(&channel, "k", "late", None).await, first, "answered like the first");
        let received = self.receive(0, 5).await;
        // There is one order in a channel, and none between channels.
        let of = |channel: &ChannelName| -> Vec<_> {
            received.iter().filter(|it| it.channel() == channel).map(|it| text(it)).collect()
        };
        assert_eq!(of(&channel), ["first", "second", "passing", "passing too"]);
        assert_eq!(of(&other), ["other"]);
        let kept = self.history(&channel, ALL).await.1;
        assert_eq!(kept, [(1, "first".into()), (2, "second".into())]);
    }

    async fn takes_only_newer_versions(&self) {
        let channel = name("versions");
        let publish = async |version, version_epoch: &str, expected: u64| {
            let version_epoch = version_epoch.to_owned();
            let terms = Terms { version, version_epoch, ..Terms::default() };
            let publication = publication(&channel, &version.to_string());
            let publish =
                Publish { publication, retention: Some(RETENTION), terms: Some(Box::new(terms)) };
            let position = self.ask_to_publish(publish).await.expect("it happens");
            assert_eq!(position.map(|position| position.offset), Some(expected), "{version}");
        };
        publish(9, "", 1).await;
        publish(9, "", 1).await;
        publish(3, "", 1).await;
        publish(10, "", 2).await;
        publish(u64::MAX - 1, "", 3).await;
        publish(u64::MAX, "", 4).await;
        publish(u64::MAX - 1, "", 4).await;
        publish(0, "", 5).await;
        publish(1, "another", 6).await;
        publish(1, "another", 6).await;
        publish(2, "another", 7).await;
        publish(1, "", 8).await;
        assert_eq!(self.top(&channel).await.offset, 8);
    }

    async fn numbers_what_many_publish_without_a_gap(&self) {
        let channel = name("many");
        let retention = Retention { size: 1000, ..RETENTION };
        self.join(&channel, 0).await;
        let publish = async |publisher: usize| {
            for sequence in 0..100 {
                self.keep_with(&channel, &format!("{publisher} {sequence}"), retention).await;
            }
        };
        tokio::join!(publish(0), publish(1), publish(2));
        let received = self.receive(0, 300).await;
        let offsets = received.iter().map(|it| it.position().unwrap_or(NONE).offset);
        assert!(offsets.eq(1..=300));
        let query = HistoryQuery { limit: 1000, ..ALL };
        let history = self.broker.history(&channel, query, retention).await.expect("it is there");
        let texts = |all: &[Arc<Publication>]| all.iter().map(|it| text(it)).collect::<Vec<_>>();
        assert_eq!(texts(&history.publications), texts(&received));
        for publisher in 0..3 {
            let own = format!("{publisher} ");
            let sequence = texts(&received).into_iter().filter(|text| text.starts_with(&own));
            assert!(sequence.eq((0..100).map(|sequence| format!("{publisher} {sequence}"))));
        }
    }

    async fn keeps_one_order_of_what_is_kept_and_what_is_not(&self) {
        let channel = name("mixed");
        self.join(&channel, 0).await;
        let mut outcomes = Vec::new();
        for number in 0..300 {
            let retention = (number % 3 == 0).then_some(RETENTION);
            let publication = publication(&channel, &number.to_string());
            let (reply, outcome) = oneshot::channel();
            let publish = Publish { publication, retention, terms: None };
            self.broker.publish(&mut vec![(publish, ReplyTo::Caller(reply))]);
            outcomes.push(outcome);
        }
        for outcome in outcomes {
            outcome.await.expect("every publish is answered").expect("it happens");
        }
        let received = self.receive(0, 300).await;
        assert!(received.iter().map(|it| text(it)).eq((0..300).map(|it| it.to_string())));
    }

    async fn lets_go_when_the_time_is_over(&self) {
        let (channel, forgotten) = (name("short"), name("shorter"));
        let ttl = Duration::from_millis(200);
        let short = Retention { ttl, ..RETENTION };
        let start = Instant::now();
        let top = self.keep_with(&channel, "soon gone", short).await;
        let is_kept = async || {
            let history = self.broker.history(&channel, ALL, short).await.expect("it is there");
            assert_eq!(history.top, top, "the position stays");
            !history.publications.is_empty()
        };
        assert!(is_kept().await || start.elapsed() >= ttl);
        let is_gone = async || !is_kept().await;
        until("the publication is gone", is_gone).await;
        assert!(start.elapsed() >= ttl);
        assert_eq!(self.recover(&channel, top).await, Ok(vec![]));
        assert_eq!(self.recover(&channel, Position { offset: 0, ..top }).await, Err(top));
        let next = self.keep_with(&channel, "next", short).await;
        assert_eq!(next, Position { offset: 2, ..top });

        // However much is published behind it.
        let busy = name("busy");
        let long = Retention { size: 100_000, ..short };
        let start = Instant::now();
        let oldest = self.keep_with(&busy, "soon gone", long).await;
        let is_gone = async || {
            self.keep_with(&busy, "next", long).await;
            let history = self.broker.history(&busy, ALL, long).await.expect("it is there");
            let first = history.publications.first().and_then(|first| first.position());
            let is_gone = first != Some(oldest);
            let recovery = self.broker.recover(&busy, oldest_before(oldest), PAGE, long).await;
            let is_lost = matches!(recovery, Ok(Recovery::Lost { .. }));
            assert!(is_lost || !is_gone, "what is not told is not recovered either");
            is_gone
        };
        until("the oldest is gone", is_gone).await;
        assert!(start.elapsed() >= ttl);

        let shorter = Retention { meta_ttl: ttl, ..RETENTION };
        let top = self.keep_with(&forgotten, "soon forgotten", shorter).await;
        let is_forgotten = async || {
            let query = HistoryQuery { limit: 0, ..ALL };
            let history = self.broker.history(&forgotten, query, shorter).await;
            history.expect("it is there").top.epoch != top.epoch
        };
        until("the channel has another epoch", is_forgotten).await;
        assert!(matches!(
            self.broker.recover(&forgotten, top, PAGE, RETENTION).await,
            Ok(Recovery::Lost { .. })
        ));
    }

    async fn keep(&self, channel: &ChannelName, text: &str) -> Position {
        self.keep_with(channel, text, RETENTION).await
    }

    async fn keep_with(&self, channel: &ChannelName, text: &str, retention: Retention) -> Position {
        let publication = publication(channel, text);
        let publish = Publish { publication, retention: Some(retention), terms: None };
        let position = self.ask_to_publish(publish).await.expect("it happens");
        position.expect("what is kept has a position")
    }

    async fn top(&self, channel: &ChannelName) -> Position {
        self.history(channel, HistoryQuery { limit: 0, ..ALL }).await.0
    }

    async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
    ) -> (Position, Vec<(u64, String)>) {
        let history = self.broker.history(channel, query, RETENTION).await;
        let history = history.expect("it is there");
        let told = |it: &Arc<Publication>| (it.position().unwrap_or(NONE).offset, text(it));
        (history.top, history.publications.iter().map(told).collect())
    }

    /// The texts, or the position where all is lost.
    async fn recover(
        &self,
        channel: &ChannelName,
        since: Position,
    ) -> Result<Vec<String>, Position> {
        let recovery = self.broker.recover(channel, since, PAGE, RETENTION).await;
        match recovery.expect("the broker is there") {
            Recovery::Page { top, publications, .. } => {
                let offsets = publications.iter().map(|it| it.position().unwrap_or(NONE).offset);
                assert!(offsets.eq(since.offset + 1..=top.offset));
                Ok(publications.iter().map(|it| text(it)).collect())
            }
            Recovery::Lost { top } => Err(top),
        }
    }
}

fn oldest_before(position: Position) -> Position {
    Position { offset: position.offset - 1, ..position }
}

const PAGE: PageBounds = PageBounds { publications: 100, bytes: 1 << 20 };

/// No broker gives it to a publication.
const NONE: Position = Position { offset: 0, epoch: Epoch { id: 0, branch: 0 } };

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let asked = async {
        while !is_so().await {
            // Time has to pass, and nobody tells when.
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(Duration::from_secs(10), asked).await.is_ok(), "waited too long until {what}");
}

fn publication(channel: &ChannelName, text: &str) -> Publication {
    Publication::new(channel.clone(), Kind::Text, Bytes::copy_from_slice(text.as_bytes()))
}

fn text(publication: &Publication) -> String {
    String::from_utf8_lossy(publication.data()).into_owned()
}
