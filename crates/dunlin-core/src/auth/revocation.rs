//! Tokens that no longer count though their time is not over: one by its id, or all that a user
//! got before a moment. A table, the same on every node because every node is told everything.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use super::{
    ID_BYTES_MAX,
    claims::{ConnectionClaims, SubscriptionClaims},
};

/// What has been revoked. Bounded: nothing revoked is forgotten to make room before its time.
#[derive(Debug)]
pub struct Revocations {
    tokens: HashMap<Arc<str>, Until, RandomState>,
    users: HashMap<Arc<str>, UserRevocation, RandomState>,
    entries_max: usize,
}

/// Why something was not revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// As much is revoked as may be, all of it still in force.
    #[error("too much is revoked already")]
    Full,
    /// A user or token id that no token can have, being empty or too long.
    #[error("an id has 1 to {ID_BYTES_MAX} bytes")]
    Id,
}

/// When a revocation may be forgotten, in unix seconds; `None` = never.
pub type Until = Option<u64>;

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revocation {
    /// Of one token, by its id.
    Token {
        /// Which one.
        id: Arc<str>,
        /// When it may be forgotten.
        until: Until,
    },
    /// Of a user's older tokens.
    User {
        /// Whose.
        user: Arc<str>,
        /// In unix seconds: of all tokens that were issued earlier, or do not say when.
        issued_before: u64,
        /// When it may be forgotten.
        until: Until,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UserRevocation {
    issued_before: u64,
    until: Until,
}

impl Revocations {
    /// An empty table for up to `entries_max` tokens and users together.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self { tokens: HashMap::default(), users: HashMap::default(), entries_max }
    }

    /// Revokes the token with this id (`jti`). From `until` on, the expiry of the token, it may be
    /// forgotten; `None` = never. Of two revocations the longer counts. Returns whether it was not
    /// revoked before.
    ///
    /// # Errors
    /// [`RevokeError`], and nothing has changed.
    pub fn revoke_token(&mut self, id: &str, until: Until, now: u64) -> Result<bool, RevokeError> {
        let is_known = self.tokens.contains_key(id);
        self.check_room(id, is_known, now)?;
        let entry = self.tokens.entry(id.into()).or_insert(until);
        *entry = later(*entry, until);
        Ok(!is_known)
    }

    /// Revokes every token of `user` that was issued before `issued_before` or does not say when.
    /// From `until` on, when the last of them has expired, it may be forgotten; `None` = never. Of
    /// two revocations the wider counts. Returns whether more is revoked than before.
    ///
    /// # Errors
    /// [`RevokeError`], and nothing has changed.
    pub fn revoke_user(
        &mut self,
        user: &str,
        issued_before: u64,
        until: Until,
        now: u64,
    ) -> Result<bool, RevokeError> {
        let known = self.users.get(user).copied();
        self.check_room(user, known.is_some(), now)?;
        let entry = match known {
            None => UserRevocation { issued_before, until },
            Some(known) => UserRevocation {
                issued_before: known.issued_before.max(issued_before),
                until: later(known.until, until),
            },
        };
        self.users.insert(user.into(), entry);
        Ok(known.is_none_or(|known| known.issued_before < issued_before))
    }

    /// What is revoked here and not there, or there for less or not for as long.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Vec<Revocation> {
        let tokens = self.tokens.iter();
        let tokens = tokens.filter(|(id, until)| other.tokens.get(*id) != Some(*until));
        let tokens =
            tokens.map(|(id, until)| Revocation::Token { id: Arc::clone(id), until: *until });
        let users = self.users.iter();
        let users = users.filter(|(user, revoked)| other.users.get(*user) != Some(*revoked));
        let users = users.map(|(user, revoked)| Revocation::User {
            user: Arc::clone(user),
            issued_before: revoked.issued_before,
            until: revoked.until,
        });
        tokens.chain(users).collect()
    }

    /// Whether a token of `user` with this id and time of issue does not count any more.
    #[must_use]
    pub fn is_revoked(&self, user: &str, token_id: Option<&str>, issued_at: Option<u64>) -> bool {
        let by_user = self.users.get(user).is_some_and(|revoked| {
            issued_at.is_none_or(|issued_at| issued_at < revoked.issued_before)
        });
        by_user || token_id.is_some_and(|id| self.tokens.contains_key(id))
    }

    /// Forgets what need not be known any more at `now` (unix seconds).
    pub fn forget_expired(&mut self, now: u64) {
        let in_force = |until: Until| until.is_none_or(|until| now < until);
        self.tokens.retain(|_, until| in_force(*until));
        self.users.retain(|_, revoked| in_force(revoked.until));
    }

    /// Whether one more token or user can be revoked at `now` (unix seconds).
    pub fn has_room(&mut self, now: u64) -> bool {
        if self.len() >= self.entries_max {
            self.forget_expired(now);
        }
        self.len() < self.entries_max
    }

    /// How many revocations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len() + self.users.len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check_room(&mut self, id: &str, is_known: bool, now: u64) -> Result<(), RevokeError> {
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(RevokeError::Id);
        }
        if is_known || self.has_room(now) { Ok(()) } else { Err(RevokeError::Full) }
    }
}

