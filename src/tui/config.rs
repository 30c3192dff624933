//! The files that a person writes for the app, keys and looks alike: sections of `key = value` lines, each known by
//! its place, so that what is wrong with one is said by file, line and the nearest word that would have done.

use std::fmt;
use std::path::Path;

use toml::de::{DeArray, DeString, DeTable, DeValue};

/// Why a line, or the file as a whole, could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {words}")]
pub struct Fault {
    /// The file, and the line after a colon where it is one line's.
    pub place: String,
    /// What is wrong, and what would be right.
    pub words: String,
}

/// Everything that is wrong with a file, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        f.write_str(&each.join("\n"))
    }
}

impl std::error::Error for Faults {}

impl Faults {
    /// One fault.
    pub fn one(place: impl Into<String>, words: impl Into<String>) -> Faults {
        Faults(vec![Fault {
            place: place.into(),
            words: words.into(),
        }])
    }
}

/// What stands to the right of an equals sign.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// True or false.
    Switch(bool),
    /// A list of texts.
    List(Vec<String>),
    /// Something that no line of ours has, by the name TOML gives it.
    Other(&'static str),
}

/// A line, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The section's name; empty above the first section.
    pub section: String,
    /// Left of the equals sign.
    pub key: String,
    /// Right of it.
    pub value: Value,
    /// `FILE:LINE`.
    pub place: String,
}

impl Entry {
    /// This line's fault.
    pub fn fault(&self, words: impl fmt::Display) -> Fault {
        let section = match self.section.as_str() {
            "" => String::new(),
            section => format!("[{section}] "),
        };
        Fault {
            place: self.place.clone(),
            words: format!("{section}{}: {words}", self.key),
        }
    }
}

/// The lines of a file's text, in order; `file` is for the words of an error.
///
/// # Errors
/// The text is no TOML.
pub fn entries(text: &str, file: &str) -> Result<Vec<Entry>, Faults> {
    let place = |at: usize| format!("{file}:{}", 1 + text[..at].matches('\n').count());
    let table = DeTable::parse(text).map_err(|error| match error.span() {
        Some(span) => Faults::one(place(span.start.min(text.len())), error.message()),
        None => Faults::one(file, error.message()),
    })?;
    let mut found = Vec::new();
    for (name, content) in table.get_ref() {
        let mut put = |section: &str, key: &toml::Spanned<DeString<'_>>, value| {
            found.push(Entry {
                section: section.to_string(),
                key: key.get_ref().to_string(),
                value,
                place: place(key.span().start),
            });
        };
        match content.get_ref() {
            DeValue::Table(lines) => {
                for (key, value) in lines {
                    put(name.get_ref(), key, value_of(value.get_ref()));
                }
            }
            other => put("", name, value_of(other)),
        }
    }
    Ok(found)
}

fn value_of(value: &DeValue<'_>) -> Value {
    let texts = |list: &DeArray<'_>| -> Option<Vec<String>> {
        list.iter()
            .map(|one| one.get_ref().as_str().map(str::to_string))
            .collect()
    };
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(is_on) => Value::Switch(*is_on),
        DeValue::Array(list) => texts(list).map_or(Value::Other("array"), Value::List),
        other => Value::Other(other.type_str()),
    }
}

/// What a file of a person's own says; `None` when there is no such file.
///
/// # Errors
/// It is there and cannot be read.
pub fn read(path: &Path) -> Result<Option<String>, Faults> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Faults::one(
            path.display().to_string(),
            format!("it cannot be read: {error}"),
        )),
    }
}

/// How like two words are, from 0 to 1, of which one may have been meant for the other.
const NEAR: f64 = 0.8;

/// The word nearest to `word`, if one is near.
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (likeness, near) = most_alike(word, words)?;
    (likeness > NEAR).then_some(near)
}

/// The word most like `word`, and how like it is: 1 is the same.
fn most_alike<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<(f64, &'a str)> {
    words
        .into_iter()
        .map(|near| (strsim::jaro_winkler(word, near), near))
        .max_by(|a, b| a.0.total_cmp(&b.0))
}

/// The end of a sentence that names the word nearest to `word`, or all of them where none is near and they are few, or the
/// least far.
pub fn hint<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match most_alike(word, words.iter().copied()) {
        Some((likeness, near)) if likeness > NEAR => format!("; did you mean {near:?}?"),
        _ if words.len() <= 24 => format!("; there are {}", words.join(", ")),
        Some((_, near)) => format!("; the nearest is {near:?}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_known_by_its_place() {
        let text =
            "base = \"dark\"\n\n[styles]\n# why\ntitle = \"red\"\n\"a b\" = [\"x\"]\nlist = [1]\non = true\n";
        let found = entries(text, "my.toml").unwrap();
        let of = |at: usize| {
            let entry = &found[at];
            (entry.section.as_str(), entry.key.as_str(), entry.place.as_str())
        };
        assert_eq!(of(0), ("", "base", "my.toml:1"));
        assert_eq!(of(1), ("styles", "title", "my.toml:5"));
        assert_eq!(of(2), ("styles", "a b", "my.toml:6"));
        let values: Vec<Value> = found.into_iter().map(|entry| entry.value).collect();
        assert_eq!(
            values[1..],
            [
                Value::Text("red".into()),
                Value::List(vec!["x".into()]),
                Value::Other("array"),
                Value::Switch(true)
            ]
        );
    }

    #[test]
    fn what_is_no_toml_is_said_with_its_line() {
        let error = entries("[queue]\n\"j\" = next\n", "my.toml").unwrap_err();
        assert!(error.to_string().starts_with("my.toml:2: "), "{error}");
        let twice = entries("[queue]\nj = \"a\"\nj = \"b\"\n", "my.toml").unwrap_err();
        assert!(twice.to_string().starts_with("my.toml:3: "), "{twice}");
        entries("\u{e9} = [", "my.toml").unwrap_err();
    }

    #[test]
    fn a_word_that_is_near_is_named_and_of_few_all() {
        assert_eq!(hint("titel", ["title", "dim"]), "; did you mean \"title\"?");
        assert_eq!(hint("x", ["title", "dim"]), "; there are title, dim");
    }
}
