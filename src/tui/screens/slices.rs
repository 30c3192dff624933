//! The slices' state: which case is looked at, where the crosshair stands, which layers are on.
//!
//! The case is here as a whole, so moving through it asks nobody. Pictures and the profile are made elsewhere, one at a
//! time each; what was wanted in between is never made.

use std::sync::Arc;

use ratatui::layout::Size;

use super::views::Views;
use crate::imaging::Plane;
use crate::protocol::{Beside, CaseView, Maker, Snapshot, Wanted};
use crate::records::{CaseId, Correction, HeldFile, ModelId};
use crate::tui::keys::Action;
use crate::tui::layout::Arrangement;
use crate::tui::picture::{
    Kind, Look, PRESETS, PaintJob, Picture, Profile, ProfileJob, Seen, Source, Turn, Zoom,
};
use crate::tui::text::letters;
use crate::tui::theme::Theme;
use crate::tui::wire::Depth;

/// A picture's place among those on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pane {
    /// Its cut.
    pub plane: Plane,
    /// Whose label map.
    pub source: Source,
}

/// What pictures are shown on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// How.
    pub kind: Kind,
    /// In how many colours.
    pub depth: Depth,
    /// Width and height of a cell in pixels.
    pub cell_px: [u16; 2],
}

/// Most pictures on the screen at a time.
const PANES: usize = 3;

/// The slices screen.
#[derive(Debug, Default)]
pub struct Slices {
    wanted: Option<Wanted>,
    /// The case that is here; always the wanted one.
    pub view: Option<Arc<CaseView>>,
    /// The crosshair's voxel.
    pub at: [usize; 3],
    /// The cut that keys move through; the project's own at first.
    pub plane: Option<Plane>,
    /// How slices share the screen.
    pub arrangement: Arrangement,
    /// Which layers are on.
    pub look: Look,
    /// The class that keys act on; all when `None`.
    pub class: Option<u8>,
    /// How far in.
    pub zoom: Zoom,
    /// Which of the case's images is shown, from 0.
    pub image: usize,
    /// The profile that is here, and what it was made from.
    pub profile: Option<(ProfileJob, Profile)>,
    profiling: Option<ProfileJob>,
    pictures: [Option<(Arc<PaintJob>, Picture)>; PANES],
    painting: Option<Arc<PaintJob>>,
}

impl Slices {
    /// Shows `case`, at the slice the model is least sure of; the cut stays.
    pub fn open(&mut self, case: &CaseId) {
        let is_whole = self
            .wanted()
            .is_some_and(|wanted| wanted.correction.is_none() && wanted.held.is_none());
        if self.case() != Some(case) || !is_whole {
            self.want(Wanted::of(case));
        }
    }

    /// Shows a correction against what was drawn before it.
    pub fn open_correction(&mut self, correction: &Correction) {
        self.want(Wanted {
            correction: Some(correction.id),
            ..Wanted::of(&correction.case)
        });
        self.look.difference = true;
    }

    /// Shows the mask of a held file against what was drawn before it; of one that can be read two ways, the other way beside.
    pub fn open_held(&mut self, held: &HeldFile) {
        self.want(Wanted {
            held: Some(held.id),
            ..Wanted::of(&held.case)
        });
        self.look.difference = true;
    }

    /// The case that is shown or on its way.
    pub fn case(&self) -> Option<&CaseId> {
        self.wanted.as_ref().map(|wanted| &wanted.case)
    }

    /// The held file that is shown or on its way.
    pub fn held<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a HeldFile> {
        snapshot.held.get(&self.wanted.as_ref()?.held?)
    }

    /// Shows the case itself where the held file that is shown has been decided about.
    pub fn let_go_of_decided(&mut self, snapshot: &Snapshot) {
        let decided = self.held(snapshot).filter(|file| file.decided.is_some());
        if let Some(case) = decided.map(|file| file.case.clone()) {
            self.open(&case);
        }
    }

