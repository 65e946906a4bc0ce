//! The table: a row for each pattern, written as soon as it is known.

use std::io::Write;

use anyhow::Result;

use super::{
    pattern::Pattern,
    probes::Tries,
    verdict::{Measured, Times},
};
use crate::report::{by_name, counts};

pub(super) fn write_head(out: &mut impl Write) -> Result<()> {
    writeln!(out, "| {} |", COLUMNS.join(" | "))?;
    writeln!(out, "|---|---|{}", "---:|".repeat(COLUMNS.len() - 3) + "---|")?;
    Ok(out.flush()?)
}

pub(super) fn write_row(
    out: &mut impl Write,
    pattern: &Pattern,
    measured: &Measured,
    missed: &[&str],
) -> Result<()> {
    let [calm, during, after] = measured.latency;
    let cells = [
        pattern.name.to_owned(),
        measured.ended.to_string(),
        format!("{:.2} / {:.2} / {:.2}", calm.p99, during.p99, after.p99),
        format!("{:.1}", measured.ratio()),
        format!("{:.2} / {:.0}", during.p50, during.max),
        counts(&by_name(measured.kept.closed.clone())),
        format!("{} of {}", measured.kept.lost, measured.kept.deliveries),
        tries(&measured.newcomers),
        tries(&measured.health),
        measured.resident.map(|it| format!("{it:.0}")).join(" / "),
        format!("{:.1} / {:.1}", measured.cpu_seconds, measured.own_cpu_seconds),
        measured.descriptors.map(|it| it.to_string()).join(" / "),
        measured.back_after.map_or("no".to_owned(), |it| format!("{it:.1}")),
        if missed.is_empty() { "met".to_owned() } else { format!("**{}**", missed.join(", ")) },
    ];
    writeln!(out, "| {} |", cells.join(" | "))?;
    Ok(out.flush()?)
}

/// Of a pattern that could not be tried to its end, as when the server is gone.
pub(super) fn write_failure(
    out: &mut impl Write,
    pattern: &Pattern,
    error: &anyhow::Error,
) -> Result<()> {
    let blank = " |".repeat(COLUMNS.len() - 3);
    writeln!(out, "| {} | {error:#} |{blank} **failed** |", pattern.name)?;
    Ok(out.flush()?)
}

/// p99 and the longest, and how many came to nothing.
fn tries(tries: &Tries) -> String {
    let Times { p99, max, .. } = Times::of(&tries.latency);
    let failed = match (tries.failed, &tries.first_failure) {
        (0, _) | (_, None) => String::new(),
        (count, Some(first)) => format!("; {count} failed ({first})"),
    };
    format!("{p99:.1} / {max:.1}{failed}")
}

const COLUMNS: [&str; 14] = [
    "pattern",
    "how attackers ended",
    "good p99 calm / during / after ms",
    "ratio",
    "good p50 / longest during ms",
    "good closed",
    "lost",
    "newcomers p99 / longest ms",
    "/health p99 / longest ms",
    "MiB calm / peak / after",
    "CPU s server / bench",
    "descriptors",
    "back after s",
    "bars",
];
