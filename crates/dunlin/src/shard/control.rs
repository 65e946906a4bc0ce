//! What a shard does when the application has an order for its clients.

use std::rc::Rc;

use dunlin_core::control;

use super::Shard;

impl Shard {
    /// Obeys an order for those of its connections that are meant; none is no error. Every shard
    /// of every node gets every order once, in the order in which the broker put them.
    ///
    /// Connections of the plain dialect have no user and are meant by none.
    pub(super) fn obey_control(self: &Rc<Self>, order: &control::Order) {
        tracing::debug!(shard = self.parts.id.place(), ?order, "an order that is for nobody here");
    }
}
