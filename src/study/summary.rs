//! From points to answers: curves with their spread, areas, the share of the pool that is enough, paired differences with an
//! interval, saved effort by iteration.

use serde::{Deserialize, Serialize};

use super::paper::caveat;
use super::{Kind, Outcome, Point, QueryStrategy, RunOutcome, System};
use crate::imaging::Rng;
use crate::records::{ClassEffort, mean_of_known};

/// What counts as as good as everything labelled.
const ENOUGH: f64 = 0.99;
/// Resamples of a bootstrap interval.
const RESAMPLES: usize = 10_000;

/// Where a strategy is after some cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spot {
    /// Labelled cases.
    pub labelled: usize,
    /// Their share of all.
    pub fraction: f64,
    /// Mean over the runs of the mean Dice over the classes.
    pub dice: f64,
    /// Its standard deviation over the runs (n - 1); 0 of one.
    pub spread: f64,
    /// Runs.
    pub runs: usize,
}

/// A system's and a strategy's way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Which.
    pub system: System,
    /// How it asked.
    pub strategy: QueryStrategy,
    /// From few labelled cases to many.
    pub spots: Vec<Spot>,
    /// Area under the curve over the range of fractions, divided by its width: a mean Dice. Mean over the runs.
    pub area: Option<f64>,
    /// The first share of the pool at which the mean Dice is at least 99 % of that with everything labelled.
    pub enough_at: Option<f64>,
}

/// A mean with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Pairs that it is of.
    pub pairs: usize,
}

/// A strategy against random, run by run of the same fold, seed and system.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Which.
    pub system: System,
    /// How it asked.
    pub strategy: QueryStrategy,
    /// Its area less that of random.
    pub area: Interval,
}

/// Saved effort, as Tables 3 and 4 have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffortTable {
    /// What drew.
    pub system: System,
    /// How cases were asked for.
    pub strategy: QueryStrategy,
    /// Per class, then per iteration: mean over the runs of C / L; `None` where nothing was drawn or there was nothing to draw.
    pub saved: Vec<Vec<Option<f64>>>,
    /// Per class: mean over the iterations.
    pub mean: Vec<Option<f64>>,
    /// The same where a contour within a pixel counts as right.
    pub near_mean: Vec<Option<f64>>,
}

/// What a system came to with everything labelled, over its runs that came that far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Full {
    /// Which.
    pub system: System,
    /// Mean Dice per class.
    pub dice: Vec<Option<f64>>,
    /// Their mean.
    pub mean: Option<f64>,
    /// The standard deviation of that over the runs (n - 1); 0 of one.
    pub spread: f64,
    /// Saved effort on the measured cases per class, mean over the runs; empty where it was not measured.
    pub saved: Vec<Option<f64>>,
    /// The same where a contour within a pixel counts as right.
    pub near_saved: Vec<Option<f64>>,
    /// Seconds to read and draw a case.
    pub seconds_a_case: Option<f64>,
    /// Runs.
    pub runs: usize,
}

/// What an experiment came to, in a few figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What has to be said beside the figures, wherever they are shown.
    pub caveat: Option<String>,
    /// One a system that had everything labelled.
    pub full: Vec<Full>,
    /// Beside them, per class, what most labelled masks have at each voxel comes to; empty where that was not measured.
    pub majority_dice: Vec<Option<f64>>,
    /// One a system and strategy.
    pub curves: Vec<Curve>,
    /// One a system and strategy other than random, where random ran too.
    pub paired: Vec<Paired>,
    /// One a system and strategy that had asked for cases.
    pub efforts: Vec<EffortTable>,
}

impl Full {
    /// What stands behind the mean: its spread, of several runs.
    pub fn spread_words(&self) -> String {
        match self.runs {
            0 | 1 => String::new(),
            _ => format!(" +- {:.2}", 100.0 * self.spread),
        }
    }
}

impl Summary {
    /// What a curve's strategy is against random; `None` of random itself, or where that did not run.
    pub fn paired_of(&self, curve: &Curve) -> Option<&Paired> {
        let is_its = |paired: &&Paired| (paired.system, paired.strategy) == (curve.system, curve.strategy);
        self.paired.iter().find(is_its)
    }
}

