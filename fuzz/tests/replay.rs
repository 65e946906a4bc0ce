//! Replays the committed corpus of every target: fast, on stable Rust.

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use dunlin_fuzz::TARGETS;

#[test]
fn every_file_of_every_corpus_passes() {
    let mut failed = Vec::new();
    for target in TARGETS {
        let files = files_in(&format!("corpus/{}", target.name));
        assert!(!files.is_empty(), "corpus/{} is empty", target.name);
        for file in files {
            let input = fs::read(&file).expect("a corpus file can be read");
            if catch_unwind(|| (target.run)(&input)).is_err() {
                failed.push(file);
            }
        }
    }
    assert!(failed.is_empty(), "these inputs fail: {failed:#?}");
}

#[test]
fn every_target_has_a_program() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let programs: BTreeSet<String> = files_in("fuzz_targets")
        .iter()
        .filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
        .collect();
    assert_eq!(listed, programs);
    let manifest = fs::read_to_string(here("Cargo.toml")).expect("the manifest can be read");
    for name in listed {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "no [[bin]] for {name}");
    }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(here(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}
