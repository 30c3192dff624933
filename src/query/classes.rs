//! An order in which each class has its turn, with noise that falls.

use super::Candidate;
use crate::imaging::Rng;
use crate::records::Scored;

/// Every third place goes by the whole case, the others by a class.
const WHOLE: usize = 3;
/// How many times less the scores' logarithms are shaken after [`RANKINGS`] rankings than at first.
const CALMER: f64 = 100.0;
/// After so many the noise falls no further: a round ranks twice.
const RANKINGS: u32 = 20;

/// Two of three places go by the mean entropy where one class was drawn, the classes above background taking turns; the third
/// by that of the whole case. The logarithm of each score is shaken, less from ranking to ranking: at first so that those asked
/// for differ, later so that the most doubtful come first. A class that was drawn in none of those left has no turn; a case whose
/// classes were not counted goes by the whole in every turn.
///
/// * `seed`, `nth`: as [`super::rank`]'s
///
/// Source: ClaSP PE, Lueth et al., "Finally outshining the random baseline", arXiv 2601.13677, 2026, which asks for patches: two
/// thirds by class there too, and the noise of power scores falling by a factor of 100; here whole cases are asked for.
pub fn order(pool: &[Candidate], seed: u64, nth: u32) -> Vec<Scored> {
    let mut left: Vec<&Candidate> = pool.iter().collect();
    left.sort_by(|a, b| a.case.cmp(&b.case));
    let mut rng = Rng::new(seed).fork("class-stratified order");
    let count = left
        .iter()
        .map(|candidate| candidate.classes.len())
        .max()
        .unwrap_or(0);
    let has =
        |candidate: &Candidate, class: usize| candidate.classes.get(class).is_some_and(|known| known.0 > 0);
    let mut classes: Vec<usize> = (1..count).collect();
    rng.shuffle(&mut classes);
    let calm = CALMER.powf(f64::from(nth.saturating_sub(1).min(RANKINGS)) / f64::from(RANKINGS));
    // A budget of one is to meet every kind of place, too.
    let begin = rng.below(WHOLE);
    let mut order = Vec::new();
    while !left.is_empty() {
        let class = match (begin + order.len()) % WHOLE {
            2 => None,
            _ => {
                let next = classes
                    .iter()
                    .position(|class| left.iter().any(|one| has(one, *class)));
                next.map(|at| {
                    let class = classes.remove(at);
                    classes.push(class);
                    class
                })
            }
        };
        let shaken = left.iter().map(|candidate| {
            let mean = match class {
                Some(class) if has(candidate, class) => {
                    let (voxels, entropy) = candidate.classes[class];
                    entropy / voxels as f64
                }
                Some(_) if !candidate.classes.is_empty() => 0.0,
                _ => candidate.sums.entropy / candidate.sums.pixels.max(1) as f64,
            };
            // Gumbel's distribution: the largest of shaken logarithms is drawn by the scores.
            let noise = -(-(1.0 - rng.uniform()).ln()).ln();
            mean.ln() + noise / calm
        });
        let shaken: Vec<f64> = shaken.collect();
        let first = (1..shaken.len()).fold(0, |best, at| if shaken[at] > shaken[best] { at } else { best });
        order.push(Scored {
            case: left.remove(first).case.clone(),
            score: None,
        });
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{CaseId, SliceSums};

    /// Ten voxels of each class, with these mean entropies; all of the case have half of the first class's.
    fn candidate(name: &str, means: [f64; 3]) -> Candidate {
        Candidate {
            case: CaseId::new(name).unwrap(),
            sums: SliceSums {
                pixels: 100,
                entropy: 50.0 * means[0],
                ..SliceSums::default()
            },
            classes: means.iter().map(|mean| (10, 10.0 * mean)).collect(),
        }
    }

    fn names(order: &[Scored]) -> Vec<&str> {
        order.iter().map(|scored| scored.case.as_str()).collect()
    }

    /// Each is the most doubtful in one way: by a class, by the other, by the whole.
    fn pool() -> Vec<Candidate> {
        vec![
            candidate("dull", [0.01, 0.01, 0.01]),
            candidate("first", [0.1, 0.9, 0.1]),
            candidate("second", [0.1, 0.1, 0.9]),
            candidate("whole", [0.9, 0.1, 0.1]),
        ]
    }

    #[test]
    fn late_rankings_go_by_each_class_in_turn_and_then_by_the_whole() {
        let mut firsts = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let order = order(&pool(), seed, 21);
            let names = names(&order);
            assert_eq!(names[3], "dull", "seed {seed}");
            firsts.insert(names[0].to_string());
            assert!(order.iter().all(|scored| scored.score.is_none()));
        }
        assert_eq!(firsts.len(), 3, "who has the first turn is drawn");
    }

    #[test]
    fn early_rankings_are_shaken_and_depend_on_the_seed_alone() {
        let dull_first = (0..1000)
            .filter(|&seed| names(&order(&pool(), seed, 1))[0] == "dull")
            .count();
        // By scores of 0.01 beside 0.9, 0.1 and 0.1: 9 of 1000.
        assert!((1..40).contains(&dull_first), "{dull_first}");
        let mut turned = pool();
        turned.reverse();
        assert_eq!(order(&pool(), 7, 1), order(&turned, 7, 1));
        assert_ne!(order(&pool(), 7, 1), order(&pool(), 8, 1));
    }

    #[test]
    fn a_class_that_was_drawn_nowhere_has_no_turn_and_old_drawings_go_by_the_whole() {
        let mut pool = pool();
        for candidate in &mut pool {
            candidate.classes.truncate(1);
        }
        assert_eq!(names(&order(&pool, 1, 21))[0], "whole");
        assert_eq!(order(&[], 1, 1), []);
        for candidate in &mut pool {
            candidate.classes.clear();
        }
        assert_eq!(names(&order(&pool, 1, 21))[0], "whole");
    }

    /// Drawn in one case alone: once that was asked for, its turns are those of the others.
    #[test]
    fn a_class_without_cases_left_gives_its_turns_away() {
        let mut pool = pool();
        for candidate in &mut pool {
            if candidate.case.as_str() != "second" {
                candidate.classes[2] = (0, 0.0);
            }
        }
        for seed in 0..50 {
            let names: Vec<String> = names(&order(&pool, seed, 21))
                .into_iter()
                .map(String::from)
                .collect();
            assert_eq!(names[3], "dull", "seed {seed}: {names:?}");
        }
    }
}
