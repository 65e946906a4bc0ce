//! `fanout`: right is reported right, and every kind of wrong is reported as what it is.

use serde_json::{Value, json};

use crate::{
    faulty::{self, Fault},
    harness::{Floor, bench, report},
};

const SHORT: [&str; 4] = ["--seconds", "0.3", "--warmup", "0.1"];

/// Runs `fanout` and asserts that all is well.
fn clean(floor: &Floor, arguments: &[&str]) -> Value {
    let mut all = vec!["fanout", "--url", &floor.url];
    all.extend(SHORT);
    all.extend(arguments);
    let (success, report) = report(&all);
    assert!(success, "{report:#}");
    let verified = &report["verified"];
    for fault in ["lost", "duplicated", "out_of_order", "misrouted", "foreign"] {
        assert_eq!(verified[fault], 0, "{report:#}");
    }
    assert_eq!((&report["closed"], &report["failures"]), (&json!({}), &json!({})));
    assert!(report["deliveries"].as_u64().unwrap() > 0, "{report:#}");
    report
}

#[test]
fn the_floor_is_right_at_every_window() {
    let floor = Floor::start(&[]);
    for window in ["1", "4", "32"] {
        let report = clean(&floor, &["--connections", "50", "--window", window]);
        // One publisher: every message goes to all fifty, so deliveries come in fifties.
        assert_eq!(report["verified"]["deliveries"].as_u64().unwrap() % 50, 0, "{report:#}");
    }
}

#[test]
fn centrifuge_is_spoken_at_every_window() {
    let floor = Floor::start(&["--centrifuge"]);
    for window in ["1", "4", "32"] {
        let arguments = ["--connections", "50", "--window", window, "--dialect", "centrifuge-json"];
        let report = clean(&floor, &arguments);
        assert_eq!(report["verified"]["deliveries"].as_u64().unwrap() % 50, 0, "{report:#}");
    }
}

#[test]
fn several_publishers_and_processes_agree_on_one_order() {
    let floor = Floor::start(&[]);
    let arguments = ["--connections", "40", "--publishers", "5", "--window", "8"];
    let report = clean(&floor, &[&arguments[..], &["--processes", "3"]].concat());
    assert_eq!(report["connections"], 40);
    assert_eq!(report["generator_cpu"].as_array().unwrap().len(), 3);
    assert_eq!(report["verified"]["orders_differ"], false);
}

#[test]
fn channels_are_apart_and_watched_processes_are_measured() {
    let floor = Floor::start(&["--channels"]);
    let report = clean(&floor, &["--connections", "60", "--channels", "20", "--pid", &floor.pid()]);
    assert_eq!((&report["channels"], &report["publishers"]), (&json!(20), &json!(20)));
    assert!(report["server_cpu_us_per_delivery"].as_f64().unwrap() > 0.0, "{report:#}");
    assert!(report["servers"][0]["resident_bytes"].as_u64().unwrap() > 100_000);
}

#[test]
fn channels_that_are_not_apart_are_reported() {
    // Without --channels the floor sends everything to everybody.
    let floor = Floor::start(&[]);
    let arguments = ["fanout", "--url", &floor.url, "--connections", "4", "--channels", "2"];
    let (success, report) = report(&[&arguments[..], &SHORT].concat());
    assert!(!success);
    assert!(report["verified"]["misrouted"].as_u64().unwrap() > 0, "{report:#}");
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let floor = Floor::start(&[]);
    let report = clean(&floor, &["--connections", "10", "--rate", "500", "--publishers", "2"]);
    let rate = report["publications_per_second"].as_f64().unwrap();
    assert!((rate - 500.0).abs() < 50.0, "{rate}");
}

/// What `fanout` reports of a server with a fault, four connections and one publisher.
fn verdict(fault: Fault, expected: &Value, closed: &Value) {
    let url = format!("ws://{}/ws", faulty::serve(4, fault));
    let arguments = ["fanout", "--url", &url, "--connections", "4", "--window", "3"];
    let (success, report) = report(&[&arguments[..], &SHORT].concat());
    assert_eq!(success, fault == Fault::Nothing, "{fault:?}: {report:#}");
    let mut verified = report["verified"].clone();
    assert!(verified["deliveries"].as_u64().unwrap() > 40, "{fault:?}: {report:#}");
    let found = verified.as_object_mut().unwrap();
    found.retain(|_, count| count.as_u64().is_some_and(|count| count > 0));
    found.remove("deliveries");
    assert_eq!((&verified, &report["closed"]), (expected, closed), "{fault:?}: {report:#}");
}

#[test]
fn each_fault_of_a_server_is_reported_as_what_it_is() {
    let none = json!({});
    verdict(Fault::Nothing, &none, &none);
    verdict(Fault::Drop, &json!({ "lost": 1 }), &none);
    verdict(Fault::Duplicate, &json!({ "duplicated": 1 }), &none);
    verdict(Fault::SwapWithNext, &json!({ "out_of_order": 1 }), &none);
    verdict(Fault::Foreign, &json!({ "foreign": 1 }), &none);
    verdict(Fault::Close(1013), &none, &json!({ "1013": 1 }));
    verdict(Fault::HangUp, &none, &json!({ "end of stream": 1 }));
}

#[test]
fn closed_connections_and_losses_can_be_allowed_apart() {
    for (fault, flag, allowed) in [
        (Fault::HangUp, "--allow-closed", true),
        (Fault::Drop, "--allow-closed", false),
        (Fault::Drop, "--allow-loss", true),
    ] {
        let url = format!("ws://{}/ws", faulty::serve(4, fault));
        let arguments = ["fanout", "--url", &url, "--connections", "4", "--window", "3", flag];
        let (success, report) = report(&[&arguments[..], &SHORT].concat());
        assert_eq!(success, allowed, "{fault:?} {flag}: {report:#}");
    }
}

#[test]
fn a_server_that_is_not_there_is_said_to_be_not_there() {
    let output = bench().args(["fanout", "--url", "ws://127.0.0.1:1/ws"]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(message.contains("Connection refused"), "{message}");
}
