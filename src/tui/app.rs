//! The app: all that the screens know, and what a message does to it. No file, clock, thread or terminal here:
//! [`App::update`] returns what is to be done as [`Effect`]s, and drawing changes nothing.
//!
//! What the screens want from the engine (the snapshot, a slice, a curve) and from the painter is found out once
//! before each frame, by comparing what is wanted with what is here; so a burst of keys or changes costs one
//! request and one sorting of the queue, not one each.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use ratatui::layout::Size;

use super::keys::{Action, Screen};
use super::keys::{Key, chord_text};
use super::keys::{Keymap, Meaning};
use super::layout;
use super::picture::{PaintJob, Picture};
use super::prompt::{Answered, Pressed, Prompt};
use super::screens::cases::{self, Step};
use super::screens::help::Help;
use super::screens::queue::Queue;
use super::screens::rounds::{self, Rounds};
use super::screens::slices::Slices;
use super::text::clean;
use super::theme::Theme;
use super::wish::{answer_words, wish};
use crate::protocol::{Answer, Command, Event, Snapshot, Stage};
use crate::records::CaseId;

/// Something happened.
#[derive(Debug, Clone)]
pub enum Msg {
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The terminal has this size now.
    Resize(Size),
    /// The engine said something.
    Event(Event),
    /// A command went out under this number.
    Sent {
        /// The number of its answer.
        request: u64,
        /// What the answer is for.
        purpose: Purpose,
    },
    /// A picture is ready.
    Painted(Arc<PaintJob>, Picture),
    /// Something a person should read.
    Notice(String),
    /// The system asks the program to stop (Ctrl-Z from elsewhere).
    Suspend,
    /// The system asks the program to end.
    Terminate,
    /// A frame will be drawn; the time is for ages.
    Frame(Timestamp),
}

/// Something is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send this, and say [`Msg::Sent`] before anything else.
    Send {
        /// The wish.
        command: Command,
        /// What its answer is for.
        purpose: Purpose,
    },
    /// Make this picture, and say [`Msg::Painted`].
    Paint(Arc<PaintJob>),
    /// Hand the terminal back and stop until the shell goes on with the program.
    Suspend,
    /// Draw every cell anew.
    Redraw,
    /// End.
    Quit,
}

/// What an answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The snapshot.
    Attach,
    /// The slice on the screen.
    Slice,
    /// The curve on the screen.
    Curve,
    /// What a person wished, in words: `handing out IBSR_01`.
    Wish(String),
}

/// How serious a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// For information.
    Plain,
    /// To look at.
    Warn,
    /// Something could not be done.
    Error,
}

/// What an app starts with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The keys.
    pub keymap: Keymap,
    /// The looks.
    pub theme: Theme,
    /// The account that commands are journalled under.
    pub who: String,
    /// How pictures reach the terminal, in a word: `half-blocks`.
    pub picture: &'static str,
    /// Pictures are spelled in characters.
    pub spelled: bool,
    /// The engine ends with the app, so that leaving stops a round.
    pub engine_ends: bool,
}

/// All that the screens know.
#[derive(Debug)]
pub struct App {
    pub(super) setup: Setup,
    pub(super) size: Size,
    pub(super) now: Timestamp,
    pub(super) screen: Screen,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) queue: Queue,
    pub(super) slices: Slices,
    pub(super) rounds: Rounds,
    pub(super) help: Help,
    pub(super) prompt: Option<Prompt>,
    pub(super) message: Option<(Tone, String)>,
    /// Keys of a chord that is not complete.
    keys: Vec<Key>,
    /// The number typed before a key.
    count: Option<usize>,
    purposes: HashMap<u64, Purpose>,
    /// Whether the snapshot is followed without a gap.
    attached: bool,
    attaching: bool,
    /// Rows changed since the queue was made.
    changed: bool,
}

impl App {
    /// An app on the queue, without anything to show yet.
    pub fn new(setup: Setup) -> App {
        let notes = setup.keymap.notes().join("; ");
        App {
            setup,
            size: Size::new(80, 24),
            now: Timestamp::UNIX_EPOCH,
            screen: Screen::Queue,
            snapshot: None,
            queue: Queue::default(),
            slices: Slices::default(),
            rounds: Rounds::default(),
            help: Help::default(),
            prompt: None,
            message: (!notes.is_empty()).then_some((Tone::Warn, notes)),
            keys: Vec::new(),
            count: None,
            purposes: HashMap::new(),
            attached: false,
            attaching: false,
            changed: false,
        }
    }

    /// The screen that is shown.
    pub fn screen(&self) -> Screen {
        self.screen
    }

    /// The count and the keys that wait for more, as typed.
    pub(super) fn pending(&self) -> String {
        let count = self.count.map_or_else(String::new, |count| count.to_string());
        format!("{count}{}", chord_text(&self.keys))
    }

