//! Where a person is in a list that may be longer than the screen.

use super::keys::Action;

/// The selected line and the first that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The line that keys act on.
    pub selected: usize,
    /// The first line on the screen.
    pub offset: usize,
}

impl Cursor {
    /// Moves as the action of a list says; `page` is the height of the list of `len`.
    pub fn act(&mut self, action: Action, count: Option<usize>, page: usize, len: usize) {
        let times = count.unwrap_or(1) as isize;
        match action {
            Action::LineDown => self.step(times, len),
            Action::LineUp => self.step(-times, len),
            Action::PageDown => self.step(times.saturating_mul(page as isize), len),
            Action::PageUp => self.step(times.saturating_mul(-(page as isize)), len),
            Action::FirstLine => self.step(isize::MIN, len),
            Action::LastLine => {
                self.selected = 0;
                self.step(count.map_or(isize::MAX, |line| line as isize - 1), len);
            }
            _ => {}
        }
    }

    /// Goes `steps` lines down (up when negative) in a list of `len`.
    pub fn step(&mut self, steps: isize, len: usize) {
        let last = len.saturating_sub(1) as isize;
        self.selected = (self.selected as isize).saturating_add(steps).clamp(0, last) as usize;
    }

    /// Brings the selected line into a window of `rows` lines, and the window into the list.
    pub fn settle(&mut self, len: usize, rows: usize) {
        let rows = rows.max(1);
        self.selected = self.selected.min(len.saturating_sub(1));
        self.offset = self
            .offset
            .min(len.saturating_sub(rows))
            .clamp((self.selected + 1).saturating_sub(rows), self.selected);
    }

    /// The lines on the screen.
    pub fn window(&self, len: usize, rows: usize) -> std::ops::Range<usize> {
        self.offset.min(len)..(self.offset + rows).min(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_selected_line_and_never_shows_nothing() {
        let mut cursor = Cursor::default();
        cursor.step(7, 10);
        cursor.settle(10, 4);
        assert_eq!((cursor.selected, cursor.window(10, 4)), (7, 4..8));
        cursor.step(-2, 10);
        cursor.settle(10, 4);
        assert_eq!(
            (cursor.selected, cursor.window(10, 4)),
            (5, 4..8),
            "no need to move"
        );
        cursor.settle(3, 4);
        assert_eq!(
            (cursor.selected, cursor.window(3, 4)),
            (2, 0..3),
            "the list shrank"
        );
        cursor.step(isize::MIN, 0);
        cursor.settle(0, 4);
        assert_eq!((cursor.selected, cursor.window(0, 4)), (0, 0..0));
    }
}