fn later(one: Until, other: Until) -> Until {
    one.zip(other).map(|(one, other)| one.max(other))
}

/// What came by a token, and ends with it.
pub trait Revocable {
    /// Whether that token does not count any more.
    fn is_revoked(&self, by: &Revocations) -> bool;
}

impl Revocable for ConnectionClaims {
    fn is_revoked(&self, by: &Revocations) -> bool {
        by.is_revoked(&self.user, self.token_id.as_deref(), self.issued_at)
    }
}

impl Revocable for SubscriptionClaims {
    fn is_revoked(&self, by: &Revocations) -> bool {
        by.is_revoked(&self.user, self.token_id.as_deref(), self.issued_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_revoked_by_its_id() {
        let mut revoked = Revocations::new(8);
        revoked.revoke_token("a", Some(50), 10).unwrap();
        assert!(revoked.is_revoked("42", Some("a"), Some(9)));
        assert!(revoked.is_revoked("42", Some("a"), None));
        assert!(!revoked.is_revoked("42", Some("b"), None));
        assert!(!revoked.is_revoked("42", None, None));
    }

    #[test]
    fn a_users_older_tokens_are_revoked_and_so_are_those_without_a_time() {
        let mut revoked = Revocations::new(8);
        revoked.revoke_user("42", 100, None, 100).unwrap();
        for (issued_at, verdict) in [(Some(99), true), (None, true), (Some(100), false)] {
            assert_eq!(revoked.is_revoked("42", Some("x"), issued_at), verdict, "{issued_at:?}");
        }
        assert!(!revoked.is_revoked("43", None, None));
        revoked.revoke_user("42", 50, Some(1), 100).unwrap();
        revoked.forget_expired(u64::MAX);
        assert!(revoked.is_revoked("42", None, Some(99)), "the wider revocation stays");
    }

    #[test]
    fn what_one_table_has_beyond_another_makes_them_equal() {
        let (mut here, mut there) = (Revocations::new(8), Revocations::new(8));
        assert_eq!(here.revoke_token("both", Some(50), 10), Ok(true));
        assert_eq!(here.revoke_token("both", Some(40), 10), Ok(false));
        there.revoke_token("both", Some(50), 10).unwrap();
        there.revoke_token("there alone", None, 10).unwrap();
        assert_eq!(here.beyond(&there), []);
        here.revoke_token("here alone", None, 10).unwrap();
        assert_eq!(here.revoke_user("42", 100, None, 10), Ok(true));
        there.revoke_user("42", 90, Some(120), 10).unwrap();
        for revocation in here.beyond(&there) {
            let news = match revocation {
                Revocation::Token { id, until } => there.revoke_token(&id, until, 10),
                Revocation::User { user, issued_before, until } => {
                    there.revoke_user(&user, issued_before, until, 10)
                }
            };
            assert_eq!(news, Ok(true));
        }
        assert_eq!((here.beyond(&there), there.len()), (Vec::new(), 4));
    }

    #[test]
    fn what_is_in_force_is_never_dropped_for_room() {
        let mut revoked = Revocations::new(2);
        revoked.revoke_token("a", Some(20), 10).unwrap();
        revoked.revoke_token("b", None, 10).unwrap();
        assert!(!revoked.has_room(19));
        assert_eq!(revoked.revoke_token("c", None, 19), Err(RevokeError::Full));
        revoked.revoke_token("a", Some(20), 19).unwrap();
        revoked.revoke_token("c", None, 20).unwrap();
        assert!(!revoked.is_revoked("", Some("a"), None), "it has expired by itself");
        assert!(revoked.is_revoked("", Some("b"), None));
        assert_eq!(revoked.len(), 2);
        assert_eq!(revoked.revoke_token("", None, 20), Err(RevokeError::Id));
        assert_eq!(revoked.revoke_user(&"u".repeat(256), 1, None, 20), Err(RevokeError::Id));
    }
}
