//! The app: all that the screens know, and what a message does to it. No file, clock, thread or terminal here:
//! [`App::update`] returns what is to be done as [`Effect`]s, and drawing changes nothing.
//!
//! What the screens want from the engine (the snapshot, a case, a curve) and from the painter is found out once
//! before each frame, by comparing what is wanted with what is here; so a burst of keys or changes costs one
//! request and one sorting of the queue, not one each.

mod act;
mod frame;
mod hear;
mod point;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use ratatui::layout::Size;

use super::keys::{Action, Key, Keymap, Screen, chord_text};
use super::line::Line;
use super::picture::{PaintJob, Picture, PictureMode, Profile, ProfileJob};
use super::prompt::Prompt;
use super::screens::corrections::Corrections;
use super::screens::help::Help;
use super::screens::log::Log;
use super::screens::models::Models;
use super::screens::queue::Queue;
use super::screens::rounds::Rounds;
use super::screens::slices::{Screen as Shown, Slices};
use super::screens::views::Views;
use super::text::clean;
use super::theme::{Theme, Themes};
use super::wire::{Capabilities, Depth, Mouse};
use crate::protocol::{Command, Event, Snapshot};
use crate::records::CaseId;
use hear::Batch;

/// Something happened.
#[derive(Debug, Clone)]
pub enum Msg {
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The terminal has this size now.
    Resize(Size),
    /// The terminal is the app's again after somebody else had it, and has this size.
    Resumed(Size),
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
    /// A case is known slice by slice.
    Profiled(ProfileJob, Profile),
    /// What the terminal says it can do, as far as it has answered.
    Terminal(Capabilities),
    /// The mouse did something.
    Mouse(Mouse),
    /// Something a person should read.
    Notice(String),
    /// The system asks the program to stop (Ctrl-Z from elsewhere).
    Suspend,
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
    /// Make this profile, and say [`Msg::Profiled`].
    Profile(ProfileJob),
    /// Hand the terminal back and stop until the shell goes on with the program.
    Suspend,
    /// Draw every cell anew.
    Redraw,
    /// Listen to the mouse, or do not.
    Mouse(bool),
    /// End.
    Quit,
}

/// What an answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The snapshot.
    Attach,
    /// The case on the screen.
    View,
    /// The curve on the screen.
    Curve,
    /// The journal's last entries.
    Journal,
    /// The orders that models put the pool in.
    Orders,
    /// What a person wished, in words: `handing out IBSR_01`.
    Wish(String),
}

/// How serious a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
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
    /// The looks to choose from.
    pub themes: Themes,
    /// The account that commands are journalled under.
    pub who: String,
    /// How pictures reach the terminal.
    pub picture: PictureMode,
    /// Colours that there are, as far as the environment says.
    pub depth: Depth,
    /// Whether lines and bars are drawn in ASCII.
    pub ascii: bool,
    /// Whether the mouse is listened to.
    pub mouse: bool,
    /// The engine ends with the app, so that leaving stops a round.
    pub engine_ends: bool,
}

/// What of the queue has to be made anew.
#[derive(Debug, Default)]
enum Changed {
    /// Nothing.
    #[default]
    Nothing,
    /// The rows of these cases, and everybody's rank and forecast.
    Cases(HashSet<CaseId>),
    /// The same, and the ranking's order.
    Order(HashSet<CaseId>),
    /// Everything.
    All,
}

/// All that the screens know.
#[derive(Debug)]
pub struct App {
    pub(super) setup: Setup,
    /// The looks in force.
    pub(super) theme: Theme,
    pub(super) size: Size,
    pub(super) now: Timestamp,
    pub(super) screen: Screen,
    /// Where the screen was come to from, the last last.
    before: Vec<Screen>,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) queue: Queue,
    pub(super) preview: Slices,
    pub(super) slices: Slices,
    pub(super) views: Views,
    pub(super) rounds: Rounds,
    pub(super) corrections: Corrections,
    pub(super) models: Models,
    pub(super) log: Log,
    pub(super) help: Help,
    pub(super) prompt: Option<Prompt>,
    pub(super) line: Option<Line>,
    pub(super) message: Option<(Tone, String)>,
    /// What the terminal says it can do.
    pub(super) terminal: Capabilities,
    /// Where the mouse went down with its right button, and the window of intensities then.
    pulled: Option<([u16; 2], [f64; 2])>,
    /// Keys of a chord that is not complete.
    keys: Vec<Key>,
    /// The number typed before a key.
    count: Option<usize>,
    purposes: HashMap<u64, Purpose>,
    /// Whether the snapshot is followed without a gap.
    attached: bool,
    attaching: bool,
    /// The wishes that were sent last.
    batch: Batch,
    changed: Changed,
}

