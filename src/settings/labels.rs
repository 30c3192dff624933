//! The classes of a mask: a file's values, their names and colours.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One class: the value it has in a mask file, its name, its colour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The value in a mask file.
    pub value: u16,
    /// What people call it.
    pub name: String,
    /// `#rrggbb`
    pub color: String,
}

/// The labels in the order of the network's outputs: class 0 is background, class `i` is the `i`-th label.
///
/// Inside overtrace a label map holds classes; only files hold values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub Vec<Label>);

impl Default for Labels {
    /// The paper's: cerebrospinal fluid, grey matter, white matter.
    fn default() -> Self {
        let label = |value, name: &str, color: &str| Label {
            value,
            name: name.into(),
            color: color.into(),
        };
        Labels(vec![
            label(1, "CSF", "#4aa3ff"),
            label(2, "GM", "#57c785"),
            label(3, "WM", "#f2c14e"),
        ])
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self.0.iter().map(|l| format!("{} {}", l.value, l.name)).collect();
        write!(f, "[{}]", each.join(", "))
    }
}

impl Label {
    /// Red, green, blue; `None` when the text is not `#rrggbb`.
    pub fn rgb(&self) -> Option<[u8; 3]> {
        let hex = self
            .color
            .strip_prefix('#')
            .filter(|hex| hex.len() == 6 && hex.is_ascii())?;
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).ok();
        Some([byte(0)?, byte(2)?, byte(4)?])
    }
}

impl Labels {
    /// Number of classes, background included.
    pub fn classes(&self) -> usize {
        self.0.len() + 1
    }

    /// The class of a mask file's value; `None` for a value that is no label of the project.
    pub fn class_of(&self, value: u16) -> Option<u8> {
        if value == 0 {
            return Some(0);
        }
        self.0
            .iter()
            .position(|label| label.value == value)
            .map(|at| at as u8 + 1)
    }

    /// The value of a class in a mask file.
    pub fn value_of(&self, class: u8) -> u16 {
        class
            .checked_sub(1)
            .and_then(|at| self.0.get(at as usize))
            .map_or(0, |label| label.value)
    }

    /// The name of a class.
    pub fn name_of(&self, class: usize) -> &str {
        class
            .checked_sub(1)
            .and_then(|at| self.0.get(at))
            .map_or("background", |label| &label.name)
    }

    /// The names of the classes that people draw, background left out.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|label| label.name.as_str())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.0.is_empty() || self.0.len() > 254 {
            return Err("a project has 1 to 254 labels".into());
        }
        for (at, label) in self.0.iter().enumerate() {
            if label.value == 0 {
                return Err(format!("label {} has value 0, which is background", label.name));
            }
            if label.name.trim().is_empty() || label.name.chars().any(char::is_control) {
                return Err(format!(
                    "the label of value {} needs a printable name",
                    label.value
                ));
            }
            if label.rgb().is_none() {
                return Err(format!(
                    "label {} has colour {:?}; write it as #rrggbb",
                    label.name, label.color
                ));
            }
            if self.0[..at]
                .iter()
                .any(|other| other.value == label.value || other.name == label.name)
            {
                return Err(format!("label {} {} is there twice", label.value, label.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_count_up_whatever_the_values_are() {
        let mut labels = Labels::default();
        labels.0[2].value = 150;
        assert_eq!(labels.classes(), 4);
        assert_eq!(
            [0, 1, 2, 3, 150].map(|v| labels.class_of(v)),
            [Some(0), Some(1), Some(2), None, Some(3)]
        );
        assert_eq!([0, 1, 2, 3, 4].map(|c| labels.value_of(c)), [0, 1, 2, 150, 0]);
    }

    #[test]
    fn a_label_twice_or_without_a_colour_is_refused() {
        let mut labels = Labels::default();
        labels.0[1].value = 1;
        assert!(labels.check().unwrap_err().contains("twice"));
        labels.0[1].value = 2;
        labels.0[1].color = "green".into();
        assert!(labels.check().unwrap_err().contains("#rrggbb"));
        assert_eq!(Labels::default().0[0].rgb(), Some([0x4a, 0xa3, 0xff]));
    }
}
