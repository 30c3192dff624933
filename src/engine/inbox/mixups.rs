//! P2: a mask that was mirrored on the way, has two labels exchanged, or is another case's.

use super::checks::{Candidate, Finding, pre_annotation};
use crate::engine::EngineError;
use crate::engine::project::Project;
use crate::records::{Case, Fix, mean_of_known};

/// How much of a mask has to agree with something else than what was asked, in mean Dice, and how much better.
const AGREES: f64 = 0.5;
const BETTER: f64 = 0.05;
/// Other cases that it is held against.
const OTHERS: usize = 16;

/// How often each class of one map lies on each class of another.
struct Crossed {
    classes: usize,
    voxels: Vec<u64>,
}

impl Crossed {
    fn of(rows: &[u8], columns: &[u8], classes: usize) -> Crossed {
        let mut voxels = vec![0; classes * classes];
        for (&row, &column) in rows.iter().zip(columns) {
            let at = usize::from(row) * classes + usize::from(column);
            if let Some(count) = voxels.get_mut(at) {
                *count += 1;
            }
        }
        Crossed { classes, voxels }
    }

    /// Dice of the first map's class `row` and the second's class `column`; `None` where neither has a voxel.
    fn dice(&self, row: usize, column: usize) -> Option<f64> {
        let all = 0..self.classes;
        let of_row: u64 = all.clone().map(|k| self.voxels[row * self.classes + k]).sum();
        let of_column: u64 = all.map(|k| self.voxels[k * self.classes + column]).sum();
        let common = self.voxels[row * self.classes + column];
        (of_row + of_column > 0).then(|| 2.0 * common as f64 / (of_row + of_column) as f64)
    }

    /// Mean Dice of the classes that there are.
    fn agreement(&self) -> f64 {
        mean_of_known((1..self.classes).map(|k| self.dice(k, k))).unwrap_or(0.0)
    }

    /// The same with two classes of the second map exchanged.
    fn exchanged(&self, a: usize, b: usize) -> f64 {
        let other = |k: usize| match k {
            k if k == a => b,
            k if k == b => a,
            k => k,
        };
        mean_of_known((1..self.classes).map(|k| self.dice(k, other(k)))).unwrap_or(0.0)
    }
}

/// P2: it agrees better with the pre-annotation when mirrored, with two labels exchanged, or with another case's.
pub(super) fn p2_mixed_up(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let Some(drawn) = pre_annotation(candidate, project)? else {
        return Ok(Finding::Pass);
    };
    let mask = candidate
        .mask
        .as_ref()
        .expect("the values were read before this check");
    let labels = &project.snapshot.settings.labels;
    let classes = labels.classes();
    let table = Crossed::of(&drawn.voxels, &mask.voxels, classes);
    let own = table.agreement();
    if own + BETTER > 1.0 {
        return Ok(Finding::Pass);
    }
    let mut best: Option<(f64, String, Fix)> = None;
    let mut consider = |agrees: f64, words: String, fix: Fix| {
        let least = best.as_ref().map_or(own + BETTER, |(agrees, ..)| *agrees);
        if agrees >= AGREES && agrees > least {
            best = Some((agrees, words, fix));
        }
    };
    for axis in 0..3 {
        let words = Fix::sides(axis, &mask.grid);
        let mirrored = Crossed::of(&drawn.voxels, &mask.flipped(axis).voxels, classes);
        let fix = Fix::Mirror { axis };
        consider(mirrored.agreement(), format!("with {words} exchanged"), fix);
    }
    // Of many labels only those that are there: others have nothing to exchange.
    let there: Vec<usize> = (1..classes)
        .filter(|&k| mask.voxels.contains(&(k as u8)))
        .take(16)
        .collect();
    for (at, &a) in there.iter().enumerate() {
        for &b in &there[at + 1..] {
            let words = format!("with {} and {} exchanged", labels.name_of(a), labels.name_of(b));
            let classes = [a as u8, b as u8];
            consider(table.exchanged(a, b), words, Fix::Exchange { classes });
        }
    }
    let case = candidate.case();
    let open = project.snapshot.handouts.values().filter(|other| {
        let is_alike = |of: &Case| of.grid.shape == mask.grid.shape;
        other.end.is_none()
            && other.case != *case
            && project.snapshot.cases.get(&other.case).is_some_and(is_alike)
    });
    // Those that went out last: each is read.
    for other in open.rev().take(OTHERS) {
        match project.label_map(other.pre_annotation, "another case's pre-annotation") {
            Ok(theirs) => {
                let words = format!("with what was drawn of {}", other.case);
                let agrees = Crossed::of(&theirs.voxels, &mask.voxels, classes).agreement();
                consider(agrees, words, Fix::Case(other.case.clone()));
            }
            // That is not this file's fault.
            Err(error) => tracing::warn!(%error, case = %other.case, "a pre-annotation cannot be read"),
        }
    }
    Ok(match best {
        None => Finding::Pass,
        Some((agrees, words, fix)) => {
            candidate.fix = Some(fix);
            let words = format!(
                "it agrees better {words} (Dice {:.0} %, and {:.0} % as it is); accept it if it is right as it is",
                agrees * 100.0,
                own * 100.0
            );
            Finding::Hold("P2", words)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_table_gives_the_agreement_as_it_is_and_with_two_classes_exchanged() {
        // 1 and 2 are drawn the other way round but for one voxel; 3 is right.
        let table = Crossed::of(&[1, 1, 2, 3, 0], &[2, 2, 1, 3, 0], 4);
        assert_eq!(table.agreement(), 1.0 / 3.0);
        assert_eq!(table.exchanged(1, 2), 1.0);
        assert_eq!(
            Crossed::of(&[0], &[0], 4).agreement(),
            0.0,
            "nothing is no agreement"
        );
    }
}
