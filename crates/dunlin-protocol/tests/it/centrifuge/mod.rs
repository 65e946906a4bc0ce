//! The Centrifuge dialect. Transcripts are in `tests/transcripts/`: in each scene the same in JSON
//! and, as hexadecimal digits, in Protobuf. They were compared with what other implementations of
//! the protocol write and read.

mod transcript;

mod client;

mod commands;

mod replies;

mod pushes;

mod close;

mod schema;

mod any_command;

mod any_event;

mod properties;
