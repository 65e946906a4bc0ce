//! Follows a cluster: a lane for each of its shards, and every partition in the lane of its shard.
//! A shard stays the same while its primary changes: its lane goes to the new one, as a lane behind
//! sentinels does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use super::Lanes;
use crate::{
    cluster::{
        self,
        map::{Map, NodeId, Shard},
    },
    lane::founder::Founder,
    link::{
        dial::Dialer,
        place::{News, Place, Told},
        stopped,
    },
    news,
};

/// See the module's text.
pub(crate) struct Following {
    lanes: Arc<Lanes>,
    founder: Founder,
    dialer: Dialer,
    doubt: Arc<Notify>,
    /// By the number of the lane.
    shards: Vec<Followed>,
}

/// What a lane follows.
struct Followed {
    primary: NodeId,
    nodes: BTreeSet<NodeId>,
    news: watch::Sender<News>,
    dialer: Dialer,
}

impl Following {
    /// `dialer` gets into every node; whoever rings `doubt` has the map asked for anew.
    pub(crate) fn new(
        lanes: Arc<Lanes>,
        founder: Founder,
        dialer: Dialer,
        doubt: Arc<Notify>,
    ) -> Self {
        Self { lanes, founder, dialer, doubt, shards: Vec::new() }
    }

    /// How the lanes dial.
    pub(crate) fn dialers(&self) -> Vec<Dialer> {
        self.shards.iter().map(|shard| shard.dialer.clone()).collect()
    }

    /// Follows what `maps` tells until told to stop.
    pub(crate) async fn run(
        mut self,
        mut maps: watch::Receiver<cluster::News>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut is_settled = true;
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return,
                changed = maps.changed() => if changed.is_err() { return },
                () = sleep(TRANSIT_PAUSE), if !is_settled => {}
            }
            let news = maps.borrow_and_update().clone();
            if let cluster::News::Map(map) = news {
                is_settled = self.settle(&map);
            }
        }
    }

    /// Sees that everything is where the map says. False if some of it is on its way yet.
    pub(crate) fn settle(&mut self, map: &Map) -> bool {
        let mut taken = BTreeSet::new();
        let mut is_settled = true;
        for shard in &map.shards {
            let lane = self.find(shard, map, &taken).unwrap_or_else(|| self.found(shard));
            taken.insert(lane);
            self.shards[lane].follow(shard);
            for partition in &shard.partitions {
                is_settled &= self.lanes.give(*partition, lane);
            }
        }
        for (lane, followed) in self.shards.iter().enumerate() {
            if !taken.contains(&lane) && !self.lanes.has_partitions(lane) {
                match self.lanes.has_handed_over(lane) {
                    true => followed.tell(News::Needless),
                    false => is_settled = false,
                }
            }
        }
        is_settled
    }

    /// The lane of a shard: that with its primary, or that of which its primary was a replica. One
    /// with partitions goes before one that lost them all: its server may have become a replica in
    /// another shard, and takes over there.
    fn find(&self, shard: &Shard, map: &Map, taken: &BTreeSet<usize>) -> Option<usize> {
        let rank = |(lane, followed): (usize, &Followed)| {
            let has_primary = followed.primary == shard.primary_id;
            let is_heir = || {
                followed.nodes.contains(&shard.primary_id)
                    && !map.shards.iter().any(|other| other.primary_id == followed.primary)
            };
            let is_free = !taken.contains(&lane) && (has_primary || is_heir());
            is_free.then(|| (self.lanes.has_partitions(lane), has_primary, lane))
        };
        self.shards.iter().enumerate().filter_map(rank).max().map(|(.., lane)| lane)
    }

    fn found(&mut self, shard: &Shard) -> usize {
        let (news, told) = watch::channel(News::At([shard.primary.clone()].into()));
        let place = Place::Told(Told::new(told, Arc::clone(&self.doubt)));
        let dialer = self.dialer.at(place);
        // Of where it was at first: the shard has no other name.
        let address = self.dialer.address_of(&shard.primary).into();
        self.lanes.found(&self.founder, dialer.clone(), address, "1/1".to_owned());
        let (primary, nodes) = (shard.primary_id.clone(), shard.nodes.clone());
        self.shards.push(Followed { primary, nodes, news, dialer });
        self.shards.len() - 1
    }
}

impl Followed {
    fn follow(&mut self, shard: &Shard) {
        self.primary.clone_from(&shard.primary_id);
        self.nodes.clone_from(&shard.nodes);
        self.tell(News::At([shard.primary.clone()].into()));
    }

    fn tell(&self, news: News) {
        news::tell(&self.news, news);
    }
}

/// How soon to look again whether what is on its way has come.
const TRANSIT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
