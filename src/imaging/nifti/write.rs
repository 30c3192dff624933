//! Volumes to `.nii.gz`, and from there to `.nii` and `.hdr`/`.img`; the same bytes for the same voxels.

use super::affine::Quaternion;
use crate::imaging::{Grid, LabelMap, Volume, gzip};

/// The first byte of voxel data: header, then four zeros for "no extension".
const FIRST_VOXEL: usize = 352;

/// Bytes of a header.
const HEADER: usize = 348;

/// The two files `.hdr` and `.img` of an unpacked `.nii` that this room wrote.
///
/// Source: nifti1.h: magic `ni1`, and voxels from the first byte of the `.img` on.
pub fn split_pair(nii: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut header = nii[..HEADER].to_vec();
    header[108..112].copy_from_slice(&0f32.to_le_bytes());
    header[344..348].copy_from_slice(b"ni1\0");
    (header, nii[FIRST_VOXEL..].to_vec())
}

/// A stored type: its code in nifti1.h, and its size.
struct Datatype {
    code: i16,
    bits: i16,
}

const UINT8: Datatype = Datatype { code: 2, bits: 8 };
const INT16: Datatype = Datatype { code: 4, bits: 16 };
const FLOAT32: Datatype = Datatype { code: 16, bits: 32 };
const UINT16: Datatype = Datatype { code: 512, bits: 16 };

/// A label map as `.nii.gz`, one byte a voxel, or two where a value needs them.
///
/// * `value_of`: the value that stands for a class in the file; asked only for classes that occur
pub fn encode_labels(map: &LabelMap, value_of: impl Fn(u8) -> u16) -> Vec<u8> {
    let mut values = [0u16; 256];
    for (class, count) in map.class_voxels(256).into_iter().enumerate() {
        if count > 0 {
            values[class] = value_of(class as u8);
        }
    }
    let values = values.map(u16::to_le_bytes);
    if values.iter().all(|[_, high]| *high == 0) {
        encode(
            &map.grid,
            UINT8,
            map.voxels.iter().map(|&class| [values[class as usize][0]]),
        )
    } else {
        encode(
            &map.grid,
            UINT16,
            map.voxels.iter().map(|&class| values[class as usize]),
        )
    }
}

/// One byte a voxel as `.nii.gz`.
pub fn encode_bytes(grid: &Grid, voxels: &[u8]) -> Vec<u8> {
    encode(grid, UINT8, voxels.iter().map(|&voxel| [voxel]))
}

/// Signed 16-bit voxels, as scanners write them, as `.nii.gz`.
pub fn encode_shorts(grid: &Grid, voxels: &[i16]) -> Vec<u8> {
    encode(grid, INT16, voxels.iter().map(|voxel| voxel.to_le_bytes()))
}

/// An image as `.nii.gz`, as 32-bit floats.
pub fn encode_volume(volume: &Volume) -> Vec<u8> {
    encode(
        &volume.grid,
        FLOAT32,
        volume.voxels.iter().map(|voxel| voxel.to_le_bytes()),
    )
}

fn encode<const N: usize>(grid: &Grid, datatype: Datatype, voxels: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    let mut raw = Vec::with_capacity(grid.len() * N);
    voxels.for_each(|voxel| raw.extend_from_slice(&voxel));
    assert_eq!(raw.len(), grid.len() * N, "as many voxels as the grid has");
    gzip::gzip(&[&header(grid, datatype), &raw])
}

/// A little-endian header. Offsets are those of nifti1.h.
fn header(grid: &Grid, datatype: Datatype) -> [u8; FIRST_VOXEL] {
    let mut bytes = [0; FIRST_VOXEL];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);

    put(0, &348i32.to_le_bytes());
    let mut dim = [3i16, 1, 1, 1, 1, 1, 1, 1];
    for (size, &voxels) in dim[1..].iter_mut().zip(&grid.shape) {
        *size = i16::try_from(voxels).expect("NIfTI-1 has room for 32767 voxels along an axis");
    }
    for (axis, size) in dim.iter().enumerate() {
        put(40 + 2 * axis, &size.to_le_bytes());
    }
    put(70, &datatype.code.to_le_bytes());
    put(72, &datatype.bits.to_le_bytes());
    put(108, &(FIRST_VOXEL as f32).to_le_bytes());
    put(112, &1f32.to_le_bytes()); // scl_slope
    put(123, &[2]); // xyzt_units: mm

    let quaternion = Quaternion::of(&grid.affine);
    let qfac = quaternion.as_ref().map_or(1.0, |q| q.qfac);
    let [x, y, z] = grid.spacing_mm();
    for (axis, size) in [qfac, x, y, z].into_iter().enumerate() {
        put(76 + 4 * axis, &(size as f32).to_le_bytes());
    }
    if let Some(Quaternion { bcd, .. }) = quaternion {
        put(252, &1i16.to_le_bytes()); // qform_code: scanner
        let offset = grid.affine.0.map(|row| row[3]);
        for (part, number) in bcd.into_iter().chain(offset).enumerate() {
            put(256 + 4 * part, &(number as f32).to_le_bytes());
        }
    }
    put(254, &1i16.to_le_bytes()); // sform_code: scanner
    for (cell, number) in grid.affine.0.iter().flatten().enumerate() {
        put(280 + 4 * cell, &(*number as f32).to_le_bytes());
    }
    put(344, b"n+1\0");
    bytes
}
