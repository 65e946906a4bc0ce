//! What the log was told already: a link that cannot be made is tried many times a minute, and each
//! reason is worth a line now and then.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The reasons of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<Vec<(String, Instant)>>);

impl Complaints {
    /// Whether the log is to be told a reason; if so, it counts as told.
    pub(crate) fn is_due(&self, reason: &str) -> bool {
        let now = Instant::now();
        let mut told = self.0.lock();
        told.retain(|(_, since)| now < *since + INTERVAL);
        if told.iter().any(|(known, _)| known == reason) {
            return false;
        }
        if told.len() == REASONS_MAX {
            told.remove(0);
        }
        told.push((reason.to_owned(), now));
        true
    }
}

const INTERVAL: Duration = Duration::from_secs(60);
const REASONS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_reason_is_told_once_a_minute() {
        let complaints = Complaints::default();
        let mut told = 0;
        for _ in 0..1200 {
            told += usize::from(complaints.is_due("refused"));
            advance(Duration::from_millis(100)).await;
        }
        assert_eq!(told, 2, "in two minutes");
        assert!(complaints.is_due("another"));
    }

    #[tokio::test(start_paused = true)]
    async fn reasons_without_end_are_not_remembered_without_end() {
        let complaints = Complaints::default();
        for reason in 0..100 {
            assert!(complaints.is_due(&reason.to_string()));
        }
        assert_eq!(complaints.0.lock().len(), REASONS_MAX);
        assert!(!complaints.is_due("99"));
    }
}
