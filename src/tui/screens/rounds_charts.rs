//! Draws the rounds' charts: what was learnt from round to round, and how a training went.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::symbols::Marker;
use ratatui::text::Span;
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Wrap};

use crate::protocol::Snapshot;
use crate::records::{EpochReport, Round, mean_of_known, mean_saved};
use crate::tui::app::App;
use crate::tui::layout;
use crate::tui::text::dice;

/// What was learnt from round to round, and how the running or the selected round's training went.
pub fn draw(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, area: Rect) {
    // Loss and Dice have scales of their own, so each has a chart of its own; the loss goes first where there is no room.
    let is_wide = area.width >= 100;
    let [learning, training] = match is_wide {
        true => Layout::horizontal([Constraint::Fill(1), Constraint::Fill(2)]).areas(area),
        false => Layout::horizontal([Constraint::Fill(1); 2]).areas(area),
    };
    draw_learning(app, snapshot, frame, learning);
    let Some((of, curve)) = app.rounds.curve(snapshot).filter(|(_, curve)| !curve.is_empty()) else {
        let selected = app.rounds.selected(snapshot).and_then(|round| round.model);
        let why = match selected.and_then(|model| app.rounds.curves.get(&model)) {
            Some(Err(why)) => why.clone(),
            _ => "no training to show yet".into(),
        };
        return draw_nothing(app, frame, training, why);
    };
    let points = |value: &dyn Fn(&EpochReport) -> Option<f64>| -> Vec<(f64, f64)> {
        curve
            .iter()
            .filter_map(|epoch| {
                value(epoch)
                    .filter(|v| v.is_finite())
                    .map(|v| (epoch.epoch as f64, v))
            })
            .collect()
    };
    let loss = points(&|epoch| Some(epoch.loss));
    let mean = points(&|epoch| mean_of_known(epoch.dice.iter().copied()));
    let last = curve.last().expect("an empty curve was filtered out");
    let best = loss.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let worst = loss.iter().map(|point| point.1).fold(0.0, f64::max);
    let loss = Plot {
        title: format!(" loss of {of}: {:.4} in epoch {} ", last.loss, last.epoch),
        x: ("epoch", 1.0, last.epoch.max(2) as f64),
        // A loss that changes little is seen to change.
        y: match worst > best {
            true => [best, worst],
            false => [0.0, if worst > 0.0 { worst } else { 1.0 }],
        },
        lines: vec![(Marker::Braille, loss, None)],
    };
    let last_dice = dice(mean_of_known(last.dice.iter().copied()));
    let dice = Plot {
        title: format!(" validation Dice: {last_dice}, best epoch {} ", last.best_epoch),
        x: loss.x,
        y: [0.0, 1.0],
        lines: vec![(Marker::Braille, mean, None)],
    };
    match is_wide {
        true => {
            let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(training);
            loss.draw(app, frame, left);
            dice.draw(app, frame, right);
        }
        false => dice.draw(app, frame, training),
    }
}

