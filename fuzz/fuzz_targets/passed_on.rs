#![no_main]

#[path = "../../protocol-tests/fuzz/drive/mod.rs"]
mod drive;

libfuzzer_sys::fuzz_target!(|input: &[u8]| drive::passed_on(input));
