//! What is told to those who watch something: only what is new.

use tokio::sync::watch;

/// Tells it unless it was told last. Whether it did.
pub(crate) fn tell<T: PartialEq>(teller: &watch::Sender<T>, news: T) -> bool {
    teller.send_if_modified(|last| {
        let is_new = *last != news;
        *last = news;
        is_new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_not_told_again() {
        let (teller, mut told) = watch::channel(0);
        assert!(!tell(&teller, 0) && !told.has_changed().unwrap());
        assert!(tell(&teller, 1) && told.has_changed().unwrap());
        assert_eq!(*told.borrow_and_update(), 1);
        assert!(!tell(&teller, 1) && !told.has_changed().unwrap());
    }
}
