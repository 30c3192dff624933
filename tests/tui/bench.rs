//! A bench for the screens: an engine's end that answers when it is told to, keys in, cells out.

use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::HashSet;

use super::project::at;
use overtrace::protocol::{
    Answer, Beside, CaseView, Change, Command, EngineHandle, Event, Request, Snapshot,
};
use overtrace::records::{Row, Scored, What, is_unsafe};
use overtrace::tui::{
    App, Depth, Effect, Key, Keymap, Mouse, MouseAction, Msg, Painter, PictureMode, Screen, Setup, Themes,
    draw,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Size;
use ratatui::style::{Color, Modifier};

/// Two hours after everything in the project happened.
const NOW_S: i64 = 7200;

/// An app, a terminal of cells, and the engine's end of the line.
pub struct Bench {
    pub app: App,
    pub quit: bool,
    /// How often the screen was to be drawn anew, and the program to be stopped.
    pub redrawn: usize,
    pub suspended: usize,
    /// Whether the mouse is listened to.
    pub listens: bool,
    terminal: Terminal<TestBackend>,
    handle: EngineHandle,
    requests: Receiver<Request>,
    events: Sender<Event>,
    /// What the engine was sent, oldest first.
    log: Vec<Request>,
    /// Requests that were answered, as far as that is kept.
    answered: HashSet<u64>,
    /// The number of the last change.
    seq: u64,
    snapshot: Snapshot,
    painter: Painter,
}

impl Bench {
    /// An app attached to `snapshot`, with the default keys.
    pub fn on(snapshot: Snapshot) -> Bench {
        Bench::with(snapshot, |_| {})
    }

    /// The same, on the slices of `case`, which are here.
    pub fn at(snapshot: Snapshot, view: CaseView) -> Bench {
        let mut bench = Bench::on(snapshot);
        bench.keys("enter");
        bench.answer_case(view);
        bench
    }

    /// The same with other choices than the usual ones.
    pub fn with(snapshot: Snapshot, choose: impl FnOnce(&mut Setup)) -> Bench {
        let (requests_in, requests) = unbounded();
        let (events, events_out) = unbounded();
        let handle = EngineHandle::new(requests_in, events_out, "ada".into());
        let mut setup = Setup {
            keymap: Keymap::preset("default").unwrap(),
            themes: Themes::default(),
            who: handle.who().into(),
            picture: PictureMode::Auto,
            depth: Depth::True,
            ascii: false,
            mouse: true,
            engine_ends: true,
        };
        choose(&mut setup);
        let app = App::new(setup, at(NOW_S));
        let mut bench = Bench {
            app,
            quit: false,
            redrawn: 0,
            suspended: 0,
            listens: true,
            terminal: Terminal::new(TestBackend::new(120, 30)).unwrap(),
            handle,
            requests,
            events,
            log: Vec::new(),
            answered: HashSet::new(),
            seq: snapshot.seq,
            snapshot: snapshot.clone(),
            painter: Painter::default(),
        };
        bench.resize(120, 30);
        bench.answer(Ok(Answer::Snapshot(Box::new(snapshot))));
        bench
    }

    /// The snapshot that the bench began with.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub fn resize(&mut self, width: u16, height: u16) {
        self.terminal.backend_mut().resize(width, height);
        self.app.update(Msg::Resize(Size::new(width, height)));
        self.settle();
    }

    /// Presses keys, written as in a keymap.
    pub fn keys(&mut self, keys: &str) {
        for word in keys.split_whitespace() {
            let effects = self.app.update(Msg::Key(Key::parse(word).expect("a key")));
            self.perform(effects);
            self.settle();
        }
    }

    /// The mouse does something over a cell.
    pub fn mouse(&mut self, action: MouseAction, cell: [u16; 2]) {
        self.app.update(Msg::Mouse(Mouse { action, cell }));
        self.settle();
    }

    /// The terminal's size.
    pub fn size(&self) -> Size {
        self.terminal.backend().buffer().area.as_size()
    }

    /// Something that is no key.
    pub fn hear(&mut self, msg: Msg) {
        let effects = self.app.update(msg);
        self.perform(effects);
        self.settle();
    }

    /// Types a command.
    pub fn run(&mut self, command: &str) {
        self.keys(":");
        for c in command.chars() {
            let key = if c == ' ' { "space".into() } else { c.to_string() };
            self.keys(&key);
        }
        self.keys("enter");
    }

    /// The picture on the slices, cell by cell.
    pub fn picture(&self) -> Vec<(Color, Color)> {
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let cells = buffer.content.iter().enumerate();
        cells
            .filter(|(at, _)| at % width < width - 41)
            .map(|(_, cell)| (cell.fg, cell.bg))
            .collect()
    }

    /// The engine says something.
    pub fn say(&mut self, event: Event) {
        self.events.send(event).unwrap();
        self.settle();
    }

    pub fn change(&mut self, what: What, rows: Vec<Row>, order: Option<Vec<Scored>>) {
        self.seq += 1;
        let seq = self.seq;
        self.say(Event::Changed(Box::new(Change {
            seq,
            what,
            rows,
            order,
        })));
    }

    pub fn change_at(&mut self, seq: u64, what: What, rows: Vec<Row>) {
        self.say(Event::Changed(Box::new(Change {
            seq,
            what,
            rows,
            order: None,
        })));
    }

    /// The engine answers the newest request.
    pub fn answer(&mut self, result: Result<Answer, String>) {
        let request = self.log.last().expect("something was asked").id;
        self.say(Event::Answer { request, result });
    }

    /// The number of the newest command of a kind.
    fn newest(&self, is_it: impl Fn(&Command) -> bool) -> u64 {
        let newest = self.log.iter().rev().find(|request| is_it(&request.command));
        newest.expect("it was asked for").id
    }

    fn newest_open(&self) -> u64 {
        self.newest(|command| matches!(command, Command::Open { .. }))
    }

    /// The engine answers the newest attach.
    pub fn attach(&mut self, snapshot: Snapshot) {
        let request = self.newest(|command| matches!(command, Command::Attach { .. }));
        let result = Ok(Answer::Snapshot(Box::new(snapshot)));
        self.say(Event::Answer { request, result });
    }

    /// The engine answers the newest wish to open a case.
    pub fn answer_case(&mut self, view: CaseView) {
        let (request, result) = (self.newest_open(), Ok(Answer::Case(Box::new(view))));
        self.say(Event::Answer { request, result });
    }

    pub fn refuse_case(&mut self, why: &str) {
        let (request, result) = (self.newest_open(), Err(why.into()));
        self.say(Event::Answer { request, result });
    }

    /// Everything the engine was sent.
    pub fn sent_all(&self) -> Vec<Command> {
        self.log.iter().map(|request| request.command.clone()).collect()
    }

    /// What the engine was sent because a person wished for it.
    pub fn sent(&self) -> Vec<Command> {
        let by_itself = |command: &Command| {
            matches!(
                command,
                Command::Attach { .. }
                    | Command::Open { .. }
                    | Command::Curve { .. }
                    | Command::Journal { .. }
                    | Command::Orders
            )
        };
        self.sent_all()
            .into_iter()
            .filter(|command| !by_itself(command))
            .collect()
    }

    /// The cases that the engine was asked to open, and what beside.
    pub fn opened(&self) -> Vec<(String, Option<Beside>)> {
        let opened = self.sent_all().into_iter().filter_map(|command| match command {
            Command::Open(wanted) => Some((wanted.case.to_string(), wanted.beside)),
            _ => None,
        });
        opened.collect()
    }

    /// The last thing the engine was sent and has not answered.
    pub fn sent_last(&self) -> Option<Command> {
        let open = |request: &&Request| !self.answered.contains(&request.id);
        self.log.iter().rfind(open).map(|request| request.command.clone())
    }

    /// The engine answers that.
    pub fn answer_if_open(&mut self, result: Result<Answer, String>) {
        let open = |request: &&Request| !self.answered.contains(&request.id);
        if let Some(request) = self.log.iter().rfind(open).map(|request| request.id) {
            self.answered.insert(request);
            if let Ok(Answer::Snapshot(snapshot)) = &result {
                self.seq = snapshot.seq;
            }
            self.say(Event::Answer { request, result });
        }
    }

    /// Presses keys that come in one, before a frame.
    pub fn together(&mut self, keys: &str) {
        for key in keys.split_whitespace() {
            let effects = self.app.update(Msg::Key(Key::parse(key).expect("a key")));
            self.perform(effects);
        }
        self.settle();
    }

    /// Presses a key without drawing.
    pub fn press(&mut self, key: &str) {
        let effects = self.app.update(Msg::Key(Key::parse(key).expect("a key")));
        self.perform(effects);
        self.rest();
    }

    /// Whether a list that has lines has one that is selected, and nothing on the screen is obeyed.
    pub fn is_sound(&self) -> bool {
        let buffer = self.terminal.backend().buffer();
        let is_large = buffer.area.width >= 60 && buffer.area.height >= 20;
        let screen = self.screen();
        // A picture is a long sequence in one cell, and placeholders in the others.
        let is_picture = |symbol: &str| symbol.len() > 100 || symbol.starts_with('\u{10eeee}');
        let mut symbols = buffer.content.iter().map(ratatui::buffer::Cell::symbol);
        let obeyed = symbols.any(|symbol| !is_picture(symbol) && symbol.chars().any(is_unsafe));
        if !is_large {
            return !obeyed;
        }
        // Below the tab, which is reversed as well, and above the lines of state and message.
        let rows = 2..buffer.area.height.saturating_sub(3);
        let ground = buffer.cell((0, buffer.area.height - 1)).expect("a cell").bg;
        let is_selected = |row: u16| {
            let cell = buffer.cell((0, row));
            // By its ground where the looks have colours for it.
            cell.is_some_and(|cell| cell.modifier.contains(Modifier::REVERSED) || cell.bg != ground)
        };
        let header = (0..4).map(|row| self.line(row)).collect::<String>();
        let has_lines = match self.app.screen() {
            Screen::Queue => {
                header.contains("case") && !screen.contains("no case yet") && !header.contains(" 0 of ")
            }
            Screen::Rounds => header.contains("round state"),
            Screen::Models => header.contains("made"),
            Screen::Corrections => header.contains("ago") && !screen.contains("nothing has come back yet"),
            Screen::Slices | Screen::Log | Screen::Help => false,
        };
        // What may follow a key lies over the list, and a question where it is narrow.
        let is_covered = self.app.screen() != Screen::Rounds
            && rows.clone().any(|row| {
                let cell = buffer.cell((0, row));
                cell.is_some_and(|cell| ["\u{2502}", "|"].contains(&cell.symbol()))
            });
        let lacks = has_lines && !is_covered && !rows.into_iter().any(is_selected);
        !obeyed && !lacks
    }

    /// Runs until nothing is left to do, then draws.
    fn settle(&mut self) {
        self.rest();
        self.draw();
    }

    fn rest(&mut self) {
        for turn in 0.. {
            assert!(turn < 20, "the app never comes to rest");
            while let Ok(Some(event)) = self.handle.receive(std::time::Duration::ZERO) {
                let effects = self.app.update(Msg::Event(event));
                self.perform(effects);
            }
            let effects = self.app.update(Msg::Frame(at(NOW_S)));
            if effects.is_empty() {
                break;
            }
            self.perform(effects);
        }
    }

    pub fn draw(&mut self) {
        self.terminal.draw(|frame| draw(&self.app, frame)).unwrap();
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { command, purpose } => {
                    let request = self.handle.send(command).unwrap();
                    self.log.extend(self.requests.try_iter());
                    self.app.update(Msg::Sent { request, purpose });
                }
                Effect::Paint(job) => {
                    let picture = self.painter.paint(&job);
                    self.app.update(Msg::Painted(job, picture));
                }
                Effect::Profile(job) => {
                    let profile = job.make();
                    self.app.update(Msg::Profiled(job, profile));
                }
                Effect::Quit => self.quit = true,
                Effect::Redraw => self.redrawn += 1,
                Effect::Suspend => self.suspended += 1,
                Effect::Mouse(is_on) => self.listens = is_on,
            }
        }
    }

    /// The cells of the screen.
    pub fn buffer(&self) -> &Buffer {
        self.terminal.backend().buffer()
    }

    pub fn height(&self) -> usize {
        self.terminal.backend().buffer().area.height.into()
    }

    /// The screen as text.
    pub fn screen(&self) -> String {
        (0..self.height()).map(|row| self.line(row) + "\n").collect()
    }

    pub fn line(&self, row: usize) -> String {
        let buffer = self.terminal.backend().buffer();
        let width: usize = buffer.area.width.into();
        let cells = &buffer.content[row * width..(row + 1) * width];
        cells.iter().map(|cell| cell.symbol()).collect()
    }

    /// The first row below the tabs and titles that holds `text`.
    pub fn row_of(&self, text: &str) -> usize {
        let found = (3..self.height()).find(|&row| self.line(row).contains(text));
        found.unwrap_or_else(|| panic!("no {text:?} on\n{}", self.screen()))
    }

    /// The row that is drawn reversed.
    pub fn selected_line(&self) -> String {
        let buffer = self.terminal.backend().buffer();
        let reversed = |row: &usize| {
            let cell = buffer.cell((0, *row as u16)).expect("a cell in each row");
            cell.modifier.contains(Modifier::REVERSED)
        };
        let row = (3..self.height()).find(reversed).expect("a selected row");
        self.line(row)
    }

    /// Every colour on the screen.
    pub fn colours(&self) -> Vec<Color> {
        let cells = &self.terminal.backend().buffer().content;
        cells.iter().flat_map(|cell| [cell.fg, cell.bg]).collect()
    }

    /// Whether the picture (not its legend, which is at the right) has a cell of this colour, to half a step of what it is
    /// brought to.
    pub fn has_colour(&self, colour: Color) -> bool {
        let is_it = |shown: Color| match (shown, colour) {
            (Color::Rgb(a, b, c), Color::Rgb(d, e, f)) => {
                [(a, d), (b, e), (c, f)].iter().all(|(a, b)| a.abs_diff(*b) <= 4)
            }
            _ => shown == colour,
        };
        let buffer = self.terminal.backend().buffer();
        let width = buffer.area.width as usize;
        let cells = buffer
            .content
            .iter()
            .enumerate()
            .filter(|(at, _)| at % width < width - 38);
        cells
            .into_iter()
            .any(|(_, cell)| is_it(cell.fg) || is_it(cell.bg))
    }
}
