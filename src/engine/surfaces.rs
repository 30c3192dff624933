//! Who listens to the engine, and what each of them is sent.

use std::cell::Cell;
use std::collections::BTreeMap;

use crossbeam_channel::Sender;
use jiff::Timestamp;

use crate::protocol::{Answer, Attached, Event};

/// Events that may wait for a surface that does not read: beyond, it is told to attach again once it has caught up.
const MOST_WAITING: usize = 4096;

/// A surface, while it is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SurfaceId(pub u64);

/// Who waits for an answer, and to which of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The surface.
    pub surface: SurfaceId,
    /// Its request's number.
    pub request: u64,
}

/// A surface's end, as the engine has it.
#[derive(Debug)]
pub struct Surface {
    /// Where its events go.
    pub events: Sender<Event>,
    /// Who is at it.
    pub attached: Attached,
    /// Events were left out.
    is_behind: Cell<bool>,
}

impl Surface {
    /// A surface of this account that came now; of another process where `pid` is known.
    pub fn new(events: Sender<Event>, who: String, pid: Option<u32>) -> Surface {
        Surface {
            events,
            attached: Attached {
                who,
                pid,
                since: Timestamp::now(),
            },
            is_behind: Cell::new(false),
        }
    }

    fn tell(&self, event: Event) {
        // One that let go hears nothing; the actor learns of it by `SurfaceGone`.
        if self.is_behind.get() && self.events.is_empty() {
            self.is_behind.set(false);
        }
        if self.events.len() >= MOST_WAITING && !self.is_behind.replace(true) {
            let _ = self.events.send(Event::Refresh);
        }
        if !self.is_behind.get() {
            let _ = self.events.send(event);
        }
    }
}

/// All surfaces that are here.
#[derive(Debug, Default)]
pub struct Surfaces(BTreeMap<SurfaceId, Surface>);

impl Surfaces {
    /// One more.
    pub fn join(&mut self, id: SurfaceId, surface: Surface) {
        self.0.insert(id, surface);
    }

    /// One less; whether there is one still.
    pub fn leave(&mut self, id: SurfaceId) -> bool {
        self.0.remove(&id);
        !self.0.is_empty()
    }

    /// Says something to all.
    pub fn tell(&self, event: Event) {
        let mut all = self.0.values();
        let Some(last) = all.next_back() else { return };
        all.for_each(|surface| surface.tell(event.clone()));
        last.tell(event);
    }

    /// Answers one: never left out, however far behind it is.
    pub fn answer(&self, asker: Asker, result: Result<Answer, String>) {
        if let Some(surface) = self.0.get(&asker.surface) {
            let request = asker.request;
            // A snapshot has all that was left out.
            if matches!(result, Ok(Answer::Snapshot(_))) {
                surface.is_behind.set(false);
            }
            let _ = surface.events.send(Event::Answer { request, result });
        }
    }

    /// Where a surface's events go.
    pub fn events(&self, id: SurfaceId) -> Option<&Sender<Event>> {
        self.0.get(&id).map(|surface| &surface.events)
    }

    /// Who is here, in the order in which they came.
    pub fn attached(&self) -> Vec<Attached> {
        self.0.values().map(|surface| surface.attached.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    #[test]
    fn one_that_does_not_read_is_told_to_attach_again_and_loses_no_answer() {
        let mut surfaces = Surfaces::default();
        let (slow, unread) = unbounded();
        let (quick, read) = unbounded();
        for (id, events) in [(1, slow), (2, quick)] {
            surfaces.join(SurfaceId(id), Surface::new(events, "ann".into(), None));
        }
        let notice = |n: usize| Event::Notice(n.to_string());
        for n in 0..MOST_WAITING + 10 {
            surfaces.tell(notice(n));
            assert_eq!(read.try_recv(), Ok(notice(n)));
        }
        let asker = Asker {
            surface: SurfaceId(1),
            request: 7,
        };
        let result = Ok(Answer::Done("done".into()));
        surfaces.answer(asker, result.clone());
        let waiting: Vec<Event> = unread.try_iter().collect();
        assert_eq!(waiting.len(), MOST_WAITING + 2, "what came after was left out");
        assert_eq!(
            waiting[MOST_WAITING..],
            [Event::Refresh, Event::Answer { request: 7, result }]
        );
        surfaces.tell(notice(0));
        assert_eq!(unread.try_iter().collect::<Vec<_>>(), [notice(0)]);
        assert!(surfaces.leave(SurfaceId(1)) && !surfaces.leave(SurfaceId(2)));
    }
}
