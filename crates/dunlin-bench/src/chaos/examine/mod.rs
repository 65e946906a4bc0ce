//! Examines journals: was every acknowledged publication delivered once and in one order to
//! everybody who was there, or was it told where that cannot be proved? Pure.
//!
//! Within an epoch an offset is a place, so holes show by their numbers. Epochs end with the
//! servers that made them; across them a publication is known by its publisher and number, and its
//! place by time alone: what was acknowledged before another was sent lies before it.

mod order;
mod owed;
mod places;
mod reader;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use self::{places::Places, reader::View};
use crate::check::journal::Journal;

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A reader should have got a publication and did not, and was not told.
    Gap,
    /// A reader got a publication twice, or it has two places in the stream.
    Repeat,
    /// Readers got publications in different orders.
    Disorder,
    /// A reader was told that it missed nothing, and had.
    FalseRecovered,
    /// An acknowledged publication was delivered to nobody, and not everybody was told.
    Lost,
    /// A publication of another channel, or that nobody published.
    Misrouted,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// When it showed; of what has two places, when it was published (`clock::now`).
    pub(crate) at: u64,
    /// How many publications it is about.
    pub(crate) publications: u64,
    pub(crate) what: String,
}

/// Everything that journals show.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) broken: Vec<Finding>,
    /// How often a reader was told that its position is lost.
    pub(crate) resets: u64,
    pub(crate) recoveries: u64,
    /// Publications that a reader got before and after it was told: allowed.
    pub(crate) again_after_reset: u64,
    /// Publications without an acknowledgement that are in a stream all the same: allowed.
    pub(crate) unknown_there: u64,
}

impl Kind {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] = [
        Self::Gap,
        Self::Repeat,
        Self::Disorder,
        Self::FalseRecovered,
        Self::Lost,
        Self::Misrouted,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Gap => "gaps",
            Self::Repeat => "repeats",
            Self::Disorder => "disorders",
            Self::FalseRecovered => "false recovered",
            Self::Lost => "lost",
            Self::Misrouted => "misrouted",
        })
    }
}

impl Findings {
    /// Publications that a kind of broken promise is about.
    pub(crate) fn count(&self, kind: Kind) -> u64 {
        let of_kind = self.broken.iter().filter(|finding| finding.kind == kind);
        of_kind.map(|finding| finding.publications).sum()
    }

    fn add(&mut self, kind: Kind, at: u64, publications: u64, what: String) {
        self.broken.push(Finding { kind, at, publications, what });
    }
}

/// Everything that `journal` shows.
pub(crate) fn examine(journal: &Journal) -> Findings {
    let mut findings = Findings::default();
    let places = Places::new(journal, &mut findings);
    let view = |(number, _)| View::new(journal, number, &places, &mut findings);
    let views: Vec<View> = journal.readers.iter().enumerate().map(view).collect();
    // A stream in which one has two places, or two have one, has no order to compare with.
    if findings.count(Kind::Repeat) + findings.count(Kind::Disorder) == 0 {
        order::compare(journal, &views, &mut findings);
    }
    owed::check(journal, &places, &views, &mut findings);
    findings.broken.sort_by_key(|finding| finding.at);
    findings
}
