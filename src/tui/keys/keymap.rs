//! Which key does what: TOML files of `"key or chord" = "action"`, a section for each screen and one for all.
//!
//! A preset (`keymaps/`, compiled in) holds a key for every action; a person's own file is laid over it, line by
//! line. On a screen its own section comes first, then `[global]`. Nothing is taken silently: what is no key, no
//! action, not of that screen or there twice is an error that names file, line, key and action.

use std::path::Path;

use super::action::{ACTIONS, Action, Screen};
use super::key::{Key, chord_text, parse_chord};
use crate::tui::config::{Entry, Fault, Faults, Value, entries, hint, nearest, read};

/// The keymaps compiled in, by name.
pub const PRESETS: [(&str, &str); 3] = [
    ("default", include_str!("../../../keymaps/default.toml")),
    ("vim", include_str!("../../../keymaps/vim.toml")),
    ("emacs", include_str!("../../../keymaps/emacs.toml")),
];

/// The word that takes a key away.
const NONE: &str = "none";

/// One line of a keymap; no `screen` is `[global]`, no `action` is `"none"`.
#[derive(Debug, Clone, PartialEq)]
struct Binding {
    screen: Option<Screen>,
    keys: Vec<Key>,
    action: Option<Action>,
    /// `FILE:LINE`.
    place: String,
}

impl Binding {
    /// The line as a keymap has it, with its section.
    fn text(&self) -> String {
        let section = self.screen.map_or("global", Screen::word);
        let action = self.action.map_or(NONE, |action| action.entry().name);
        format!("[{section}] {:?} = {action:?}", chord_text(&self.keys))
    }

    /// Whether pressing one would keep the other from being reached.
    fn clashes(&self, other: &Binding) -> bool {
        self.keys.starts_with(&other.keys) || other.keys.starts_with(&self.keys)
    }
}

/// What some keys mean on a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// This.
    Does(Action),
    /// The beginning of something.
    Begins,
    /// Nothing.
    Nothing,
}

/// The keys in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Keymap {
    bindings: Vec<Binding>,
    notes: Vec<String>,
}

impl Keymap {
    /// The preset `name`, with the file `user` laid over it; a file that is not there lays nothing.
    ///
    /// # Errors
    /// All that is wrong, by file and line.
    pub fn load(name: &str, user: Option<&Path>) -> Result<Keymap, Faults> {
        let preset = Keymap::preset(name)?;
        let Some(path) = user else { return Ok(preset) };
        match read(path)? {
            Some(text) => preset.with(&text, path),
            None => Ok(preset),
        }
    }

