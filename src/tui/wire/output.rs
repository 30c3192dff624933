//! What goes to the terminal: as few bytes as it takes, a frame at a time.
//!
//! The far end of an SSH line is where they are felt, so colours and the place of the cursor are only said where they are
//! not known already, a half-block is turned over where that saves a colour, and a frame in which nothing changed is not
//! sent at all. Nothing here asks the terminal anything.

use std::io::{self, Write};

use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::crossterm::terminal;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

use super::depth::Depth;

/// Upper and lower half of a cell.
const UPPER: &str = "\u{2580}";
const LOWER: &str = "\u{2584}";

/// Every modifier, what switches it on, and what off; bold and dim go off together.
const MODIFIERS: [(Modifier, u8, u8); 8] = [
    (Modifier::BOLD, 1, 22),
    (Modifier::DIM, 2, 22),
    (Modifier::ITALIC, 3, 23),
    (Modifier::UNDERLINED, 4, 24),
    (Modifier::SLOW_BLINK, 5, 25),
    (Modifier::REVERSED, 7, 27),
    (Modifier::HIDDEN, 8, 28),
    (Modifier::CROSSED_OUT, 9, 29),
];

/// How the terminal writes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pen {
    fg: Color,
    bg: Color,
    modifier: Modifier,
}

const PLAIN: Pen = Pen {
    fg: Color::Reset,
    bg: Color::Reset,
    modifier: Modifier::empty(),
};

/// A terminal to draw to.
#[derive(Debug)]
pub struct Output<W: Write> {
    writer: W,
    /// The frame so far.
    frame: Vec<u8>,
    depth: Depth,
    is_synchronized: bool,
    /// How it writes, where that is known.
    pen: Option<Pen>,
    /// Where it writes, where that is known.
    at: Option<Position>,
    is_cursor_hidden: Option<bool>,
}

impl<W: Write> Output<W> {
    /// Over a terminal's input.
    pub fn new(writer: W, depth: Depth) -> Output<W> {
        Output {
            writer,
            frame: Vec::new(),
            depth,
            is_synchronized: false,
            pen: None,
            at: None,
            is_cursor_hidden: None,
        }
    }

    /// Uses more colours from now on; where there were to be none there are none.
    pub fn raise_depth(&mut self, depth: Depth) {
        if self.depth != Depth::Mono {
            self.depth = depth;
        }
    }

    /// Wraps frames so that the terminal shows each at once; for one that said it knows how.
    pub fn set_synchronized(&mut self, is_synchronized: bool) {
        self.is_synchronized = is_synchronized;
    }

    /// Forgets what was known of the terminal: somebody else has written to it.
    pub fn forget(&mut self) {
        (self.pen, self.at, self.is_cursor_hidden) = (None, None, None);
    }

    /// What was written so far and not sent.
    #[cfg(test)]
    fn pending(&self) -> &[u8] {
        &self.frame
    }

    fn put(&mut self, position: Position, cell: &Cell) {
        self.go(position);
        let colours = [cell.fg, cell.bg].map(|colour| self.depth.of(colour));
        let pen = |[fg, bg]: [Color; 2]| Pen {
            fg,
            bg,
            modifier: cell.modifier,
        };
        let [upper, lower] = colours;
        let (pen, symbol) = match cell.symbol() {
            // One colour: whichever the other half would have had, it is not seen.
            UPPER if upper == lower => {
                let fg = self.pen.map_or(Color::Reset, |pen| pen.fg);
                (pen([fg, lower]), " ")
            }
            UPPER => {
                let turned = pen([lower, upper]);
                if self.cost(turned) < self.cost(pen(colours)) {
                    (turned, LOWER)
                } else {
                    (pen(colours), UPPER)
                }
            }
            // What is not written has no colour, unless it is underlined or exchanged with its ground.
            " " if !cell
                .modifier
                .intersects(Modifier::REVERSED | Modifier::UNDERLINED | Modifier::CROSSED_OUT) =>
            {
                let fg = self.pen.map_or(Color::Reset, |pen| pen.fg);
                (pen([fg, lower]), " ")
            }
            symbol => (pen(colours), symbol),
        };
        self.take(pen);
        self.frame.extend_from_slice(symbol.as_bytes());
        if symbol.contains('\u{1b}') {
            // A picture: where it leaves the cursor is the terminal's own business.
            self.forget_place();
        } else {
            self.at = Some(Position {
                x: position.x + symbol.width() as u16,
                ..position
            });
        }
    }

    fn forget_place(&mut self) {
        (self.pen, self.at) = (None, None);
    }

