//! The file itself: whether it rests, what it holds, whether that lies on the image's grid and means labels.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::checks::{Candidate, Finding};
use super::names::{other_half, read_table, table_of};
use crate::engine::EngineError;
use crate::engine::masks::{binary_classes, classes};
use crate::engine::project::Project;
use crate::imaging::{AffineSource, LabelMap, Placement, RawVolume, Volume, VolumeError, label_table};
use crate::records::Fix;
use crate::store::Blobs;

/// S2: only a regular file with one name is opened; a link is never followed, a pipe never opened.
pub(super) fn s2_regular(candidate: &mut Candidate, _: &Project) -> Result<Finding, EngineError> {
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
    let others = along(candidate.path)
        .into_iter()
        .filter_map(|other| fs::symlink_metadata(other).ok());
    let all: Vec<Metadata> = std::iter::once(meta).chain(others).collect();
    if all.iter().any(|one| !one.is_file()) {
        return Ok(Finding::Reject(
            "S2",
            "what lies beside it under its name is not a regular file; copy the file itself".into(),
        ));
    }
    if all.iter().any(|one| one.nlink() > 1) {
        let words = "the file has several names (hard links) and could change later; copy it instead";
        return Ok(Finding::Reject("S2", words.into()));
    }
    Ok(Finding::Pass)
}

/// S1: a file rests when neither its bytes nor its name changed for a while. The inode's change time moves with
/// both, and unlike the modification time no copying program sets it.
pub(super) fn s1_rest(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    if candidate.is_decided() {
        return Ok(Finding::Pass);
    }
    let stable_s = project.pace.rest_s;
    let changed = |meta: &Metadata| meta.ctime() as f64 + meta.ctime_nsec() as f64 / 1e9;
    let now = Timestamp::now().as_nanosecond() as f64 / 1e9;
    for path in std::iter::once(candidate.path.to_path_buf()).chain(along(candidate.path)) {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            return Ok(Finding::Ignore("S1"));
        };
        // A clock set back must not make a file wait for ever: a change in the future counts as old.
        let is_fresh = match candidate.rested {
            Some(rested) => !rested,
            None => (0.0..stable_s).contains(&(now - changed(&meta))),
        };
        if is_fresh {
            return Ok(Finding::Wait(
                "S1",
                "still changing; it is looked at again when it has come to rest".into(),
            ));
        }
        // Packed bytes have an end of their own; others may have been given their length before they were written.
        let has_end = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz"));
        let wait_s = project.snapshot.settings.inbox.incomplete_after_s;
        if !has_end && candidate.waited_s() < wait_s && candidate.writers.have(&meta) {
            let words = "still open for writing; it is looked at again when it is closed";
            return Ok(Finding::Wait("S1", words.into()));
        }
    }
    Ok(Finding::Pass)
}

/// C1, C3, H1, H2: reads the file to its end, checks container and header.
pub(super) fn c_read(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let case = project.case(candidate.case())?;
    // The most a mask of this case could need: 8 bytes a voxel, and a header.
    let max_bytes = case.grid.len() as u64 * 8 + (1 << 20);
    let patience = candidate.patience;
    let mut note = None;
    let read = RawVolume::read(candidate.path, max_bytes).and_then(|mut raw| {
        note = raw.notes.pop();
        candidate.parser.parse(raw, max_bytes, patience)
    });
    let waited_s = candidate.waited_s();
    let wait_s = project.snapshot.settings.inbox.incomplete_after_s;
    match read {
        Ok((bytes, mut scan)) => {
            // What a file says of itself goes before what lies beside it.
            if scan.segments.is_empty()
                && let Some(table) = table_of(candidate.path)
            {
                candidate.table = read_table(&table);
                let text = candidate.table.as_deref().map(std::str::from_utf8);
                match text.and_then(Result::ok).and_then(label_table) {
                    Some(segments) => scan.segments = segments,
                    None if candidate.passes("V5") => {}
                    None => {
                        (candidate.file, candidate.bytes) = (Some(Blobs::hash(&bytes)), bytes);
                        let words = "the label table beside it is none that is known; accept it to read the mask by its numbers";
                        return Ok(Finding::Hold("V5", words.into()));
                    }
                }
            }
            (candidate.file, candidate.scan) = (Some(Blobs::hash(&bytes)), Some(scan));
            candidate.bytes = bytes;
            Ok(note.map_or(Finding::Pass, |note| Finding::Warn("C2", note)))
        }
        Err(error @ (VolumeError::Incomplete { .. } | VolumeError::HalfMissing { .. }))
            if !candidate.is_decided() && waited_s < wait_s =>
        {
            Ok(Finding::Wait("S1", format!("not complete yet: {error}")))
        }
        Err(error @ (VolumeError::Incomplete { .. } | VolumeError::HalfMissing { .. })) => {
            Ok(Finding::Reject("S1", format!("incomplete: {error}")))
        }
        Err(error @ (VolumeError::Slow { .. } | VolumeError::Deadly { .. })) if !candidate.is_decided() => {
            Ok(Finding::Hold(
                error.code(),
                format!("{error}, then accept it: it is tried again, with ten times as long"),
            ))
        }
        Err(error @ VolumeError::NoReader { .. }) => Ok(Finding::Wait("S3", error.to_string())),
        Err(error @ VolumeError::Read { .. }) if candidate.is_decided() || waited_s < wait_s => {
            Ok(Finding::Wait("S3", error.to_string()))
        }
        Err(error @ VolumeError::Read { .. }) => Ok(Finding::Hold(
            "S3",
            format!("{error}; `chmod u+r` it, then accept it"),
        )),
        Err(error) => Ok(Finding::Reject(error.code(), error.to_string())),
    }
}

