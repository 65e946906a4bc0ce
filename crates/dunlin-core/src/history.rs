//! History: questions about a channel's past, and their answers.

use std::{sync::Arc, time::Duration};

use crate::{
    position::{Epoch, Position},
    publication::Publication,
};

/// Which part of a history is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Behind, or in reverse before, which offset; none = from the oldest, in reverse the newest.
    pub since: Option<Since>,
    /// Most publications; 0 = only the position.
    pub limit: usize,
    /// The newest first.
    pub is_reverse: bool,
}

/// A position whose epoch need not be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// The offset.
    pub offset: u64,
    /// The epoch it has to be of; none = any.
    pub epoch: Option<Epoch>,
}

/// A part of a history.
#[derive(Debug)]
pub struct History {
    /// The channel's newest position.
    pub top: Position,
    /// The publications, in the order asked for; a page of them where there are more.
    pub publications: Vec<Arc<Publication>>,
}

/// What became of a position.
#[derive(Debug)]
pub enum Recovery {
    /// Nothing is missing.
    Page {
        /// The channel's newest position.
        top: Position,
        /// What follows the position, from the oldest; if it does not reach `top`, more follows.
        publications: Vec<Arc<Publication>>,
        /// How long the oldest of them are kept yet, and perhaps all.
        ttl: Duration,
    },
    /// Something is missing, or may be.
    Lost {
        /// The channel's newest position.
        top: Position,
    },
}

/// With the publication by which it has so many, a page ends.
pub const PAGE_PUBLICATIONS: usize = 1000;

/// With the publication by which it has so many bytes, a page ends: other questions need not wait
/// for long, neither here nor at the broker.
pub const PAGE_BYTES: usize = 1 << 20;

/// How much of a history is told at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageBounds {
    /// Most publications.
    pub publications: usize,
    /// With the publication by which it has so many bytes, it ends.
    pub bytes: usize,
}

impl PageBounds {
    /// At most so many publications of a page that may have so many bytes.
    #[must_use]
    pub fn new(publications: usize, bytes: usize) -> Self {
        Self { publications: publications.min(PAGE_PUBLICATIONS), bytes: bytes.min(PAGE_BYTES) }
    }
}
