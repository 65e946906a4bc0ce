//! A link to a Redis server: its wire format, how it is made, kept alive and made again. What is
//! said over it is the business of `subscribe` and `publish`.

pub mod value;

pub mod resp;

pub mod command;

pub(crate) mod connection;

pub(crate) mod dial;

pub(crate) mod reconnect;

pub(crate) mod error;
