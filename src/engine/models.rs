//! Models: drawing the pool, ranking it, weights from elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use super::EngineError;
use super::actor::{Actor, Goal, Reply};
use super::project::next;
use crate::model;
use crate::protocol::{Answer, Event};
use crate::query::{self, Candidate};
use crate::records::{
    Case, CaseId, Fixed, Model, ModelId, ModelOrigin, PredictCase, PredictTask, Predicted, Prediction,
    Ranking, RankingId, Row, SliceSums, Task, What,
};
use crate::settings::{Pixels, Strategy};

impl Actor {
    /// Predicts what the current model has not predicted, then ranks.
    pub(super) fn begin_rank(
        &mut self,
        who: &str,
        strategy: Option<Strategy>,
        pixels: Option<Pixels>,
    ) -> Result<Reply, EngineError> {
        self.need_idle()?;
        self.reload_settings(false)?;
        let query = &self.project.snapshot.settings.query;
        let (strategy, pixels) = (strategy.unwrap_or(query.strategy), pixels.unwrap_or(query.pixels));
        if !self.project.snapshot.cases.values().any(Case::is_askable) {
            return Ok(Answer::Nothing("no unlabelled case is left to rank".into()).into());
        }
        self.check_strategy(strategy)?;
        self.predict_then(Goal::Rank(strategy, pixels), who)
    }

    /// Whether the drawing model, if there is one, can rank so.
    pub(super) fn check_strategy(&self, strategy: Strategy) -> Result<(), EngineError> {
        match self.project.drawing_model() {
            Some(model)
                if strategy == Strategy::Disagreement && !model.architecture.networks.is_committee() =>
            {
                EngineError::refused(format!(
                    "{} is a single network, which has nobody to disagree with; rank by another strategy, or name several \
                     in model.networks and train from scratch",
                    model.id
                ))
            }
            _ => Ok(()),
        }
    }

    /// Has the drawing model predict the cases that `goal` wants and it has not predicted, then goes on with it; at
    /// once where nothing is missing or nothing can draw.
    pub(super) fn predict_then(&mut self, goal: Goal, who: &str) -> Result<Reply, EngineError> {
        match self.predict_task(&goal) {
            Some(task) => Ok(self.begin(goal, who, Task::Predict(task))),
            None => self.after_predicting(goal, who, 0.0),
        }
    }

    /// What is still to be drawn for a goal.
    pub(super) fn predict_task(&self, goal: &Goal) -> Option<PredictTask> {
        let (snapshot, blobs) = (&self.project.snapshot, self.project.store.blobs());
        let model = self.project.drawing_model()?;
        let cases: Vec<PredictCase> = snapshot
            .cases
            .values()
            .filter(|case| goal.wants(case) && case.images.len() == model.architecture.channels)
            .filter(|case| !self.is_predicted(case, model.id))
            .map(|case| PredictCase {
                id: case.id.clone(),
                images: case.images.iter().map(|&image| blobs.path(image)).collect(),
                mask: case.mask.map(|mask| (blobs.path(mask.blob), mask.blob)),
                plane: self.project.plane(&case.grid),
            })
            .collect();
        let folder = self.project.folder("work");
        (!cases.is_empty()).then(|| PredictTask {
            precision: snapshot.settings.compute.drawing_precision,
            architecture: model.architecture,
            weights: blobs.path(model.weights),
            cases,
            intensity: snapshot.settings.image.intensity,
            batch: snapshot.settings.training.batch,
            drawing: snapshot.settings.training.drawing(),
            threads: snapshot.settings.training.threads,
            folder,
        })
    }

    pub(super) fn is_predicted(&self, case: &Case, model: ModelId) -> bool {
        self.project
            .snapshot
            .predictions
            .get(&case.id)
            .is_some_and(|prediction| {
                prediction.model == model
                    && prediction.drawing == self.project.snapshot.settings.training.drawing()
                    && prediction.dice_mask == case.mask.map(|mask| mask.blob)
            })
    }

    /// Keeps what the worker drew; without room for it the work stops, and its end says why.
    pub(super) fn keep(&mut self, predicted: Predicted) {
        let Some(who) = self.job.as_ref().map(|job| job.who.clone()) else {
            return;
        };
        if let Err(error) = self.keep_prediction(&who, predicted)
            && let Some(job) = &mut self.job
        {
            job.lost = Some(error);
            self.worker.cancel();
        }
    }

