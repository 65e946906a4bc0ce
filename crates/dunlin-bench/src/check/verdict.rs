//! What a check found, as JSON and as text for people.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::judge::Faults;
use crate::report::counts;

/// Counts so far.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) publications: u64,
    /// Publications the server said are in the stream.
    pub(crate) acknowledged: u64,
    /// Publications without an answer: in the stream once, or not.
    pub(crate) unknown: u64,
    pub(crate) deliveries: u64,
    /// Connections after the first one of each client.
    pub(crate) reconnects: u64,
    pub(crate) recovered: u64,
    pub(crate) not_recovered: u64,
    /// Subscriptions the server asked to begin anew.
    pub(crate) resubscribed: u64,
    /// Connections that could not be opened, by kind.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Connections the server ended, by close code or kind.
    pub(crate) closed: BTreeMap<String, u64>,
    /// Commands that were refused, by code and message.
    pub(crate) refused: BTreeMap<String, u64>,
}

/// Everything a check found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) counts: Counts,
    /// Clients that were not back and subscribed at the end.
    pub(crate) not_back: u64,
    /// Publications that subscribers are behind the ends of their channels; among the gaps.
    pub(crate) behind: u64,
    /// Acknowledged publications that nobody got; among the gaps.
    pub(crate) lost: u64,
    pub(crate) faults: Faults,
}

impl Verdict {
    /// Whether nothing was wrong, and there was something that could have been.
    pub(crate) fn is_clean(&self) -> bool {
        self.faults == Faults::default() && self.not_back == 0 && self.counts.deliveries > 0
    }
}

impl Counts {
    /// Counts one of a kind.
    pub(crate) fn note(kinds: &mut BTreeMap<String, u64>, kind: String) {
        // A server that invents reasons must not fill the memory.
        if kinds.len() < KINDS_MAX || kinds.contains_key(&kind) {
            *kinds.entry(kind).or_default() += 1;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} publications ({} acknowledged, {} unknown), {} deliveries, {} reconnects, \
             {} recovered, {} not recovered, {} resubscribed",
            self.publications,
            self.acknowledged,
            self.unknown,
            self.deliveries,
            self.reconnects,
            self.recovered,
            self.not_recovered,
            self.resubscribed,
        )
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} gaps, {} duplicates, {} reorders, {} false recovered, {} misrouted",
            self.gaps, self.duplicates, self.reorders, self.false_recovered, self.misrouted
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "seen         {}", self.counts)?;
        writeln!(out, "not opened   {}", counts(&self.counts.failures))?;
        writeln!(out, "closed       {}", counts(&self.counts.closed))?;
        writeln!(out, "refused      {}", counts(&self.counts.refused))?;
        writeln!(
            out,
            "at the end   {} clients not back, {} publications behind, {} lost for all",
            self.not_back, self.behind, self.lost
        )?;
        let word = if self.is_clean() { "right" } else { "WRONG" };
        writeln!(out, "verdict      {word}: {}", self.faults)
    }
}

const KINDS_MAX: usize = 100;
