//! Where things go on the screen: rectangles from rectangles, the same for update and draw.

use ratatui::layout::{Constraint, Layout, Rect, Size};

/// Below this there is only a notice.
pub(super) const SMALLEST: Size = Size::new(60, 20);

/// The parts that every screen has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Areas {
    /// Project and tabs.
    pub tabs: Rect,
    /// The screen's own.
    pub body: Rect,
    /// Pools, model, activity.
    pub state: Rect,
    /// The message, pending keys.
    pub message: Rect,
}

/// Splits the terminal.
pub(super) fn areas(size: Size) -> Areas {
    let whole = Rect::new(0, 0, size.width, size.height);
    let rows = [
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
        Constraint::Length(2),
    ];
    let [tabs, body, state, message] = Layout::vertical(rows).areas(whole);
    Areas {
        tabs,
        body,
        state,
        message,
    }
}

/// Title, header and rows of the queue, and the details of the selected case.
pub(super) fn queue(body: Rect) -> [Rect; 4] {
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(4),
    ];
    Layout::vertical(rows).areas(body)
}

/// Title, picture with a margin of one cell for its letters, and what is written beside it.
pub(super) fn slices(body: Rect) -> [Rect; 3] {
    let [title, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(body);
    let beside = if body.width >= 110 { 38 } else { 29 };
    let [framed, side] = Layout::horizontal([Constraint::Min(0), Constraint::Length(beside)]).areas(rest);
    let picture = Rect {
        x: framed.x + 1,
        y: framed.y + 1,
        width: framed.width.saturating_sub(3),
        height: framed.height.saturating_sub(2),
    };
    [title, picture, side]
}

/// Title, header and rows of the rounds, the selected one's classes, the activity, and the curves.
pub(super) fn rounds(body: Rect) -> [Rect; 6] {
    let table = (body.height / 3).max(3);
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(table - 1),
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Min(0),
    ];
    Layout::vertical(rows).areas(body)
}

/// A box of `width` x `height` in the middle.
pub(super) fn middle(whole: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(whole.width), height.min(whole.height));
    Rect {
        x: whole.x + (whole.width - width) / 2,
        y: whole.y + (whole.height - height) / 2,
        width,
        height,
    }
}
