//! The file's name: which it is left alone for, which case it names, and whose answer it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::checks::{Candidate, Finding};
use super::shown;
use crate::engine::EngineError;
use crate::engine::project::Project;
use crate::imaging::volume_stem;
use crate::records::{Case, CaseId, Handout, HandoutEnd, HandoutId, Hash, Pool};
use crate::store::Blobs;

/// Endings of the files that say what a mask's values are called, in the order in which they are looked for.
const TABLES: [&str; 3] = [".tsv", ".txt", ".label"];
/// Bytes of a label table at most.
const LONGEST_TABLE: u64 = 1 << 20;

/// Those of the files that such a one may belong to.
const VOLUMES: [&str; 8] = [
    ".nii.gz",
    ".nii",
    ".seg.nrrd",
    ".nrrd",
    ".hdr",
    ".hdr.gz",
    ".img",
    ".img.gz",
];

/// A file's name without the ending of a label table, if it has one.
fn table_stem(name: &str) -> Option<&str> {
    TABLES.iter().find_map(|ending| {
        let at = name.len().checked_sub(ending.len())?;
        let (stem, end) = (name.get(..at)?, name.get(at..)?);
        end.eq_ignore_ascii_case(ending).then_some(stem)
    })
}

/// What lies beside a file under `stem` and one of some endings, in small letters or large ones.
fn beside(file: &Path, stem: &str, endings: &[&str]) -> Option<PathBuf> {
    let names = endings
        .iter()
        .flat_map(|ending| [ending.to_string(), ending.to_uppercase()]);
    let mut places = names.map(|ending| file.with_file_name(format!("{stem}{ending}")));
    places.find(|place| place != file && fs::symlink_metadata(place).is_ok())
}

/// The other half of a `.hdr`/`.img` pair, where it is there.
pub fn other_half(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = volume_stem(name)?;
    let ending = name[stem.len()..].to_lowercase();
    let others: &[&str] = match ending.as_str() {
        ".hdr" | ".hdr.gz" => &[".img", ".img.gz"],
        ".img" | ".img.gz" => &[".hdr", ".hdr.gz"],
        _ => return None,
    };
    beside(path, stem, others)
}

/// The label table that lies beside a mask under the same name.
pub(super) fn table_of(mask: &Path) -> Option<PathBuf> {
    let name = mask.file_name()?.to_str()?;
    beside(mask, volume_stem(name)?, &TABLES)
}

/// A label table's bytes; `None` where it is no regular file, is too long, or the system would not let it be read. What is
/// no file is never opened: a pipe would keep the engine waiting.
pub(super) fn read_table(table: &Path) -> Option<Vec<u8>> {
    if !fs::symlink_metadata(table).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let mut file = fs::File::open(table).ok()?.take(LONGEST_TABLE + 1);
    file.read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= LONGEST_TABLE).then_some(bytes)
}

/// BLAKE3 of the label table beside a mask, where there is one.
pub(super) fn table_hash(mask: &Path) -> Option<Hash> {
    let table = read_table(&table_of(mask)?)?;
    Some(Blobs::hash(&table))
}

/// N1: files that programs leave while they copy, and what folders are full of.
pub(super) fn n1_passing(candidate: &mut Candidate, _: &Project) -> Result<Finding, EngineError> {
    let name = shown(candidate.path);
    let lower = name.to_lowercase();
    let endings = [".filepart", ".part", ".partial", ".tmp", ".lock", ".reason.json"];
    let passing = name.starts_with('.')
        || name.starts_with("~$")
        || endings.iter().any(|ending| lower.ends_with(ending))
        || ["thumbs.db", "desktop.ini"].contains(&lower.as_str());
    Ok(if passing {
        Finding::Ignore("N1")
    } else {
        Finding::Pass
    })
}

/// N2: the endings a mask can have. A label table is looked at together with its mask, and waits for it.
pub(super) fn n2_name(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let name = shown(candidate.path);
    let is_image = [".img", ".img.gz"]
        .iter()
        .any(|ending| name.to_lowercase().ends_with(ending));
    if !candidate.is_decided() && is_image && other_half(candidate.path).is_some() {
        // A pair goes by its header's name, whichever half is seen first.
        return Ok(Finding::Ignore("N2"));
    }
    if candidate.is_decided() || volume_stem(&name).is_some() {
        return Ok(Finding::Pass);
    }
    if let Some(stem) =
        table_stem(&name).filter(|stem| !cases_named(stem, &project.snapshot.cases).is_empty())
    {
        // Where the mask is there already, it takes its table along. It may also come much later, and would be read
        // by its numbers if the table were gone by then.
        return Ok(match beside(candidate.path, stem, &VOLUMES) {
            Some(_) => Finding::Ignore("V5"),
            None => Finding::Wait(
                "V5",
                "names labels; the mask of that name has not come yet".into(),
            ),
        });
    }
    Ok(Finding::Reject(
        "N2",
        "its name does not end in .nii, .nii.gz, .hdr, .img, .nrrd or .seg.nrrd; save the mask as NIfTI or NRRD".into(),
    ))
}

