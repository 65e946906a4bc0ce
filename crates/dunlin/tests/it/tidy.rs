//! Rules of the code base that neither the compiler nor a lint sees. Each is a test; a failure
//! names the rule, its reason, and every place that breaks it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Code in one file; tests at its end do not count.
const CODE_LINES: usize = 400;
const COLUMNS: usize = 100;

/// A Rust file of the workspace or of fuzz/.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

impl Source {
    /// Without the tests at the end.
    fn code(&self) -> &str {
        let end = self.text.find("\n#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// Whether all of it is tests.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// Test code and its first line: all of a test file, else what comes after the code.
    fn tests(&self) -> (usize, &str) {
        match self.is_test() {
            true => (1, &self.text),
            false => (self.code().lines().count() + 1, &self.text[self.code().len()..]),
        }
    }

    /// The lines that are `broken`.
    fn lines(&self, broken: impl Fn(&str) -> bool) -> Vec<String> {
        let found = self.text.lines().enumerate().filter(|(_, line)| broken(line));
        found.map(|(index, line)| self.at(index + 1, line.trim())).collect()
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// Fails if there is a `broken` place.
#[track_caller]
fn check(rule: &str, broken: impl IntoIterator<Item = String>) {
    let broken: Vec<_> = broken.into_iter().collect();
    assert!(broken.is_empty(), "\n{rule}\n  {}\n", broken.join("\n  "));
}

#[test]
fn lines_and_files_are_short() {
    check(
        "a line has at most 100 columns, so that two files fit beside each other",
        sources().iter().flat_map(|s| s.lines(|line| line.chars().count() > COLUMNS)),
    );
    let long = |source: &Source| !source.is_test() && source.code().lines().count() > CODE_LINES;
    check(
        "a file has at most 400 lines of code: a longer one is about more than one thing",
        sources().into_iter().filter(long).map(|source| source.path),
    );
}

#[test]
fn each_file_says_what_lives_in_it() {
    check(
        "a file opens with `//!`: what lives here and what does not",
        sources().iter().filter(|s| !s.text.starts_with("//! ")).map(|s| s.at(1, "no `//!`")),
    );
}

#[test]
fn names_say_what_a_thing_is() {
    const BANNED: [&str; 12] = [
        "manager",
        "handler",
        "service",
        "helper",
        "helpers",
        "util",
        "utils",
        "common",
        "factory",
        "interface",
        "impl",
        "misc",
    ];
    let is_banned = |name: &str| words(name).iter().any(|word| BANNED.contains(&word.as_str()));
    let defines = |line: &str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let kind = words.find(|word| ["struct", "enum", "trait", "type", "mod"].contains(word));
        kind.and_then(|_| words.next()).is_some_and(is_banned)
    };
    let code = |line: &str| !line.trim_start().starts_with("//");
    let rule = "a type, module or file is named after what it is, not `Manager`, `Helper` and \
         such: those fit everything and grow into anything";
    check(rule, sources().iter().flat_map(|s| s.lines(|line| code(line) && defines(line))));
    let stem = |path: &str| Path::new(path).file_stem().unwrap().to_str().unwrap().to_owned();
    check(rule, sources().into_iter().map(|s| s.path).filter(|path| is_banned(&stem(path))));
}

#[test]
fn nothing_is_left_for_later() {
    let later = ["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX"];
    check(
        "what is left to do stands in an issue, not in the code",
        sources()
            .iter()
            .filter(|s| !is_this_file(s))
            .flat_map(|source| source.lines(|line| later.iter().any(|word| line.contains(word)))),
    );
}

#[test]
fn tests_neither_sleep_nor_are_ignored() {
    let sources: Vec<_> = sources().into_iter().filter(|source| !is_this_file(source)).collect();
    check(
        "a test that sleeps is slow and fails on a busy machine: wait for what should happen; \
         where only time will do, as in polling, the comment right above says why",
        sources.iter().flat_map(|source| {
            let (first, tests) = source.tests();
            let mut before = "";
            let mut broken = Vec::new();
            for (index, line) in tests.lines().enumerate() {
                if line.contains("sleep(") && !before.trim_start().starts_with("// ") {
                    broken.push(source.at(first + index, line.trim()));
                }
                before = line;
            }
            broken
        }),
    );
    check(
        "an ignored test proves nothing: repair it or remove it",
        sources.iter().flat_map(|s| s.lines(|line| line.contains("#[ignore"))),
    );
}

#[test]
fn imports_stand_in_three_blocks() {
    check(
        "imports are std, then other crates, then our own, with one blank line between",
        sources().iter().flat_map(misplaced_imports),
    );
}

/// Imports at the top of the file that do not belong to their block.
fn misplaced_imports(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut block = None; // the kind of the block we are in
    let mut last = 0; // the kind of the block before
    for (index, line) in source.text.lines().enumerate() {
        if line.is_empty() {
            last = block.take().unwrap_or(last);
            continue;
        }
        let import = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let Some(path) = import.strip_prefix("use ") else { continue };
        let first = path.split([':', ';', ' ']).next().unwrap();
        let is_own = ["crate", "self", "super"].contains(&first)
            || source.text.contains(&format!("mod {first};"));
        let kind = match first {
            "std" | "core" | "alloc" => 1,
            _ if is_own => 3,
            _ => 2,
        };
        if block.is_none_or(|block| block == kind) && (block.is_some() || kind > last) {
            block = Some(kind);
        } else {
            found.push(source.at(index + 1, line));
        }
    }
    found
}

#[test]
fn core_modules_use_only_those_above_them() {
    let root = "crates/dunlin-core/src/";
    let library = read(&format!("{root}lib.rs"));
    let modules: Vec<_> = library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    let rank = |name: &str| modules.iter().position(|module| *module == name);
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with(root)) {
        let below = &source.path[root.len()..];
        let own = rank(below.split(['/', '.']).next().unwrap());
        let (Some(own), false) = (own, source.is_test()) else { continue };
        for (line, used) in uses_of_crate(source.code()) {
            if rank(&used).is_none_or(|used| used > own) {
                broken.push(source.at(line, &format!("`{}` uses `{used}`", modules[own])));
            }
        }
    }
    check(
        "a module of dunlin-core uses only modules above it in lib.rs: read in that order, \
         nothing is met before it is explained, and there are no cycles",
        broken,
    );
}

/// Each `crate::name` and `crate::{name, …}` outside of comments, with its line.
fn uses_of_crate(code: &str) -> Vec<(usize, String)> {
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let lines: Vec<_> = code.lines().map(|line| if is_comment(line) { "" } else { line }).collect();
    let code = lines.join("\n");
    let mut uses = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + found.len()..];
        let names = rest.strip_prefix('{').map_or(vec![rest], first_level);
        for name in names.iter().map(|name| name.trim_start()) {
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            uses.push((line, name[..end].to_owned()));
        }
    }
    uses
}

