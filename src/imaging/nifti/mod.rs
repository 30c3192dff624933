//! NIfTI files in and out; NIfTI-2 is read as the NIfTI-1 that says the same.
//!
//! Every file is taken for hostile until it has been checked, in this order: the bytes are unpacked under a cap
//! and their checksums compared (`gzip`), the 348 bytes of the header are held against each other (`header`), the
//! affine is made from whichever form is sound (`affine`), and only then does the `nifti` crate turn bytes into
//! numbers. These steps are ours because the crate (0.18) skips them: it never compares a gzip checksum and
//! refuses a second member, reads voxels from byte 352 whatever vox_offset says, panics on qfac 0 and where
//! bitpix and datatype disagree, and scales by a NaN slope.

mod affine;
mod file;
mod header;
mod write;

#[cfg(test)]
mod tests;

use std::{borrow::Cow, path::PathBuf};

use serde::{Deserialize, Serialize};

use nifti::{DataElement, InMemNiftiVolume, NiftiHeader, NiftiType};

use super::{Grid, Volume, gzip, nrrd};

pub use file::{MAX_VOLUME_BYTES, RawVolume, read_scan, volume_stem};
pub use write::{encode_bytes, encode_labels, encode_shorts, encode_volume, split_pair};

/// An image file as read, and what there was to say about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// The voxels, with slope and intercept applied.
    pub volume: Volume,
    /// Whether the values are whole numbers by type: an integer datatype that slope and intercept leave as stored.
    pub is_integer: bool,
    /// Where the affine comes from.
    pub affine_source: AffineSource,
    /// What a careful reader would mention: one form unsound so that the other was used, a name that does not
    /// say what the file is.
    pub notes: Vec<String>,
    /// What the file calls its values, where it does.
    pub segments: Vec<Segment>,
    /// Where the file's first voxel lies in the image that it holds a part of, along the file's axes, where it says that.
    pub crop: Option<[i64; 3]>,
}

/// A value of a mask, and the name that the file gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The value.
    pub value: i64,
    /// The name.
    pub name: String,
}

/// The ending of the name that a file with these bytes has to have.
pub fn container(bytes: &[u8]) -> &'static str {
    if gzip::is_gzip(bytes) {
        "nii.gz"
    } else if nrrd::is_nrrd(bytes) {
        "nrrd"
    } else {
        "nii"
    }
}

/// The part of a header that placed the volume in space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AffineSource {
    /// The affine itself.
    Sform,
    /// Quaternion, offset and voxel size.
    Qform,
    /// Voxel size only: neither form was set, so the header was lost on the way.
    Pixdim,
}

/// Why a file is no volume. Messages leave out the file's name where only bytes were given.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub enum VolumeError {
    /// A folder, a pipe or a device.
    #[error("{path} is not a regular file; give the file itself")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// One half of a `.hdr`/`.img` pair has no other.
    #[error("{path} is half of a pair and {missing} is not beside it; copy both")]
    HalfMissing {
        /// The half that is there.
        path: PathBuf,
        /// The name of the half that is not.
        missing: PathBuf,
    },
    /// Fewer bytes than the file says it has.
    #[error("{what} stops after {got} bytes{}; copy the file again", wanted.map_or(String::new(), |n| format!(", {n} were announced")))]
    Incomplete {
        /// What stops early.
        what: Cow<'static, str>,
        /// Bytes there are.
        got: u64,
        /// Bytes there should be, where that is known.
        wanted: Option<u64>,
    },
    /// A gzip stream that does not decode, or whose checksum is wrong.
    #[error("damaged gzip stream ({problem} after {decoded} decoded bytes); save or copy the file again")]
    Damaged {
        /// The decoder's words.
        problem: String,
        /// How far decoding got.
        decoded: u64,
    },
    /// More bytes than this file may hold.
    #[error(
        "holds more than {max_bytes} bytes once unpacked; check that it is one volume on the image's grid"
    )]
    TooLarge {
        /// The cap.
        max_bytes: u64,
    },
    /// A header field that makes no sense.
    #[error("header field {field} is {value}, which has to be {remedy}")]
    BadHeader {
        /// The field's name in nifti1.h.
        field: Cow<'static, str>,
        /// Its value.
        value: String,
        /// What it has to be.
        remedy: Cow<'static, str>,
    },
    /// Reading it takes too long.
    #[error("reading it took over {limit_s:.0} s and was ended; check that it is one volume")]
    Slow {
        /// The limit.
        limit_s: f64,
    },
    /// There is nothing that could read it now.
    #[error("nothing could be started to read it ({why}); it is tried again")]
    NoReader {
        /// Why.
        why: String,
    },
    /// Whatever read it came to grief.
    #[error("what read it did not survive ({how}); check that it is a volume, and save it again")]
    Deadly {
        /// How that ended.
        how: String,
    },
    /// No form of the header places the volume in space.
    #[error("no sound affine: {why}; export the volume again with its orientation")]
    BadAffine {
        /// What is wrong with each form that is set.
        why: String,
    },
    /// The system would not let the file be read.
    // Last: what counts variants for a reader's process counts on without it.
    #[serde(skip)]
    #[error("reading {path}: {source}; check that it exists and may be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl VolumeError {
    /// The row of the hand-in rules that refuses such a file.
    pub fn code(&self) -> &'static str {
        match self {
            VolumeError::HalfMissing { .. } => "S1",
            VolumeError::NotAFile { .. } => "S2",
            VolumeError::Read { .. } | VolumeError::NoReader { .. } => "S3",
            VolumeError::Incomplete { .. } | VolumeError::Damaged { .. } => "C1",
            VolumeError::TooLarge { .. } | VolumeError::Slow { .. } | VolumeError::Deadly { .. } => "C3",
            VolumeError::BadHeader { .. } => "H1",
            VolumeError::BadAffine { .. } => "H2",
        }
    }
}

