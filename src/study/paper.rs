//! The paper's own figures, in percent, to print beside ours.
//!
//! Source: `paper.txt`, Tables 1 to 4 and section 3.1. Its IBSR18 split (10 and 8) is not one that can be made from the 15 cases
//! whose labels are public, and its CSF may be another: figures stand beside each other, they are not the same measurement.

use super::{Experiment, StoredCase};

/// Rows of Table 1 (IBSR18, everything labelled): method, Dice of CSF, GM, WM, average, seconds a volume.
pub const IBSR18_FULL: &[(&str, [f64; 4], f64)] = &[
    ("U-shape network (paper)", [89.75, 91.18, 91.80, 90.91], 40.0),
    ("VoxResNet (paper)", [81.03, 87.91, 89.73, 86.2], 100.0),
    ("Multi-scale CNN (paper)", [63.01, 80.53, 82.16, 75.23], 3500.0),
];

/// Rows of Table 2 (MRBrainS18, everything labelled): the same, without seconds.
pub const MRBRAINS18_FULL: &[(&str, [f64; 4])] = &[
    (
        "U-shape network (paper, MRBrainS18)",
        [90.78, 83.98, 87.45, 87.40],
    ),
    ("VoxResNet (paper, MRBrainS18)", [90.38, 82.97, 84.80, 86.05]),
];

/// Table 3 (IBSR18, from 2 labelled cases): class, saved effort of iterations 1 to 4, mean.
pub const IBSR18_EFFORT: &[(&str, &[f64], f64)] = &[
    ("CSF", &[73.04, 47.96, 49.56, 46.82], 54.35),
    ("GM", &[63.38, 39.68, 43.57, 41.58], 47.05),
    ("WM", &[62.80, 39.57, 43.24, 43.13], 47.19),
];

/// Table 4 (MRBrainS18, from no labelled case, with weights of another data set): class, saved effort of iterations 1 to 3, mean.
pub const MRBRAINS18_EFFORT: &[(&str, &[f64], f64)] = &[
    ("CSF", &[2.46, 56.28, 73.71], 44.15),
    ("GM", &[34.87, 42.25, 56.83], 44.65),
    ("WM", &[48.79, 49.03, 49.31], 49.04),
];

/// What has to be said beside figures of IBSR18, wherever they are shown.
const IBSR18: &str = "IBSR18: 15 of its 18 volumes have labels here, so that this is not the paper's split (10 and 8); its CSF is \
    that of the ventricles alone. The paper's figures are for orientation.";

/// The same, as short as a file of numbers and a chart want it.
const IBSR18_SHORT: &str = "IBSR18: not the paper's split, ventricular CSF";

/// What has to be said beside an experiment's figures, and the same in short.
pub fn caveat(experiment: &Experiment) -> Option<(&'static str, &'static str)> {
    let is_ibsr = |case: &StoredCase| case.id.as_str().starts_with("IBSR_");
    experiment
        .cases
        .iter()
        .any(is_ibsr)
        .then_some((IBSR18, IBSR18_SHORT))
}

/// The share of the pool at which the paper's Fig. 8 reaches what the full pool gives, in percent.
pub const POOL_NEEDED: f64 = 60.0;
