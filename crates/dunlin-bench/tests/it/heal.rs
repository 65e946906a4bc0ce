//! `heal`, with the server of this workspace and a real Redis, at a hundredth of its load: that it
//! runs and loses nothing, not how fast.

use crate::{chaos::dunlin, harness::bench};

#[test]
fn each_row_has_figures_and_a_verdict() {
    let dunlin = dunlin();
    let mut heal = bench();
    heal.args(["heal", "--scale", "0.01", "--dunlin", dunlin.to_str().unwrap()]);
    let output = heal.args(["--rows", "missed,slow,cut,kept,rings,names"]).output().unwrap();
    let tables = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{tables}{said}");
    for row in [
        // On a busy machine a client may read too slowly, and is told.
        "### Missed: 100 × 30000 bytes",
        "### Missed: 33 × 30000 bytes",
        "| told that something is lost | 0 (met) |",
        "| KiB more for each that is kept |",
        "### Rings: 10 channels",
        "| Redis | read | ",
        "| memory | read and published to | ",
    ] {
        assert!(tables.contains(row), "{row}: {tables}");
    }
    let gaps = tables.lines().filter(|line| line.starts_with("| healed in full, or told |"));
    assert!(gaps.clone().count() == 2 && gaps.clone().all(|line| line.ends_with("(met) |")));
}

#[test]
fn a_scale_that_is_none_is_refused() {
    let output = bench().args(["heal", "--scale", "2"]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--scale must be above 0") && !output.status.success(), "{message}");
}
