//! Rounds: from asking to having learnt, a journalled step at a time.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::EngineError;
use super::actor::{Actor, Goal, Job, Reply};
use super::project::next;
use crate::effort::pooled;
use crate::protocol::{Answer, NextStep};
use crate::query::{CANDIDATES, spread};
use crate::records::{
    Case, ClassEffort, Correction, ModelId, Prediction, Round, RoundId, RoundState, Row, Task, TaskResult,
    What, mean_of_known,
};
use crate::settings::{Settings, Strategy};

impl Actor {
    /// Begins a round: asks for cases by the current model; without a model it trains on the labels there are,
    /// and without labels either it asks in a random order.
    pub(super) fn start_round(
        &mut self,
        who: &str,
        from_scratch: bool,
        budget: Option<usize>,
        strategy: Option<Strategy>,
    ) -> Result<Reply, EngineError> {
        self.need_idle()?;
        let snapshot = &self.project.snapshot;
        if let Some(why) = &snapshot.project.satisfied {
            return EngineError::refused(format!(
                "the performance was declared satisfactory ({why}); `overtrace round reopen` goes on"
            ));
        }
        if let Some(round) = snapshot.open_round() {
            return EngineError::refused(format!(
                "round {} is {}; end it first with `overtrace round train` or `overtrace round abandon`",
                round.id,
                round.state.word()
            ));
        }
        // A round that is not begun leaves the settings as they were.
        let before = snapshot.settings.clone();
        self.reload_settings(from_scratch)?;
        let begun = self.begin_round(who, from_scratch, budget, strategy);
        if self.project.snapshot.open_round().is_none() {
            self.put_settings(before)?;
        }
        begun
    }

    fn begin_round(
        &mut self,
        who: &str,
        from_scratch: bool,
        budget: Option<usize>,
        strategy: Option<Strategy>,
    ) -> Result<Reply, EngineError> {
        let snapshot = &self.project.snapshot;
        let query = &snapshot.settings.query;
        let (strategy, budget) = (strategy.unwrap_or(query.strategy), budget.unwrap_or(query.budget));
        if !(1..=1000).contains(&budget) {
            return EngineError::refused(format!("a budget of {budget} cases; it has to lie in 1 to 1000"));
        }
        let step = snapshot.next_step(from_scratch);
        let trains_at_once = step == NextStep::Train && (from_scratch || self.has_new_labels()?);
        let asks = snapshot.cases.values().any(Case::is_askable);
        if !trains_at_once && !asks {
            let words =
                "no unlabelled case is left to ask for, and none has come back since the last training";
            return Ok(Answer::Nothing(words.into()).into());
        }
        // A round that cannot run is not begun.
        if trains_at_once {
            self.training_set()?;
        } else {
            self.check_channels(Case::is_askable)?;
            self.check_strategy(strategy)?;
        }
        let snapshot = &self.project.snapshot;
        let id = RoundId(next(&snapshot.rounds, |id| id.0));
        let round = Round {
            id,
            state: RoundState::Querying,
            settings: self.project.store.blobs().put_json(&snapshot.settings)?,
            from_scratch,
            strategy,
            budget: if trains_at_once { 0 } else { budget },
            ranking: None,
            queried: Vec::new(),
            returned: 0,
            parent: if from_scratch {
                None
            } else {
                snapshot.project.model
            },
            training_set: None,
            labelled: 0,
            unlabelled: None,
            model: None,
            effort: Vec::new(),
            held_out_dice: Vec::new(),
            held_out: 0,
            training_s: 0.0,
            predicting_s: 0.0,
            started_at: Timestamp::now(),
            ended_at: None,
        };
        self.commit(who, What::RoundStarted, None, vec![Row::Round(round)])?;
        if trains_at_once {
            self.begin_training(who)
        } else {
            self.predict_then(Goal::Query { strategy, budget }, who)
        }
    }

