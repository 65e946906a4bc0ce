//! `attack`, with the server of this workspace: a moment of one pattern of a kind, in which nobody
//! who behaves is closed or misses anything.

use crate::{chaos::dunlin, harness::bench};

#[test]
fn good_clients_lose_nothing_beside_an_attack() {
    let dunlin = dunlin();
    let patterns = ["held-silent", "ping-flood", "forged-hmac"];
    let mut attack = bench();
    attack.args(["attack", "--short", "--dunlin", dunlin.to_str().unwrap()]);
    let output = attack.args(["--only", &patterns.join(",")]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    for (pattern, how) in patterns.into_iter().zip(["alive: 100", "1008: ", "3500: "]) {
        let row = table.lines().find(|line| line.starts_with(&format!("| {pattern} |"))).unwrap();
        assert!(row.contains(how) && row.ends_with("| met |"), "{row}");
    }
}

#[test]
fn patterns_are_listed_and_unknown_ones_refused() {
    let output = bench().args(["attack", "--list"]).output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    assert!(list.lines().count() >= 40 && list.contains("inflate-bomb"), "{list}");

    let output = bench().args(["attack", "--only", "kindness"]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("there is no pattern \"kindness\"") && !output.status.success());
}
