//! When to ask those who know where servers are, sentinels or the nodes of a cluster: now and then,
//! and soon when what they said last leads nowhere.

use std::{pin::Pin, time::Duration};

use tokio::{sync::futures::Notified, time::sleep};

use super::{connection::Connection, error::LinkError, value::Frame};

/// Waits until it is time to ask again, which it is soon if what was said is `doubted`, and at once
/// if the other end publishes something.
///
/// # Errors
/// When the connection is lost.
pub(crate) async fn rest(
    connection: &mut Connection,
    doubted: Pin<&mut Notified<'_>>,
) -> Result<(), LinkError> {
    tokio::select! {
        () = sleep(POLL) => {}
        () = doubted => sleep(DOUBT_PAUSE).await,
        told = pushed(connection) => return told,
    }
    Ok(())
}

/// Cancel-safe.
async fn pushed(connection: &mut Connection) -> Result<(), LinkError> {
    loop {
        match connection.next_frame()? {
            Some(Frame::Message { .. }) => return Ok(()),
            Some(_) => {}
            None => connection.heard().await?,
        }
    }
}

/// How often they are asked, whatever they tell by themselves.
const POLL: Duration = Duration::from_secs(1);
/// Doubts come in crowds.
const DOUBT_PAUSE: Duration = Duration::from_millis(50);
/// How long an answer may take.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(2);
