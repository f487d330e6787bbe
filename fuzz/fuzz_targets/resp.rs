//! See `properties::resp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::resp::check(bytes));
