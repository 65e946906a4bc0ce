//! The probe: a publication of the lane's own that goes the way of all others.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::time::Instant;

use crate::{
    lane::{company::Company, probe_channel::ProbeChannel},
    link::{
        command,
        error::{LinkError, tells_elsewhere, tells_half_moved},
        greeting,
        value::Value,
    },
    script::{self, Call},
};

/// Writes probes and judges their answers.
pub(crate) struct Probe {
    channel: ProbeChannel,
    place: String,
    company: Option<Arc<Company>>,
    /// That of the server.
    reign: u32,
    call: Call,
    elsewhere_since: Option<Instant>,
}

impl Probe {
    /// `place` is which of how many servers this is.
    pub(crate) fn new(channel: ProbeChannel, place: String, company: Option<Arc<Company>>) -> Self {
        Self { channel, place, company, reign: 0, call: Call::ByText, elsewhere_since: None }
    }

    /// Starts on a connection to a server of this reign.
    pub(super) fn meet(&mut self, reign: u32) {
        (self.reign, self.call) = (reign, Call::ByText);
    }

    /// Whether there is anything to prove.
    pub(super) fn is_of_use(&self) -> bool {
        self.channel.is_of_use()
    }

    pub(super) fn write(&mut self, out: &mut BytesMut, number: u64) {
        self.channel.follow();
        let company = self.company.as_ref().filter(|_| self.reign != 0);
        let more = usize::from(company.is_some());
        let probe = script::PROBE.by(self.channel.pub_sub());
        probe.write_call(out, self.call, 2 + more, 3 + more);
        self.call = Call::ByHash;
        command::write_argument(out, &[&self.channel.key()]);
        command::write_argument(out, &[&self.channel.place_key()]);
        if let Some(company) = company {
            command::write_argument(out, &[&company.key(self.reign)]);
        }
        command::write_argument(out, &[self.channel.name()]);
        command::write_number(out, number);
        command::write_argument(out, &[self.place.as_bytes()]);
        if let Some(company) = company {
            command::write_argument(out, &[company.node().as_bytes()]);
        }
    }

    /// What the answer says.
    ///
    /// # Errors
    /// When the connection is of no use any more.
    pub(super) fn judge(&mut self, answer: &Value) -> Result<Verdict, LinkError> {
        match answer {
            Value::Error(text) if script::tells_unknown(text) => {
                self.call = Call::ByText;
                Ok(Verdict::Passed)
            }
            Value::Error(text) if self.may_come(text) => Ok(Verdict::Elsewhere),
            Value::Error(text) => {
                let text = String::from_utf8_lossy(text);
                Ok(Verdict::Refused(format!("refuses what is published: {text}")))
            }
            Value::Array(theirs) => {
                let theirs = theirs.first().and_then(Value::as_bytes);
                let theirs = theirs.map(|place| String::from_utf8_lossy(place).into_owned());
                let (theirs, ours) = (theirs.unwrap_or_default(), self.place.clone());
                Err(LinkError::Misplaced { theirs, ours })
            }
            info => match greeting::reign_in(info) {
                Some(now) if self.reign != 0 && now != self.reign => Err(LinkError::Elsewhere),
                _ => {
                    self.elsewhere_since = None;
                    if let Some(company) = &self.company {
                        company.note(nodes_in(info));
                    }
                    Ok(Verdict::Passed)
                }
            },
        }
    }

    /// Whether an error tells that the partition is elsewhere, and not for too long yet. Any other
    /// is one of the server that has it.
    fn may_come(&mut self, text: &[u8]) -> bool {
        if !tells_elsewhere(text) {
            self.elsewhere_since = None;
            return false;
        }
        let since = *self.elsewhere_since.get_or_insert_with(Instant::now);
        if tells_half_moved(text) && since.elapsed() >= HALF_MOVED_PATIENCE {
            self.channel.avoid();
        }
        since.elapsed() < ELSEWHERE_PATIENCE
    }
}

/// How many nodes are at the server; 0 if nobody counts them.
fn nodes_in(info: &Value) -> u64 {
    let told = info.as_bytes().and_then(|it| str::from_utf8(it).ok()?.strip_prefix("company:"));
    let nodes = told.and_then(|it| it.lines().next()?.parse().ok());
    nodes.unwrap_or_default()
}

/// What the answer to a probe says.
pub(super) enum Verdict {
    Passed,
    /// What is wrong, in words.
    Refused(String),
    /// The partition is another server's now, which is soon known.
    Elsewhere,
}

/// How long the keys of its slot may be on their way, which is a moment if nobody pauses there.
const HALF_MOVED_PATIENCE: Duration = Duration::from_millis(150);
/// How long a partition may be on its way.
const ELSEWHERE_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::{keys::Keys, shares::Shares};

    /// What the lane makes of an error.
    fn refusal(probe: &mut Probe, text: &str) -> Option<String> {
        match probe.judge(&Value::Error(text.to_owned().into())).unwrap() {
            Verdict::Refused(why) => Some(why),
            Verdict::Elsewhere => None,
            Verdict::Passed => panic!("{text} is an error"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_elsewhere_uses_up_the_patience_with_that() {
        let keys = Keys::new("dunlin:").sharded();
        let channel = ProbeChannel::new(keys, Shares::even(1).of(0));
        let mut probe = Probe::new(channel, "1/1".to_owned(), None);
        let (moved, full) = ("MOVED 1 127.0.0.1:2", "OOM command not allowed");
        for _ in 0..2 {
            assert_eq!(
                refusal(&mut probe, full).unwrap(),
                format!("refuses what is published: {full}")
            );
            advance(ELSEWHERE_PATIENCE).await;
            assert_eq!(refusal(&mut probe, moved), None, "its patience begins now");
        }
        advance(ELSEWHERE_PATIENCE).await;
        assert!(refusal(&mut probe, moved).is_some(), "and ends");
    }
}