    /// Goes on with the open round: trains without the cases that are not back, or takes up again what was
    /// interrupted.
    pub(super) fn train(&mut self, who: &str) -> Result<Reply, EngineError> {
        self.need_idle()?;
        let Some(round) = self.project.snapshot.open_round().cloned() else {
            return EngineError::refused("no round is open; `overtrace round start` begins one");
        };
        match round.state {
            // What has begun goes on with the settings it began with.
            RoundState::Training | RoundState::Evaluating => {
                let begun: Settings = self.project.store.blobs().get_json(round.settings)?;
                let now = self.project.snapshot.settings.clone();
                self.put_settings(Settings {
                    effort: now.effort,
                    inbox: now.inbox,
                    store: now.store,
                    ..begun
                })?;
            }
            _ => self.reload_settings(round.from_scratch)?,
        }
        match round.state {
            RoundState::Evaluating => self.predict_then(Goal::Evaluate(round.id), who),
            RoundState::Training => self.run_training(who, &round),
            RoundState::Querying if round.budget > 0 => {
                let goal = Goal::Query {
                    strategy: round.strategy,
                    budget: round.budget,
                };
                self.predict_then(goal, who)
            }
            _ => self.begin_training(who),
        }
    }

    /// Goes on when a task has ended.
    pub(super) fn conclude(&mut self, job: Job, result: TaskResult) -> Result<Reply, EngineError> {
        let seconds = job.began.elapsed().as_secs_f64();
        if let Some((who, why)) = job.abandon {
            // Whatever the task came to, somebody wanted the round ended.
            return self.abandon(&who, why).map(Reply::Now);
        }
        if let Some(error) = job.lost {
            return Err(error);
        }
        match (result, job.goal) {
            (TaskResult::Trained(trained), Goal::Train(_)) => self.trained(&job.who, trained),
            // A case may have joined the pool meanwhile.
            (TaskResult::Predicted, goal) => match self.predict_task(&goal) {
                None => self.after_predicting(goal, &job.who, seconds),
                Some(task) => {
                    let reply = self.begin(goal, &job.who, Task::Predict(task));
                    if let Some(next) = &mut self.job {
                        next.began = job.began;
                    }
                    Ok(reply)
                }
            },
            (TaskResult::Cancelled, _) => {
                EngineError::refused("stopped; `overtrace round train` takes it up again")
            }
            (TaskResult::Failed(why), goal) => {
                tracing::error!(?goal, why, "a task failed");
                let next = match goal {
                    Goal::Rank(..) | Goal::HandOut { .. } => "ask again",
                    Goal::Query { .. } | Goal::Train(_) | Goal::Evaluate(_) => {
                        "run `overtrace round train`, or abandon the round"
                    }
                };
                EngineError::refused(format!("the worker failed: {why}; mend that and {next}"))
            }
            (result, goal) => EngineError::refused(format!("the worker answered {goal:?} by {result:?}")),
        }
    }

    /// What a goal wanted its predictions for.
    pub(super) fn after_predicting(
        &mut self,
        goal: Goal,
        who: &str,
        seconds: f64,
    ) -> Result<Reply, EngineError> {
        match goal {
            Goal::Rank(strategy, pixels) => {
                let ranking = self.rank_pool(who, strategy, pixels)?;
                Ok(Answer::Done(self.ranking_words(&ranking)).into())
            }
            Goal::Query { strategy, budget } => self.ask(who, strategy, budget, seconds),
            Goal::HandOut { case, owner, again } => {
                self.hand_out(who, &case, owner, None, again).map(Reply::Now)
            }
            Goal::Evaluate(_) => self.close(who, seconds),
            Goal::Train(_) => EngineError::refused("training does not end in predictions"),
        }
    }

    /// Asks for the first cases of a new ranking.
    fn ask(
        &mut self,
        who: &str,
        strategy: Strategy,
        budget: usize,
        seconds: f64,
    ) -> Result<Reply, EngineError> {
        let pixels = self.project.snapshot.settings.query.pixels;
        let ranking = self.rank_pool(who, strategy, pixels)?;
        let mut round = self.open_round()?;
        let snapshot = &self.project.snapshot;
        let first = snapshot.order.iter().map(|scored| scored.case.clone());
        let differ = snapshot.settings.query.diversity && budget > 1 && ranking.model.is_some();
        round.queried = match differ {
            false => first.take(budget).collect(),
            true => {
                let candidates = first.take(CANDIDATES * budget);
                let like = candidates.filter_map(|id| {
                    let drawn = snapshot.predictions.get(&id)?;
                    Some((id, likeness(drawn)))
                });
                spread(&like.collect::<Vec<_>>(), budget)
            }
        };
        round.ranking = Some(ranking.id);
        round.predicting_s += seconds;
        advance(&mut round, RoundState::Correcting)?;
        let mut rows: Vec<Row> = round
            .queried
            .iter()
            .map(|id| {
                Row::Case(Case {
                    queried: Some(round.id),
                    ..snapshot.cases[id].clone()
                })
            })
            .collect();
        let asked: Vec<&str> = round.queried.iter().map(|id| id.as_str()).collect();
        let words = format!(
            "round {} asks for {}; {}{}",
            round.id,
            asked.join(", "),
            self.ranking_words(&ranking),
            if differ { ", chosen to differ" } else { "" }
        );
        rows.push(Row::Round(round));
        self.commit(who, What::CasesQueried, None, rows)?;
        Ok(Answer::Done(words).into())
    }

