//! `idle`, `connect` and `stall` report what they saw.

use serde_json::json;

use crate::{
    faulty::{self, Fault},
    harness::{Floor, report},
};

#[test]
fn idle_answers_pings_and_sees_no_connection_closed() {
    let url = format!("ws://{}/ws", faulty::serve(5, Fault::Nothing));
    let (success, report) =
        report(&["idle", "--url", &url, "--connections", "5", "--seconds", "0.2"]);
    assert!(success, "{report:#}");
    assert_eq!((&report["connections"], &report["pings"]), (&json!(5), &json!(5)));
}

#[test]
fn a_storm_counts_upgrades_and_what_the_server_paid() {
    let floor = Floor::start(&[]);
    let (success, report) =
        report(&["connect", "--url", &floor.url, "--connections", "500", "--pid", &floor.pid()]);
    assert!(success, "{report:#}");
    assert_eq!((&report["upgraded"], &report["failures"]), (&json!(500), &json!({})));
    assert!(report["p99_ms"].as_f64() > Some(0.0) && report["cpu_us_per_upgrade"].is_f64());
}

#[test]
fn a_refused_connection_is_counted_by_kind() {
    let arguments = ["connect", "--url", "ws://127.0.0.1:1/ws", "--connections", "3"];
    let (success, report) = report(&arguments);
    assert!(!success);
    let refused = json!({ "Connection refused (os error 111)": 3 });
    assert_eq!(report["failures"], refused, "{report:#}");
}

/// Runs `stall` with four connections, one of which stops reading.
fn stall(url: &str) -> serde_json::Value {
    let arguments = ["--connections", "4", "--stalled", "1", "--messages", "60", "--rate", "200"];
    report(&[&["stall", "--url", url], &arguments[..]].concat()).1
}

#[test]
fn who_reads_on_is_measured_and_who_does_not_is_told_apart() {
    let floor = Floor::start(&[]);
    let report = stall(&floor.url);
    assert_eq!(report["endings"], json!({ "still open": 1 }), "{report:#}");
    assert_eq!(report["during"]["verified"]["lost"], 0, "{report:#}");
    assert!(report["p99_ratio"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_code_that_ends_a_stalled_reader_is_reported() {
    let url = format!("ws://{}/ws", faulty::serve(4, Fault::Close(1013)));
    let report = stall(&url);
    assert_eq!(report["before"]["closed"], json!({ "1013": 1 }), "{report:#}");
    assert_eq!(report["during"]["closed"], json!({}), "{report:#}");
    assert_eq!(report["endings"], json!({ "1013": 1 }), "{report:#}");
}
