//! Lays file, environment and flags over the defaults, one setting at a time, so that whatever is
//! wrong is known by its place and key.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use toml::Value;

use super::{
    Config, Place, Problem, Problems, check, doubt, environment, file,
    keys::{self, DEFAULTS, NAMESPACES},
    production, suggest,
};

/// Where settings come from, the weakest first.
#[derive(Debug, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// What stands for a file where there is none.
    pub instead_of_file: Option<&'static str>,
    /// All of the process' environment; what does not start with `DUNLIN_` is passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags in the order given; a later one wins.
    pub flags: Vec<Setting>,
}

/// One key's new value.
#[derive(Debug)]
pub struct Setting {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) value: Written,
}

impl Setting {
    /// A setting from the command line: `flag` is its name there, `text` what was given.
    pub fn flag(flag: &'static str, key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: Place::Flag(flag), key: key.into(), value: Written::Text(text.into()) }
    }
}

/// A value as found: typed in a file, bare text elsewhere.
#[derive(Debug)]
pub(super) enum Written {
    Toml(Value),
    Text(String),
}

/// The effective configuration, and where it was changed.
#[derive(Debug)]
pub struct Loaded {
    /// Checked as a whole.
    pub config: Config,
    /// Every key that was set, with the place that won.
    pub places: BTreeMap<String, Place>,
    /// What is hardly meant, for the operator to see.
    pub doubts: Vec<Problem>,
}

/// Reads all sources.
///
/// # Errors
/// All problems of all sources at once; those across keys only when there are no others.
pub fn load(sources: Sources) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let mut settings = Vec::new();
    let mut gather = |found: Result<Vec<Setting>, Problems>| match found {
        Ok(found) => settings.extend(found),
        Err(Problems(found)) => problems.extend(found),
    };
    match (&sources.file, sources.instead_of_file) {
        (Some(path), _) => gather(file::read(path).and_then(|text| file::settings(path, &text))),
        (None, Some(text)) => gather(file::settings(Path::new("built in"), text)),
        (None, None) => {}
    }
    gather(environment::settings(sources.environment));
    gather(Ok(sources.flags));
    lay(settings, problems)
}

/// See [`super::parse`].
pub(super) fn load_text(text: &str) -> Result<Config, Problems> {
    let settings = file::settings(Path::new("dunlin.toml"), text)?;
    Ok(lay(settings, Vec::new())?.config)
}

/// Lays the settings over the defaults, then checks the whole.
fn lay(settings: Vec<Setting>, mut problems: Vec<Problem>) -> Result<Loaded, Problems> {
    let mut table = DEFAULTS.clone();
    let mut places = BTreeMap::new();
    for setting in settings {
        match checked_value(&setting) {
            Ok(value) => {
                keys::replace(&mut table, &setting.key, value);
                places.insert(setting.key, setting.place);
            }
            Err(message) => {
                let Setting { place, key, .. } = setting;
                problems.push(Problem { place, key: Some(key), message });
            }
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let config: Config = table.try_into().expect("each value was accepted on its own");
    let mut problems = check::problems(&config);
    problems.extend(production::problems(&config, |key| places.contains_key(key)));
    let problems = placed(problems, &places);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let doubts = placed(doubt::doubts(&config), &places);
    Ok(Loaded { config, places, doubts })
}

/// What was found across keys, with where each was set.
fn placed(found: Vec<(String, String)>, places: &BTreeMap<String, Place>) -> Vec<Problem> {
    let problem = |(key, message)| Problem {
        place: places.get(&key).cloned().unwrap_or(Place::Default),
        key: Some(key),
        message,
    };
    found.into_iter().map(problem).collect()
}

/// How a configuration file is given.
const NAMES_A_FILE: &str = "--config FILE, or DUNLIN_CONFIG";

/// The setting's value, tried out alone among the defaults, so that an error can only be its own.
fn checked_value(setting: &Setting) -> Result<Value, String> {
    let is_in_file = matches!(setting.place, Place::File { .. });
    let is_namespace = keys::in_namespace(&setting.key).is_some();
    if setting.key == NAMESPACES || (is_namespace && !is_in_file) {
        return Err(format!("expected tables [[{NAMESPACES}]] in a file ({NAMES_A_FILE})"));
    }
    let default = match keys::lookup(&setting.key) {
        None => return Err(suggest::unknown_key(&setting.key)),
        Some(Value::Table(_)) => {
            return Err("this is a section: its keys are set one by one".to_owned());
        }
        Some(default) => default,
    };
    let value = match &setting.value {
        Written::Toml(value) => value.clone(),
        Written::Text(text) => typed(text, default)?,
    };
    match keys::defaults_with(&setting.key, value.clone()).try_into::<Config>() {
        Ok(_) => Ok(value),
        Err(error) => Err(error.message().to_owned()),
    }
}

/// Bare text as a value of the default's type.
fn typed(text: &str, default: &Value) -> Result<Value, String> {
    let wrong = |expected: &str| format!("invalid value: `{text}`, expected {expected}");
    let texts = || text.split(',').map(str::trim).filter(|text| !text.is_empty());
    match default {
        Value::Integer(_) => {
            text.parse().map(Value::Integer).map_err(|_| wrong("a whole number, 0 or more"))
        }
        Value::Boolean(_) => text.parse().map(Value::Boolean).map_err(|_| wrong("true or false")),
        Value::Array(_) => Ok(Value::Array(texts().map(Value::from).collect())),
        _ => Ok(Value::String(text.to_owned())),
    }
}
