//! Markdown tables and the verdicts in them.

use std::fmt;

use crate::report::{Report, Verified};

/// A group of rows with its heading.
pub(crate) struct Section {
    title: String,
    head: &'static [&'static str],
    rows: Vec<Vec<String>>,
    /// Whether every delivery came once and in order, and every connection lived.
    pub(crate) clean: bool,
}

impl Section {
    pub(crate) fn new(title: String, head: &'static [&'static str]) -> Self {
        Self { title, head, rows: Vec::new(), clean: true }
    }

    /// Adds a row; `clean` says whether everything behind it was right.
    pub(crate) fn row(&mut self, cells: Vec<String>, clean: bool) {
        self.rows.push(cells);
        self.clean &= clean;
    }

    /// Stands in for rows that could not be run.
    pub(crate) fn skip(mut self, reason: &str) -> Self {
        self.title = format!("{} (not run: {reason})", self.title);
        self.clean = false;
        self
    }
}

impl fmt::Display for Section {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "### {}\n", self.title)?;
        if self.rows.is_empty() {
            return Ok(());
        }
        writeln!(out, "| {} |", self.head.join(" | "))?;
        writeln!(out, "|{}", "---:|".repeat(self.head.len()))?;
        for row in &self.rows {
            writeln!(out, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

/// A figure that should be at most `bar`: `1.08 (≤ 1.15: met)`.
pub(crate) fn at_most(value: f64, bar: f64) -> String {
    format!("{value:.2} (≤ {bar}: {})", met(value <= bar))
}

/// A figure that should be at least `bar`.
pub(crate) fn at_least(value: f64, bar: f64) -> String {
    format!("{value:.0} (≥ {bar}: {})", met(value >= bar))
}

/// The word for whether a bar is met. No figure (NaN) meets none.
pub(crate) fn met(yes: bool) -> &'static str {
    if yes { "met" } else { "**not met**" }
}

/// The middle one of a figure in several runs.
pub(crate) fn median(reports: &[Report], figure: impl Fn(&Report) -> f64) -> f64 {
    let mut figures: Vec<f64> = reports.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `lost / duplicated / out of order` over several runs.
pub(crate) fn faults(reports: &[Report]) -> String {
    let sum = |of: fn(&Verified) -> u64| reports.iter().map(|one| of(&one.verified)).sum::<u64>();
    let out_of_order = |one: &Verified| one.out_of_order + u64::from(one.orders_differ);
    format!("{} / {} / {}", sum(|one| one.lost), sum(|one| one.duplicated), sum(out_of_order))
}

/// The largest share of a core a load process used, in percent.
pub(crate) fn generator(reports: &[Report]) -> String {
    let shares = reports.iter().flat_map(|report| report.generator_cpu.iter().copied());
    format!("{:.0} %", shares.fold(0.0, f64::max) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_or_not() {
        assert_eq!(at_most(1.076, 1.15), "1.08 (≤ 1.15: met)");
        assert_eq!(at_most(1.5, 1.25), "1.50 (≤ 1.25: **not met**)");
        assert_eq!(at_least(12_345.6, 10_000.0), "12346 (≥ 10000: met)");
        assert_eq!(at_most(f64::NAN, 1.0), "NaN (≤ 1: **not met**)");
    }

    #[test]
    fn a_section_is_a_markdown_table() {
        let mut section = Section::new("Fan-out".into(), &["a", "b"]);
        section.row(vec!["1".into(), "2".into()], true);
        assert!(section.clean);
        section.row(vec!["3".into(), "4".into()], false);
        let text = "### Fan-out\n\n| a | b |\n|---:|---:|\n| 1 | 2 |\n| 3 | 4 |\n";
        assert_eq!((section.to_string().as_str(), section.clean), (text, false));
    }
}
