//! History: questions about a channel's past, and their answers.

use std::sync::Arc;

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
    /// The publications, in the order asked for.
    pub publications: Vec<Arc<Publication>>,
}

/// What became of a position.
#[derive(Debug)]
pub enum Recovery {
    /// Nothing is missing.
    Whole {
        /// Where the publications begin: the position asked about, or an earlier one, when a server
        /// lost what it had told subscribers and another one went on from there.
        base: u64,
        /// The channel's newest position.
        top: Position,
        /// Everything behind `base` up to `top`, oldest first.
        publications: Vec<Arc<Publication>>,
    },
    /// Something is missing, or may be.
    Lost {
        /// The channel's newest position.
        top: Position,
    },
}
