//! The shape of one phantom's brain: which tissue lies at a point, and how near the next one is.
//!
//! Axes are right, anterior, superior in mm from the brain's centre. Shapes are signed distances (positive
//! inside), so that one number gives both the label and the partial volume beside a boundary.

use super::field::{Field, mix};
use crate::imaging::Rng;

/// What sets a minority of the brains apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Oddity {
    /// Ventricles of 1.8 times the width and wide sulci, as in atrophy.
    WideVentricles,
    /// A cortex of 3 mm, 6/10 of the others'.
    ThinCortex,
    /// Spots as dark as grey matter within the white, which stay labelled white.
    Lesions,
    /// One hemisphere pushed over, its ventricle wide and the other's narrow.
    Asymmetry,
}

impl Oddity {
    pub(super) const ALL: [Oddity; 4] = [
        Oddity::WideVentricles,
        Oddity::ThinCortex,
        Oddity::Lesions,
        Oddity::Asymmetry,
    ];
}

/// Half the size of an ordinary brain: about 2/3 of an adult's, so that a slice fits 64 pixels of 2 mm.
const SEMI_AXES_MM: [f64; 3] = [53.0, 59.0, 48.0];
/// Half the width of the cerebrospinal fluid in a sulcus.
const SULCUS_MM: f64 = 1.5;
/// White matter around a ventricle.
const VENTRICLE_RIM_MM: f64 = 4.0;
/// Distance over which two tissues share a voxel: half an in-plane voxel to either side.
const PARTIAL_VOLUME_MM: f64 = 1.0;

/// How far the warp would push a point where its field is 1; most push a third of that.
const WARP_MM: f64 = 8.0;

/// The random shape of one brain.
#[derive(Debug)]
pub(super) struct Anatomy {
    semi_axes_mm: [f64; 3],
    /// Displacement along each axis, in units of [`WARP_MM`].
    warp: [Field; 3],
    /// Sulci lie where these pass zero: the long deep ones and the short shallow ones.
    folds: [Field; 2],
    fold_depth_mm: f64,
    sulcus_mm: f64,
    cortex_mm: f64,
    cortex_varies: Field,
    /// Width of the left and the right ventricle, 1 in an ordinary brain.
    ventricle: [f64; 2],
    /// How far the middle is pushed aside.
    shift_mm: f64,
    nuclei: [Ellipsoid; 3],
    lesions: Vec<Ellipsoid>,
}

#[derive(Debug, Clone, Copy)]
struct Ellipsoid {
    centre_mm: [f64; 3],
    semi_axes_mm: [f64; 3],
}

/// What a point of the brain is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tissue {
    /// The class of the truth.
    pub(super) label: u8,
    /// Shares of fluid, grey matter, white matter and deep grey matter; they sum to 1.
    pub(super) shares: [f64; 4],
}

impl Anatomy {
    pub(super) fn draw(rng: &Rng, oddity: Option<Oddity>, reach_mm: f64) -> Anatomy {
        let mut sizes = rng.fork("sizes");
        let mut fields = rng.fork("fields");
        let mut field = |cell_mm| Field::new(&mut fields, reach_mm, cell_mm);
        let is = |which| oddity == Some(which);
        let whole = sizes.range(0.93, 1.05);
        let semi_axes_mm = SEMI_AXES_MM.map(|mm| mm * whole * sizes.range(0.96, 1.04));
        let width = if is(Oddity::WideVentricles) { 1.8 } else { 1.0 } * sizes.range(0.9, 1.3);
        let ventricle = if is(Oddity::Asymmetry) {
            [0.6 * width, 1.8 * width]
        } else {
            [width, width * sizes.range(0.9, 1.1)]
        };
        let mut nucleus = |centre: [f64; 3], semi: [f64; 3]| Ellipsoid {
            centre_mm: centre.map(|mm| mm + sizes.range(-1.5, 1.5)),
            semi_axes_mm: semi.map(|mm| mm * sizes.range(0.85, 1.15)),
        };
        // Thalamus, putamen, caudate; mirrored to the left.
        let nuclei = [
            nucleus([10.5, -9.0, -1.0], [6.5, 11.0, 8.0]),
            nucleus([23.0, 5.0, -2.0], [4.5, 13.0, 9.0]),
            nucleus([13.5, 17.0, 6.0], [4.0, 8.0, 8.0]),
        ];
        let mut spots = rng.fork("lesions");
        let lesions = (0..if is(Oddity::Lesions) { 12 } else { 0 })
            .map(|_| Ellipsoid {
                centre_mm: [
                    spots.range(-30.0, 30.0),
                    spots.range(-38.0, 38.0),
                    spots.range(0.0, 26.0),
                ],
                semi_axes_mm: [(); 3].map(|()| spots.range(3.0, 6.5)),
            })
            .collect();
        Anatomy {
            semi_axes_mm,
            warp: [(); 3].map(|()| field(30.0)),
            folds: [field(32.0), field(22.0)],
            fold_depth_mm: sizes.range(11.0, 17.0),
            sulcus_mm: SULCUS_MM
                * if is(Oddity::WideVentricles) {
                    1.8
                } else {
                    sizes.range(0.8, 1.4)
                },
            cortex_mm: if is(Oddity::ThinCortex) {
                2.3
            } else {
                sizes.range(4.2, 5.6)
            },
            cortex_varies: field(25.0),
            ventricle,
            shift_mm: if is(Oddity::Asymmetry) { 5.0 } else { 0.0 },
            nuclei,
            lesions,
        }
    }

