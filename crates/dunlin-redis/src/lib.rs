//! The Redis broker of Dunlin.

pub mod link;
