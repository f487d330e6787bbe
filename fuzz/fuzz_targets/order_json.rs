//! See `properties::order_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::order_json::check(bytes));
