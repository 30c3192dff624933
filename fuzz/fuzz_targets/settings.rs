//! `overtrace.toml`: settings that hold, or an error that says something.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use overtrace::settings::Settings;

fuzz_target!(|text: &str| {
    if let Err(error) = Settings::parse(text, Path::new("overtrace.toml")) {
        assert!(!error.to_string().is_empty());
    }
});
