//! What rounds are held against: those of another project, which asked in a random order, and those of others that are drawn
//! beside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::records::{Round, RoundId, Row, printable};
use crate::store::{self, StoreError};

/// The rounds of the project in `folder` that have made a model, oldest first. It may be open elsewhere meanwhile.
///
/// # Errors
/// [`StoreError`] where there is no project, or its journal does not hold.
pub fn rounds(folder: &Path) -> Result<Vec<Round>, StoreError> {
    let mut rounds: BTreeMap<RoundId, Round> = BTreeMap::new();
    for entry in store::read_elsewhere(folder)? {
        for row in entry.rows {
            if let Row::Round(round) = row {
                rounds.insert(round.id, round);
            }
        }
    }
    Ok(rounds
        .into_values()
        .filter(|round| round.model.is_some())
        .collect())
}

/// The rounds of other projects, by the names of their folders; of those that are not there, or not whole, nothing is drawn.
pub fn beside(ours: &Path, folders: &[PathBuf]) -> Vec<(String, Vec<Round>)> {
    let named = folders.iter().filter_map(|folder| {
        let name = folder.file_name()?.to_string_lossy();
        Some((printable(&name), rounds(&ours.join(folder)).ok()?))
    });
    named.collect()
}
