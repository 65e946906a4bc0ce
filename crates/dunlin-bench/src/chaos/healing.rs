//! How long it took after a fault until everything was as before, and how long anybody waited, by
//! the journals of those clients that we never cut.

use std::{collections::HashMap, fmt};

use serde::Serialize;

use super::{control::Asked, scene::Window};
use crate::{
    check::{
        journal::{Entry, Journal, LATE_NS, ReaderJournal},
        judge::{Message, Start},
    },
    clock::SECOND,
};

/// What a fault did to who was there. In seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Effect {
    /// From the end of the fault until for a second nothing was late, refused or missing; `None`:
    /// that was not so before the next fault.
    pub(crate) healed_after: Option<f64>,
    /// What was still so when the next fault began, if anything was.
    pub(crate) unhealed: Option<Trouble>,
    pub(crate) longest_delivery: f64,
    pub(crate) longest_answer: f64,
    /// Publications that were refused, or whose answer was lost with the connection.
    pub(crate) refused: u64,
    /// How often subscriptions began anew, and how often with the word that a position is lost.
    pub(crate) resubscribed: u64,
    pub(crate) told: u64,
    /// Channels of other servers, which should notice nothing.
    pub(crate) spared: Option<Spared>,
}

/// Deliveries of channels that a fault was not about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Spared {
    pub(crate) channels: usize,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
    /// 99 of 100 deliveries of all channels were no longer in the seconds right before faults.
    pub(crate) calm_p99: f64,
    /// The same of the answers of a server that has no part in anything: during the fault, and
    /// before faults.
    pub(crate) control_p99: f64,
    pub(crate) control_calm_p99: f64,
}

/// What is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trouble {
    /// Somebody waits for more than half a second. On a busy machine that happens by itself.
    Late,
    /// Somebody waits for more than five seconds.
    VeryLate,
    /// A publication is refused.
    Refused,
    /// An acknowledged publication has not come, and its reader is not told.
    Missing,
}

/// All that took its time, in all channels.
#[derive(Default)]
pub(crate) struct Waits {
    /// From when to when something was not as it should be; by their beginning.
    troubles: Vec<(u64, u64, Trouble)>,
    deliveries: Vec<Wait>,
    answers: Vec<Wait>,
    /// When publications were refused.
    refused: Vec<u64>,
    /// When subscriptions began, and whether with the word that a position is lost.
    starts: Vec<(u64, bool)>,
    /// Answers of the control.
    control: Vec<Wait>,
    /// See [`Spared`].
    calm_p99: f64,
    control_calm_p99: f64,
}

/// From when to when.
#[derive(Clone, Copy)]
struct Wait {
    sent: u64,
    came: u64,
    channel: usize,
}

impl Wait {
    fn time(&self) -> u64 {
        self.came.saturating_sub(self.sent)
    }
}

impl Waits {
    pub(crate) fn new(journal: &Journal, windows: &[Window], control: &[Asked]) -> Self {
        let wait = |it: &Asked| Wait { sent: it.at, came: it.answered, channel: 0 };
        let mut waits = Self { control: control.iter().map(wait).collect(), ..Self::default() };
        waits.add_answers(journal);
        let mut by_channel: HashMap<usize, Vec<Message>> = HashMap::new();
        for (publisher, published) in journal.publishers.iter().enumerate() {
            let messages = (0..published.publications.len() as u32)
                .map(|sequence| Message { publisher, sequence });
            by_channel.entry(published.channel).or_default().extend(messages);
        }
        for reader in journal.readers.iter().filter(|reader| reader.steady) {
            let published = by_channel.get(&reader.channel).map_or(&[][..], Vec::as_slice);
            waits.add_deliveries(journal, published, reader);
        }
        waits.troubles.sort_unstable();
        // Before each of them: how busy the machine is changes meanwhile.
        let calm = |window: &Window| window.began.saturating_sub(QUIET_NS)..window.began;
        let is_calm = |wait: &Wait| windows.iter().any(|it| calm(it).contains(&wait.came));
        waits.calm_p99 = seconds(p99(&times(&waits.deliveries, is_calm)));
        waits.control_calm_p99 = seconds(p99(&times(&waits.control, is_calm)));
        waits
    }

    /// What a fault did.
    pub(crate) fn effect(&self, window: &Window) -> Effect {
        // A wait belongs to the fault in whose time it ends: it may have begun just before.
        let within = |came: u64| (window.began..window.until).contains(&came);
        let longest = |waits: &[Wait]| {
            let times = waits.iter().filter(|wait| within(wait.came));
            seconds(times.map(Wait::time).max().unwrap_or_default())
        };
        let (healed_after, unhealed) = match self.healed(window) {
            Ok(after) => (Some(after), None),
            Err(trouble) => (None, Some(trouble)),
        };
        Effect {
            healed_after,
            unhealed,
            longest_delivery: longest(&self.deliveries),
            longest_answer: longest(&self.answers),
            resubscribed: self.starts.iter().filter(|(at, _)| within(*at)).count() as u64,
            told: self.starts.iter().filter(|(at, told)| *told && within(*at)).count() as u64,
            spared: self.spared(window, healed_after),
            refused: self.refused.iter().filter(|&&at| within(at)).count() as u64,
        }
    }