/// The parts of `a, b::{c, d}, e}` at its commas, up to the closing brace.
fn first_level(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut parts = vec![];
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        if c == '}' {
            depth -= 1;
        }
        if depth < 0 {
            break;
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[test]
fn crates_depend_on_what_they_may() {
    // The proof that these do no I/O and know no clock. A new line needs a reason in its commit.
    let pure: [(&str, &[&str]); 3] = [
        (
            "dunlin-core",
            &[
                "async-trait",
                "aws-lc-rs", // it verifies signatures; its random numbers are not used
                "base64",
                "bytes",
                "foldhash",
                "parking_lot",
                "prometheus-client",
                "regex",
                "serde",
                "serde_json",
                "slab",
                "smallvec",
                "thiserror",
                "tokio", // its sync primitives, as the next check says
            ],
        ),
        (
            "dunlin-protocol",
            &["bytes", "dunlin-core", "dunlin-ws", "prost", "serde", "serde_json", "thiserror"],
        ),
        ("dunlin-ws", &["base64", "bytes", "flate2", "sha1", "simdutf8", "thiserror"]),
    ];
    for (name, allowed) in pure {
        let dependencies = dependencies(name);
        let broken = dependencies.keys().filter(|name| !allowed.contains(&name.as_str()));
        check(
            &format!("{name} is free of I/O, and its Cargo.toml is the proof"),
            broken.map(|dependency| format!("crates/{name}/Cargo.toml: {dependency}")),
        );
    }
    let tokio = &dependencies("dunlin-core")["tokio"];
    let features = tokio["features"].as_array().unwrap();
    assert_eq!(features, &["sync".into()], "dunlin-core uses tokio only to synchronise");
    assert_eq!(tokio["default-features"].as_bool(), Some(false));
}

#[test]
fn dependencies_between_crates_point_down() {
    const RANKS: [&[&str]; 3] = [
        &["dunlin", "dunlin-bench"],
        &["dunlin-protocol", "dunlin-redis"],
        &["dunlin-core", "dunlin-ws"],
    ];
    let rank = |name: &str| RANKS.iter().position(|rank| rank.contains(&name));
    let mut broken = Vec::new();
    for name in crates() {
        let own = rank(&name).unwrap_or_else(|| panic!("{name} has no rank yet: {RANKS:?}"));
        for dependency in dependencies(&name).keys() {
            if rank(dependency).is_some_and(|rank| rank <= own) {
                broken.push(format!("crates/{name}/Cargo.toml: {dependency}"));
            }
        }
    }
    check("a crate depends only on crates below it, as drawn in ARCHITECTURE.md", broken);
}

/// The `[dependencies]` of a crate.
fn dependencies(name: &str) -> toml::Table {
    let manifest: toml::Table = read(&format!("crates/{name}/Cargo.toml")).parse().unwrap();
    manifest["dependencies"].as_table().unwrap().clone()
}

#[test]
fn nothing_else_lies_between_the_crates() {
    let is_crate = |path: &PathBuf| root().join(path).join("Cargo.toml").is_file();
    check(
        "crates/ holds crates only: what else lies there was left behind by accident",
        entries("crates").iter().filter(|p| !is_crate(p)).map(|p| p.display().to_string()),
    );
}

#[test]
fn the_architecture_names_each_crate() {
    let text = read("ARCHITECTURE.md");
    check(
        "each crate is explained in ARCHITECTURE.md, as `name` in backquotes",
        crates().into_iter().filter(|name| !text.contains(&format!("`{name}`"))),
    );
}

#[test]
fn each_fuzz_target_has_a_corpus() {
    let is_empty = |target: &PathBuf| {
        let corpus = root().join("fuzz/corpus").join(target.file_stem().unwrap());
        fs::read_dir(corpus).map_or(true, |mut files| files.next().is_none())
    };
    check(
        "each fuzz target has seeds in fuzz/corpus/<target>: `./test` replays them",
        entries("fuzz/fuzz_targets")
            .iter()
            .filter(|t| is_empty(t))
            .map(|t| t.display().to_string()),
    );
}

fn is_this_file(source: &Source) -> bool {
    source.path.ends_with("/tests/it/tidy.rs")
}

/// The words of a name in CamelCase or snake_case, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
    }
    words
}

/// All Rust files but those made by builds.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders: Vec<_> = crates().iter().map(|name| format!("crates/{name}")).collect();
    folders.push("fuzz".to_owned());
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder) {
            let path = entry.to_str().expect("paths here are UTF-8").to_owned();
            if root().join(&entry).is_dir() {
                let skipped = ["fuzz/target", "fuzz/corpus", "fuzz/artifacts", "fuzz/coverage"];
                folders.extend((!skipped.contains(&&*path)).then_some(path));
            } else if path.ends_with(".rs") {
                let text = read(&path);
                sources.push(Source { path, text });
            }
        }
    }
    assert!(sources.len() > 100, "the sources were not found");
    sources
}

fn crates() -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries("crates").into_iter().filter(|path| root().join(path).is_dir()).map(name).collect()
}

/// What is in a folder, in order; the paths are from the root.
fn entries(folder: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(root().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let mut paths: Vec<_> =
        found.map(|entry| Path::new(folder).join(entry.unwrap().file_name())).collect();
    paths.sort();
    paths
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
