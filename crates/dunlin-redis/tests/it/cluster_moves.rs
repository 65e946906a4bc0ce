//! What is not kept, who is present and who comes back, while slots move and shards fail over.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use dunlin_core::{
    broker::Since,
    error::PublishError,
    inbox::Notice,
    position::Position,
    presence::{Farewell, PresenceStore},
    publication::{ClientInfo, Kind},
    stream::{Resume, Snapshot},
};
use dunlin_redis::{
    broker::Settings,
    partition::Partition,
    presence::{LEASE, RedisPresence},
    queue::QueueBounds,
};
use tokio::{
    sync::oneshot,
    time::{Instant, interval},
};

use crate::{
    cluster::{Cluster, Failover},
    clustered::{slot, there_and_back, url},
    heals::Healing,
    history::{keep, kept},
    node::{Node, Outcome, Status, ended, name},
};

const CHANNELS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn blocking<T>(act: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(act)
}

async fn start_node(cluster: &Cluster) -> Node {
    let settings = Settings::new(url(cluster).parse().unwrap());
    let node = Node::start_with(settings, 1_000_000).await.unwrap();
    for channel in CHANNELS {
        node.join(channel).await;
    }
    node.wait_for(Status::Ready);
    node
}

fn move_there_and_back(cluster: &Cluster) {
    for slot in CHANNELS.map(slot) {
        let (source, target) = there_and_back(slot);
        cluster.move_slots(slot..=slot, source, target);
        cluster.move_slots(slot..=slot, target, source);
    }
}

/// Publishes numbers that are not kept, one every two milliseconds, until told to stop.
async fn publish(node: Arc<Node>, mut stop: oneshot::Receiver<()>) -> Vec<(usize, Outcome)> {
    let mut pace = interval(Duration::from_millis(2));
    let mut outcomes = Vec::new();
    while stop.try_recv().is_err() {
        pace.tick().await;
        let (number, channel) = (outcomes.len(), CHANNELS[outcomes.len() % CHANNELS.len()]);
        outcomes.push((number, node.publish(channel, Kind::Text, number.to_string().as_bytes())));
    }
    outcomes
}

/// What is not kept keeps its order and comes once, and what was refused came to nobody.
async fn check_plain(replicas: usize, change: impl FnOnce(&mut Cluster)) {
    let mut cluster = blocking(|| Cluster::start(replicas));
    let (publisher, listener) = (start_node(&cluster).await, start_node(&cluster).await);
    let publisher = Arc::new(publisher);
    let (stop, stopped) = oneshot::channel();
    let publishing = tokio::spawn(publish(Arc::clone(&publisher), stopped));
    blocking(|| change(&mut cluster));
    for node in [&publisher, &listener] {
        node.wait_for(Status::Ready);
    }
    // A moment of load behind it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send(()).unwrap();
    let (mut accepted, mut refused) = (HashSet::new(), HashSet::new());
    for (number, outcome) in publishing.await.unwrap() {
        match ended(outcome).await {
            Ok(None) => drop(accepted.insert(number)),
            Err(PublishError::Refused) => drop(refused.insert(number)),
            Err(PublishError::Unknown) => {}
            other => panic!("{number}: {other:?}"),
        }
    }
    let count = accepted.len();
    for channel in CHANNELS {
        publisher.say(channel, "end").await;
    }
    for node in [&*publisher, &listener] {
        let had = received(node).await;
        let all: HashSet<usize> = had.values().flatten().copied().collect();
        for (channel, numbers) in had {
            assert!(numbers.is_sorted_by(|left, right| left < right), "{channel}: {numbers:?}");
        }
        assert_eq!(all.intersection(&refused).next(), None, "what was refused came to nobody");
        let missed = accepted.difference(&all).count();
        assert!(missed < count / 10, "{missed} of {count} were missed");
    }
    assert!(count > refused.len(), "{count} accepted, {} refused", refused.len());
}

