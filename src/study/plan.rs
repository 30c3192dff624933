//! What an experiment is, and the runs it is made of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::query_strategy::{DIVERSE, FOREGROUND};
use super::{QueryStrategy, System};
use crate::imaging::Rng;
use crate::records::CaseId;
use crate::settings::{Pixels, Settings, Strategy};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// How good is the network when it learns from everything (the paper's Tables 1 and 2)?
    Full,
    /// Which strategy needs fewer cases (Fig. 8)?
    Query,
    /// How much of each asked case's contour need not be drawn (Tables 3 and 4)?
    Effort,
}

/// A labelled case as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCase {
    /// Its name.
    pub id: CaseId,
    /// Its images, one a channel.
    pub images: Vec<PathBuf>,
    /// Its mask: what the stand-in annotator hands in.
    pub mask: PathBuf,
}

/// An experiment, whole: the same one gives the same result on the same machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// What is asked.
    pub kind: Kind,
    /// The seeds: each draws its own first labelled cases and first weights.
    pub seeds: Vec<u64>,
    /// The systems that are held against each other.
    pub systems: Vec<System>,
    /// The strategies that are held against each other.
    pub strategies: Vec<QueryStrategy>,
    /// Labelled cases to begin with.
    pub start: usize,
    /// Cases asked for in a round.
    pub budget: usize,
    /// Rounds of asking; 0 goes on until every case is labelled.
    pub rounds: usize,
    /// Parts that the cases are cut into, each measured on once while the others train; 1 where `test` says what is measured on.
    pub folds: usize,
    /// Cases that only measure.
    pub test: Vec<CaseId>,
    /// Weights to begin with, whatever the seed: instead of labelled cases, or before learning from all of them.
    pub weights: Option<PathBuf>,
    /// All cases, those of `test` too.
    pub cases: Vec<StoredCase>,
    /// How each run is set.
    pub settings: Settings,
}

/// Why there is no such experiment.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to draw from.
    #[error(
        "a fold has {train} cases to train on and starts from {start} of them; give more cases, or start from fewer"
    )]
    TooFew {
        /// Cases that are not measured on.
        train: usize,
        /// Labelled ones to begin with.
        start: usize,
    },
    /// Nothing is measured.
    #[error("no case is left to measure on; name some by --test, or have --folds cut the cases into parts")]
    NoTest,
    /// A name that is no case's.
    #[error("--test names {0}, which is none of the cases")]
    NoCase(CaseId),
    /// Something that is held against itself.
    #[error("{0} is named twice; once is enough")]
    Twice(String),
    /// A strategy that a system cannot follow.
    #[error(
        "{0} is a single network, which has nobody to disagree with; leave the strategy disagreement out, or the system"
    )]
    Alone(System),
    /// Settings that no strategy carries: strategies are what their names say.
    #[error(
        "the settings have {setting}, and none of the strategies: name one that ends with {ending}, or leave that setting out"
    )]
    Unused {
        /// Which.
        setting: &'static str,
        /// What its name would end with.
        ending: &'static str,
    },
    /// A choice among one.
    #[error(
        "{0}: of one case a round none is chosen to differ; give --budget 2 or more, or another strategy"
    )]
    NoChoice(QueryStrategy),
    /// A number that makes no experiment.
    #[error("{what} is {value}; it has to be {remedy}")]
    Number {
        /// Which.
        what: &'static str,
        /// What it is.
        value: usize,
        /// What it has to be.
        remedy: &'static str,
    },
}

/// One project of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The fold that is measured on, from 1.
    pub fold: usize,
    /// Its seed.
    pub seed: u64,
    /// What it trains.
    pub system: System,
    /// How it asks.
    pub strategy: QueryStrategy,
    /// Labelled from the start.
    pub labelled: Vec<CaseId>,
    /// To ask for.
    pub pool: Vec<CaseId>,
    /// To measure on.
    pub test: Vec<CaseId>,
}

