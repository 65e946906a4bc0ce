//! The dialects of Dunlin.
