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
}

impl Default for Help {
    fn default() -> Self {
        Help {
            cursor: Cursor::default(),
            from: Screen::Queue,
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
            lines.push(HelpLine::Head(head));
            for entry in ACTIONS {
                let here = if all {
                    entry.action.is_global()
                } else {
                    !entry.action.is_global() && entry.action.is_on(screen)
                };
                if here {
                    let keys = keymap.keys_of(screen, entry.action);
                    let keys = if keys.is_empty() {
                        "no key".into()
                    } else {
                        keys.join("  ")
                    };
                    lines.push(HelpLine::Key(keys, entry.name, entry.words));
                }
            }
            lines.push(HelpLine::Gap);
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
