//! Where a server is: one address for ever, or what sentinels or a cluster say at
//! the moment.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, watch};

use super::error::LinkError;
use crate::url::Endpoint;

/// See the module's text. Clones share what is known.
#[derive(Clone)]
pub(crate) enum Place {
    Fixed(Endpoint),
    Told(Told),
}

/// What others say of where a server is.
#[derive(Clone)]
pub(crate) struct Told {
    news: watch::Receiver<News>,
    doubt: Arc<Notify>,
    tries: Arc<AtomicUsize>,
}

/// Where a server may be, the likeliest place first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    At(Arc<[Endpoint]>),
    /// Nobody can say, and why.
    Unknown(Arc<str>),
    /// It does not matter now: there is nothing to do there.
    Needless,
}

impl Told {
    /// Whoever doubts what `news` says, since it leads nowhere, rings `doubt`.
    pub(crate) fn new(news: watch::Receiver<News>, doubt: Arc<Notify>) -> Self {
        Self { news, doubt, tries: Arc::default() }
    }
}

impl Place {
    /// Where to dial now. Attempts go round if there is more than one place, so that none waits for
    /// a server that is dead. Waits until a place is known. Cancel-safe.
    pub(crate) async fn find(&self) -> Endpoint {
        let told = match self {
            Self::Fixed(endpoint) => return endpoint.clone(),
            Self::Told(told) => told,
        };
        let mut news = told.news.clone();
        loop {
            if let News::At(places) = &*news.borrow_and_update()
                && !places.is_empty()
            {
                let turn = told.tries.fetch_add(1, Ordering::Relaxed);
                return places[turn % places.len()].clone();
            }
            if news.changed().await.is_err() {
                // Whoever told is gone; whoever asks is about to be.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether nobody says which server it is but the network.
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self, Self::Fixed(_))
    }

    /// Waits as long as there is nothing to do at any place. Cancel-safe.
    pub(crate) async fn needed(&self) {
        if let Self::Told(told) = self {
            let is_needed = |news: &News| *news != News::Needless;
            // Whoever told is gone; whoever asks is about to be.
            let _ = told.news.clone().wait_for(is_needed).await;
        }
    }

    /// Why there is no place to dial.
    pub(crate) fn unknown(&self) -> Option<LinkError> {
        match self {
            Self::Fixed(_) => None,
            Self::Told(told) => match &*told.news.borrow() {
                News::At(_) | News::Needless => None,
                News::Unknown(why) => Some(LinkError::NoPrimary(why.to_string())),
            },
        }
    }

    /// What is known led nowhere: ask anew.
    pub(crate) fn doubt(&self) {
        if let Self::Told(told) = self {
            told.doubt.notify_waiters();
        }
    }

    /// Waits until the server is said to be elsewhere. Cancel-safe.
    pub(crate) async fn left(&self, endpoint: Option<&Endpoint>) {
        let (Self::Told(told), Some(endpoint)) = (self, endpoint) else {
            return std::future::pending().await;
        };
        let is_elsewhere = |news: &News| match news {
            News::At(places) => !places.contains(endpoint),
            News::Unknown(_) | News::Needless => false,
        };
        if told.news.clone().wait_for(is_elsewhere).await.is_err() {
            std::future::pending().await
        }
    }
}
