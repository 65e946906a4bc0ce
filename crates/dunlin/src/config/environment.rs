//! Settings from environment variables: `limits.backlog_age` is `DUNLIN_LIMITS_BACKLOG_AGE`.

use std::{collections::BTreeMap, ffi::OsString};

use super::{
    Place, Problem, Problems,
    keys::{NAMESPACES, keys},
    load::{Setting, Written},
    suggest,
};

/// Prefix of the variables that are settings.
const PREFIX: &str = "DUNLIN_";

/// Names the configuration file; read by the command line.
pub(crate) const FILE_VARIABLE: &str = "DUNLIN_CONFIG";

pub(super) fn settings(environment: Vec<(OsString, OsString)>) -> Result<Vec<Setting>, Problems> {
    let names: BTreeMap<String, &str> = keys().map(|key| (variable(key), key)).collect();
    let mut settings = Vec::new();
    let mut problems = Vec::new();
    for (name, text) in environment {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) || name == FILE_VARIABLE || is_from_kubernetes(&name) {
            continue;
        }
        let place = Place::Variable(name.clone());
        // Tables need a file, which is told where values are checked.
        let namespaces = name.starts_with(&variable(NAMESPACES)).then_some(&NAMESPACES);
        match (names.get(&name).or(namespaces), text.into_string()) {
            (Some(key), Ok(text)) => {
                let value = Written::Text(text);
                settings.push(Setting { place, key: (*key).to_owned(), value });
            }
            (Some(key), Err(_)) => {
                let (key, message) = (Some((*key).to_owned()), "not UTF-8 text".to_owned());
                problems.push(Problem { place, key, message });
            }
            (None, _) => {
                let message = suggest::unknown_variable(&name, names.keys());
                problems.push(Problem { place, key: None, message });
            }
        }
    }
    if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
}

/// Whether this is what Kubernetes puts into every pod beside a service named dunlin or dunlin-…
fn is_from_kubernetes(name: &str) -> bool {
    let parts: Vec<&str> = name.split('_').skip(1).collect();
    let ends = |tail: &[&str]| parts.ends_with(tail);
    let has = |pair: [&str; 2]| parts.windows(2).any(|window| window == pair);
    let numbered = parts.windows(2).any(|window| {
        window[0] == "PORT"
            && !window[1].is_empty()
            && window[1].bytes().all(|b| b.is_ascii_digit())
    });
    ends(&["SERVICE", "HOST"]) || has(["SERVICE", "PORT"]) || ends(&["PORT"]) || numbered
}

/// The environment variable of a key.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}
