//! What is read of a history by who was away: what was missed, in pages, and where channels are.

use super::*;

impl Flock {
    pub(super) async fn has_a_position_before_the_first_publication(&self) {
        let (channel, other) = (name("never"), name("never-either"));
        let before = self.top(&channel).await;
        assert_eq!(before.offset, 0);
        assert_eq!(self.top(&channel).await, before);
        assert_ne!(self.top(&other).await.epoch.id, before.epoch.id);
        assert_eq!(self.recover(&channel, before).await, Ok(vec![]));
        let first = self.keep(&channel, "first").await;
        assert_eq!(first, Position { offset: 1, ..before });
        assert_eq!(self.recover(&channel, before).await, Ok(vec!["first".into()]));
    }

    pub(super) async fn recovers_all_or_says_that_it_cannot(&self) {
        let channel = name("recovered");
        for text in ["1", "2", "3", "4", "5"] {
            self.keep(&channel, text).await;
        }
        let top = self.top(&channel).await;
        let at = |offset| Position { offset, ..top };
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let recover = async |since| self.recover(&channel, since).await;
        assert_eq!(recover(top).await, Ok(vec![]));
        assert_eq!(recover(at(4)).await, Ok(texts(&["5"])));
        assert_eq!(recover(at(2)).await, Ok(texts(&["3", "4", "5"])));
        assert_eq!(recover(at(1)).await, Err(top), "they are not all kept");
        assert_eq!(recover(at(6)).await, Err(top), "it is yet to come");
        assert_eq!(recover(at(u64::MAX)).await, Err(top));
        let epoch = Epoch { id: top.epoch.id ^ 1, ..top.epoch };
        assert_eq!(recover(Position { epoch, ..top }).await, Err(top), "another past");
        let epoch = Epoch { branch: top.epoch.branch ^ 1, ..top.epoch };
        assert_eq!(recover(Position { epoch, ..top }).await, Err(top), "another server");
    }

    pub(super) async fn recovers_page_by_page(&self) {
        let channel = name("pages");
        let retention = Retention { size: 100, ..RETENTION };
        let before = self.top(&channel).await;
        for _ in 0..50 {
            self.keep_with(&channel, &"x".repeat(1000), retention).await;
        }
        let top = self.top(&channel).await;
        let page = async |offset, publications, bytes| {
            let since = Position { offset, ..before };
            let bounds = PageBounds { publications, bytes };
            let recovery = self.broker.recover(&channel, since, bounds, retention).await;
            let Ok(Recovery::Page { top: told, publications, ttl }) = recovery else {
                panic!("{recovery:?}")
            };
            assert_eq!(told, top);
            assert!(publications.is_empty() || ttl <= retention.ttl + retention.ttl / 10);
            let offsets = publications.iter().map(|it| it.position().unwrap_or(NONE).offset);
            assert!(offsets.eq((offset + 1..).take(publications.len())), "oldest first, no gap");
            publications.len()
        };
        assert_eq!(page(0, 7, usize::MAX).await, 7);
        assert_eq!(page(45, 7, usize::MAX).await, 5);
        assert_eq!(page(0, 100, 10_000).await, 10, "it ends when it has the bytes");
        assert_eq!(page(20, 100, 10_001).await, 11);
        assert_eq!(page(20, 100, 1).await, 1, "what is larger than a page is one");
        assert_eq!(page(50, 100, 1).await, 0);
    }

    pub(super) async fn tells_the_positions_of_many_channels_at_once(&self) {
        let channel = |number: usize| (name(&format!("many-{number}")), RETENTION);
        let channels: Vec<_> = (0..300).map(channel).collect();
        for (number, (channel, _)) in channels.iter().enumerate().step_by(100) {
            for _ in 0..=number / 100 {
                self.keep(channel, "kept").await;
            }
        }
        let positions = self.broker.positions(&channels).await;
        assert_eq!(positions.len(), channels.len());
        for (number, (position, (channel, _))) in positions.iter().zip(&channels).enumerate() {
            let kept = if number % 100 == 0 { number as u64 / 100 + 1 } else { 0 };
            let position = position.expect("the broker is there");
            assert_eq!(position.offset, kept, "{channel}");
            if number % 30 == 0 {
                assert_eq!(position, self.top(channel).await, "{channel}");
            }
        }
        assert_eq!(self.broker.positions(&[]).await, []);
    }
}
