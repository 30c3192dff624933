//! The slices' state: which slice is wanted, which one is here, which layers are on.
//!
//! Requests follow the wish: at most one is under way, and when its answer comes and another slice is wanted by
//! then, that one is asked for next; those in between never are.

use std::sync::Arc;

use ratatui::layout::Size;

use crate::imaging::Plane;
use crate::protocol::{SliceRequest, SliceView, Snapshot};
use crate::records::{CaseId, Row};
use crate::tui::keys::Action;
use crate::tui::picture::{Look, PaintJob, Picture, Turn};
use crate::tui::text::letters;
use crate::tui::theme::Palette;

/// The slices screen.
#[derive(Debug, Default)]
pub struct Slices {
    /// What the person wants to see.
    pub wanted: Option<SliceRequest>,
    /// What the engine was asked for and has not answered.
    asked: Option<SliceRequest>,
    /// The slice that is here does not show what is stored by now.
    outdated: bool,
    /// The slice that is here; always one of the wanted case.
    pub view: Option<Arc<SliceView>>,
    /// Why there is none.
    pub problem: Option<String>,
    /// Which layers are on.
    pub look: Look,
    /// The picture that is here, and what it was made from.
    pub picture: Option<(Arc<PaintJob>, Picture)>,
    /// The picture that is being made.
    painting: Option<Arc<PaintJob>>,
}

impl Slices {
    /// Shows `case`, at the slice the model is least sure of; the plane stays.
    pub fn open(&mut self, case: &CaseId) {
        if self.case() == Some(case) {
            return;
        }
        let plane = self.wanted.as_ref().and_then(|wanted| wanted.plane);
        self.want(SliceRequest {
            case: case.clone(),
            plane,
            index: None,
        });
    }

    /// The case that is shown or on its way.
    pub fn case(&self) -> Option<&CaseId> {
        self.wanted.as_ref().map(|wanted| &wanted.case)
    }

    fn want(&mut self, wanted: SliceRequest) {
        if self.view.as_ref().is_some_and(|view| view.case != wanted.case) {
            self.view = None;
            self.picture = None;
        }
        self.problem = None;
        self.wanted = Some(wanted);
    }

    /// Moves through the slices, or changes the layers.
    ///
    /// # Errors
    /// Why a layer cannot be shown, in words.
    pub fn act(&mut self, action: Action, count: Option<usize>, snapshot: &Snapshot) -> Result<(), String> {
        let times = count.unwrap_or(1) as isize;
        match action {
            Action::NextSlice => self.step(times),
            Action::PreviousSlice => self.step(-times),
            Action::PageDown => self.step(10 * times),
            Action::PageUp => self.step(-10 * times),
            Action::FirstSlice => self.go(0),
            Action::LastSlice => self.go(count.map_or(usize::MAX, |n| n.saturating_sub(1))),
            Action::UnsureSlice => self.place(|wanted, _| wanted.index = None),
            Action::NextPlane => self.place(|wanted, view| {
                wanted.plane = Some(Plane((view.plane.0 + 1) % Plane::ALL.len()));
                wanted.index = None;
            }),
            Action::ToggleOverlay => self.look.overlay = !self.look.overlay,
            Action::ToggleContours => self.look.contours = !self.look.contours,
            Action::ToggleMargin => {
                self.look.margin = !self.look.margin;
                if self.look.margin && self.view.as_ref().is_some_and(|view| view.margin.is_none()) {
                    return Err("the current model has not predicted this case: there is no margin".into());
                }
            }
            Action::ToggleDifference => {
                self.look.difference = !self.look.difference;
                let both = |view: &Arc<SliceView>| view.predicted.is_some() && view.corrected.is_some();
                if self.look.difference && !self.view.as_ref().is_some_and(both) {
                    self.look.difference = false;
                    return Err("contours can be compared once the case has a prediction and a mask".into());
                }
            }
            Action::NextClass => {
                let classes = snapshot.settings.labels.0.len() as u8;
                self.look.class = match self.look.class {
                    None => Some(1),
                    Some(class) => Some(class + 1).filter(|class| *class <= classes),
                };
            }
            Action::MoreOpacity => self.look.opacity = (self.look.opacity + 10).min(100),
            Action::LessOpacity => self.look.opacity = self.look.opacity.saturating_sub(10),
            _ => {}
        }
        Ok(())
    }

