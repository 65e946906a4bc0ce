//! Settings from a TOML file, each with its line.

use std::{io, path::Path};

use serde::Deserialize;
use toml::{
    Spanned, Value,
    de::{DeArray, DeTable, DeValue, ValueDeserializer},
};

use super::{
    Place, Problem, Problems,
    keys::{self, NAMESPACES, lookup},
    load::{Setting, Written},
};

pub(super) fn read(path: &Path) -> Result<String, Problems> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = match error.kind() {
            io::ErrorKind::InvalidData => "cannot be read: it is not UTF-8 text".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        Problem { place: place(path, None), key: None, message }.into()
    })
}

pub(super) fn settings(path: &Path, text: &str) -> Result<Vec<Setting>, Problems> {
    let document = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_at(text, span.start));
        let message = format!("not valid TOML: {}", error.message());
        Problem { place: place(path, line), key: None, message }
    })?;
    let mut settings = Vec::new();
    walk(document.into_inner(), "", &mut |key, start, value| {
        let place = place(path, Some(line_at(text, start)));
        settings.push(Setting { place, key, value: Written::Toml(value) });
    });
    Ok(settings)
}

/// Visits every value that stands where no section is due: key, position in the text, value.
fn walk(table: DeTable<'_>, section: &str, visit: &mut impl FnMut(String, usize, Value)) {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let start = name.span().start;
        // A quoted name with a dot in it must not pass for a section and a key, nor one with an
        // index for a namespace.
        let name = match name.get_ref().contains(['.', '[']) {
            true => format!("{:?}", name.get_ref()),
            false => name.into_inner().into_owned(),
        };
        let key = if section.is_empty() { name } else { format!("{section}.{name}") };
        let is_section = matches!(lookup(&key), Some(Value::Table(_)));
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(inner) if is_section => walk(inner, &key, visit),
            DeValue::Array(tables) if key == NAMESPACES => walk_namespaces(tables, visit),
            other => visit(key, start, plain(Spanned::new(span, other))),
        }
    }
}

fn walk_namespaces(tables: DeArray<'_>, visit: &mut impl FnMut(String, usize, Value)) {
    for (index, table) in tables.into_iter().enumerate() {
        let span = table.span();
        match table.into_inner() {
            DeValue::Table(table) => {
                // One without a name is complained about where it begins.
                if !table.contains_key("name") {
                    let unnamed = Value::String(String::new());
                    visit(keys::of_namespace(index, "name"), span.start, unnamed);
                }
                walk(table, &format!("{NAMESPACES}[{index}]"), visit);
            }
            other => {
                let start = span.start;
                visit(NAMESPACES.to_owned(), start, plain(Spanned::new(span, other)));
            }
        }
    }
}

/// The value without its place.
fn plain(value: Spanned<DeValue<'_>>) -> Value {
    // What is beyond a `Value` (an integer above 63 bits) is bad for any key.
    Value::deserialize(ValueDeserializer::from(value)).unwrap_or(Value::Float(f64::INFINITY))
}

fn place(path: &Path, line: Option<usize>) -> Place {
    Place::File { path: path.to_owned(), line }
}

fn line_at(text: &str, position: usize) -> usize {
    1 + text.bytes().take(position).filter(|byte| *byte == b'\n').count()
}