    /// The preset `name` by itself.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn preset(name: &str) -> Result<Keymap, Faults> {
        let (_, text) = PRESETS
            .iter()
            .find(|(preset, _)| *preset == name)
            .ok_or_else(|| {
                let hint = hint(name, PRESETS.map(|(name, _)| name));
                Faults::one(
                    format!("keymap {name:?}"),
                    format!("there is none of that name{hint}"),
                )
            })?;
        Ok(Keymap {
            bindings: parse(text, &format!("keymaps/{name}.toml"))?,
            notes: Vec::new(),
        })
    }

    /// This keymap with the text of a person's own file laid over it; `path` is for the words of an error.
    ///
    /// A line takes the place of every line of this keymap that its key would make unreachable. An action that
    /// is left without a key on one of its screens is named in [`Keymap::notes`].
    ///
    /// # Errors
    /// All that is wrong, by file and line.
    pub fn with(mut self, text: &str, path: &Path) -> Result<Keymap, Faults> {
        let file = path.display().to_string();
        let own = parse(text, &file)?;
        let before = self.clone();
        for line in &own {
            self.bindings.retain(|old| {
                let in_its_way =
                    line.screen == old.screen || (line.screen.is_none() && line.action.is_some());
                !(in_its_way && line.clashes(old))
            });
        }
        self.bindings.extend(own);
        for screen in Screen::ALL {
            for entry in ACTIONS.iter().filter(|entry| entry.action.is_on(screen)) {
                let had = !before.keys_of(screen, entry.action).is_empty();
                if had && self.keys_of(screen, entry.action).is_empty() {
                    let note = format!("{file}: {} has no key on {} any more", entry.name, screen.word());
                    self.notes.push(note);
                }
            }
        }
        Ok(self)
    }

    /// What a person's own file took away.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What `keys` mean on `screen`: its own section decides before `[global]`.
    pub fn meaning(&self, screen: Screen, keys: &[Key]) -> Meaning {
        for section in [Some(screen), None] {
            let here = || self.bindings.iter().filter(move |line| line.screen == section);
            if let Some(line) = here().find(|line| line.keys == keys) {
                return line.action.map_or(Meaning::Nothing, Meaning::Does);
            }
            if here().any(|line| line.action.is_some() && line.keys.starts_with(keys)) {
                return Meaning::Begins;
            }
        }
        Meaning::Nothing
    }

    /// The keys that go on from a chord, and what each does; `None` where more has to follow.
    pub fn continuations(&self, screen: Screen, keys: &[Key]) -> Vec<(Key, Option<Action>)> {
        let mut found: Vec<(Key, Option<Action>)> = Vec::new();
        for line in &self.bindings {
            let is_here = line.screen.is_none_or(|on| on == screen) && line.action.is_some();
            let Some(next) = line
                .keys
                .get(keys.len())
                .filter(|_| is_here && line.keys.starts_with(keys))
            else {
                continue;
            };
            let chord = [keys, &[*next]].concat();
            let action = match self.meaning(screen, &chord) {
                Meaning::Does(action) => Some(action),
                Meaning::Begins => None,
                Meaning::Nothing => continue,
            };
            if !found.contains(&(*next, action)) {
                found.push((*next, action));
            }
        }
        found.sort_by_key(|(key, _)| key.to_string());
        found
    }

    /// Every chord that does `action` on `screen`, as a keymap writes it.
    pub fn keys_of(&self, screen: Screen, action: Action) -> Vec<String> {
        self.bindings
            .iter()
            .filter(|line| line.action == Some(action) && line.screen.is_none_or(|on| on == screen))
            .filter(|line| {
                let opens =
                    (1..line.keys.len()).all(|n| self.meaning(screen, &line.keys[..n]) == Meaning::Begins);
                opens && self.meaning(screen, &line.keys) == Meaning::Does(action)
            })
            .map(|line| chord_text(&line.keys))
            .collect()
    }

    /// The first chord that does `action` on `screen`, for words on the screen; `-` without one.
    pub fn first_key_of(&self, screen: Screen, action: Action) -> String {
        self.keys_of(screen, action)
            .into_iter()
            .next()
            .unwrap_or_else(|| "-".into())
    }
}

/// The key table of a preset in Markdown, for the README.
///
/// # Errors
/// There is no such preset.
pub fn key_table(preset: &str) -> Result<String, Faults> {
    let keymap = Keymap::preset(preset)?;
    let mut table = String::from("| screen | key | action | what it does |\n|---|---|---|---|\n");
    let mut line = |screen: &str, keys: Vec<String>, action: Action| {
        let keys: Vec<String> = keys
            .iter()
            .map(|key| format!("`{}`", key.replace('|', "\\|")))
            .collect();
        let entry = action.entry();
        table += &format!(
            "| {screen} | {} | `{}` | {} |\n",
            keys.join(" "),
            entry.name,
            entry.words
        );
    };
    for entry in ACTIONS.iter().filter(|entry| entry.action.is_global()) {
        line("all", keymap.keys_of(Screen::Queue, entry.action), entry.action);
    }
    for screen in Screen::ALL {
        for entry in ACTIONS {
            if entry.action.is_on(screen) && !entry.action.is_global() {
                line(screen.word(), keymap.keys_of(screen, entry.action), entry.action);
            }
        }
    }
    Ok(table)
}

fn parse(text: &str, file: &str) -> Result<Vec<Binding>, Faults> {
    let (mut lines, mut faults) = (Vec::new(), Vec::new());
    for entry in entries(text, file)? {
        match parse_line(&entry) {
            Ok(line) => lines.push(line),
            Err(fault) => faults.push(fault),
        }
    }
    faults.extend(conflicts(&lines));
    if faults.is_empty() {
        Ok(lines)
    } else {
        Err(Faults(faults))
    }
}

