//! The rounds' state: which round is selected, and the learning curves that were fetched.

use std::collections::HashMap;

use super::cases::Step;
use crate::protocol::{Command, NextStep, Snapshot, Stage};
use crate::records::{EpochReport, ModelId, Pool, Round};
use crate::settings::Query;
use crate::tui::keys::Action;
use crate::tui::list::Cursor;
use crate::tui::prompt::{Prompt, Then};
use crate::tui::text::{clean, dice};

/// The rounds screen.
#[derive(Debug, Default)]
pub struct Rounds {
    pub cursor: Cursor,
    /// An older round was selected; otherwise the selection stays on the newest.
    looks_back: bool,
    /// Curves by model; `Err` says why there is none.
    pub curves: HashMap<ModelId, Result<Vec<EpochReport>, String>>,
    asked: Option<ModelId>,
}

impl Rounds {
    /// The newest round is selected until another one is.
    pub fn settle(&mut self, len: usize, page: usize) {
        if !self.looks_back {
            self.cursor.selected = len.saturating_sub(1);
        }
        self.cursor.settle(len, page);
    }

    /// Moves the selection; `page` is the height of the list.
    pub fn act(&mut self, action: Action, count: Option<usize>, page: usize, len: usize) {
        let times = count.unwrap_or(1) as isize;
        let steps = match action {
            Action::NextRound => times,
            Action::PreviousRound => -times,
            Action::PageDown => times * page as isize,
            Action::PageUp => -times * page as isize,
            Action::FirstRound => isize::MIN,
            _ => isize::MAX,
        };
        self.cursor.step(steps, len);
        self.looks_back = self.cursor.selected + 1 < len;
    }

    /// Selects the round at a place.
    pub fn select(&mut self, at: usize, len: usize) {
        self.cursor.selected = at;
        self.looks_back = at + 1 < len;
    }

    /// The selected round.
    pub fn selected<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Round> {
        snapshot.rounds.values().nth(self.cursor.selected)
    }

    /// The curve to show: the running training's, or that of the selected round's model.
    pub fn curve<'a>(&'a self, snapshot: &'a Snapshot) -> Option<(String, &'a [EpochReport])> {
        let newest = self.cursor.selected + 1 >= snapshot.rounds.len();
        let activity = &snapshot.activity;
        if newest && matches!(activity.stage, Stage::Training | Stage::Evaluating) {
            return Some(("this training".into(), &activity.curve));
        }
        let model = self.selected(snapshot)?.model?;
        let curve = self.curves.get(&model)?.as_ref().ok()?;
        Some((model.to_string(), curve))
    }

    /// The curve to ask for now, if any.
    pub fn request(&mut self, snapshot: &Snapshot) -> Option<ModelId> {
        let model = self.selected(snapshot)?.model?;
        if self.asked.is_some() || self.curves.contains_key(&model) {
            return None;
        }
        self.asked = Some(model);
        self.asked
    }

    /// Takes the answer to the request under way.
    pub fn answered(&mut self, result: Result<Vec<EpochReport>, String>) {
        if let Some(model) = self.asked.take() {
            self.curves.insert(model, result);
        }
    }
}

