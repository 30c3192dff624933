//! How pictures reach the terminal: as a person says, or as the terminal says it can.

use std::str::FromStr;

use crate::tui::wire::Capabilities;

/// What a person chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PictureMode {
    /// The best that the terminal says it knows; half-blocks until it has answered, and inside tmux.
    #[default]
    Auto,
    /// This.
    Only(Kind),
}

/// A way to show pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Half-blocks, which work everywhere.
    Half,
    /// Sixels.
    Sixel,
    /// kitty's protocol.
    Kitty,
    /// iTerm2's protocol.
    Iterm2,
    /// Letters and shades, for terminals without colour.
    Ascii,
    /// No pictures: words.
    Off,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [
        Kind::Half,
        Kind::Sixel,
        Kind::Kitty,
        Kind::Iterm2,
        Kind::Ascii,
        Kind::Off,
    ];

    /// The word people see and type.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Half => "half",
            Kind::Sixel => "sixel",
            Kind::Kitty => "kitty",
            Kind::Iterm2 => "iterm2",
            Kind::Ascii => "ascii",
            Kind::Off => "off",
        }
    }
}

impl PictureMode {
    /// The word people see and type.
    pub fn word(self) -> &'static str {
        match self {
            PictureMode::Auto => "auto",
            PictureMode::Only(kind) => kind.word(),
        }
    }

    /// The next one, in the order that a key goes through.
    pub fn next(self) -> PictureMode {
        let at = match self {
            PictureMode::Auto => 0,
            PictureMode::Only(kind) => 1 + Kind::ALL.iter().position(|other| *other == kind).unwrap_or(0),
        };
        Kind::ALL
            .get(at)
            .map_or(PictureMode::Auto, |kind| PictureMode::Only(*kind))
    }

    /// What is shown on a terminal that can do this much.
    pub fn kind(self, known: &Capabilities, has_colour: bool) -> Kind {
        match self {
            PictureMode::Only(kind) => kind,
            PictureMode::Auto if !has_colour => Kind::Ascii,
            PictureMode::Auto if known.kitty => Kind::Kitty,
            PictureMode::Auto if known.iterm2 => Kind::Iterm2,
            PictureMode::Auto if known.sixel && known.cell.is_some() => Kind::Sixel,
            PictureMode::Auto => Kind::Half,
        }
    }
}

impl FromStr for PictureMode {
    type Err = String;

    fn from_str(word: &str) -> Result<PictureMode, String> {
        let kinds = || std::iter::once(PictureMode::Auto).chain(Kind::ALL.map(PictureMode::Only));
        kinds().find(|mode| mode.word() == word).ok_or_else(|| {
            let words: Vec<&str> = kinds().map(PictureMode::word).collect();
            format!(
                "{word:?} is no way to show pictures; there are {}",
                words.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_terminal_says_decides_unless_a_person_does() {
        let kitty = Capabilities {
            kitty: true,
            sixel: true,
            cell: Some([10, 20]),
            ..Capabilities::default()
        };
        let sixel = Capabilities {
            kitty: false,
            ..kitty
        };
        let without_size = Capabilities { cell: None, ..sixel };
        let kind = |known: &Capabilities| PictureMode::Auto.kind(known, true);
        assert_eq!(
            [kind(&kitty), kind(&sixel), kind(&without_size)],
            [Kind::Kitty, Kind::Sixel, Kind::Half]
        );
        assert_eq!(PictureMode::Auto.kind(&kitty, false), Kind::Ascii);
        assert_eq!(
            "off".parse::<PictureMode>().unwrap().kind(&kitty, true),
            Kind::Off
        );
        assert!(
            "pixel"
                .parse::<PictureMode>()
                .unwrap_err()
                .contains("auto, half, sixel")
        );
    }

    #[test]
    fn a_key_goes_through_all_of_them() {
        let mut mode = PictureMode::Auto;
        for kind in Kind::ALL {
            mode = mode.next();
            assert_eq!(mode, PictureMode::Only(kind));
        }
        assert_eq!(mode.next(), PictureMode::Auto);
    }
}