impl Experiment {
    /// Its runs, those that are held against each other side by side.
    ///
    /// # Errors
    /// [`PlanError`] where there are too few cases for them.
    pub fn runs(&self) -> Result<Vec<Run>, PlanError> {
        self.check()?;
        let mut runs = Vec::new();
        for (fold, test) in (1..).zip(self.tests()?) {
            let train: Vec<CaseId> = self.cases.iter().map(|case| case.id.clone()).collect();
            let train: Vec<CaseId> = train.into_iter().filter(|id| !test.contains(id)).collect();
            let start = match self.kind {
                Kind::Full => train.len(),
                Kind::Query | Kind::Effort => self.start,
            };
            if train.is_empty() || start > train.len() || (self.kind != Kind::Full && start == train.len()) {
                return Err(PlanError::TooFew {
                    train: train.len(),
                    start,
                });
            }
            let strategies = match self.kind {
                // It asks for nothing.
                Kind::Full => &[QueryStrategy::AVERAGE_BVSB][..],
                Kind::Query | Kind::Effort => &self.strategies,
            };
            // Random first: the others are shown beside it.
            let mut strategies = strategies.to_vec();
            strategies.sort_by_key(|side| *side != QueryStrategy::RANDOM);
            let seeds = self
                .seeds
                .iter()
                .flat_map(|&seed| self.systems.iter().map(move |&system| (seed, system)));
            for (seed, system) in seeds {
                let mut drawn = train.clone();
                Rng::new(seed).fork("first labelled cases").shuffle(&mut drawn);
                let pool = drawn.split_off(start);
                runs.extend(strategies.iter().map(|&strategy| Run {
                    fold,
                    seed,
                    system,
                    strategy,
                    labelled: drawn.clone(),
                    pool: pool.clone(),
                    test: test.clone(),
                }));
            }
        }
        Ok(runs)
    }