    fn healed(&self, window: &Window) -> Result<f64, Trouble> {
        let (mut calm, mut last) = (window.ended, Trouble::Late);
        // They are in the order of their beginnings, so one pass finds the first second without.
        for &(from, to, trouble) in &self.troubles {
            if from >= calm.saturating_add(QUIET_NS) || from >= window.until {
                break;
            }
            calm = calm.max(to);
            if to >= window.until.saturating_sub(QUIET_NS) {
                last = last.max(trouble);
            }
        }
        if calm < window.until { Ok(seconds(calm - window.ended)) } else { Err(last) }
    }

    /// How channels fared that the fault was not about, until all was healed: a failover is over
    /// long before the nodes have followed it.
    fn spared(&self, window: &Window, healed_after: Option<f64>) -> Option<Spared> {
        let channels = (0..window.owners.len()).filter(|&channel| window.spares(channel)).count();
        let healed = |after: f64| window.ended + (after * SECOND as f64) as u64;
        let until = healed_after.map_or(window.until, healed).max(window.began + QUIET_NS);
        let is_then = |wait: &Wait| (window.began..until).contains(&wait.came);
        let spared = |wait: &Wait| is_then(wait) && window.spares(wait.channel);
        let deliveries = times(&self.deliveries, spared);
        (channels > 0).then(|| Spared {
            channels,
            p99: seconds(p99(&deliveries)),
            longest: seconds(deliveries.last().copied().unwrap_or_default()),
            calm_p99: self.calm_p99,
            control_p99: seconds(p99(&times(&self.control, is_then))),
            control_calm_p99: self.control_calm_p99,
        })
    }

    fn add_answers(&mut self, journal: &Journal) {
        let steady = journal.publishers.iter().filter(|publisher| publisher.steady);
        for (channel, sent) in
            steady.flat_map(|it| it.publications.iter().map(|sent| (it.channel, sent)))
        {
            let Some(answer) = sent.answer else { continue };
            self.answers.push(Wait { sent: sent.at, came: answer.at, channel });
            if !answer.acknowledged {
                self.refused.push(answer.at);
                self.troubles.push((sent.at, answer.at, Trouble::Refused));
            } else {
                self.note(sent.at, answer.at);
            }
        }
    }

    fn add_deliveries(&mut self, journal: &Journal, published: &[Message], reader: &ReaderJournal) {
        let (mut came, mut resets) = (HashMap::new(), Vec::new());
        for entry in &reader.entries {
            match *entry {
                Entry::Delivered { at, message: Some(message), .. } => {
                    came.entry(message).or_insert(at);
                }
                Entry::Started { at, start, .. } => {
                    self.starts.push((at, start == Start::Anew));
                    if start == Start::Anew {
                        resets.push(at);
                    }
                }
                Entry::Delivered { .. } => {}
            }
        }
        let first = resets.first().copied().unwrap_or(u64::MAX);
        for message in published {
            let Some(sent) = journal.publication(*message) else { continue };
            match came.get(message) {
                Some(&came) => {
                    self.deliveries.push(Wait { sent: sent.at, came, channel: reader.channel });
                    self.note(sent.at, came);
                }
                None if sent.acknowledged().is_some() && sent.at > first => {
                    // Missing, until its reader is told or hears what was sent later: that it never
                    // came is then a broken promise, and no wait any more.
                    let told = resets.get(resets.partition_point(|&at| at < sent.at)).copied();
                    let later = came.iter().filter(|(other, came)| {
                        let sent_later = journal.publication(**other).map(|other| other.at);
                        **came > sent.at && sent_later > sent.acknowledged()
                    });
                    let heard = later.map(|(_, came)| *came).min();
                    let until = told.into_iter().chain(heard).min().unwrap_or(u64::MAX);
                    let until = until.max(sent.at + LATE_NS);
                    self.troubles.push((sent.at + LATE_NS, until, Trouble::Missing));
                }
                None => {}
            }
        }
    }
}

impl Waits {
    fn note(&mut self, sent: u64, came: u64) {
        let trouble = match came.saturating_sub(sent) {
            0..=LATE_NS => return,
            wait if wait <= VERY_LATE_NS => Trouble::Late,
            _ => Trouble::VeryLate,
        };
        self.troubles.push((sent + LATE_NS, came, trouble));
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Late => "deliveries or answers above 0.5 s",
            Self::VeryLate => "deliveries or answers above 5 s",
            Self::Refused => "refusals",
            Self::Missing => "publications that did not come",
        })
    }
}

