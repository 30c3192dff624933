//! The queue's state: the rows as of the last frame, and which case is selected.

use crate::protocol::{QueueRow, Snapshot};
use crate::records::CaseId;
use crate::tui::keys::Action;
use crate::tui::list::Cursor;

/// The queue screen.
#[derive(Debug, Default)]
pub struct Queue {
    pub rows: Vec<QueueRow>,
    pub cursor: Cursor,
    /// Characters in the longest name, for the width of its column.
    pub longest_name: usize,
    /// The largest score, for the length of the bars.
    pub largest_score: f64,
    /// The selected case by name: the order may change under it.
    case: Option<CaseId>,
}

impl Queue {
    /// Makes the rows anew and finds the selected case among them.
    pub fn refresh(&mut self, snapshot: &Snapshot) {
        self.rows = snapshot.queue();
        let names = self.rows.iter().map(|row| row.case.as_str().len());
        self.longest_name = names.max().unwrap_or(0);
        self.largest_score = self.rows.iter().filter_map(|row| row.score).fold(0.0, f64::max);
        if let Some(at) = self
            .case
            .as_ref()
            .and_then(|case| self.rows.iter().position(|row| row.case == *case))
        {
            self.cursor.selected = at;
        }
        self.step(0);
    }

    /// Moves the selection by `steps`.
    pub fn step(&mut self, steps: isize) {
        self.cursor.step(steps, self.rows.len());
        self.case = self.selected().map(|row| row.case.clone());
    }

    /// Moves the selection; `page` is the height of the list.
    pub fn act(&mut self, action: Action, count: Option<usize>, page: usize) {
        let times = count.unwrap_or(1) as isize;
        match action {
            Action::NextCase => self.step(times),
            Action::PreviousCase => self.step(-times),
            Action::PageDown => self.step(times * page as isize),
            Action::PageUp => self.step(-times * page as isize),
            Action::FirstCase => self.step(isize::MIN),
            // `10G` is the tenth line, as everywhere.
            Action::LastCase => {
                self.cursor.selected = 0;
                self.step(count.map_or(isize::MAX, |line| line as isize - 1));
            }
            _ => {}
        }
    }

    /// The row that keys act on.
    pub fn selected(&self) -> Option<&QueueRow> {
        self.rows.get(self.cursor.selected)
    }
}
