//! What is kept of a channel: the questions about it and what their answers mean.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use dunlin_core::{
    broker::{History, HistoryQuery, Recovery},
    channel::ChannelName,
    error::{BrokerLost, HistoryError},
    namespace::Retention,
    position::{Epoch, Position},
    publication::Publication,
};

use crate::{
    envelope,
    keys::Keys,
    link::value::Value,
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
    question.push_number(query.limit.min(retention.size).min(ENTRIES_MAX) as u64);
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
    let top = read_position(parts)?;
    match &parts[1..] {
        [] => Err(HistoryError::WrongEpoch),
        [Value::Array(entries), ..] => {
            let read = |entry| read_entry(channel, top, entry);
            Ok(History { top, publications: entries.iter().filter_map(read).collect() })
        }
        _ => Err(BrokerLost.into()),
    }
}

/// Asks for what a subscriber missed.
pub(crate) fn ask_recovery(
    keys: &Keys,
    channel: &ChannelName,
    since: Position,
    limit: usize,
    retention: Retention,
) -> Question {
    let mut question = ask(&script::RECOVER, keys, channel, retention);
    question.push_number(limit.min(retention.size).min(ENTRIES_MAX) as u64);
    push_epoch(&mut question, since.epoch);
    question.push_number(since.offset);
    question
}

/// Reads the answer to [`ask_recovery`]. What cannot be read is missing.
pub(crate) fn read_recovery(channel: &ChannelName, answer: &Value) -> Result<Recovery, BrokerLost> {
    let Value::Array(parts) = answer else { return Err(BrokerLost) };
    let top = read_position(parts)?;
    let [Value::Integer(base), Value::Array(entries)] = &parts[1..] else {
        return Ok(Recovery::Lost { top });
    };
    let read = |entry| read_entry(channel, top, entry);
    let publications: Option<Vec<_>> = entries.iter().map(read).collect();
    Ok(match (publications, u64::try_from(*base)) {
        (Some(publications), Ok(base)) => Recovery::Whole { base, top, publications },
        _ => Recovery::Lost { top },
    })
}

/// Asks to forget what is kept. The position is kept elsewhere.
pub(crate) fn ask_to_forget(keys: &Keys, channel: &ChannelName) -> Question {
    Question::command([Bytes::from_static(b"DEL"), keys.stream(channel).concat().into()])
}

/// Most publications of one answer: a frame of the link has no room for the values of more.
const ENTRIES_MAX: usize = 100_000;

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
    let keys = [keys.stream(channel).concat().into(), keys.meta(channel).concat().into()];
    let mut question = Question::script(script, keys);
    question.push(Argument::Server);
    // The standard library seeds every hash state anew.
    let new_epoch = RandomState::new().hash_one(0_u8);
    question.push_bytes(&new_epoch.to_be_bytes());
    question.push_number(milliseconds(retention.meta_ttl));
    question
}

fn push_epoch(question: &mut Question, epoch: Epoch) {
    question.push_bytes(&epoch.id.to_be_bytes());
    question.push_number(epoch.branch);
}

fn read_position(parts: &[Value]) -> Result<Position, BrokerLost> {
    let bytes = parts.first().and_then(Value::as_bytes);
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
