//! See `dunlin_fuzz::api_body`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::api_body(data));

#[cfg(not(fuzzing))]
fn main() {}
