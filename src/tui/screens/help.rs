//! The help's state, and its lines: made from the keys in force, so that they are never wrong.

use crate::tui::keys::Keymap;
use crate::tui::keys::{ACTIONS, Action, Screen};
use crate::tui::list::Cursor;

/// The help screen.
#[derive(Debug)]
pub struct Help {
    pub cursor: Cursor,
    /// The screen that help was asked on; its keys come first.
    pub from: Screen,
    /// What its lines are narrowed by.
    pub search: String,
}

impl Default for Help {
    fn default() -> Self {
        Help {
            cursor: Cursor::default(),
            from: Screen::Queue,
            search: String::new(),
        }
    }
}

/// One line of help.
#[derive(Debug, Clone, PartialEq)]
pub enum HelpLine {
    /// A screen's name.
    Head(&'static str),
    /// Keys, action, words.
    Key(String, &'static str, &'static str),
    /// Nothing.
    Gap,
}

impl Help {
    /// Opens it for a screen.
    pub fn open(&mut self, from: Screen) {
        *self = Help {
            from,
            ..Help::default()
        };
    }

    /// Shows only the lines with `text`.
    pub fn search(&mut self, text: &str) {
        self.search = text.to_string();
        self.cursor = Cursor::default();
    }

    /// Shows all lines again; whether some were not.
    pub fn widen(&mut self) -> bool {
        let had = !self.search.is_empty();
        self.search("");
        had
    }

    /// Moves the window; `page` is its height, `len` the number of lines.
    pub fn act(&mut self, action: Action, count: Option<usize>, page: usize, len: usize) {
        let times = count.unwrap_or(1) as isize;
        let steps = match action {
            Action::LineDown => times,
            Action::LineUp => -times,
            Action::PageDown => times * page as isize,
            Action::PageUp => -times * page as isize,
            Action::FirstLine => isize::MIN,
            _ => isize::MAX,
        };
        // Help scrolls by the window: there is no line to select.
        let last = len.saturating_sub(page) as isize;
        self.cursor.offset = (self.cursor.offset as isize).saturating_add(steps).clamp(0, last) as usize;
    }

    /// Every line: the screen that help was asked on, all screens, the other screens.
    pub fn lines(&self, keymap: &Keymap) -> Vec<HelpLine> {
        let mut lines = Vec::new();
        let mut section = |head, screen: Screen, all: bool| {
            let before = lines.len();
            lines.push(HelpLine::Head(head));
            for entry in ACTIONS {
                let here = if all {
                    entry.action.is_global()
                } else {
                    !entry.action.is_global() && entry.action.is_on(screen)
                };
                let search = self.search.to_lowercase();
                let is_like = |text: &str| text.to_lowercase().contains(&search);
                if here {
                    let keys = keymap.keys_of(screen, entry.action);
                    let keys = if keys.is_empty() {
                        "no key".into()
                    } else {
                        keys.join("  ")
                    };
                    if is_like(&keys) || is_like(entry.name) || is_like(entry.words) {
                        lines.push(HelpLine::Key(keys, entry.name, entry.words));
                    }
                }
            }
            // A screen without any of what is looked for has no heading either.
            match lines.len() == before + 1 {
                true => lines.truncate(before),
                false => lines.push(HelpLine::Gap),
            }
        };
        section(self.from.word(), self.from, false);
        section("on every screen", self.from, true);
        for screen in Screen::ALL.into_iter().filter(|&screen| screen != self.from) {
            section(screen.word(), screen, false);
        }
        lines.pop();
        lines
    }
}
