//! What an attack is: bands of attackers that do the same, and the bars for what others notice.

use super::{commands, frames, handshakes, readers, tokens};

/// A named kind of abuse.
#[derive(Clone, Copy)]
pub(super) struct Pattern {
    pub(super) name: &'static str,
    /// One line for people.
    pub(super) what: &'static str,
    /// Settings of the server beyond those that all patterns share.
    pub(super) settings: &'static [&'static str],
    pub(super) bars: Bars,
    bands: fn(Size) -> Vec<Band>,
}

/// What others may notice of an attack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bars {
    /// How often the calm p99 the good clients' p99 may be.
    pub(super) ratio: f64,
    /// How much more resident memory the server may have, in MiB.
    pub(super) growth: f64,
    pub(super) newcomers: Newcomers,
}

/// What somebody who comes new may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newcomers {
    /// A place.
    Welcome,
    /// Perhaps none: the attackers hold all there are.
    Crowded,
}

/// How much of the load.
#[derive(Clone, Copy)]
pub(super) struct Size(pub(super) f64);

impl Size {
    /// So many attackers, or the share of them.
    pub(super) fn of(self, count: usize) -> usize {
        ((count as f64 * self.0) as usize).max(1)
    }
}

/// Attackers that all do the same.
pub(super) struct Band {
    pub(super) count: usize,
    pub(super) opening: Opening,
    pub(super) reads: Reads,
    /// Whether who was thrown out comes back.
    pub(super) again: bool,
    /// Puts what an attacker sends next: its number, and how often it was asked before.
    pub(super) feed: Feed,
}

/// What an attacker does, each time it may.
type Feed = Box<dyn FnMut(usize, u64, &mut Vec<u8>) -> Next + Send>;

/// How an attacker begins.
pub(super) enum Opening {
    /// Connected, and not a byte of HTTP.
    Raw,
    /// With a 101, and right behind it the frames for its number.
    Upgraded {
        path: &'static str,
        /// Further lines of the request's head, each with its end.
        headers: &'static str,
        greeting: Box<dyn Fn(usize) -> Vec<u8> + Send>,
    },
}

/// What an attacker reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    All,
    /// Nothing, with the smallest buffer the kernel gives.
    Nothing,
    /// So many bytes each time it was asked what it sends.
    Sips(usize),
}

/// When an attacker is asked again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// As soon as the socket takes more.
    AtOnce,
    In(std::time::Duration),
    /// It only waits from now on.
    Never,
    /// It goes away without a word.
    Leave,
}

impl Opening {
    pub(super) fn upgraded(path: &'static str) -> Self {
        Self::greeted(path, |_| Vec::new())
    }

    pub(super) fn greeted(
        path: &'static str,
        greeting: impl Fn(usize) -> Vec<u8> + Send + 'static,
    ) -> Self {
        Self::Upgraded { path, headers: "", greeting: Box::new(greeting) }
    }
}

impl Band {
    pub(super) fn new(
        count: usize,
        opening: Opening,
        feed: impl FnMut(usize, u64, &mut Vec<u8>) -> Next + Send + 'static,
    ) -> Self {
        Self { count, opening, reads: Reads::All, again: false, feed: Box::new(feed) }
    }

    pub(super) fn again(self) -> Self {
        Self { again: true, ..self }
    }

    pub(super) fn reading(self, reads: Reads) -> Self {
        Self { reads, ..self }
    }
}

impl Pattern {
    pub(super) const fn new(
        name: &'static str,
        what: &'static str,
        bands: fn(Size) -> Vec<Band>,
    ) -> Self {
        Self { name, what, settings: &[], bars: Bars::USUAL, bands }
    }

    pub(super) const fn with(self, settings: &'static [&'static str]) -> Self {
        Self { settings, ..self }
    }

    pub(super) const fn within(self, bars: Bars) -> Self {
        Self { bars, ..self }
    }

    pub(super) fn bands(&self, size: Size) -> Vec<Band> {
        (self.bands)(size)
    }
}

impl Bars {
    pub(super) const USUAL: Self = Self { ratio: 2.0, growth: 64.0, newcomers: Newcomers::Welcome };
    /// Where 2,000 connections are held.
    pub(super) const HELD: Self = Self { growth: 256.0, ..Self::USUAL };
    /// Where a member floods the channel that is measured.
    pub(super) const FLOODED: Self = Self { ratio: 3.0, ..Self::USUAL };
}

/// All patterns at once. The server has the settings of all that change what clients may do.
pub(super) const TOGETHER: Pattern = Pattern::new(
    "all-at-once",
    "every other pattern at the same time, with fewer attackers each",
    |size| all().iter().flat_map(|pattern| pattern.bands(size)).collect(),
)
.with(&["ws.compression=true"])
.within(Bars { ratio: 4.0, growth: f64::INFINITY, newcomers: Newcomers::Crowded });

/// How much of each pattern makes so many attackers of all together, or few more.
pub(super) fn size_for(attackers: usize) -> Size {
    let mut size = Size(1.0);
    let count = |size| TOGETHER.bands(size).iter().map(|band| band.count).sum::<usize>();
    while count(size) > attackers && size.0 > 0.01 {
        size.0 *= 0.9;
    }
    size
}

/// All patterns, by family.
pub(super) fn all() -> Vec<Pattern> {
    [handshakes::ALL, frames::ALL, commands::ALL, readers::ALL, tokens::ALL].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn all_together_are_as_many_as_wanted() {
        let bands = TOGETHER.bands(size_for(2_000));
        assert!(bands.len() >= all().len());
        assert!(bands.iter().map(|band| band.count).sum::<usize>() <= 2_000);
    }

    #[test]
    fn names_are_unique_and_none_needs_a_quote() {
        let all = all();
        let names: HashSet<_> = all.iter().map(|pattern| pattern.name).collect();
        assert_eq!(names.len(), all.len());
        let plain = |name: &&str| {
            name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
        };
        assert!(names.iter().all(plain), "{names:?}");
    }
}
