//! Budgets over one: cases that are all asked for at once should not all be of one kind.

use crate::records::CaseId;

/// Of how many cases for each that is asked for the choice is made.
pub const CANDIDATES: usize = 3;

/// Chooses `budget` of some candidates, each time the one that is farthest from the nearest of those chosen, beginning with
/// the first.
///
/// * `candidates`: the most doubtful first, each with what it is like; every feature counts by its spread over them
///
/// Source: k-center greedy, Sener & Savarese, "Active learning for convolutional neural networks: a core-set approach",
/// ICLR 2018.
pub fn spread(candidates: &[(CaseId, Vec<f64>)], budget: usize) -> Vec<CaseId> {
    let width = candidates.first().map_or(0, |(_, like)| like.len());
    let n = candidates.len() as f64;
    let deviation = |feature: usize| {
        let values = || candidates.iter().map(|(_, like)| like[feature]);
        let mean = values().sum::<f64>() / n;
        (values().map(|value| (value - mean) * (value - mean)).sum::<f64>() / n).sqrt()
    };
    let deviations: Vec<f64> = (0..width).map(deviation).collect();
    let apart = |a: usize, b: usize| {
        let pairs = candidates[a].1.iter().zip(&candidates[b].1).zip(&deviations);
        let squares = pairs.filter(|(_, deviation)| **deviation > 0.0);
        squares
            .map(|((a, b), deviation)| ((a - b) / deviation).powi(2))
            .sum::<f64>()
    };
    // How far each is from the nearest of those chosen.
    let mut far = vec![f64::INFINITY; candidates.len()];
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < budget.min(candidates.len()) {
        let left = (0..candidates.len()).filter(|at| !chosen.contains(at));
        // Of equals the more doubtful.
        let next = left.reduce(|best, at| if far[at] > far[best] { at } else { best });
        let next = next.expect("fewer are chosen than there are");
        chosen.push(next);
        for (at, far) in far.iter_mut().enumerate() {
            *far = far.min(apart(at, next));
        }
    }
    chosen.into_iter().map(|at| candidates[at].0.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(candidates: &[(&str, &[f64])]) -> Vec<(CaseId, Vec<f64>)> {
        let named = candidates.iter();
        named
            .map(|(name, like)| (CaseId::new(name).unwrap(), like.to_vec()))
            .collect()
    }

    fn names(chosen: &[CaseId]) -> Vec<&str> {
        chosen.iter().map(CaseId::as_str).collect()
    }

    /// Three alike and one unlike them: the unlike one is second, though it is the least doubtful.
    #[test]
    fn the_most_doubtful_comes_first_and_then_what_is_unlike_it() {
        let all = named(&[
            ("a", &[1.0, 0.0]),
            ("b", &[1.1, 0.0]),
            ("c", &[0.9, 0.0]),
            ("d", &[5.0, 0.0]),
        ]);
        assert_eq!(names(&spread(&all, 2)), ["a", "d"]);
        assert_eq!(
            names(&spread(&all, 3)),
            ["a", "d", "b"],
            "of equals the more doubtful"
        );
        assert_eq!(spread(&all, 9).len(), 4);
        assert!(spread(&[], 2).is_empty());
    }

    /// Millilitres and shares: each counts by its own spread.
    #[test]
    fn a_feature_s_unit_does_not_matter() {
        let ml = named(&[("a", &[0.0, 0.0]), ("b", &[9000.0, 0.1]), ("c", &[1000.0, 0.9])]);
        let litres = named(&[("a", &[0.0, 0.0]), ("b", &[9.0, 0.1]), ("c", &[1.0, 0.9])]);
        assert_eq!(spread(&ml, 2), spread(&litres, 2));
    }
}
