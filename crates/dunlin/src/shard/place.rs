//! Places: how many connections the node may have, counted where they are promised.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The places of a node, shared by whoever gives them out.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    taken: Arc<AtomicUsize>,
    count: usize,
}

/// A place for one connection, from its request to its end; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Self { taken: Arc::default(), count }
    }

    /// Takes a place; none when all are taken.
    pub(crate) fn take(&self) -> Option<Place> {
        let more = |taken| (taken < self.count).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(Arc::clone(&self.taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_their_count_and_each_comes_back() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        assert!(first.is_some() && second.is_some() && places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
    }
}
