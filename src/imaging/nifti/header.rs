//! The 348 bytes of a NIfTI-1 header, held against each other before anything relies on them.

use std::borrow::Cow;

use nifti::{NiftiHeader, NiftiType};

use super::VolumeError;

/// Bytes of a header.
pub(super) const SIZE: usize = 348;
/// Bytes of a NIfTI-2 header.
const SIZE_2: usize = 540;

/// How header and voxels are laid out in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One `.nii`: the voxels follow the header.
    Single,
    /// `.hdr` and `.img`: the voxels have a file of their own.
    Pair,
}

impl Layout {
    fn magic(self) -> &'static [u8; 4] {
        match self {
            Layout::Single => b"n+1\0",
            Layout::Pair => b"ni1\0",
        }
    }

    /// The first byte of its file that voxels may start at.
    fn first_voxel(self) -> f32 {
        match self {
            Layout::Single => SIZE as f32,
            Layout::Pair => 0.0,
        }
    }
}

/// Parses and checks the header that `bytes` open with.
///
/// The crate tells the byte order from dim[0] alone; here sizeof_hdr and dim[0] have to agree on one first.
pub(super) fn parse(bytes: &[u8], layout: Layout) -> Result<NiftiHeader, VolumeError> {
    let raw = first(bytes)?;
    let raw: &[u8; SIZE] = &raw;
    let sizeof_hdr = [raw[0], raw[1], raw[2], raw[3]];
    let rank = [raw[40], raw[41]];
    let rank = match (i32::from_le_bytes(sizeof_hdr), i32::from_be_bytes(sizeof_hdr)) {
        (348, _) => i16::from_le_bytes(rank),
        (_, 348) => i16::from_be_bytes(rank),
        (other, _) => {
            return bad(
                "sizeof_hdr",
                other,
                "348 or 540 in either byte order, as in every NIfTI file",
            );
        }
    };
    if &raw[344..] != layout.magic() {
        let remedy = match layout {
            Layout::Single => "n+1: the file is no NIfTI-1, or half of a pair that has to be given by name",
            Layout::Pair => "ni1: the file is no NIfTI-1 header, or a whole .nii that has to be named so",
        };
        return bad("magic", raw[344..].escape_ascii(), remedy);
    }
    if !(3..=7).contains(&rank) {
        return bad("dim[0]", rank, "3, or 4 to 7 with only one volume in the file");
    }
    let header = NiftiHeader::from_reader(&raw[..]).expect("348 bytes with a magic number it knows");
    check(&header, layout)?;
    Ok(header)
}

/// The header that `bytes` open with; one of NIfTI-2 as the NIfTI-1 header that says the same, in its byte order.
pub(super) fn first(bytes: &[u8]) -> Result<Cow<'_, [u8; SIZE]>, VolumeError> {
    let short = |wanted: usize| VolumeError::Incomplete {
        what: "the header".into(),
        got: bytes.len() as u64,
        wanted: Some(wanted as u64),
    };
    let size = bytes.first_chunk().ok_or_else(|| short(SIZE))?;
    if i32::from_le_bytes(*size) != SIZE_2 as i32 && i32::from_be_bytes(*size) != SIZE_2 as i32 {
        let raw = bytes.first_chunk().ok_or_else(|| short(SIZE))?;
        return Ok(Cow::Borrowed(raw));
    }
    let raw = bytes.first_chunk().ok_or_else(|| short(SIZE_2))?;
    narrow(raw, i32::from_le_bytes(*size) == SIZE_2 as i32).map(Cow::Owned)
}

