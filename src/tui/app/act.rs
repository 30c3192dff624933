//! What keys do.

use super::{App, Batch, Effect, Tone};
use crate::protocol::{Command, Stage};
use crate::records::CaseId;
use crate::tui::keys::{Action, Key, Meaning, Screen, chord_text};
use crate::tui::layout;
use crate::tui::line::{Edited, Line, Purpose};
use crate::tui::prompt::{Answered, Pressed, Prompt, Then};
use crate::tui::screens::cases::{self, Step};
use crate::tui::screens::corrections::{self, Item};
use crate::tui::screens::{models, rounds};
use crate::tui::wish::wish;

/// Largest count.
const MAX_COUNT: usize = 999_999;

impl App {
    pub(super) fn paste(&mut self, text: &str) {
        if let Some(prompt) = &mut self.prompt {
            prompt.paste(text);
        } else if let Some(line) = &mut self.line {
            line.paste(text);
            self.line_changed();
        }
    }

    pub(super) fn press(&mut self, key: Key) -> Vec<Effect> {
        if let Some(prompt) = &mut self.prompt {
            match prompt.press(key) {
                Pressed::Open => {}
                Pressed::Dropped => self.prompt = None,
                Pressed::Answered(answered) => {
                    self.prompt = None;
                    return match answered {
                        Answered::Quit => vec![Effect::Quit],
                        Answered::Send(commands) => self.wish_all(commands),
                    };
                }
            }
            return Vec::new();
        }
        if self.line.is_some() {
            return self.edit(key);
        }
        self.keys.push(key);
        match self.setup.keymap.meaning(self.screen, &self.keys) {
            Meaning::Begins => Vec::new(),
            Meaning::Does(action) => {
                // What is pending is one step that `cancel` goes back.
                let was_pending = self.keys.len() > 1 || self.count.is_some();
                self.keys.clear();
                let count = self.count.take();
                if action == Action::Cancel && was_pending {
                    return Vec::new();
                }
                self.act(action, count)
            }
            Meaning::Nothing => {
                let digit = key
                    .digit()
                    .filter(|&digit| self.keys.len() == 1 && (digit > 0 || self.count.is_some()));
                if let Some(digit) = digit {
                    self.count = Some((self.count.unwrap_or(0) * 10 + digit).min(MAX_COUNT));
                } else {
                    let (cancel, typed) = (key.to_string() == "esc", chord_text(&self.keys));
                    self.count = None;
                    if !cancel {
                        let help = self.key_of(Action::ShowHelp);
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

    /// A key while a line is typed.
    fn edit(&mut self, key: Key) -> Vec<Effect> {
        let Some(line) = &mut self.line else {
            return Vec::new();
        };
        match line.press(key, self.screen) {
            Edited::Open => self.line_changed(),
            Edited::Dropped => {
                let purpose = line.purpose;
                self.line = None;
                if purpose != Purpose::Command {
                    self.narrow(purpose, "");
                }
            }
            Edited::Done => {
                let Some(line) = self.line.take() else {
                    return Vec::new();
                };
                if line.purpose == Purpose::Command {
                    return match line.command(self.screen) {
                        Ok(Some((action, count))) => self.act(action, count),
                        Ok(None) => Vec::new(),
                        Err(why) => {
                            self.say(Tone::Warn, why);
                            Vec::new()
                        }
                    };
                }
            }
        }
        Vec::new()
    }

    /// What is typed narrows the list at once.
    fn line_changed(&mut self) {
        if let Some(line) = self.line.as_ref().filter(|line| line.purpose != Purpose::Command) {
            let (purpose, text) = (line.purpose, line.text.clone());
            self.narrow(purpose, &text);
        }
    }

    fn narrow(&mut self, purpose: Purpose, text: &str) {
        match (purpose, self.screen) {
            (Purpose::Filter, _) => self.queue.filter(text),
            (_, Screen::Log) => self.log.search(text),
            (_, Screen::Help) => self.help.search(text),
            _ => {}
        }
    }

    pub(super) fn wish_all(&mut self, commands: Vec<Command>) -> Vec<Effect> {
        if self.screen == Screen::Queue {
            // The marks were for this.
            self.queue.unmark();
        }
        self.batch = Batch::of(commands.len());
        commands.into_iter().map(wish).collect()
    }

    /// Does what a key or a typed command says.
    pub(super) fn act(&mut self, action: Action, count: Option<usize>) -> Vec<Effect> {
        match action {
            Action::Quit => return self.quit(),
            Action::Leave if self.screen == Screen::Queue => return self.quit(),
            Action::Leave => self.go_back(),
            Action::Suspend => return vec![Effect::Suspend],
            Action::Redraw => {
                self.forget_pictures();
                return vec![Effect::Redraw];
            }
            Action::Cancel => self.cancel(),
            Action::NextPictureMode => {
                self.setup.picture = self.setup.picture.next();
                let kind = self.shown().kind.word();
                self.say(
                    Tone::Plain,
                    format!("pictures: {} ({kind})", self.setup.picture.word()),
                );
                // Those of the other kind are not sent again on the way.
                self.forget_pictures();
                return vec![Effect::Redraw];
            }
            Action::NextTheme => {
                self.setup.themes.choose_next();
                self.choose_theme();
                let (word, name) = (self.setup.themes.word(), self.theme.name());
                self.say(Tone::Plain, format!("looks: {word} ({name})"));
            }
            Action::ToggleMouse => {
                self.setup.mouse = !self.setup.mouse;
                let words = if self.setup.mouse {
                    "the mouse is listened to"
                } else {
                    "the mouse is the terminal's"
                };
                self.say(Tone::Plain, words);
                return vec![Effect::Mouse(self.setup.mouse)];
            }
            Action::CommandLine => self.line = Some(Line::new(Purpose::Command)),
            Action::Filter => self.line = Some(Line::new(Purpose::Filter)),
            Action::Search => self.line = Some(Line::new(Purpose::Search)),
            Action::ShowHelp if self.screen == Screen::Help => self.go_back(),
            Action::OpenSlices => self.show(Screen::Slices),
            Action::NextScreen => self.show(self.screen.further(1)),
            Action::PreviousScreen => self.show(self.screen.further(-1)),
            Action::Rank => {
                return vec![wish(Command::Rank {
                    strategy: None,
                    pixels: None,
                })];
            }
            Action::ScanInbox => return vec![wish(Command::ScanInbox)],
            action => match Screen::ALL.into_iter().find(|screen| screen.action() == action) {
                Some(screen) => self.show(screen),
                None => return self.act_on_screen(action, count),
            },
        }
        Vec::new()
    }

    /// One step back: the message, what narrows the list, the screen.
    fn cancel(&mut self) {
        if self.message.take().is_some() {
            return;
        }
        let narrowed = match self.screen {
            Screen::Queue => self.queue.widen(),
            Screen::Log => self.log.widen(),
            Screen::Help => self.help.widen(),
            _ => false,
        };
        if !narrowed && self.screen != Screen::Queue {
            self.go_back();
        }
    }

    fn go_back(&mut self) {
        self.screen = self.before.pop().unwrap_or(Screen::Queue);
    }

    fn act_on_screen(&mut self, action: Action, count: Option<usize>) -> Vec<Effect> {
        let body = layout::areas(self.size).body;
        if self.screen == Screen::Help {
            let len = self.help.lines(&self.setup.keymap).len();
            self.help.act(action, count, body.height.into(), len);
            return Vec::new();
        }
        let Some(snapshot) = &self.snapshot else {
            return Vec::new();
        };
        let step = match action {
            Action::AcceptHeld
            | Action::FixHeld
            | Action::RefuseHeld
            | Action::NoteMinutes
            | Action::ChooseCorrection
                if self.screen == Screen::Corrections =>
            {
                match self.corrections.selected(snapshot) {
                    Some(item) => corrections::act(action, snapshot, item, &self.setup.who),
                    None => Err("nothing is selected".into()),
                }
            }
            // What is looked at is decided about, and not the case's oldest file.
            Action::AcceptHeld | Action::FixHeld | Action::RefuseHeld
                if self.screen == Screen::Slices && self.slices.held(snapshot).is_some() =>
            {
                let file = self.slices.held(snapshot).expect("it was asked for just now");
                cases::decide(action, file, snapshot)
            }
            Action::HandOut
            | Action::Withdraw
            | Action::AcceptHeld
            | Action::FixHeld
            | Action::RefuseHeld
            | Action::NoteMinutes
            | Action::ExcludeCase
            | Action::IncludeCase => cases::act(action, snapshot, &self.cases(), &self.setup.who),
            Action::StartRound
            | Action::StartFromScratch
            | Action::Train
            | Action::AbandonRound
            | Action::DeclareSatisfactory
            | Action::Reopen => rounds::act(action, snapshot),
            Action::MakeCurrent => models::make_current(snapshot, self.models.selected(snapshot)),
            Action::OpenCurve => {
                if let Some(at) = self.models.round_of_selected(snapshot) {
                    self.rounds.select(at, snapshot.rounds.len());
                    self.show(Screen::Rounds);
                } else {
                    self.say(Tone::Warn, "no round of this project has made this model");
                }
                return Vec::new();
            }
            Action::OpenCorrection => {
                match self.corrections.selected(snapshot) {
                    Some(Item::Done(correction)) => self.slices.open_correction(correction),
                    Some(Item::Held(file)) => self.slices.open_held(file),
                    None => return Vec::new(),
                }
                // The next case is the one after it.
                if let Some(case) = self.slices.case() {
                    self.queue.select(case);
                }
                self.enter(Screen::Slices);
                return Vec::new();
            }
            Action::NextCase | Action::PreviousCase if self.screen == Screen::Slices => {
                self.queue.act(action, count, 1);
                self.open_selected();
                return Vec::new();
            }
            _ => {
                let moved = match self.screen {
                    Screen::Queue => {
                        let page = layout::queue(body, self.queue.has_preview).list.height;
                        self.queue.act(action, count, page.into());
                        let is_hidden = self.queue.has_preview && layout::queue(body, true).preview.is_none();
                        match action == Action::TogglePreview && is_hidden {
                            true => Err(format!("the preview needs {} columns", layout::PREVIEW_FROM)),
                            false => Ok(()),
                        }
                    }
                    Screen::Slices => {
                        // The key may have come in one with that which opened the case.
                        self.slices.find(&self.views);
                        self.slices.act(action, count, snapshot)
                    }
                    Screen::Rounds => {
                        let has_control = !snapshot.control.is_empty();
                        let page = layout::rounds(body, has_control)[2].height.into();
                        self.rounds.act(action, count, page, snapshot.rounds.len());
                        Ok(())
                    }
                    Screen::Corrections => {
                        self.corrections
                            .act(action, count, layout::list(body).list.height.into(), snapshot);
                        Ok(())
                    }
                    Screen::Models => {
                        self.models
                            .act(action, count, layout::models(body).list.height.into(), snapshot)
                    }
                    Screen::Log => {
                        self.log.act(action, count, layout::list(body).list.height.into());
                        Ok(())
                    }
                    Screen::Help => Ok(()),
                };
                if let Err(why) = moved {
                    self.say(Tone::Warn, why);
                }
                return Vec::new();
            }
        };
        match step {
            Ok(Step::Send(commands)) => return self.wish_all(commands),
            Ok(Step::Ask(prompt)) => self.prompt = Some(prompt),
            Err(why) => self.say(Tone::Warn, why),
        }
        Vec::new()
    }

    /// The cases that keys act on.
    fn cases(&self) -> Vec<CaseId> {
        match self.screen {
            Screen::Slices => self.slices.case().cloned().into_iter().collect(),
            _ => self.queue.chosen(),
        }
    }

    /// Goes to a screen; where it was come from is remembered.
    fn enter(&mut self, screen: Screen) {
        if screen == self.screen {
            return;
        }
        // A way there and back is no longer way.
        self.before
            .retain(|before| *before != screen && *before != self.screen);
        if screen == Screen::Queue {
            self.before.clear();
        } else {
            self.before.push(self.screen);
        }
        if screen == Screen::Help {
            self.help.open(self.screen);
        }
        self.screen = screen;
    }

    fn show(&mut self, screen: Screen) {
        self.enter(screen);
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
        self.prompt = Some(Prompt::confirm("leave overtrace?", lines, Then::Quit));
        Vec::new()
    }
}
