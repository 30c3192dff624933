//! What comes from the terminal: bytes to keys, pastes, the mouse, and answers to what it was asked.
//!
//! Without I/O, so that every split of a stream can be tried. A sequence is taken whole or not at all: an answer that
//! comes late, or in pieces, is never taken for keys. While answers are to come, even the rest of one whose beginning was
//! given up as a key is known by how answers begin; another string that does not end at once is alt with its keys.

use ratatui::crossterm::event::KeyCode;

use super::answers::ANSWERS;
use crate::tui::keys::Key;

/// Longest sequence that is kept; of a longer one only the end is looked for.
const MAX_SEQUENCE: usize = 4096;
/// Longest paste that is kept.
const MAX_PASTE: usize = 65_536;

/// Something that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A key.
    Key(Key),
    /// Pasted text.
    Paste(String),
    /// The mouse.
    Mouse(Mouse),
    /// A sequence that is no key, whole: an answer, or something nobody knows.
    Answer(Vec<u8>),
}

/// What the mouse did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mouse {
    /// What.
    pub action: MouseAction,
    /// Over which cell, from (0, 0).
    pub cell: [u16; 2],
}

/// What a mouse does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MouseAction {
    /// A button went down: 0 left, 1 middle, 2 right.
    Press(u8),
    /// It moved with a button down.
    Drag(u8),
    /// A button went up.
    Release,
    /// The wheel, away from the person.
    WheelUp,
    /// The wheel, towards the person.
    WheelDown,
}

/// Where in a sequence the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// In none.
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After `ESC [`.
    Control,
    /// After `ESC O`.
    Shift,
    /// In a string that ST ends (OSC also BEL).
    String,
    /// After an ESC in it.
    StringEscape,
    /// Between the marks of a paste.
    Paste,
    /// In a character of several bytes.
    Character,
}

/// Reads a terminal's bytes.
#[derive(Debug, Default)]
pub struct Parser {
    state: State,
    /// The sequence so far, its ESC among it.
    bytes: Vec<u8>,
    /// Bytes of it in all.
    len: usize,
    pasted: Vec<u8>,
    /// An ESC before ESC: alt with what follows.
    is_alt: bool,
    /// The terminal has answered everything: no answer is to come any more.
    has_answers: bool,
    /// What was given up as a key while an answer might have begun with it.
    given_up: Vec<u8>,
}

impl Parser {
    /// Takes bytes; what they make is added to `inputs`.
    pub fn feed(&mut self, bytes: &[u8], inputs: &mut Vec<Input>) {
        let given_up = std::mem::take(&mut self.given_up);
        if self.state == State::Ground && !given_up.is_empty() {
            let whole = [given_up.as_slice(), bytes].concat();
            if ANSWERS.iter().any(|answer| whole.starts_with(answer)) {
                return whole.iter().for_each(|&byte| self.take(byte, inputs));
            }
        }
        bytes.iter().for_each(|&byte| self.take(byte, inputs));
    }

    /// Nothing is owed any more: what begins like an answer is a key.
    pub fn has_all_answers(&mut self) {
        self.has_answers = true;
    }

    /// Whether more has to come, or [`Parser::settle`] to be said.
    pub fn is_waiting(&self) -> bool {
        let is_string = matches!(self.state, State::String | State::StringEscape) && !self.is_answer();
        is_string || matches!(self.state, State::Escape | State::Shift | State::Control)
    }

    /// Whether the string so far begins as an answer does.
    fn is_answer(&self) -> bool {
        !self.has_answers && ANSWERS.iter().any(|answer| self.bytes.starts_with(answer))
    }

    /// Whether it may still turn out to.
    fn may_be_answer(&self) -> bool {
        !self.has_answers && ANSWERS.iter().any(|answer| answer.starts_with(&self.bytes))
    }

    /// Nothing more has come for a while: an ESC by itself is the key, and what else was begun is given up.
    pub fn settle(&mut self, inputs: &mut Vec<Input>) {
        if !self.has_answers && self.is_waiting() && !self.is_alt && self.may_be_answer() {
            self.given_up.clone_from(&self.bytes);
        }
        match self.state {
            State::Escape => {
                if self.is_alt {
                    inputs.push(Input::Key(Key::normal(KeyCode::Esc, false, false)));
                }
                inputs.push(Input::Key(Key::normal(KeyCode::Esc, false, false)));
                self.reset();
            }
            // `ESC O` and `ESC [` by themselves are alt with the letter.
            State::Shift | State::Control if self.bytes.len() == 2 => {
                let letter = char::from(self.bytes[1]);
                inputs.push(Input::Key(Key::normal(KeyCode::Char(letter), false, true)));
                self.reset();
            }
            State::String if !self.is_answer() => self.spell(inputs),
            State::StringEscape if !self.is_answer() => {
                self.spell(inputs);
                inputs.push(Input::Key(Key::normal(KeyCode::Esc, false, false)));
            }
            // An answer is waited for however long it takes: its rest would be taken for keys.
            _ => {}
        }
    }

