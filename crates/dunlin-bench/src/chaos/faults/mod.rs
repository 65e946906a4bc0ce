//! All faults there are, by name.

mod cluster;
mod data;
mod loss;
mod node;
mod refusal;
mod sentinel;
mod server;
mod way;

use std::fmt::Write;

use anyhow::{Result, bail};

use super::{scene::Scene, stage::Topology};

/// Something that goes wrong for a while.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// One line for people.
    pub(crate) about: &'static str,
    pub(crate) on: &'static [Topology],
    /// Makes it, waits, and ends it.
    pub(crate) run: fn(&mut Scene<'_>) -> Result<()>,
}

impl Fault {
    /// Whether it happens in a network namespace.
    pub(crate) fn loses_packets(&self) -> bool {
        loss::FAULTS.iter().any(|other| other.name == self.name)
    }
}

/// All faults.
pub(crate) fn all() -> impl Iterator<Item = &'static Fault> {
    let anywhere = [way::FAULTS, server::FAULTS, data::FAULTS, refusal::FAULTS, node::FAULTS];
    anywhere.into_iter().chain([loss::FAULTS, sentinel::FAULTS, cluster::FAULTS]).flatten()
}

/// The faults of these names that make sense with `topology`; `all`: every one. Without nodes those
/// that act on nodes, or on ways to them, do not.
pub(crate) fn named(
    names: &[String],
    topology: Topology,
    nodes: usize,
) -> Result<Vec<&'static Fault>> {
    let needs_nodes = |fault: &Fault| {
        let mut those = node::FAULTS.iter().chain(way::FAULTS).chain(loss::FAULTS);
        those.any(|other| other.name == fault.name)
    };
    let fits = |fault: &Fault| fault.on.contains(&topology) && (nodes > 0 || !needs_nodes(fault));
    let mut faults = Vec::new();
    for name in names {
        if name == "all" {
            faults.extend(all().filter(|fault| fits(fault)));
            continue;
        }
        match all().find(|fault| fault.name == name) {
            Some(fault) if fits(fault) => faults.push(fault),
            Some(_) => bail!("{name} makes no sense with --topology {topology} --nodes {nodes}"),
            None => bail!("there is no fault {name}; `--faults help` lists them"),
        }
    }
    Ok(faults)
}

/// What there is, for people.
pub(crate) fn list() -> String {
    let mut text = String::new();
    for Fault { name, about, on, .. } in all() {
        let on: Vec<String> = on.iter().map(Topology::to_string).collect();
        let _ = writeln!(text, "{name:18} {about} ({})", on.join(", "));
    }
    text
}