/// A NIfTI-2 header as NIfTI-1: the same fields, narrower. What does not fit is refused.
///
/// Source: nifti2.h of the NIfTI reference library.
fn narrow(raw: &[u8; SIZE_2], is_little: bool) -> Result<[u8; SIZE], VolumeError> {
    let chunk = |at: usize| -> [u8; 8] { raw[at..at + 8].try_into().expect("eight bytes") };
    let long = |at: usize| match is_little {
        true => i64::from_le_bytes(chunk(at)),
        false => i64::from_be_bytes(chunk(at)),
    };
    let double = |at: usize| f64::from_bits(long(at) as u64);
    let int = |at: usize| {
        let bytes = raw[at..at + 4].try_into().expect("four bytes");
        match is_little {
            true => i32::from_le_bytes(bytes),
            false => i32::from_be_bytes(bytes),
        }
    };
    let mut out = [0; SIZE];
    let put_short = |out: &mut [u8; SIZE], at: usize, value: i16| {
        let bytes = if is_little {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        };
        out[at..at + 2].copy_from_slice(&bytes);
    };
    let put_float = |out: &mut [u8; SIZE], at: usize, value: f64| {
        let value = value as f32;
        let bytes = if is_little {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        };
        out[at..at + 4].copy_from_slice(&bytes);
    };
    let size = SIZE as i32;
    out[..4].copy_from_slice(&if is_little {
        size.to_le_bytes()
    } else {
        size.to_be_bytes()
    });
    for axis in 0..8 {
        let Ok(n) = i16::try_from(long(16 + 8 * axis)) else {
            return bad("dim", long(16 + 8 * axis), "at most 32767 along each axis");
        };
        put_short(&mut out, 40 + 2 * axis, n);
        put_float(&mut out, 76 + 4 * axis, double(104 + 8 * axis));
    }
    // datatype and bitpix are as wide as before.
    out[70..72].copy_from_slice(&raw[12..14]);
    out[72..74].copy_from_slice(&raw[14..16]);
    let magic = match &raw[4..12] {
        b"n+2\0\r\n\x1a\n" => b"n+1\0",
        b"ni2\0\r\n\x1a\n" => b"ni1\0",
        other => return bad("magic", other.escape_ascii(), "that of NIfTI-2"),
    };
    out[344..].copy_from_slice(magic);
    let offset = long(168);
    if magic == b"n+1\0" && offset < SIZE_2 as i64 {
        return bad(
            "vox_offset",
            offset,
            "at least 540 (544 where no extension follows)",
        );
    }
    put_float(&mut out, 108, offset as f64);
    for (at, from) in [(112, 176), (116, 184)] {
        put_float(&mut out, at, double(from));
    }
    for (at, from) in [(252, 344), (254, 348)] {
        put_short(&mut out, at, int(from).clamp(0, 255) as i16);
    }
    // The quaternion, its offset, and the three rows.
    for (field, from) in (352..496).step_by(8).enumerate() {
        put_float(&mut out, 256 + 4 * field, double(from));
    }
    Ok(out)
}

/// Whether the fields of a header whose rank is known to lie in 3 to 7 agree with each other.
fn check(header: &NiftiHeader, layout: Layout) -> Result<(), VolumeError> {
    const DIMS: [&str; 7] = [
        "dim[1]", "dim[2]", "dim[3]", "dim[4]", "dim[5]", "dim[6]", "dim[7]",
    ];
    let rank = usize::from(header.dim[0]);
    for ((axis, field), &size) in (1..=rank).zip(DIMS).zip(&header.dim[1..]) {
        // The crate reads dims as unsigned, the format has them signed.
        let voxels = size as i16;
        if voxels < 1 {
            return bad(field, voxels, "at least 1");
        }
        if axis > 3 && voxels != 1 {
            return bad(field, voxels, "1: split the series and give one volume");
        }
    }

    let bits = datatype(header)?.size_of() as i16 * 8;
    if header.bitpix != bits {
        let of_datatype = format!(
            "{} where datatype {} has {bits} bits",
            header.bitpix, header.datatype
        );
        return bad("bitpix", of_datatype, "the size of the datatype");
    }

    let offset = header.vox_offset;
    // f32 holds every whole number up to 2^24 exactly; a header with extensions is far below.
    if !(offset >= layout.first_voxel() && offset <= (1 << 24) as f32 && offset.fract() == 0.0) {
        let remedy = match layout {
            Layout::Single => "a whole number from 348 to 16777216 (352 where no extension follows)",
            Layout::Pair => "a whole number from 0 to 16777216 (0 in most pairs)",
        };
        return bad("vox_offset", offset, remedy);
    }
    Ok(())
}

/// The datatype, if it is one number a voxel.
pub(super) fn datatype(header: &NiftiHeader) -> Result<NiftiType, VolumeError> {
    use NiftiType::*;
    match header.data_type() {
        Ok(
            scalar @ (Uint8 | Int8 | Uint16 | Int16 | Uint32 | Int32 | Uint64 | Int64 | Float32 | Float64),
        ) => Ok(scalar),
        _ => bad(
            "datatype",
            header.datatype,
            "an integer of 8 to 64 bits or a float of 32 or 64: not colour, complex or packed bits",
        ),
    }
}

/// Voxels along i, j, k of a checked header.
pub(super) fn shape(header: &NiftiHeader) -> [usize; 3] {
    [1, 2, 3].map(|axis| usize::from(header.dim[axis]))
}

/// Bytes of voxel data that a checked header announces; `None` past 64 bits.
pub(super) fn voxel_bytes(header: &NiftiHeader) -> Option<u64> {
    let voxels = shape(header)
        .into_iter()
        .try_fold(1u64, |product, n| product.checked_mul(n as u64))?;
    voxels.checked_mul(header.bitpix as u64 / 8)
}

fn bad<T>(field: &'static str, value: impl ToString, remedy: &'static str) -> Result<T, VolumeError> {
    Err(VolumeError::BadHeader {
        field: field.into(),
        value: value.to_string(),
        remedy: remedy.into(),
    })
}
