//! What a run did and saw, as text for people and as JSON.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

use super::{
    examine::{Finding, Findings, Kind},
    healing::{Effect, Spared, Trouble},
    readiness::Said,
    scene::Window,
    stage::Topology,
};
use crate::{check::Counts, clock::SECOND, report::counts};

/// Everything a run found.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) topology: Topology,
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) clients: usize,
    pub(crate) faults: Vec<FaultReport>,
    /// Faults whose turn did not come.
    pub(crate) not_reached: Vec<&'static str>,
    pub(crate) seen: Counts,
    pub(crate) resets: u64,
    pub(crate) again_after_reset: u64,
    pub(crate) unknown_there: u64,
    /// Clients that were not subscribed at the end.
    pub(crate) not_back: u64,
    pub(crate) broken: BTreeMap<Kind, u64>,
    /// The first broken promises, in words.
    pub(crate) examples: Vec<Example>,
    pub(crate) right: bool,
}

/// What one fault did. Times in seconds since the beginning of the run.
#[derive(Serialize)]
pub(crate) struct FaultReport {
    pub(crate) name: &'static str,
    pub(crate) began: f64,
    pub(crate) lasted: f64,
    pub(crate) what: Vec<String>,
    pub(crate) failed: Option<String>,
    pub(crate) effect: Effect,
    /// How long the machine itself stood still at most.
    pub(crate) stall: f64,
    pub(crate) ready: Vec<Said>,
    /// Broken promises whose time is between its beginning and the next fault's.
    pub(crate) broken: BTreeMap<Kind, u64>,
}

/// A broken promise.
#[derive(Serialize)]
pub(crate) struct Example {
    pub(crate) at: f64,
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

impl FaultReport {
    pub(crate) fn new(
        window: &Window,
        origin: u64,
        (effect, stall): (Effect, f64),
        ready: Vec<Said>,
        findings: &Findings,
    ) -> Self {
        let within = |it: &&Finding| (window.began..window.until).contains(&it.at);
        Self {
            name: window.fault,
            began: seconds(window.began, origin),
            lasted: seconds(window.ended, window.began),
            what: window.what.clone(),
            failed: window.failed.clone(),
            effect,
            stall,
            ready,
            broken: by_kind(findings.broken.iter().filter(within)),
        }
    }

    /// Whether it was made and what it broke is whole again.
    pub(crate) fn is_right(&self) -> bool {
        self.failed.is_none() && self.is_healed() && self.broken.is_empty()
    }

    /// A little late does not count: that the machine is busy is no fault of what runs on it.
    fn is_healed(&self) -> bool {
        matches!(self.effect.unhealed, None | Some(Trouble::Late))
            && self.ready.iter().all(|said| said.ready_after.is_some())
    }
}

/// How many publications each kind of broken promise is about.
pub(crate) fn by_kind<'a>(findings: impl Iterator<Item = &'a Finding>) -> BTreeMap<Kind, u64> {
    let mut kinds = BTreeMap::new();
    for finding in findings.filter(|finding| finding.publications > 0) {
        *kinds.entry(finding.kind).or_default() += finding.publications;
    }
    kinds
}

/// The first broken promises, in words.
pub(crate) fn examples(findings: &Findings, origin: u64) -> Vec<Example> {
    let told = findings.broken.iter().filter(|finding| finding.publications > 0);
    let example =
        |it: &Finding| Example { at: seconds(it.at, origin), kind: it.kind, what: it.what.clone() };
    told.take(EXAMPLES_MAX).map(example).collect()
}