    /// Goes to a place the shortest way.
    fn go(&mut self, to: Position) {
        match self.at {
            Some(at) if at == to => return,
            Some(at) if at.y == to.y && at.x < to.x => {
                let by = to.x - at.x;
                if by == 1 {
                    self.frame.extend_from_slice(b"\x1b[C");
                } else {
                    self.say(format_args!("\x1b[{by}C"));
                }
            }
            _ if to == Position::ORIGIN => self.frame.extend_from_slice(b"\x1b[H"),
            Some(at) if at.y + 1 == to.y && to.x == 0 => self.frame.extend_from_slice(b"\r\n"),
            _ if to.x == 0 => self.say(format_args!("\x1b[{}H", to.y + 1)),
            _ => self.say(format_args!("\x1b[{};{}H", to.y + 1, to.x + 1)),
        }
        self.at = Some(to);
    }

    fn say(&mut self, words: std::fmt::Arguments<'_>) {
        self.frame
            .write_fmt(words)
            .expect("a vector takes what it is given");
    }

    /// Bytes that it takes to write with `pen`.
    fn cost(&self, pen: Pen) -> usize {
        let mut codes = Vec::new();
        self.codes(pen, &mut codes);
        codes.len()
    }

    /// Writes with `pen` from now on.
    fn take(&mut self, pen: Pen) {
        let mut codes = Vec::new();
        self.codes(pen, &mut codes);
        if let Some((_, codes)) = codes.split_last() {
            self.frame.extend_from_slice(b"\x1b[");
            self.frame.extend_from_slice(codes);
            self.frame.push(b'm');
        }
        self.pen = Some(pen);
    }

    /// The codes that change the pen, each followed by a semicolon.
    fn codes(&self, pen: Pen, codes: &mut Vec<u8>) {
        let mut add = |code: std::fmt::Arguments<'_>| {
            codes.write_fmt(code).expect("a vector takes what it is given");
            codes.push(b';');
        };
        let mut known = match self.pen {
            Some(known) => known,
            None => {
                add(format_args!("0"));
                PLAIN
            }
        };
        for (modifier, _, off) in MODIFIERS {
            let gone = known.modifier.difference(pen.modifier);
            if gone.contains(modifier) {
                add(format_args!("{off}"));
                let with_it = MODIFIERS.iter().filter(|(_, _, other)| *other == off);
                with_it.for_each(|(other, ..)| known.modifier.remove(*other));
            }
        }
        for (modifier, on, _) in MODIFIERS {
            if pen.modifier.contains(modifier) && !known.modifier.contains(modifier) {
                add(format_args!("{on}"));
            }
        }
        for (wanted, known, base) in [(pen.fg, known.fg, 30), (pen.bg, known.bg, 40)] {
            if wanted == known {
                continue;
            }
            match wanted {
                Color::Reset => add(format_args!("{}", base + 9)),
                Color::Rgb(r, g, b) => add(format_args!("{};2;{r};{g};{b}", base + 8)),
                Color::Indexed(n) => add(format_args!("{};5;{n}", base + 8)),
                named => {
                    let n = Depth::place(named);
                    add(format_args!(
                        "{}",
                        if n < 8 { base + n } else { base + 60 + n - 8 }
                    ));
                }
            }
        }
    }
}

