//! The models' state: which one is selected, and how its ranking is held against the current model's.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::cases::Step;
use crate::metrics::rank_correlation;
use crate::protocol::Snapshot;
use crate::records::{CaseId, Model, ModelId, ModelOrigin, RankingId, Scored};
use crate::tui::keys::Action;
use crate::tui::list::Cursor;
use crate::tui::prompt::{Prompt, Then};

/// The models screen.
#[derive(Debug, Default)]
pub struct Models {
    pub cursor: Cursor,
    /// The model whose ranking is held against the current model's.
    pub compared: Option<ModelId>,
    orders: BTreeMap<ModelId, Vec<Scored>>,
    /// The two models that were compared last, and what came of it: thousands of cases are not compared at every frame.
    found: Option<([ModelId; 2], Result<Comparison, String>)>,
    /// The last ranking when the orders were asked for.
    asked_at: Option<Option<RankingId>>,
    /// Why there are none.
    pub problem: Option<String>,
}

/// How far two models' rankings agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Cases in both.
    pub cases: usize,
    /// Spearman's.
    pub correlation: Option<f64>,
    /// Cases and their places with either among the cases in both, from 1; those that they disagree on most first.
    pub places: Vec<(CaseId, [usize; 2])>,
}

/// All models, newest first.
pub fn newest_first(snapshot: &Snapshot) -> impl Iterator<Item = &Model> {
    snapshot.models.values().rev()
}

impl Models {
    /// The selected model.
    pub fn selected<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Model> {
        newest_first(snapshot).nth(self.cursor.selected)
    }

    /// The place of the round that made the selected model.
    pub fn round_of_selected(&self, snapshot: &Snapshot) -> Option<usize> {
        let ModelOrigin::Round(round) = self.selected(snapshot)?.origin else {
            return None;
        };
        snapshot.rounds.keys().position(|id| *id == round)
    }

    /// Moves the selection, or compares; `page` is the height of the list.
    ///
    /// # Errors
    /// Why two models cannot be compared, in words.
    pub fn act(
        &mut self,
        action: Action,
        count: Option<usize>,
        page: usize,
        snapshot: &Snapshot,
    ) -> Result<(), String> {
        if action != Action::CompareRankings {
            self.cursor.act(action, count, page, snapshot.models.len());
            return Ok(());
        }
        let model = self.selected(snapshot).ok_or("there is no model yet")?.id;
        if self.compared == Some(model) {
            self.compared = None;
            return Ok(());
        }
        if snapshot.project.model == Some(model) {
            return Err(format!("{model} is the current model: select another one"));
        }
        // What went wrong last time may have been put right.
        (self.compared, self.asked_at, self.problem) = (Some(model), None, None);
        Ok(())
    }

    /// Whether the orders have to be asked for.
    pub fn wants_orders(&mut self, snapshot: &Snapshot) -> bool {
        let last = snapshot.rankings.keys().next_back().copied();
        let is_news = self.compared.is_some() && self.asked_at != Some(last);
        if is_news {
            self.asked_at = Some(last);
        }
        is_news
    }

    /// Takes the orders.
    pub fn answered(&mut self, result: Result<Vec<(ModelId, Vec<Scored>)>, String>) {
        self.found = None;
        match result {
            Ok(orders) => (self.orders, self.problem) = (orders.into_iter().collect(), None),
            Err(why) => self.problem = Some(why),
        }
    }

    /// Compares the chosen model's ranking with the current model's, unless that is done.
    pub fn compare(&mut self, snapshot: &Snapshot) {
        // The model that was compared may have been made the current one.
        let pair = self.compared.zip(snapshot.project.model).filter(|(a, b)| a != b);
        let Some((compared, current)) = pair else {
            self.found = None;
            return;
        };
        let pair = [compared, current];
        if self.found.as_ref().is_none_or(|(known, _)| *known != pair) {
            let order = |model: ModelId| {
                let missing = || format!("{model} has ranked nothing that was kept");
                self.orders.get(&model).ok_or_else(missing)
            };
            let orders = order(compared).and_then(|other| Ok((other, order(current)?)));
            self.found = Some((pair, orders.map(|(other, current)| compare(other, current))));
        }
    }

    /// The two models that are compared, and what came of it: or why there is no ranking.
    pub fn comparison(&self) -> Option<([ModelId; 2], Result<&Comparison, &String>)> {
        let (pair, found) = self.found.as_ref()?;
        let found = match &self.problem {
            Some(why) => Err(why),
            None => found.as_ref(),
        };
        Some((*pair, found))
    }
}

/// The cases of one order that are in the other too, as the first has them.
fn among<'a>(order: &'a [Scored], other: &[Scored]) -> Vec<&'a CaseId> {
    let known: HashSet<&CaseId> = other.iter().map(|scored| &scored.case).collect();
    let cases = order.iter().map(|scored| &scored.case);
    cases.filter(|case| known.contains(case)).collect()
}

/// Two orders, case by case. Places are counted among the cases in both: the pool has changed from one ranking to the
/// other.
fn compare(first: &[Scored], second: &[Scored]) -> Comparison {
    let places: HashMap<&CaseId, usize> = among(second, first).into_iter().zip(1..).collect();
    let mut both: Vec<(CaseId, [usize; 2])> = among(first, second)
        .into_iter()
        .zip(1..)
        .map(|(case, at)| (case.clone(), [at, places[case]]))
        .collect();
    let ranks: Vec<[f64; 2]> = both.iter().map(|(_, places)| places.map(|n| n as f64)).collect();
    both.sort_by_key(|(case, [a, b])| (std::cmp::Reverse(a.abs_diff(*b)), case.clone()));
    Comparison {
        cases: both.len(),
        correlation: rank_correlation(&ranks),
        places: both,
    }
}

/// What making a model the current one leads to.
///
/// # Errors
/// Why it cannot be done now, in words.
pub fn make_current(snapshot: &Snapshot, model: Option<&Model>) -> Result<Step, String> {
    let model = model.ok_or("there is no model yet")?.id;
    let current = snapshot.project.model;
    if current == Some(model) {
        return Err(format!("{model} is the current model already"));
    }
    if let Some(round) = snapshot.open_round() {
        return Err(format!(
            "round {} is {}: it goes on from the model it began with; end it first",
            round.id,
            round.state.word()
        ));
    }
    let mut lines = vec![format!(
        "{model} draws and ranks from then on, and the next round goes on from its weights"
    )];
    if let Some(current) = current.filter(|current| *current > model) {
        lines.push(format!("that rolls {current} back; nothing of it is lost"));
    }
    let title = format!("make {model} the current model, because");
    Ok(Step::Ask(Prompt::line(title, lines, "", Then::UseModel(model))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_orders_are_compared_over_the_cases_in_both_and_the_furthest_apart_come_first() {
        let order = |names: &[&str]| -> Vec<Scored> {
            names
                .iter()
                .map(|name| Scored {
                    case: CaseId::new(name).unwrap(),
                    score: None,
                })
                .collect()
        };
        let found = compare(&order(&["a", "b", "c", "gone"]), &order(&["new", "c", "b", "a"]));
        assert_eq!((found.cases, found.correlation), (3, Some(-1.0)));
        let names: Vec<(&str, [usize; 2])> = found
            .places
            .iter()
            .map(|(case, places)| (case.as_str(), *places))
            .collect();
        assert_eq!(names, [("a", [1, 3]), ("c", [3, 1]), ("b", [2, 2])]);
    }
}
