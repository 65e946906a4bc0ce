//! Reads of what clients missed: one for all that come back to a channel at a time.

use std::{collections::HashMap, future::Future, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    channel::ChannelName, error::BrokerLost, history::Recovery, position::Position, stream::Read,
};

/// The reads that are under way, at most one of each channel.
#[derive(Default)]
pub(super) struct Reads {
    flights: Mutex<HashMap<ChannelName, Flight>>,
}

/// A read, and those who wait for it.
struct Flight {
    answer: watch::Receiver<Answer>,
    /// The furthest position behind the one that is read of which somebody else waits.
    furthest: Option<Position>,
}

/// Nothing yet, or what everybody is told.
type Answer = Option<Result<Arc<Shared>, BrokerLost>>;

/// An answer for everybody who waited for it.
pub(super) struct Shared {
    pub(super) read: Read,
    /// The furthest position of those whom it does not help.
    furthest: Option<Position>,
}

impl Shared {
    /// Where the next read has to begin, so that it is of use for all who waited with this one and
    /// have not been answered.
    pub(super) fn for_all_behind(&self, since: Position) -> Position {
        let open = self.furthest.filter(|furthest| *furthest != self.read.since);
        open.filter(|furthest| is_behind(*furthest, since)).unwrap_or(since)
    }
}

impl Reads {
    /// What `ask` answers about `since`, or what somebody is told who asked before and waits yet:
    /// that is of another position perhaps. Cancel-safe.
    pub(super) async fn read<F>(
        &self,
        channel: &ChannelName,
        since: Position,
        ask: impl Fn(Position) -> F,
    ) -> Result<Arc<Shared>, BrokerLost>
    where
        F: Future<Output = Result<Recovery, BrokerLost>>,
    {
        loop {
            match self.embark(channel, since) {
                Role::Reader(answer) => {
                    let landing = Landing { reads: self, channel: Some(channel) };
                    let recovery = ask(since).await;
                    let furthest = landing.land();
                    let told = recovery
                        .map(|recovery| Read { since, recovery })
                        .map(|read| Arc::new(Shared { read, furthest }));
                    answer.send_replace(Some(told.clone()));
                    return told;
                }
                Role::Waiter(mut answer) => {
                    if let Ok(answer) = answer.wait_for(Option::is_some).await {
                        return answer.clone().unwrap_or(Err(BrokerLost));
                    }
                    // Who read went away; somebody else has to.
                }
            }
        }
    }

    fn embark(&self, channel: &ChannelName, since: Position) -> Role {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get_mut(channel) {
            if flight.furthest.is_none_or(|furthest| is_behind(since, furthest)) {
                flight.furthest = Some(since);
            }
            return Role::Waiter(flight.answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        flights.insert(channel.clone(), Flight { answer, furthest: None });
        Role::Reader(sender)
    }
}

enum Role {
    Reader(watch::Sender<Answer>),
    Waiter(watch::Receiver<Answer>),
}

/// Ends a read however it ends.
struct Landing<'a> {
    reads: &'a Reads,
    /// Of a read that has not ended.
    channel: Option<&'a ChannelName>,
}

impl Landing<'_> {
    /// The furthest position that somebody waits with.
    fn land(mut self) -> Option<Position> {
        self.end()
    }

    fn end(&mut self) -> Option<Position> {
        let channel = self.channel.take()?;
        self.reads.flights.lock().remove(channel).and_then(|flight| flight.furthest)
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_behind(one: Position, other: Position) -> bool {
    one.epoch == other.epoch && one.offset < other.offset
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        future::{pending, poll_fn},
        pin::pin,
        task::Poll,
    };

    use tokio::{sync::oneshot, task::yield_now};

    use super::*;
    use crate::position::Epoch;

    fn at(offset: u64) -> Position {
        Position { offset, epoch: Epoch { id: 7, branch: 0 } }
    }

    fn channel() -> ChannelName {
        ChannelName::new("c").unwrap()
    }

    #[tokio::test]
    async fn one_reads_for_all_and_the_next_for_who_was_further_behind() {
        let (reads, asked) = (Reads::default(), Cell::new(0));
        let (answer, answered) = oneshot::channel();
        let answered = RefCell::new(Some(answered));
        let channel = channel();
        let ask = |since: Position| {
            asked.set(asked.get() + 1);
            let answered = answered.take();
            async move {
                if let Some(answered) = answered {
                    let () = answered.await.map_err(|_| BrokerLost)?;
                }
                Ok(Recovery::Lost { top: since })
            }
        };
        let first = reads.read(&channel, at(5), ask);
        let second = reads.read(&channel, at(7), ask);
        let third = reads.read(&channel, at(2), ask);
        let answer = async {
            answer.send(()).unwrap();
        };
        let (first, second, third, ()) = tokio::join!(first, second, third, answer);
        assert_eq!(asked.get(), 1);
        for told in [first, second, third] {
            let told = told.unwrap();
            assert_eq!(told.read.since, at(5));
            assert_eq!(told.for_all_behind(at(4)), at(2));
            assert_eq!(told.for_all_behind(at(1)), at(1));
        }
        reads.read(&channel, at(2), ask).await.unwrap();
        assert_eq!(asked.get(), 2);
        assert!(reads.flights.lock().is_empty());
    }

    /// Or nobody else would have his turn before all give up.
    #[tokio::test]
    async fn what_is_lost_is_read_once() {
        let (reads, channel) = (Reads::default(), channel());
        let ask = |since: Position| async move {
            yield_now().await;
            Ok(Recovery::Lost { top: since })
        };
        let both = tokio::join!(reads.read(&channel, at(2), ask), reads.read(&channel, at(2), ask));
        for told in [both.0, both.1] {
            assert_eq!(told.unwrap().for_all_behind(at(7)), at(7));
        }
    }

    #[tokio::test]
    async fn when_the_reader_goes_away_somebody_else_reads() {
        let reads = Reads::default();
        let channel = channel();
        let mut reader = Box::pin(reads.read(&channel, at(5), |_| pending()));
        let mut waiter = pin!(
            reads.read(&channel, at(5), |since| async move { Ok(Recovery::Lost { top: since }) })
        );
        poll_fn(|cx| {
            assert!(reader.as_mut().poll(cx).is_pending());
            assert!(waiter.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        drop(reader);
        assert!(waiter.await.is_ok());
        assert!(reads.flights.lock().is_empty());
    }
}
