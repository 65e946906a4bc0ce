//! See `dunlin_fuzz::filter`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::filter(data));

#[cfg(not(fuzzing))]
fn main() {}
