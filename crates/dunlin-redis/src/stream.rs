//! What is kept of a channel: the questions about it and what their answers mean.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dunlin_core::{
    broker::{History, HistoryQuery, PageBounds, Recovery},
    channel::ChannelName,
    error::{BrokerLost, HistoryError},
    history::{PAGE_BYTES, PAGE_PUBLICATIONS},
    namespace::Retention,
    position::{Epoch, Position},
    publication::Publication,
};

use crate::{
    envelope,
    keys::Keys,
    link::value::Value,
    partition::Partition,
    read::{Argument, Question},
    script::{self, Script},
};

/// Asks for a part of a channel's history.
pub(crate) fn ask_history(
    keys: &Keys,
    channel: &ChannelName,
    query: HistoryQuery,
    retention: Retention,
) -> Question {
    let mut question = ask(&script::HISTORY, keys, channel, retention);
    question.push_number(retention.size as u64);
    question.push_number(query.limit.min(PAGE_PUBLICATIONS) as u64);
    question.push_number(PAGE_BYTES as u64);
    question.push_number(u64::from(query.is_reverse));
    if let Some(since) = query.since {
        question.push_number(since.offset);
        if let Some(epoch) = since.epoch {
            push_epoch(&mut question, epoch);
        }
    }
    question
}

/// Reads the answer to [`ask_history`]. What cannot be read was not delivered either.
pub(crate) fn read_history(channel: &ChannelName, answer: &Value) -> Result<History, HistoryError> {
    let Value::Array(parts) = answer else { return Err(BrokerLost.into()) };
    let top = read_position(parts.first())?;
    match &parts[1..] {
        [] => Err(HistoryError::WrongEpoch),
        [Value::Array(entries), ..] => {
            let read = |entry| read_entry(channel, top, entry);
            Ok(History { top, publications: entries.iter().filter_map(read).collect() })
        }
        _ => Err(BrokerLost.into()),
    }
}

/// Asks where channels are, which in a cluster have to be of one partition.
pub(crate) fn ask_positions<'a>(
    keys: &Keys,
    channels: impl Iterator<Item = &'a (ChannelName, Retention)> + Clone,
) -> Question {
    let names = channels.clone().flat_map(|(channel, _)| names(keys, channel));
    let mut question = Question::script(&script::POSITIONS, names);
    question.push(Argument::Server);
    for (_, retention) in channels {
        push_new_epoch(&mut question, *retention);
    }
    question
}

/// Reads the answer to [`ask_positions`].
pub(crate) fn read_positions(answer: &Value) -> Result<Vec<Position>, BrokerLost> {
    let Value::Array(positions) = answer else { return Err(BrokerLost) };
    positions.iter().map(|position| read_position(Some(position))).collect()
}

/// Asks for a page of what was missed.
pub(crate) fn ask_recovery(
    keys: &Keys,
    channel: &ChannelName,
    since: Position,
    bounds: PageBounds,
    retention: Retention,
) -> Question {
    let mut question = ask(&script::RECOVER, keys, channel, retention);
    question.push_number(retention.size as u64);
    question.push_number(bounds.publications.min(PAGE_PUBLICATIONS) as u64);
    question.push_number(bounds.bytes.min(PAGE_BYTES) as u64);
    push_epoch(&mut question, since.epoch);
    question.push_number(since.offset);
    question
}

/// Reads the answer to [`ask_recovery`]. What cannot be read is missing, and so is what would leave
/// a gap.
pub(crate) fn read_recovery(
    channel: &ChannelName,
    since: Position,
    answer: &Value,
) -> Result<Recovery, BrokerLost> {
    let Value::Array(parts) = answer else { return Err(BrokerLost) };
    let top = read_position(parts.first())?;
    let [Value::Array(entries), Value::Integer(ttl_ms)] = &parts[1..] else {
        return Ok(Recovery::Lost { top });
    };
    let read = |entry| read_entry(channel, top, entry);
    let publications: Option<Vec<_>> = entries.iter().map(read).collect();
    let offset = |it: &Arc<Publication>| it.position().map(|position| position.offset);
    let follow = |them: &Vec<Arc<Publication>>| {
        them.iter().map(offset).eq((since.offset + 1..).take(them.len()).map(Some))
    };
    Ok(match publications.filter(follow) {
        Some(publications) => {
            let ttl = Duration::from_millis(u64::try_from(*ttl_ms).unwrap_or(0));
            Recovery::Page { top, publications, ttl }
        }
        None => Recovery::Lost { top },
    })
}

/// Whether the server has not come as far as `since`, and nothing has taken the place of what is
/// missing.
pub(crate) fn is_behind(recovery: &Recovery, since: Position) -> bool {
    let Recovery::Lost { top } = recovery else { return false };
    top.epoch.id == since.epoch.id
        && top.epoch.generation() <= since.epoch.generation()
        && top.offset < since.offset
}

/// Asks to forget what is kept. The position is kept elsewhere.
pub(crate) fn ask_to_forget(keys: &Keys, channel: &ChannelName) -> Question {
    Question::command([Bytes::from_static(b"UNLINK"), keys.stream(channel).concat().into()])
}

/// In whole milliseconds, at least one and at most about a century: Redis knows no others.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    const CENTURY_MS: u128 = 100 * 366 * 24 * 3600 * 1000;
    time.as_millis().clamp(1, CENTURY_MS) as u64
}

fn ask(
    script: &'static Script,
    keys: &Keys,
    channel: &ChannelName,
    retention: Retention,
) -> Question {
    let mut question = Question::script(script, names(keys, channel));
    question.push(Argument::Server);
    push_new_epoch(&mut question, retention);
    question
}

/// The keys that `settle.lua` wants.
fn names(keys: &Keys, channel: &ChannelName) -> [Bytes; 3] {
    let seed = keys.seed(Partition::of(channel)).concat();
    [keys.stream(channel).concat(), keys.meta(channel).concat(), seed].map(Bytes::from)
}

/// An epoch for a channel that has none, and how long the channel is remembered.
fn push_new_epoch(question: &mut Question, retention: Retention) {
    let new_epoch = crate::random();
    question.push_bytes(&new_epoch.to_be_bytes());
    question.push_number(milliseconds(retention.meta_ttl));
}

fn push_epoch(question: &mut Question, epoch: Epoch) {
    question.push_bytes(&epoch.id.to_be_bytes());
    question.push_number(epoch.branch);
}

fn read_position(value: Option<&Value>) -> Result<Position, BrokerLost> {
    let bytes = value.and_then(Value::as_bytes);
    bytes.and_then(|bytes| envelope::position(bytes)).ok_or(BrokerLost)
}

/// `[OFFSET-BRANCH, [d, message, i, id]]`; none if it cannot be read.
fn read_entry(channel: &ChannelName, top: Position, entry: &Value) -> Option<Arc<Publication>> {
    let Value::Array(parts) = entry else { return None };
    let [Value::Bulk(id), Value::Array(fields)] = &parts[..] else { return None };
    let [_, Value::Bulk(message), ..] = &fields[..] else { return None };
    let (offset, branch) = str::from_utf8(id).ok()?.split_once('-')?;
    let epoch = Epoch { branch: branch.parse().ok()?, ..top.epoch };
    let position = Position { offset: offset.parse().ok()?, epoch };
    // A copy: what is read together lives in one buffer, and would hold it for as long as one of
    // them lives.
    let opened = envelope::open_kept(Bytes::copy_from_slice(message)).ok()?;
    Some(Arc::new(opened.into_publication(channel.clone()).at(position)))
}
