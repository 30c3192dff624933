//! Draws the models: lineage, Dice, where each is used, and how two of them rank.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, Wrap};

use super::models::newest_first;
use crate::protocol::Snapshot;
use crate::records::{Model, ModelOrigin, mean_of_known};
use crate::tui::app::App;
use crate::tui::keys::Action;
use crate::tui::layout;
use crate::tui::text::{age, clean, dice, span};

pub fn draw(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, body: Rect) {
    let theme = &app.theme;
    let areas = layout::models(body);
    let [make, compare] = [Action::MakeCurrent, Action::CompareRankings].map(|action| app.key_of(action));
    let title = match snapshot.project.model {
        Some(model) => format!(
            " {model} is current ({make} makes the selected one so, {compare} compares their rankings)"
        ),
        None => " there is no model yet".into(),
    };
    frame.render_widget(Line::raw(title), areas.title);
    const HEADS: [(&str, u16); 9] = [
        ("", 1),
        ("model", 6),
        ("from", 6),
        ("made by", 9),
        ("cases", 6),
        ("epochs", 9),
        ("valid.", 6),
        ("held out", 8),
        ("ago", 8),
    ];
    let widths = || HEADS.iter().map(|(_, width)| Constraint::Length(*width));
    let heads = Row::new(HEADS.map(|(head, _)| head)).style(theme.title());
    frame.render_widget(Table::new([heads], widths()), areas.header);
    let len = snapshot.models.len();
    let mut cursor = app.models.cursor;
    cursor.settle(len, areas.list.height.into());
    let window = cursor.window(len, areas.list.height.into());
    let shown = newest_first(snapshot)
        .enumerate()
        .skip(window.start)
        .take(window.len());
    let rows = shown.map(|(at, model)| {
        let style = if at == cursor.selected {
            theme.selected()
        } else {
            Style::new()
        };
        Row::new(cells(app, snapshot, model)).style(style)
    });
    frame.render_widget(Table::new(rows, widths()), areas.list);
    if let Some(model) = app.models.selected(snapshot) {
        frame.render_widget(
            Paragraph::new(details(app, snapshot, model)).wrap(Wrap { trim: true }),
            areas.details,
        );
    }
    draw_comparison(app, frame, areas.comparison);
}

fn cells(app: &App, snapshot: &Snapshot, model: &Model) -> Vec<String> {
    let sign = match snapshot.project.model {
        Some(current) if current == model.id => "*",
        _ if app.models.compared == Some(model.id) => "=",
        _ => "",
    };
    let held_out = snapshot
        .rounds
        .values()
        .find(|round| round.model == Some(model.id));
    vec![
        sign.into(),
        model.id.to_string(),
        model
            .parent
            .map_or_else(|| "-".into(), |parent| parent.to_string()),
        match model.origin {
            ModelOrigin::Round(round) => round.to_string(),
            ModelOrigin::Imported => "import".into(),
        },
        model.trained_cases.to_string(),
        format!("{} of {}", model.best_epoch, model.epochs),
        dice(mean_of_known(model.validation_dice.iter().copied())),
        held_out.map_or_else(|| "n/a".into(), |round| dice(round.mean_dice())),
        age(model.at, app.now),
    ]
}

fn details(app: &App, snapshot: &Snapshot, model: &Model) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let mut lineage = vec![model.id.to_string()];
    let mut elder = model.parent;
    while let Some(parent) = elder.and_then(|id| snapshot.models.get(&id)) {
        lineage.push(parent.id.to_string());
        elder = parent.parent;
    }
    let names = snapshot.settings.labels.names().map(clean);
    let each: Vec<String> = names
        .zip(&model.validation_dice)
        .map(|(name, value)| format!("{name} {}", dice(*value)))
        .collect();
    let drawn = snapshot
        .predictions
        .values()
        .filter(|drawn| drawn.model == model.id)
        .count();
    let rankings = snapshot
        .rankings
        .values()
        .filter(|ranking| ranking.model == Some(model.id))
        .count();
    let measured = snapshot
        .corrections
        .values()
        .filter(|done| done.model == Some(model.id))
        .count();
    let shape = model.architecture;
    vec![
        Line::from(vec![
            Span::styled(lineage.join(" <- "), theme.title()),
            Span::raw(format!(
                "  {} channels at first, {} classes, {} parameters, trained {}",
                shape.base_channels,
                shape.classes,
                model.parameters,
                span(model.seconds)
            )),
        ]),
        Line::raw(format!("validation Dice: {}", each.join("  "))),
        Line::raw(format!(
            "used: {drawn} predictions shown, {rankings} rankings, {measured} corrections measured against it"
        )),
    ]
}

fn draw_comparison(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.theme;
    let Some(([compared, current], found)) = app.models.comparison() else {
        return;
    };
    let mut lines = Vec::new();
    match found {
        Err(why) => lines.push(Line::styled(why.as_str(), theme.warn())),
        Ok(found) => {
            let rho = found
                .correlation
                .map_or_else(|| "n/a".into(), |rho| format!("{rho:.3}"));
            lines.push(Line::styled(
                format!(
                    " {compared} and {current}: rank correlation {rho} over {} cases",
                    found.cases
                ),
                theme.title(),
            ));
            lines.push(Line::styled(
                format!(" {:<24} {compared:>8} {current:>8}", "disagreed on most"),
                theme.dim(),
            ));
            let room = usize::from(area.height).saturating_sub(2);
            for (case, [a, b]) in found.places.iter().take(room) {
                lines.push(Line::raw(format!(" {:<24} {a:>8} {b:>8}", case.as_str())));
            }
        }
    }
    frame.render_widget(Paragraph::new(lines), area);
}
