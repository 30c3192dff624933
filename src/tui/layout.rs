//! Where things go on the screen: rectangles from rectangles, the same for update and draw.

use ratatui::layout::{Constraint, Layout, Rect, Size};

/// Below this there is only a notice.
pub const SMALLEST: Size = Size::new(60, 20);

/// The parts that every screen has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Areas {
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
pub fn areas(size: Size) -> Areas {
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

/// A list with a line above its header and details below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    pub title: Rect,
    pub header: Rect,
    pub list: Rect,
    pub details: Rect,
}

pub fn list(body: Rect) -> List {
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(4),
    ];
    let [title, header, list, details] = Layout::vertical(rows).areas(body);
    List {
        title,
        header,
        list,
        details,
    }
}

/// The parts of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    pub title: Rect,
    pub header: Rect,
    pub list: Rect,
    pub details: Rect,
    /// The preview's picture, where there is room for one.
    pub preview: Option<Rect>,
}

/// Least columns of the queue's table beside a preview.
const TABLE: u16 = 66;
/// Least columns of a preview.
const PREVIEW: u16 = 24;
/// Columns from which on there is a preview.
pub const PREVIEW_FROM: u16 = TABLE + PREVIEW;

/// The queue, with or without a preview.
pub fn queue(body: Rect, has_preview: bool) -> Queue {
    let [above, details] = Layout::vertical([Constraint::Min(0), Constraint::Length(4)]).areas(body);
    // Half of what a wide terminal has more is the table's, which shows volumes and effort there.
    let spare = body.width.saturating_sub(TABLE);
    let wide = spare.min(30 + spare / 3).min(2 * above.height);
    let [left, right] = match has_preview && wide >= PREVIEW {
        true => Layout::horizontal([Constraint::Min(0), Constraint::Length(wide)]).areas(above),
        false => [above, Rect::default()],
    };
    let rows = [Constraint::Length(1), Constraint::Length(1), Constraint::Min(0)];
    let [title, header, list] = Layout::vertical(rows).areas(left);
    let preview = (right.width > 0).then(|| Rect {
        x: right.x + 1,
        y: right.y + 1,
        width: right.width - 1,
        height: right.height - 1,
    });
    Queue {
        title,
        header,
        list,
        details,
        preview,
    }
}

/// The parts of the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Models {
    pub title: Rect,
    pub header: Rect,
    pub list: Rect,
    pub details: Rect,
    pub comparison: Rect,
}

pub fn models(body: Rect) -> Models {
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(4),
        Constraint::Percentage(40),
    ];
    let [title, header, list, details, comparison] = Layout::vertical(rows).areas(body);
    Models {
        title,
        header,
        list,
        details,
        comparison,
    }
}

/// How slices share the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrangement {
    /// One cut.
    #[default]
    One,
    /// All three.
    Three,
    /// One cut twice: as drawn, and what it is held against.
    Beside,
}

impl Arrangement {
    /// The next one.
    pub fn next(self) -> Arrangement {
        match self {
            Arrangement::One => Arrangement::Three,
            Arrangement::Three => Arrangement::Beside,
            Arrangement::Beside => Arrangement::One,
        }
    }
}

/// The parts of the slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slices {
    pub title: Rect,
    /// A picture each, with a margin of one cell for its letters.
    pub panes: Vec<Rect>,
    /// What is known of every slice, from top to bottom.
    pub strip: Rect,
    /// What is written beside.
    pub side: Rect,
}

pub fn slices(body: Rect, arrangement: Arrangement) -> Slices {
    let [title, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(body);
    let beside = if body.width >= 110 { 38 } else { 29 };
    let [framed, strip, side] = Layout::horizontal([
        Constraint::Min(0),
        Constraint::Length(3),
        Constraint::Length(beside),
    ])
    .areas(rest);
    let frames: Vec<Rect> = match arrangement {
        Arrangement::One => vec![framed],
        Arrangement::Beside => Layout::horizontal([Constraint::Fill(1); 2])
            .split(framed)
            .to_vec(),
        // The cut that keys move through is the large one.
        Arrangement::Three => {
            let [large, small] =
                Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(framed);
            let [above, below] = Layout::vertical([Constraint::Fill(1); 2]).areas(small);
            vec![large, above, below]
        }
    };
    let inside = |frame: Rect| Rect {
        x: frame.x + 1,
        y: frame.y + 1,
        width: frame.width.saturating_sub(2),
        height: frame.height.saturating_sub(2),
    };
    Slices {
        title,
        panes: frames.into_iter().map(inside).collect(),
        strip: Rect {
            y: strip.y + 1,
            height: strip.height.saturating_sub(2),
            ..strip
        },
        side,
    }
}

/// Title, header and rows of the rounds, the selected one's classes, the activity, and the curves.
pub fn rounds(body: Rect, has_control: bool) -> [Rect; 6] {
    let table = (body.height / 3).max(3);
    // Two lines for a round, two for the control.
    let classes = if has_control { 4 } else { 2 };
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(table - 1),
        Constraint::Length(classes),
        Constraint::Length(2),
        Constraint::Min(0),
    ];
    Layout::vertical(rows).areas(body)
}

/// A box of `width` x `height` in the middle.
pub fn middle(whole: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(whole.width), height.min(whole.height));
    Rect {
        x: whole.x + (whole.width - width) / 2,
        y: whole.y + (whole.height - height) / 2,
        width,
        height,
    }
}
