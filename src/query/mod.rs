//! Which case to ask about next: a score from a prediction's sums, an order from the scores.
//!
//! A score says how unsure the model is of one whole case. All here is arithmetic on sums: no GPU, no files, no
//! clock. Imports `imaging` (for its seeded generator), `records` and `settings`.

mod candidate;
mod classes;
mod spread;

use crate::imaging::Rng;
use crate::records::{CaseId, Scored, SliceSums};
use crate::settings::{Pixels, Strategy};
pub use candidate::Candidate;
pub use spread::{CANDIDATES, spread};

/// Why a pool could not be ranked.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum QueryError {
    /// A case without a single pixel.
    #[error("no pixel to average over")]
    NoPixels,
}

/// Average BvSB of one case: how far the best class is ahead of the second best, over all pixels.
///
/// * `sums`: of the whole volume
/// * returns a number in `0 ..= 1`, LOWER is more uncertain; `None` where `pixels` is `Foreground` and there is none
///
/// # Errors
/// [`QueryError::NoPixels`] for an empty volume: a mean over nothing is no score.
///
/// Source: Eq. 2 of the paper; BvSB itself is Joshi, Porikli & Papanikolopoulos, CVPR 2009.
pub fn average_bvsb(sums: &SliceSums, pixels: Pixels) -> Result<Option<f64>, QueryError> {
    average(sums, pixels, sums.margin, sums.foreground_margin)
}

/// Mean predictive entropy of one case in nats; HIGHER is more uncertain.
///
/// # Errors
/// [`QueryError::NoPixels`] for an empty volume.
///
/// Source: Shannon 1948, as an acquisition function in Settles, "Active learning literature survey", 2009.
pub fn mean_entropy(sums: &SliceSums, pixels: Pixels) -> Result<Option<f64>, QueryError> {
    average(sums, pixels, sums.entropy, sums.foreground_entropy)
}

/// Mean disagreement of a committee about one case in nats; HIGHER is more uncertain. 0 where a single network scored.
///
/// # Errors
/// [`QueryError::NoPixels`] for an empty volume.
///
/// Source: Houlsby, Huszar, Ghahramani & Lengyel, "Bayesian active learning for classification and preference learning", 2011
/// (BALD), the committee's members standing for draws from the posterior.
pub fn mean_disagreement(sums: &SliceSums, pixels: Pixels) -> Result<Option<f64>, QueryError> {
    average(sums, pixels, sums.disagreement, sums.foreground_disagreement)
}

fn average(sums: &SliceSums, pixels: Pixels, all: f64, foreground: f64) -> Result<Option<f64>, QueryError> {
    if sums.pixels == 0 {
        return Err(QueryError::NoPixels);
    }
    Ok(match pixels {
        Pixels::All => Some(all / sums.pixels as f64),
        Pixels::Foreground if sums.foreground_pixels == 0 => None,
        Pixels::Foreground => Some(foreground / sums.foreground_pixels as f64),
    })
}

/// Orders a pool, first to ask first.
///
/// A case without a score (nothing but background was found in it) is the most doubtful of all and comes first;
/// equal scores keep the order of their names.
///
/// * `seed`, and the number of the ranking: what chance decides depends on them alone
///
/// # Errors
/// [`QueryError::NoPixels`] for a case with an empty volume.
pub fn rank(
    strategy: Strategy,
    pixels: Pixels,
    pool: &[Candidate],
    (seed, nth): (u64, u32),
) -> Result<Vec<Scored>, QueryError> {
    let score: fn(&SliceSums, Pixels) -> Result<Option<f64>, QueryError> = match strategy {
        Strategy::Random => {
            let cases: Vec<CaseId> = pool.iter().map(|candidate| candidate.case.clone()).collect();
            return Ok(random_order(&cases, seed));
        }
        Strategy::ForegroundRandom => return Ok(foreground_order(pool, seed)),
        Strategy::ClassStratified => return Ok(classes::order(pool, seed, nth)),
        Strategy::AverageBvsb => average_bvsb,
        Strategy::Entropy => mean_entropy,
        Strategy::Disagreement => mean_disagreement,
    };
    let mut scored = Vec::with_capacity(pool.len());
    for Candidate { case, sums, .. } in pool {
        scored.push(Scored {
            case: case.clone(),
            score: score(sums, pixels)?,
        });
    }
    // Of margins the lowest comes first, of the others the highest.
    let sign = if strategy == Strategy::AverageBvsb {
        1.0
    } else {
        -1.0
    };
    scored.sort_by(|a, b| {
        let key = |s: &Scored| s.score.map_or(f64::NEG_INFINITY, |score| sign * score);
        key(a).total_cmp(&key(b)).then_with(|| a.case.cmp(&b.case))
    });
    Ok(scored)
}

/// A seeded random order: the control, and the only order there is without a model. It does not depend on the
/// order in which `cases` come.
pub fn random_order(cases: &[CaseId], seed: u64) -> Vec<Scored> {
    let mut cases = cases.to_vec();
    cases.sort();
    Rng::new(seed).fork("random order").shuffle(&mut cases);
    cases
        .into_iter()
        .map(|case| Scored { case, score: None })
        .collect()
}

