//! The dialects as clients see them: bytes in, bytes out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod centrifuge;
