//! The built binary against its own floor, and against servers that do it wrong.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod faulty;
mod harness;
mod recovering;

mod attack;
mod chaos;
mod check;
mod compare;
mod fanout;
mod heal;
mod others;
mod publish;
