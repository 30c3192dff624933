//! A keymap or a theme of a person's own.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use overtrace::tui::{Keymap, Theme};

fuzz_target!(|text: &str| {
    let preset = Keymap::preset("default").expect("it is compiled in");
    if let Err(faults) = preset.with(text, Path::new("keymap.toml")) {
        assert!(!faults.to_string().is_empty());
    }
    let _ = Theme::parse(text, "theme.toml");
});
