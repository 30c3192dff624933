//! What rounds are held against: those of another project, which asked in a random order, and those of others that are drawn
//! beside.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::records::{Round, RoundId, Row, printable};
use crate::store::{self, StoreError};

/// Other projects, by their folders: how long each journal was when it was read, and its rounds. Whoever attaches asks again, and
/// a long journal is not read for nothing.
#[derive(Debug, Default)]
pub struct Others(HashMap<PathBuf, (u64, Vec<Round>)>);

impl Others {
    /// The rounds of the project in `folder` that have made a model, oldest first. It may be open elsewhere meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] where there is no project, or its journal does not hold.
    pub fn rounds(&mut self, folder: &Path) -> Result<Vec<Round>, StoreError> {
        // Before it is read: what comes meanwhile is read the next time.
        let length = store::length_elsewhere(folder)?;
        if let Some((known, rounds)) = self.0.get(folder)
            && *known == length
        {
            return Ok(rounds.clone());
        }
        let mut rounds: BTreeMap<RoundId, Round> = BTreeMap::new();
        for entry in store::read_elsewhere(folder)? {
            for row in entry.rows {
                if let Row::Round(round) = row {
                    rounds.insert(round.id, round);
                }
            }
        }
        let rounds: Vec<Round> = rounds
            .into_values()
            .filter(|round| round.model.is_some())
            .collect();
        self.0.insert(folder.to_path_buf(), (length, rounds.clone()));
        Ok(rounds)
    }

    /// The rounds of several, by the names of their folders; of those that are not there, or not whole, nothing is drawn.
    pub fn beside(&mut self, ours: &Path, folders: &[PathBuf]) -> Vec<(String, Vec<Round>)> {
        let named = folders.iter().filter_map(|folder| {
            let name = folder.file_name()?.to_string_lossy();
            Some((printable(&name), self.rounds(&ours.join(folder)).ok()?))
        });
        named.collect()
    }
}