/// The figures of an outcome, as far as it has come.
pub fn summarise(outcome: &Outcome) -> Summary {
    let runs = &outcome.runs;
    let mut systems: Vec<System> = Vec::new();
    let mut sides: Vec<(System, QueryStrategy)> = Vec::new();
    for run in runs {
        if !systems.contains(&run.system) {
            systems.push(run.system);
        }
        if !sides.contains(&(run.system, run.strategy)) {
            sides.push((run.system, run.strategy));
        }
    }
    let classes = outcome.experiment.settings.labels.0.len();
    let full: Vec<Full> = systems
        .iter()
        .filter_map(|&system| full(system, runs, classes))
        .collect();
    if outcome.experiment.kind == Kind::Full {
        sides.clear();
    }
    let of = |(system, strategy): (System, QueryStrategy)| {
        runs.iter()
            .filter(move |run| (run.system, run.strategy) == (system, strategy))
    };
    let curves = sides.iter().map(|&side| {
        let (system, strategy) = side;
        let spots = spots(&of(side).collect::<Vec<_>>());
        let best = full
            .iter()
            .find(|full| full.system == system)
            .and_then(|full| full.mean);
        let enough_at = best.and_then(|best| {
            let enough = spots.iter().find(|spot| spot.dice >= ENOUGH * best);
            enough.map(|spot| spot.fraction)
        });
        Curve {
            system,
            strategy,
            area: mean_of_known(of(side).map(|run| area(&run.points))),
            spots,
            enough_at,
        }
    });
    let curves = curves.collect();
    let paired = sides
        .iter()
        .filter(|(_, strategy)| *strategy != QueryStrategy::RANDOM);
    let paired = paired.filter_map(|&side| {
        let (system, strategy) = side;
        let differences: Vec<f64> = of(side)
            .filter_map(|run| {
                let mut random = of((system, QueryStrategy::RANDOM));
                let twin = random.find(|twin| (twin.fold, twin.seed) == (run.fold, run.seed))?;
                Some(area(&run.points)? - area(&twin.points)?)
            })
            .collect();
        let area = interval(&differences)?;
        Some(Paired {
            system,
            strategy,
            area,
        })
    });
    let paired = paired.collect();
    let efforts = sides
        .iter()
        .map(|&side| effort_table(side, &of(side).collect::<Vec<_>>(), classes));
    let is_voted = |run: &&RunOutcome| !run.majority_dice.is_empty();
    let voted: Vec<&RunOutcome> = runs.iter().filter(is_voted).collect();
    let of_class = |class: usize| mean_of_known(voted.iter().map(|run| run.majority_dice[class]));
    Summary {
        caveat: caveat(&outcome.experiment).map(|(words, _)| words.into()),
        majority_dice: (0..if voted.is_empty() { 0 } else { classes })
            .map(of_class)
            .collect(),
        curves,
        paired,
        efforts: efforts.collect(),
        full,
    }
}

/// Of a system, what its runs came to with everything labelled; `None` where none came that far.
fn full(system: System, runs: &[RunOutcome], classes: usize) -> Option<Full> {
    let is_full = |point: &&Point| point.fraction >= 1.0 - 1e-9;
    let runs = || runs.iter().filter(move |run| run.system == system);
    let full: Vec<&Point> = runs()
        .filter_map(|run| run.points.last().filter(is_full))
        .collect();
    let of_class =
        |class: usize| mean_of_known(full.iter().map(|point| point.dice.get(class).copied().flatten()));
    let means: Vec<f64> = full.iter().filter_map(|point| point.mean_dice()).collect();
    let saved = |class: usize| mean_of_known(runs().map(|run| run.held_out_effort.get(class)?.saved()));
    let near = |class: usize| mean_of_known(runs().map(|run| run.held_out_near_effort.get(class)?.saved()));
    let is_measured = runs().any(|run| !run.held_out_effort.is_empty());
    (!full.is_empty()).then(|| Full {
        system,
        dice: (0..classes).map(of_class).collect(),
        mean: mean(&means),
        spread: mean(&means).map_or(0.0, |mean| deviation(&means, mean)),
        saved: (0..if is_measured { classes } else { 0 }).map(saved).collect(),
        near_saved: (0..if is_measured { classes } else { 0 }).map(near).collect(),
        seconds_a_case: mean_of_known(runs().map(|run| run.seconds_a_case)),
        runs: full.len(),
    })
}