/// How long these took, in order.
fn times(waits: &[Wait], keep: impl Fn(&Wait) -> bool) -> Vec<u64> {
    let mut times: Vec<u64> = waits.iter().filter(|it| keep(it)).map(Wait::time).collect();
    times.sort_unstable();
    times
}

fn p99(times: &[u64]) -> u64 {
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / SECOND as f64
}

/// Healed is what stays so for this long.
const QUIET_NS: u64 = SECOND;
const VERY_LATE_NS: u64 = 5 * SECOND;

#[cfg(test)]
mod tests {
    use super::*;

    /// When it was sent, answered (and whether acknowledged), and delivered; in tenths of a second.
    type Publication = (u64, Option<(u64, bool)>, Option<u64>);

    /// A steady reader and a publisher of one channel.
    fn journal(publications: &[Publication]) -> Journal {
        let mut journal = Journal::new([(0, true)].into_iter(), [(0, true)].into_iter());
        journal.started(0, 1, Start::Anew, "e", 0);
        for (index, &(sent, answer, came)) in publications.iter().enumerate() {
            let message = Message { publisher: 0, sequence: index as u32 };
            journal.sent(0, sent * TENTH);
            if let Some((at, acknowledged)) = answer {
                journal.answered(message, at * TENTH, acknowledged);
            }
            if let Some(at) = came {
                journal.delivered(0, at * TENTH, index as u64 + 1, Some(message));
            }
        }
        journal
    }

    fn effect(journal: &Journal) -> Effect {
        Waits::new(journal, &[window()], &[]).effect(&window())
    }

    fn window() -> Window {
        Window {
            fault: "test",
            began: 100 * TENTH,
            ended: 120 * TENTH,
            until: 160 * TENTH,
            what: Vec::new(),
            servers: Vec::new(),
            owners: Vec::new(),
            failed: None,
        }
    }

    const TENTH: u64 = SECOND / 10;

    #[test]
    fn a_fault_that_nobody_noticed_is_healed_at_once() {
        let journal = journal(&[(101, Some((102, true)), Some(102)), (121, None, Some(121))]);
        let expected = Effect {
            healed_after: Some(0.0),
            unhealed: None,
            longest_delivery: 0.1,
            longest_answer: 0.1,
            refused: 0,
            resubscribed: 0,
            told: 0,
            spared: None,
        };
        assert_eq!(effect(&journal), expected);
    }

    #[test]
    fn it_is_healed_when_nothing_is_late_refused_or_missing_any_more() {
        // Late until 124, refused at 125; what is late a second and a half after that is noise.
        let late = (101, Some((124, true)), Some(124));
        let refused = (122, Some((125, false)), None);
        let noise = (140, Some((140, true)), Some(145));
        let story = journal(&[late, refused, noise]);
        let found = effect(&story);
        assert_eq!(found.healed_after, Some(0.5));
        assert_eq!((found.longest_delivery, found.longest_answer), (2.3, 2.3));
        assert_eq!(found.refused, 1);

        // Missing, and nobody is told.
        let story = journal(&[late, (110, Some((111, true)), None)]);
        let found = effect(&story);
        assert_eq!((found.healed_after, found.unhealed), (None, Some(Trouble::Missing)));
        // Told.
        let mut story = journal(&[late, (110, Some((111, true)), None)]);
        story.started(0, 128 * TENTH, Start::Anew, "f", 0);
        assert_eq!(effect(&story).healed_after, Some(0.8));
    }

    #[test]
    fn channels_of_other_servers_are_looked_at_on_their_own() {
        let both = || [(0, true), (1, true)].into_iter();
        let mut journal = Journal::new(both(), both());
        // The first one's are late for half a second after the end, the other one's a little.
        let story = [(0, 101, 125), (1, 93, 94), (1, 101, 103), (1, 121, 124)];
        for channel in 0..2 {
            journal.started(channel, 1, Start::Anew, "e", 0);
            let own = story.iter().filter(|(of, ..)| *of == channel);
            for (sequence, &(_, sent, came)) in (0..).zip(own) {
                journal.sent(channel, sent * TENTH);
                let message = Message { publisher: channel, sequence };
                journal.delivered(channel, came * TENTH, u64::from(sequence) + 1, Some(message));
            }
        }
        let (servers, owners) = (vec![2], vec![Some(2), Some(0)]);
        let window = Window { servers, owners, ..window() };
        let control = [(92, 93), (101, 103), (122, 124), (127, 137)]
            .map(|(at, answered)| Asked { at: at * TENTH, answered: answered * TENTH });
        let effect = Waits::new(&journal, std::slice::from_ref(&window), &control).effect(&window);
        assert_eq!((effect.longest_delivery, effect.healed_after), (2.4, Some(0.5)));
        let expected = Spared {
            channels: 1,
            p99: 0.3,
            longest: 0.3,
            calm_p99: 0.1,
            control_p99: 0.2,
            control_calm_p99: 0.1,
        };
        assert_eq!(effect.spared, Some(expected));
    }
}