    /// Measures the held-out pool, ranks the rest, and closes the round.
    fn close(&mut self, who: &str, seconds: f64) -> Result<Reply, EngineError> {
        let query = self.project.snapshot.settings.query.clone();
        if self.project.snapshot.cases.values().any(Case::is_askable) {
            self.rank_pool(who, query.strategy, query.pixels)?;
        }
        let mut round = self.open_round()?;
        let snapshot = &self.project.snapshot;
        let dice: Vec<&Vec<Option<f64>>> = snapshot
            .cases
            .values()
            .filter(|case| case.is_measuring())
            .filter_map(|case| snapshot.predictions.get(&case.id))
            .filter(|prediction| Some(prediction.model) == round.model)
            .map(|prediction| &prediction.dice)
            .collect();
        let classes = snapshot.settings.labels.0.len();
        if !dice.is_empty() {
            round.held_out_dice = (0..classes)
                .map(|class| mean_of_known(dice.iter().map(|case| case.get(class).copied().flatten())))
                .collect();
        }
        round.held_out = dice.len();
        round.predicting_s += seconds;
        round.ended_at = Some(Timestamp::now());
        advance(&mut round, RoundState::Closed)?;
        let mean = round.mean_dice();
        let measured = mean.map_or_else(
            || "no held-out case to measure on".to_string(),
            |mean| format!("held-out Dice {:.4} over {} cases", mean, dice.len()),
        );
        let model = round.model.expect("a round that is evaluated has made a model");
        let words = format!(
            "round {} closed: {model} on {} cases, {measured}",
            round.id, round.labelled
        );
        let missed = self.missed_classes(model);
        let words = if missed.is_empty() {
            words
        } else {
            format!(
                "{words}; {} was never found in validation: try another training.learning_rate, or train on more cases",
                missed.join(", ")
            )
        };
        let reached = mean.filter(|&mean| query.target_dice > 0.0 && mean >= query.target_dice);
        let why = reached.map(|mean| {
            format!(
                "held-out Dice {mean:.4} of round {} reached the target {}",
                round.id, query.target_dice
            )
        });
        let mut rows = vec![Row::Round(round)];
        let mut project = self.project.snapshot.project.clone();
        if let (Some(why), None) = (&why, &project.satisfied) {
            project.satisfied = Some(why.clone());
            rows.push(Row::Project(project));
        }
        self.commit(who, What::RoundClosed, why, rows)?;
        Ok(Answer::Done(words).into())
    }

    /// The classes that a model's best epoch did not find at all: soft Dice can settle on leaving a small class out,
    /// and nothing else would say so.
    fn missed_classes(&self, model: ModelId) -> Vec<String> {
        let snapshot = &self.project.snapshot;
        let dice = snapshot
            .models
            .get(&model)
            .map_or(&[][..], |model| &model.validation_dice);
        let missed = dice
            .iter()
            .enumerate()
            .filter(|(_, dice)| dice.is_some_and(|dice| dice < 0.01));
        missed
            .map(|(class, _)| snapshot.settings.labels.name_of(class + 1).to_string())
            .collect()
    }

    /// Ends the open round early; a running task is stopped first.
    pub(super) fn abandon_round(&mut self, who: &str, why: String) -> Result<Reply, EngineError> {
        if self.project.snapshot.open_round().is_none() {
            return Ok(Answer::Nothing("no round is open".into()).into());
        }
        if let Some(job) = &mut self.job {
            job.abandon = Some((who.to_string(), why));
            self.worker.cancel();
            return Ok(Reply::Later);
        }
        self.abandon(who, why).map(Reply::Now)
    }

