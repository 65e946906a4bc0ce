//! `check`: recovery that is right is reported right, and every kind of wrong as what it is.

use serde_json::Value;

use crate::{
    harness::{bench, report},
    recovering::{self, Mistake},
};

/// Clients that are cut all the time, with two nodes one of which is dead.
fn check(mistake: Mistake) -> (bool, Value) {
    let url = format!("ws://{}/connection/websocket", recovering::serve(mistake));
    let dead = "ws://127.0.0.1:1/connection/websocket";
    let mut arguments = vec!["check", "--url", &url, "--url", dead, "--clients", "12"];
    arguments.extend(["--channels", "3", "--rate", "200", "--for", "1500ms"]);
    arguments.extend(["--reconnect", "200ms", "--away", "50ms"]);
    arguments.extend(["--patience", "3s"]);
    report(&arguments)
}

fn count(verdict: &Value, path: &str) -> u64 {
    verdict.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {verdict:#}"))
}

#[test]
fn recovery_that_is_right_is_found_right() {
    let (success, verdict) = check(Mistake::Nothing);
    assert!(success, "{verdict:#}");
    for fault in ["gaps", "duplicates", "reorders", "false_recovered", "misrouted"] {
        assert_eq!(count(&verdict, &format!("/faults/{fault}")), 0, "{verdict:#}");
    }
    for seen in ["acknowledged", "deliveries", "reconnects", "recovered"] {
        assert!(count(&verdict, &format!("/counts/{seen}")) > 20, "{verdict:#}");
    }
    assert_eq!(count(&verdict, "/counts/not_recovered"), 0, "{verdict:#}");
    let [publications, acknowledged, unknown] = ["publications", "acknowledged", "unknown"]
        .map(|kind| count(&verdict, &format!("/counts/{kind}")));
    assert_eq!(publications, acknowledged + unknown, "{verdict:#}");
}

#[test]
fn what_is_said_not_to_be_recovered_is_no_fault() {
    let (success, verdict) = check(Mistake::Refuse);
    assert!(success, "{verdict:#}");
    assert!(count(&verdict, "/counts/not_recovered") > 3, "{verdict:#}");
}

#[test]
fn each_mistake_is_found() {
    let cases = [
        (Mistake::Skip, "/faults/gaps"),
        (Mistake::Repeat, "/faults/duplicates"),
        (Mistake::Pretend, "/faults/false_recovered"),
        (Mistake::Forget, "/lost"),
    ];
    // All at once: what takes long is waiting for what does not come.
    std::thread::scope(|scope| {
        for (mistake, fault) in cases {
            scope.spawn(move || {
                let (success, verdict) = check(mistake);
                assert!(!success && count(&verdict, fault) > 0, "{mistake:?}: {verdict:#}");
            });
        }
    });
}

#[test]
fn a_server_that_cannot_be_checked_is_an_error_that_says_so() {
    // A floor sends every command back, which looks like a grant of nothing.
    let floor = crate::harness::Floor::start(&[]);
    let dead = "ws://127.0.0.1:1/connection/websocket";
    for (url, expected) in [
        (floor.url.as_str(), "has no recovery: configure history"),
        (dead, "2 of 2 clients could not subscribe; not opened: Connection refused"),
    ] {
        let mut command = bench();
        command.args(["check", "--url", url, "--clients", "2", "--channels", "2"]);
        let output = command.args(["--patience", "300ms"]).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(expected), "{message}");
        assert_eq!(output.status.code(), Some(1));
    }
}
