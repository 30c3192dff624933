//! One key press, as a keymap writes it: `j`, `G`, `enter`, `ctrl-c`, `space`, `f5`.

use std::fmt;

use ratatui::crossterm::event::KeyCode;

/// A key press in the one form that comparisons need: what a terminal cannot tell apart is one key here.
///
/// Shift is part of the character (`G`), `ctrl-G` is `ctrl-g`, and `ctrl-i`, `ctrl-m` and `ctrl-[` are `tab`,
/// `enter` and `esc`, because a terminal sends the same byte for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    code: KeyCode,
    ctrl: bool,
    alt: bool,
}

/// Names of the keys that are no character.
const NAMES: [(&str, KeyCode); 15] = [
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("tab", KeyCode::Tab),
    ("backtab", KeyCode::BackTab),
    ("space", KeyCode::Char(' ')),
    ("backspace", KeyCode::Backspace),
    ("delete", KeyCode::Delete),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("pageup", KeyCode::PageUp),
    ("pagedown", KeyCode::PageDown),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
];

impl Key {
    /// The key that a keymap writes as `text`; `None` when there is no such key.
    pub fn parse(text: &str) -> Option<Key> {
        let (mut ctrl, mut alt, mut rest) = (false, false, text);
        loop {
            if let Some(after) = rest.strip_prefix("ctrl-").filter(|after| !after.is_empty()) {
                (ctrl, rest) = (true, after);
            } else if let Some(after) = rest.strip_prefix("alt-").filter(|after| !after.is_empty()) {
                (alt, rest) = (true, after);
            } else {
                break;
            }
        }
        let mut chars = rest.chars();
        let code = match (chars.next(), chars.next()) {
            (Some(one), None) => KeyCode::Char(one),
            _ => NAMES
                .iter()
                .find(|(name, _)| *name == rest)
                .map(|&(_, code)| code)
                .or_else(|| {
                    let number: u8 = rest.strip_prefix('f')?.parse().ok()?;
                    (1..=12).contains(&number).then_some(KeyCode::F(number))
                })?,
        };
        Some(Key::normal(code, ctrl, alt))
    }

    /// The key of a code and what is held down with it; shift is part of the code.
    pub fn normal(code: KeyCode, ctrl: bool, alt: bool) -> Key {
        let plain = |code| Key {
            code,
            ctrl: false,
            alt,
        };
        match code {
            KeyCode::Char(c) if ctrl => match c.to_ascii_lowercase() {
                'i' => plain(KeyCode::Tab),
                'm' => plain(KeyCode::Enter),
                '[' => plain(KeyCode::Esc),
                lower => Key {
                    code: KeyCode::Char(lower),
                    ctrl,
                    alt,
                },
            },
            _ => Key { code, ctrl, alt },
        }
    }

    /// The names of the keys that are no character and no `f1` to `f12`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// The character that the key types into a line of text.
    pub fn typed(self) -> Option<char> {
        match self.code {
            KeyCode::Char(c) if !self.ctrl && !self.alt => Some(c),
            _ => None,
        }
    }

    /// The digit that the key types.
    pub fn digit(self) -> Option<usize> {
        self.typed()
            .and_then(|c| c.to_digit(10))
            .map(|digit| digit as usize)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("ctrl-")?;
        }
        if self.alt {
            f.write_str("alt-")?;
        }
        match (NAMES.iter().find(|(_, code)| *code == self.code), self.code) {
            (Some((name, _)), _) => f.write_str(name),
            (None, KeyCode::Char(c)) => write!(f, "{c}"),
            (None, KeyCode::F(number)) => write!(f, "f{number}"),
            (None, other) => write!(f, "{other}"),
        }
    }
}

/// A chord as a keymap writes it, `g g`; `Err` holds the word that is no key.
pub fn parse_chord(text: &str) -> Result<Vec<Key>, String> {
    text.split_whitespace()
        .map(|word| Key::parse(word).ok_or_else(|| word.to_string()))
        .collect()
}

/// A chord as a keymap writes it.
pub fn chord_text(keys: &[Key]) -> String {
    let each: Vec<String> = keys.iter().map(Key::to_string).collect();
    each.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_as_written() {
        for text in [
            "j", "G", "?", "-", "enter", "pagedown", "space", "ctrl-c", "alt-x", "f12", "\u{e9}",
        ] {
            assert_eq!(Key::parse(text).expect("a key").to_string(), text);
        }
        for text in ["", "entre", "f13", "f0", "ctrl-", "gg"] {
            assert_eq!(Key::parse(text).map(|key| key.to_string()), None, "{text:?}");
        }
    }

    #[test]
    fn what_a_terminal_cannot_tell_apart_is_one_key() {
        assert_eq!(Key::parse("ctrl-i"), Key::parse("tab"));
        assert_eq!(Key::parse("ctrl-M"), Key::parse("enter"));
        assert_eq!(Key::parse("ctrl-["), Key::parse("esc"));
    }
}
