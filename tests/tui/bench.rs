//! A bench for the screens: a project made by hand, an engine's end that answers when it is told to, keys in,
//! cells out.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, channel};

use jiff::Timestamp;
use overtrace::imaging::{Grid, Plane};
use overtrace::protocol::{
    Answer, CaseView, Change, Command, Drawing, EngineHandle, Event, Intensities, Request, Snapshot,
};
use overtrace::records::{
    Architecture, Case, CaseId, ClassEffort, Correction, CorrectionId, Handout, HandoutEnd, HandoutId, Hash,
    HeldFile, HeldId, Model, ModelId, ModelOrigin, Pool, Prediction, Ranking, RankingId, Round, RoundId,
    RoundState, Row, Scored, SliceSums, What,
};
use overtrace::settings::{Pixels, Settings, Strategy};
use overtrace::tui::{
    App, Depth, Effect, Key, Keymap, Mouse, MouseAction, Msg, Painter, PictureMode, Screen, Setup, Theme,
    draw,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Size;
use ratatui::style::{Color, Modifier};

/// Two hours after everything in the project happened.
const NOW_S: i64 = 7200;

/// The case of that name.
pub fn case_id(name: &str) -> CaseId {
    CaseId::new(name).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// Colour of a cell.
pub fn colour(r: u8, g: u8, b: u8) -> Color {
    Color::Rgb(r, g, b)
}

fn effort(corrected_px: u64, shared_px: u64) -> ClassEffort {
    ClassEffort {
        predicted_px: 8,
        corrected_px,
        shared_px,
        erased_px: 8 - shared_px.min(8),
        added_path_mm: (corrected_px - shared_px) as f64,
        dice: Some(0.5),
    }
}

fn case(name: &str, pool: Pool) -> Case {
    Case {
        id: case_id(name),
        pool,
        excluded: None,
        images: vec![Hash::ZERO],
        grid: Grid::new([12, 9, 12], [1.0, 1.5, 1.0]),
        source: Hash::ZERO,
        mask: None,
        mask_versions: 0,
        handout: None,
        queried: None,
        added_at: at(0),
    }
}

/// Three unlabelled cases ranked by m2, one labelled, one held out; round 1 is closed, round 2 is open.
pub fn project() -> Snapshot {
    let mut snapshot = Snapshot::empty("/data/study".into(), Settings::default());
    snapshot.project.model = Some(ModelId(2));
    snapshot.put(Row::Model(Model {
        id: ModelId(2),
        parent: Some(ModelId(1)),
        origin: ModelOrigin::Round(RoundId(1)),
        architecture: Architecture {
            channels: 1,
            classes: 4,
            base_channels: 16,
        },
        parameters: 1_941_108,
        weights: Hash::ZERO,
        trained_on: None,
        trained_cases: 1,
        curve: None,
        best_epoch: 2,
        epochs: 3,
        seconds: 60.0,
        validation_dice: vec![Some(0.8); 3],
        at: at(0),
    }));
    snapshot.project.ranking = Some(RankingId(1));
    let scores = [("unsure", 0.41), ("middling", 0.62), ("certain", 0.93)];
    let pools = [("labelled_1", Pool::Labelled), ("held_out_1", Pool::HeldOut)];
    let unlabelled = scores.map(|(name, _)| (name, Pool::Unlabelled));
    for (name, pool) in unlabelled.into_iter().chain(pools) {
        snapshot.put(Row::Case(case(name, pool)));
    }
    for (name, _) in scores {
        snapshot.put(Row::Prediction(Prediction {
            case: case_id(name),
            model: ModelId(2),
            labels: Hash::ZERO,
            margins: Hash::ZERO,
            slices: Hash::ZERO,
            sums: SliceSums::default(),
            class_voxels: vec![0, 2000, 8000, 4000],
            dice: Vec::new(),
            dice_mask: None,
            seconds: 1.0,
        }));
    }
    snapshot.put(Row::Ranking(Ranking {
        id: RankingId(1),
        strategy: Strategy::AverageBvsb,
        pixels: Pixels::All,
        seed: None,
        model: Some(ModelId(2)),
        order: Hash::ZERO,
        cases: 3,
        at: at(0),
    }));
    snapshot.order = scores
        .map(|(name, score)| Scored {
            case: case_id(name),
            score: Some(score),
        })
        .to_vec();
    let closed = Round {
        id: RoundId(1),
        state: RoundState::Closed,
        settings: Hash::ZERO,
        from_scratch: false,
        strategy: Strategy::AverageBvsb,
        budget: 1,
        ranking: None,
        queried: vec![case_id("labelled_1")],
        returned: 1,
        parent: None,
        training_set: None,
        labelled: 1,
        model: Some(ModelId(2)),
        effort: vec![effort(8, 4), effort(8, 6), effort(0, 0)],
        held_out_dice: vec![Some(0.7), Some(0.9), None],
        held_out: 1,
        training_s: 100.0,
        predicting_s: 20.0,
        started_at: at(0),
        ended_at: Some(at(200)),
    };
    let open = Round {
        id: RoundId(2),
        state: RoundState::Correcting,
        queried: vec![case_id("unsure")],
        returned: 0,
        model: None,
        effort: Vec::new(),
        held_out_dice: Vec::new(),
        ended_at: None,
        ..closed.clone()
    };
    snapshot.put(Row::Round(closed));
    snapshot.put(Row::Round(open));
    snapshot
}

fn handout(case: &str, owner: &str) -> Handout {
    Handout {
        id: HandoutId(1),
        case: case_id(case),
        owner: owner.into(),
        at: at(0),
        model: Some(ModelId(2)),
        pre_annotation: Hash::ZERO,
        reply_name: format!("{case}.nii.gz"),
        end: None,
    }
}

/// `case` in the hands of `owner` for two hours.
pub fn with_handout(mut snapshot: Snapshot, case: &str, owner: &str) -> Snapshot {
    snapshot.put(Row::Handout(handout(case, owner)));
    snapshot.cases.get_mut(&case_id(case)).unwrap().handout = Some(HandoutId(1));
    snapshot
}

/// A file of `case` that waits for a decision.
pub fn with_held(mut snapshot: Snapshot, case: &str) -> Snapshot {
    snapshot.put(Row::Held(HeldFile {
        id: HeldId(1),
        name: format!("{case}\u{1b}.nii.gz"),
        file: Hash::ZERO,
        case: case_id(case),
        code: "K7".into(),
        words: "GM is nowhere in it".into(),
        at: at(0),
        decided: None,
    }));
    snapshot
}

/// A correction of `case`: CSF was all right, half of GM was, WM is in neither.
pub fn with_correction(mut snapshot: Snapshot, case: &str) -> Snapshot {
    snapshot.put(Row::Handout(Handout {
        end: Some(HandoutEnd::Corrected(CorrectionId(1))),
        ..handout(case, "eve")
    }));
    snapshot.put(Row::Correction(Correction {
        id: CorrectionId(1),
        case: case_id(case),
        handout: HandoutId(1),
        round: None,
        who: "eve".into(),
        at: at(60),
        mask: Hash::ZERO,
        file: Hash::ZERO,
        pre_annotation: Hash::ZERO,
        model: Some(ModelId(2)),
        effort: vec![effort(8, 8), effort(8, 4), effort(0, 0)],
        tolerance_mm: 0.0,
        turnaround_s: Some(60.0),
        minutes: None,
        notes: Vec::new(),
    }));
    snapshot
}

/// A square of GM, 4 x 4, in each of nine coronal slices of 12 x 12, its left upper corner at (x, y).
fn squares(x: usize, y: usize) -> Vec<u8> {
    let inside = |i: usize, k: usize| (x..x + 4).contains(&i) && (y..y + 4).contains(&k);
    let class = |at: usize| if inside(at % 12, at / (12 * 9)) { 2 } else { 0 };
    (0..12 * 9 * 12).map(class).collect()
}

/// A case that nobody has corrected: grey 100, GM predicted in the middle, the uppermost row unsure; slice 5 of 9 most of all.
pub fn view(case: &str) -> CaseView {
    view_of(case, false)
}

/// The same; `corrected` moves the square of GM one pixel on.
pub fn view_of(case: &str, corrected: bool) -> CaseView {
    let grid = Grid::new([12, 9, 12], [1.0, 1.5, 1.0]);
    let drawing = |voxels| Drawing {
        model: ModelId(2),
        voxels,
    };
    let margins = (0..grid.len()).map(|at| if at / (12 * 9) == 11 { 0 } else { 255 });
    CaseView {
        case: case_id(case),
        grid,
        plane: Plane(1),
        image: Intensities {
            values: vec![100; grid.len()],
            low: 0.0,
            step: 1.0,
            window: [0.0, 255.0],
        },
        predicted: Some(drawing(squares(4, 4))),
        is_measured: corrected,
        corrected: corrected.then(|| squares(5, 4)),
        margins: Some(drawing(margins.collect())),
        scores: (0..9).map(|n| if n == 4 { 0.41 } else { 0.9 }).collect(),
        beside: None,
    }
}

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
        Bench::with(snapshot, Keymap::preset("default").unwrap(), true)
    }

    /// The same, on the slices of `case`, which are here.
    pub fn at(snapshot: Snapshot, view: CaseView) -> Bench {
        let mut bench = Bench::on(snapshot);
        bench.keys("enter");
        bench.answer_case(view);
        bench
    }

    pub fn with(snapshot: Snapshot, keymap: Keymap, colour: bool) -> Bench {
        let (requests_in, requests) = channel();
        let (events, events_out) = channel();
        let handle = EngineHandle::new(requests_in, events_out, "ada".into());
        let app = App::new(Setup {
            keymap,
            theme: Theme::new(colour),
            who: handle.who().into(),
            picture: PictureMode::Auto,
            depth: if colour { Depth::True } else { Depth::Mono },
            mouse: true,
            engine_ends: true,
        });
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

    fn newest_open(&self) -> u64 {
        let mut opened = self
            .log
            .iter()
            .filter(|request| matches!(request.command, Command::Open { .. }));
        opened.next_back().expect("a case was asked for").id
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
                Command::Attach
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

    /// The cases that the engine was asked to open, and beside which model.
    pub fn opened(&self) -> Vec<(String, Option<ModelId>)> {
        let opened = self.sent_all().into_iter().filter_map(|command| match command {
            Command::Open { case, beside } => Some((case.to_string(), beside)),
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
        let obeyed = screen.chars().any(|c| c != '\n' && c.is_control());
        let is_list = self.app.screen() == Screen::Queue && is_large;
        let lacks = is_list
            && screen.contains("unlabelled, ")
            && !screen.contains("no case yet")
            && !screen.contains("none of ")
            && !buffer
                .content
                .iter()
                .any(|cell| cell.modifier.contains(Modifier::REVERSED));
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
