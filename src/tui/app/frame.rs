//! What has to be here for the next frame.

use super::{App, Changed, Effect, Purpose};
use crate::protocol::Command;
use crate::tui::keys::Screen;
use crate::tui::layout;

/// Cases to begin with: more than a screen has rows.
const FIRST_CASES: usize = 500;

impl App {
    pub(super) fn before_frame(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut send = |command, purpose| effects.push(Effect::Send { command, purpose });
        let is_partial = self
            .snapshot
            .as_ref()
            .is_some_and(|known| known.cases_left_out > 0);
        if (!self.attached || is_partial) && !self.attaching {
            self.attaching = true;
            // The first screen does not wait for cases that are not on it.
            let cases = self.snapshot.is_none().then_some(FIRST_CASES);
            send(Command::Attach { cases }, Purpose::Attach);
        }
        let Some(snapshot) = &self.snapshot else {
            return effects;
        };
        let shown = self.shown();
        let body = layout::areas(self.size).body;
        match std::mem::take(&mut self.changed) {
            Changed::Nothing => {}
            Changed::Cases(cases) => self.queue.patch(snapshot, &cases),
            Changed::Order(cases) => {
                self.queue.patch(snapshot, &cases);
                self.queue.reorder(snapshot);
            }
            Changed::All => self.queue.refresh(snapshot),
        }
        let queue = layout::queue(body, self.queue.has_preview);
        self.queue.settle(queue.list.height.into());
        let rounds = layout::rounds(body, !snapshot.control.is_empty())[2];
        self.rounds.settle(snapshot.rounds.len(), rounds.height.into());
        let (slices, cells) = match self.screen {
            Screen::Slices => {
                let panes = layout::slices(body, self.slices.arrangement).panes;
                (&mut self.slices, panes)
            }
            Screen::Queue => {
                if let (Some(area), Some(row)) = (queue.preview, self.queue.selected()) {
                    self.preview.open(&row.case);
                    (&mut self.preview, vec![area])
                } else {
                    return effects;
                }
            }
            Screen::Rounds => {
                if let Some(model) = self.rounds.request(snapshot) {
                    send(Command::Curve { model }, Purpose::Curve);
                }
                return effects;
            }
            Screen::Models => {
                if self.models.wants_orders(snapshot) {
                    send(Command::Orders, Purpose::Orders);
                }
                self.models.compare(snapshot);
                return effects;
            }
            Screen::Log => {
                if let Some(from) = self.log.request(snapshot.seq) {
                    send(Command::Journal { from }, Purpose::Journal);
                }
                return effects;
            }
            Screen::Corrections | Screen::Help => return effects,
        };
        if let Some(command) = slices.wanted().and_then(|wanted| self.views.want(wanted)) {
            send(command, Purpose::View);
        }
        slices.find(&self.views);
        let cells: Vec<_> = cells.into_iter().map(|area| area.as_size()).collect();
        effects.extend(
            slices
                .paint(snapshot, &cells, shown, &self.theme)
                .map(Effect::Paint),
        );
        if self.screen == Screen::Slices {
            effects.extend(slices.profile_job(snapshot).map(Effect::Profile));
        }
        effects
    }
}
