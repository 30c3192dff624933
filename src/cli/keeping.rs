//! What is kept: whether it holds, as a whole in one file, and out of one again.

use std::path::Path;

use anyhow::Result;
use indicatif::{HumanBytes, ProgressBar};
use serde_json::json;

use super::{Doors, Exit, Keeping, print, print_json, say};
use crate::records::printable;

/// A bar on a terminal, and nothing elsewhere.
fn bar(json: bool) -> ProgressBar {
    match json {
        true => ProgressBar::hidden(),
        false => super::progress::new_bar(),
    }
}

/// Looks at everything again.
pub fn verify(json: bool, doors: &Doors, project: &Path) -> Result<Exit> {
    let bar = bar(json);
    bar.set_message("blobs read");
    let found = (doors.keeping.verify)(project, &|done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let found = found?;
    if json {
        print_json(&found)?;
    } else {
        print(&format!("journal      {} entries hold together", found.entries))?;
        print(&format!(
            "blobs        {} are what their names say ({}); {} were taken away, as the journal says",
            found.blobs,
            HumanBytes(found.blob_bytes),
            found.taken_away
        ))?;
        print(&format!(
            "corrections  {} saved efforts were derived again from their masks",
            found.corrections
        ))?;
        print(&format!(
            "rankings     {} were derived again from the stored sums",
            found.rankings
        ))?;
        print(&format!(
            "predictions  {} have the sums of their slices",
            found.predictions
        ))?;
        for problem in &found.problems {
            print(&format!("line {}: {}", problem.line, printable(&problem.words)))?;
        }
    }
    match found.problems.first() {
        None => Ok(Exit::Done),
        Some(first) => anyhow::bail!(
            "{} of what is kept does not hold; the first is line {} of the journal; restore the project from a backup",
            match found.problems.len() {
                1 => "one thing".to_string(),
                many => format!("{many} things"),
            },
            first.line
        ),
    }
}

/// Makes the index anew.
pub fn rebuild(json: bool, doors: &Doors, project: &Path) -> Result<Exit> {
    let rows = (doors.keeping.rebuild)(project)?;
    match json {
        true => print_json(&json!({ "rows": rows }))?,
        false => print(&format!("the index was made anew from the journal: {rows} rows"))?,
    }
    Ok(Exit::Done)
}

/// The whole history as one object.
pub fn history(keeping: &Keeping, project: &Path) -> Result<Exit> {
    print_json(&(keeping.history)(project)?)?;
    Ok(Exit::Done)
}

/// A project in one file.
pub fn backup(json: bool, doors: &Doors, project: &Path, file: &Path) -> Result<Exit> {
    let bar = bar(json);
    bar.set_message("bytes");
    let made = (doors.keeping.backup)(project, file, &mut |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let made = made?;
    if json {
        print_json(&made)?;
        return Ok(Exit::Done);
    }
    let words = format!(
        "{} entries, {} blobs and {} files of the inbox ({}) are in {}",
        made.entries,
        made.blobs,
        made.waiting,
        HumanBytes(made.bytes),
        file.display()
    );
    say(json, &words)
}

/// A project out of a file.
pub fn restore(json: bool, doors: &Doors, file: &Path, folder: &Path) -> Result<Exit> {
    let made = (doors.keeping.restore)(file, folder)?;
    if json {
        print_json(&made)?;
        return Ok(Exit::Done);
    }
    let words = format!(
        "{} entries, {} blobs and {} files of the inbox are in {}; `overtrace verify` looks at all of it",
        made.entries,
        made.blobs,
        made.waiting,
        folder.display()
    );
    say(json, &words)
}
