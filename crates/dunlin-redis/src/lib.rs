//! The Redis broker of Dunlin.