    fn reset(&mut self) {
        (self.state, self.len, self.is_alt) = (State::Ground, 0, false);
        self.bytes.clear();
    }

    /// What began like a string is none: alt with its letter, and the keys after it.
    fn spell(&mut self, inputs: &mut Vec<Input>) {
        let bytes = std::mem::take(&mut self.bytes);
        self.reset();
        inputs.push(Input::Key(Key::normal(
            KeyCode::Char(char::from(bytes[1])),
            false,
            true,
        )));
        bytes[2..].iter().for_each(|&byte| self.take(byte, inputs));
    }

    fn keep(&mut self, byte: u8) {
        self.len += 1;
        if self.bytes.len() < MAX_SEQUENCE {
            self.bytes.push(byte);
        }
    }

    fn take(&mut self, byte: u8, inputs: &mut Vec<Input>) {
        match self.state {
            State::Ground => self.ground(byte, inputs),
            State::Escape => self.escape(byte, inputs),
            State::Control => self.control(byte, inputs),
            State::Shift => {
                let key = match byte {
                    b'A' => Some(KeyCode::Up),
                    b'B' => Some(KeyCode::Down),
                    b'C' => Some(KeyCode::Right),
                    b'D' => Some(KeyCode::Left),
                    b'H' => Some(KeyCode::Home),
                    b'F' => Some(KeyCode::End),
                    b'M' => Some(KeyCode::Enter),
                    b'P'..=b'S' => Some(KeyCode::F(byte - b'P' + 1)),
                    _ => None,
                };
                inputs.extend(key.map(|code| Input::Key(Key::normal(code, false, self.is_alt))));
                self.reset();
            }
            State::String => match byte {
                0x1b => self.state = State::StringEscape,
                0x07 => self.answer(inputs),
                // The terminal was told to give up.
                0x18 | 0x1a => self.reset(),
                byte => self.keep(byte),
            },
            State::StringEscape => match byte {
                b'\\' => self.answer(inputs),
                // Another sequence cuts the string short.
                byte => {
                    self.reset();
                    self.keep(0x1b);
                    self.state = State::Escape;
                    self.escape(byte, inputs);
                }
            },
            State::Paste => self.paste(byte, inputs),
            State::Character => self.character(byte, inputs),
        }
    }

    fn ground(&mut self, byte: u8, inputs: &mut Vec<Input>) {
        let key = match byte {
            0x1b => {
                self.keep(byte);
                self.state = State::Escape;
                return;
            }
            b'\r' => Key::normal(KeyCode::Enter, false, self.is_alt),
            b'\t' => Key::normal(KeyCode::Tab, false, self.is_alt),
            0x7f | 0x08 => Key::normal(KeyCode::Backspace, false, self.is_alt),
            0 => Key::normal(KeyCode::Char(' '), true, self.is_alt),
            1..=26 => Key::normal(KeyCode::Char(char::from(byte - 1 + b'a')), true, self.is_alt),
            28..=31 => Key::normal(KeyCode::Char(char::from(byte - 28 + b'4')), true, self.is_alt),
            0x20..0x7f => Key::normal(KeyCode::Char(char::from(byte)), false, self.is_alt),
            0xc2..=0xf4 => {
                self.keep(byte);
                self.state = State::Character;
                return;
            }
            // No character begins so.
            _ => return self.reset(),
        };
        inputs.push(Input::Key(key));
        self.reset();
    }

    fn character(&mut self, byte: u8, inputs: &mut Vec<Input>) {
        if byte & 0xc0 != 0x80 {
            // It was cut short; what came is the beginning of something else.
            self.reset();
            return self.ground(byte, inputs);
        }
        self.keep(byte);
        let wanted = match self.bytes[0] {
            0xf0.. => 4,
            0xe0.. => 3,
            _ => 2,
        };
        if self.bytes.len() == wanted {
            let text = std::str::from_utf8(&self.bytes).ok();
            let key = text.and_then(|text| text.chars().next());
            inputs.extend(key.map(|c| Input::Key(Key::normal(KeyCode::Char(c), false, self.is_alt))));
            self.reset();
        }
    }

