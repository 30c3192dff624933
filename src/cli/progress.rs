//! Progress of long work on standard error: a bar on a terminal, a line a tenth elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::protocol::{Activity, Event, Stage};
use crate::records::{mean_of_known, printable};

/// Shows what the engine is at.
#[derive(Debug)]
pub struct Bars {
    bar: Option<ProgressBar>,
    stage: Stage,
    on_terminal: bool,
    /// Tenths of the stage that were told of.
    tenths: usize,
}

impl Bars {
    /// Nothing is shown until there is something to show.
    pub fn new() -> Bars {
        Bars {
            bar: None,
            stage: Stage::Idle,
            on_terminal: std::io::stderr().is_terminal(),
            tenths: 0,
        }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Activity(activity) => self.activity(activity),
            Event::Notice(words) => self.line(&printable(words)),
            Event::Changed(_)
            | Event::Settings(_)
            | Event::Inbox(_)
            | Event::Refresh
            | Event::Answer { .. } => {}
        }
    }

    fn activity(&mut self, activity: &Activity) {
        if activity.stage != self.stage {
            self.finish();
            self.stage = activity.stage;
            self.tenths = 0;
            if activity.stage != Stage::Idle {
                if self.on_terminal {
                    self.bar = Some(new_bar());
                } else {
                    eprintln!("{} ..", activity.stage.word());
                }
            }
        }
        let epochs = activity.stage == Stage::Training;
        let (done, of) = if epochs {
            (activity.curve.len(), activity.max_epochs)
        } else {
            (activity.done, activity.of)
        };
        let last = activity.curve.last().filter(|_| epochs);
        let detail = last.map_or(String::new(), |epoch| {
            let dice =
                mean_of_known(epoch.dice.iter().copied()).map_or("n/a".into(), |dice| format!("{dice:.4}"));
            format!(
                "loss {:.4}  validation Dice {dice}  best epoch {}",
                epoch.loss, epoch.best_epoch
            )
        });
        let word = activity.stage.word();
        if let Some(bar) = &self.bar {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            bar.set_message(format!("{word} {detail}"));
        } else if !self.on_terminal && of > 0 && done * 10 / of > self.tenths {
            // A line a tenth: a log can be followed, and is not flooded.
            self.tenths = done * 10 / of;
            let parts = if epochs { "epochs" } else { "cases" };
            eprintln!(
                "{}",
                format!("{word} {done} of {of} {parts}  {detail}").trim_end()
            );
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar off the screen.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A bar of unknown length.
pub fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}  eta {eta}  {msg}")
        .expect("the template is well-formed");
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
