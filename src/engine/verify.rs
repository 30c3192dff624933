//! Whether everything that a project keeps still holds: the journal's chain, every blob's bytes, every saved effort and
//! every ranking, derived again from what they were made of. Reads files alone, so that it works beside an engine that
//! runs and where none can be started.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::EngineError;
use super::project::label_map;
use super::rounds::effort_of;
use crate::effort::{agreement, saved_effort};
use crate::imaging::Plane;
use crate::query::{self, Candidate};
use crate::records::{
    CaseId, ClassEffort, Correction, Entry, Hash, ModelId, Prediction, Problem, Ranking, Row, Scored,
    SliceSums, Verified,
};
use crate::settings::Labels;
use crate::store::{Blobs, Walk, blobs_of, taken_away, walk};

/// Checks a project; `report` hears how many blobs of how many have been read.
///
/// # Errors
/// [`EngineError`] where there is no project, or nothing of it can be read. What does not hold is no error but a
/// [`Problem`].
pub fn verify(project: &Path, report: &(dyn Fn(usize, usize) + Sync)) -> Result<Verified, EngineError> {
    loop {
        let found = look(project, report)?;
        if found.problems.is_empty() {
            return Ok(found);
        }
        // An engine may have taken something away meanwhile: what was missing then was no fault.
        let now = walk(project)?.entries;
        let news = now.get(found.entries..).unwrap_or_default().iter();
        let took = news
            .flat_map(|entry| &entry.rows)
            .any(|row| matches!(row, Row::Erasure(_)));
        if !took {
            return Ok(found);
        }
    }
}

fn look(project: &Path, report: &(dyn Fn(usize, usize) + Sync)) -> Result<Verified, EngineError> {
    let Walk { entries, problem, .. } = walk(project)?;
    let blobs = blobs_of(project)?;
    let mut found = Verified {
        entries: entries.len(),
        ..Verified::default()
    };
    found
        .problems
        .extend(problem.map(|(line, words)| Problem { line, words }));
    let (taken, unreadable) = taken_away(&entries, &blobs);
    found
        .problems
        .extend(unreadable.into_iter().map(|(line, error)| Problem {
            line,
            words: format!("what it took away is not known: {error}"),
        }));
    let bad = check_blobs(&entries, &blobs, &taken, &mut found, report);
    found.problems.extend(not_erased(&entries, &blobs, &taken));
    let mut past = Past::default();
    for entry in &entries {
        for row in &entry.rows {
            let (checked, count) = match row {
                Row::Correction(row) => (past.check_correction(row, &blobs, &bad), &mut found.corrections),
                Row::Ranking(row) => (past.check_ranking(row, &blobs, &bad), &mut found.rankings),
                Row::Prediction(row) => (check_prediction(row, &blobs, &bad), &mut found.predictions),
                _ => {
                    past.put(row);
                    continue;
                }
            };
            match checked {
                Checked::Nothing => {}
                Checked::Holds => *count += 1,
                Checked::Breaks(words) => found.problems.push(Problem {
                    line: entry.seq,
                    words,
                }),
            }
            past.put(row);
        }
        // A round's row comes before that of the correction which changed it.
        let broken = entry.rows.iter().filter_map(|row| past.round_broken(row));
        found.problems.extend(broken.map(|words| Problem {
            line: entry.seq,
            words,
        }));
    }
    found.problems.sort_by_key(|problem| problem.line);
    Ok(found)
}

/// Blobs of forgotten cases that are there all the same.
fn not_erased(entries: &[Entry], blobs: &Blobs, taken: &BTreeSet<Hash>) -> Vec<Problem> {
    let rows = entries
        .iter()
        .flat_map(|entry| entry.rows.iter().map(move |row| (entry.seq, row)));
    let problems = rows.filter_map(|(line, row)| {
        let Row::Erasure(erasure) = row else {
            return None;
        };
        let case = erasure.case.as_ref()?;
        // One that cannot be read is a problem already.
        let hashes: Vec<Hash> = blobs.get_json(erasure.blobs).ok()?;
        let is_left = |hash: &&Hash| taken.contains(hash) && blobs.size(**hash).is_some();
        let left = hashes.iter().filter(is_left).count();
        (left > 0).then(|| Problem {
            line,
            words: format!("{left} blobs of {case} are there though it is forgotten; `overtrace forget {case}` erases them"),
        })
    });
    problems.collect()
}

