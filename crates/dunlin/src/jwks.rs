//! Key sets from the one address that an operator configured, fetched before they are needed and
//! when a token names a key that is not known yet. Nothing in a token says where to look.

use std::{sync::Arc, time::Duration};

use dunlin_core::auth::keyring::Keyring;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

pub use self::{
    address::{Address, InvalidAddress},
    fetch::{FetchError, fetch},
};

mod address;
mod fetch;

/// How often a key set is fetched when nobody asks for it, up to a tenth sooner or later, so that
/// nodes do not ask together.
pub(crate) const REFRESH_INTERVAL: Duration = Duration::from_secs(600);

/// Shortest time between two fetches, however many tokens name unknown keys, and after a failure.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(30);

/// A keyring whose named keys follow a key set.
#[derive(Debug)]
pub struct LiveKeyring {
    current: RwLock<Arc<Keyring>>,
    address: Option<Address>,
    /// How long keys count after their set was fetched last; zero = for ever.
    age_max: Duration,
    fetched_at: Mutex<Instant>,
    wanted: Notify,
}

impl LiveKeyring {
    /// `keyring`, and whatever keys are found at `address`, from the first fetch on until all
    /// fetches have failed for `age_max`; zero = for ever.
    #[must_use]
    pub fn new(keyring: Keyring, address: Option<Address>, age_max: Duration) -> Self {
        Self {
            current: RwLock::new(Arc::new(keyring)),
            address,
            age_max,
            fetched_at: Mutex::new(Instant::now()),
            wanted: Notify::new(),
        }
    }

    /// Whether there is a set to fetch keys from.
    pub fn follows_a_set(&self) -> bool {
        self.address.is_some()
    }

    /// The keys as they are now.
    pub fn current(&self) -> Arc<Keyring> {
        Arc::clone(&self.current.read())
    }

    /// Asks for a fetch because a token names a key that is not there. Cheap, and no fetch comes
    /// sooner than half a minute after the last.
    pub fn want_newer(&self) {
        self.wanted.notify_one();
    }

    /// Keeps the named keys up to date, for as long as it is polled. What cannot be fetched or used
    /// leaves the keys as they were, until they are too old.
    pub async fn follow(&self) {
        let Some(address) = &self.address else { return };
        loop {
            let begun = Instant::now();
            let pause = match self.refresh(address).await {
                Ok(()) => REFRESH_INTERVAL,
                Err(error) => {
                    tracing::warn!(%address, "keys stay as they were: {error:#}");
                    self.forget_old(address, Instant::now());
                    FETCH_INTERVAL_MIN
                }
            };
            let pause = pause.mul_f64(0.9 + fastrand::f64() / 5.0);
            // Whether it was wanted or is due makes no difference.
            let _elapsed = timeout(pause, self.wanted.notified()).await;
            sleep(FETCH_INTERVAL_MIN.saturating_sub(begun.elapsed())).await;
        }
    }

    async fn refresh(&self, address: &Address) -> anyhow::Result<()> {
        let document = fetch(address).await?;
        let renewed = self.current().with_jwks(&document)?;
        if !renewed.has_named() {
            tracing::warn!(%address, "the key set has no key of use");
        }
        *self.current.write() = Arc::new(renewed);
        *self.fetched_at.lock() = Instant::now();
        tracing::debug!(%address, "the key set is up to date");
        Ok(())
    }

    /// Forgets keys whose set could not be fetched for too long: one of them may be revoked.
    fn forget_old(&self, address: &Address, now: Instant) {
        let is_old = now.saturating_duration_since(*self.fetched_at.lock()) >= self.age_max;
        let current = self.current();
        if is_old && !self.age_max.is_zero() && current.has_named() {
            tracing::error!(%address, "the keys of the set are too old, and count no longer");
            *self.current.write() = Arc::new(current.without_named());
        }
    }
}

#[cfg(test)]
mod tests;
