//! The cases that were opened: at most one is on its way, and the last few stay.

use std::sync::Arc;

use crate::protocol::{CaseView, Command, Wanted};
use crate::records::{CaseId, Row};

/// Cases kept: the one looked at and the one before it, of 5 bytes a voxel each.
const KEPT: usize = 2;

/// Opened cases.
#[derive(Debug, Default)]
pub struct Views {
    /// The last used last.
    kept: Vec<(Wanted, Arc<CaseView>)>,
    asked: Option<Wanted>,
    /// What does not show what is stored by now.
    outdated: Vec<CaseId>,
    /// What cannot be had, and why.
    problem: Option<(Wanted, String)>,
}

impl Views {
    /// The case as it was when it was opened.
    pub fn get(&self, wanted: &Wanted) -> Option<&Arc<CaseView>> {
        self.kept
            .iter()
            .find(|(kept, _)| kept == wanted)
            .map(|(_, view)| view)
    }

    /// Why it cannot be had.
    pub fn problem(&self, wanted: &Wanted) -> Option<&str> {
        self.problem
            .as_ref()
            .filter(|(of, _)| of == wanted)
            .map(|(_, why)| why.as_str())
    }

    /// What to ask of the engine so that `wanted` can be shown; nothing while another one is on its way.
    pub fn want(&mut self, wanted: &Wanted) -> Option<Command> {
        if let Some(at) = self.kept.iter().position(|(kept, _)| kept == wanted) {
            let last = self.kept.remove(at);
            self.kept.push(last);
            if !self.outdated.contains(&wanted.case) {
                return None;
            }
        }
        if self.asked.is_some() || self.problem(wanted).is_some() {
            return None;
        }
        // What else was kept of an outdated case is no newer.
        if self.outdated.contains(&wanted.case) {
            self.outdated.retain(|case| *case != wanted.case);
            self.kept
                .retain(|(kept, _)| kept.case != wanted.case || kept == wanted);
        }
        self.asked = Some(wanted.clone());
        Some(Command::Open(wanted.clone()))
    }

    /// Takes the answer to what was asked.
    pub fn answered(&mut self, result: Result<Box<CaseView>, String>) {
        let Some(asked) = self.asked.take() else { return };
        self.kept.retain(|(kept, _)| *kept != asked);
        match result {
            Ok(view) => {
                self.problem = None;
                if self.kept.len() == KEPT {
                    self.kept.remove(0);
                }
                self.kept.push((asked, Arc::from(view)));
            }
            Err(why) => self.problem = Some((asked, why)),
        }
    }

    /// Notes that some rows changed: a case that shows them has to be opened anew.
    pub fn rows_changed(&mut self, rows: &[Row]) {
        for row in rows {
            match row {
                Row::Case(row) => self.refetch(&row.id),
                Row::Correction(row) => self.refetch(&row.case),
                Row::Prediction(row) => self.refetch(&row.case),
                Row::Held(row) => self.refetch(&row.case),
                _ => {}
            }
        }
    }

    /// Has everything opened anew, in a while: some changes may have been missed.
    pub fn refetch_all(&mut self) {
        let cases: Vec<CaseId> = self.kept.iter().map(|(wanted, _)| wanted.case.clone()).collect();
        cases.iter().for_each(|case| self.refetch(case));
        self.problem = None;
    }

    fn refetch(&mut self, case: &CaseId) {
        if self.problem.as_ref().is_some_and(|(of, _)| of.case == *case) {
            self.problem = None;
        }
        let is_known = self.kept.iter().any(|(wanted, _)| wanted.case == *case)
            || self.asked.as_ref().is_some_and(|asked| asked.case == *case);
        if is_known && !self.outdated.contains(case) {
            self.outdated.push(case.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{Grid, Plane};
    use crate::protocol::Intensities;
    use crate::records::CorrectionId;

    fn wanted(case: &str) -> Wanted {
        Wanted::of(&CaseId::new(case).unwrap())
    }

    fn view(case: &str) -> Box<CaseView> {
        Box::new(CaseView {
            case: CaseId::new(case).unwrap(),
            grid: Grid::new([1; 3], [1.0; 3]),
            plane: Plane(0),
            image: Intensities::of(&[0.0]),
            images: 1,
            predicted: None,
            is_measured: false,
            corrected: None,
            margins: None,
            scores: Vec::new(),
            beside: None,
        })
    }

    #[test]
    fn one_case_is_asked_for_at_a_time_and_two_stay() {
        let mut views = Views::default();
        assert!(views.want(&wanted("a")).is_some());
        assert!(views.want(&wanted("b")).is_none(), "a is on its way");
        views.answered(Ok(view("a")));
        assert!(views.want(&wanted("a")).is_none() && views.get(&wanted("a")).is_some());
        for case in ["b", "c"] {
            assert!(views.want(&wanted(case)).is_some());
            views.answered(Ok(view(case)));
        }
        assert!(views.get(&wanted("a")).is_none(), "the one used longest ago went");
        assert!(views.get(&wanted("b")).is_some() && views.get(&wanted("c")).is_some());
    }

    #[test]
    fn what_changed_is_opened_anew_and_what_failed_only_after_a_change() {
        let mut views = Views::default();
        assert!(views.want(&wanted("a")).is_some());
        views.answered(Err("its file is gone".into()));
        assert_eq!(views.problem(&wanted("a")), Some("its file is gone"));
        assert!(views.want(&wanted("a")).is_none());
        views.refetch(&wanted("a").case);
        assert!(views.want(&wanted("a")).is_some());
        views.answered(Ok(view("a")));
        views.refetch_all();
        assert!(views.want(&wanted("a")).is_some() && views.get(&wanted("a")).is_some());
        views.answered(Ok(view("a")));
        assert!(views.want(&wanted("a")).is_none());
    }

    #[test]
    fn a_case_that_changed_is_outdated_however_it_is_looked_at() {
        let mut views = Views::default();
        let corrected = Wanted {
            correction: Some(CorrectionId(1)),
            ..wanted("a")
        };
        for wanted in [&wanted("a"), &corrected] {
            assert!(views.want(wanted).is_some());
            views.answered(Ok(view("a")));
        }
        views.refetch(&corrected.case);
        assert!(views.want(&corrected).is_some());
        views.answered(Ok(view("a")));
        assert!(
            views.want(&wanted("a")).is_some(),
            "it was opened before the change"
        );
    }
}
