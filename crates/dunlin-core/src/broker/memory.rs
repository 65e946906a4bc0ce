//! The broker of a node that is alone: what is published here is delivered here.

use std::{future::Future, pin::Pin, slice, sync::Arc};

use smallvec::SmallVec;

use crate::{
    broker::{Broker, BrokerStatus, ReplyTo},
    channel::ChannelName,
    ids::ConnectionId,
    interest::{Acknowledgement, Interest},
    publication::Publication,
};

/// Carries publications within one node. The lock of the channel's partition in [`Interest`] makes
/// their order.
pub struct MemoryBroker {
    interest: Arc<Interest>,
}

impl MemoryBroker {
    /// A broker that delivers through `interest`.
    #[must_use]
    pub fn new(interest: Arc<Interest>) -> Self {
        Self { interest }
    }
}

impl Broker for MemoryBroker {
    fn subscribe(&self, _channel: &ChannelName) -> Acknowledgement {
        Acknowledgement::Immediate
    }

    fn unsubscribe(&self, _channel: &ChannelName) {}

    fn publish(&self, publication: Publication, reply: ReplyTo) {
        let publication = Arc::new(publication);
        self.interest.deliver(publication.channel(), slice::from_ref(&publication));
        reply.answer(&self.interest, Ok(()));
    }

    fn publish_all(&self, publications: &mut Vec<Publication>, _publisher: ConnectionId) {
        let batch: SmallVec<[_; 8]> = publications.drain(..).map(Arc::new).collect();
        for run in batch.chunk_by(|left, right| left.channel() == right.channel()) {
            self.interest.deliver(run[0].channel(), run);
        }
    }

    fn has_room(&self) -> bool {
        self.interest.has_room()
    }

    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.interest.room())
    }

    fn status(&self) -> BrokerStatus {
        BrokerStatus::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::conformance;

    #[tokio::test]
    async fn it_conforms() {
        let start = |interest| async { Arc::new(MemoryBroker::new(interest)) as Arc<dyn Broker> };
        conformance::run(start).await;
    }
}
