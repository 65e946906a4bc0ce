//! Keys as paths into `default.toml`: `limits.backlog_age`, `client.token.audience` and, as there
//! may be any number of namespaces, `channel.namespaces[0].presence`.

use std::sync::LazyLock;

use toml::{Table, Value};

use super::DEFAULT;

/// Every key with its default.
pub(super) static DEFAULTS: LazyLock<Table> =
    LazyLock::new(|| DEFAULT.parse().expect("a test parses the embedded default.toml"));

/// The key of the namespaces as a whole.
pub(super) const NAMESPACES: &str = "channel.namespaces";

/// A namespace of which nothing is set yet.
static NAMESPACE: LazyLock<Table> = LazyLock::new(|| {
    let options = find(&DEFAULTS, "channel.without_namespace").and_then(Value::as_table);
    let mut options = options.expect("a section of default.toml").clone();
    options.insert("name".to_owned(), Value::String(String::new()));
    // A namespace is made for more than anybody's chat.
    for key in ["allow_plain_subscribe", "allow_plain_publish"] {
        options.insert(key.to_owned(), Value::Boolean(false));
    }
    options
});

/// All keys with their sections, but for those of namespaces.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut keys = Vec::new();
        gather(&DEFAULTS, "", &mut keys);
        keys
    });
    KEYS.iter().map(String::as_str)
}

fn gather(table: &Table, section: &str, keys: &mut Vec<String>) {
    for (name, value) in table {
        let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        match value {
            Value::Table(inner) => gather(inner, &key, keys),
            _ => keys.push(key),
        }
    }
}

/// All keys of the namespace that `key` is in, if it is in one.
pub(super) fn keys_beside(key: &str) -> Vec<String> {
    let Some((index, _)) = in_namespace(key) else { return Vec::new() };
    NAMESPACE.keys().map(|name| of_namespace(index, name)).collect()
}

/// The key of an option of the namespace at `index`.
pub(super) fn of_namespace(index: usize, name: &str) -> String {
    format!("{NAMESPACES}[{index}].{name}")
}

/// Index and option of a key in a namespace.
pub(super) fn in_namespace(key: &str) -> Option<(usize, &str)> {
    let (index, name) = key.strip_prefix(NAMESPACES)?.strip_prefix('[')?.split_once("].")?;
    Some((index.parse().ok()?, name))
}

/// The default of a key, or a section's table.
pub(super) fn lookup(key: &str) -> Option<&'static Value> {
    match in_namespace(key) {
        Some((_, name)) => NAMESPACE.get(name),
        None => find(&DEFAULTS, key),
    }
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => find(table.get(section)?.as_table()?, rest),
    }
}

/// The defaults with one key replaced. A namespace is alone there, whatever its index.
pub(super) fn defaults_with(key: &str, value: Value) -> Table {
    let mut table = DEFAULTS.clone();
    match in_namespace(key) {
        Some((_, name)) => replace(&mut table, &of_namespace(0, name), value),
        None => replace(&mut table, key, value),
    }
    table
}

/// Replaces the value of a key that [`lookup`] finds; namespaces up to its own are made first.
pub(super) fn replace(table: &mut Table, key: &str, value: Value) {
    let place = match in_namespace(key) {
        Some((index, name)) => namespace_at(table, index).and_then(|inner| inner.get_mut(name)),
        None => find_mut(table, key),
    };
    *place.expect("looked up in the defaults before") = value;
}

fn namespace_at(table: &mut Table, index: usize) -> Option<&mut Table> {
    let channel = table.get_mut("channel")?.as_table_mut()?;
    let all = channel.entry("namespaces").or_insert_with(|| Value::Array(Vec::new()));
    let all = all.as_array_mut()?;
    while all.len() <= index {
        all.push(Value::Table(NAMESPACE.clone()));
    }
    all.get_mut(index)?.as_table_mut()
}

fn find_mut<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((section, rest)) => find_mut(table.get_mut(section)?.as_table_mut()?, rest),
    }
}