    /// Takes one message; returns what is to be done about it.
    pub fn update(&mut self, msg: Msg) -> Vec<Effect> {
        match msg {
            Msg::Key(key) => self.press(key),
            Msg::Paste(text) => {
                if let Some(prompt) = &mut self.prompt {
                    prompt.paste(&text);
                }
                Vec::new()
            }
            Msg::Resize(size) => {
                self.size = size;
                Vec::new()
            }
            Msg::Event(event) => {
                self.hear(event);
                Vec::new()
            }
            Msg::Sent { request, purpose } => {
                self.purposes.insert(request, purpose);
                Vec::new()
            }
            Msg::Painted(job, picture) => {
                self.slices.painted(job, picture);
                Vec::new()
            }
            Msg::Notice(text) => {
                self.say(Tone::Warn, text);
                Vec::new()
            }
            Msg::Suspend => vec![Effect::Suspend],
            Msg::Terminate => vec![Effect::Quit],
            Msg::Frame(now) => {
                self.now = now;
                self.before_frame()
            }
        }
    }

    fn say(&mut self, tone: Tone, text: impl AsRef<str>) {
        // The message has no lines of its own: what came with some is one sentence after the other.
        self.message = Some((tone, clean(&text.as_ref().replace('\n', " "))));
    }

    fn press(&mut self, key: Key) -> Vec<Effect> {
        if let Some(prompt) = &mut self.prompt {
            return match prompt.press(key) {
                Pressed::Open => Vec::new(),
                Pressed::Dropped => {
                    self.prompt = None;
                    Vec::new()
                }
                Pressed::Answered(answered) => {
                    self.prompt = None;
                    match answered {
                        Answered::Quit => vec![Effect::Quit],
                        Answered::Send(command) => vec![wish(command)],
                    }
                }
            };
        }
        self.keys.push(key);
        match self.setup.keymap.meaning(self.screen, &self.keys) {
            Meaning::Begins => Vec::new(),
            Meaning::Does(action) => {
                self.keys.clear();
                let count = self.count.take();
                self.act(action, count)
            }
            Meaning::Nothing => {
                let digit = key
                    .digit()
                    .filter(|&digit| self.keys.len() == 1 && (digit > 0 || self.count.is_some()));
                if let Some(digit) = digit {
                    self.count = Some((self.count.unwrap_or(0) * 10 + digit).min(999_999));
                } else {
                    let (cancel, typed) = (key.to_string() == "esc", chord_text(&self.keys));
                    self.count = None;
                    if !cancel {
                        let help = self.setup.keymap.first_key_of(self.screen, Action::ShowHelp);
                        self.say(
                            Tone::Plain,
                            format!("{typed} does nothing here; {help} lists the keys"),
                        );
                    }
                }
                self.keys.clear();
                Vec::new()
            }
        }
    }

    fn act(&mut self, action: Action, count: Option<usize>) -> Vec<Effect> {
        match action {
            Action::Quit => return self.quit(),
            Action::Suspend => return vec![Effect::Suspend],
            Action::Redraw => return vec![Effect::Redraw],
            Action::Cancel => self.message = None,
            Action::ShowHelp if self.screen == Screen::Help => self.show(self.help.from),
            Action::ShowHelp => self.show(Screen::Help),
            Action::ShowQueue => self.show(Screen::Queue),
            Action::ShowSlices | Action::OpenSlices => self.show(Screen::Slices),
            Action::ShowRounds => self.show(Screen::Rounds),
            Action::NextScreen => self.show(self.screen.further(1)),
            Action::PreviousScreen => self.show(self.screen.further(-1)),
            Action::Rank => {
                return vec![wish(Command::Rank {
                    strategy: None,
                    pixels: None,
                })];
            }
            Action::ScanInbox => return vec![wish(Command::ScanInbox)],
            _ => return self.act_on_screen(action, count),
        }
        Vec::new()
    }

    fn act_on_screen(&mut self, action: Action, count: Option<usize>) -> Vec<Effect> {
        let Some(snapshot) = &self.snapshot else {
            return Vec::new();
        };
        let body = layout::areas(self.size).body;
        let step = match action {
            Action::HandOut
            | Action::Withdraw
            | Action::AcceptHeld
            | Action::RefuseHeld
            | Action::NoteMinutes
            | Action::ExcludeCase
            | Action::IncludeCase => match self.case() {
                Some(case) => cases::act(action, snapshot, &case, &self.setup.who),
                None => Err("no case is selected".into()),
            },
            Action::StartRound
            | Action::StartFromScratch
            | Action::Train
            | Action::AbandonRound
            | Action::DeclareSatisfactory
            | Action::Reopen => rounds::act(action, snapshot),
            Action::NextCase | Action::PreviousCase if self.screen == Screen::Slices => {
                self.queue.act(action, count, 1);
                self.open_selected();
                return Vec::new();
            }
            _ => {
                let moved = match self.screen {
                    Screen::Queue => {
                        self.queue
                            .act(action, count, layout::queue(body)[2].height.into());
                        Ok(())
                    }
                    Screen::Slices => self.slices.act(action, count, snapshot),
                    Screen::Rounds => {
                        let page = layout::rounds(body)[2].height.into();
                        self.rounds.act(action, count, page, snapshot.rounds.len());
                        Ok(())
                    }
                    Screen::Help => {
                        let len = self.help.lines(&self.setup.keymap).len();
                        self.help.act(action, count, body.height.into(), len);
                        Ok(())
                    }
                };
                if let Err(why) = moved {
                    self.say(Tone::Warn, why);
                }
                return Vec::new();
            }
        };
        match step {
            Ok(Step::Send(command)) => return vec![wish(command)],
            Ok(Step::Ask(prompt)) => self.prompt = Some(prompt),
            Err(why) => self.say(Tone::Warn, why),
        }
        Vec::new()
    }

