//! Guesses what an unknown name was meant to be.

use super::keys;

/// Says that `key` is unknown and names the nearest that is not.
pub(super) fn unknown_key(key: &str) -> String {
    let beside = keys::keys_beside(key);
    let mut known: Vec<&str> = keys::keys().collect();
    known.extend(beside.iter().map(String::as_str));
    let name = key.rsplit('.').next().unwrap_or(key);
    // The right name in the wrong section is as near as can be.
    let distance_to = |other: &str| {
        let same_name = other.rsplit('.').next() == Some(name);
        if same_name { 1 } else { distance(key, other) }
    };
    say("unknown key", key, known.into_iter(), distance_to)
}

/// Says that the environment variable `name` is unknown and names the nearest of `known`.
pub(super) fn unknown_variable<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known = known.map(String::as_str);
    say("belongs to no key", name, known, |other| distance(name, other))
}

fn say<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
    distance_to: impl Fn(&str) -> usize,
) -> String {
    let near = name.len().div_ceil(4).min(6);
    let best = known.map(|other| (distance_to(other), other)).min();
    match best {
        Some((distance, other)) if distance <= near => format!("{what}, did you mean {other}?"),
        _ => format!("{what} (dunlin genconfig lists all)"),
    }
}

/// Edits (insert, remove, replace) from one name to the other; long names are not compared.
fn distance(from: &str, to: &str) -> usize {
    const LONGEST: usize = 64;
    if from.len() > LONGEST || to.len() > LONGEST {
        return usize::MAX;
    }
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, left) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, right) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}