    fn keep_prediction(&mut self, who: &str, drawn: Predicted) -> Result<(), EngineError> {
        let Some(model) = self.project.drawing_model().map(|model| model.id) else {
            return Ok(());
        };
        let blobs = self.project.store.blobs();
        let read =
            |path: &Path| std::fs::read(path).map_err(EngineError::io("reading the worker's result", path));
        let mut sums = SliceSums::default();
        drawn.slices.iter().for_each(|slice| sums += *slice);
        let row = Row::Prediction(Prediction {
            labels: blobs.put(&read(&drawn.labels)?)?,
            margins: blobs.put(&read(&drawn.margins)?)?,
            slices: blobs.put_json(&drawn.slices)?,
            case: drawn.case,
            model,
            sums,
            members: drawn.members,
            class_voxels: drawn.class_voxels,
            class_entropies: drawn.class_entropies,
            drawing: drawn.drawing,
            dice_mask: drawn.dice_mask,
            dice: drawn.dice,
            seconds: drawn.seconds,
        });
        for file in [&drawn.labels, &drawn.margins] {
            // The blob is kept; what is left in the work folder only takes space.
            let _ = std::fs::remove_file(file);
        }
        self.commit(who, What::CasesPredicted, None, vec![row])
    }

    /// Ranks the unlabelled pool by the predictions there are; without a drawing model the order is random.
    pub(super) fn rank_pool(
        &mut self,
        who: &str,
        strategy: Strategy,
        pixels: Pixels,
    ) -> Result<Ranking, EngineError> {
        let snapshot = &self.project.snapshot;
        let id = RankingId(next(&snapshot.rankings, |id| id.0));
        let pool: Vec<&Case> = snapshot.cases.values().filter(|case| case.is_askable()).collect();
        let model = self.project.drawing_model().map(|model| model.id);
        let seed = snapshot.settings.query.seed.wrapping_add(u64::from(id.0));
        let (strategy, model, order) = match model {
            Some(model) if strategy != Strategy::Random => {
                let mut candidates: Vec<Candidate> = Vec::new();
                for case in &pool {
                    let predicted = snapshot.predictions.get(&case.id).filter(|p| p.model == model);
                    let Some(predicted) = predicted else {
                        return EngineError::refused(format!(
                            "{} could not be predicted: it has {} images and the model takes {}; exclude it",
                            case.id,
                            case.images.len(),
                            snapshot.settings.image.channels
                        ));
                    };
                    candidates.push(Candidate::of(predicted));
                }
                let order = query::rank(strategy, pixels, &candidates, (seed, id.0))
                    .map_err(|error| EngineError::Refused(error.to_string()))?;
                (strategy, Some(model), order)
            }
            _ => {
                let cases: Vec<CaseId> = pool.iter().map(|case| case.id.clone()).collect();
                (Strategy::Random, None, query::random_order(&cases, seed))
            }
        };
        let ranking = Ranking {
            id,
            strategy,
            pixels,
            seed: (!strategy.has_scores()).then_some(seed),
            model,
            order: self.project.store.blobs().put_json(&order)?,
            cases: order.len(),
            at: Timestamp::now(),
        };
        let mut project = self.project.snapshot.project.clone();
        project.ranking = Some(id);
        let rows = vec![Row::Ranking(ranking.clone()), Row::Project(project)];
        self.commit(who, What::PoolRanked, None, rows)?;
        Ok(ranking)
    }

    /// The words that answer a ranking.
    pub(super) fn ranking_words(&self, ranking: &Ranking) -> String {
        let cases = ranking.cases;
        match (ranking.model, ranking.strategy) {
            (Some(model), strategy) => {
                let over = match ranking.pixels {
                    Pixels::Foreground if strategy.has_scores() => " over foreground",
                    Pixels::Foreground | Pixels::All => "",
                };
                format!("{cases} cases ranked by {}{over} of {model}", strategy.words())
            }
            (None, _) if self.project.drawing_model().is_none() => {
                format!("{cases} cases in a seeded random order: there is no model to rank by yet")
            }
            (None, _) => format!("{cases} cases in a seeded random order"),
        }
    }