impl<W: Write> Backend for Output<W> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        for (x, y, cell) in content {
            self.put(Position { x, y }, cell);
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        if self.is_cursor_hidden != Some(true) {
            self.frame.extend_from_slice(b"\x1b[?25l");
            self.is_cursor_hidden = Some(true);
        }
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        if self.is_cursor_hidden != Some(false) {
            self.frame.extend_from_slice(b"\x1b[?25h");
            self.is_cursor_hidden = Some(false);
        }
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        // The terminal is never asked; nothing that is drawn here needs it.
        Ok(self.at.unwrap_or(Position::ORIGIN))
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.go(position.into());
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        // What is cleared takes the ground colour of the pen.
        self.take(PLAIN);
        self.frame.extend_from_slice(match region {
            ClearType::All => b"\x1b[2J",
            ClearType::AfterCursor => b"\x1b[J",
            ClearType::BeforeCursor => b"\x1b[1J",
            ClearType::CurrentLine => b"\x1b[2K",
            ClearType::UntilNewLine => b"\x1b[K",
        });
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        let (width, height) = terminal::size()?;
        Ok(Size::new(width, height))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize {
            columns_rows: self.size()?,
            pixels: Size::default(),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        if self.is_synchronized {
            self.frame.splice(0..0, *b"\x1b[?2026h");
            self.frame.extend_from_slice(b"\x1b[?2026l");
        }
        // Kept until it is out whole or has failed: a frame is never sent twice.
        let frame = std::mem::take(&mut self.frame);
        self.writer.write_all(&frame)?;
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(depth: Depth) -> Output<Vec<u8>> {
        let mut output = Output::new(Vec::new(), depth);
        output.take(PLAIN);
        output.frame.clear();
        output
    }

    fn cell(symbol: &'static str, fg: Color, bg: Color) -> Cell {
        let mut cell = Cell::new(symbol);
        (cell.fg, cell.bg) = (fg, bg);
        cell
    }

    fn drawn(output: &mut Output<Vec<u8>>, cells: &[(u16, u16, Cell)]) -> String {
        output.frame.clear();
        output
            .draw(cells.iter().map(|(x, y, cell)| (*x, *y, cell)))
            .unwrap();
        String::from_utf8(output.pending().to_vec()).unwrap()
    }

    #[test]
    fn colours_and_places_are_said_once() {
        let mut output = output(Depth::True);
        let red = cell("a", Color::Red, Color::Reset);
        let cells = [
            (0, 0, red.clone()),
            (1, 0, red.clone()),
            (4, 0, red.clone()),
            (0, 1, red),
        ];
        assert_eq!(drawn(&mut output, &cells), "\x1b[H\x1b[31maa\x1b[2Ca\r\na");
        let next = [(1, 1, cell("b", Color::Rgb(1, 2, 3), Color::Indexed(244)))];
        assert_eq!(drawn(&mut output, &next), "\x1b[38;2;1;2;3;48;5;244mb");
        let far = [(7, 9, cell("c", Color::LightBlue, Color::Reset))];
        assert_eq!(drawn(&mut output, &far), "\x1b[10;8H\x1b[94;49mc");
    }

    #[test]
    fn a_half_block_is_turned_over_where_that_saves_a_colour() {
        let mut output = output(Depth::True);
        let half = |upper: u8, lower: u8| cell(UPPER, Color::Indexed(upper), Color::Indexed(lower));
        let cells = [
            (0, 0, half(20, 30)),
            (1, 0, half(30, 20)),
            (2, 0, half(30, 30)),
            (3, 0, half(30, 40)),
        ];
        // The third is a space on 30; the fourth goes on from there with 30 as its ground.
        assert_eq!(
            drawn(&mut output, &cells),
            format!("\x1b[H\x1b[38;5;20;48;5;30m{UPPER}{LOWER} \x1b[38;5;40m{LOWER}")
        );
    }

    #[test]
    fn modifiers_go_on_and_off_by_themselves() {
        let mut output = output(Depth::True);
        let with = |symbol, modifier| {
            let mut cell = cell(symbol, Color::Reset, Color::Reset);
            cell.modifier = modifier;
            cell
        };
        let cells = [
            (0, 0, with("a", Modifier::BOLD | Modifier::REVERSED)),
            (1, 0, with("b", Modifier::DIM)),
            (2, 0, with("c", Modifier::empty())),
        ];
        assert_eq!(
            drawn(&mut output, &cells),
            "\x1b[H\x1b[1;7ma\x1b[22;27;2mb\x1b[22mc"
        );
    }

    #[test]
    fn without_colours_only_modifiers_are_left() {
        let mut output = output(Depth::Mono);
        let cells = [(0, 0, cell("a", Color::Red, Color::Rgb(9, 9, 9)))];
        assert_eq!(drawn(&mut output, &cells), "\x1b[Ha");
    }

    #[test]
    fn what_a_picture_leaves_behind_is_not_relied_on() {
        let mut output = output(Depth::True);
        let cells = [
            (0, 0, cell("\u{1b}_Gpicture\u{1b}\\", Color::Reset, Color::Reset)),
            (1, 0, cell("a", Color::Reset, Color::Reset)),
        ];
        assert!(drawn(&mut output, &cells).ends_with("\x1b[1;2H\x1b[0ma"));
    }

    #[test]
    fn a_frame_is_sent_at_once_and_one_without_changes_not_at_all() {
        let mut output = Output::new(Vec::new(), Depth::True);
        output.hide_cursor().unwrap();
        output.flush().unwrap();
        assert_eq!(output.writer, b"\x1b[?25l");
        output.hide_cursor().unwrap();
        output.draw(std::iter::empty()).unwrap();
        output.flush().unwrap();
        assert_eq!(output.writer, b"\x1b[?25l");
        output.set_synchronized(true);
        drawn(&mut output, &[(0, 0, cell("a", Color::Reset, Color::Reset))]);
        output.flush().unwrap();
        assert_eq!(output.writer, b"\x1b[?25l\x1b[?2026h\x1b[H\x1b[0ma\x1b[?2026l");
    }
}