/// N3: the case that the name names, whatever the case of its letters.
pub(super) fn n3_case(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    // Of a held file it is known.
    if candidate.case.is_some() {
        return Ok(Finding::Pass);
    }
    let name = shown(candidate.path);
    // What a hand-out asked for by its whole name is that case's, whatever else the name may look like.
    let asked: BTreeSet<&CaseId> = project
        .snapshot
        .handouts
        .values()
        .filter(|handout| is_reply(&name, &handout.reply_name))
        .map(|handout| &handout.case)
        .collect();
    if let (Some(only), 1) = (asked.first(), asked.len()) {
        candidate.case = Some((*only).clone());
        return Ok(Finding::Pass);
    }
    let named = volume_stem(&name).unwrap_or(&name);
    let cases = &project.snapshot.cases;
    match cases_named(named, cases)[..] {
        [only] => {
            candidate.case = Some(only.clone());
            Ok(Finding::Pass)
        }
        [] => {
            let mut near: Vec<(f64, &str)> = cases
                .keys()
                .map(|id| (strsim::jaro_winkler(named, id.as_str()), id.as_str()))
                .collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            let near: Vec<&str> = near.into_iter().take(3).map(|(_, id)| id).collect();
            let image = if named.ends_with("_0000") {
                " (_0000 is how an image is named, not a mask)"
            } else {
                ""
            };
            let near = if near.is_empty() {
                "there are no cases".into()
            } else {
                format!("the nearest are {}", near.join(", "))
            };
            Ok(Finding::Reject(
                "N3",
                format!("no case is called {named}{image}; {near}; rename the file and drop it again"),
            ))
        }
        _ => Ok(Finding::Reject(
            "N3",
            format!("{named} could be any of several cases; use the exact name"),
        )),
    }
}

/// The case that a stem names: itself, or with a suffix that says "segmentation".
fn case_of(stem: &str, is_case: impl Fn(&str) -> bool) -> Option<&str> {
    if is_case(stem) {
        return Some(stem);
    }
    let lower = stem.to_lowercase();
    ["_seg", "_mask", "_label", "_corrected", "_dseg"]
        .into_iter()
        .filter(|suffix| lower.ends_with(suffix))
        .map(|suffix| &stem[..stem.len() - suffix.len()])
        .find_map(|stem| match is_case(stem) {
            true => Some(stem),
            false => without_handout(stem).filter(|case| is_case(case)),
        })
}

/// A stem without the number of its hand-out, `case_07_h12`.
fn without_handout(stem: &str) -> Option<&str> {
    let (case, number) = stem.rsplit_once("_h")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(case)
}

/// The cases that a stem may mean: the one that it spells exactly, else all that differ in the case of letters alone.
fn cases_named<'a>(stem: &str, cases: &'a BTreeMap<CaseId, Case>) -> Vec<&'a CaseId> {
    let like = |stem: &str| {
        let same = move |id: &&CaseId| id.as_str().eq_ignore_ascii_case(stem);
        cases.keys().filter(same).collect::<Vec<_>>()
    };
    let Some(stem) = case_of(stem, |stem| !like(stem).is_empty()) else {
        return Vec::new();
    };
    let alike = like(stem);
    match alike.iter().find(|id| id.as_str() == stem) {
        Some(exact) => vec![*exact],
        None => alike,
    }
}

/// The case that a file's name names, also when it was put away under a number before its name.
pub fn case_of_file(name: &str, cases: &BTreeMap<CaseId, Case>) -> Option<CaseId> {
    let stem = volume_stem(name).or_else(|| table_stem(name))?;
    let find = |stem: &str| cases_named(stem, cases).first().map(|id| (*id).clone());
    let numbered = || {
        let (number, rest) = stem.split_once('-')?;
        let digits = number.strip_prefix('f').unwrap_or(number);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        find(rest).filter(|_| is_number)
    };
    find(stem).or_else(numbered)
}

