//! Draws the rounds: history, what runs now, the learning curves.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Gauge, Paragraph, Row, Table};

use super::rounds_charts;
use crate::protocol::{Snapshot, Stage};
use crate::records::{ClassEffort, Round, RoundState, mean_saved};
use crate::tui::activity::{activity_words, device_words, seconds_left};
use crate::tui::app::App;
use crate::tui::keys::Action;
use crate::tui::layout;
use crate::tui::text::{age, clean, cut, dice, percent, span};

pub fn draw(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, body: Rect) {
    let [title, header, list, classes, activity, charts] = layout::rounds(body, !snapshot.control.is_empty());
    draw_title(app, snapshot, frame, title);
    draw_table(app, snapshot, frame, header, list);
    draw_classes(app, snapshot, frame, classes);
    draw_activity(app, snapshot, frame, activity);
    rounds_charts::draw(app, snapshot, frame, charts);
}

fn draw_title(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.theme;
    let key = |action| app.setup.keymap.first_key_of(app.screen, action);
    let line = match (&snapshot.project.satisfied, snapshot.open_round()) {
        (Some(words), None) => {
            let again = key(Action::Reopen);
            let text = format!(" satisfactory ({again} goes on): {}", clean(words));
            Line::styled(text, theme.good())
        }
        (ended, Some(round)) => {
            let back = match round.queried.len() {
                0 => String::new(),
                asked => format!(", {} of {asked} back", round.returned),
            };
            let train = match snapshot.activity.stage {
                Stage::Idle => format!("{} trains now, ", key(Action::Train)),
                _ => String::new(),
            };
            let again = key(Action::Reopen);
            let after = ended.as_ref().map_or_else(String::new, |words| {
                format!("; satisfactory ({again} goes on): {}", clean(words))
            });
            Line::raw(format!(
                " {} is {}{back} ({train}{} cancels it){after}",
                round.id,
                round.state.word(),
                key(Action::AbandonRound)
            ))
        }
        (None, None) => Line::raw(format!(
            " no round is open ({} starts one)",
            key(Action::StartRound)
        )),
    };
    frame.render_widget(line, area);
}

/// Labelled, unlabelled and held-out cases when a round trained, and as they are `now` where it has not yet; what is
/// measured on is known when it was.
fn pools(round: &Round, now: [usize; 3]) -> String {
    let [labelled, unlabelled, held_out] = now;
    let held_out = if round.held_out > 0 || round.state.is_over() {
        round.held_out
    } else {
        held_out
    };
    match (round.labelled, round.unlabelled) {
        (0, _) if round.state.is_over() => "-".into(),
        (0, _) => format!("{labelled}/{unlabelled}/{held_out}"),
        (trained, None) => format!("{trained}/?/{held_out}"),
        (trained, Some(unlabelled)) => format!("{trained}/{unlabelled}/{held_out}"),
    }
}

/// One line of the history; `per_class` is what there is room for.
fn cells(app: &App, snapshot: &Snapshot, round: &Round, per_class: bool) -> Vec<String> {
    let saved: Vec<Option<f64>> = round.effort.iter().map(ClassEffort::saved).collect();
    let mut cells = vec![
        round.id.to_string(),
        round.state.word().into(),
        round.model.map_or_else(|| "-".into(), |model| model.to_string()),
        pools(round, app.queue.pools),
    ];
    let known = |empty: bool, text: String| if empty { String::new() } else { text };
    cells.push(known(round.held_out_dice.is_empty(), dice(round.mean_dice())));
    if per_class {
        let each: Vec<String> = round.held_out_dice.iter().map(|value| dice(*value)).collect();
        cells.push(each.join(" "));
    }
    cells.push(known(saved.is_empty(), percent(mean_saved(&round.effort))));
    if per_class {
        let each: Vec<String> = saved
            .iter()
            .map(|share| percent(*share).replace(' ', ""))
            .collect();
        cells.push(each.join(" "));
    }
    if !snapshot.control.is_empty() {
        let control = snapshot.control_of(round);
        cells.push(control.map_or_else(String::new, |control| dice(control.mean_dice())));
    }
    cells.push(span(round.training_s + round.predicting_s));
    cells
}

