//! See `dunlin_fuzz::control_message`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::control_message(data));

#[cfg(not(fuzzing))]
fn main() {}
