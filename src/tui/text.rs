//! Words for the screen: what nobody may smuggle into a terminal, and numbers as people read them.

use jiff::Timestamp;

pub use crate::records::{is_unsafe, printable as clean};

/// A text as wide as `room`, its end cut off with an ellipsis.
pub fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_string();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

/// The nearest there is in ASCII to what the screens draw lines, bars and curves with; `?` for a letter of a name.
pub fn ascii(c: char) -> char {
    match c {
        '\u{2026}' => '~',
        '\u{2500}' | '\u{2501}' | '\u{2550}' => '-',
        '\u{2502}' | '\u{2503}' | '\u{2551}' => '|',
        '\u{2504}'..='\u{257f}' => '+',
        '\u{2580}' => '"',
        '\u{2591}' => '.',
        '\u{2592}' | '\u{258c}'..='\u{258f}' => ':',
        '\u{2593}' => '%',
        '\u{2581}'..='\u{258b}' => '#',
        '\u{2800}' => ' ',
        // A curve's dots, by whether the most of them lie high or low.
        '\u{2801}'..='\u{28ff}' => {
            let dots = c as u32 & 0xff;
            let [high, low] = [0b0001_1011u32, 0b1110_0100].map(|rows| (dots & rows).count_ones());
            match high.cmp(&low) {
                std::cmp::Ordering::Greater => '\'',
                std::cmp::Ordering::Less => '.',
                std::cmp::Ordering::Equal => ':',
            }
        }
        _ => '?',
    }
}

/// A share as `87.3 %`; `n/a` without one.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "n/a".into(), |share| format!("{:.1} %", 100.0 * share))
}

/// A Dice as `0.873`; `n/a` without one.
pub fn dice(value: Option<f64>) -> String {
    value.map_or_else(|| "n/a".into(), |value| format!("{value:.3}"))
}

/// A stretch of time as `45 s`, `12 min`, `3 h 05`, `4 d`.
pub fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min", whole / 60),
        3600..172_800 => format!("{} h {:02}", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d", whole / 86_400),
    }
}

/// How long ago `since` was.
pub fn age(since: Timestamp, now: Timestamp) -> String {
    span((now.as_millisecond() - since.as_millisecond()) as f64 / 1000.0)
}

/// One letter a class, so that colour is never the only sign: the name's first that is still free, or a digit.
pub fn letters<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<char> {
    let mut taken: Vec<char> = Vec::new();
    for name in names {
        let fallback = ('1'..='9').chain('a'..='z');
        let letter = name
            .chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_uppercase)
            .chain(fallback)
            .find(|c| !taken.contains(c));
        taken.push(letter.unwrap_or('*'));
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_gets_a_letter_of_its_own() {
        assert_eq!(letters(["CSF", "GM", "WM"]), ['C', 'G', 'W']);
        assert_eq!(letters(["gm", "GM", "g", "-"]), ['G', 'M', '1', '2']);
    }

    #[test]
    fn times_are_as_short_as_they_may_be() {
        assert_eq!(
            [0.4, 59.0, 61.0, 3900.0, 200_000.0].map(span),
            ["0 s", "59 s", "1 min", "1 h 05", "2 d"]
        );
    }
}
