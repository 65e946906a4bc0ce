//! Why a call failed: a code for libraries, and words for whoever reads the answer or a log.

use std::{borrow::Cow, fmt::Display};

use dunlin_core::{
    auth::SECONDS_END,
    broker::Outage,
    error::{BrokerLost, ClientError, HistoryError, PublishError},
};
use serde::Serialize;

/// An error as callers read it.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    code: u32,
    message: Cow<'static, str>,
    #[serde(skip)]
    error: ClientError,
}

impl Failure {
    /// A field is missing or wrong.
    pub(super) fn of_field(name: &'static str, why: impl Display) -> Self {
        Self::new(ClientError::BadRequest, format_args!("{name}: {why}"))
    }

    /// An error, and what is behind it.
    pub(super) fn new(error: ClientError, why: impl Display) -> Self {
        Self { message: format!("{}: {why}", error.message()).into(), ..Self::from(error) }
    }

    pub(super) fn error(&self) -> ClientError {
        self.error
    }

    pub(super) fn code(&self) -> u32 {
        self.code
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The same; if it is ours, with what is wrong with the broker now.
    pub(super) fn explained(mut self, outages: impl FnOnce() -> Vec<Outage>) -> Self {
        if self.error == ClientError::Internal {
            for Outage { part, reason } in outages() {
                self.message = format!("{}; {part} {reason}", self.message).into();
            }
        }
        self
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self { code: error.code(), message: error.message().into(), error }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Self::new(error.into(), error)
    }
}

impl From<BrokerLost> for Failure {
    fn from(error: BrokerLost) -> Self {
        Self::new(error.into(), error)
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        Self::new(error.into(), error)
    }
}

/// A time in unix seconds; 0 and none are the same. What can only be milliseconds is refused:
/// nothing would ever end.
///
/// # Errors
/// A [`Failure`] that names the field.
pub(super) fn seconds(name: &'static str, written: Option<u64>) -> Result<Option<u64>, Failure> {
    match written {
        Some(SECONDS_END..) => Err(Failure::of_field(name, "it is in milliseconds, not seconds")),
        written => Ok(written.filter(|at| *at > 0)),
    }
}