impl App {
    /// An app on the queue, without anything to show yet.
    pub fn new(setup: Setup, now: Timestamp) -> App {
        let notes = setup.keymap.notes().join("; ");
        let theme = setup.themes.theme(setup.depth != Depth::Mono, None);
        App {
            setup,
            theme,
            size: Size::new(80, 24),
            now,
            screen: Screen::Queue,
            before: Vec::new(),
            snapshot: None,
            queue: Queue::default(),
            preview: Slices::default(),
            slices: Slices::default(),
            views: Views::default(),
            rounds: Rounds::default(),
            corrections: Corrections::default(),
            models: Models::default(),
            log: Log::default(),
            help: Help::default(),
            prompt: None,
            line: None,
            message: (!notes.is_empty()).then_some((Tone::Warn, notes)),
            terminal: Capabilities::default(),
            pulled: None,
            keys: Vec::new(),
            count: None,
            purposes: HashMap::new(),
            attached: false,
            attaching: false,
            batch: Batch::default(),
            changed: Changed::Nothing,
        }
    }

    /// The screen that is shown.
    pub fn screen(&self) -> Screen {
        self.screen
    }

    /// The keys of a chord that is not complete.
    pub(super) fn chord(&self) -> &[Key] {
        &self.keys
    }

    /// The count and the keys that wait for more, as typed.
    pub(super) fn pending(&self) -> String {
        let count = self.count.map_or_else(String::new, |count| count.to_string());
        format!("{count}{}", chord_text(&self.keys))
    }

    /// Takes one message; returns what is to be done about it.
    pub fn update(&mut self, msg: Msg) -> Vec<Effect> {
        match msg {
            Msg::Key(key) => return self.press(key),
            Msg::Paste(text) => self.paste(&text),
            Msg::Resize(size) => self.size = size,
            Msg::Resumed(size) => {
                self.size = size;
                self.forget_pictures();
            }
            Msg::Event(event) => self.hear(event),
            Msg::Sent { request, purpose } => drop(self.purposes.insert(request, purpose)),
            Msg::Painted(job, picture) => {
                // One of them has asked for it.
                self.preview.painted(&job, &picture);
                self.slices.painted(&job, &picture);
            }
            Msg::Profiled(job, profile) => self.slices.profiled(job, profile),
            Msg::Terminal(known) => return self.hear_terminal(known),
            Msg::Mouse(mouse) => self.point(mouse),
            Msg::Notice(text) => self.notice(text),
            Msg::Suspend => return vec![Effect::Suspend],
            Msg::Frame(now) => {
                self.now = now;
                return self.before_frame();
            }
        }
        Vec::new()
    }

    /// Has every picture made anew: a terminal that shows something else meanwhile lets go of those it was sent.
    pub(super) fn forget_pictures(&mut self) {
        self.preview.forget_pictures();
        self.slices.forget_pictures();
    }

    fn say(&mut self, tone: Tone, text: impl AsRef<str>) {
        // The message has no lines of its own: what came with some is one sentence after the other.
        self.message = Some((tone, clean(&text.as_ref().replace('\n', " "))));
    }

    /// Says something that was not asked for, and keeps it.
    fn notice(&mut self, text: impl AsRef<str>) {
        self.log
            .notice(self.now, clean(&text.as_ref().replace('\n', " ")));
        self.say(Tone::Warn, text);
    }

    /// Whether the terminal has answered all that it was asked.
    pub fn knows_terminal(&self) -> bool {
        self.terminal.is_complete
    }

    /// How pictures are shown now.
    pub(super) fn shown(&self) -> Shown {
        let has_colour = self.setup.depth != Depth::Mono;
        Shown {
            kind: self.setup.picture.kind(&self.terminal, has_colour),
            depth: match self.terminal.depth.filter(|_| has_colour) {
                Some(depth) => depth,
                None => self.setup.depth,
            },
            cell_px: self.terminal.cell.unwrap_or([10, 20]),
        }
    }

    /// What the terminal says may change how everything is shown.
    fn hear_terminal(&mut self, known: Capabilities) -> Vec<Effect> {
        let before = (self.shown(), self.theme.clone(), self.terminal.is_light);
        self.terminal = known;
        self.choose_theme();
        if (self.shown(), self.theme.clone(), known.is_light) == before {
            return Vec::new();
        }
        vec![Effect::Redraw]
    }

    fn choose_theme(&mut self) {
        let has_colour = self.setup.depth != Depth::Mono;
        self.theme = self.setup.themes.theme(has_colour, self.terminal.is_light);
    }

    /// The action's key here, for words on the screen.
    pub(super) fn key_of(&self, action: Action) -> String {
        self.setup.keymap.first_key_of(self.screen, action)
    }
}
