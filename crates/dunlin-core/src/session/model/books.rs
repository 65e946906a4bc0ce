//! The books of the model: what the client and others have been told of a session.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    channel::ChannelName,
    event::{Event, Outcome, Push},
    publication::ClientInfo,
};

/// What the client and others have been told.
#[derive(Default)]
pub(super) struct Books {
    pub(super) last_id: u32,
    /// The commands that are not answered yet.
    pub(super) open: BTreeMap<u32, Option<ChannelName>>,
    /// The channels that the client takes itself to be in.
    pub(super) client_is_in: BTreeSet<ChannelName>,
    pub(super) is_held_back: bool,
    pub(super) held_back: Vec<Event>,
    pub(super) has_ended: bool,
    pub(super) is_admitted: bool,
    /// How often presence shows the client, by channel.
    pub(super) shown: BTreeMap<ChannelName, u32>,
    /// ... and what it shows of it.
    pub(super) seen: BTreeMap<ChannelName, ClientInfo>,
    /// Where others were told that the client came.
    pub(super) announced: BTreeSet<ChannelName>,
}

impl Books {
    /// Notes what the client hears.
    pub(super) fn tell(&mut self, event: Event) {
        // It has its close frame, or gets nothing in front of it but what it was sent before.
        if self.has_ended {
            return;
        }
        match event {
            Event::Reply { id, outcome } => {
                let about = self.open.remove(&id);
                assert!(about.is_some(), "answered twice: {id}");
                match (outcome, about.flatten()) {
                    (Ok(Outcome::Connect(connected)), _) => {
                        self.client_is_in.extend(connected.subscriptions.into_iter().map(|s| s.0));
                    }
                    (Ok(Outcome::Subscribe(_)), Some(channel)) => {
                        assert!(self.client_is_in.insert(channel), "subscribed twice");
                    }
                    (Ok(Outcome::Unsubscribe), Some(channel)) => {
                        self.client_is_in.remove(&channel);
                    }
                    _ => {}
                }
            }
            Event::Push(channel, Push::Subscribe(_)) => {
                assert!(self.client_is_in.insert(channel), "subscribed twice");
            }
            Event::Push(channel, Push::Unsubscribe(_)) => {
                assert!(self.client_is_in.remove(&channel), "unsubscribed from nothing");
            }
            Event::Missed(_) | Event::Refreshed(_) | Event::Ping => {}
        }
    }
}
