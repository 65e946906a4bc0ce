//! One connection to one Redis server: its wire format and how commands are written to it.

pub mod command;
pub mod resp;
pub mod value;
