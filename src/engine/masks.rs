//! From a mask file's values to classes.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};

use crate::imaging::{LabelMap, Scan};
use crate::settings::Labels;

/// Furthest a floating-point value may lie from a whole number and still mean it.
const WHOLE: f32 = 1e-3;

/// What is wrong with a mask's values, by the code of the hand-in rules.
#[derive(Debug, PartialEq)]
pub struct MaskProblem {
    /// The code.
    pub code: &'static str,
    /// Whether a person may take it in all the same.
    pub may_hold: bool,
    /// What is wrong, and what to do.
    pub words: String,
}

/// What there is to say of values that were taken all the same, by its code.
type Note = (&'static str, String);

/// The classes of a mask, and a note where values were rounded, or read by their names.
pub fn classes(scan: &Scan, labels: &Labels) -> Result<(LabelMap, Option<Note>), MaskProblem> {
    let by_name = named(scan, labels)?;
    let mut class_of = vec![None; 1 << 16];
    class_of[0] = Some(0u8);
    for label in &labels.0 {
        class_of[label.value as usize] = labels.class_of(label.value);
    }
    let class_by_value = |whole: f32| {
        (0.0..65_536.0)
            .contains(&whole)
            .then(|| class_of[whole as usize])
            .flatten()
    };
    let mut strangers: BTreeMap<i64, u64> = BTreeMap::new();
    let mut fractions = 0u64;
    let mut rounded = false;
    let mut voxels = Vec::with_capacity(scan.volume.voxels.len());
    for &value in &scan.volume.voxels {
        let whole = value.round();
        // A NaN is no whole number either.
        if value.is_nan() || (value - whole).abs() > WHOLE {
            fractions += 1;
            continue;
        }
        rounded |= value != whole;
        let class = match &by_name {
            Some(_) if whole == 0.0 => Some(0),
            Some(names) => names.get(&(whole as i64)).copied(),
            None => class_by_value(whole),
        };
        match class {
            Some(class) => voxels.push(class),
            None => *strangers.entry(whole as i64).or_default() += 1,
        }
    }
    if fractions > 0 {
        return Err(MaskProblem {
            code: "V2",
            may_hold: false,
            words: format!(
                "{fractions} voxels are no whole numbers: the mask was interpolated; save it again with \
                 nearest-neighbour interpolation"
            ),
        });
    }
    if !strangers.is_empty() {
        // A mask of 0 and 255 is what paint programs write; nothing says which label was meant.
        let binary = strangers.keys().eq([&255]) && voxels.iter().all(|&class| class == 0);
        let counts: Vec<String> = strangers
            .iter()
            .take(5)
            .map(|(v, n)| format!("{v} ({n} voxels)"))
            .collect();
        let words = if binary && labels.0.len() == 1 {
            let only = &labels.0[0];
            format!(
                "binary? it holds only 0 and 255; accept it to take 255 as {} ({})",
                only.value, only.name
            )
        } else if binary {
            format!(
                "binary? it holds only 0 and 255, and nothing says which of {labels} is meant; drop it again beside a table \
                 that names 255, or refuse it"
            )
        } else {
            format!(
                "{} no label of this project, which has {labels}; relabel those voxels, or add the label to \
                 overtrace.toml",
                counts.join(", ") + if strangers.len() == 1 { " is" } else { " are" }
            )
        };
        return Err(MaskProblem {
            code: "V4",
            may_hold: binary,
            words,
        });
    }
    let moved = by_name.is_some_and(|names| {
        let mut names = names.into_iter();
        names.any(|(value, class)| class_by_value(value as f32) != Some(class))
    });
    let note = match (rounded, moved) {
        (_, true) => Some((
            "V5",
            "its values were read by the names that the file gives them".to_string(),
        )),
        (true, _) => Some((
            "V2",
            "values within 0.001 of a whole number were rounded".to_string(),
        )),
        _ => None,
    };
    Ok((
        LabelMap {
            grid: scan.volume.grid,
            voxels,
        },
        note,
    ))
}

/// The class of each value that the file names as the project does; `None` where its names say nothing, as Slicer's own do
/// (`Segment_1`).
fn named(scan: &Scan, labels: &Labels) -> Result<Option<BTreeMap<i64, u8>>, MaskProblem> {
    let same = |a: &str, b: &str| a.trim().eq_ignore_ascii_case(b.trim());
    let says_nothing = |name: &str| {
        let name = name.trim().to_lowercase();
        let number = ["segment", "label"]
            .iter()
            .find_map(|word| name.strip_prefix(word))
            .unwrap_or(&name);
        number
            .trim_start_matches(['_', ' ', '-'])
            .bytes()
            .all(|byte| byte.is_ascii_digit())
    };
    if scan.segments.iter().all(|segment| says_nothing(&segment.name)) {
        return Ok(None);
    }
    let mut classes = BTreeMap::new();
    // Only where a name is no label's: the voxels are many.
    let present = OnceCell::new();
    let is_drawn = |value: i64| {
        let found = || {
            scan.volume
                .voxels
                .iter()
                .map(|&voxel| voxel as i64)
                .collect::<HashSet<i64>>()
        };
        present.get_or_init(found).contains(&value)
    };
    for segment in &scan.segments {
        let label = labels.0.iter().find(|label| same(&label.name, &segment.name));
        match label.and_then(|label| labels.class_of(label.value)) {
            Some(class) => drop(classes.insert(segment.value, class)),
            // A segment that nothing was drawn in is no harm.
            None if !is_drawn(segment.value) => {}
            None => {
                return Err(MaskProblem {
                    code: "V5",
                    may_hold: false,
                    words: format!(
                        "the segment {} is no label of this project, which has {labels}; rename it, or add the label \
                         to overtrace.toml",
                        crate::records::printable(&segment.name)
                    ),
                });
            }
        }
    }
    Ok(Some(classes))
}

/// The classes of a mask of 0 and 255 that a person accepted for a project with one label.
pub fn binary_classes(scan: &Scan) -> LabelMap {
    let voxels = scan
        .volume
        .voxels
        .iter()
        .map(|&value| u8::from(value != 0.0))
        .collect();
    LabelMap {
        grid: scan.volume.grid,
        voxels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{AffineSource, Grid, Volume};

    fn scan(values: &[f32]) -> Scan {
        let volume = Volume {
            grid: Grid::new([values.len(), 1, 1], [1.0; 3]),
            voxels: values.to_vec(),
        };
        Scan {
            volume,
            is_integer: true,
            affine_source: AffineSource::Sform,
            notes: vec![],
            segments: vec![],
            crop: None,
        }
    }

    #[test]
    fn names_in_the_file_say_what_its_values_are() {
        let mut scan = scan(&[0.0, 1.0, 2.0]);
        let segment = |value, name: &str| crate::imaging::Segment {
            value,
            name: name.into(),
        };
        // Slicer numbers segments as they were made.
        scan.segments = vec![segment(1, "wm"), segment(2, " GM ")];
        let (map, note) = classes(&scan, &Labels::default()).unwrap();
        assert_eq!(map.voxels, [0, 3, 2]);
        assert_eq!(note.unwrap().0, "V5");
        scan.segments = vec![segment(1, "CSF"), segment(2, "GM")];
        assert_eq!(
            classes(&scan, &Labels::default()).unwrap().1,
            None,
            "the same by both"
        );
        scan.segments = vec![segment(1, "Segment_1"), segment(2, "2")];
        assert_eq!(classes(&scan, &Labels::default()).unwrap().0.voxels, [0, 1, 2]);
        scan.segments = vec![segment(1, "WM"), segment(2, "Tumour")];
        let problem = classes(&scan, &Labels::default()).unwrap_err();
        assert_eq!((problem.code, problem.may_hold), ("V5", false));
        assert!(problem.words.contains("Tumour"), "{}", problem.words);
        scan.volume.voxels[2] = 1.0;
        assert_eq!(
            classes(&scan, &Labels::default()).unwrap().0.voxels,
            [0, 3, 3],
            "an empty one"
        );
    }

    fn problem(values: &[f32], labels: &Labels) -> MaskProblem {
        classes(&scan(values), labels).unwrap_err()
    }

    #[test]
    fn values_become_the_places_of_their_labels() {
        let mut labels = Labels::default();
        labels.0[1].value = 40_000;
        let (map, note) = classes(&scan(&[0.0, 1.0, 40_000.0, 3.0]), &labels).unwrap();
        assert_eq!((map.voxels, note), (vec![0, 1, 2, 3], None));
    }

    #[test]
    fn near_whole_numbers_are_rounded_with_a_note_and_others_refused() {
        let labels = Labels::default();
        let (map, note) = classes(&scan(&[0.0, 0.9995, 2.0005]), &labels).unwrap();
        assert_eq!(map.voxels, [0, 1, 2], "rounded, never truncated");
        assert_eq!(note.unwrap().0, "V2");
        let problem = problem(&[0.0, 0.5, f32::NAN], &labels);
        assert_eq!(
            (problem.code, problem.words.starts_with("2 voxels")),
            ("V2", true)
        );
    }

    #[test]
    fn a_value_that_is_no_label_is_counted() {
        let problem = problem(&[0.0, 7.0, 7.0, -1.0], &Labels::default());
        assert_eq!((problem.code, problem.may_hold), ("V4", false));
        assert!(
            problem.words.contains("-1 (1 voxels), 7 (2 voxels)"),
            "{}",
            problem.words
        );
    }

    #[test]
    fn zero_and_255_may_be_meant_as_the_only_label() {
        let mut labels = Labels::default();
        let which = problem(&[0.0, 255.0], &labels);
        assert!(
            which.may_hold && which.words.contains("which of"),
            "{}",
            which.words
        );
        labels.0.truncate(1);
        assert!(problem(&[0.0, 255.0], &labels).may_hold);
        assert_eq!(binary_classes(&scan(&[0.0, 255.0])).voxels, [0, 1]);
        assert!(
            !problem(&[0.0, 1.0, 255.0], &labels).may_hold,
            "1 is the label already"
        );
    }
}
