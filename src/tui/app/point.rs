//! What the mouse does.

use super::App;
use crate::tui::keys::{Action, Screen};
use crate::tui::layout;
use crate::tui::screens::slices_view::pane_at;
use crate::tui::wire::{Mouse, MouseAction};

/// Lines that the wheel moves a list by.
const LINES: usize = 3;

impl App {
    /// Takes what the mouse did; while something is asked or typed it does nothing.
    pub(super) fn point(&mut self, mouse: Mouse) {
        if self.prompt.is_some() || self.line.is_some() {
            return;
        }
        match mouse.action {
            MouseAction::WheelUp => self.roll(false),
            MouseAction::WheelDown => self.roll(true),
            MouseAction::Press(2) if self.screen == Screen::Slices => {
                let window = self.slices.view.as_ref().map(|view| view.image.window);
                self.pulled = self
                    .slices
                    .look
                    .window
                    .or(window)
                    .map(|window| (mouse.cell, window));
            }
            MouseAction::Drag(2) => self.pull(mouse.cell),
            MouseAction::Press(0) | MouseAction::Drag(0) => self.click(mouse),
            MouseAction::Release => self.pulled = None,
            MouseAction::Press(_) | MouseAction::Drag(_) => {}
        }
    }

    /// The wheel goes through slices, and moves lists.
    fn roll(&mut self, down: bool) {
        let (on, back, times) = match self.screen {
            Screen::Slices => (Action::NextSlice, Action::PreviousSlice, 1),
            Screen::Queue => (Action::NextCase, Action::PreviousCase, LINES),
            Screen::Rounds => (Action::NextRound, Action::PreviousRound, 1),
            _ => (Action::LineDown, Action::LineUp, LINES),
        };
        // These ask nothing of anybody.
        drop(self.act(if down { on } else { back }, Some(times)));
    }

    /// Across: a wider window of intensities; down: a darker picture.
    fn pull(&mut self, to: [u16; 2]) {
        let Some((from, [low, high])) = self.pulled else {
            return;
        };
        let by = |axis: usize| f64::from(to[axis]) - f64::from(from[axis]);
        let width = (high - low) * 1.02f64.powf(by(0));
        let middle = (low + high) / 2.0 + by(1) * (high - low) * 0.02;
        self.slices
            .window(|_| [middle - width / 2.0, middle + width / 2.0]);
    }

    /// A row of the queue is selected; in a picture the crosshair goes there.
    fn click(&mut self, mouse: Mouse) {
        let body = layout::areas(self.size).body;
        match self.screen {
            Screen::Queue => {
                let list = layout::queue(body, self.queue.has_preview).list;
                let [x, y] = mouse.cell;
                if list.contains((x, y).into()) {
                    self.queue.click(usize::from(y - list.y));
                }
            }
            Screen::Slices => {
                let panes = layout::slices(body, self.slices.arrangement).panes;
                if let Some((pane, cell)) = pane_at(&self.slices, &panes, mouse.cell) {
                    self.slices.point_at(pane, cell);
                }
            }
            _ => {}
        }
    }
}
