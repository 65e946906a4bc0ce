//! See `dunlin_fuzz::config`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::config(data));

#[cfg(not(fuzzing))]
fn main() {}