    fn escape(&mut self, byte: u8, inputs: &mut Vec<Input>) {
        match byte {
            b'[' => self.state = State::Control,
            b'O' => self.state = State::Shift,
            b']' | b'P' | b'_' | b'^' | b'X' => self.state = State::String,
            0x1b if !self.is_alt => {
                self.is_alt = true;
                return;
            }
            byte => {
                // Alt with a key.
                self.reset();
                self.is_alt = true;
                return self.ground(byte, inputs);
            }
        }
        self.keep(byte);
    }

    fn control(&mut self, byte: u8, inputs: &mut Vec<Input>) {
        match byte {
            // Parameters and what may stand between.
            0x20..=0x3f => return self.keep(byte),
            // Another sequence cuts this one short.
            0x1b => {
                self.reset();
                self.keep(byte);
                self.state = State::Escape;
                return;
            }
            0x40..=0x7e => self.keep(byte),
            _ => return self.reset(),
        }
        let is_alt = self.is_alt;
        let sequence = std::mem::take(&mut self.bytes);
        let is_whole = self.len == sequence.len();
        self.reset();
        if !is_whole {
            return;
        }
        let parameters = &sequence[2..sequence.len() - 1];
        match byte {
            b'~' if parameters == b"200" => self.state = State::Paste,
            b'I' | b'O' if parameters.is_empty() => {}
            b'M' | b'm' if parameters.first() == Some(&b'<') => {
                inputs.extend(mouse(&parameters[1..], byte == b'm').map(Input::Mouse));
            }
            _ => inputs.push(match key(parameters, byte, is_alt) {
                Some(key) => Input::Key(key),
                None => Input::Answer(sequence),
            }),
        }
    }

    fn paste(&mut self, byte: u8, inputs: &mut Vec<Input>) {
        const END: &[u8] = b"\x1b[201~";
        self.pasted.push(byte);
        if self.pasted.ends_with(END) {
            self.pasted.truncate(self.pasted.len() - END.len());
            let mut pasted = std::mem::take(&mut self.pasted);
            pasted.truncate(MAX_PASTE);
            inputs.push(Input::Paste(String::from_utf8_lossy(&pasted).into_owned()));
            self.reset();
        } else if self.pasted.len() > MAX_PASTE + 2 * END.len() {
            // What is beyond the limit is dropped, but for what may be the beginning of the end.
            let from = self.pasted.len() - END.len();
            self.pasted.drain(MAX_PASTE..from);
        }
    }

    fn answer(&mut self, inputs: &mut Vec<Input>) {
        let sequence = std::mem::take(&mut self.bytes);
        if self.len == sequence.len() {
            inputs.push(Input::Answer(sequence));
        }
        self.reset();
    }
}

/// The numbers of a sequence.
fn numbers(parameters: &[u8]) -> Option<Vec<u32>> {
    let text = std::str::from_utf8(parameters).ok()?;
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(';').map(|number| number.parse().ok()).collect()
}

/// The key of a control sequence.
fn key(parameters: &[u8], end: u8, is_alt: bool) -> Option<Key> {
    let numbers = numbers(parameters)?;
    let code = match (end, numbers.first()) {
        (b'A', _) => KeyCode::Up,
        (b'B', _) => KeyCode::Down,
        (b'C', _) => KeyCode::Right,
        (b'D', _) => KeyCode::Left,
        (b'H', _) => KeyCode::Home,
        (b'F', _) => KeyCode::End,
        (b'Z', _) => KeyCode::BackTab,
        (b'P'..=b'S', _) => KeyCode::F(end - b'P' + 1),
        (b'~', Some(1 | 7)) => KeyCode::Home,
        (b'~', Some(2)) => KeyCode::Insert,
        (b'~', Some(3)) => KeyCode::Delete,
        (b'~', Some(4 | 8)) => KeyCode::End,
        (b'~', Some(5)) => KeyCode::PageUp,
        (b'~', Some(6)) => KeyCode::PageDown,
        (b'~', Some(n @ 11..=15)) => KeyCode::F(*n as u8 - 10),
        (b'~', Some(n @ 17..=21)) => KeyCode::F(*n as u8 - 11),
        (b'~', Some(n @ 23..=24)) => KeyCode::F(*n as u8 - 12),
        _ => return None,
    };
    // 1 + shift + 2 alt + 4 ctrl.
    let held = numbers.get(1).map_or(0, |n| n.saturating_sub(1));
    // A cursor's place ends like F3; it comes only to those who ask for it, and has a row above any modifier's.
    let is_place = end == b'R' && numbers.first().is_some_and(|n| *n != 1);
    (numbers.len() <= 2 && !is_place).then(|| Key::normal(code, held & 4 != 0, is_alt || held & 2 != 0))
}

