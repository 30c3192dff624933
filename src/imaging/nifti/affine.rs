//! From a header to the affine, and back.
//!
//! A header can place a volume twice: by the affine itself (sform) and by a rotation, an offset and the voxel
//! size (qform). The sform is preferred, as everywhere in the field; a form that is set but unsound is passed over
//! for the other with a note. With neither set only the voxel size is known, and the caller is told so.
//!
//! Source of the quaternion's formulas: nifti1.h and nifti1_io.c of the NIfTI reference library.

use nifti::NiftiHeader;

use super::{AffineSource, VolumeError};
use crate::imaging::Affine;

/// How far a quaternion's square norm may pass 1 before it is no rounding: each part has f32's 24 bits.
const NORM_SLACK: f64 = 1e-5;

/// The affine of a header, which form it comes from, and what to say about the other.
pub(super) struct Placed {
    pub(super) affine: Affine,
    pub(super) source: AffineSource,
    pub(super) note: Option<String>,
}

/// The soundest affine that a header offers.
pub(super) fn choose(header: &NiftiHeader) -> Result<Placed, VolumeError> {
    let sform = (header.sform_code > 0).then(|| sform(header));
    let qform = (header.qform_code > 0).then(|| qform(header));
    let placed = |affine, source, note| Ok(Placed { affine, source, note });
    match (sform, qform) {
        (Some(Ok(affine)), Some(Err(why))) => placed(
            affine,
            AffineSource::Sform,
            Some(format!("{why}; the sform was used")),
        ),
        (Some(Ok(affine)), _) => placed(affine, AffineSource::Sform, None),
        (Some(Err(why)), Some(Ok(affine))) => placed(
            affine,
            AffineSource::Qform,
            Some(format!("{why}; the qform was used")),
        ),
        (None, Some(Ok(affine))) => placed(affine, AffineSource::Qform, None),
        (None, None) => match sound(Affine::from_spacing(spacing(header)), "voxel size") {
            Ok(affine) => placed(affine, AffineSource::Pixdim, None),
            Err(why) => Err(VolumeError::BadAffine { why }),
        },
        (Some(Err(why)), None) | (None, Some(Err(why))) => Err(VolumeError::BadAffine { why }),
        (Some(Err(sform)), Some(Err(qform))) => Err(VolumeError::BadAffine {
            why: format!("{sform}, {qform}"),
        }),
    }
}

/// Voxel size in mm; the format calls a negative one wrong but every reader takes its size.
fn spacing(header: &NiftiHeader) -> [f64; 3] {
    [1, 2, 3].map(|axis| f64::from(header.pixdim[axis]).abs())
}

fn sform(header: &NiftiHeader) -> Result<Affine, String> {
    let rows = [header.srow_x, header.srow_y, header.srow_z].map(|row| row.map(f64::from));
    sound(Affine(rows), "sform")
}

fn qform(header: &NiftiHeader) -> Result<Affine, String> {
    let qfac = f64::from(header.pixdim[0]);
    if qfac.abs() != 1.0 {
        return Err(format!("the qform's pixdim[0] is {qfac}, neither 1 nor -1"));
    }
    let [b, c, d] = [header.quatern_b, header.quatern_c, header.quatern_d].map(f64::from);
    let rest = 1.0 - (b * b + c * c + d * d);
    if rest < -NORM_SLACK {
        return Err(format!("the qform's quaternion ({b}, {c}, {d}) is longer than 1"));
    }
    let rotation = rotation([rest.max(0.0).sqrt(), b, c, d]);
    let mut scale = spacing(header);
    scale[2] *= qfac;
    let offset = [header.quatern_x, header.quatern_y, header.quatern_z].map(f64::from);
    let rows = std::array::from_fn(|row| {
        let [x, y, z]: [f64; 3] = std::array::from_fn(|axis| rotation[row][axis] * scale[axis]);
        [x, y, z, offset[row]]
    });
    sound(Affine(rows), "qform")
}

fn sound(affine: Affine, form: &str) -> Result<Affine, String> {
    if affine.is_sound() {
        Ok(affine)
    } else if affine.0.iter().flatten().all(|number| number.is_finite()) {
        Err(format!("the {form}'s axes do not span space"))
    } else {
        Err(format!("the {form} holds a number that is not finite"))
    }
}

/// The rotation matrix of a unit quaternion.
pub(super) fn rotation([a, b, c, d]: [f64; 4]) -> [[f64; 3]; 3] {
    let (ab, ac, ad, bc, bd, cd) = (a * b, a * c, a * d, b * c, b * d, c * d);
    let [aa, bb, cc, dd] = [a * a, b * b, c * c, d * d];
    [
        [aa + bb - cc - dd, 2.0 * (bc - ad), 2.0 * (bd + ac)],
        [2.0 * (bc + ad), aa + cc - bb - dd, 2.0 * (cd - ab)],
        [2.0 * (bd - ac), 2.0 * (cd + ab), aa + dd - bb - cc],
    ]
}

/// qfac and the quaternion's b, c, d of an affine that is a rotation (perhaps mirrored) times the voxel size.
pub(super) struct Quaternion {
    pub(super) qfac: f64,
    pub(super) bcd: [f64; 3],
}

impl Quaternion {
    /// `None` where the affine shears by more than 1e-5: no qform can say that.
    pub(super) fn of(affine: &Affine) -> Option<Quaternion> {
        let spacing = affine.spacing_mm();
        let qfac = affine.determinant().signum();
        let mut unit: [[f64; 3]; 3] =
            std::array::from_fn(|row| std::array::from_fn(|axis| affine.0[row][axis] / spacing[axis]));
        for row in &mut unit {
            row[2] *= qfac;
        }
        let dot = |a: usize, b: usize| unit.iter().map(|row| row[a] * row[b]).sum::<f64>();
        if [dot(0, 1), dot(0, 2), dot(1, 2)]
            .into_iter()
            .any(|cosine| cosine.abs() > 1e-5)
        {
            return None;
        }
        Some(Quaternion {
            qfac,
            bcd: imaginary_parts(&unit),
        })
    }
}

/// b, c, d of the quaternion (with a >= 0) of a rotation, divided by the largest of its four parts.
fn imaginary_parts(m: &[[f64; 3]; 3]) -> [f64; 3] {
    let [x, y, z] = [m[0][0], m[1][1], m[2][2]];
    // Four times the square of a, b, c, d.
    let squares = [1.0 + x + y + z, 1.0 + x - y - z, 1.0 - x + y - z, 1.0 - x - y + z];
    let largest = (1..4).fold(
        0,
        |best, part| if squares[part] > squares[best] { part } else { best },
    );
    let twice = squares[largest].sqrt();
    let with_a = [m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]].map(|v| v / (2.0 * twice));
    let (bc, bd, cd) = (m[0][1] + m[1][0], m[0][2] + m[2][0], m[1][2] + m[2][1]);
    let [bc, bd, cd] = [bc, bd, cd].map(|v| v / (2.0 * twice));
    let (a, bcd) = match largest {
        0 => (twice / 2.0, with_a),
        1 => (with_a[0], [twice / 2.0, bc, bd]),
        2 => (with_a[1], [bc, twice / 2.0, cd]),
        _ => (with_a[2], [bd, cd, twice / 2.0]),
    };
    if a < 0.0 { bcd.map(|v| -v) } else { bcd }
}
