//! A node with very many channels loses its link.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    ROUND_TRIP, Size,
    client::{Answers, Ask, Client},
    crowd::{Crowd, name, wanted_name},
    ground::Ground,
    progress,
};
use crate::{
    clock::{self, SECOND},
    compare::table::{Section, at_most, met},
    server::Starter,
};

/// 200,000 channels with history, five milliseconds from Redis.
pub(super) fn cut(starter: &Starter, size: Size) -> Result<Section> {
    let channels = size.of(200_000);
    let title = format!("Cut: a node with {channels} channels, {ROUND_TRIP:?} from Redis");
    let mut section = Section::new(title, &["", "measured"]);
    let ground = Ground::start(starter, HISTORY, &[])?;
    ground.set_round_trip(ROUND_TRIP);
    let crowd = Crowd::gather(ground.node.address, channels, WANTED)?;

    progress("the link is cut");
    let ended = AtomicBool::new(false);
    let began = clock::now();
    ground.proxy.cut();
    let (lives, told, answers) = thread::scope(|scope| -> Result<_> {
        let own = scope.spawn(|| publish_here(&ground, &ended));
        let wanted = scope.spawn(|| publish_wanted(&ground, &ended));
        let watched = watch(&ground, &crowd, channels, began);
        ended.store(true, Ordering::Relaxed);
        wanted.join().ok().context("a publisher fell over")??;
        let answers = own.join().ok().context("a publisher fell over")??;
        let (lives, told) = watched?;
        Ok((lives, told, answers))
    })?;
    crowd.stop()?;

    let latest = |names: &mut dyn Iterator<Item = String>| {
        let lives = names.map(|name| lives.get(&name).map_or(f64::NAN, |at| seconds(*at, began)));
        // One that never came is no figure at all.
        lives.fold(0.0, |latest: f64, at| if at.is_nan() { at } else { latest.max(at) })
    };
    let (sampled, all) = (sample(channels), lives.len());
    let wanted = latest(&mut (0..WANTED).map(wanted_name));
    let others = latest(&mut sampled.iter().map(|&number| name(number)));
    let right = all == WANTED + sampled.len() && told == 0;
    let mut row = |what: &str, measured| section.row(vec![what.to_owned(), measured], right);
    row("publishes refused", format!("{} of {}", answers.refused, answers.times.len()));
    let longest = answers.times.iter().max().map_or(0.0, |&time| time as f64 / SECOND as f64);
    row("longest answer to a publish, s", format!("{longest:.2}"));
    row("the most wanted live after s", at_most(wanted, 1.0));
    row(&format!("all live after s ({} sampled)", sampled.len()), at_most(others, 15.0));
    row("told that something is lost", format!("{told} ({})", met(told == 0)));
    Ok(section)
}

/// When each channel of interest was live again, and how often somebody was told of a loss.
fn watch(
    ground: &Ground,
    crowd: &Crowd,
    channels: usize,
    began: u64,
) -> Result<(HashMap<String, u64>, u64)> {
    let sampled = sample(channels);
    let publishes = sampled.iter().map(|&number| Ask::Publish(name(number), String::new()));
    Client::connect(ground.other.address)?.ask_all(publishes, 64, drop)?;
    let mut missing: HashSet<String> =
        sampled.into_iter().map(name).chain((0..WANTED).map(wanted_name)).collect();
    let (mut lives, mut told) = (HashMap::new(), 0);
    while !missing.is_empty() && clock::now() - began < PATIENCE_NS {
        thread::sleep(Duration::from_millis(10));
        for (at, push) in crowd.take_seen() {
            told += u64::from(push.unsubscribe.is_some());
            if push.publication.is_some() && missing.remove(&push.channel) {
                lives.insert(push.channel, at);
            }
        }
    }
    Ok((lives, told))
}

/// Publishes at the node that was cut off.
fn publish_here(ground: &Ground, ended: &AtomicBool) -> Result<Answers> {
    let (mut client, mut all) = (Client::connect(ground.node.address)?, Answers::default());
    while !ended.load(Ordering::Relaxed) {
        let publishes = (0..PUBLISHES).map(|number| Ask::Publish(name(number), String::new()));
        let answers = client.ask_all(publishes, PUBLISHES, drop)?;
        all.refused += answers.refused;
        all.times.extend(answers.times);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(all)
}

fn publish_wanted(ground: &Ground, ended: &AtomicBool) -> Result<()> {
    let mut client = Client::connect(ground.other.address)?;
    while !ended.load(Ordering::Relaxed) {
        let publishes = (0..WANTED).map(|number| Ask::Publish(wanted_name(number), String::new()));
        client.ask_all(publishes, WANTED, drop)?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// One in a hundred channels, but for those that the node publishes to itself.
fn sample(channels: usize) -> Vec<usize> {
    (PUBLISHES..channels).step_by(100).collect()
}

fn seconds(at: u64, began: u64) -> f64 {
    at.saturating_sub(began) as f64 / SECOND as f64
}

const WANTED: usize = 20;
/// More than is published to any channel meanwhile.
const HISTORY: usize = 10_000;
/// To as many channels the node publishes itself.
const PUBLISHES: usize = 20;
const PATIENCE_NS: u64 = 120 * SECOND;
