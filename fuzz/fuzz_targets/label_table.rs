//! A table of label names beside a mask.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overtrace::imaging::label_table;

fuzz_target!(|text: &str| {
    let named = label_table(text).unwrap_or_default();
    assert!(named.iter().all(|segment| segment.value != 0));
});
