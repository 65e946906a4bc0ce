//! See `dunlin_fuzz::proxy_header`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::proxy_header(data));

#[cfg(not(fuzzing))]
fn main() {}
