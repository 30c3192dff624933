//! A line that is typed at the bottom: a command, a filter, a search.

use super::keys::{ACTIONS, Action, Entry, Key, Screen};

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The name of an action, and a count.
    Command,
    /// What cases are narrowed by.
    Filter,
    /// What lines are narrowed by.
    Search,
}

/// What a key did to the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    /// It is still open.
    Open,
    /// It was called off.
    Dropped,
    /// It is as it should be.
    Done,
}

/// A line being typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What for.
    pub purpose: Purpose,
    /// The text so far.
    pub text: String,
    /// What was typed before completion put something in its place, and which candidate that was.
    completing: Option<(String, usize)>,
}

impl Line {
    /// An empty line.
    pub fn new(purpose: Purpose) -> Line {
        Line {
            purpose,
            text: String::new(),
            completing: None,
        }
    }

    /// The sign before the text.
    pub fn sign(&self) -> char {
        match self.purpose {
            Purpose::Command => ':',
            Purpose::Filter | Purpose::Search => '/',
        }
    }

    /// Takes one key.
    pub fn press(&mut self, key: Key, screen: Screen) -> Edited {
        match key.to_string().as_str() {
            "esc" | "ctrl-c" | "ctrl-g" => return Edited::Dropped,
            "backspace" if self.text.is_empty() => return Edited::Dropped,
            "enter" => return Edited::Done,
            "tab" | "down" | "ctrl-n" => self.complete(screen, 1),
            "backtab" | "up" | "ctrl-p" => self.complete(screen, -1),
            "backspace" => drop(self.text.pop()),
            "ctrl-u" => self.text.clear(),
            "ctrl-w" => {
                let kept = self.text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                self.text.truncate(kept);
            }
            _ => self.text.extend(key.typed()),
        }
        if !matches!(
            key.to_string().as_str(),
            "tab" | "backtab" | "up" | "down" | "ctrl-n" | "ctrl-p"
        ) {
            self.completing = None;
        }
        Edited::Open
    }

    /// Takes pasted text; control characters become spaces.
    pub fn paste(&mut self, pasted: &str) {
        self.text
            .extend(pasted.chars().map(|c| if c.is_control() { ' ' } else { c }));
        self.completing = None;
    }

    /// The actions that the text may become, those that begin with it first; and which of them it is now.
    pub fn candidates(&self, screen: Screen) -> (Vec<&'static Entry>, Option<usize>) {
        if self.purpose != Purpose::Command {
            return (Vec::new(), None);
        }
        let (typed, at) = match &self.completing {
            Some((typed, at)) => (typed.as_str(), Some(*at)),
            None => (self.text.as_str(), None),
        };
        let typed = typed.trim_start();
        let on_screen = || ACTIONS.iter().filter(move |entry| entry.action.is_on(screen));
        let mut found: Vec<&Entry> = on_screen()
            .filter(|entry| entry.name.starts_with(typed))
            .collect();
        found
            .extend(on_screen().filter(|entry| entry.name.contains(typed) && !entry.name.starts_with(typed)));
        (found, at)
    }

    fn complete(&mut self, screen: Screen, steps: isize) {
        let (found, at) = self.candidates(screen);
        if found.is_empty() {
            return;
        }
        let len = found.len() as isize;
        let next = match at {
            Some(at) => (at as isize + steps).rem_euclid(len),
            None if steps > 0 => 0,
            None => len - 1,
        } as usize;
        let typed = match self.completing.take() {
            Some((typed, _)) => typed,
            None => std::mem::take(&mut self.text),
        };
        self.text = found[next].name.to_string();
        self.completing = Some((typed, next));
    }