/// The name that a case's mask is asked for by: one that is no other case's, and, where it can be, no other hand-out's.
pub fn reply_name(id: &CaseId, number: HandoutId, is_first: bool, cases: &BTreeMap<CaseId, Case>) -> String {
    let first = is_first.then(|| format!("{id}_corrected"));
    let stems = first.into_iter().chain([format!("{id}_{number}_corrected")]);
    let mut own = stems.filter(|stem| cases_named(stem, cases) == [id]);
    // A case's own name is always its.
    let stem = own.next().unwrap_or_else(|| id.to_string());
    format!("{stem}.nii.gz")
}

/// N4: nothing is kept of a patient who withdrew, not even in quarantine.
pub(super) fn n4_forgotten(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let case = project.case(candidate.case())?;
    Ok(match case.forgotten {
        None => Finding::Pass,
        Some(_) => {
            let words = format!("{} is forgotten: what comes for it is erased", case.id);
            Finding::Erase("N4", words)
        }
    })
}

/// Which hand-out a mask answers; of a held file the one that it answered when it came.
pub(super) fn n4_whose(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let case = project.case(candidate.case())?;
    let handouts = &project.snapshot.handouts;
    let of_case = || handouts.values().rev().filter(|handout| handout.case == case.id);
    let open = case.handout.and_then(|open| handouts.get(&open));
    // A name of one's own is for the hand-out that is open; without one, what comes after its hand-out was taken back is
    // measured against what was handed out all the same.
    let named_after = of_case().find(|handout| is_reply(&candidate.name, &handout.reply_name));
    let is_taken_back = |last: &&Handout| matches!(last.end, Some(HandoutEnd::Withdrawn(_)));
    let then = candidate.answers.and_then(|then| handouts.get(&then));
    let answered = then
        .filter(|then| then.case == case.id)
        .or(named_after)
        .or(open)
        .or_else(|| of_case().next().filter(is_taken_back));
    candidate.answers = answered.map(|handout| handout.id);
    Ok(Finding::Pass)
}

/// N4: a mask answers a hand-out.
pub(super) fn n4_handed_out(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let case = project.case(candidate.case())?;
    if case.pool == Pool::HeldOut {
        return Ok(Finding::Reject(
            "N4",
            format!("{} is held out: it measures models and is not corrected", case.id),
        ));
    }
    let handouts = &project.snapshot.handouts;
    let open = case.handout.and_then(|open| handouts.get(&open));
    let answered = candidate.answers.and_then(|answered| handouts.get(&answered));
    if let Some(why) = &case.excluded {
        let words = format!(
            "{} is excluded ({why}); accept it to keep the mask for when the case is brought back",
            case.id
        );
        return Ok(Finding::Hold("N4", words));
    }
    let words = match answered.map(|handout| (handout, &handout.end)) {
        Some((_, None)) => return Ok(Finding::Pass),
        None => format!(
            "{} is not handed out to anybody; accept it to take the mask in all the same",
            case.id
        ),
        Some((handout, Some(end))) => {
            let end = match end {
                HandoutEnd::Corrected(correction) => format!("came back as {correction}"),
                HandoutEnd::Withdrawn(why) => format!("was taken back ({why})"),
            };
            let now = open.map_or("is not handed out to anybody now".into(), |open| {
                format!("is with {} now", open.owner)
            });
            format!(
                "{} to {} {end}, and {} {now}; accept it to keep it as {}'s",
                handout.id, handout.owner, case.id, handout.owner
            )
        }
    };
    Ok(Finding::Hold("N4", words))
}

/// Whether a file is called as a hand-out asked for, whatever its format and the case of its letters.
pub(super) fn is_reply(name: &str, reply_name: &str) -> bool {
    let stem = |name| volume_stem(name).map(str::to_lowercase);
    stem(name).is_some_and(|name| Some(name) == stem(reply_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_taken_off_only_where_a_case_is_left() {
        let is_case = |stem: &str| ["a", "b_seg"].contains(&stem);
        assert_eq!(case_of("a_corrected", is_case), Some("a"));
        assert_eq!(case_of("a_DSEG", is_case), Some("a"));
        assert_eq!(
            case_of("b_seg", is_case),
            Some("b_seg"),
            "a case may be called so itself"
        );
        assert_eq!(case_of("b_seg_seg", is_case), Some("b_seg"));
        assert_eq!(case_of("c_seg", is_case), None);
        assert_eq!(case_of("a_h12_corrected", is_case), Some("a"));
        assert_eq!(case_of("a_h_corrected", is_case), None);
        assert_eq!(case_of("a_h12", is_case), None, "no suffix");
    }
}
