//! Names of things: case ids people chose, numbers overtrace gave, hashes of contents.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::settings::as_text;

/// A case's name: 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot or a dash, so that it is safe in a
/// file name, a terminal and a shell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaseId(String);

/// Why a text is no id.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum IdError {
    /// Characters, length or first character are off.
    #[error(
        "{text:?} is no case name: use 1 to 64 letters, digits, '.', '_' or '-', not beginning with '.' or '-'"
    )]
    Case {
        /// The text.
        text: String,
    },
    /// Not 64 hexadecimal digits.
    #[error("{text:?} is no hash: it has to be 64 hexadecimal digits")]
    Hash {
        /// The text.
        text: String,
    },
    /// Not the letter and number of that kind of id.
    #[error("{text:?} is no {kind}: write it as {example}")]
    Number {
        /// The text.
        text: String,
        /// What was asked for.
        kind: &'static str,
        /// How one looks.
        example: String,
    },
}

impl CaseId {
    /// Checks the name.
    ///
    /// # Errors
    /// [`IdError::Case`].
    pub fn new(text: &str) -> Result<CaseId, IdError> {
        let good = (1..=64).contains(&text.len())
            && !text.starts_with(['.', '-'])
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if good {
            Ok(CaseId(text.to_string()))
        } else {
            Err(IdError::Case {
                text: text.to_string(),
            })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CaseId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        CaseId::new(&text)
    }
}

impl FromStr for CaseId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        CaseId::new(text)
    }
}

impl From<CaseId> for String {
    fn from(id: CaseId) -> String {
        id.0
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// BLAKE3 of some bytes: the name of a blob, and the links of the journal's chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of nothing's predecessor: what the first journal entry links to.
    pub const ZERO: Hash = Hash([0; 32]);

    /// A hash from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Hash {
        Hash(bytes)
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_string()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({})", self.short())
    }
}

impl FromStr for Hash {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Hash {
            text: text.to_string(),
        };
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| bad())?;
        }
        Ok(Hash(bytes))
    }
}

as_text!(Hash);

/// An id that is a number with a letter before it, counted up from 1 in each project.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident, $letter:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!(concat!($letter, "{}"), self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($letter).unwrap_or(text).parse().map($name).map_err(|_| IdError::Number {
                    text: text.to_string(),
                    kind: $kind,
                    example: concat!($letter, "1").to_string(),
                })
            }
        }
    };
}

numbered!(
    /// A model: `m1`.
    ModelId, "m", "model"
);
numbered!(
    /// A round: `r1`; the first training, which queries nothing, is a round too.
    RoundId, "r", "round"
);
numbered!(
    /// A hand-out: `h1`.
    HandoutId, "h", "hand-out"
);
numbered!(
    /// A correction: `c1`.
    CorrectionId, "c", "correction"
);
numbered!(
    /// A ranking: `k1`.
    RankingId, "k", "ranking"
);
numbered!(
    /// A file that waits for a decision: `f1`.
    HeldId, "f", "held file"
);
numbered!(
    /// Blobs that were taken away: `e1`.
    ErasureId, "e", "erasure"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_names_are_safe_everywhere() {
        assert_eq!(CaseId::new("IBSR_01").unwrap().as_str(), "IBSR_01");
        for bad in [
            "",
            ".hidden",
            "-rf",
            "a/b",
            "a b",
            "caf\u{e9}",
            "x\u{1b}[2J",
            &"x".repeat(65),
        ] {
            assert!(CaseId::new(bad).is_err(), "{bad:?}");
        }
        assert!(
            serde_json::from_str::<CaseId>("\"../x\"").is_err(),
            "a record cannot smuggle one in"
        );
    }

    #[test]
    fn hashes_and_numbers_read_back_as_written() {
        let hash = Hash::from_bytes(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("xyz".parse::<Hash>().is_err());
        assert_eq!(ModelId(3).to_string(), "m3");
        assert_eq!(("m3".parse(), "3".parse()), (Ok(ModelId(3)), Ok(ModelId(3))));
        assert_eq!(
            "r3".parse::<ModelId>().unwrap_err().to_string(),
            "\"r3\" is no model: write it as m1"
        );
    }
}