    /// Whether what it holds against each other can be.
    fn check(&self) -> Result<(), PlanError> {
        let number = |what, value, remedy| Err(PlanError::Number { what, value, remedy });
        if self.seeds.is_empty() {
            return number("the number of seeds", 0, "at least 1");
        }
        if self.systems.is_empty() {
            return number("the number of systems", 0, "at least 1");
        }
        if self.strategies.is_empty() && self.kind != Kind::Full {
            return number("the number of strategies", 0, "at least 1");
        }
        if self.budget == 0 {
            return number("--budget", 0, "at least 1");
        }
        if self.start == 0 && self.weights.is_none() && self.kind != Kind::Full {
            return number("--start", 0, "at least 1 without --weights");
        }
        let systems = self.systems.iter().map(System::to_string);
        let strategies = self.strategies.iter().map(QueryStrategy::to_string);
        let mut named: Vec<String> = systems.chain(strategies).collect();
        named.sort();
        if let Some(twice) = named.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(PlanError::Twice(twice[0].clone()));
        }
        let alone = |system: &&System| !system.networks.is_committee();
        if let Some(alone) = self.systems.iter().find(alone)
            && self
                .strategies
                .iter()
                .any(|side| side.strategy == Strategy::Disagreement)
        {
            return Err(PlanError::Alone(*alone));
        }
        let sides = &self.strategies;
        let query = &self.settings.query;
        let unused = |setting, ending| Err(PlanError::Unused { setting, ending });
        let asks = self.kind != Kind::Full;
        let over_foreground = sides.iter().any(|side| side.pixels == Pixels::Foreground);
        if asks && query.pixels == Pixels::Foreground && !over_foreground {
            return unused("query.pixels = \"foreground\"", FOREGROUND);
        }
        let diverse = sides.iter().find(|side| side.diverse);
        if asks && query.diversity && diverse.is_none() {
            return unused("query.diversity = true", DIVERSE);
        }
        match diverse {
            Some(diverse) if self.budget == 1 => Err(PlanError::NoChoice(*diverse)),
            _ => Ok(()),
        }
    }

    /// The cases that each fold measures on.
    fn tests(&self) -> Result<Vec<Vec<CaseId>>, PlanError> {
        let known = |id: &&CaseId| !self.cases.iter().any(|case| case.id == **id);
        if let Some(stranger) = self.test.iter().find(known) {
            return Err(PlanError::NoCase(stranger.clone()));
        }
        if !self.test.is_empty() {
            return Ok(vec![self.test.clone()]);
        }
        if self.folds < 2 || self.cases.len() < self.folds {
            return Err(PlanError::NoTest);
        }
        let mut all: Vec<CaseId> = self.cases.iter().map(|case| case.id.clone()).collect();
        all.sort();
        Rng::new(self.seeds[0]).fork("folds").shuffle(&mut all);
        let mut folds = vec![Vec::new(); self.folds];
        for (at, id) in all.into_iter().enumerate() {
            folds[at % self.folds].push(id);
        }
        Ok(folds)
    }

    /// What every run of a fold, seed and system begins with: `fold1-seed2`, and the system where there are several.
    pub fn beginning_of(&self, run: &Run) -> String {
        let begun = format!("fold{}-seed{}", run.fold, run.seed);
        match self.systems.len() {
            1 => begun,
            _ => format!("{begun}-{}", run.system),
        }
    }

    /// The name of a run's folder, `fold1-seed2-average-bvsb`: without its strategy where it asks for nothing.
    pub fn name_of(&self, run: &Run) -> String {
        match self.kind {
            Kind::Full => self.beginning_of(run),
            Kind::Query | Kind::Effort => format!("{}-{}", self.beginning_of(run), run.strategy),
        }
    }

    /// What a system that asks so is called.
    pub fn words_of(&self, system: System, strategy: QueryStrategy) -> String {
        match self.systems.len() {
            1 => strategy.words(),
            _ => format!("{system}, {}", strategy.words()),
        }
    }

    /// How a run is set: the experiment's settings, but for what makes it that run.
    pub fn settings_of(&self, run: &Run) -> Settings {
        let mut settings = self.settings.clone();
        run.system.apply(&mut settings);
        run.strategy.apply(&mut settings);
        settings.training.seed = run.seed;
        settings.query.seed = run.seed;
        settings.query.budget = self.budget;
        // The experiment says when.
        settings.query.train_when_complete = false;
        settings.query.target_dice = 0.0;
        settings.inbox.stable_s = 0.0;
        let random = Run {
            strategy: QueryStrategy::RANDOM,
            ..run.clone()
        };
        // The app shows its rounds beside those of the run that asked at random, and those of all others of its seed.
        let has_control =
            run.strategy != QueryStrategy::RANDOM && self.strategies.contains(&QueryStrategy::RANDOM);
        settings.query.control = match has_control && self.kind != Kind::Full {
            true => PathBuf::from("..").join(self.name_of(&random)),
            false => PathBuf::new(),
        };
        let others = self.sides().filter(|side| *side != (run.system, run.strategy));
        let control = (run.system, QueryStrategy::RANDOM);
        let others = others.filter(|side| !has_control || *side != control);
        settings.query.beside = others
            .map(|(system, strategy)| {
                let other = Run {
                    system,
                    strategy,
                    ..run.clone()
                };
                PathBuf::from("..").join(self.name_of(&other))
            })
            .collect();
        settings
    }

    /// The systems and strategies that ask for cases.
    fn sides(&self) -> impl Iterator<Item = (System, QueryStrategy)> {
        let asks = self.kind != Kind::Full;
        let systems = self.systems.iter().filter(move |_| asks);
        systems.flat_map(|&system| self.strategies.iter().map(move |&strategy| (system, strategy)))
    }

    /// Rounds of asking that a run with `pool` cases to ask for has.
    pub fn rounds_of(&self, pool: usize) -> usize {
        let all = pool.div_ceil(self.budget);
        match (self.kind, self.rounds) {
            (Kind::Full, _) => 0,
            (_, 0) => all,
            (_, rounds) => rounds.min(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn experiment(cases: usize) -> Experiment {
        let case = |n: usize| StoredCase {
            id: CaseId::new(&format!("c{n}")).unwrap(),
            images: vec![format!("c{n}.nii.gz").into()],
            mask: format!("c{n}_seg.nii.gz").into(),
        };
        Experiment {
            kind: Kind::Query,
            seeds: vec![1, 2],
            systems: vec![System::of(&Settings::default())],
            strategies: vec![QueryStrategy::AVERAGE_BVSB, QueryStrategy::RANDOM],
            start: 2,
            budget: 1,
            rounds: 0,
            folds: 2,
            test: Vec::new(),
            weights: None,
            cases: (0..cases).map(case).collect(),
            settings: Settings::default(),
        }
    }

    #[test]
    fn every_case_is_measured_on_once_and_strategies_of_a_seed_begin_alike() {
        let experiment = experiment(9);
        let runs = experiment.runs().unwrap();
        assert_eq!(runs.len(), 2 * 2 * 2);
        assert_eq!(experiment.name_of(&runs[0]), "fold1-seed1-random");
        let mut measured: Vec<CaseId> = [&runs[0], &runs[4]]
            .iter()
            .flat_map(|run| run.test.clone())
            .collect();
        measured.sort();
        assert_eq!(
            measured,
            experiment
                .cases
                .iter()
                .map(|case| case.id.clone())
                .collect::<Vec<_>>()
        );
        for pair in runs.chunks(2) {
            assert_eq!(
                (&pair[0].labelled, &pair[0].pool),
                (&pair[1].labelled, &pair[1].pool)
            );
            let all = pair[0].labelled.len() + pair[0].pool.len() + pair[0].test.len();
            assert_eq!((pair[0].labelled.len(), all), (2, 9));
        }
        assert_ne!(runs[0].labelled, runs[2].labelled, "another seed draws others");
        assert_eq!(experiment.runs(), experiment.runs());
        let settings = experiment.settings_of(&runs[3]);
        assert_eq!(
            (settings.training.seed, settings.query.control),
            (2, "../fold1-seed2-random".into())
        );
    }

    #[test]
    fn systems_of_a_seed_begin_with_the_same_cases_and_folders_of_their_own() {
        let several = Experiment {
            systems: ["u-net", "voxresnet-mse"]
                .map(|name| name.parse().unwrap())
                .to_vec(),
            ..experiment(9)
        };
        let runs = several.runs().unwrap();
        assert_eq!(runs.len(), 2 * 2 * 2 * 2);
        let names: Vec<String> = runs[..4].iter().map(|run| several.name_of(run)).collect();
        assert_eq!(names[3], "fold1-seed1-voxresnet-mse-average-bvsb");
        assert!(runs[..4].iter().all(|run| run.labelled == runs[0].labelled));
        let settings = several.settings_of(&runs[3]);
        assert_eq!(settings.model.networks.to_string(), "voxresnet");
        assert_eq!(
            settings.query.control,
            PathBuf::from("../fold1-seed1-voxresnet-mse-random")
        );
        let beside: Vec<String> = settings
            .query
            .beside
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(
            beside,
            ["../fold1-seed1-u-net-average-bvsb", "../fold1-seed1-u-net-random"]
        );
        assert_eq!(
            several.words_of(runs[3].system, runs[3].strategy),
            "voxresnet-mse, Average BvSB"
        );
    }

    #[test]
    fn strategies_over_foreground_and_chosen_to_differ_are_sides_of_their_own() {
        let several = Experiment {
            strategies: ["average-bvsb", "average-bvsb-foreground-diverse", "random"]
                .map(|name| name.parse().unwrap())
                .to_vec(),
            budget: 2,
            ..experiment(9)
        };
        let runs = several.runs().unwrap();
        assert_eq!(
            several.name_of(&runs[2]),
            "fold1-seed1-average-bvsb-foreground-diverse"
        );
        let query = several.settings_of(&runs[2]).query;
        assert_eq!(
            (query.strategy, query.pixels, query.diversity),
            (Strategy::AverageBvsb, Pixels::Foreground, true)
        );
        assert_eq!(query.control, PathBuf::from("../fold1-seed1-random"));
        assert_eq!(query.beside, [PathBuf::from("../fold1-seed1-average-bvsb")]);
    }

    #[test]
    fn an_experiment_that_cannot_be_is_told_apart() {
        let with = |change: fn(&mut Experiment)| {
            let mut experiment = experiment(6);
            change(&mut experiment);
            experiment.runs().unwrap_err()
        };
        assert_eq!(with(|e| e.folds = 1), PlanError::NoTest);
        assert_eq!(with(|e| e.start = 3), PlanError::TooFew { train: 3, start: 3 });
        assert!(matches!(
            with(|e| e.test = vec![CaseId::new("x").unwrap()]),
            PlanError::NoCase(_)
        ));
        assert_eq!(
            with(|e| e.systems.push(e.systems[0])),
            PlanError::Twice("u-net".into())
        );
        assert_eq!(
            with(|e| e.strategies.push(QueryStrategy::RANDOM)),
            PlanError::Twice("random".into())
        );
        assert!(matches!(
            with(|e| e.strategies.push("disagreement".parse().unwrap())),
            PlanError::Alone(_)
        ));
        assert!(matches!(
            with(|e| e.strategies.push("entropy-diverse".parse().unwrap())),
            PlanError::NoChoice(_)
        ));
        for unused in [
            |e: &mut Experiment| e.settings.query.pixels = Pixels::Foreground,
            |e: &mut Experiment| e.settings.query.diversity = true,
        ] {
            assert!(matches!(with(unused), PlanError::Unused { .. }));
        }
        let wrong: [fn(&mut Experiment); 5] = [
            |e| e.systems.clear(),
            |e| e.seeds.clear(),
            |e| e.budget = 0,
            |e| e.start = 0,
            |e| e.strategies.clear(),
        ];
        for change in wrong {
            assert!(matches!(with(change), PlanError::Number { .. }));
        }
        let full = Experiment {
            kind: Kind::Full,
            start: 0,
            ..experiment(6)
        };
        let runs = full.runs().unwrap();
        assert_eq!(
            (runs.len(), runs[0].labelled.len(), runs[0].pool.len()),
            (4, 3, 0)
        );
        assert_eq!((full.rounds_of(0), experiment(6).rounds_of(3)), (0, 3));
    }
}