    /// The action that the text names, and its count: `next_slice 10`, or `10 next_slice`; nothing for an empty line.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn command(&self, screen: Screen) -> Result<Option<(Action, Option<usize>)>, String> {
        let mut words = Vec::new();
        let mut count = None;
        for word in self.text.split_whitespace() {
            match word.parse::<usize>() {
                Ok(number) => count = Some(number.min(999_999)),
                Err(_) => words.push(word),
            }
        }
        let name = words.join("_");
        if name.is_empty() {
            // A number alone is a line, as in an editor.
            let last = ACTIONS
                .iter()
                .find(|entry| entry.name.starts_with("last_") && entry.action.is_on(screen));
            return Ok(last
                .map(|entry| entry.action)
                .zip(Some(count))
                .filter(|_| count.is_some()));
        }
        if let Some(action) = Action::named(&name) {
            if action.is_on(screen) {
                return Ok(Some((action, count)));
            }
            let screens: Vec<&str> = action
                .entry()
                .screens
                .iter()
                .map(|screen| screen.word())
                .collect();
            return Err(format!("{name} works on {} only", screens.join(" and ")));
        }
        let begins = || {
            ACTIONS
                .iter()
                .filter(|entry| entry.action.is_on(screen) && entry.name.starts_with(&name))
        };
        match (begins().next(), begins().count()) {
            (Some(only), 1) => Ok(Some((only.action, count))),
            (Some(first), n) => Err(format!(
                "{name} may be any of {n}: {}, ..; tab completes it",
                first.name
            )),
            (None, _) => {
                let near = ACTIONS
                    .iter()
                    .filter(|entry| entry.action.is_on(screen))
                    .max_by(|a, b| {
                        let like = |entry: &Entry| strsim::jaro_winkler(&name, entry.name);
                        like(a).total_cmp(&like(b))
                    });
                let near = near.map_or_else(String::new, |entry| format!("; did you mean {}?", entry.name));
                Err(format!("there is no command {name:?} here{near}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Line {
        Line {
            text: text.into(),
            ..Line::new(Purpose::Command)
        }
    }

    fn press(line: &mut Line, keys: &str) -> Edited {
        let mut last = Edited::Open;
        for word in keys.split_whitespace() {
            last = line.press(Key::parse(word).expect("a key"), Screen::Slices);
        }
        last
    }

    #[test]
    fn every_action_of_a_screen_can_be_typed_with_a_count() {
        for screen in Screen::ALL {
            for entry in ACTIONS.iter().filter(|entry| entry.action.is_on(screen)) {
                let line = typed(&format!("{} 12", entry.name));
                assert_eq!(line.command(screen), Ok(Some((entry.action, Some(12)))));
            }
        }
        assert_eq!(
            typed("40").command(Screen::Slices),
            Ok(Some((Action::LastSlice, Some(40))))
        );
        assert_eq!(typed("  ").command(Screen::Slices), Ok(None));
        assert_eq!(
            typed("next sl").command(Screen::Slices),
            Ok(Some((Action::NextSlice, None))),
            "what is clear need not be whole"
        );
    }

    #[test]
    fn what_is_no_command_here_names_the_nearest() {
        let why = |text: &str, screen| typed(text).command(screen).unwrap_err();
        assert_eq!(
            why("nxt_slice", Screen::Slices),
            "there is no command \"nxt_slice\" here; did you mean next_slice?"
        );
        assert_eq!(why("rank", Screen::Slices), "rank works on queue only");
        assert!(why("toggle", Screen::Slices).contains("may be any of"));
    }

    #[test]
    fn tab_goes_through_what_the_text_may_become_and_typing_goes_on_from_there() {
        let mut line = Line::new(Purpose::Command);
        press(&mut line, "z o o m tab");
        assert_eq!(line.text, "zoom_in");
        press(&mut line, "tab tab");
        assert_eq!(line.text, "zoom_reset");
        press(&mut line, "tab");
        assert_eq!(line.text, "zoom_in", "around the end");
        press(&mut line, "backtab");
        assert_eq!(line.text, "zoom_reset");
        assert_eq!(press(&mut line, "ctrl-w x enter"), Edited::Done);
        assert_eq!(line.text, "x");
        assert_eq!(press(&mut line, "backspace backspace"), Edited::Dropped);
        let mut filter = Line::new(Purpose::Filter);
        press(&mut filter, "a tab");
        assert_eq!(filter.text, "a");
    }
}
