//! Draws the corrections.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, Wrap};

use super::corrections::{Item, items, len};
use crate::protocol::Snapshot;
use crate::records::{ClassEffort, Correction, mean_of_known};
use crate::tui::app::App;
use crate::tui::keys::Action;
use crate::tui::layout;
use crate::tui::text::{age, clean, cut, percent};

pub fn draw(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, body: Rect) {
    let theme = &app.theme;
    let areas = layout::list(body);
    let held = snapshot.waiting().count();
    let number = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let title = format!(
        " {}, {} waiting for a decision",
        number(snapshot.corrections.len(), "correction"),
        number(held, "held file")
    );
    frame.render_widget(Line::raw(title), areas.title);
    let names: Vec<String> = snapshot.settings.labels.names().map(clean).collect();
    let name_width = app.queue.longest_name.clamp(6, 24);
    // Names of people get what classes leave.
    let taken = 2 + 9 + name_width + 1 + 8 + 8 + 6 + 6;
    let room = usize::from(body.width).saturating_sub(taken + 13);
    let classes = names.len().min(room / 9);
    let who = (12 + room.saturating_sub(9 * classes)).min(24);
    let mut widths = vec![1, 8, name_width as u16, who as u16, 7, 7, 5];
    widths.extend(vec![8; classes]);
    let widths = || widths.iter().map(|width| Constraint::Length(*width));
    let mut heads: Vec<String> = ["", "ago", "case", "who", "minutes", "saved", "by"]
        .map(String::from)
        .into();
    heads.extend(names.iter().take(classes).map(|name| cut(name, 8)));
    frame.render_widget(
        Table::new([Row::new(heads).style(theme.title())], widths()),
        areas.header,
    );
    let mut cursor = app.corrections.cursor;
    cursor.settle(len(snapshot), areas.list.height.into());
    let window = cursor.window(len(snapshot), areas.list.height.into());
    let shown = items(snapshot).enumerate().skip(window.start).take(window.len());
    let rows = shown.map(|(at, item)| {
        let style = match item {
            _ if at == cursor.selected => theme.selected(),
            Item::Held(_) => theme.warn(),
            Item::Done(correction) if !correction.notes.is_empty() => theme.warn(),
            Item::Done(_) => Style::new(),
        };
        Row::new(cells(app, snapshot, item, classes, who)).style(style)
    });
    frame.render_widget(Table::new(rows, widths()), areas.list);
    match app.corrections.selected(snapshot) {
        Some(item) => draw_details(app, snapshot, item, &names, frame, areas.details),
        None => {
            let words = "nothing has come back yet; hand cases out from the queue";
            frame.render_widget(Line::raw(words).centered(), areas.list);
        }
    }
}

/// A line's columns; the first is `!` where there is something to read about it.
fn cells(app: &App, snapshot: &Snapshot, item: Item<'_>, classes: usize, who: usize) -> Vec<String> {
    match item {
        Item::Held(file) => vec![
            "!".into(),
            age(file.at, app.now),
            file.case.to_string(),
            owner(snapshot, file.case.as_str(), who),
            file.id.to_string(),
            format!("held {}", clean(&file.code)),
        ],
        Item::Done(correction) => {
            let saved: Vec<Option<f64>> = correction.effort.iter().map(ClassEffort::saved).collect();
            let sign = if correction.notes.is_empty() { "" } else { "!" };
            let mut cells = vec![
                sign.into(),
                age(correction.at, app.now),
                correction.case.to_string(),
                cut(&clean(&correction.who), who),
                correction
                    .minutes
                    .map_or_else(String::new, |minutes| format!("{minutes:.0}")),
                percent(mean_of_known(saved.iter().copied())),
                correction
                    .model
                    .map_or_else(|| "-".into(), |model| model.to_string()),
            ];
            cells.extend(saved.into_iter().take(classes).map(percent));
            cells
        }
    }
}

fn owner(snapshot: &Snapshot, case: &str, room: usize) -> String {
    let handout = snapshot
        .handouts
        .values()
        .rev()
        .find(|handout| handout.case.as_str() == case);
    handout.map_or_else(String::new, |handout| cut(&clean(&handout.owner), room))
}

fn draw_details(
    app: &App,
    snapshot: &Snapshot,
    item: Item<'_>,
    names: &[String],
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let theme = &app.theme;
    let mut lines = Vec::new();
    match item {
        Item::Held(file) => {
            let [accept, refuse, fix, open] = [
                Action::AcceptHeld,
                Action::RefuseHeld,
                Action::FixHeld,
                Action::OpenCorrection,
            ]
            .map(|action| app.key_of(action));
            lines.push(Line::styled(
                format!(
                    "{} {} waits ({open} shows it, {accept} accepts, {refuse} refuses), {}: {}",
                    file.id,
                    clean(&file.name),
                    clean(&file.code),
                    clean(&file.words)
                ),
                theme.warn(),
            ));
            if let Some(words) = snapshot.fix_words(file) {
                let words = clean(&words);
                lines.push(Line::styled(format!("{fix} fixes it: {words}"), theme.warn()));
            }
        }
        Item::Done(correction) => {
            let drawn = match correction.model {
                Some(model) => format!("against what {model} drew"),
                None => "nothing was drawn beforehand".into(),
            };
            let open = app.key_of(Action::OpenCorrection);
            lines.push(Line::from(vec![
                Span::styled(format!("{} {} ", correction.id, correction.case), theme.title()),
                Span::raw(format!(
                    "by {}, {drawn} ({open} shows it)",
                    clean(&correction.who)
                )),
            ]));
            let each: Vec<String> = names
                .iter()
                .zip(&correction.effort)
                .map(|(name, effort)| {
                    format!(
                        "{name} C {} of L {} px, {}",
                        effort.shared_px,
                        effort.corrected_px,
                        percent(effort.saved())
                    )
                })
                .collect();
            lines.push(Line::raw(each.join("   ")));
            if let Some(round) = correction.round.and_then(|id| snapshot.rounds.get(&id)) {
                lines.push(Line::raw(format!("asked for by round {}", round.id)));
            }
            lines.extend(agreement_line(app, snapshot, correction, names));
            for note in &correction.notes {
                lines.push(Line::styled(clean(note), theme.warn()));
            }
        }
    }
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), area);
}

/// Which of a case's corrections trains, where there are several, and how far two people's agree.
fn agreement_line(
    app: &App,
    snapshot: &Snapshot,
    correction: &Correction,
    names: &[String],
) -> Option<Line<'static>> {
    let of_case = snapshot
        .corrections
        .values()
        .filter(|other| other.case == correction.case);
    if of_case.count() < 2 {
        return None;
    }
    let mut words = match snapshot.trains(correction) {
        true => "this one trains".to_string(),
        false => format!(
            "another one trains; {} chooses this",
            app.key_of(Action::ChooseCorrection)
        ),
    };
    if let Some(agreement) = &correction.agreement {
        let each = names.iter().zip(&agreement.classes).map(|(name, class)| {
            format!(
                "{name} Dice {}, contour {}",
                percent(class.dice),
                percent(class.contour)
            )
        });
        let each = each.collect::<Vec<_>>().join("; ");
        words = format!("{words}   beside {}: {each}", agreement.with);
    }
    Some(Line::raw(words))
}
