//! An abdomen as CT would show it: organs in Hounsfield units, most of them hardly brighter than what lies around them.
//!
//! | class | what | Hounsfield units |
//! |---|---|---|
//! | 0 | air beyond the body, fat, muscle | -1000, -100, 50 |
//! | 1 | lung | -820 |
//! | 2 | liver | 95 to 120 |
//! | 3 | spleen | 105 to 140 |
//! | 4 | kidney | 150 to 200 |
//! | 5 | bone (spine) | 350 to 500 |
//! | 6 | vessel (aorta) | 140 to 300 |
//!
//! Grid 96 x 80 x 20 voxels of 3.5 x 3.5 x 8 mm, noise of 8 to 20 units (a sum of four uniform numbers). Contrast medium is earlier or later from case to case;
//! places and sizes vary by some per cent. Only operations that IEEE 754 rounds exactly are used, as in the brain.

use super::field::mix;
use super::{Grid, LabelMap, Phantom, Rng, Volume};

const SHAPE: [usize; 3] = [96, 80, 20];
const SPACING_MM: [f64; 3] = [3.5, 3.5, 8.0];
/// Names of the classes above background.
pub const ORGANS: [&str; 6] = ["lung", "liver", "spleen", "kidney", "bone", "vessel"];

/// An ellipsoid: middle and half axes, mm from the grid's middle (right, front, top).
struct Ellipsoid {
    class: u8,
    middle: [f64; 3],
    half: [f64; 3],
}

impl Ellipsoid {
    /// Below 1 inside.
    fn at(&self, point_mm: [f64; 3]) -> f64 {
        let off = |axis: usize| {
            let off = (point_mm[axis] - self.middle[axis]) / self.half[axis];
            off * off
        };
        off(0) + off(1) + off(2)
    }
}

/// Middles and half axes of a usual case, what lies in front of others last.
const USUAL: [(u8, [f64; 3], [f64; 3]); 8] = [
    (1, [65.0, 5.0, 75.0], [45.0, 62.0, 58.0]),
    (1, [-65.0, 5.0, 75.0], [45.0, 62.0, 58.0]),
    (2, [55.0, 12.0, 5.0], [62.0, 62.0, 48.0]),
    (3, [-85.0, -35.0, 12.0], [24.0, 30.0, 34.0]),
    (4, [52.0, -52.0, -42.0], [20.0, 22.0, 36.0]),
    (4, [-54.0, -52.0, -38.0], [20.0, 22.0, 36.0]),
    (6, [-12.0, -40.0, 0.0], [11.0, 11.0, 1000.0]),
    (5, [0.0, -74.0, 0.0], [21.0, 20.0, 1000.0]),
];

/// Case `index` of the CT data set of `seed`; no case depends on how many there are.
pub fn abdomen(seed: u64, index: u32) -> Phantom {
    let rng = Rng::new(seed).fork(&format!("abdomen {index}"));
    let mut draw = rng.fork("case");
    let difficulty = draw.uniform();
    let organs: Vec<Ellipsoid> = USUAL
        .iter()
        .map(|(class, middle, half)| Ellipsoid {
            class: *class,
            middle: middle.map(|mm| mm + draw.range(-7.0, 7.0)),
            half: half.map(|mm| mm * draw.range(0.85, 1.15)),
        })
        .collect();
    let body = Ellipsoid {
        class: 0,
        middle: [0.0; 3],
        half: [
            150.0 * draw.range(0.93, 1.05),
            118.0 * draw.range(0.93, 1.05),
            1000.0,
        ],
    };
    let fat_share = draw.range(0.78, 0.90);
    // Early: vessels and kidneys are bright; late: they fade, and the liver has caught up.
    let early = draw.uniform();
    let units = [
        50.0,
        -820.0,
        mix(120.0, 95.0, early),
        mix(105.0, 140.0, early),
        mix(150.0, 200.0, early),
        draw.range(350.0, 500.0),
        mix(140.0, 300.0, early),
    ];
    let spread = mix(8.0, 20.0, difficulty);
    let mut noise = rng.fork("noise");
    let grid = Grid::new(SHAPE, SPACING_MM);
    let mut truth = LabelMap::empty(grid);
    let mut voxels = vec![-1000.0; grid.len()];
    for (at, (value, label)) in voxels.iter_mut().zip(&mut truth.voxels).enumerate() {
        let voxel = [
            at % SHAPE[0],
            at / SHAPE[0] % SHAPE[1],
            at / (SHAPE[0] * SHAPE[1]),
        ];
        let point_mm: [f64; 3] = std::array::from_fn(|axis| {
            (voxel[axis] as f64 - (SHAPE[axis] as f64 - 1.0) / 2.0) * SPACING_MM[axis]
        });
        let depth = body.at(point_mm);
        if depth >= 1.0 {
            continue;
        }
        let organ = organs
            .iter()
            .rev()
            .find(|organ| organ.at(point_mm) < 1.0 && depth < fat_share);
        let class = organ.map_or(0, |organ| organ.class);
        let tissue = match class {
            0 if depth >= fat_share => -100.0,
            class => units[class as usize],
        };
        *label = class;
        let bell = (0..4).map(|_| noise.uniform()).sum::<f64>() - 2.0;
        // Whole units, as a scanner writes them; inside the body none is air.
        *value = (tissue + spread * 1.732 * bell + 0.5)
            .floor()
            .clamp(-999.0, 3000.0) as f32;
    }
    Phantom {
        image: Volume { grid, voxels },
        truth,
        difficulty,
        unusual: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::DATASET_SEED;

    #[test]
    fn every_organ_is_there_in_its_units_and_cases_differ() {
        for index in 0..4 {
            let made = abdomen(DATASET_SEED, index);
            let counts = made.truth.class_voxels(7);
            assert!(counts.iter().all(|&count| count > 200), "{counts:?}");
            let mean = |class: u8| {
                let of_class = made.image.voxels.iter().zip(&made.truth.voxels);
                let values: Vec<f32> = of_class.filter(|(_, c)| **c == class).map(|(v, _)| *v).collect();
                values.iter().sum::<f32>() / values.len() as f32
            };
            assert!(mean(1) < -780.0 && mean(5) > 300.0);
            assert!((90.0..125.0).contains(&mean(2)), "{}", mean(2));
            assert!(
                made.image
                    .voxels
                    .iter()
                    .all(|v| v.fract() == 0.0 && *v >= -1000.0)
            );
            // The liver is on the right, and +x is right.
            let of_liver = (0..made.truth.voxels.len()).filter(|&at| made.truth.voxels[at] == 2);
            let x: Vec<usize> = of_liver.map(|at| at % SHAPE[0]).collect();
            assert!(x.iter().sum::<usize>() / x.len() > SHAPE[0] / 2);
        }
        assert_ne!(abdomen(18, 0).truth, abdomen(18, 1).truth);
        assert_eq!(abdomen(18, 2), abdomen(18, 2));
    }
}
