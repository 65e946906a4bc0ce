//! See `dunlin_fuzz::resp_decode`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::resp_decode(data));

#[cfg(not(fuzzing))]
fn main() {}
