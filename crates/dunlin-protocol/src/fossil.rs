//! Fossil deltas: a payload told as copies from the payload before it and what is new.
//!
//! Format: <https://fossil-scm.org/home/doc/tip/www/delta_format.wiki>. Work and memory are linear
//! in the sizes of the two payloads, whatever they hold.

use std::{iter, ops::Range};

/// The longest payload a delta is made from or for, in bytes.
pub const BYTES_MAX: usize = 1 << 20;

/// The delta that turns `origin` into `target`, if it is shorter than `target` and neither is
/// longer than [`BYTES_MAX`].
///
/// Where `target` is UTF-8 no code point is cut: a copy ends and begins between code points, and
/// so does what is inserted.
#[must_use]
pub fn create(origin: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if origin.len().max(target.len()) > BYTES_MAX {
        return None;
    }
    let mut delta = Delta::new(target);
    let prefix = Match::prefix(origin, target).filter(Match::pays);
    let begin = prefix.as_ref().map_or(0, |prefix| prefix.at.end);
    let suffix = Match::suffix(origin, target, begin).filter(Match::pays);
    let end = suffix.as_ref().map_or(target.len(), |suffix| suffix.at.start);
    if let Some(prefix) = prefix {
        delta.copy(&prefix);
    }
    if end - begin >= BLOCK && origin.len() >= BLOCK {
        delta.search(origin, begin..end)?;
    }
    if let Some(suffix) = suffix {
        delta.copy(&suffix);
    }
    delta.finish()
}

/// [`create`] for text: the delta is text as well, so it can travel as a JSON string. Its bytes
/// serve every other encoding too.
#[must_use]
pub fn create_text(origin: &str, target: &str) -> Option<String> {
    let delta = create(origin.as_bytes(), target.as_bytes())?;
    Some(String::from_utf8(delta).expect("commands are ASCII and code points are never cut"))
}

/// A delta that is being written.
struct Delta<'a> {
    target: &'a [u8],
    /// How much of the target the commands tell so far.
    told: usize,
    commands: Vec<u8>,
}

impl<'a> Delta<'a> {
    fn new(target: &'a [u8]) -> Self {
        let mut commands = Vec::with_capacity(64);
        push_number(&mut commands, target.len());
        commands.push(b'\n');
        Self { target, told: 0, commands }
    }

    /// Tells the target from `within`'s begin to its last match, or gives up when the delta has
    /// grown as long as the target.
    fn search(&mut self, origin: &[u8], within: Range<usize>) -> Option<()> {
        let index = Index::new(origin);
        // How far the last copy was moved: what follows a change is often moved as far.
        let mut moved = 0_isize;
        let mut at = within.start;
        while at + BLOCK <= within.end {
            let open = self.told..within.end;
            let found = index.longest(self.target, at, open, at.checked_add_signed(moved));
            if let Some(found) = found {
                self.copy(&found);
                moved = found.from.cast_signed() - found.at.start.cast_signed();
                at = self.told;
                if self.commands.len() >= self.target.len() {
                    return None;
                }
            } else {
                at += 1;
            }
        }
        Some(())
    }

    /// Tells what precedes `found` as new, then `found` as a copy.
    fn copy(&mut self, found: &Match) {
        self.insert_until(found.at.start);
        push_number(&mut self.commands, found.at.len());
        self.commands.push(b'@');
        push_number(&mut self.commands, found.from);
        self.commands.push(b',');
        self.told = found.at.end;
    }

    fn insert_until(&mut self, end: usize) {
        let new = &self.target[self.told..end];
        if !new.is_empty() {
            push_number(&mut self.commands, new.len());
            self.commands.push(b':');
            self.commands.extend_from_slice(new);
        }
        self.told = end;
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        self.insert_until(self.target.len());
        push_number(&mut self.commands, checksum(self.target) as usize);
        self.commands.push(b';');
        (self.commands.len() < self.target.len()).then_some(self.commands)
    }
}

/// A part of the target that the origin holds too.
struct Match {
    /// Where it begins in the origin.
    from: usize,
    /// Where it is in the target.
    at: Range<usize>,
}

impl Match {
    /// What both begin with.
    fn prefix(origin: &[u8], target: &[u8]) -> Option<Self> {
        Self { from: 0, at: 0..common_prefix(origin, target) }.between_code_points(target)
    }

    /// What both end with, in the target not before `begin`.
    fn suffix(origin: &[u8], target: &[u8], begin: usize) -> Option<Self> {
        let count = common_suffix(origin, &target[begin..]);
        let from = origin.len() - count;
        Self { from, at: target.len() - count..target.len() }.between_code_points(target)
    }

