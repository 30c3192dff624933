//! Voxels and millimetres: what a medical volume is before anybody has an opinion about it.
//!
//! The room holds [`Affine`] and [`Grid`] (where a voxel lies in the patient), [`Volume`] and [`LabelMap`]
//! (what it holds), [`Plane`] (how a volume is cut into slices), NIfTI and NRRD in and NIfTI-1 out, and the phantoms that
//! stand in for patients. Two images match when their grids do; nothing here knows of cases, models or
//! projects. Imports nothing of overtrace.

mod geometry;
mod gzip;
mod label_table;
mod nifti;
mod nrrd;
mod phantom;
mod plane;
mod rng;
mod volume;

pub use self::nifti::{
    AffineSource, MAX_VOLUME_BYTES, RawVolume, Scan, Segment, VolumeError, container, decode_scan,
    encode_bytes, encode_labels, encode_shorts, encode_volume, read_scan, split_pair, volume_stem,
};
pub use geometry::{Affine, Grid, Placement};
pub use gzip::gunzip;
pub use label_table::label_table;
pub use phantom::{DATASET_SEED, ORGANS, Phantom, abdomen, phantom};
pub use plane::{Plane, Slice};
pub use rng::Rng;
pub use volume::{LabelMap, Volume};