/// All up to the end of each channel.
async fn received(node: &Node) -> HashMap<String, Vec<usize>> {
    let (mut received, mut ends) = (HashMap::<_, Vec<_>>::new(), 0);
    let patience = Instant::now() + Duration::from_secs(10);
    while ends < CHANNELS.len() {
        let filled = tokio::time::timeout_at(patience, node.inbox.filled()).await;
        assert!(filled.is_ok(), "{ends} channels have ended");
        for publication in node.take() {
            let channel = publication.channel().to_string();
            match str::from_utf8(publication.data()).unwrap() {
                "end" => ends += 1,
                number => received.entry(channel).or_default().push(number.parse().unwrap()),
            }
        }
    }
    received
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_kept_keeps_its_order_while_slots_move() {
    check_plain(0, |cluster| move_there_and_back(cluster)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_kept_keeps_its_order_while_shards_fail_over() {
    let change = |cluster: &mut Cluster| {
        for primary in 0..3 {
            cluster.fail_over(cluster.replica_of(primary), Failover::Planned);
        }
        cluster.wait_until_whole();
        let primary = (3..6).find(|it| cluster.nodes[*it].is_primary()).expect("one of them");
        cluster.nodes[primary].kill();
        cluster.wait_until_whole();
        cluster.nodes[primary].run();
    };
    check_plain(1, change).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_present_stays_so_while_slots_move() {
    let cluster = blocking(|| Cluster::start(0));
    let (one, other) = (start_node(&cluster).await, start_node(&cluster).await);
    let [one, other] = [one, other].map(|node| RedisPresence::start(node.broker, LEASE));
    let member = |client: &str| ClientInfo {
        user: "user".into(),
        client: client.into(),
        conn_info: None,
        chan_info: None,
    };
    for channel in CHANNELS.map(name) {
        one.add(&channel, &member("one"), Farewell::Announced).await.unwrap();
        other.add(&channel, &member("other"), Farewell::Announced).await.unwrap();
    }
    for channel in CHANNELS {
        let slot = slot(channel);
        let (source, target) = there_and_back(slot);
        blocking(|| cluster.move_slots(slot..=slot, source, target));
        let channel = name(channel);
        let began = Instant::now();
        assert_eq!(one.members(&channel).await.unwrap().first.len(), 2, "{channel}");
        other.remove(&channel, &member("other").client).await.unwrap();
        assert_eq!(one.members(&channel).await.unwrap().first.len(), 1, "{channel}");
        other.add(&channel, &member("other"), Farewell::Announced).await.unwrap();
        assert_eq!(one.members(&channel).await.unwrap().first.len(), 2, "{channel}");
        assert!(began.elapsed() < Duration::from_secs(1), "{channel}: {:?}", began.elapsed());
    }
}

/// A client goes away, something happens, it comes back to another node.
async fn check_return(replicas: usize, change: impl FnOnce(&mut Cluster)) {
    let mut cluster = blocking(|| Cluster::start(replicas));
    let url = url(&cluster);
    let (one, other) = (Healing::start(&url).await, Healing::start(&url).await);
    let mut since = HashMap::new();
    for channel in CHANNELS {
        one.keep(channel, "had".to_owned()).await;
        since.insert(channel, one.keep(channel, "had too".to_owned()).await);
        one.keep(channel, "missed before".to_owned()).await;
    }
    blocking(|| change(&mut cluster));
    for (node, when) in [(&one, "at once"), (&other, "after more")] {
        for channel in CHANNELS {
            let Position { offset, epoch } = since[channel];
            let since = Since { offset, epoch: Some(epoch) };
            let resume = Resume { since, limit: 100, is_cache: false };
            let began = Instant::now();
            while node.try_join(channel, 0, Some(resume)).await.is_err() {
                assert!(replicas > 0, "no link is made anew where slots move");
                // A client tries again as late.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let snapshot: Snapshot = node.joined(1).await.remove(0);
            assert!(began.elapsed() < Duration::from_secs(3), "{channel}: {:?}", began.elapsed());
            assert!(snapshot.recovered, "{channel} {when}");
            let missed = snapshot.publications.iter().map(|it| it.data().to_vec());
            let missed: Vec<_> = missed.map(|data| String::from_utf8(data).unwrap()).collect();
            let all = ["missed before", "missed after"];
            assert_eq!(missed, all[..if when == "at once" { 1 } else { 2 }], "{channel} {when}");
            if when == "at once" {
                other.keep(channel, "missed after".to_owned()).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_while_slots_moved_recovers() {
    let change = |cluster: &mut Cluster| {
        for slot in CHANNELS.map(slot) {
            let (source, target) = there_and_back(slot);
            cluster.move_slots(slot..=slot, source, target);
        }
    };
    Box::pin(check_return(0, change)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_while_shards_failed_over_recovers() {
    let change = |cluster: &mut Cluster| {
        for primary in 0..3 {
            cluster.fail_over(cluster.replica_of(primary), Failover::Planned);
        }
    };
    Box::pin(check_return(1, change)).await;
}

/// The keys of a slot are at the target, and the slot at the source, for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_stays_half_moved_is_a_pause_of_its_own_channels_alone() {
    const HALF_MOVED: Duration = Duration::from_secs(3);
    let cluster = blocking(|| Cluster::start(0));
    let node = start_node(&cluster).await;
    // Of one primary; the first of its slots is where it proves itself.
    let mut names: Vec<_> = (0..3000).map(|it| format!("c{it}")).collect();
    names.retain(|channel| there_and_back(slot(channel)).0 == 0);
    names.sort_by_key(|channel| Partition::of(&name(channel)));
    let (moves, stays) = (&names[0][..], &names[names.len() - 1][..]);
    let moving = slot(moves);
    let (source, target) = there_and_back(moving);
    node.join(moves).await;
    node.join(stays).await;
    for channel in [moves, stays] {
        kept(keep(&node, channel, "0")).await;
    }
    blocking(|| {
        cluster.begin_move(moving, source, target);
        cluster.move_keys(moving, source, target);
    });
    let began = Instant::now();
    let mut held = Vec::new();
    while began.elapsed() < HALF_MOVED {
        held.push((
            Instant::now(),
            keep(&node, moves, "kept"),
            node.publish(moves, Kind::Text, b"p"),
        ));
        let start = Instant::now();
        kept(keep(&node, stays, "kept")).await;
        node.say(stays, "p").await;
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(node.status(), Status::Ready);
        // A steady rate.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    blocking(|| cluster.finish_move(moving, source, target));
    let mut last = None;
    for (since, keeping, plain) in held {
        let position = kept(keeping).await;
        assert!(last < Some(position.offset), "in order");
        last = Some(position.offset);
        assert_eq!(ended(plain).await, Ok(None));
        assert!(since.elapsed() < Duration::from_millis(5500), "{:?}", since.elapsed());
    }
}

/// Until then nobody can subscribe there, and whoever publishes first may be faster than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_to_a_slot_that_was_nobodys_is_read_soon() {
    let cluster = blocking(|| Cluster::start_with(0, &["--cluster-require-full-coverage", "no"]));
    let url = url(&cluster);
    let (listener, publisher) = (Healing::start(&url).await, Healing::start(&url).await);
    let is_there = |channel: &String| there_and_back(slot(channel)).0 == 0;
    let channels: Vec<_> = (0..24).map(|it| format!("c{it}")).filter(is_there).collect();
    for channel in &channels {
        listener.join(channel, 0, None).await;
        listener.joined(1).await;
        publisher.keep(channel, "before".to_owned()).await;
    }
    let set = |verb: &str| {
        for channel in &channels {
            cluster.nodes[0].ask::<()>(&["CLUSTER", verb, &slot(channel).to_string()]);
        }
    };
    blocking(|| set("DELSLOTS"));
    // Longer than what is read once more after a second waits.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    blocking(|| set("ADDSLOTS"));
    let back = Instant::now();
    for channel in &channels {
        publisher.keep(channel, "after".to_owned()).await;
    }
    let mut due: HashSet<_> = channels.iter().map(|channel| name(channel)).collect();
    listener
        .take_until(|notice| {
            if let Notice::Publication(publication) = notice
                && publication.data() == b"after"
            {
                due.remove(publication.channel());
            }
            due.is_empty()
        })
        .await;
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
}

/// It certainly did not happen, though it was sent again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_half_moved_slot_never_took_is_refused() {
    let cluster = blocking(|| Cluster::start(0));
    let queue = QueueBounds { age: Duration::from_secs(1), ..QueueBounds::default() };
    let settings = Settings { queue, ..Settings::new(url(&cluster).parse().unwrap()) };
    let node = Node::start_with(settings, 1000).await.unwrap();
    node.join("a").await;
    kept(keep(&node, "a", "0")).await;
    let slot = slot("a");
    let (source, target) = there_and_back(slot);
    blocking(|| {
        cluster.begin_move(slot, source, target);
        cluster.move_keys(slot, source, target);
    });
    let late = [keep(&node, "a", "kept"), node.publish("a", Kind::Text, b"plain")];
    for outcome in late {
        assert_eq!(ended(outcome).await, Err(PublishError::Refused));
    }
    blocking(|| cluster.finish_move(slot, source, target));
    assert_eq!(kept(keep(&node, "a", "2")).await.offset, 2);
}
