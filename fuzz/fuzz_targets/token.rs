//! See `dunlin_fuzz::token`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::token(data));

#[cfg(not(fuzzing))]
fn main() {}
