//! The one order of a channel, pieced together from what its subscribers get. Bounded: of each
//! branch the last entries only.

use std::collections::VecDeque;

use super::judge::Message;

/// What is known of a channel: a branch for each epoch the server has named.
#[derive(Default)]
pub(super) struct Stream {
    branches: Vec<Branch>,
}

struct Branch {
    epoch: String,
    /// The offset of the first entry.
    first: u64,
    /// What is at each offset; `None` where no subscriber has been.
    entries: VecDeque<Option<Message>>,
    /// Entries that were forgotten before anybody had been there.
    forgotten: u64,
}

/// What was found at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody had been there.
    New,
    /// The same message.
    Same,
    /// Another message.
    Different,
    /// It was too long ago.
    Forgotten,
}

impl Stream {
    /// The branch of an epoch, whose top is at least `top`.
    pub(super) fn branch(&mut self, epoch: &str, top: u64) -> usize {
        let known = self.branches.iter().position(|branch| branch.epoch == epoch);
        let index = known.unwrap_or_else(|| {
            let (epoch, entries) = (epoch.to_owned(), VecDeque::new());
            self.branches.push(Branch { epoch, first: top + 1, entries, forgotten: 0 });
            self.branches.len() - 1
        });
        self.branches[index].reach_up(top);
        self.branches[index].reach_down(top + 1);
        index
    }

    /// The name of a branch.
    pub(super) fn epoch(&self, branch: usize) -> &str {
        &self.branches[branch].epoch
    }

    /// Puts a message where a subscriber got it.
    pub(super) fn place(&mut self, branch: usize, offset: u64, message: Message) -> Place {
        // Branches have the entries before their fork in common.
        let common = self.branches.iter().any(|other| other.at(offset) == Some(message));
        let branch = &mut self.branches[branch];
        branch.reach_up(offset);
        branch.reach_down(offset);
        let Some(index) = offset.checked_sub(branch.first) else { return Place::Forgotten };
        match &mut branch.entries[index as usize] {
            Some(entry) if *entry == message => Place::Same,
            Some(_) => Place::Different,
            empty => {
                *empty = Some(message);
                if common { Place::Same } else { Place::New }
            }
        }
    }

    /// How far the end is from a position: the top of the latest branch.
    pub(super) fn ahead_of(&self, branch: usize, offset: u64) -> u64 {
        let Some(latest) = self.branches.last() else { return 0 };
        if branch + 1 < self.branches.len() {
            return latest.top().saturating_sub(offset).max(1);
        }
        latest.top().saturating_sub(offset)
    }

    /// How many entries may exist that no subscriber has got; any number once an epoch has ended.
    pub(super) fn unseen(&self) -> u64 {
        match &self.branches[..] {
            [] => 0,
            [only] => only.forgotten + only.unseen_entries(),
            _ => u64::MAX,
        }
    }
}

impl Branch {
    fn top(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    fn at(&self, offset: u64) -> Option<Message> {
        let index = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        *self.entries.get(index)?
    }

    /// Makes room for the entries up to `offset`; forgets the oldest ones beyond the bound.
    fn reach_up(&mut self, offset: u64) {
        if offset > self.top() + ENTRIES_MAX as u64 {
            self.forgotten += offset - self.top() + self.unseen_entries();
            self.entries.clear();
            self.first = offset + 1;
        }
        while self.top() < offset {
            self.entries.push_back(None);
        }
        while self.entries.len() > ENTRIES_MAX {
            self.forgotten += u64::from(self.entries.pop_front() == Some(None));
            self.first += 1;
        }
    }

    /// Makes room for the entries down to `offset`, as far as the bound allows.
    fn reach_down(&mut self, offset: u64) {
        while self.first > offset.max(1) && self.entries.len() < ENTRIES_MAX {
            self.entries.push_front(None);
            self.first -= 1;
        }
    }

    fn unseen_entries(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.is_none()).count() as u64
    }
}

/// Some 16 bytes each.
const ENTRIES_MAX: usize = 100_000;
