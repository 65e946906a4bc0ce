#!/usr/bin/env bash
# A struct that derives serde's Deserialize is read by serde_json from an array as well as from an
# object, in the order of its fields, also where it denies unknown fields.
#
# Versions: serde 1.0.229 and serde_json 1.0.154 (crates.io), with a stable Rust.
# Expected: `struct Header { alg, typ }` is an object with these members (RFC 7515 says of such a
#           header that it is one), so `["HS256","JWT"]` is an error, as it is for a reader in any
#           other language that asks for members by name.
# Seen:     It is taken, and what stands first is `alg`. Fields with a default may be missing at the
#           end. `deny_unknown_fields` denies names, so it changes nothing; only an array that is
#           too long is refused. `#[serde(flatten)]`, as it needs a map, is what does refuse it.
# Matters:  Two readers of one message disagree on what is valid: a gateway that checks members by
#           name finds none in what the service behind it obeys. And a field that is inserted in
#           the middle of a struct changes what such messages mean. What has to be an object needs
#           a wrapper whose visitor takes maps alone.
set -euo pipefail
bed=$(mktemp -d)
trap 'rm -rf "$bed"' EXIT
mkdir "$bed/src"
cat >"$bed/Cargo.toml" <<'TOML'
[package]
name = "see"
version = "0.0.0"
edition = "2024"

[dependencies]
serde = { version = "=1.0.229", features = ["derive"] }
serde_json = "=1.0.154"
TOML
cat >"$bed/src/main.rs" <<'RUST'
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: String,
}

#[derive(Debug, Deserialize)]
struct Rest {}

#[derive(Debug, Deserialize)]
struct Flattened {
    alg: String,
    #[serde(flatten)]
    _rest: Rest,
}

fn main() {
    for (text, taken) in [
        (r#"{"alg":"HS256","typ":"JWT"}"#, true),
        (r#"{"alg":"HS256","more":1}"#, false),
        (r#"["HS256","JWT"]"#, true),
        (r#"["HS256"]"#, true),
        (r#"["HS256","JWT",1]"#, false),
    ] {
        let header = serde_json::from_str::<Header>(text);
        match &header {
            Ok(Header { alg, typ }) => println!("{text}: alg {alg:?}, typ {typ:?}"),
            Err(error) => println!("{text}: {error}"),
        }
        assert_eq!(header.is_ok(), taken, "no longer so");
    }
    let flattened = serde_json::from_str::<Flattened>(r#"["HS256"]"#).map(|one| one.alg);
    println!("flattened, [\"HS256\"]: {flattened:?}");
    assert!(flattened.is_err(), "no longer so");
}
RUST
cargo run --quiet --manifest-path "$bed/Cargo.toml" --target-dir "$bed/target"
