//! Training: the frozen list of cases, the worker's task, and the model that comes of it.

use std::path::PathBuf;

use jiff::Timestamp;

use super::EngineError;
use super::actor::{Actor, Goal, Reply};
use super::rounds::advance;
use crate::model;
use crate::records::{
    Case, Fixed, Model, ModelOrigin, Round, RoundState, Row, Task, TrainCase, TrainTask, Trained, TrainedOn,
    What,
};

impl Actor {
    /// Whether the labelled pool is another than the one the current model learnt from.
    pub(super) fn has_new_labels(&self) -> Result<bool, EngineError> {
        let snapshot = &self.project.snapshot;
        let learnt = snapshot
            .project
            .model
            .and_then(|id| snapshot.models.get(&id)?.trained_on);
        let learnt: Vec<TrainedOn> = match learnt {
            Some(blob) => self.project.store.blobs().get_json(blob)?,
            None => Vec::new(),
        };
        Ok(self.labelled() != learnt)
    }

    /// The cases that a training would learn from now.
    ///
    /// # Errors
    /// Where there is none, or one does not fit the network.
    pub(super) fn training_set(&self) -> Result<Vec<TrainedOn>, EngineError> {
        self.check_channels(Case::is_training)?;
        let set = self.labelled();
        if set.is_empty() {
            return EngineError::refused(
                "there is no labelled case to train on yet; hand out a queried case and drop the mask into the inbox \
                 first",
            );
        }
        Ok(set)
    }

    /// Refuses to go on with a case that has another number of images than the network takes.
    pub(super) fn check_channels(&self, matters: fn(&Case) -> bool) -> Result<(), EngineError> {
        let channels = self.project.snapshot.settings.image.channels;
        let mut cases = self.project.snapshot.cases.values();
        match cases.find(|case| matters(case) && case.images.len() != channels) {
            None => Ok(()),
            Some(odd) => EngineError::refused(format!(
                "{} has {} images, but image.channels is {channels}; exclude it or put the setting back",
                odd.id,
                odd.images.len()
            )),
        }
    }

    /// The labelled cases, each with the mask version that trains.
    fn labelled(&self) -> Vec<TrainedOn> {
        let cases = self
            .project
            .snapshot
            .cases
            .values()
            .filter(|case| case.is_training());
        cases
            .filter_map(|case| {
                case.mask.map(|mask| TrainedOn {
                    case: case.id.clone(),
                    mask: mask.blob,
                })
            })
            .collect()
    }

    /// Freezes the training set and sets the worker to it.
    pub(super) fn begin_training(&mut self, who: &str) -> Result<Reply, EngineError> {
        let mut round = self.open_round()?;
        let set = self.training_set()?;
        let snapshot = &self.project.snapshot;
        round.labelled = set.len();
        let unlabelled = snapshot.cases.values().filter(|case| case.is_askable());
        round.unlabelled = Some(unlabelled.count());
        round.training_set = Some(self.project.store.blobs().put_json(&set)?);
        round.settings = self.project.store.blobs().put_json(&snapshot.settings)?;
        advance(&mut round, RoundState::Training)?;
        // Cases that did not come back stay out of this round.
        let mut rows = self.let_go(round.id);
        rows.push(Row::Round(round.clone()));
        self.commit(who, What::TrainingStarted, None, rows)?;
        self.run_training(who, &round)
    }

    /// Sets the worker to the frozen list of a round.
    pub(super) fn run_training(&mut self, who: &str, round: &Round) -> Result<Reply, EngineError> {
        let (snapshot, blobs) = (&self.project.snapshot, self.project.store.blobs());
        let set = round
            .training_set
            .expect("a round in training has frozen its list");
        let set: Vec<TrainedOn> = blobs.get_json(set)?;
        let cases = set
            .iter()
            .map(|on| {
                let case = &snapshot.cases[&on.case];
                TrainCase {
                    id: case.id.clone(),
                    images: case.images.iter().map(|&image| blobs.path(image)).collect(),
                    mask: blobs.path(on.mask),
                    plane: self.project.plane(&case.grid),
                }
            })
            .collect();
        let start = round.parent.and_then(|id| snapshot.models.get(&id));
        let task = TrainTask {
            architecture: self.project.architecture(),
            start: start.map(|model| blobs.path(model.weights)),
            cases,
            training: snapshot.settings.training.clone(),
            intensity: snapshot.settings.image.intensity,
            precision: snapshot.settings.compute.precision,
            weights: self.trained_file(round),
            resume: Some(self.project.resume_folder(round.id)),
        };
        Ok(self.begin(Goal::Train(round.id), who, Task::Train(task)))
    }

    /// Where the worker leaves the weights of a round.
    fn trained_file(&self, round: &Round) -> PathBuf {
        self.project
            .folder("work")
            .join(format!("{}.safetensors", round.id))
    }

    /// Keeps the new model and goes on to measure it.
    pub(super) fn trained(&mut self, who: &str, trained: Trained) -> Result<Reply, EngineError> {
        let mut round = self.open_round()?;
        let file = self.trained_file(&round);
        let bytes = std::fs::read(&file).map_err(EngineError::io("reading the worker's result", &file))?;
        let best = trained
            .curve
            .iter()
            .find(|epoch| epoch.epoch == trained.best_epoch);
        let blobs = self.project.store.blobs();
        let model = Model {
            id: self.next_model(),
            parent: round.parent,
            origin: ModelOrigin::Round(round.id),
            architecture: self.project.architecture(),
            parameters: model::parameter_count(&self.project.architecture()),
            weights: blobs.put(&bytes)?,
            trained_on: round.training_set,
            trained_cases: round.labelled,
            curve: Some(blobs.put_json(&trained.curve)?),
            best_epoch: trained.best_epoch,
            epochs: trained.curve.len(),
            seconds: trained.seconds,
            validation_dice: best.map_or_else(Vec::new, |epoch| epoch.dice.clone()),
            at: Timestamp::now(),
        };
        let mut project = self.project.snapshot.project.clone();
        project.model = Some(model.id);
        project.fixed = Some(Fixed::of(&self.project.snapshot.settings));
        round.model = Some(model.id);
        round.training_s += trained.seconds;
        advance(&mut round, RoundState::Evaluating)?;
        let id = round.id;
        let rows = vec![Row::Model(model), Row::Project(project), Row::Round(round)];
        self.commit(who, What::ModelTrained, None, rows)?;
        // The weights are a blob now.
        let _ = std::fs::remove_file(&file);
        self.project.forget_training(id);
        self.predict_then(Goal::Evaluate(id), who)
    }
}
