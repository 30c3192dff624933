//! The corrections' state: what waits for a decision, then what came back, newest first.

use super::cases::{self, Step};
use crate::protocol::Snapshot;
use crate::records::{CaseId, Correction, HeldFile};
use crate::tui::keys::Action;
use crate::tui::list::Cursor;
use crate::tui::prompt::{Prompt, Then};
use crate::tui::text::clean;

/// The corrections screen.
#[derive(Debug, Default)]
pub struct Corrections {
    pub cursor: Cursor,
}

/// A line of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    /// A file that waits for a decision.
    Held(&'a HeldFile),
    /// A correction.
    Done(&'a Correction),
}

impl Item<'_> {
    /// Whose it is.
    pub fn case(&self) -> &CaseId {
        match self {
            Item::Held(file) => &file.case,
            Item::Done(correction) => &correction.case,
        }
    }
}

/// Lines there are.
pub fn len(snapshot: &Snapshot) -> usize {
    snapshot.waiting().count() + snapshot.corrections.len()
}

/// All lines in their order.
pub fn items(snapshot: &Snapshot) -> impl Iterator<Item = Item<'_>> {
    let held: Vec<&HeldFile> = snapshot.waiting().collect();
    let held = held.into_iter().rev().map(Item::Held);
    held.chain(snapshot.corrections.values().rev().map(Item::Done))
}

impl Corrections {
    /// The selected line.
    pub fn selected<'a>(&self, snapshot: &'a Snapshot) -> Option<Item<'a>> {
        items(snapshot).nth(self.cursor.selected.min(len(snapshot).saturating_sub(1)))
    }

    /// Moves the selection; `page` is the height of the list.
    pub fn act(&mut self, action: Action, count: Option<usize>, page: usize, snapshot: &Snapshot) {
        self.cursor.act(action, count, page, len(snapshot));
    }
}

/// What `action` leads to for the selected line; `who` is the account of the person at the keys.
///
/// # Errors
/// Why it cannot be done, in words.
pub fn act(action: Action, snapshot: &Snapshot, item: Item<'_>, who: &str) -> Result<Step, String> {
    match (action, item) {
        (Action::AcceptHeld | Action::FixHeld | Action::RefuseHeld, Item::Held(file)) => {
            cases::decide(action, file, snapshot)
        }
        (Action::AcceptHeld | Action::FixHeld | Action::RefuseHeld, Item::Done(correction)) => {
            Err(format!("{} was taken in already", correction.id))
        }
        (Action::ChooseCorrection, Item::Held(file)) => {
            Err(format!("{} waits for a decision: accept it first", file.id))
        }
        (Action::ChooseCorrection, Item::Done(correction)) => choose(snapshot, correction),
        (_, item) => {
            let last = snapshot.correction_of(item.case());
            if let (Item::Done(correction), Some(last)) = (item, last)
                && correction.id != last.id
            {
                return Err(format!(
                    "{} came after it: minutes are noted for the last correction of a case",
                    last.id
                ));
            }
            cases::act(action, snapshot, std::slice::from_ref(item.case()), who)
        }
    }
}

fn choose(snapshot: &Snapshot, correction: &Correction) -> Result<Step, String> {
    if snapshot.trains(correction) {
        return Err(format!(
            "{} trains with {} already",
            correction.case, correction.id
        ));
    }
    let lines = vec![format!("{} by {}", correction.id, clean(&correction.who))];
    let title = format!(
        "{} trains with {} from now on, because",
        correction.case, correction.id
    );
    Ok(Step::Ask(Prompt::line(
        title,
        lines,
        "",
        Then::Choose(correction.id),
    )))
}
