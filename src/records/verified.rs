//! What a project was found to be when everything in it was looked at again, and what a copy of it holds.

use serde::{Deserialize, Serialize};

/// Counts of what holds, and everything that does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Journal entries that hold together.
    pub entries: usize,
    /// Blobs that are what their names say.
    pub blobs: usize,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Blobs that the journal says were taken away.
    pub taken_away: usize,
    /// Corrections whose saved effort was derived again from their masks.
    pub corrections: usize,
    /// Rankings whose order was derived again from the stored sums.
    pub rankings: usize,
    /// Predictions whose sums are those of their slices.
    pub predictions: usize,
    /// What does not hold, by the journal's lines.
    pub problems: Vec<Problem>,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The journal's line that says otherwise, or is broken itself.
    pub line: u64,
    /// What is wrong.
    pub words: String,
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Archived {
    /// Journal entries.
    pub entries: usize,
    /// Blobs.
    pub blobs: usize,
    /// Files that wait in the inbox.
    pub waiting: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}