/// Held-out Dice and saved effort by labelled cases, the random control's Dice and that of other projects: what the next label
/// is worth.
fn draw_learning(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, area: Rect) {
    let saved = |round: &Round| mean_saved(&round.effort);
    let points = |rounds: Vec<&Round>, value: &dyn Fn(&Round) -> Option<f64>| -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = rounds
            .into_iter()
            .filter(|round| round.model.is_some())
            .filter_map(|round| Some((round.labelled as f64, value(round)?)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let own = || snapshot.rounds.values().collect();
    let mut lines = vec![
        (
            "\u{2812} held-out Dice",
            Marker::Braille,
            points(own(), &Round::mean_dice),
        ),
        ("\u{2022} saved", Marker::Dot, points(own(), &saved)),
        (
            "\u{2588} random",
            Marker::Block,
            points(snapshot.control.iter().collect(), &Round::mean_dice),
        ),
    ];
    lines.retain(|(_, _, points)| !points.is_empty());
    if lines.is_empty() {
        let why = "no round has been measured on held-out cases yet";
        return draw_nothing(app, frame, area, why.into());
    }
    // These are named above, since a legend would lie over their lines; for others' names there would be no room.
    let names: Vec<&str> = lines.iter().map(|(name, ..)| *name).collect();
    let title = format!(" {} ", names.join("  "));
    let lines = lines
        .into_iter()
        .map(|(_, marker, points)| (marker, points, None));
    // A single one is called by what it does not share with ours.
    let ours = snapshot.folder.file_name().and_then(|name| name.to_str());
    let names = snapshot.beside.iter().map(|(name, _)| name.as_str());
    let common = common_beginning(names.chain(ours.filter(|_| snapshot.beside.len() == 1)));
    let others = snapshot.beside.iter().map(|(name, rounds)| {
        let points = points(rounds.iter().collect(), &Round::mean_dice);
        (Marker::HalfBlock, points, Some(name[common..].to_string()))
    });
    let lines: Vec<PlotLine> = lines.chain(others).collect();
    let ends = lines
        .iter()
        .flat_map(|(_, points, _)| points.iter().map(|point| point.0));
    let first = ends.clone().fold(f64::INFINITY, f64::min);
    let last = ends.fold(0.0, f64::max);
    let plot = Plot {
        title,
        x: ("cases", first.min(last - 1.0), last),
        y: [0.0, 1.0],
        lines,
    };
    plot.draw(app, frame, area);
}

/// Bytes that all of several names begin with, up to the last dash; 0 of one name.
fn common_beginning<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> usize {
    let Some(first) = names.next().filter(|_| names.clone().next().is_some()) else {
        return 0;
    };
    let same = |name: &str| {
        first
            .bytes()
            .zip(name.bytes())
            .take_while(|(a, b)| a == b)
            .count()
    };
    let common = names.map(same).min().unwrap_or(0);
    first.as_bytes()[..common]
        .iter()
        .rposition(|byte| *byte == b'-')
        .map_or(0, |dash| dash + 1)
}

/// Says why there is no chart.
fn draw_nothing(app: &App, frame: &mut Frame<'_>, area: Rect, why: String) {
    let words = Paragraph::new(why)
        .style(app.theme.dim())
        .centered()
        .wrap(Wrap { trim: true });
    frame.render_widget(words, layout::middle(area, area.width, 2));
}

/// A line's marks, its points, and its name where it goes into a legend.
type PlotLine = (Marker, Vec<(f64, f64)>, Option<String>);

/// A chart: what it shows, its axes, and lines.
struct Plot {
    title: String,
    /// What is counted, and from where to where.
    x: (&'static str, f64, f64),
    y: [f64; 2],
    lines: Vec<PlotLine>,
}

impl Plot {
    fn draw(&self, app: &App, frame: &mut Frame<'_>, area: Rect) {
        let theme = &app.theme;
        let label = |value: f64| match value {
            10.0.. => format!("{value:.0}"),
            _ => format!("{value:.2}"),
        };
        let styles = [
            theme.title(),
            theme.good(),
            theme.warn(),
            theme.dim(),
            theme.error(),
        ];
        let data =
            self.lines
                .iter()
                .zip(styles.into_iter().cycle())
                .map(|((marker, points, name), style)| {
                    let line = Dataset::default()
                        .marker(*marker)
                        .graph_type(GraphType::Line)
                        .style(style)
                        .data(points);
                    match name {
                        Some(name) => line.name(name.as_str()),
                        None => line,
                    }
                });
        let (what, first, last) = self.x;
        let x = Axis::default().bounds([first, last]).labels([
            Span::raw(format!("{first:.0}")),
            Span::raw(format!("{what} {last:.0}")),
        ]);
        let [low, high] = self.y;
        let y = Axis::default()
            .bounds([low, high])
            .labels([low, (low + high) / 2.0, high].map(|value| Span::raw(label(value))));
        let chart = Chart::new(data.collect())
            .block(Block::bordered().title(self.title.as_str()))
            .x_axis(x.style(theme.dim()))
            .y_axis(y.style(theme.dim()))
            // Names that are there are more than a part of a line that they hide.
            .hidden_legend_constraints((Constraint::Percentage(70), Constraint::Percentage(70)));
        frame.render_widget(chart, area);
    }
}