/// What is wrong with the agreement that a correction names, if anything is.
fn agreement_broken(
    row: &Correction,
    classes: Option<usize>,
    blobs: &Blobs,
    bad: &BTreeSet<Hash>,
) -> Option<String> {
    let told = row.agreement.as_ref()?;
    if bad.contains(&row.mask) || bad.contains(&told.mask) {
        return None;
    }
    let again = label_map(blobs, told.mask, "the other correction").and_then(|theirs| {
        let mask = label_map(blobs, row.mask, "the corrected mask")?;
        let (plane, classes) = (
            row.plane.unwrap_or(Plane(0)),
            classes.unwrap_or(told.classes.len() + 1),
        );
        agreement(&theirs, &mask, plane, classes, row.tolerance_mm)
            .map_err(|error| EngineError::Refused(error.to_string()))
    });
    match again {
        Ok(again) if again == told.classes => None,
        Ok(_) => Some(format!("{}: its agreement is not what the masks give", row.id)),
        Err(error) => Some(format!("{}: {error}", row.id)),
    }
}

/// Reads every blob that the journal names and that was not taken away; returns those that cannot be relied on.
fn check_blobs(
    entries: &[Entry],
    blobs: &Blobs,
    taken: &BTreeSet<Hash>,
    found: &mut Verified,
    report: &(dyn Fn(usize, usize) + Sync),
) -> BTreeSet<Hash> {
    // The first line that names it.
    let mut named: BTreeMap<Hash, (u64, String)> = BTreeMap::new();
    for entry in entries {
        for row in &entry.rows {
            for blob in row.blobs() {
                let words = || (entry.seq, format!("{} of {}", blob.role, row.name()));
                named.entry(blob.hash).or_insert_with(words);
            }
        }
    }
    let wanted: Vec<(Hash, (u64, String))> = named
        .into_iter()
        .filter(|(hash, _)| !taken.contains(hash))
        .collect();
    let done = AtomicUsize::new(0);
    let read: Vec<Result<u64, Problem>> = wanted
        .par_iter()
        .map(|(hash, (line, role))| {
            let read = blobs.get(*hash).map(|bytes| bytes.len() as u64);
            report(done.fetch_add(1, Ordering::Relaxed) + 1, wanted.len());
            read.map_err(|error| Problem {
                line: *line,
                words: format!("{role}: {error}"),
            })
        })
        .collect();
    let mut bad = taken.clone();
    for ((hash, _), read) in wanted.iter().zip(read) {
        match read {
            Ok(bytes) => {
                found.blobs += 1;
                found.blob_bytes += bytes;
            }
            Err(problem) => {
                bad.insert(*hash);
                found.problems.push(problem);
            }
        }
    }
    found.taken_away = taken.len();
    bad
}

/// What came of deriving something again.
enum Checked {
    /// There is nothing to derive it from, or it was derived before.
    Nothing,
    Holds,
    Breaks(String),
}

/// What earlier entries said.
#[derive(Default)]
struct Past {
    predictions: HashMap<(ModelId, CaseId), Candidate>,
    /// Of the labels that masks were taken in with.
    classes: Option<usize>,
    /// In the order in which they came.
    corrections: BTreeMap<u32, Correction>,
    rankings: BTreeSet<u32>,
}

impl Past {
    fn put(&mut self, row: &Row) {
        match row {
            Row::Project(row) => self.classes = row.mask_labels.as_ref().map(Labels::classes),
            Row::Prediction(row) => drop(
                self.predictions
                    .insert((row.model, row.case.clone()), Candidate::of(row)),
            ),
            _ => {}
        }
    }

    /// What is wrong with the effort that a round names, if it is one and anything is.
    fn round_broken(&self, row: &Row) -> Option<String> {
        let Row::Round(round) = row else { return None };
        let again = effort_of(round.id, self.corrections.values());
        let words = || format!("{}: its saved effort is not what its corrections give", round.id);
        (!is_same(&again, &round.effort)).then(words)
    }

