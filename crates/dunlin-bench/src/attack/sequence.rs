//! What one client got of one publisher: what is missing and what came twice.

/// Numbers from 0 that should come in order, each once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence {
    /// The number above the highest that came.
    next: u32,
    jumped_over: u64,
    repeated: u64,
}

impl Sequence {
    pub(super) fn deliver(&mut self, number: u32) {
        match number.checked_sub(self.next) {
            Some(jumped_over) => {
                self.jumped_over += u64::from(jumped_over);
                self.next = number + 1;
            }
            None => self.repeated += 1,
        }
    }

    /// How many of the first `sent` did not come, or not in order.
    pub(super) fn missing(&self, sent: u32) -> u64 {
        self.jumped_over + u64::from(sent.saturating_sub(self.next))
    }

    /// How many came twice, or too late.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_expected_once_and_in_order() {
        for (numbers, missing, repeated) in [
            (&[][..], 5, 0),
            (&[0, 1, 2, 3, 4], 0, 0),
            (&[0, 1, 4], 2, 0),
            (&[0, 1], 3, 0),
            (&[0, 1, 1, 2, 3, 4], 0, 1),
            (&[0, 2, 1, 3, 4], 1, 1),
        ] {
            let mut sequence = Sequence::default();
            numbers.iter().for_each(|&number| sequence.deliver(number));
            let found = (sequence.missing(5), sequence.repeated());
            assert_eq!(found, (missing, repeated), "{numbers:?}");
        }
    }
}