/// What the mouse did, in SGR's words.
fn mouse(parameters: &[u8], is_up: bool) -> Option<Mouse> {
    let numbers = numbers(parameters)?;
    let [what, x, y] = numbers.as_slice() else {
        return None;
    };
    let action = match (what & 0b1100_0011, what & 32 != 0) {
        (64, _) => MouseAction::WheelUp,
        (65, _) => MouseAction::WheelDown,
        (0..=2, _) if is_up => MouseAction::Release,
        (button @ 0..=2, true) => MouseAction::Drag(button as u8),
        (button @ 0..=2, false) => MouseAction::Press(button as u8),
        _ => return None,
    };
    let cell = [x, y].map(|n| u16::try_from(n.saturating_sub(1)).unwrap_or(u16::MAX));
    Some(Mouse { action, cell })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&[u8]]) -> Vec<Input> {
        let (mut parser, mut inputs) = (Parser::default(), Vec::new());
        parts.iter().for_each(|part| parser.feed(part, &mut inputs));
        parser.settle(&mut inputs);
        inputs
    }

    fn keys(bytes: &[u8]) -> String {
        let words: Vec<String> = read(&[bytes])
            .into_iter()
            .map(|input| match input {
                Input::Key(key) => key.to_string(),
                other => format!("{other:?}"),
            })
            .collect();
        words.join(" ")
    }

    #[test]
    fn keys_are_what_terminals_send_for_them() {
        for (bytes, expected) in [
            (&b"jG?\xc3\xa9\xe4\xb8\xad"[..], "j G ? \u{e9} \u{4e2d}"),
            (
                b"\x1b[A\x1b[B\x1bOC\x1b[D\x1b[H\x1b[4~",
                "up down right left home end",
            ),
            (
                b"\x1b[5~\x1b[6~\x1b[3~\x1b[Z\t\r",
                "pageup pagedown delete backtab tab enter",
            ),
            (b"\x1bOP\x1b[15~\x1b[24~\x1b[1;5P", "f1 f5 f12 ctrl-f1"),
            (
                b"\x1b[1;5D\x1b[1;3C\x03\x1a\x00\x7f",
                "ctrl-left alt-right ctrl-c ctrl-z ctrl-space backspace",
            ),
            (b"\x1bx\x1b\x1b[A\x1b<\x1b", "alt-x alt-up alt-< esc"),
            (b"\x1b\x1b", "esc esc"),
            (b"\x1b[", "alt-["),
        ] {
            assert_eq!(keys(bytes), expected);
        }
    }

    /// Whatever the network makes of it: keys before, between and after, a paste, a mouse and every kind of answer.
    #[test]
    fn every_split_of_a_stream_gives_the_same() {
        let stream = b"a\x1b[A\x1b_Gi=31;OK\x1b\\b\x1b]11;rgb:00/11/22\x07\x1bP1$r48:2:1:2:3m\x1b\\\x1b[?62;4c\
            \x1b[200~pasted \x1b[31m text\n\x1b[201~\x1b[<64;10;20M\x1b[<0;1;1m\x1b[?2026;2$y\x1b[6;20;10t\xc3\xa9\x1bxq";
        let whole = read(&[stream]);
        assert_eq!(whole.len(), 15);
        assert_eq!(whole[0], Input::Key(Key::parse("a").unwrap()));
        assert!(whole.contains(&Input::Paste("pasted \u{1b}[31m text\n".into())));
        assert!(whole.contains(&Input::Answer(b"\x1b_Gi=31;OK".to_vec())));
        let wheel = Mouse {
            action: MouseAction::WheelUp,
            cell: [9, 19],
        };
        assert!(whole.contains(&Input::Mouse(wheel)));
        for at in 0..=stream.len() {
            assert_eq!(read(&[&stream[..at], &stream[at..]]), whole, "split at {at}");
        }
        let each: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(&each), whole);
    }

    #[test]
    fn what_is_not_understood_or_far_too_long_is_no_key() {
        let long = [
            b"\x1b]52;c;".to_vec(),
            vec![b'x'; 3 * MAX_SEQUENCE],
            b"\x07k".to_vec(),
        ]
        .concat();
        assert_eq!(read(&[&long]), [Input::Key(Key::parse("k").unwrap())]);
        let long = [b"\x1b[".to_vec(), vec![b'1'; 3 * MAX_SEQUENCE], b"~k".to_vec()].concat();
        assert_eq!(read(&[&long]), [Input::Key(Key::parse("k").unwrap())]);
        assert_eq!(
            keys(b"\x1b[?1;2;3zk"),
            "Answer([27, 91, 63, 49, 59, 50, 59, 51, 122]) k"
        );
        assert_eq!(keys(b"\xff\xfek\xc3k"), "k k");
        // A string without an end is waited for.
        let (mut parser, mut inputs) = (Parser::default(), Vec::new());
        parser.feed(b"\x1b_Gi=31;", &mut inputs);
        parser.settle(&mut inputs);
        parser.feed(b"OK\x1b\\", &mut inputs);
        assert_eq!(inputs, [Input::Answer(b"\x1b_Gi=31;OK".to_vec())]);
    }

    #[test]
    fn a_paste_is_kept_to_its_limit_and_its_end_is_found() {
        let pasted = vec![b'p'; 2 * MAX_PASTE];
        let inputs = read(&[b"\x1b[200~", &pasted, b"\x1b[201~", b"k"]);
        let [Input::Paste(text), Input::Key(_)] = inputs.as_slice() else {
            panic!("{} inputs", inputs.len());
        };
        assert_eq!(text.len(), MAX_PASTE);
    }

    /// What comes in parts, with a pause after each.
    fn read_slowly(parser: &mut Parser, parts: &[&[u8]]) -> Vec<Input> {
        let mut inputs = Vec::new();
        for part in parts {
            parser.feed(part, &mut inputs);
            if parser.is_waiting() {
                parser.settle(&mut inputs);
            }
        }
        inputs
    }

    fn words(inputs: &[Input]) -> String {
        let word = |input: &Input| match input {
            Input::Key(key) => key.to_string(),
            Input::Answer(answer) => String::from_utf8_lossy(answer).replace('\u{1b}', "ESC"),
            other => format!("{other:?}"),
        };
        inputs.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_answer_that_is_cut_at_its_escape_for_long_is_still_none_of_the_keys() {
        for (parts, expected) in [
            (&[&b"\x1b"[..], b"_Gi=31;OK\x1b\\j"][..], "esc ESC_Gi=31;OK j"),
            (&[b"\x1b", b"]11;rgb:0/0/0\x07"], "esc ESC]11;rgb:0/0/0"),
            (&[b"\x1b]", b"11;rgb:0/0/0\x07"], "alt-] ESC]11;rgb:0/0/0"),
            (&[b"\x1b_Gi=3", b"1;OK\x1b", b"\\j"], "ESC_Gi=31;OK j"),
            (&[b"\x1b", b"[?62;4c"], "esc ESC[?62;4c"),
            // No answer begins so: these are keys.
            (&[b"\x1b", b"j", b"[?62c"], "esc j [ ? 6 2 c"),
        ] {
            assert_eq!(words(&read_slowly(&mut Parser::default(), parts)), expected);
        }
    }

    #[test]
    fn alt_with_a_letter_that_begins_strings_is_a_key_and_the_next_keys_are_heard() {
        for letter in ["X", "P", "^", "_", "]"] {
            for is_answered in [false, true] {
                let mut parser = Parser::default();
                if is_answered {
                    parser.has_all_answers();
                }
                let alt = format!("\u{1b}{letter}");
                let inputs = read_slowly(&mut parser, &[alt.as_bytes(), b"j", b"\x03"]);
                assert_eq!(words(&inputs), format!("alt-{letter} j ctrl-c"));
            }
        }
        // Typed so fast that they came together.
        let mut parser = Parser::default();
        parser.has_all_answers();
        assert_eq!(
            words(&read_slowly(&mut parser, &[b"\x1b]jj", b"k"])),
            "alt-] j j k"
        );
        // All has been answered: what looks like an answer is typed.
        assert_eq!(words(&read_slowly(&mut parser, &[b"\x1b", b"[6;"])), "esc [ 6 ;");
    }
}