    /// Shrinks it until it cuts no code point. In UTF-8 three steps suffice at either end; other
    /// bytes may be cut anywhere.
    fn between_code_points(mut self, target: &[u8]) -> Option<Self> {
        let cuts = |at: usize| target.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
        for _ in 0..3 {
            if cuts(self.at.start) {
                self.at.start += 1;
                self.from += 1;
            }
            if cuts(self.at.end) {
                self.at.end = self.at.end.saturating_sub(1);
            }
        }
        (self.at.start < self.at.end).then_some(self)
    }

    /// Whether it takes fewer bytes to copy than to insert, also where the copy parts an insert
    /// into two.
    fn pays(&self) -> bool {
        let count = self.at.len();
        count > digits(count) + digits(self.from) + 2 + INSERT_BYTES
    }
}

/// The blocks of the origin by their hash.
struct Index<'a> {
    origin: &'a [u8],
    /// One more than the first block of each hash, or 0.
    heads: Vec<u32>,
    /// One more than the next block with the same hash, or 0.
    next: Vec<u32>,
}

impl<'a> Index<'a> {
    fn new(origin: &'a [u8]) -> Self {
        let blocks = origin.len() / BLOCK;
        let mut heads = vec![0; blocks.next_power_of_two()];
        let mut next = vec![0; blocks];
        for (place, block) in origin.chunks_exact(BLOCK).enumerate().rev() {
            let head = &mut heads[slot(block, blocks)];
            next[place] = *head;
            *head = u32::try_from(place + 1).expect("a payload is bounded");
        }
        Self { origin, heads, next }
    }

    /// The longest match around the block of `target` at `at`, within `open`, that pays. `likely`
    /// is a place in the origin to look at first.
    fn longest(
        &self,
        target: &[u8],
        at: usize,
        open: Range<usize>,
        likely: Option<usize>,
    ) -> Option<Match> {
        let block = &target[at..at + BLOCK];
        let head = self.heads[slot(block, self.next.len())];
        let after = |entry: &u32| self.next.get((*entry as usize).checked_sub(1)?).copied();
        let same_hash = iter::successors(Some(head), after)
            .take_while(|entry| *entry != 0)
            .take(CANDIDATES_MAX)
            .map(|entry| (entry as usize - 1) * BLOCK);
        likely
            .into_iter()
            .chain(same_hash)
            .filter(|from| self.origin.get(*from..from + BLOCK) == Some(block))
            .map(|from| self.extend(target, from, at, &open))
            .max_by_key(|found| found.at.len())?
            .between_code_points(target)
            .filter(Match::pays)
    }

    /// The match that holds the block at `from` in the origin and at `at` in the target.
    fn extend(&self, target: &[u8], from: usize, at: usize, open: &Range<usize>) -> Match {
        let before = common_suffix(&self.origin[..from], &target[open.start..at]);
        let after = common_prefix(&self.origin[from..], &target[at..open.end]);
        Match { from: from - before, at: at - before..at + after }
    }
}

/// The bytes the index knows the origin by. A match that is found by its block alone is at least
/// this long, and long enough to pay.
const BLOCK: usize = 16;

/// How many blocks with the same hash are looked at: the bound on the work per byte of target.
const CANDIDATES_MAX: usize = 8;

/// What beginning one more insert takes, in bytes, for the sizes that are common.
const INSERT_BYTES: usize = 2;

/// The place of `block` in a table for `blocks` of them.
fn slot(block: &[u8], blocks: usize) -> usize {
    let (low, high) = block.split_at(BLOCK / 2);
    let word = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("a half is eight bytes"));
    let mixed = word(low).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ word(high);
    let mixed = mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 32;
    mixed as usize & (blocks.next_power_of_two() - 1)
}

fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    iter::zip(left, right).take_while(|(left, right)| left == right).count()
}

fn common_suffix(left: &[u8], right: &[u8]) -> usize {
    iter::zip(left.iter().rev(), right.iter().rev())
        .take_while(|(left, right)| left == right)
        .count()
}

/// The digits that [`push_number`] writes.
fn digits(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()).div_ceil(6).max(1) as usize
}

/// Writes `number` in base 64, the most significant digit first.
fn push_number(out: &mut Vec<u8>, number: usize) {
    const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
    for digit in (0..digits(number)).rev() {
        out.push(DIGITS[number >> (6 * digit) & 63]);
    }
}

/// The sum of the payload's 32-bit words, big endian, the last one filled up with zeros.
fn checksum(payload: &[u8]) -> u32 {
    let word = |bytes: &[u8]| {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        u32::from_be_bytes(word)
    };
    payload.chunks(4).map(word).fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests;
