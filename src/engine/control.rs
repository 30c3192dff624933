//! The control that rounds are held against: the rounds of another project, which asked in a random order.

use std::collections::BTreeMap;
use std::path::Path;

use crate::records::{Round, RoundId, Row};
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