    /// Changes the wish, once it is known what it starts from.
    fn place(&mut self, change: impl FnOnce(&mut SliceRequest, &SliceView)) {
        if let (Some(wanted), Some(view)) = (&self.wanted, self.view.clone()) {
            let mut wanted = wanted.clone();
            change(&mut wanted, &view);
            self.want(wanted);
        }
    }

    fn step(&mut self, steps: isize) {
        self.place(|wanted, view| {
            let from = wanted.index.unwrap_or(view.index) as isize;
            let last = view.slices.saturating_sub(1) as isize;
            wanted.index = Some(from.saturating_add(steps).clamp(0, last) as usize);
        });
    }

    fn go(&mut self, index: usize) {
        self.place(|wanted, view| wanted.index = Some(index.min(view.slices.saturating_sub(1))));
    }

    /// Notes that some rows changed: a slice that shows them has to be fetched anew.
    pub fn rows_changed(&mut self, rows: &[Row]) {
        let case = self.case();
        let touched = rows.iter().any(|row| match row {
            Row::Case(row) => Some(&row.id) == case,
            Row::Correction(row) => Some(&row.case) == case,
            Row::Prediction(row) => Some(&row.case) == case,
            _ => false,
        });
        if touched {
            self.refetch();
        }
    }

    /// Has the slice fetched anew.
    pub fn refetch(&mut self) {
        self.outdated = true;
        self.problem = None;
    }

    /// The slice to ask for now, if any.
    pub fn request(&mut self) -> Option<SliceRequest> {
        if self.asked.is_some() || self.problem.is_some() {
            return None;
        }
        let wanted = self.wanted.as_ref()?;
        let here = self.view.as_ref().is_some_and(|view| {
            wanted.plane.is_none_or(|plane| plane == view.plane) && wanted.index == Some(view.index)
        });
        if here && !self.outdated {
            return None;
        }
        self.outdated = false;
        self.asked = Some(wanted.clone());
        self.asked.clone()
    }

    /// Takes the answer to the request under way. One that came too late is shown only if it is of the same
    /// case and plane, so that a held key scrolls; another case's is dropped.
    pub fn answered(&mut self, result: Result<Box<SliceView>, String>) {
        let asked = self.asked.take();
        let (Some(asked), Some(wanted)) = (asked, &mut self.wanted) else {
            return;
        };
        let current = asked == *wanted;
        match result {
            Ok(view) if view.case == wanted.case && (current || wanted.plane == Some(view.plane)) => {
                if current {
                    wanted.plane = Some(view.plane);
                    wanted.index = Some(view.index);
                }
                self.view = Some(Arc::new(*view));
            }
            Err(problem) if current => {
                self.problem = Some(problem);
                self.view = None;
                self.picture = None;
            }
            _ => {}
        }
    }

    /// The picture to make now, if any.
    pub fn paint(&mut self, snapshot: &Snapshot, cells: Size, spelled: bool) -> Option<Arc<PaintJob>> {
        let view = self.view.clone()?;
        let case = snapshot.cases.get(&view.case)?;
        let labels = &snapshot.settings.labels;
        let job = PaintJob {
            turn: Turn::of(&case.grid, view.plane),
            view,
            look: self.look,
            palette: Arc::new(Palette::of(labels)),
            letters: letters(labels.names()).into(),
            cells,
            spelled,
        };
        let made = self.picture.as_ref().is_some_and(|(of, _)| **of == job);
        if made || self.painting.is_some() || cells.width == 0 || cells.height == 0 {
            return None;
        }
        let job = Arc::new(job);
        self.painting = Some(job.clone());
        Some(job)
    }

    /// Takes a picture that was made; one of another case is dropped.
    pub fn painted(&mut self, job: Arc<PaintJob>, picture: Picture) {
        self.painting = None;
        if Some(&job.view.case) == self.case() {
            self.picture = Some((job, picture));
        }
    }
}
