//! The domain of Dunlin.
