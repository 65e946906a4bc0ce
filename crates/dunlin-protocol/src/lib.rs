//! Dialects: bytes to vocabulary and back. No async, no clock, no panic on any input.
//!
//! One module per dialect; the plain one is the first. What several need stands above them.

pub mod fossil;

pub mod plain;

pub mod centrifuge;

pub mod encoder;