fn parse_line(entry: &Entry) -> Result<Binding, Fault> {
    let section = entry.section.as_str();
    let screen = Screen::ALL.into_iter().find(|screen| screen.word() == section);
    if screen.is_none() && section != "global" {
        let sections = std::iter::once("global").chain(Screen::ALL.map(Screen::word));
        let hint = hint(section, sections);
        return Err(entry.fault(format!("there is no section [{section}]{hint}")));
    }
    let Value::Text(name) = &entry.value else {
        return Err(entry.fault("write the action as a text, like \"quit\""));
    };
    let wrong = |words: String| entry.fault(format!("{name:?}: {words}"));
    let keys = match parse_chord(&entry.key) {
        Ok(keys) if !keys.is_empty() => keys,
        other => {
            let word = other.err().unwrap_or_default();
            let hint = nearest(&word, Key::names()).map_or_else(
                || "; write j, G, enter, ctrl-d or g g".into(),
                |near| format!("; did you mean {near:?}?"),
            );
            return Err(wrong(format!("{word:?} is no key{hint}")));
        }
    };
    let action = match name.as_str() {
        NONE => None,
        name => {
            let known = Action::named(name).ok_or_else(|| {
                let hint = hint(name, ACTIONS.iter().map(|entry| entry.name));
                wrong(format!("there is no such action{hint}"))
            })?;
            if !screen.map_or(known.is_global(), |screen| known.is_on(screen)) {
                let screens: Vec<&str> = known.entry().screens.iter().map(|screen| screen.word()).collect();
                let screens = screens.join(" and ");
                return Err(wrong(format!(
                    "that action works on {screens} only; bind it there"
                )));
            }
            Some(known)
        }
    };
    Ok(Binding {
        screen,
        keys,
        action,
        place: entry.place.clone(),
    })
}