/// A seeded random order in which a case comes early the more likely, the more foreground the model finds in it: what a
/// strategy has to be held against where foreground alone may be why it works (Luth et al., nnActive, 2025).
///
/// Source: Efraimidis & Spirakis, "Weighted random sampling with a reservoir", 2006.
fn foreground_order(pool: &[Candidate], seed: u64) -> Vec<Scored> {
    let mut pool: Vec<&Candidate> = pool.iter().collect();
    pool.sort_by(|a, b| a.case.cmp(&b.case));
    let mut rng = Rng::new(seed).fork("foreground order");
    let keyed = pool.into_iter().map(|Candidate { case, sums, .. }| {
        let share = sums.foreground_pixels as f64 / sums.pixels.max(1) as f64;
        ((1.0 - rng.uniform()).ln() / share.max(1e-9), case)
    });
    let mut keyed: Vec<(f64, &CaseId)> = keyed.collect();
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
    let order = keyed.into_iter().map(|(_, case)| Scored {
        case: case.clone(),
        score: None,
    });
    order.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four times the foreground: first in four of five orders.
    #[test]
    fn foreground_makes_a_case_come_early() {
        let pool = pool(&[
            ("much", sums(100, 50.0, 40, 1.0)),
            ("little", sums(100, 50.0, 10, 1.0)),
        ]);
        let order = |seed| rank(Strategy::ForegroundRandom, Pixels::All, &pool, (seed, 1)).unwrap();
        let first = (0..1000).filter(|&seed| names(&order(seed))[0] == "much").count();
        assert!((760..840).contains(&first), "{first} of 1000");
        assert_eq!(order(7), order(7));
        assert!(order(7).iter().all(|scored| scored.score.is_none()));
    }

    fn sums(pixels: u64, margin: f64, foreground_pixels: u64, foreground_margin: f64) -> SliceSums {
        SliceSums {
            pixels,
            margin,
            foreground_pixels,
            foreground_margin,
            entropy: pixels as f64 - margin,
            foreground_entropy: 0.0,
            disagreement: margin / 2.0,
            foreground_disagreement: 0.0,
        }
    }

    fn pool(scores: &[(&str, SliceSums)]) -> Vec<Candidate> {
        scores
            .iter()
            .map(|(name, sums)| Candidate {
                case: CaseId::new(name).unwrap(),
                sums: *sums,
                classes: Vec::new(),
            })
            .collect()
    }

    fn names(order: &[Scored]) -> Vec<&str> {
        order.iter().map(|scored| scored.case.as_str()).collect()
    }

    /// Three sure pixels and one coin toss: (1 + 1 + 1 + 0) / 4.
    #[test]
    fn one_coin_toss_among_four_pixels_costs_a_quarter() {
        assert_eq!(average_bvsb(&sums(4, 3.0, 2, 1.0), Pixels::All), Ok(Some(0.75)));
        assert_eq!(
            average_bvsb(&sums(4, 3.0, 2, 1.0), Pixels::Foreground),
            Ok(Some(0.5))
        );
    }

    #[test]
    fn a_mean_over_nothing_is_no_score() {
        assert_eq!(
            average_bvsb(&sums(0, 0.0, 0, 0.0), Pixels::All),
            Err(QueryError::NoPixels)
        );
        assert_eq!(average_bvsb(&sums(4, 4.0, 0, 0.0), Pixels::Foreground), Ok(None));
    }

    #[test]
    fn the_lowest_average_bvsb_is_asked_first_and_a_tie_goes_by_name() {
        let pool = pool(&[
            ("sure", sums(10, 9.0, 1, 1.0)),
            ("b", sums(10, 5.0, 1, 1.0)),
            ("a", sums(10, 5.0, 1, 1.0)),
        ]);
        assert_eq!(
            names(&rank(Strategy::AverageBvsb, Pixels::All, &pool, (1, 1)).unwrap()),
            ["a", "b", "sure"]
        );
        let entropy = rank(Strategy::Entropy, Pixels::All, &pool, (1, 1)).unwrap();
        assert_eq!(
            (names(&entropy), entropy[2].score),
            (vec!["a", "b", "sure"], Some(0.1))
        );
        // Half the margin each: the least sure is the one they agree on most.
        let disagreement = rank(Strategy::Disagreement, Pixels::All, &pool, (1, 1)).unwrap();
        assert_eq!(
            (names(&disagreement), disagreement[0].score),
            (vec!["sure", "a", "b"], Some(0.45))
        );
    }

    #[test]
    fn a_case_without_foreground_ranks_first() {
        let pool = pool(&[("some", sums(10, 9.0, 5, 0.5)), ("none", sums(10, 9.9, 0, 0.0))]);
        let order = rank(Strategy::AverageBvsb, Pixels::Foreground, &pool, (1, 1)).unwrap();
        assert_eq!((names(&order), order[0].score), (vec!["none", "some"], None));
    }

    #[test]
    fn a_random_order_depends_on_the_seed_alone() {
        let cases: Vec<CaseId> = (0..20)
            .map(|i| CaseId::new(&format!("c{i:02}")).unwrap())
            .collect();
        let mut reversed = cases.clone();
        reversed.reverse();
        assert_eq!(random_order(&cases, 1), random_order(&reversed, 1));
        assert_ne!(random_order(&cases, 1), random_order(&cases, 2));
        assert!(
            random_order(&cases, 1)
                .iter()
                .all(|scored| scored.score.is_none())
        );
    }
}
