//! See `dunlin_fuzz::centrifuge_protobuf`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::centrifuge_protobuf(data));

#[cfg(not(fuzzing))]
fn main() {}
