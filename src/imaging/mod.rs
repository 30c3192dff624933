//! Voxels and millimetres: what a medical volume is before anybody has an opinion about it.
//!
//! The room holds [`Affine`] and [`Grid`] (where a voxel lies in the patient), [`Volume`] and [`LabelMap`]
//! (what it holds), [`Plane`] (how a volume is cut into slices), NIfTI-1 in and out, and the phantoms that
//! stand in for patients. Two images match when their grids do; nothing here knows of cases, models or
//! projects. Imports nothing of overtrace.

mod geometry;
mod gzip;
mod nifti;
mod phantom;
mod plane;
mod rng;
mod volume;

pub use self::nifti::{
    AffineSource, MAX_VOLUME_BYTES, NiftiError, Scan, decode_scan, encode_bytes, encode_labels,
    encode_shorts, encode_volume, nifti_stem, read_scan, single_file, split_pair,
};
pub use geometry::{Affine, Grid};
pub use gzip::gunzip;
pub use phantom::{DATASET_SEED, Phantom, phantom};
pub use plane::{Plane, Slice};
pub use rng::Rng;
pub use volume::{LabelMap, Volume};