/// Where the runs of one strategy are on the mean, by the number of labelled cases; those that every run has come to.
fn spots(runs: &[&RunOutcome]) -> Vec<Spot> {
    let steps = runs.iter().map(|run| run.points.len()).min().unwrap_or(0);
    let spot = |step: usize| {
        let here: Vec<&Point> = runs.iter().map(|run| &run.points[step]).collect();
        let dice: Vec<f64> = here.iter().filter_map(|point| point.mean_dice()).collect();
        let mean = mean(&dice)?;
        Some(Spot {
            labelled: here[0].labelled,
            fraction: here.iter().map(|point| point.fraction).sum::<f64>() / here.len() as f64,
            dice: mean,
            spread: deviation(&dice, mean),
            runs: dice.len(),
        })
    };
    (0..steps).filter_map(spot).collect()
}

/// Area under mean Dice over the fraction, by trapezoids, divided by the width; `None` of fewer than two measured points.
fn area(points: &[Point]) -> Option<f64> {
    let measured: Option<Vec<(f64, f64)>> = points
        .iter()
        .map(|point| Some((point.fraction, point.mean_dice()?)))
        .collect();
    let measured = measured?;
    let width = measured.last()?.0 - measured.first()?.0;
    let under = |pair: &[(f64, f64)]| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0;
    (width > 0.0).then(|| measured.windows(2).map(under).sum::<f64>() / width)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn deviation(values: &[f64], mean: f64) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// The mean of some differences, and the middle 95 % of the means of samples drawn from them with replacement; the same each
/// time.
///
/// Source: the percentile bootstrap, Efron, Ann. Statist. 7, 1979.
fn interval(differences: &[f64]) -> Option<Interval> {
    let mean = mean(differences)?;
    let mut rng = Rng::new(1).fork("bootstrap");
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn = (0..differences.len()).map(|_| differences[rng.below(differences.len())]);
            drawn.sum::<f64>() / differences.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
    Some(Interval {
        mean,
        low: at(0.025),
        high: at(0.975),
        pairs: differences.len(),
    })
}

/// Saved effort by iteration: of the rounds that asked for cases, the first of every run, the second, and so on.
fn effort_table(
    (system, strategy): (System, QueryStrategy),
    runs: &[&RunOutcome],
    classes: usize,
) -> EffortTable {
    let asked: Vec<Vec<&Point>> = runs
        .iter()
        .map(|run| {
            run.points
                .iter()
                .filter(|point| !point.asked.is_empty())
                .collect()
        })
        .collect();
    let iterations = asked.iter().map(Vec::len).max().unwrap_or(0);
    let by_iteration = |effort: fn(&Point) -> &[ClassEffort]| -> Vec<Vec<Option<f64>>> {
        let of = |class: usize, iteration: usize| {
            let here = asked.iter().filter_map(|points| points.get(iteration));
            mean_of_known(here.map(|point| effort(point).get(class).and_then(ClassEffort::saved)))
        };
        let all = |class| (0..iterations).map(|iteration| of(class, iteration)).collect();
        (0..classes).map(all).collect()
    };
    let mean = |saved: &[Vec<Option<f64>>]| -> Vec<Option<f64>> {
        let of_class = |iterations: &Vec<Option<f64>>| mean_of_known(iterations.iter().copied());
        saved.iter().map(of_class).collect()
    };
    let saved = by_iteration(|point| &point.effort);
    EffortTable {
        system,
        strategy,
        mean: mean(&saved),
        near_mean: mean(&by_iteration(|point| &point.near_effort)),
        saved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::CaseId;
    use crate::study::Experiment;

    fn effort(shared_px: u64, corrected_px: u64) -> ClassEffort {
        ClassEffort {
            predicted_px: corrected_px,
            corrected_px,
            shared_px,
            erased_px: 0,
            added_path_mm: 0.0,
            dice: None,
        }
    }

    fn point(labelled: usize, of: usize, dice: f64, saved: Option<(u64, u64)>) -> Point {
        let near = saved.map(|(_, corrected)| effort(corrected, corrected));
        let effort = saved.map(|(shared, corrected)| effort(shared, corrected));
        Point {
            labelled,
            fraction: labelled as f64 / of as f64,
            asked: effort.iter().map(|_| CaseId::new("a").unwrap()).collect(),
            dice: vec![Some(dice), Some(dice), None],
            effort: effort.into_iter().collect(),
            near_effort: near.into_iter().collect(),
            training_s: 1.0,
            predicting_s: 1.0,
        }
    }

    fn run(strategy: QueryStrategy, seed: u64, dice: [f64; 3]) -> RunOutcome {
        let points = (2..).zip(dice);
        RunOutcome {
            name: String::new(),
            fold: 1,
            seed,
            system: System::of(&crate::settings::Settings::default()),
            strategy,
            points: points
                .map(|(labelled, dice)| {
                    point(labelled, 4, dice, (labelled > 2).then_some((labelled as u64, 8)))
                })
                .collect(),
            majority_dice: Vec::new(),
            held_out_near_effort: vec![effort(4, 4)],
            curve: Vec::new(),
            seconds_a_case: Some(seed as f64),
            held_out_effort: vec![effort(seed, 4)],
            held: 0,
        }
    }

    fn outcome(runs: Vec<RunOutcome>) -> Outcome {
        Outcome {
            version: String::new(),
            experiment: Experiment {
                kind: Kind::Query,
                seeds: vec![1, 2],
                systems: vec![System::of(&crate::settings::Settings::default())],
                strategies: vec![QueryStrategy::AVERAGE_BVSB, QueryStrategy::RANDOM],
                start: 2,
                budget: 1,
                rounds: 0,
                folds: 1,
                test: Vec::new(),
                weights: None,
                cases: Vec::new(),
                settings: crate::settings::Settings::default(),
            },
            files: Vec::new(),
            weights: None,
            machines: vec![crate::records::Machine {
                processor: "test".into(),
                cores: 2,
                threads: 1,
                instructions: "none".into(),
                precision: "f32".into(),
                gpu: None,
            }],
            runs,
        }
    }

    /// 0.8, 0.9, 1.0 over equal steps: the area is 0.9; with everything labelled 1.0, of which 0.99 is not reached before.
    #[test]
    fn areas_shares_and_differences_are_what_a_pencil_gives() {
        let runs = vec![
            run(QueryStrategy::AVERAGE_BVSB, 1, [0.8, 0.9, 1.0]),
            run(QueryStrategy::RANDOM, 1, [0.8, 0.8, 1.0]),
            run(QueryStrategy::AVERAGE_BVSB, 2, [0.6, 1.0, 1.0]),
            run(QueryStrategy::RANDOM, 2, [0.6, 0.8, 1.0]),
        ];
        let summary = summarise(&outcome(runs));
        let [full] = &summary.full[..] else { panic!() };
        assert_eq!((full.mean, full.runs), (Some(1.0), 4));
        assert_eq!(full.dice, [Some(1.0), Some(1.0), None]);
        let [bvsb, random] = &summary.curves[..] else {
            panic!()
        };
        assert!((bvsb.area.unwrap() - 0.9).abs() < 1e-12, "{bvsb:?}");
        assert!((random.area.unwrap() - 0.825).abs() < 1e-12, "{random:?}");
        assert_eq!((bvsb.enough_at, random.enough_at), (Some(1.0), Some(1.0)));
        let middle = bvsb.spots[1];
        assert!(
            (middle.dice - 0.95).abs() < 1e-12 && (middle.spread - 0.005f64.sqrt()).abs() < 1e-12,
            "{middle:?}"
        );
        assert_eq!((middle.fraction, middle.runs), (0.75, 2));
        // Differences 0.05 and 0.1: every resample's mean is between them.
        let [paired] = summary.paired[..] else { panic!() };
        assert!((paired.area.mean - 0.075).abs() < 1e-12, "{paired:?}");
        assert!((paired.area.low - 0.05).abs() < 1e-12 && (paired.area.high - 0.1).abs() < 1e-12);
        let effort = &summary.efforts[0];
        assert_eq!(effort.saved[0], [Some(3.0 / 8.0), Some(0.5)]);
        assert_eq!((effort.mean[0], effort.mean[1]), (Some(3.5 / 8.0), None));
        assert_eq!(effort.near_mean, [Some(1.0), None, None]);
        assert_eq!(full.seconds_a_case, Some(1.5));
        assert_eq!(full.saved, [Some(1.5 / 4.0), None, None]);
        assert_eq!(full.near_saved, [Some(1.0), None, None]);
    }

    /// 0.8 and 1.0 are 0.1 off their mean: the squares' sum over n - 1 is 0.02.
    #[test]
    fn several_runs_with_everything_labelled_have_a_spread_and_one_has_none() {
        let last = |seed, dice| run(QueryStrategy::RANDOM, seed, [0.5, 0.6, dice]);
        let several = summarise(&outcome(vec![last(1, 0.8), last(2, 1.0)]));
        assert!((several.full[0].spread - 0.02f64.sqrt()).abs() < 1e-12);
        assert_eq!(several.full[0].spread_words(), " +- 14.14");
        let one = summarise(&outcome(vec![last(1, 0.8)]));
        assert_eq!(
            (one.full[0].spread, one.full[0].spread_words().as_str()),
            (0.0, "")
        );
    }

    #[test]
    fn figures_of_ibsr18_never_stand_alone() {
        let mut outcome = outcome(vec![run(QueryStrategy::RANDOM, 1, [0.5, 0.6, 0.8])]);
        assert_eq!(summarise(&outcome).caveat, None);
        outcome.experiment.cases.push(crate::study::StoredCase {
            id: CaseId::new("IBSR_01").unwrap(),
            images: Vec::new(),
            mask: Default::default(),
        });
        let summary = summarise(&outcome);
        assert!(summary.caveat.as_ref().unwrap().contains("not the paper's split"));
        let csv = crate::study::csv(&outcome);
        assert!(
            csv.lines()
                .skip(1)
                .all(|line| line.ends_with("\"IBSR18: not the paper's split, ventricular CSF\"")),
            "{csv}"
        );
        let charts = crate::study::charts(&outcome, &summary);
        assert!(
            !charts.is_empty()
                && charts
                    .iter()
                    .all(|(_, chart)| chart.x.contains("not the paper's split"))
        );
        let page = crate::study::html(&outcome, &summary, &[]);
        assert!(page.contains("ventricles alone"));
    }

    /// The second system is better by 0.1 throughout and asks worse than random.
    #[test]
    fn systems_are_summed_up_and_paired_each_by_itself() {
        let other: System = "voxresnet".parse().unwrap();
        let of = |strategy, dice| RunOutcome {
            system: other,
            ..run(strategy, 1, dice)
        };
        let runs = vec![
            run(QueryStrategy::AVERAGE_BVSB, 1, [0.5, 0.7, 0.8]),
            run(QueryStrategy::RANDOM, 1, [0.5, 0.6, 0.8]),
            of(QueryStrategy::AVERAGE_BVSB, [0.6, 0.6, 0.9]),
            of(QueryStrategy::RANDOM, [0.6, 0.8, 0.9]),
        ];
        let summary = summarise(&outcome(runs));
        let full: Vec<(String, Option<f64>)> = summary
            .full
            .iter()
            .map(|full| (full.system.to_string(), full.mean))
            .collect();
        assert_eq!(
            full,
            [("u-net".into(), Some(0.8)), ("voxresnet".into(), Some(0.9))]
        );
        let paired: Vec<f64> = summary.paired.iter().map(|paired| paired.area.mean).collect();
        assert!(
            (paired[0] - 0.05).abs() < 1e-12 && (paired[1] + 0.1).abs() < 1e-12,
            "{paired:?}"
        );
        assert_eq!((summary.curves.len(), summary.efforts.len()), (4, 4));
        // 0.9 of its own best is not enough for the one, though it were for the other.
        assert!(summary.curves.iter().all(|curve| curve.enough_at == Some(1.0)));
    }

    #[test]
    fn what_is_not_known_yet_is_not_made_up() {
        let mut half = run(QueryStrategy::AVERAGE_BVSB, 1, [0.8, 0.9, 1.0]);
        half.points.truncate(1);
        let summary = summarise(&outcome(vec![half]));
        assert_eq!((summary.full.len(), summary.curves[0].area), (0, None));
        assert_eq!(summary.curves[0].enough_at, None);
        assert_eq!(summary.paired, []);
        assert_eq!(summarise(&outcome(Vec::new())).curves, []);
    }

    #[test]
    fn the_interval_of_equal_differences_has_no_width_and_is_the_same_each_time() {
        let same = interval(&[0.25; 5]).unwrap();
        assert_eq!((same.low, same.mean, same.high), (0.25, 0.25, 0.25));
        let spread = [0.0, 0.1, -0.2, 0.4, 0.3];
        assert_eq!(interval(&spread), interval(&spread));
        let found = interval(&spread).unwrap();
        assert!(found.low < found.mean && found.mean < found.high && found.low > -0.2 && found.high < 0.4);
        assert_eq!(interval(&[]), None);
    }
}
