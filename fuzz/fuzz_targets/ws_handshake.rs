//! See `dunlin_fuzz::ws_handshake`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::ws_handshake(data));

#[cfg(not(fuzzing))]
fn main() {}