fn draw_table(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, header: Rect, list: Rect) {
    let theme = &app.theme;
    let names: Vec<String> = snapshot.settings.labels.names().map(clean).collect();
    let control = if snapshot.control.is_empty() { 0 } else { 8 };
    let per_class = (9 + 10 + 6 + 13 + 7 + 7 + 9) + control + 14 * names.len() <= header.width.into();
    let class_width = (7 * names.len()).max(1) as u16;
    let mut heads = vec![
        "round".to_string(),
        "state".into(),
        "model".into(),
        "lab/unl/held".into(),
        "Dice".into(),
    ];
    let mut widths = vec![5, 10, 5, 12, 6];
    if per_class {
        heads.push(cut(&names.join(" / "), class_width.into()));
        widths.push(class_width);
    }
    heads.push("saved".into());
    widths.push(7);
    if per_class {
        heads.push(cut(&names.join(" / "), class_width.into()));
        widths.push(class_width);
    }
    if !snapshot.control.is_empty() {
        heads.push("control".into());
        widths.push(7);
    }
    heads.push("took".into());
    widths.push(8);
    let widths = || widths.iter().map(|width| Constraint::Length(*width));
    frame.render_widget(
        Table::new([Row::new(heads).style(theme.title())], widths()),
        header,
    );
    let window = app
        .rounds
        .cursor
        .window(snapshot.rounds.len(), list.height.into());
    let shown = snapshot
        .rounds
        .values()
        .enumerate()
        .skip(window.start)
        .take(window.len());
    let rows = shown.map(|(at, round)| {
        let style = match round.state {
            _ if at == app.rounds.cursor.selected => theme.selected(),
            RoundState::Abandoned(_) => theme.dim(),
            _ => Style::new(),
        };
        Row::new(cells(app, snapshot, round, per_class)).style(style)
    });
    frame.render_widget(Table::new(rows, widths()), list);
}

/// The selected round class by class, which the table has no room for in a narrow terminal, or why it ended.
fn draw_classes(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.theme;
    let Some(round) = app.rounds.selected(snapshot) else {
        return;
    };
    let per_class = |values: Vec<String>| {
        let names = snapshot.settings.labels.names().map(clean);
        let each: Vec<String> = names
            .zip(values)
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        each.join("  ")
    };
    let mut lines = Vec::new();
    if let RoundState::Abandoned(why) = &round.state {
        lines.push(format!(" {} abandoned: {}", round.id, clean(why)));
    }
    if let (Some(model), false) = (round.model, round.held_out_dice.is_empty()) {
        let values = round.held_out_dice.iter().map(|value| dice(*value)).collect();
        lines.push(format!(" Dice by {model}: {}", per_class(values)));
    }
    if !round.effort.is_empty() {
        let values = round
            .effort
            .iter()
            .map(|effort| percent(effort.saved()))
            .collect();
        let drawn = round
            .parent
            .map_or_else(String::new, |model| format!(" of {model}"));
        lines.push(format!(" saved effort{drawn}: {}", per_class(values)));
    }
    if let Some(control) = snapshot.control_of(round) {
        let values = control.held_out_dice.iter().map(|value| dice(*value)).collect();
        let labelled = control.labelled;
        lines.push(format!(
            " control, {labelled} labelled: Dice {}",
            per_class(values)
        ));
        if !control.effort.is_empty() {
            let values = control
                .effort
                .iter()
                .map(|effort| percent(effort.saved()))
                .collect();
            lines.push(format!(" control: saved effort {}", per_class(values)));
        }
    }
    let lines: Vec<Line<'_>> = lines.into_iter().map(Line::raw).collect();
    frame.render_widget(Paragraph::new(lines).style(theme.dim()), area);
}

fn draw_activity(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.theme;
    let activity = &snapshot.activity;
    let [words, gauge] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    if activity.stage == Stage::Idle {
        frame.render_widget(Line::styled(" idle", theme.dim()), words);
        return;
    }
    let mut text = format!(" {}", activity_words(activity));
    if let Some(since) = activity.since {
        text += &format!(", for {}", age(since, app.now));
    }
    if let Some(left) = seconds_left(app.now, activity) {
        text += &format!(", at most {} to go", span(left));
    }
    frame.render_widget(Line::raw(text), words);
    let share = activity.done as f64 / activity.of.max(1) as f64;
    let share = share.clamp(0.0, 1.0);
    // A second line for the devices would be empty on most machines.
    let of = if activity.stage == Stage::Training {
        " of the epoch"
    } else {
        ""
    };
    let mut label = format!("{:.0}%{of}", share * 100.0);
    for usage in &activity.devices {
        label += &format!("   {}", device_words(usage));
    }
    let bar = Gauge::default()
        .ratio(share)
        .label(label)
        .gauge_style(theme.title());
    frame.render_widget(bar, gauge);
}