/// What goes where a dropped file goes: the other half of a pair, and the table that names its values.
pub fn along(path: &Path) -> Vec<PathBuf> {
    other_half(path).into_iter().chain(table_of(path)).collect()
}

/// H2: a form of the header that could not be believed, where another could.
pub(super) fn h2_notes(candidate: &mut Candidate, _: &Project) -> Result<Finding, EngineError> {
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
pub(super) fn g_grid(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let image = project.case(candidate.case())?.grid;
    let (decided, turns) = (candidate.is_decided(), candidate.mends.contains(&Fix::Turn));
    let as_it_is = candidate.passes("G4");
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
    // The other way to read one that says nothing: its axes run as those of the world, as its header has it.
    let turned = lost.then(|| Placement::by_axes(&mask, &image)).flatten();
    if let (true, Some(placement)) = (turns, turned) {
        let voxels = placement
            .put(&scan.volume.voxels, &mask, &image)
            .expect("one that goes by the axes alone fills the image");
        scan.volume = Volume { grid: image, voxels };
        return Ok(Finding::Warn(
            "G4",
            "its axes were taken to run left to right, back to front, bottom to top".into(),
        ));
    }
    let turned = turned.filter(|placement| !placement.is_plain());
    let Some(apart) = apart else {
        if turned.is_some() && !as_it_is {
            candidate.fix = Some(Fix::Turn);
            let words = "header lost: the file does not say where its voxels lie, and they fit the image only when turned";
            return Ok(Finding::Hold("G4", words.into()));
        }
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
        if decided {
            scan.volume.grid = image;
        }
        candidate.fix = turned.map(|_| Fix::Turn);
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
pub(super) fn v_values(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let grid = project.case(candidate.case())?.grid;
    let scan = candidate
        .scan
        .take()
        .expect("the file was read before this check");
    match classes(&scan, &project.snapshot.settings.labels) {
        Ok((map, note)) => {
            let whole = LabelMap { grid, ..map };
            candidate.mask = Some(candidate.mends.iter().fold(whole, mend));
            Ok(note.map_or(Finding::Pass, |(code, note)| Finding::Warn(code, note)))
        }
        // Of several labels a decision does not say which.
        Err(problem)
            if problem.may_hold
                && (project.snapshot.settings.labels.0.len() == 1 || !candidate.is_decided()) =>
        {
            candidate.mask = Some(LabelMap {
                grid,
                ..binary_classes(&scan)
            });
            Ok(Finding::Hold(problem.code, problem.words))
        }
        Err(problem) => Ok(Finding::Reject(problem.code, problem.words)),
    }
}

/// A mask with what a person said was wrong about it undone.
fn mend(mut mask: LabelMap, fix: &Fix) -> LabelMap {
    match fix {
        Fix::Mirror { axis } => mask.flipped(*axis),
        Fix::Exchange { classes: [a, b] } => {
            for class in &mut mask.voxels {
                *class = match *class {
                    k if k == *a => *b,
                    k if k == *b => *a,
                    k => k,
                };
            }
            mask
        }
        // Where it lies, and whose it is, was seen to before.
        Fix::Turn | Fix::Case(_) => mask,
    }
}
