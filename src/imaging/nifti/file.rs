//! From a path to bytes: single files and `.hdr`/`.img` pairs.

use std::{
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    Scan, VolumeError, decode_scan,
    header::{self, Layout},
    unpacked,
};
use crate::imaging::{gzip, nrrd};

/// The most bytes a stored volume may hold once unpacked.
pub const MAX_VOLUME_BYTES: u64 = 4 << 30;

/// A file name without the ending that says NIfTI or NRRD, in any letter case; `None` when it has no such ending.
pub fn volume_stem(name: &str) -> Option<&str> {
    let ends = |ending: &&str| {
        let at = name.len().checked_sub(ending.len());
        at.and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(ending))
    };
    let ending = [
        ".nii.gz",
        ".nii",
        ".hdr",
        ".hdr.gz",
        ".img",
        ".img.gz",
        ".seg.nrrd",
        ".nrrd",
    ]
    .into_iter()
    .find(ends)?;
    Some(&name[..name.len() - ending.len()])
}

/// Reads the volume in a `.nii`, a `.nii.gz`, a `.nrrd`, or a `.hdr`/`.img` pair of which either half is named.
///
/// The magic number says what is packed; a name that says otherwise gets a note.
///
/// * `max_bytes`: the most the file may hold, packed or not
///
/// # Errors
/// Any [`VolumeError`].
pub fn read_scan(path: &Path, max_bytes: u64) -> Result<Scan, VolumeError> {
    let mut raw = RawVolume::read(path, max_bytes)?;
    let notes = std::mem::take(&mut raw.notes);
    let (_, mut scan) = raw.decode(max_bytes)?;
    scan.notes.splice(0..0, notes);
    Ok(scan)
}

/// The bytes of a volume's files, which nothing has looked into yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawVolume {
    /// Those of the one file, or of the `.hdr` and the `.img`.
    pub parts: Vec<Vec<u8>>,
    /// Where a name and the magic number disagree on what is packed.
    pub notes: Vec<String>,
}

impl RawVolume {
    /// Reads the files that [`read_scan`] would.
    ///
    /// * `max_bytes`: the most each may hold
    ///
    /// # Errors
    /// A [`VolumeError`] that concerns files.
    pub fn read(path: &Path, max_bytes: u64) -> Result<RawVolume, VolumeError> {
        let paths = match pair_stem(path) {
            None => vec![path.to_path_buf()],
            Some(stem) => vec![find_half(path, &stem, "hdr")?, find_half(path, &stem, "img")?],
        };
        let parts = paths.iter().map(|path| read(path, max_bytes));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let notes = paths.iter().zip(&parts);
        let notes = notes.filter_map(|(path, bytes)| name_note(path, bytes)).collect();
        Ok(RawVolume { parts, notes })
    }

    /// Bytes that the parts may have once unpacked: what is packed may grow, to no more than `max_bytes` each.
    pub fn most_unpacked(&self, max_bytes: u64) -> u64 {
        let unpacked = self.parts.iter().map(|part| {
            // The data of a NRRD may be packed behind its header.
            let growth = match gzip::is_gzip(part) || nrrd::is_nrrd(part) {
                true => gzip::MOST_GROWTH,
                false => 1,
            };
            max_bytes.min((part.len() as u64).saturating_mul(growth))
        });
        unpacked.fold(0, u64::saturating_add)
    }

    /// The bytes to keep of the volume (the file as it is, or one `.nii` made of both halves of a pair), and what they hold.
    ///
    /// * `max_bytes`: the most each part may hold once unpacked
    ///
    /// # Errors
    /// Those of [`decode_scan`].
    pub fn decode(mut self, max_bytes: u64) -> Result<(Vec<u8>, Scan), VolumeError> {
        let bytes = match &self.parts[..] {
            [hdr, img] => join(&unpacked(hdr, max_bytes)?, &unpacked(img, max_bytes)?)?,
            _ => self.parts.swap_remove(0),
        };
        let scan = decode_scan(&bytes, max_bytes)?;
        Ok((bytes, scan))
    }
}

/// One `.nii` from the unpacked halves of a pair; extensions of the header are left out.
fn join(hdr: &[u8], img: &[u8]) -> Result<Vec<u8>, VolumeError> {
    const FIRST_VOXEL: f32 = 352.0;
    let header = header::parse(hdr, Layout::Pair)?;
    let voxels = img
        .get(header.vox_offset as usize..)
        .ok_or(VolumeError::Incomplete {
            what: "the .img".into(),
            got: img.len() as u64,
            wanted: Some(header.vox_offset as u64),
        })?;
    let mut joined = Vec::with_capacity(FIRST_VOXEL as usize + voxels.len());
    let first = header::first(hdr)?;
    joined.extend_from_slice(&first[..]);
    let little_endian = i32::from_le_bytes([first[0], first[1], first[2], first[3]]) == header::SIZE as i32;
    joined[108..112].copy_from_slice(&if little_endian {
        FIRST_VOXEL.to_le_bytes()
    } else {
        FIRST_VOXEL.to_be_bytes()
    });
    joined[344..348].copy_from_slice(b"n+1\0");
    joined.extend_from_slice(&[0; 4]);
    joined.extend_from_slice(voxels);
    Ok(joined)
}

/// The name of a pair's files up to the extension; `None` for a file that is no half of a pair.
fn pair_stem(path: &Path) -> Option<PathBuf> {
    let inner = if has_extension(path, "gz") {
        path.with_extension("")
    } else {
        path.to_path_buf()
    };
    (has_extension(&inner, "hdr") || has_extension(&inner, "img")).then(|| inner.with_extension(""))
}

/// The half of a pair with `extension`: the named file itself or one that lies beside it.
fn find_half(named: &Path, stem: &Path, extension: &str) -> Result<PathBuf, VolumeError> {
    let spelled = |ending: &str| {
        let mut name = OsString::from(stem);
        name.push(ending);
        PathBuf::from(name)
    };
    let plain = format!(".{extension}");
    let endings = [plain.clone(), format!("{plain}.gz")];
    let spellings = endings
        .iter()
        .flat_map(|ending| [ending.clone(), ending.to_uppercase()]);
    let candidates: Vec<PathBuf> = spellings.map(|ending| spelled(&ending)).collect();
    let found = candidates.iter().find(|half| *half == named);
    found
        .or_else(|| candidates.iter().find(|half| half.exists()))
        .cloned()
        .ok_or_else(|| VolumeError::HalfMissing {
            path: named.to_path_buf(),
            missing: spelled(&plain),
        })
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// What to say of a file whose name and content disagree on gzip.
fn name_note(path: &Path, bytes: &[u8]) -> Option<String> {
    match (gzip::is_gzip(bytes), has_extension(path, "gz")) {
        (true, false) => Some("the content is gzip though the name does not end in .gz".to_string()),
        (false, true) => Some("the content is not gzip though the name ends in .gz".to_string()),
        _ => None,
    }
}

/// The bytes of a regular file of at most `max_bytes`.
fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, VolumeError> {
    let failed = |source| VolumeError::Read {
        path: path.to_path_buf(),
        source,
    };
    // Asked before opening, because opening a pipe blocks.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(VolumeError::NotAFile {
            path: path.to_path_buf(),
        });
    }
    if metadata.len() > max_bytes {
        return Err(VolumeError::TooLarge { max_bytes });
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    let file = std::fs::File::open(path).map_err(failed)?;
    // The file may have grown since.
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}