    /// What has to be here.
    pub fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// Shows the next of the case's images, from the last the first; the other cases' too, then.
    fn next_image(&mut self) -> Result<(), String> {
        let (Some(view), Some(wanted)) = (&self.view, &self.wanted) else {
            return Err("the case is not here yet".into());
        };
        if view.images < 2 {
            return Err("the case has one image".into());
        }
        self.image = (self.image + 1) % view.images;
        self.want(wanted.clone());
        Ok(())
    }

    fn want(&mut self, wanted: Wanted) {
        let wanted = Wanted {
            image: self.image,
            ..wanted
        };
        let is_other = |known: &Wanted| {
            (&known.case, known.correction, known.held) != (&wanted.case, wanted.correction, wanted.held)
        };
        if self.wanted().is_none_or(is_other) {
            self.view = None;
            self.pictures = Default::default();
            self.zoom = Zoom::default();
        }
        self.wanted = Some(wanted);
    }

    /// Takes the wanted case from those that are here.
    pub fn find(&mut self, views: &Views) {
        let Some(view) = self.wanted.as_ref().and_then(|wanted| views.get(wanted)) else {
            return;
        };
        if self.view.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, view)) {
            return;
        }
        let is_new = self.view.replace(view.clone()).is_none();
        if is_new {
            self.at = view.grid.shape.map(|n| n / 2);
            if let Some(index) = unsure(&view.scores) {
                self.at[view.plane.0] = index;
            }
        }
    }

    /// The cut that keys move through.
    pub fn plane(&self) -> Option<Plane> {
        self.view.as_ref().map(|view| self.plane.unwrap_or(view.plane))
    }

    /// The slice that keys move from.
    pub fn index(&self) -> Option<usize> {
        self.plane().map(|plane| self.at[plane.0])
    }

    /// The profile of the cut, if it is here.
    pub fn profile(&self) -> Option<&Profile> {
        let (job, profile) = self.profile.as_ref()?;
        let is_this = Some(job.plane) == self.plane()
            && self
                .view
                .as_ref()
                .is_some_and(|view| Arc::ptr_eq(view, &job.view.0));
        is_this.then_some(profile)
    }

    /// Moves through the case, or changes how it is looked at.
    ///
    /// # Errors
    /// Why something cannot be shown, in words.
    pub fn act(&mut self, action: Action, count: Option<usize>, snapshot: &Snapshot) -> Result<(), String> {
        let times = count.unwrap_or(1).min(100_000) as isize;
        // Where one is a fraction of what is seen, more than a hundred make no difference.
        let often = times.min(100) as f64;
        let labels = snapshot.settings.labels.0.len();
        let class = match count {
            Some(n) if action == Action::ToggleClass || action == Action::NextClass => {
                if !(1..=labels).contains(&n) {
                    return Err(format!("there are the classes 1 to {labels}, and no class {n}"));
                }
                Some(n as u8)
            }
            _ => self.class,
        };
        let look = &mut self.look;
        match action {
            Action::NextSlice => self.step(times),
            Action::PreviousSlice => self.step(-times),
            Action::PageDown => self.step(10 * times),
            Action::PageUp => self.step(-10 * times),
            Action::FirstSlice => self.step(isize::MIN),
            Action::LastSlice => match count {
                Some(n) => self.go(n.saturating_sub(1)),
                None => self.step(isize::MAX),
            },
            Action::UnsureSlice => {
                let profile = self.profile().ok_or("the slices are still being looked at")?;
                match unsure(&profile.scores) {
                    Some(index) => self.go(index),
                    None => return Err("no model has drawn this case, so none is unsure of it".into()),
                }
            }
            Action::NextDisagreement | Action::PreviousDisagreement => {
                return self.disagreement(action == Action::PreviousDisagreement);
            }
            Action::NextPlane => {
                self.plane = self.plane().map(|plane| Plane((plane.0 + 1) % Plane::ALL.len()));
            }
            Action::NextArrangement => {
                self.arrangement = self.arrangement.next();
                look.crosshair = self.arrangement == Arrangement::Three;
            }
            Action::NextBeside => return self.next_beside(snapshot),
            Action::CrosshairLeft => self.cross(0, -times),
            Action::CrosshairRight => self.cross(0, times),
            Action::CrosshairUp => self.cross(1, -times),
            Action::CrosshairDown => self.cross(1, times),
            Action::ZoomIn => self.zoom.step(times),
            Action::ZoomOut => self.zoom.step(-times),
            Action::ZoomReset => self.zoom = Zoom::default(),
            Action::PanLeft => self.pan(0, -often),
            Action::PanRight => self.pan(0, often),
            Action::PanUp => self.pan(1, -often),
            Action::PanDown => self.pan(1, often),
            Action::WindowNarrower => self.window(|[low, high]| spread(low, high, 0.9f64.powf(often), 0.0)),
            Action::WindowWider => self.window(|[low, high]| spread(low, high, 0.9f64.powf(-often), 0.0)),
            Action::LevelDown => self.window(|[low, high]| spread(low, high, 1.0, -0.05 * often)),
            Action::LevelUp => self.window(|[low, high]| spread(low, high, 1.0, 0.05 * often)),
            Action::NextWindow => {
                let known = PRESETS.iter().position(|preset| preset.window == look.window);
                look.window = PRESETS[known.map_or(0, |at| (at + 1) % PRESETS.len())].window;
            }
            Action::NextImage => return self.next_image(),
            Action::NextColours => look.colours = look.colours.next(),
            Action::ToggleOverlay => look.overlay = !look.overlay,
            Action::ToggleContours => look.contours = !look.contours,
            Action::ToggleCrosshair => look.crosshair = !look.crosshair,
            Action::ToggleMargin => {
                if !look.margin && self.view.as_ref().is_some_and(|view| view.margins.is_none()) {
                    return Err("the current model has not predicted this case: there is no margin".into());
                }
                look.margin = !look.margin;
            }
            Action::ToggleDifference => {
                let is_on = !look.difference;
                if is_on && !self.view.as_ref().is_some_and(|view| view.has_two()) {
                    return Err("contours can be compared once the case has a prediction and a mask".into());
                }
                look.difference = is_on;
            }
            Action::NextClass => {
                self.class = match (count, self.class) {
                    (Some(_), _) => class,
                    (None, None) => Some(1),
                    (None, Some(class)) => Some(class + 1).filter(|class| usize::from(*class) <= labels),
                };
            }
            Action::ToggleClass => {
                // All at once become the same.
                let is_on = match class {
                    Some(k @ 1..) => !look.class(k).is_on,
                    _ => !(1..=labels as u8).any(|k| look.class(k).is_on),
                };
                look.change(class, labels, |class| class.is_on = is_on);
            }
            Action::MoreOpacity => look.change(self.class, labels, |class| {
                class.opacity = (usize::from(class.opacity) + 10 * often as usize).min(100) as u8;
            }),
            Action::LessOpacity => look.change(self.class, labels, |class| {
                class.opacity = usize::from(class.opacity).saturating_sub(10 * often as usize) as u8;
            }),
            _ => {}
        }
        Ok(())
    }

    fn step(&mut self, steps: isize) {
        if let Some(index) = self.index() {
            self.go((index as isize).saturating_add(steps).max(0) as usize);
        }
    }

    fn go(&mut self, index: usize) {
        if let (Some(view), Some(plane)) = (&self.view, self.plane()) {
            self.at[plane.0] = index.min(plane.slices(&view.grid).saturating_sub(1));
        }
    }

    fn disagreement(&mut self, back: bool) -> Result<(), String> {
        let (Some(index), Some(profile)) = (self.index(), self.profile()) else {
            return Err("the slices are still being compared".into());
        };
        if profile.differing.is_empty() {
            return Err(
                "there is nothing to disagree with: no mask has come back and no other model is shown".into(),
            );
        }
        match profile.disagreement(index, back) {
            Some(index) => self.go(index),
            None => return Err("both agree in every slice".into()),
        }
        Ok(())
    }

    /// Lays the next model's drawing beside, then none; of a held file, the other way to read it.
    fn next_beside(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let (Some(wanted), Some(view)) = (&self.wanted, &self.view) else {
            return Ok(());
        };
        let next = match wanted.held {
            Some(held) => {
                let fix = snapshot.held.get(&held).and_then(|held| held.fix.as_ref());
                if fix.is_none() {
                    return Err(format!("there is one way to read {held}"));
                }
                wanted.beside.is_none().then_some(Beside::OtherReading)
            }
            None => {
                let drawn = view.predicted.as_ref().map(|drawing| &drawing.by);
                let mut others = snapshot
                    .models
                    .keys()
                    .rev()
                    .copied()
                    .filter(|model| Some(&Maker::Model(*model)) != drawn);
                let next: Option<ModelId> = match wanted.beside {
                    Some(Beside::Model(known)) => others.find(|model| *model < known),
                    _ => others.next(),
                };
                if next.is_none() && wanted.beside.is_none() {
                    return Err("there is no other model".into());
                }
                next.map(Beside::Model)
            }
        };
        let next = Wanted {
            beside: next,
            ..wanted.clone()
        };
        // With one picture there would be nothing to see of it.
        if wanted.beside.is_none() && self.arrangement == Arrangement::One && !self.look.difference {
            self.arrangement = Arrangement::Beside;
        }
        self.want(next);
        Ok(())
    }

    /// Moves the crosshair in the picture: along axis 0 to the right, along axis 1 down.
    fn cross(&mut self, axis: usize, steps: isize) {
        let (Some(view), Some(plane)) = (self.view.clone(), self.plane()) else {
            return;
        };
        let turn = Turn::of(&view.grid, plane);
        let size = turn.sides(plane.size(&view.grid));
        let mut target = turn.target(self.pixel(plane), size);
        let last = size[axis].saturating_sub(1) as isize;
        target[axis] = (target[axis] as isize).saturating_add(steps).clamp(0, last) as usize;
        self.point(plane, turn.source(target, size));
    }

    /// The crosshair's pixel in a cut.
    fn pixel(&self, plane: Plane) -> [usize; 2] {
        plane.in_plane().map(|axis| self.at[axis])
    }

    /// Puts the crosshair on a pixel of a cut.
    fn point(&mut self, plane: Plane, pixel: [usize; 2]) {
        for (axis, at) in plane.in_plane().into_iter().zip(pixel) {
            self.at[axis] = at;
        }
    }

    /// Puts the crosshair where a cell of a pane's picture is, counted from the picture's corner.
    pub fn point_at(&mut self, pane: usize, cell: [u16; 2]) {
        let Some(Some((job, _))) = self.pictures.get(pane) else {
            return;
        };
        if let Some(pixel) = job.pixel_at(cell) {
            let plane = job.plane;
            self.point(plane, pixel);
            self.look.crosshair = true;
        }
    }

    /// Moves what is seen of a picture zoomed in by `eighths` of it, no further than its edge.
    fn pan(&mut self, axis: usize, eighths: f64) {
        let (Some(view), Some(plane)) = (&self.view, self.plane()) else {
            return;
        };
        if self.zoom.factor > 1.0 {
            let turn = Turn::of(&view.grid, plane);
            let size = turn.sides(plane.size(&view.grid));
            let focus = turn.target(self.pixel(plane), size)[axis] as f64 + 0.5;
            let shown = size[axis] as f64 / self.zoom.factor;
            let (first, last) = (shown / 2.0 - focus, size[axis] as f64 - shown / 2.0 - focus);
            let pan = self.zoom.pan[axis].clamp(first, last) + eighths * shown / 8.0;
            self.zoom.pan[axis] = pan.clamp(first, last);
        }
    }

    /// Changes what is black and what is white.
    pub fn window(&mut self, change: impl FnOnce([f64; 2]) -> [f64; 2]) {
        if let Some(view) = &self.view {
            self.look.window = Some(change(self.look.window.unwrap_or(view.image.window)));
        }
    }

    /// The pictures that share the screen.
    pub fn panes(&self) -> Vec<Pane> {
        let Some(plane) = self.plane() else {
            return Vec::new();
        };
        let pane = |plane, source| Pane { plane, source };
        match self.arrangement {
            Arrangement::One => vec![pane(plane, Source::Drawn)],
            Arrangement::Three => (0..3)
                .map(|n| pane(Plane((plane.0 + n) % 3), Source::Drawn))
                .collect(),
            Arrangement::Beside => [Source::Drawn, Source::Other]
                .map(|source| pane(plane, source))
                .into(),
        }
    }

    /// The profile to make now, if any.
    pub fn profile_job(&mut self, snapshot: &Snapshot) -> Option<ProfileJob> {
        let job = ProfileJob {
            view: Seen(self.view.clone()?),
            plane: self.plane()?,
            classes: snapshot.settings.classes(),
            tolerance_mm: snapshot.settings.effort.tolerance_mm,
        };
        let is_made = self.profile.as_ref().is_some_and(|(of, _)| *of == job);
        if is_made || self.profiling.is_some() {
            return None;
        }
        self.profiling = Some(job.clone());
        Some(job)
    }

    /// Takes a profile that was made.
    pub fn profiled(&mut self, job: ProfileJob, profile: Profile) {
        self.profiling = None;
        self.profile = Some((job, profile));
    }

    /// The picture to make now, if any, in frames of these many cells.
    pub fn paint(
        &mut self,
        snapshot: &Snapshot,
        cells: &[Size],
        screen: Screen,
        theme: &Theme,
    ) -> Option<Arc<PaintJob>> {
        let view = self.view.clone()?;
        if self.painting.is_some() {
            return None;
        }
        let labels = &snapshot.settings.labels;
        let palette = Arc::new(theme.palette(labels));
        let letters: Arc<[char]> = letters(labels.names()).into();
        for (pane, (Pane { plane, source }, cells)) in self.panes().into_iter().zip(cells).enumerate() {
            let pixel = self.pixel(plane);
            let job = PaintJob {
                pane,
                view: Seen(view.clone()),
                plane,
                index: self.at[plane.0],
                source,
                look: self.look.clone(),
                zoom: self.zoom,
                // Where it is shown as a whole, the crosshair is of no matter to it.
                focus: if self.zoom.factor > 1.0 { pixel } else { [0, 0] },
                cross: self.look.crosshair.then_some(pixel),
                palette: palette.clone(),
                letters: letters.clone(),
                turn: Turn::of(&view.grid, plane),
                cells: *cells,
                kind: screen.kind,
                depth: screen.depth,
                cell_px: screen.cell_px,
            };
            let is_made = self.pictures[pane].as_ref().is_some_and(|(of, _)| **of == job);
            if !is_made && cells.width > 0 && cells.height > 0 {
                let job = Arc::new(job);
                self.painting = Some(job.clone());
                return Some(job);
            }
        }
        None
    }

    /// Takes a picture that was made, if it was asked for here; one of another case is dropped.
    pub fn painted(&mut self, job: &Arc<PaintJob>, picture: &Picture) {
        if !self
            .painting
            .as_ref()
            .is_some_and(|asked| Arc::ptr_eq(asked, job))
        {
            return;
        }
        self.painting = None;
        if Some(&job.view.0.case) == self.case() {
            self.pictures[job.pane] = Some((job.clone(), picture.clone()));
        }
    }

    /// Has every picture made anew.
    pub fn forget_pictures(&mut self) {
        self.painting = None;
        self.pictures.fill(None);
    }

    /// The picture of a pane, if it is here: the newest that was made.
    pub fn picture(&self, pane: usize) -> Option<&(Arc<PaintJob>, Picture)> {
        self.pictures[pane].as_ref()
    }
}

/// The least sure slice.
fn unsure(scores: &[f64]) -> Option<usize> {
    (0..scores.len()).min_by(|&a, &b| scores[a].total_cmp(&scores[b]))
}

/// A window `times` as wide, moved by a share of its width.
fn spread(low: f64, high: f64, times: f64, shift: f64) -> [f64; 2] {
    let (middle, width) = ((low + high) / 2.0, high - low);
    let (middle, half) = (middle + shift * width, (width * times / 2.0).max(1e-6));
    [middle - half, middle + half]
}