pub(crate) fn seconds(to: u64, from: u64) -> f64 {
    to.saturating_sub(from) as f64 / SECOND as f64
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "chaos        {}, seed {}, {} nodes, {} clients",
            self.topology, self.seed, self.nodes, self.clients
        )?;
        self.faults.iter().try_for_each(|fault| write!(out, "{fault}"))?;
        if !self.not_reached.is_empty() {
            let names = self.not_reached.join(", ");
            writeln!(out, "not reached  {names} (give it more --minutes)")?;
        }
        writeln!(out, "seen         {}", self.seen)?;
        writeln!(
            out,
            "             {} times told that a position is lost, {} publications again after \
             that; {} unknown ones are there",
            self.resets, self.again_after_reset, self.unknown_there
        )?;
        writeln!(out, "not opened   {}", counts(&self.seen.failures))?;
        writeln!(out, "closed       {}", counts(&self.seen.closed))?;
        writeln!(out, "refused      {}", counts(&self.seen.refused))?;
        for Example { at, kind, what } in &self.examples {
            writeln!(out, "{at:9.2} s  {kind}: {what}")?;
        }
        let word = if self.right { "right" } else { "WRONG" };
        write!(out, "verdict      {word}: {}", broken(&self.broken))?;
        let named = |keep: &dyn Fn(&&FaultReport) -> bool| {
            let faults = self.faults.iter().filter(keep).map(|fault| fault.name);
            faults.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
        };
        for (what, names) in [
            ("broken by", named(&|fault| !fault.broken.is_empty())),
            ("not healed:", named(&|fault| !fault.is_healed())),
            ("could not be done:", named(&|fault| fault.failed.is_some())),
        ] {
            if !names.is_empty() {
                write!(out, "; {what} {names}")?;
            }
        }
        if self.faults.is_empty() {
            write!(out, "; no fault was made")?;
        }
        if self.not_back > 0 {
            write!(out, "; {} clients did not come back", self.not_back)?;
        }
        writeln!(out)
    }
}

impl fmt::Display for FaultReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:9.2} s  {} for {:.2} s", self.began, self.name, self.lasted)?;
        for what in &self.what {
            writeln!(out, "{INDENT}{what}")?;
        }
        if let Some(failed) = &self.failed {
            writeln!(out, "{INDENT}COULD NOT BE DONE: {failed}")?;
        }
        let effect = &self.effect;
        let Effect { healed_after, unhealed, longest_delivery, longest_answer, .. } = effect;
        match (healed_after, unhealed) {
            (Some(after), _) => write!(out, "{INDENT}healed {after:.2} s after its end")?,
            (None, Some(Trouble::Late)) | (None, None) => {
                write!(out, "{INDENT}no second without {} (a busy machine?)", Trouble::Late)?;
            }
            (None, Some(trouble)) => {
                write!(out, "{INDENT}NOT HEALED before the next fault: {trouble}")?;
            }
        }
        writeln!(
            out,
            "; longest delivery {longest_delivery:.2} s, longest answer {longest_answer:.2} s"
        )?;
        let Effect { refused, resubscribed, told, spared, .. } = effect;
        writeln!(
            out,
            "{INDENT}{refused} publications refused or without answer, {resubscribed} times \
             subscribed again, {told} times told that a position is lost"
        )?;
        if let Some(spared) = spared {
            write!(out, "{spared}")?;
        }
        if self.stall > STALL_TOLD {
            writeln!(out, "{INDENT}the machine itself stood still for up to {:.2} s", self.stall)?;
        }
        if self.ready.is_empty() {
            writeln!(out, "{INDENT}all nodes said all the time that they are ready")?;
        }
        for said in &self.ready {
            let Said { node, unready_after, ready_after, words } = said;
            let words = words.join(", ");
            write!(out, "{INDENT}node {node} not ready {unready_after:.2} s after its beginning")?;
            match ready_after {
                Some(after) => write!(out, ", ready {after:.2} s after its end")?,
                None => write!(out, ", NOT READY before the next fault")?,
            }
            writeln!(out, ": {words}")?;
        }
        if !self.broken.is_empty() {
            writeln!(out, "{INDENT}BROKEN: {}", broken(&self.broken))?;
        }
        Ok(())
    }
}

impl fmt::Display for Spared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channels, p99, longest, calm_p99, control_p99, control_calm_p99 } = self;
        let [p99, longest, calm] = [p99, longest, calm_p99].map(|it| it * MILLISECONDS);
        writeln!(
            out,
            "{INDENT}{channels} channels of other servers until then: p99 {p99:.1} ms, longest \
             {longest:.1} ms (p99 before faults {calm:.1} ms)"
        )?;
        let [then, calm] = [control_p99, control_calm_p99].map(|it| it * MILLISECONDS);
        writeln!(
            out,
            "{INDENT}a server without any part in it, meanwhile: p99 {then:.2} ms (before faults \
             {calm:.2} ms)"
        )
    }
}

fn broken(kinds: &BTreeMap<Kind, u64>) -> String {
    if kinds.is_empty() {
        return "nothing was lost, repeated or out of order".to_owned();
    }
    let words: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    words.join(", ")
}

const INDENT: &str = "             ";
/// Seconds from which on it explains what is late.
const STALL_TOLD: f64 = 0.1;
/// In a second.
const MILLISECONDS: f64 = 1000.0;
const EXAMPLES_MAX: usize = 20;
