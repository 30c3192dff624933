//! What the engine says.

use std::collections::HashSet;

use super::{App, Changed, Purpose, Tone};
use crate::protocol::{Answer, Change, Event};
use crate::records::{CaseId, Row};
use crate::tui::text::clean;
use crate::tui::wish::answer_words;

impl App {
    pub(super) fn hear(&mut self, event: Event) {
        match event {
            Event::Changed(change) => {
                let Some(snapshot) = self.snapshot.as_mut().filter(|_| self.attached) else {
                    return;
                };
                self.views.rows_changed(&change.rows);
                self.changed.add(cases_of(&change), change.order.is_some());
                // After a gap the next frame attaches again.
                self.attached = snapshot.apply(*change).is_ok();
                self.slices.let_go_of_decided(snapshot);
            }
            Event::Settings(settings) => {
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.settings = *settings;
                    self.changed = Changed::All;
                }
            }
            Event::Inbox(waiting) => {
                if let Some(snapshot) = &mut self.snapshot {
                    let before = std::mem::replace(&mut snapshot.in_inbox, waiting);
                    self.changed
                        .add(before.keys().chain(snapshot.in_inbox.keys()), false);
                }
            }
            Event::Activity(activity) => {
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.activity = activity;
                }
            }
            Event::Refresh => self.attached = false,
            Event::Notice(text) => self.notice(text),
            Event::Answer { request, result } => {
                // An answer to nobody is one from before an attach; there is nothing to do with it.
                if let Some(purpose) = self.purposes.remove(&request) {
                    self.answered(purpose, result);
                }
            }
        }
    }

    fn answered(&mut self, purpose: Purpose, result: Result<Answer, String>) {
        let other = || "the engine sent something else".to_string();
        match (purpose, result) {
            (Purpose::Attach, Ok(Answer::Snapshot(snapshot))) => {
                self.snapshot = Some(*snapshot);
                // The other cases after those of the first screen: every change meanwhile was heard.
                if !self.attached {
                    self.views.refetch_all();
                }
                (self.attached, self.attaching, self.changed) = (true, false, Changed::All);
            }
            (Purpose::Attach, result) => {
                let why = result.err().unwrap_or_else(other);
                self.say(Tone::Error, format!("attaching: {why}"));
            }
            (Purpose::View, Ok(Answer::Case(view))) => self.views.answered(Ok(view)),
            (Purpose::View, result) => {
                let why = result.err().unwrap_or_else(other);
                self.views.answered(Err(clean(&why)));
            }
            (Purpose::Curve, Ok(Answer::Curve(curve))) => self.rounds.answered(Ok(curve)),
            (Purpose::Curve, result) => {
                let why = result.err().unwrap_or_else(other);
                self.rounds.answered(Err(clean(&why)));
            }
            (Purpose::Journal, Ok(Answer::Journal(entries))) => self.log.answered(Ok(entries)),
            (Purpose::Journal, result) => {
                let why = result.err().unwrap_or_else(other);
                self.log.answered(Err(clean(&why)));
            }
            (Purpose::Orders, Ok(Answer::Orders(orders))) => self.models.answered(Ok(orders)),
            (Purpose::Orders, result) => {
                let why = result.err().unwrap_or_else(other);
                self.models.answered(Err(clean(&why)));
            }
            (Purpose::Wish(words), result) => {
                let (tone, text) = match result {
                    Ok(answer) => answer_words(&words, answer),
                    Err(why) => (Tone::Error, format!("{words}: {why}")),
                };
                // One line cannot say what came of several: it counts, and the log has each.
                let together = self.batch.add(tone == Tone::Error, &text);
                if tone == Tone::Error || together.is_some() {
                    self.log.notice(self.now, clean(&text));
                }
                self.say(tone, together.unwrap_or(text));
            }
        }
    }
}

/// Wishes that were sent together, and what came of them so far.
#[derive(Debug, Default)]
pub(super) struct Batch {
    of: usize,
    answered: usize,
    refused: usize,
    /// Why the last one was.
    why: String,
}

impl Batch {
    pub fn of(wishes: usize) -> Batch {
        Batch {
            of: wishes,
            ..Batch::default()
        }
    }

    /// Counts an answer; what came of all, where there are several.
    fn add(&mut self, is_refused: bool, text: &str) -> Option<String> {
        if self.of < 2 || self.answered == self.of {
            return None;
        }
        self.answered += 1;
        if is_refused {
            self.refused += 1;
            self.why = text.to_string();
        }
        let done = self.answered - self.refused;
        Some(match self.refused {
            0 => format!("{done} of {} done; last: {text}", self.of),
            refused => format!("{done} of {} done, {refused} not: {}", self.of, self.why),
        })
    }
}

impl Changed {
    /// Notes what a change means for the queue: the cases that it is about, and whether the order is another.
    fn add<'a>(&mut self, cases: impl Iterator<Item = &'a CaseId>, has_order: bool) {
        let mut known = match std::mem::take(self) {
            Changed::All => {
                *self = Changed::All;
                return;
            }
            Changed::Nothing => (HashSet::new(), false),
            Changed::Cases(cases) => (cases, false),
            Changed::Order(cases) => (cases, true),
        };
        known.0.extend(cases.cloned());
        *self = match known {
            (cases, was) if was || has_order => Changed::Order(cases),
            (cases, _) => Changed::Cases(cases),
        };
    }
}

/// The cases that a change is about.
fn cases_of(change: &Change) -> impl Iterator<Item = &CaseId> {
    change.rows.iter().filter_map(Row::case)
}
