//! What a dropped file must pass, in order: name, kind, case, rest, container, geometry, values, sanity.
//!
//! A check looks at what the earlier ones found out and adds to it. Codes are those of the hand-in rules, which
//! the README lists.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::mixups::p2_mixed_up;
use super::shown;
use crate::engine::EngineError;
use crate::engine::masks::{binary_classes, classes};
use crate::engine::project::Project;
use crate::imaging::{AffineSource, LabelMap, Placement, RawVolume, Scan, Volume, VolumeError, volume_stem};
use crate::records::{Case, CaseId, Hash};
use crate::store::Blobs;
use crate::worker::Parser;

/// What a check found.
#[derive(Debug)]
pub enum Finding {
    /// Go on.
    Pass,
    /// Go on, with a note.
    Warn(&'static str, String),
    /// A person has to decide.
    Hold(&'static str, String),
    /// Refused.
    Reject(&'static str, String),
    /// Refused, and not kept.
    Erase(&'static str, String),
    /// Look again later.
    Wait(&'static str, String),
    /// Leave alone.
    Ignore(&'static str),
    /// The very content was taken in before.
    Known(String),
}

/// A dropped file and what is known of it so far.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The file.
    pub path: &'a Path,
    /// When it last changed.
    seen: Timestamp,
    /// Whether a person accepted it.
    accepted: bool,
    /// Reads it.
    parser: &'a Parser,
    /// The case it is for.
    pub case: Option<CaseId>,
    /// Its bytes, of a pair the one file made of both; and their BLAKE3.
    pub bytes: Vec<u8>,
    pub file: Option<Hash>,
    scan: Option<Scan>,
    /// Its classes, on the image's grid.
    pub mask: Option<LabelMap>,
}

impl<'a> Candidate<'a> {
    /// A file nothing is known of.
    pub fn new(path: &'a Path, seen: Timestamp, accepted: bool, parser: &'a Parser) -> Self {
        Candidate {
            path,
            seen,
            accepted,
            parser,
            case: None,
            bytes: Vec::new(),
            file: None,
            scan: None,
            mask: None,
        }
    }

    pub(super) fn case(&self) -> &CaseId {
        self.case.as_ref().expect("the case was found before this check")
    }
}

type Check = fn(&mut Candidate, &Project) -> Result<Finding, EngineError>;

/// Every check, in order.
pub const CHECKS: &[Check] = &[
    n1_passing,
    s2_regular,
    n2_name,
    n3_case,
    n4_forgotten,
    s1_rest,
    c_read,
    p4_again,
    n4_handed_out,
    h2_notes,
    g_grid,
    v_values,
    p1_sane,
    p2_mixed_up,
    p3_unchanged,
];

/// N1: files that programs leave while they copy, and what folders are full of.
fn n1_passing(candidate: &mut Candidate, _: &Project) -> Result<Finding, EngineError> {
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

/// S2: only a regular file with one name is opened; a link is never followed, a pipe never opened.
fn s2_regular(candidate: &mut Candidate, _: &Project) -> Result<Finding, EngineError> {
    let meta = match fs::symlink_metadata(candidate.path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Finding::Ignore("S1")),
        Err(error) => return Err(EngineError::io("looking at", candidate.path)(error)),
    };
    if !meta.is_file() {
        return Ok(Finding::Reject(
            "S2",
            "not a regular file; copy the mask itself into the inbox".into(),
        ));
    }
    let halves = std::iter::once(meta)
        .chain(other_half(candidate.path).and_then(|half| fs::symlink_metadata(half).ok()));
    let halves: Vec<Metadata> = halves.collect();
    if halves.iter().any(|half| !half.is_file()) {
        return Ok(Finding::Reject(
            "S2",
            "the other half of the pair is not a regular file; copy the file itself".into(),
        ));
    }
    if halves.iter().any(|half| half.nlink() > 1) {
        let words = "the file has several names (hard links) and could change later; copy it instead";
        return Ok(Finding::Reject("S2", words.into()));
    }
    Ok(Finding::Pass)
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
        .find(|case| is_case(case))
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
    let stem = volume_stem(name)?;
    let find = |stem: &str| cases_named(stem, cases).first().map(|id| (*id).clone());
    let numbered = || {
        let (number, rest) = stem.split_once('-')?;
        let digits = number.strip_prefix('f').unwrap_or(number);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        find(rest).filter(|_| is_number)
    };
    find(stem).or_else(numbered)
}

/// N2: the endings a mask can have.
fn n2_name(candidate: &mut Candidate, _: &Project) -> Result<Finding, EngineError> {
    if candidate.accepted || volume_stem(&shown(candidate.path)).is_some() {
        return Ok(Finding::Pass);
    }
    Ok(Finding::Reject(
        "N2",
        "its name does not end in .nii, .nii.gz, .hdr, .img, .nrrd or .seg.nrrd; save the mask as NIfTI or NRRD".into(),
    ))
}

/// N3: the case that the name names, whatever the case of its letters.
fn n3_case(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let name = shown(candidate.path);
    // A held file was renamed to its number and its case.
    let named = match (candidate.accepted, volume_stem(&name)) {
        (true, Some(stem)) => stem.split_once('-').map_or(stem, |(_, case)| case),
        (_, stem) => stem.unwrap_or(&name),
    };
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

/// S1: a file rests when neither its bytes nor its name changed for a while. The inode's change time moves with
/// both, and unlike the modification time no copying program sets it.
fn s1_rest(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    if candidate.accepted {
        return Ok(Finding::Pass);
    }
    let stable_s = project.pace.rest_s;
    let changed = |meta: Metadata| meta.ctime() as f64 + meta.ctime_nsec() as f64 / 1e9;
    let now = Timestamp::now().as_nanosecond() as f64 / 1e9;
    for path in std::iter::once(candidate.path.to_path_buf()).chain(other_half(candidate.path)) {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            return Ok(Finding::Ignore("S1"));
        };
        // A clock set back must not make a file wait for ever: a change in the future counts as old.
        if (0.0..stable_s).contains(&(now - changed(meta))) {
            return Ok(Finding::Wait(
                "S1",
                "still changing; it is looked at again when it has come to rest".into(),
            ));
        }
    }
    Ok(Finding::Pass)
}

/// C1, C3, H1, H2: reads the file to its end, checks container and header.
fn c_read(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let case = project.case(candidate.case())?;
    // The most a mask of this case could need: 8 bytes a voxel, and a header.
    let max_bytes = case.grid.len() as u64 * 8 + (1 << 20);
    // A person who accepts it has time.
    let patience = if candidate.accepted { 10.0 } else { 1.0 };
    let mut note = None;
    let read = RawVolume::read(candidate.path, max_bytes).and_then(|mut raw| {
        note = raw.notes.pop();
        candidate.parser.parse(raw, max_bytes, patience)
    });
    let waited = Timestamp::now().duration_since(candidate.seen).as_secs_f64();
    let wait_s = project.snapshot.settings.inbox.incomplete_after_s;
    match read {
        Ok((bytes, scan)) => {
            (candidate.file, candidate.scan) = (Some(Blobs::hash(&bytes)), Some(scan));
            candidate.bytes = bytes;
            Ok(note.map_or(Finding::Pass, |note| Finding::Warn("C2", note)))
        }
        Err(error @ (VolumeError::Incomplete { .. } | VolumeError::HalfMissing { .. }))
            if !candidate.accepted && waited < wait_s =>
        {
            Ok(Finding::Wait("S1", format!("not complete yet: {error}")))
        }
        Err(error @ (VolumeError::Incomplete { .. } | VolumeError::HalfMissing { .. })) => {
            Ok(Finding::Reject("S1", format!("incomplete: {error}")))
        }
        Err(error @ VolumeError::Slow { .. }) if !candidate.accepted => Ok(Finding::Hold(
            error.code(),
            format!("{error}, then accept it: it has ten times as long then"),
        )),
        Err(error @ VolumeError::Read { .. }) if candidate.accepted || waited < wait_s => {
            Ok(Finding::Wait("S3", error.to_string()))
        }
        Err(error @ VolumeError::Read { .. }) => Ok(Finding::Hold(
            "S3",
            format!("{error}; `chmod u+r` it, then accept it"),
        )),
        Err(error) => Ok(Finding::Reject(error.code(), error.to_string())),
    }
}

/// The other half of a `.hdr`/`.img` pair, where it is there.
pub fn other_half(path: &Path) -> Option<PathBuf> {
    let other = match path.extension().and_then(OsStr::to_str)?.to_lowercase().as_str() {
        "hdr" => ["img", "IMG"],
        "img" => ["hdr", "HDR"],
        _ => return None,
    };
    other
        .into_iter()
        .map(|extension| path.with_extension(extension))
        .find(|path| fs::symlink_metadata(path).is_ok())
}

/// P4: content that was handed in before is not taken twice, nor for another case.
fn p4_again(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let case = candidate.case();
    let same = project
        .snapshot
        .corrections
        .values()
        .filter(|old| Some(old.file) == candidate.file);
    let mut same = same.collect::<Vec<_>>();
    same.sort_by_key(|old| &old.case != case);
    match same.first() {
        None => Ok(Finding::Pass),
        // A case handed out again may come back as it was.
        Some(old)
            if &old.case == case
                && project
                    .case(case)?
                    .handout
                    .is_some_and(|open| open != old.handout) =>
        {
            Ok(Finding::Pass)
        }
        Some(old) if &old.case == case => Ok(Finding::Known(format!(
            "taken in before, as correction {}",
            old.id
        ))),
        Some(old) => Ok(Finding::Reject(
            "P4",
            format!(
                "the very bytes that were handed in for {} ({}); send this case's own mask",
                old.case, old.id
            ),
        )),
    }
}

/// N4: nothing is kept of a patient who withdrew, not even in quarantine.
fn n4_forgotten(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let case = project.case(candidate.case())?;
    Ok(match case.forgotten {
        None => Finding::Pass,
        Some(_) => {
            let words = format!("{} is forgotten: what comes for it is erased", case.id);
            Finding::Erase("N4", words)
        }
    })
}

/// N4: a mask answers a hand-out.
fn n4_handed_out(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let case = project.case(candidate.case())?;
    if let Some(why) = &case.excluded {
        let words = format!(
            "{} is excluded ({why}); accept it to keep the mask for when the case is brought back",
            case.id
        );
        return Ok(Finding::Hold("N4", words));
    }
    if case.pool == crate::records::Pool::HeldOut {
        return Ok(Finding::Reject(
            "N4",
            format!("{} is held out: it measures models and is not corrected", case.id),
        ));
    }
    if case.handout.is_some() {
        return Ok(Finding::Pass);
    }
    Ok(Finding::Hold(
        "N4",
        format!(
            "{} is not handed out to anybody; accept it to take the mask in all the same",
            case.id
        ),
    ))
}

/// H2: a form of the header that could not be believed, where another could.
fn h2_notes(candidate: &mut Candidate, _: &Project) -> Result<Finding, EngineError> {
    let scan = candidate
        .scan
        .as_ref()
        .expect("the file was read before this check");
    Ok(match scan.notes.first() {
        Some(note) => Finding::Warn("H2", note.clone()),
        None => Finding::Pass,
    })
}

/// G1 to G4: the mask lies where the image lies.
fn g_grid(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let image = project.case(candidate.case())?.grid;
    let accepted = candidate.accepted;
    let scan = candidate
        .scan
        .as_mut()
        .expect("the file was read before this check");
    let mask = scan.volume.grid;
    let (has, wants) = (mask.shape, image.shape);
    let apart = image.corner_distance_voxels(&mask);
    let lost = scan.affine_source == AffineSource::Pixdim || mask.affine.is_identity();
    if !lost
        && apart.is_none_or(|apart| apart > 1e-3)
        && let Some(placement) = Placement::of(&mask, &image)
        && (mask.len() == image.len() || scan.crop.is_some_and(|crop| placement.fits(crop, &image)))
    {
        let Some(voxels) = placement.put(&scan.volume.voxels, &mask, &image) else {
            let words = "it reaches out of the image; save it on the image's grid";
            return Ok(Finding::Reject("G2", words.into()));
        };
        scan.volume = Volume { grid: image, voxels };
        let words = match placement.is_plain() {
            true => "it holds a part of the image's grid, as it says itself; the rest is background",
            false => "its axes run another way than the image's; it was turned, voxel by voxel",
        };
        return Ok(Finding::Warn("G1", words.into()));
    }
    let Some(apart) = apart else {
        let words = format!(
            "resampled or cropped: it has {} x {} x {} voxels, the image {} x {} x {}; save it on the image's grid",
            has[0], has[1], has[2], wants[0], wants[1], wants[2]
        );
        return Ok(Finding::Reject("G2", words));
    };
    if apart <= 1e-3 {
        return Ok(Finding::Pass);
    }
    if lost {
        if accepted {
            scan.volume.grid = image;
        }
        let words = "header lost: the file does not say where its voxels lie; accept it to read it on the image's grid, \
                     voxel by voxel";
        return Ok(Finding::Hold("G4", words.into()));
    }
    if apart <= 0.1 {
        scan.volume.grid = image;
        let words =
            format!("its corners lie up to {apart:.4} voxels off the image's; the image's header was used");
        return Ok(Finding::Warn("G3", words));
    }
    let words = format!(
        "moved: its corners lie up to {apart:.2} voxels off the image's; save it without registration"
    );
    Ok(Finding::Reject("G3", words))
}

/// V1 to V4: values are labels.
fn v_values(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let grid = project.case(candidate.case())?.grid;
    let scan = candidate
        .scan
        .take()
        .expect("the file was read before this check");
    match classes(&scan, &project.snapshot.settings.labels) {
        Ok((map, note)) => {
            candidate.mask = Some(LabelMap { grid, ..map });
            Ok(note.map_or(Finding::Pass, |(code, note)| Finding::Warn(code, note)))
        }
        Err(problem) if problem.may_hold => {
            candidate.mask = Some(LabelMap {
                grid,
                ..binary_classes(&scan)
            });
            Ok(Finding::Hold(problem.code, problem.words))
        }
        Err(problem) => Ok(Finding::Reject(problem.code, problem.words)),
    }
}

/// P1: an empty mask, or a class gone that the pre-annotation had plenty of.
fn p1_sane(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    const PLENTY: u64 = 50;
    let labels = &project.snapshot.settings.labels;
    let mask = candidate
        .mask
        .as_ref()
        .expect("the values were read before this check");
    let counts = mask.class_voxels(labels.classes());
    if counts[1..].iter().all(|&n| n == 0) {
        return Ok(Finding::Hold(
            "P1",
            "the mask is empty; accept it if there is nothing to draw".into(),
        ));
    }
    let Some(drawn) = pre_annotation(candidate, project)? else {
        return Ok(Finding::Pass);
    };
    let before = drawn.class_voxels(labels.classes());
    let gone: Vec<String> = (1..labels.classes())
        .filter(|&class| counts[class] == 0 && before[class] > PLENTY)
        .map(|class| format!("{} ({} voxels were drawn)", labels.name_of(class), before[class]))
        .collect();
    if gone.is_empty() {
        return Ok(Finding::Pass);
    }
    Ok(Finding::Hold(
        "P1",
        format!("the mask has no {}; accept it if that is meant", gone.join(", ")),
    ))
}

/// P3: nothing was changed.
fn p3_unchanged(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let drawn = pre_annotation(candidate, project)?;
    let same = drawn.is_some_and(|drawn| {
        candidate
            .mask
            .as_ref()
            .is_some_and(|mask| mask.voxels == drawn.voxels)
    });
    if same {
        let words = "it is what was handed out, unchanged; accept it to approve the pre-annotation as it is";
        return Ok(Finding::Hold("P3", words.into()));
    }
    Ok(Finding::Pass)
}

pub(super) fn pre_annotation(
    candidate: &Candidate,
    project: &Project,
) -> Result<Option<LabelMap>, EngineError> {
    let case = project.case(candidate.case())?;
    let handout = case.handout.and_then(|id| project.snapshot.handouts.get(&id));
    handout
        .map(|handout| project.label_map(handout.pre_annotation, "the pre-annotation"))
        .transpose()
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
    }
}
