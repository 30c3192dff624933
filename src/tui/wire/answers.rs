//! What the terminal is asked, and what it said: pictures, colours, how large a cell is. Never by its name.
//!
//! Every terminal answers the last question (DA1), so that all that it knows has come when that answer has. mosh and
//! multiplexers answer for themselves: mosh's DA1 has no pictures in it and it swallows the rest, so that it never gets
//! any; tmux passes some questions on but no pictures, and is not asked for them.

use super::depth::Depth;

/// The questions, in order: kitty's pictures (compressed, as they will be sent), iTerm2's, a cell's size, synchronized
/// output, the colour of the ground, all colours (one is set, asked for, and taken back), and what terminal it is.
pub const QUESTIONS: &str = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24,o=z;eJxjYGAAAAADAAE=\x1b\\\x1b]1337;ReportCellSize\x1b\\\x1b[16t\x1b[?2026$p\
    \x1b]11;?\x1b\\\x1b[48;2;1;2;3m\x1bP$qm\x1b\\\x1b[49m\x1b[c";

/// The questions to a multiplexer: nothing that it would have to show.
pub const FEW_QUESTIONS: &str = "\x1b[?2026$p\x1b]11;?\x1b\\\x1b[c";

/// How the answers to them begin.
pub(super) const ANSWERS: [&[u8]; 7] = [
    b"\x1b_G",
    b"\x1b]11;",
    b"\x1b]1337;",
    b"\x1bP1$r",
    b"\x1bP0$r",
    b"\x1b[?",
    b"\x1b[6;",
];

/// What the terminal can do, as far as it has said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// kitty's pictures.
    pub kitty: bool,
    /// iTerm2's.
    pub iterm2: bool,
    /// Sixels.
    pub sixel: bool,
    /// Width and height of a cell in pixels.
    pub cell: Option<[u16; 2]>,
    /// Frames that are shown at once.
    pub synchronized: bool,
    /// More colours than the environment says.
    pub depth: Option<Depth>,
    /// Whether the ground is light.
    pub is_light: Option<bool>,
    /// Nothing more is to come.
    pub is_complete: bool,
}

impl Capabilities {
    /// Takes an answer.
    pub fn hear(&mut self, sequence: &[u8]) {
        let text = String::from_utf8_lossy(sequence);
        if let Some(rest) = text.strip_prefix("\x1b_G") {
            self.kitty |= rest.starts_with("i=31") && rest.ends_with(";OK");
        } else if let Some(rest) = text.strip_prefix("\x1b]1337;ReportCellSize=") {
            // Height and width in points, and how many pixels a point has.
            let mut numbers = rest.split(';').map_while(|number| number.parse::<f32>().ok());
            if let (Some(height), Some(width)) = (numbers.next(), numbers.next()) {
                let scale = numbers.next().unwrap_or(1.0);
                self.iterm2 = true;
                let cell = [width, height].map(|side| (side * scale) as u16);
                self.cell = self.cell.or(Some(cell).filter(|cell| !cell.contains(&0)));
            }
        } else if let Some(rest) = text.strip_prefix("\x1b]11;rgb:") {
            let channels: Vec<f64> = rest
                .split('/')
                .filter_map(|channel| {
                    let most = 16f64.powi(channel.len() as i32) - 1.0;
                    Some(f64::from(u32::from_str_radix(channel, 16).ok()?) / most)
                })
                .collect();
            if let [r, g, b] = channels[..] {
                // Rec. 709.
                self.is_light = Some(0.2126 * r + 0.7152 * g + 0.0722 * b > 0.5);
            }
        } else if let Some(rest) = text.strip_prefix("\x1bP1$r") {
            let numbers = rest.trim_end_matches('m').replace(':', ";");
            if numbers.contains("48;2;1;2;3") || numbers.contains("48;2;;1;2;3") {
                self.depth = Some(Depth::True);
            }
        } else if let Some(rest) = text
            .strip_prefix("\x1b[?2026;")
            .and_then(|rest| rest.strip_suffix("$y"))
        {
            // 1 on, 2 off, 3 always on; 0 and 4: not to be had.
            self.synchronized = matches!(rest, "1" | "2" | "3");
        } else if let Some(rest) = text
            .strip_prefix("\x1b[6;")
            .and_then(|rest| rest.strip_suffix('t'))
        {
            let numbers: Vec<u16> = rest.split(';').filter_map(|number| number.parse().ok()).collect();
            if let [height, width] = numbers[..]
                && !numbers.contains(&0)
            {
                self.cell = Some([width, height]);
            }
        } else if let Some(rest) = text
            .strip_prefix("\x1b[?")
            .and_then(|rest| rest.strip_suffix('c'))
        {
            self.sixel = rest.split(';').skip(1).any(|attribute| attribute == "4");
            self.is_complete = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(answers: &[&str]) -> Capabilities {
        let mut known = Capabilities::default();
        answers.iter().for_each(|answer| known.hear(answer.as_bytes()));
        known
    }

    #[test]
    fn each_answer_says_what_it_says_and_no_more() {
        let kitty = heard(&["\x1b_Gi=31;OK", "\x1b[?2026;2$y", "\x1b[6;20;10t", "\x1b[?62;c"]);
        let expected = Capabilities {
            kitty: true,
            synchronized: true,
            cell: Some([10, 20]),
            is_complete: true,
            ..Capabilities::default()
        };
        assert_eq!(kitty, expected);
        assert_eq!(
            heard(&["\x1b_Gi=31;EINVAL:bad", "\x1b[?2026;0$y"]),
            Capabilities::default()
        );
        let xterm = heard(&[
            "\x1bP1$r0;48:2::1:2:3m",
            "\x1b]11;rgb:ffff/ffff/ffff",
            "\x1b[?64;1;4;22c",
        ]);
        assert_eq!(
            (xterm.depth, xterm.is_light, xterm.sixel),
            (Some(Depth::True), Some(true), true)
        );
        let other = heard(&["\x1bP1$r48;5;16m", "\x1b]11;rgb:00/11/22", "\x1b[?62c"]);
        assert_eq!(
            (other.depth, other.is_light, other.sixel),
            (None, Some(false), false)
        );
        let iterm2 = heard(&["\x1b]1337;ReportCellSize=17.5;8.0;2.0"]);
        assert_eq!((iterm2.iterm2, iterm2.cell), (true, Some([16, 35])));
        let hostile = [
            "\x1b[6;0;0t",
            "\x1b]11;rgb:/x/\u{e9}",
            "\x1b]1337;ReportCellSize=x",
            "",
            "\x1b[?c",
        ];
        assert!(!heard(&hostile).iterm2 && heard(&hostile).cell.is_none());
    }
}