    /// Takes another project's weights as the start of the next training.
    pub(super) fn import_model(&mut self, who: &str, file: &Path) -> Result<Answer, EngineError> {
        self.need_idle()?;
        if let Some(round) = self.project.snapshot.open_round() {
            return EngineError::refused(format!(
                "round {} is {}: its training has its weights chosen already; end it first",
                round.id,
                round.state.word()
            ));
        }
        self.reload_settings(false)?;
        let refused = |words: String| EngineError::Refused(format!("{}: {words}", file.display()));
        let theirs = model::architecture_of(file).map_err(|error| refused(error.to_string()))?;
        let ours = self.project.architecture();
        if let Some((key, setting, theirs, ours)) = theirs.difference(&ours) {
            return Err(refused(format!(
                "its network has {key} = {theirs}, this project {ours}; set {setting} to the former"
            )));
        }
        let bytes = std::fs::read(file).map_err(EngineError::io("reading", file))?;
        let model = Model {
            id: self.next_model(),
            parent: None,
            origin: ModelOrigin::Imported,
            architecture: theirs,
            parameters: model::parameter_count(&theirs),
            weights: self.project.store.blobs().put(&bytes)?,
            trained_on: None,
            trained_cases: 0,
            curve: None,
            best_epoch: 0,
            epochs: 0,
            seconds: 0.0,
            validation_dice: Vec::new(),
            at: Timestamp::now(),
        };
        let id = model.id;
        let mut project = self.project.snapshot.project.clone();
        project.model = Some(id);
        project.fixed = Some(Fixed::of(&self.project.snapshot.settings));
        self.commit(
            who,
            What::ModelImported,
            None,
            vec![Row::Model(model), Row::Project(project)],
        )?;
        let head = if theirs.classes == ours.classes {
            "it draws and ranks from now on, as if its classes were this project's, in order"
        } else {
            "its classes are others, so the head is drawn anew in the first training and it cannot rank before"
        };
        Ok(Answer::Done(format!("{id} imported; {head}")))
    }

    /// Draws, ranks and goes on from another model of this project.
    pub(super) fn use_model(&mut self, who: &str, id: ModelId, why: String) -> Result<Answer, EngineError> {
        self.need_idle()?;
        let snapshot = &self.project.snapshot;
        if let Some(round) = snapshot.open_round() {
            return EngineError::refused(format!(
                "round {} is {}: it goes on from the model it began with; end it first",
                round.id,
                round.state.word()
            ));
        }
        if !snapshot.models.contains_key(&id) {
            return EngineError::refused(format!("there is no model {id}"));
        }
        if snapshot.project.model == Some(id) {
            return Ok(Answer::Nothing(format!("{id} is the current model already")));
        }
        let mut project = snapshot.project.clone();
        project.model = Some(id);
        self.commit(who, What::ModelChosen, Some(why), vec![Row::Project(project)])?;
        self.project.find_predictions()?;
        self.tell(Event::Refresh);
        Ok(Answer::Done(format!(
            "{id} draws and ranks from now on, and the next round goes on from it; rank the pool to see it by {id}"
        )))
    }

    /// The newest order that each model put the pool in.
    pub(super) fn orders(&self) -> Result<Answer, EngineError> {
        let mut newest = BTreeMap::new();
        for ranking in self.project.snapshot.rankings.values() {
            if let Some(model) = ranking.model.filter(|_| ranking.strategy.has_scores()) {
                newest.insert(model, ranking.order);
            }
        }
        let blobs = self.project.store.blobs();
        let orders = newest
            .into_iter()
            .map(|(model, order)| Ok((model, blobs.get_json(order)?)))
            .collect::<Result<_, EngineError>>()?;
        Ok(Answer::Orders(orders))
    }

    /// The current model's checkpoint, for another project.
    pub(super) fn export_model(&self) -> Result<Answer, EngineError> {
        let snapshot = &self.project.snapshot;
        match snapshot.project.model.and_then(|id| snapshot.models.get(&id)) {
            Some(model) => Ok(Answer::File(self.project.store.blobs().get(model.weights)?)),
            None => EngineError::refused("there is no model yet; `overtrace round start` trains one"),
        }
    }

    pub(super) fn next_model(&self) -> ModelId {
        ModelId(next(&self.project.snapshot.models, |id| id.0))
    }

    /// A model's learning curve.
    pub(super) fn curve(&self, id: ModelId) -> Result<Answer, EngineError> {
        let Some(model) = self.project.snapshot.models.get(&id) else {
            return EngineError::refused(format!("there is no model {id}"));
        };
        let curve = model
            .curve
            .map(|blob| self.project.store.blobs().get_json(blob))
            .transpose()?;
        Ok(Answer::Curve(curve.unwrap_or_default()))
    }
}
