//! The README's generated part is what the keymap says, and its first command runs.

#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

use std::fs;
use std::path::Path;

use overtrace::tui::key_table;

const BEGIN: &str = "<!-- keys: written by `key_table`, held by a test -->\n";
const END: &str = "<!-- keys end -->";

/// `OVERTRACE_WRITE_README=1 cargo test --test readme` writes the table anew.
#[test]
fn the_key_table_is_the_default_keymap_s() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the README has a place for the keys");
    let (found, after) = rest.split_once(END).expect("and says where they end");
    let table = key_table("default").unwrap();
    if std::env::var_os("OVERTRACE_WRITE_README").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        found, table,
        "OVERTRACE_WRITE_README=1 cargo test --test readme writes it anew"
    );
}

/// `cargo run` has to know which of the programs is meant.
#[test]
fn the_first_command_of_the_readme_names_a_program() {
    let manifest = std::process::Command::new(env!("CARGO"))
        .args(["read-manifest", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.stdout).unwrap();
    assert_eq!(manifest["default_run"], "overtrace");
}