/// What `action` leads to.
///
/// # Errors
/// Why it cannot be done now, in words.
pub fn act(action: Action, snapshot: &Snapshot) -> Result<Step, String> {
    if snapshot.cases_left_out > 0 {
        return Err("not all cases are here yet; ask again in a moment".into());
    }
    let open = snapshot.open_round();
    let because = |title: &str, lines: Vec<String>, then| Ok(Step::Ask(Prompt::line(title, lines, "", then)));
    match action {
        Action::StartRound | Action::StartFromScratch => {
            if let Some(round) = open {
                return Err(format!(
                    "round {} is open ({}); abandon it or let it end first",
                    round.id,
                    round.state.word()
                ));
            }
            if let Some(words) = &snapshot.project.satisfied {
                return Err(format!("the loop has ended ({}); reopen it first", clean(words)));
            }
            let from_scratch = action == Action::StartFromScratch;
            Ok(Step::Ask(Prompt::confirm(
                if from_scratch {
                    "start a round with new weights?"
                } else {
                    "start a round?"
                },
                start_summary(snapshot, from_scratch),
                Then::Send(Command::StartRound {
                    from_scratch,
                    budget: None,
                    strategy: None,
                }),
            )))
        }
        Action::Train => {
            let round = open.ok_or("no round is open; start one first")?;
            let missing = round.queried.len().saturating_sub(round.returned);
            Ok(Step::Ask(Prompt::confirm(
                format!("train round {} now?", round.id),
                vec![format!(
                    "{} of {} queried cases are back; {missing} will be left out",
                    round.returned,
                    round.queried.len()
                )],
                Then::Send(Command::Train),
            )))
        }
        Action::AbandonRound => {
            let round = open.ok_or("no round is open")?;
            let lines = vec![format!(
                "it is {}; what it has computed so far is dropped",
                round.state.word()
            )];
            because(
                &format!("abandon round {}, because", round.id),
                lines,
                Then::Abandon,
            )
        }
        Action::DeclareSatisfactory => {
            if let Some(words) = &snapshot.project.satisfied {
                return Err(format!("the loop has ended already: {}", clean(words)));
            }
            let last = snapshot
                .rounds
                .values()
                .rev()
                .find(|round| !round.held_out_dice.is_empty());
            let lines = last.map_or_else(
                || vec!["no round has been measured on held-out cases yet".into()],
                |round| {
                    let model = round
                        .model
                        .map_or_else(|| "no model".into(), |model| model.to_string());
                    let mean = round.mean_dice();
                    vec![format!(
                        "{model}: mean Dice {} on {} held-out cases",
                        dice(mean),
                        round.held_out
                    )]
                },
            );
            because(
                "the performance is satisfactory, because",
                lines,
                Then::Satisfactory,
            )
        }
        Action::Reopen => {
            let words = snapshot
                .project
                .satisfied
                .as_ref()
                .ok_or("the loop has not ended")?;
            because(
                "go on after all, because",
                vec![format!("it ended because: {}", clean(words))],
                Then::Reopen,
            )
        }
        other => Err(format!("{} does nothing to a round", other.entry().name)),
    }
}

fn start_summary(snapshot: &Snapshot, from_scratch: bool) -> Vec<String> {
    let cases = || snapshot.cases.values().filter(|case| case.excluded.is_none());
    let pool = |pool| cases().filter(|case| case.pool == pool).count();
    let Query { strategy, budget, .. } = snapshot.settings.query;
    let (labelled, unlabelled) = (pool(Pool::Labelled), pool(Pool::Unlabelled));
    let asked = budget.min(unlabelled);
    let asks = match snapshot.next_step(from_scratch) {
        NextStep::Train => format!("trains on {labelled} labelled cases; nothing is asked"),
        NextStep::Ask(Some(model)) => format!(
            "asks for {asked} of {unlabelled} unlabelled cases by {} of {model}",
            strategy.words()
        ),
        NextStep::Ask(None) => {
            format!(
                "asks for {asked} of {unlabelled} unlabelled cases in a random order: no model can rank yet"
            )
        }
        NextStep::Nothing => "there is neither a case to ask for nor one to learn from".into(),
    };
    let weights = match snapshot.project.model {
        Some(model) if !from_scratch => format!("training goes on from the weights of {model}"),
        _ => format!(
            "weights are drawn anew (seed {})",
            snapshot.settings.training.seed
        ),
    };
    let sizes = format!(
        "pools: {labelled} labelled, {unlabelled} unlabelled, {} held out",
        pool(Pool::HeldOut)
    );
    vec![asks, weights, sizes]
}