/// Reads a volume from the bytes of one `.nii`, `.nii.gz` or `.nrrd` file; the magic number tells which.
///
/// * `max_bytes`: the most the file may hold once unpacked
///
/// # Errors
/// Any [`VolumeError`] but those about paths; none of them names a file.
pub fn decode_scan(bytes: &[u8], max_bytes: u64) -> Result<Scan, VolumeError> {
    if nrrd::is_nrrd(bytes) {
        return nrrd::decode(bytes, max_bytes);
    }
    let content = unpacked(bytes, max_bytes)?;
    let header = header::parse(&content, header::Layout::Single)?;
    let placed = affine::choose(&header)?;
    let grid = Grid {
        shape: header::shape(&header),
        affine: placed.affine,
    };

    let first = header.vox_offset as usize;
    let wanted = header::voxel_bytes(&header)
        .and_then(|voxels| voxels.checked_add(first as u64))
        .filter(|&end| end <= max_bytes)
        .ok_or(VolumeError::TooLarge { max_bytes })?;
    let Some(voxels) = content.get(first..wanted as usize) else {
        return Err(VolumeError::Incomplete {
            what: "the voxel data".into(),
            got: content.len() as u64,
            wanted: Some(wanted),
        });
    };

    let scale = Scale::of(&header);
    let datatype = header::datatype(&header)?;
    Ok(Scan {
        volume: Volume {
            grid,
            voxels: intensities(&header, datatype, voxels.to_vec(), scale),
        },
        is_integer: scale == Scale::NONE && !matches!(datatype, NiftiType::Float32 | NiftiType::Float64),
        affine_source: placed.source,
        notes: placed.note.into_iter().collect(),
        segments: Vec::new(),
        crop: None,
    })
}

/// The content of a file, unpacked where the magic number says gzip.
fn unpacked(bytes: &[u8], max_bytes: u64) -> Result<Cow<'_, [u8]>, VolumeError> {
    if gzip::is_gzip(bytes) {
        gzip::gunzip(bytes, max_bytes).map(Cow::Owned)
    } else if bytes.len() as u64 > max_bytes {
        Err(VolumeError::TooLarge { max_bytes })
    } else {
        Ok(Cow::Borrowed(bytes))
    }
}

/// From stored value to intensity: `value * slope + inter`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    slope: f64,
    inter: f64,
}

impl Scale {
    const NONE: Scale = Scale {
        slope: 1.0,
        inter: 0.0,
    };

    /// The header's scaling. The format says that slope 0 means none; a slope that is not finite can only mean
    /// the same.
    fn of(header: &NiftiHeader) -> Scale {
        let (slope, inter) = (f64::from(header.scl_slope), f64::from(header.scl_inter));
        if slope == 0.0 || !slope.is_finite() {
            return Scale::NONE;
        }
        Scale {
            slope,
            inter: if inter.is_finite() { inter } else { 0.0 },
        }
    }
}

/// The voxels as numbers. The header's own slope is left to us: the crate multiplies in f32 and believes a NaN.
fn intensities(header: &NiftiHeader, datatype: NiftiType, raw: Vec<u8>, scale: Scale) -> Vec<f32> {
    let stored = InMemNiftiVolume::from_raw_data(header, raw)
        .expect("the checked header says exactly how many bytes there are");
    fn numbers<T: DataElement>(stored: InMemNiftiVolume, to_f32: impl Fn(T) -> f32) -> Vec<f32> {
        let values: Vec<T> = stored
            .into_nifti_typed_data()
            .expect("asked for as the type that the header names");
        values.into_iter().map(to_f32).collect()
    }
    macro_rules! scaled {
        ($stored:ty) => {
            if scale == Scale::NONE {
                numbers(stored, |value: $stored| value as f32)
            } else {
                numbers(stored, |value: $stored| {
                    (value as f64 * scale.slope + scale.inter) as f32
                })
            }
        };
    }
    match datatype {
        NiftiType::Uint8 => scaled!(u8),
        NiftiType::Int8 => scaled!(i8),
        NiftiType::Uint16 => scaled!(u16),
        NiftiType::Int16 => scaled!(i16),
        NiftiType::Uint32 => scaled!(u32),
        NiftiType::Int32 => scaled!(i32),
        NiftiType::Uint64 => scaled!(u64),
        NiftiType::Int64 => scaled!(i64),
        NiftiType::Float32 => scaled!(f32),
        NiftiType::Float64 => scaled!(f64),
        other => unreachable!("the header check admits no {other:?}"),
    }
}