    /// What lies at a point; `None` outside the brain.
    pub(super) fn tissue(&self, point_mm: [f64; 3]) -> Option<Tissue> {
        let mut p: [f64; 3] =
            std::array::from_fn(|axis| point_mm[axis] + WARP_MM * self.warp[axis].at(point_mm));
        let surface = ellipsoid_depth(p, self.semi_axes_mm);
        if surface < -SULCUS_MM {
            return None;
        }
        p[0] += self.shift_mm * (1.0 - (p[1] / 60.0) * (p[1] / 60.0)).max(0.0);

        let ventricles = self.ventricles(p);
        let cortical = self.depth_below_pia(p, surface);
        let cortex_mm = self.cortex_mm * (1.0 + 0.25 * self.cortex_varies.at(p));
        // White matter lines the ventricles: no sulcus comes nearer than its rim.
        let cortical = cortical.max(ventricles + self.sulcus_mm + cortex_mm + VENTRICLE_RIM_MM);
        let (grey, white) = (cortical - self.sulcus_mm, cortical - self.sulcus_mm - cortex_mm);
        let mirrored = [p[0].abs(), p[1], p[2]];
        let nuclei = self.nuclei.iter().map(|nucleus| nucleus.depth(mirrored));
        let nuclei = nuclei.fold(f64::NEG_INFINITY, f64::max).min(white + cortex_mm);
        let lesion = self
            .lesions
            .iter()
            .map(|spot| spot.depth(p))
            .fold(f64::NEG_INFINITY, f64::max);

        let label = match () {
            () if ventricles > 0.0 => 1,
            () if nuclei > 0.0 => 2,
            () if white > 0.0 => 3,
            () if grey > 0.0 => 2,
            () => 0,
        };
        let mut shares = [1.0, 0.0, 0.0, 0.0];
        let mut lay = |tissue: usize, share: f64| {
            shares = std::array::from_fn(|t| mix(shares[t], f64::from(u8::from(t == tissue)), share));
        };
        lay(1, inside_share(grey));
        lay(2, inside_share(white));
        lay(1, 0.9 * inside_share(lesion.min(white)));
        lay(3, inside_share(nuclei));
        lay(0, inside_share(ventricles));
        Some(Tissue { label, shares })
    }

    /// Depth below the pia: the outer surface, the fissure between the hemispheres, or a sulcus.
    fn depth_below_pia(&self, p: [f64; 3], surface: f64) -> f64 {
        // The hemispheres hang together where the corpus callosum and the stem lie.
        let bridge = 45.0 * (1.0 - norm([0.0, p[1] / 33.0, (p[2] + 16.0) / 32.0]));
        let outer = surface.min(p[0].abs().max(bridge));
        // A sulcus is the sheet where a noise passes zero, down to its depth below the outer surface.
        let sheets = [0, 1].map(|i| self.folds[i].distance_to_zero(p));
        let past_its_floor = [1.0, 0.4].map(|reach| (outer - reach * self.fold_depth_mm).max(0.0));
        let sulcus = |i: usize| norm([sheets[i], past_its_floor[i], 0.0]);
        outer.min(sulcus(0)).min(sulcus(1))
    }

    /// Depth inside the lateral ventricles or the third.
    fn ventricles(&self, p: [f64; 3]) -> f64 {
        let [side, width] = if p[0] < 0.0 {
            [-1.0, self.ventricle[0]]
        } else {
            [1.0, self.ventricle[1]]
        };
        let q = [side * p[0], p[1], p[2]];
        let horn =
            |a: [f64; 3], b: [f64; 3], radius_mm: f64| radius_mm * width - distance_to_segment(q, a, b);
        let (frontal, body) = ([6.5, 23.0, 5.0], [7.0, 2.0, 13.0]);
        let (atrium, temporal) = ([15.0, -23.0, 5.0], [24.0, -2.0, -17.0]);
        let third = Ellipsoid {
            centre_mm: [0.0, -3.0, -5.0],
            semi_axes_mm: [3.0 * width, 11.0, 8.0],
        };
        horn(frontal, body, 6.2)
            .max(horn(body, atrium, 7.0))
            .max(horn(atrium, temporal, 4.8))
            .max(third.depth(q))
    }
}

impl Ellipsoid {
    fn depth(&self, p: [f64; 3]) -> f64 {
        ellipsoid_depth(
            std::array::from_fn(|axis| p[axis] - self.centre_mm[axis]),
            self.semi_axes_mm,
        )
    }
}

/// How much of a voxel lies inside a shape whose boundary is `depth_mm` away.
fn inside_share(depth_mm: f64) -> f64 {
    (0.5 + depth_mm / (2.0 * PARTIAL_VOLUME_MM)).clamp(0.0, 1.0)
}

/// Depth below the surface of an ellipsoid about the origin, exact to first order near the surface.
fn ellipsoid_depth(p: [f64; 3], semi_axes_mm: [f64; 3]) -> f64 {
    let scaled: [f64; 3] = std::array::from_fn(|axis| p[axis] / semi_axes_mm[axis]);
    let radius = norm(scaled);
    let slope = norm(std::array::from_fn(|axis| scaled[axis] / semi_axes_mm[axis])) / radius.max(1e-9);
    let deepest = semi_axes_mm.into_iter().fold(f64::INFINITY, f64::min);
    ((1.0 - radius) / slope.max(1e-9)).min(deepest)
}

fn distance_to_segment(p: [f64; 3], a: [f64; 3], b: [f64; 3]) -> f64 {
    let minus = |u: [f64; 3], v: [f64; 3]| -> [f64; 3] { std::array::from_fn(|axis| u[axis] - v[axis]) };
    let dot = |u: [f64; 3], v: [f64; 3]| u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
    let (ap, ab) = (minus(p, a), minus(b, a));
    let along = (dot(ap, ab) / dot(ab, ab)).clamp(0.0, 1.0);
    norm(minus(ap, ab.map(|step| along * step)))
}

fn norm(v: [f64; 3]) -> f64 {
    (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt()
}