    /// The case that keys act on.
    fn case(&self) -> Option<CaseId> {
        match self.screen {
            Screen::Slices => self.slices.case().cloned(),
            _ => self.queue.selected().map(|row| row.case.clone()),
        }
    }

    fn show(&mut self, screen: Screen) {
        if screen == Screen::Help && self.screen != Screen::Help {
            self.help = Help {
                from: self.screen,
                ..Help::default()
            };
        }
        self.screen = screen;
        if screen == Screen::Slices {
            self.open_selected();
        }
    }

    fn open_selected(&mut self) {
        if let Some(row) = self.queue.selected() {
            self.slices.open(&row.case);
        }
    }

    fn quit(&mut self) -> Vec<Effect> {
        let stage = self
            .snapshot
            .as_ref()
            .map_or(Stage::Idle, |snapshot| snapshot.activity.stage);
        if !self.setup.engine_ends || stage == Stage::Idle {
            return vec![Effect::Quit];
        }
        let lines = vec![
            format!("overtrace is {}, and that stops with it;", stage.word()),
            "an interrupted round goes on with `overtrace round train`".into(),
        ];
        self.prompt = Some(Prompt::confirm(
            "leave overtrace?",
            lines,
            super::prompt::Then::Quit,
        ));
        Vec::new()
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Changed(change) => {
                let Some(snapshot) = self.snapshot.as_mut().filter(|_| self.attached) else {
                    return;
                };
                self.slices.rows_changed(&change.rows);
                // After a gap the next frame attaches again.
                self.attached = snapshot.apply(*change).is_ok();
                self.changed = true;
            }
            Event::Settings(settings) => {
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.settings = *settings;
                    self.changed = true;
                }
            }
            Event::Activity(activity) => {
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.activity = activity;
                }
            }
            Event::Notice(text) => self.say(Tone::Warn, text),
            Event::Answer { request, result } => {
                // An answer to nobody is one from before an attach; there is nothing to do with it.
                if let Some(purpose) = self.purposes.remove(&request) {
                    self.answered(purpose, result);
                }
            }
        }
    }

    fn answered(&mut self, purpose: Purpose, result: Result<Answer, String>) {
        match (purpose, result) {
            (Purpose::Attach, Ok(Answer::Snapshot(snapshot))) => {
                self.snapshot = Some(*snapshot);
                (self.attached, self.attaching, self.changed) = (true, false, true);
                self.slices.refetch();
            }
            (Purpose::Attach, result) => {
                let why = result
                    .err()
                    .unwrap_or_else(|| "the engine sent no snapshot".into());
                self.say(Tone::Error, format!("attaching: {why}"));
            }
            (Purpose::Slice, Ok(Answer::Slice(view))) => self.slices.answered(Ok(view)),
            (Purpose::Slice, result) => {
                let why = result.err().unwrap_or_else(|| "the engine sent no slice".into());
                self.slices.answered(Err(clean(&why)));
            }
            (Purpose::Curve, Ok(Answer::Curve(curve))) => self.rounds.answered(Ok(curve)),
            (Purpose::Curve, result) => {
                let why = result.err().unwrap_or_else(|| "the engine sent no curve".into());
                self.rounds.answered(Err(clean(&why)));
            }
            (Purpose::Wish(words), Err(why)) => self.say(Tone::Error, format!("{words}: {why}")),
            (Purpose::Wish(words), Ok(answer)) => {
                let (tone, text) = answer_words(&words, answer);
                self.say(tone, text);
            }
        }
    }

    fn before_frame(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut send = |command, purpose| effects.push(Effect::Send { command, purpose });
        if !self.attached && !self.attaching {
            self.attaching = true;
            send(Command::Attach, Purpose::Attach);
        }
        let Some(snapshot) = &self.snapshot else {
            return effects;
        };
        let body = layout::areas(self.size).body;
        if std::mem::take(&mut self.changed) {
            self.queue.refresh(snapshot);
        }
        self.queue
            .cursor
            .settle(self.queue.rows.len(), layout::queue(body)[2].height.into());
        self.rounds
            .settle(snapshot.rounds.len(), layout::rounds(body)[2].height.into());
        match self.screen {
            Screen::Slices => {
                if let Some(request) = self.slices.request() {
                    send(Command::Slice(request), Purpose::Slice);
                }
                let cells = layout::slices(body)[1].as_size();
                effects.extend(
                    self.slices
                        .paint(snapshot, cells, self.setup.spelled)
                        .map(Effect::Paint),
                );
            }
            Screen::Rounds => {
                if let Some(model) = self.rounds.request(snapshot) {
                    send(Command::Curve { model }, Purpose::Curve);
                }
            }
            Screen::Queue | Screen::Help => {}
        }
        effects
    }
}