    fn check_correction(&mut self, row: &Correction, blobs: &Blobs, bad: &BTreeSet<Hash>) -> Checked {
        // Noted minutes write it again.
        match self.corrections.get(&row.id.0) {
            Some(known) if (&known.effort, &known.agreement) == (&row.effort, &row.agreement) => {
                return Checked::Nothing;
            }
            Some(_) => {
                return Checked::Breaks(format!("{}: its saved effort or agreement was changed", row.id));
            }
            None => self.corrections.insert(row.id.0, row.clone()),
        };
        if let Some(words) = agreement_broken(row, self.classes, blobs, bad) {
            return Checked::Breaks(words);
        }
        if bad.contains(&row.mask) || bad.contains(&row.pre_annotation) {
            return Checked::Nothing;
        }
        if row.model.is_none() {
            return match row.effort.is_empty() {
                true => Checked::Holds,
                false => Checked::Breaks(format!("{}: nobody drew, but an effort is named", row.id)),
            };
        }
        let maps = label_map(blobs, row.pre_annotation, "the pre-annotation")
            .and_then(|drawn| Ok((drawn, label_map(blobs, row.mask, "the corrected mask")?)));
        let (drawn, mask) = match maps {
            Ok(maps) => maps,
            Err(error) => return Checked::Breaks(format!("{}: {error}", row.id)),
        };
        // A correction older than the field was measured in one of the three cuts.
        let planes = match row.plane {
            Some(plane) => vec![plane],
            None => (0..3).map(Plane).collect(),
        };
        let classes = self.classes.unwrap_or(row.effort.len() + 1);
        let holds = planes.into_iter().any(|plane| {
            saved_effort(&drawn, &mask, plane, classes, row.tolerance_mm)
                .is_ok_and(|again| is_same(&again, &row.effort))
        });
        match holds {
            true => Checked::Holds,
            false => Checked::Breaks(format!("{}: its saved effort is not what its masks give", row.id)),
        }
    }

    fn check_ranking(&mut self, row: &Ranking, blobs: &Blobs, bad: &BTreeSet<Hash>) -> Checked {
        if !self.rankings.insert(row.id.0) || bad.contains(&row.order) {
            return Checked::Nothing;
        }
        let order: Vec<Scored> = match blobs.get_json(row.order) {
            Ok(order) => order,
            Err(error) => return Checked::Breaks(format!("{}: {error}", row.id)),
        };
        let cases: Vec<CaseId> = order.iter().map(|scored| scored.case.clone()).collect();
        let again = match (row.seed, row.model) {
            (Some(seed), None) => query::random_order(&cases, seed),
            (seed, Some(model)) => {
                let mut pool = Vec::with_capacity(cases.len());
                for case in cases {
                    match self.predictions.get(&(model, case.clone())) {
                        Some(candidate) => pool.push(candidate.clone()),
                        None => {
                            return Checked::Breaks(format!("{}: {model} had not drawn {case}", row.id));
                        }
                    }
                }
                pool.sort_by(|a, b| a.case.cmp(&b.case));
                match query::rank(row.strategy, row.pixels, &pool, (seed.unwrap_or(0), row.id.0)) {
                    Ok(again) => again,
                    Err(error) => return Checked::Breaks(format!("{}: {error}", row.id)),
                }
            }
            (None, None) => return Checked::Breaks(format!("{}: no model and no seed made it", row.id)),
        };
        match again == order && order.len() == row.cases {
            true => Checked::Holds,
            false => Checked::Breaks(format!("{}: its order is not what the sums give", row.id)),
        }
    }
}

/// Whether two efforts are the same: counts exactly, lengths to the last digits of their sums.
fn is_same(a: &[ClassEffort], b: &[ClassEffort]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_one_same(a, b))
}

fn is_one_same(a: &ClassEffort, b: &ClassEffort) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs().max(b.abs());
    let dice = match (a.dice, b.dice) {
        (Some(a), Some(b)) => near(a, b),
        (a, b) => a == b,
    };
    let counts = |e: &ClassEffort| (e.predicted_px, e.corrected_px, e.shared_px, e.erased_px);
    counts(a) == counts(b) && near(a.added_path_mm, b.added_path_mm) && dice
}

fn check_prediction(row: &Prediction, blobs: &Blobs, bad: &BTreeSet<Hash>) -> Checked {
    if bad.contains(&row.slices) {
        return Checked::Nothing;
    }
    let of = || format!("{} by {}", row.case, row.model);
    match blobs.get_json::<Vec<SliceSums>>(row.slices) {
        Ok(slices) => {
            let mut sums = SliceSums::default();
            slices.iter().for_each(|slice| sums += *slice);
            match sums == row.sums {
                true => Checked::Holds,
                false => Checked::Breaks(format!("{}: its sums are not those of its slices", of())),
            }
        }
        Err(error) => Checked::Breaks(format!("{}: {error}", of())),
    }
}