    fn abandon(&mut self, who: &str, why: String) -> Result<Answer, EngineError> {
        let mut round = self.open_round()?;
        round.ended_at = Some(Timestamp::now());
        advance(&mut round, RoundState::Abandoned(why.clone()))?;
        let words = format!("round {} abandoned: {why}", round.id);
        let id = round.id;
        let mut rows = self.let_go(id);
        rows.push(Row::Round(round));
        self.commit(who, What::RoundAbandoned, Some(why), rows)?;
        self.project.forget_training(id);
        Ok(Answer::Done(words))
    }

    /// Ends the loop.
    pub(super) fn declare_satisfactory(&mut self, who: &str, why: String) -> Result<Answer, EngineError> {
        let mut project = self.project.snapshot.project.clone();
        if let Some(why) = &project.satisfied {
            return Ok(Answer::Nothing(format!(
                "it is declared satisfactory already: {why}"
            )));
        }
        if project.model.is_none() {
            return EngineError::refused("there is no model yet whose performance could satisfy");
        }
        project.satisfied = Some(why.clone());
        self.commit(
            who,
            What::DeclaredSatisfactory,
            Some(why),
            vec![Row::Project(project)],
        )?;
        Ok(Answer::Done(
            "the performance is declared satisfactory; no further round starts".into(),
        ))
    }

    /// Goes on after all.
    pub(super) fn reopen(&mut self, who: &str, why: String) -> Result<Answer, EngineError> {
        let mut project = self.project.snapshot.project.clone();
        if project.satisfied.take().is_none() {
            return Ok(Answer::Nothing("the loop is open already".into()));
        }
        self.commit(who, What::Reopened, Some(why), vec![Row::Project(project)])?;
        Ok(Answer::Done("the loop is open again".into()))
    }

    /// The open round with the saved effort of its corrections, brought up to date.
    pub(super) fn with_effort(&self, mut round: Round, newest: &Correction) -> Round {
        let corrections = self.project.snapshot.corrections.values().chain([newest]);
        round.effort = effort_of(round.id, corrections);
        round
    }

    /// The cases that a round still waits for, as they are when it no longer does; their hand-outs stay open.
    pub(super) fn let_go(&self, round: RoundId) -> Vec<Row> {
        let cases = self.project.snapshot.cases.values();
        let waited_for = cases.filter(|case| case.queried == Some(round)).cloned();
        waited_for
            .map(|case| {
                Row::Case(Case {
                    queried: None,
                    ..case
                })
            })
            .collect()
    }

    pub(super) fn open_round(&self) -> Result<Round, EngineError> {
        self.project.snapshot.open_round().cloned().ok_or_else(|| {
            EngineError::Refused("no round is open; `overtrace round start` begins one".into())
        })
    }
}

/// The saved effort of a round, of all corrections oldest first. Of a case that was corrected twice the later one counts, unless
/// that is another person's.
pub fn effort_of<'a>(
    round: RoundId,
    corrections: impl IntoIterator<Item = &'a Correction>,
) -> Vec<ClassEffort> {
    let mut by_case = BTreeMap::new();
    for correction in corrections {
        let counts = correction.round == Some(round) && !correction.effort.is_empty();
        if counts && !(correction.agreement.is_some() && by_case.contains_key(&correction.case)) {
            by_case.insert(&correction.case, correction.effort.as_slice());
        }
    }
    pooled(by_case.into_values())
}

/// Takes a round to its next state.
pub fn advance(round: &mut Round, next: RoundState) -> Result<(), EngineError> {
    if !round.state.may_become(&next) {
        return EngineError::refused(format!(
            "round {} is {} and cannot become {}",
            round.id,
            round.state.word(),
            next.word()
        ));
    }
    round.state = next;
    Ok(())
}

/// What a case is like, by what was drawn: how much of each class, and how sure all of it.
fn likeness(drawn: &Prediction) -> Vec<f64> {
    let pixels = drawn.sums.pixels.max(1) as f64;
    let shares = drawn.class_voxels.iter().map(|voxels| *voxels as f64 / pixels);
    shares.chain([drawn.sums.margin / pixels]).collect()
}
