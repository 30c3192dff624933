//! Which key does what: TOML files of `"key or chord" = "action"`, a section for each screen and one for all.
//!
//! A preset (`keymaps/`, compiled in) holds a key for every action; a person's own file is laid over it, line by
//! line. On a screen its own section comes first, then `[global]`. Nothing is taken silently: what is no key, no
//! action, not of that screen or there twice is an error that names file, section, key and action.

use std::path::{Path, PathBuf};

use super::action::{ACTIONS, Action, Screen};
use super::error::{KeymapError, KeymapErrors};
use super::key::{Key, chord_text, parse_chord};

/// The keymaps compiled in, by name.
pub const PRESETS: [(&str, &str); 3] = [
    ("default", include_str!("../../../keymaps/default.toml")),
    ("vim", include_str!("../../../keymaps/vim.toml")),
    ("emacs", include_str!("../../../keymaps/emacs.toml")),
];

/// The word that takes a key away.
const NONE: &str = "none";

pub fn preset_names() -> String {
    PRESETS.map(|(name, _)| name).join(", ")
}

/// One line of a keymap; no `screen` is `[global]`, no `action` is `"none"`.
#[derive(Debug, Clone, PartialEq)]
struct Binding {
    screen: Option<Screen>,
    keys: Vec<Key>,
    action: Option<Action>,
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
    /// [`KeymapErrors`]: all that is wrong, by name.
    pub fn load(name: &str, user: Option<&Path>) -> Result<Keymap, KeymapErrors> {
        let preset = Keymap::preset(name)?;
        let Some(path) = user else { return Ok(preset) };
        match std::fs::read_to_string(path) {
            Ok(text) => preset.with(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(preset),
            Err(error) => Err(KeymapError::Read {
                file: path.display().to_string(),
                problem: error.to_string(),
            }
            .into()),
        }
    }

    /// The preset `name` by itself.
    ///
    /// # Errors
    /// [`KeymapErrors`] when there is none of that name.
    pub fn preset(name: &str) -> Result<Keymap, KeymapErrors> {
        let (_, text) = PRESETS
            .iter()
            .find(|(preset, _)| *preset == name)
            .ok_or_else(|| KeymapError::Preset {
                name: name.to_string(),
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
    /// [`KeymapErrors`]: all that is wrong, by name.
    pub fn with(mut self, text: &str, path: &Path) -> Result<Keymap, KeymapErrors> {
        let file = PathBuf::from(path).display().to_string();
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
/// [`KeymapErrors`] when there is no such preset.
pub fn key_table(preset: &str) -> Result<String, KeymapErrors> {
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

fn parse(text: &str, file: &str) -> Result<Vec<Binding>, KeymapErrors> {
    let file = file.to_string();
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| KeymapError::Toml {
        file: file.clone(),
        problem: error.to_string().trim_end().to_string(),
    })?;
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    for (section, content) in &table {
        let screen = Screen::ALL.into_iter().find(|screen| screen.word() == section);
        let (toml::Value::Table(content), true) = (content, screen.is_some() || section == "global") else {
            errors.push(KeymapError::Section {
                file: file.clone(),
                section: section.clone(),
            });
            continue;
        };
        for (chord, action) in content {
            let place = line_of(text, section, chord).map_or(file.clone(), |line| format!("{file}:{line}"));
            match parse_line(&place, section, screen, chord, action) {
                Ok(line) => lines.push(line),
                Err(error) => errors.push(error),
            }
        }
    }
    errors.extend(conflicts(&lines, &file));
    if errors.is_empty() {
        Ok(lines)
    } else {
        Err(KeymapErrors(errors))
    }
}

/// The line, from 1, that a key stands on.
fn line_of(text: &str, section: &str, chord: &str) -> Option<usize> {
    let mut is_here = false;
    text.lines()
        .position(|line| {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[') {
                is_here = name.split(']').next().is_some_and(|name| name.trim() == section);
                return false;
            }
            let key = line.split('=').next().unwrap_or_default().trim();
            is_here && (key.trim_matches(['"', '\'']) == chord || line.starts_with(&format!("{chord:?}")))
        })
        .map(|at| at + 1)
}

fn parse_line(
    file: &str,
    section: &str,
    screen: Option<Screen>,
    chord: &str,
    action: &toml::Value,
) -> Result<Binding, KeymapError> {
    let (file, section, chord) = (file.to_string(), section.to_string(), chord.to_string());
    let Some(name) = action.as_str() else {
        return Err(KeymapError::NotText { file, section, chord });
    };
    let action = name.to_string();
    let keys = match parse_chord(&chord) {
        Ok(keys) if !keys.is_empty() => keys,
        other => {
            let word = other.err().unwrap_or_default();
            return Err(KeymapError::Key {
                file,
                section,
                chord,
                action,
                word,
            });
        }
    };
    if name == NONE {
        return Ok(Binding {
            screen,
            keys,
            action: None,
        });
    }
    let Some(known) = Action::named(name) else {
        let hint = nearest(name).map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        return Err(KeymapError::Action {
            file,
            section,
            chord,
            action,
            hint,
        });
    };
    if !screen.map_or(known.is_global(), |screen| known.is_on(screen)) {
        let screens: Vec<&str> = known.entry().screens.iter().map(|screen| screen.word()).collect();
        return Err(KeymapError::Elsewhere {
            file,
            section,
            chord,
            action,
            screens: screens.join(" and "),
        });
    }
    Ok(Binding {
        screen,
        keys,
        action: Some(known),
    })
}

fn nearest(name: &str) -> Option<&'static str> {
    ACTIONS
        .iter()
        .map(|entry| (strsim::jaro_winkler(name, entry.name), entry.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.8)
        .map(|(_, near)| near)
}

fn conflicts(lines: &[Binding], file: &str) -> Vec<KeymapError> {
    let mut found = Vec::new();
    for (at, later) in lines.iter().enumerate() {
        for earlier in &lines[..at] {
            let meet = earlier.screen == later.screen || earlier.screen.is_none() || later.screen.is_none();
            let taken_away = earlier.action.is_none() || later.action.is_none();
            let same = earlier.keys == later.keys;
            if !meet || !earlier.clashes(later) || (taken_away && !(same && earlier.screen == later.screen)) {
                continue;
            }
            found.push(KeymapError::Conflict {
                file: file.to_string(),
                line: earlier.text(),
                other: later.text(),
                clash: if same {
                    "are the same key"
                } else {
                    "clash: one is the beginning of the other"
                },
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
            Err(errors) => errors.0.iter().map(KeymapError::to_string).collect(),
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
    fn what_is_wrong_is_named_with_file_section_key_and_action() {
        assert_eq!(
            errors(
                "[queue]\n\"j\" = \"next_cse\"\n\"entr\" = \"hand_out\"\n\"p\" = \"next_plane\"\n\"z\" = 3\n"
            ),
            [
                "my.toml:2, [queue] \"j\" = \"next_cse\": there is no such action; did you mean \"next_case\"?",
                "my.toml:3, [queue] \"entr\" = \"hand_out\": \"entr\" is no key; write j, G, enter, ctrl-d or g g",
                "my.toml:4, [queue] \"p\" = \"next_plane\": that action works on slices only; bind it there",
                "my.toml:5, [queue] \"z\": write the action as a text, like \"quit\"",
            ]
        );
        assert_eq!(
            errors("[plots]\n\"j\" = \"quit\"\n"),
            ["my.toml: there is no [plots]; use [global], [queue], [slices], [rounds] or [help]"]
        );
        let wrong_place = errors("[global]\n\"h\" = \"hand_out\"\n");
        assert!(
            wrong_place[0].contains("works on queue and slices only"),
            "{wrong_place:?}"
        );
        assert!(errors("[global\n")[0].starts_with("my.toml: TOML parse error at line 1"));
    }

    #[test]
    fn the_same_key_twice_and_a_key_that_begins_a_chord_are_conflicts() {
        assert_eq!(
            errors("[global]\n\"tab\" = \"next_screen\"\n[queue]\n\"ctrl-i\" = \"rank\"\n"),
            ["my.toml: [global] \"tab\" = \"next_screen\" and [queue] \"tab\" = \"rank\" are the same key"]
        );
        assert_eq!(
            errors("[queue]\n\"g\" = \"rank\"\n\"g g\" = \"first_case\"\n"),
            [
                "my.toml: [queue] \"g\" = \"rank\" and [queue] \"g g\" = \"first_case\" clash: one is the \
                 beginning of the other"
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
        let own = "[queue]\n\"g\" = \"hand_out\"\n\"h\" = \"none\"\n\"1\" = \"rank\"\n\"home\" = \"none\"\n";
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
            keymap.meaning(Screen::Slices, &keys("1")),
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
            "there is no keymap \"nano\"; there are default, vim, emacs"
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