fn conflicts(lines: &[Binding]) -> Vec<Fault> {
    let mut found = Vec::new();
    for (at, later) in lines.iter().enumerate() {
        for earlier in &lines[..at] {
            let meet = earlier.screen == later.screen || earlier.screen.is_none() || later.screen.is_none();
            let taken_away = earlier.action.is_none() || later.action.is_none();
            let same = earlier.keys == later.keys;
            if !meet || !earlier.clashes(later) || (taken_away && !(same && earlier.screen == later.screen)) {
                continue;
            }
            let clash = if same {
                "are the same key"
            } else {
                "clash: one is the beginning of the other"
            };
            let line = earlier.place.rsplit(':').next().unwrap_or_default();
            found.push(Fault {
                place: later.place.clone(),
                words: format!("{} and, in line {line}, {} {clash}", later.text(), earlier.text()),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        match parse(text, "my.toml") {
            Ok(_) => Vec::new(),
            Err(faults) => faults.0.iter().map(Fault::to_string).collect(),
        }
    }

    fn keys(text: &str) -> Vec<Key> {
        parse_chord(text).expect("keys")
    }

    #[test]
    fn every_action_has_a_key_on_each_of_its_screens_in_every_preset() {
        for (name, _) in PRESETS {
            let keymap = Keymap::preset(name).unwrap();
            for entry in ACTIONS {
                for &screen in entry.screens {
                    assert!(
                        !keymap.keys_of(screen, entry.action).is_empty(),
                        "{name}: {} has no key on {}",
                        entry.name,
                        screen.word()
                    );
                }
            }
        }
    }

    #[test]
    fn a_chord_that_was_begun_names_what_may_follow() {
        let keymap = Keymap::preset("vim").unwrap();
        let follow = |screen, text| -> Vec<(String, Option<Action>)> {
            let found = keymap.continuations(screen, &keys(text));
            found
                .into_iter()
                .map(|(key, action)| (key.to_string(), action))
                .collect()
        };
        let after_g = follow(Screen::Queue, "g");
        assert!(
            after_g.contains(&("g".into(), Some(Action::FirstCase))),
            "{after_g:?}"
        );
        assert!(
            after_g.contains(&("r".into(), Some(Action::ShowRounds))),
            "{after_g:?}"
        );
        assert!(after_g.is_sorted());
        assert_eq!(
            follow(Screen::Queue, "d"),
            [("d".to_string(), Some(Action::ExcludeCase))]
        );
        assert_eq!(follow(Screen::Log, "d"), []);
        assert!(follow(Screen::Queue, "").contains(&("g".into(), None)));
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_key_and_action() {
        assert_eq!(
            errors(
                "[queue]\n\"j\" = \"next_cse\"\n\"entr\" = \"hand_out\"\n\"p\" = \"next_plane\"\n\"z\" = 3\n"
            ),
            [
                "my.toml:2: [queue] j: \"next_cse\": there is no such action; did you mean \"next_case\"?",
                "my.toml:3: [queue] entr: \"hand_out\": \"entr\" is no key; did you mean \"enter\"?",
                "my.toml:4: [queue] p: \"next_plane\": that action works on slices only; bind it there",
                "my.toml:5: [queue] z: write the action as a text, like \"quit\"",
            ]
        );
        assert_eq!(
            errors("[plots]\n\"j\" = \"quit\"\n[queues]\n\"j\" = \"quit\"\n"),
            [
                "my.toml:2: [plots] j: there is no section [plots]; there are global, queue, slices, rounds, \
                 corrections, models, log, help",
                "my.toml:4: [queues] j: there is no section [queues]; did you mean \"queue\"?"
            ]
        );
        let wrong_place = errors("[global]\n\"h\" = \"hand_out\"\n");
        assert!(
            wrong_place[0].contains("works on queue and slices only"),
            "{wrong_place:?}"
        );
        assert!(errors("[global\n")[0].starts_with("my.toml:1: "));
    }

    #[test]
    fn the_same_key_twice_and_a_key_that_begins_a_chord_are_conflicts() {
        assert_eq!(
            errors("[global]\n\"tab\" = \"next_screen\"\n[queue]\n\"ctrl-i\" = \"rank\"\n"),
            [
                "my.toml:4: [queue] \"tab\" = \"rank\" and, in line 2, [global] \"tab\" = \"next_screen\" are the \
                 same key"
            ]
        );
        assert_eq!(
            errors("[queue]\n\"g\" = \"rank\"\n\"g g\" = \"first_case\"\n"),
            [
                "my.toml:3: [queue] \"g g\" = \"first_case\" and, in line 2, [queue] \"g\" = \"rank\" clash: one is \
                 the beginning of the other"
            ]
        );
        assert_eq!(
            errors("[queue]\n\"g\" = \"rank\"\n[slices]\n\"g g\" = \"first_slice\"\n"),
            Vec::<String>::new(),
            "screens do not meet"
        );
    }

    #[test]
    fn a_line_of_ones_own_takes_the_place_of_what_it_hides() {
        let own = "[queue]\n\"g\" = \"hand_out\"\n\"h\" = \"none\"\n\"f2\" = \"rank\"\n\"home\" = \"none\"\n";
        let keymap = Keymap::preset("default")
            .unwrap()
            .with(own, Path::new("my.toml"))
            .unwrap();
        assert_eq!(
            keymap.meaning(Screen::Queue, &keys("g")),
            Meaning::Does(Action::HandOut)
        );
        assert_eq!(keymap.meaning(Screen::Queue, &keys("h")), Meaning::Nothing);
        assert_eq!(
            keymap.meaning(Screen::Slices, &keys("h")),
            Meaning::Does(Action::HandOut)
        );
        assert_eq!(keymap.meaning(Screen::Slices, &keys("g")), Meaning::Begins);
        assert_eq!(
            keymap.meaning(Screen::Slices, &keys("f2")),
            Meaning::Does(Action::ShowQueue)
        );
        assert_eq!(
            keymap.notes(),
            [
                "my.toml: show_queue has no key on queue any more",
                "my.toml: first_case has no key on queue any more"
            ]
        );
    }

    #[test]
    fn a_preset_that_is_not_there_names_those_that_are() {
        assert_eq!(
            Keymap::preset("nano").unwrap_err().to_string(),
            "keymap \"nano\": there is none of that name; there are default, vim, emacs"
        );
    }

    #[test]
    fn the_readme_table_has_a_line_for_each_action_of_each_screen() {
        let table = key_table("default").unwrap();
        assert!(table.contains("| all | `Q` `ctrl-c` | `quit` | leave overtrace |\n"));
        assert!(table.contains("| queue | `g g` `home` | `first_case` |"));
        assert!(table.contains("| slices | `h` | `hand_out` |"));
    }
}
