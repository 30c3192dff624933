//! The house holds: a room imports only what the table allows, and no file grows past 600 lines.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

use std::fs;
use std::path::{Path, PathBuf};

/// Room and what it may import; the rooms stand in the order in which they may know of each other.
const ROOMS: &[(&str, &[&str])] = &[
    ("settings", &[]),
    ("imaging", &[]),
    ("records", &["imaging", "settings"]),
    ("metrics", &["imaging"]),
    ("model", &["imaging", "settings", "records", "metrics"]),
    ("worker", &["settings", "imaging", "records", "model"]),
    ("query", &["imaging", "settings", "records"]),
    ("effort", &["imaging", "records", "metrics"]),
    ("study", &["imaging", "settings", "records"]),
    ("store", &["records"]),
    ("protocol", &["imaging", "settings", "records"]),
    (
        "engine",
        &[
            "settings", "imaging", "records", "metrics", "model", "worker", "query", "effort", "store",
            "protocol",
        ],
    ),
    (
        "cli",
        &[
            "settings", "imaging", "records", "metrics", "effort", "study", "protocol",
        ],
    ),
    (
        "tui",
        &["settings", "imaging", "records", "metrics", "effort", "protocol"],
    ),
];

const LONGEST: usize = 600;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for item in fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()) {
        if item.is_dir() {
            files.extend(sources(&item));
        } else if item.extension().is_some_and(|extension| extension == "rs") {
            files.push(item);
        }
    }
    files
}

/// The rooms that a source text names after `crate::`, alone or in braces.
fn imports(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(inside) => inside
                .split('}')
                .next()
                .unwrap_or("")
                .split(',')
                .map(str::trim)
                .collect(),
            None => vec![rest],
        };
        for name in names {
            let end = name
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(name.len());
            rooms.push(name[..end].to_string());
        }
    }
    rooms
}

#[test]
fn rooms_import_only_what_they_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (room, allowed) in ROOMS {
        for file in sources(&src.join(room)) {
            let text = fs::read_to_string(&file).unwrap();
            for import in imports(&text) {
                let is_room = ROOMS.iter().any(|(name, _)| *name == import);
                if is_room && import != *room && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{} imports {import}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "wrong arrows:\n{}", wrong.join("\n"));
}

#[test]
fn every_room_stands_in_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for item in fs::read_dir(src)
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.is_dir())
    {
        let name = item.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            ROOMS.iter().any(|(room, _)| *room == name),
            "{name} is a room without a line in the table"
        );
        let text = fs::read_to_string(item.join("mod.rs")).unwrap();
        assert!(
            text.starts_with("//! "),
            "{name}/mod.rs does not open by saying what the room holds"
        );
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let long: Vec<String> = ["src", "tests"]
        .into_iter()
        .flat_map(|folder| sources(&root.join(folder)))
        .filter_map(|file| {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            (lines > LONGEST).then(|| format!("{}: {lines} lines", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "over {LONGEST} lines:\n{}", long.join("\n"));
}

#[test]
fn imports_are_found_alone_and_in_braces() {
    assert_eq!(
        imports("use crate::store::Blobs; crate::{model, query::rank}"),
        ["store", "model", "query"]
    );
}
