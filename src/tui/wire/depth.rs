//! How many colours a terminal has, and the nearest it has to a colour.

use ratatui::style::Color;

/// How many colours there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// None.
    Mono,
    /// The sixteen that have names.
    Ansi16,
    /// xterm's 256.
    Ansi256,
    /// All.
    #[default]
    True,
}

/// The sixteen by their numbers, and what xterm shows them as.
const NAMED: [(Color, [u8; 3]); 16] = [
    (Color::Black, [0, 0, 0]),
    (Color::Red, [205, 0, 0]),
    (Color::Green, [0, 205, 0]),
    (Color::Yellow, [205, 205, 0]),
    (Color::Blue, [0, 0, 238]),
    (Color::Magenta, [205, 0, 205]),
    (Color::Cyan, [0, 205, 205]),
    (Color::Gray, [229, 229, 229]),
    (Color::DarkGray, [127, 127, 127]),
    (Color::LightRed, [255, 0, 0]),
    (Color::LightGreen, [0, 255, 0]),
    (Color::LightYellow, [255, 255, 0]),
    (Color::LightBlue, [92, 92, 255]),
    (Color::LightMagenta, [255, 0, 255]),
    (Color::LightCyan, [0, 255, 255]),
    (Color::White, [255, 255, 255]),
];

/// Channels of the cube of 6 x 6 x 6 colours.
const CUBE: [u8; 6] = [0, 95, 135, 175, 215, 255];

fn distance(a: [u8; 3], b: [u8; 3]) -> u32 {
    (0..3).map(|i| u32::from(a[i].abs_diff(b[i])).pow(2)).sum()
}

impl Depth {
    /// From the environment's words, which is all there is until the terminal answers: `COLORTERM`, `TERM`.
    pub fn guess(colorterm: &str, term: &str) -> Depth {
        match (colorterm, term) {
            (_, "dumb") => Depth::Mono,
            ("truecolor" | "24bit", _) => Depth::True,
            (_, term) if term.contains("256color") || term.contains("direct") => Depth::Ansi256,
            (_, "xterm" | "screen" | "vt220" | "linux" | "ansi") => Depth::Ansi16,
            _ => Depth::Ansi256,
        }
    }

    /// The nearest colour that there is.
    pub fn of(self, colour: Color) -> Color {
        match (self, colour) {
            (_, Color::Reset) => Color::Reset,
            (Depth::Mono, _) => Color::Reset,
            (Depth::Ansi256, Color::Rgb(r, g, b)) => Color::Indexed(Depth::index([r, g, b])),
            (Depth::Ansi16, Color::Rgb(r, g, b)) => Depth::name([r, g, b]),
            (Depth::Ansi16, Color::Indexed(n)) => match NAMED.get(usize::from(n)) {
                Some((named, _)) => *named,
                None => Depth::name(Depth::rgb(n)),
            },
            (_, colour) => colour,
        }
    }

    /// The nearest of the 240 colours beyond the sixteen, which people change at will.
    pub fn index(rgb: [u8; 3]) -> u8 {
        let nearest = |v: u8| (0..6).min_by_key(|&n| CUBE[n].abs_diff(v)).unwrap_or(0);
        let [r, g, b] = rgb.map(nearest);
        let cube = (16 + 36 * r + 6 * g + b) as u8;
        let mean = rgb.iter().map(|&v| u32::from(v)).sum::<u32>() / 3;
        let grey = 232 + (mean.saturating_sub(3) / 10).min(23) as u8;
        [cube, grey]
            .into_iter()
            .min_by_key(|&n| distance(Depth::rgb(n), rgb))
            .unwrap_or(cube)
    }

    /// What xterm shows one of its 256 colours as.
    pub fn rgb(index: u8) -> [u8; 3] {
        match index {
            0..16 => NAMED[usize::from(index)].1,
            16..232 => {
                let n = usize::from(index) - 16;
                [n / 36, n / 6 % 6, n % 6].map(|channel| CUBE[channel])
            }
            232.. => [8 + 10 * (index - 232); 3],
        }
    }

    fn name(rgb: [u8; 3]) -> Color {
        let nearest = NAMED.iter().min_by_key(|(_, known)| distance(*known, rgb));
        nearest.map_or(Color::Reset, |(name, _)| *name)
    }

    /// What xterm shows a colour as; `None` for the terminal's own.
    pub fn shown(colour: Color) -> Option<[u8; 3]> {
        match colour {
            Color::Reset => None,
            Color::Rgb(r, g, b) => Some([r, g, b]),
            Color::Indexed(n) => Some(Depth::rgb(n)),
            named => Some(NAMED[usize::from(Depth::place(named))].1),
        }
    }

    /// The number of a colour that has a name.
    pub fn place(named: Color) -> u8 {
        NAMED.iter().position(|(name, _)| *name == named).unwrap_or(7) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_256_is_the_nearest_of_all_of_them() {
        for rgb in [
            [0, 0, 0],
            [255, 255, 255],
            [12, 13, 11],
            [128; 3],
            [140, 60, 60],
            [60, 110, 255],
            [87, 199, 133],
        ] {
            let best = (16..=255).map(|n| distance(Depth::rgb(n), rgb)).min().unwrap();
            assert_eq!(distance(Depth::rgb(Depth::index(rgb)), rgb), best, "{rgb:?}");
        }
        assert!(
            (0..=255).all(|v| Depth::rgb(Depth::index([v; 3]))[0].abs_diff(v) <= 9),
            "greys are near"
        );
    }

    #[test]
    fn colours_come_down_to_what_there_is() {
        assert_eq!(Depth::Ansi16.of(Color::Rgb(250, 10, 10)), Color::LightRed);
        assert_eq!(Depth::Ansi16.of(Color::Indexed(3)), Color::Yellow);
        assert_eq!(Depth::Ansi16.of(Color::Indexed(232)), Color::Black);
        assert_eq!(Depth::Ansi256.of(Color::Cyan), Color::Cyan);
        assert_eq!(Depth::True.of(Color::Rgb(1, 2, 3)), Color::Rgb(1, 2, 3));
        assert_eq!(Depth::Mono.of(Color::Red), Color::Reset);
    }

    #[test]
    fn the_environment_is_taken_at_its_word() {
        for (colorterm, term, depth) in [
            ("truecolor", "xterm-256color", Depth::True),
            ("", "tmux-256color", Depth::Ansi256),
            ("", "linux", Depth::Ansi16),
            ("24bit", "dumb", Depth::Mono),
        ] {
            assert_eq!(Depth::guess(colorterm, term), depth, "{term}");
        }
    }
}
