//! A project's whole history as one JSON value: every entry of the journal, and the lists that its rows name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use serde_json::{Value, json};

use super::EngineError;
use crate::records::Named;
use crate::store::{blobs_of, read_elsewhere, taken_away};

/// The history of a project that an engine may have open. Lists (orders of rankings, curves, training sets, settings, sums
/// of slices) stand under their hashes, but for those that were taken away; images, masks, weights and where cases were
/// imported from do not.
///
/// # Errors
/// [`EngineError`] where there is no project, or its journal does not hold.
pub fn history(project: &Path) -> Result<Value, EngineError> {
    let entries = read_elsewhere(project)?;
    let blobs = blobs_of(project)?;
    let (gone, _) = taken_away(&entries, &blobs);
    let mut lists: BTreeMap<String, Value> = BTreeMap::new();
    for row in entries.iter().flat_map(|entry| &entry.rows) {
        for Named { hash, .. } in row.blobs().into_iter().filter(|named| named.is_list) {
            if gone.contains(&hash) {
                continue;
            }
            if let Entry::Vacant(place) = lists.entry(hash.to_string()) {
                place.insert(blobs.get_json(hash)?);
            }
        }
    }
    Ok(json!({
        "overtrace": env!("CARGO_PKG_VERSION"),
        "entries": entries,
        "lists": lists,
    }))
}
