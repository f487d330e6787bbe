//! See `properties::http_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::http_request::check(bytes));
