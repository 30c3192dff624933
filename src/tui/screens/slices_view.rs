//! Draws the slices: the picture, and beside it what its colours and numbers mean.

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use crate::protocol::{SliceView, Snapshot};
use crate::records::{ClassEffort, mean_of_known};
use crate::tui::app::App;
use crate::tui::keys::Action;
use crate::tui::layout;
use crate::tui::picture::Picture;
use crate::tui::text::{clean, letters, percent};
use crate::tui::theme::Palette;

pub fn draw(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, body: Rect) {
    let theme = &app.setup.theme;
    let [title, picture, side] = layout::slices(body);
    let slices = &app.slices;
    let Some(case) = slices.case() else {
        let words = "no case is selected; choose one in the queue";
        frame.render_widget(Paragraph::new(words).alignment(Alignment::Center), picture);
        return;
    };
    let Some(view) = &slices.view else {
        frame.render_widget(Line::styled(format!(" {case}"), theme.title()), title);
        match &slices.problem {
            Some(why) => {
                let words = Paragraph::new(why.as_str())
                    .style(theme.error())
                    .wrap(Wrap { trim: true });
                frame.render_widget(words, picture);
            }
            None => frame.render_widget(Line::raw("reading the slice").centered(), picture),
        }
        return;
    };
    let head = Line::from(vec![
        Span::styled(format!(" {case}"), theme.title()),
        Span::raw(format!(
            "  {} slice {} of {}",
            clean(&view.plane_name),
            view.index + 1,
            view.slices
        )),
    ]);
    frame.render_widget(head, title);
    let lines = side_lines(app, snapshot, view);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), side);
    if let Some((_, Picture::Failed(why))) = &slices.picture {
        frame.render_widget(
            Paragraph::new(why.as_str())
                .style(theme.error())
                .wrap(Wrap { trim: true }),
            picture,
        );
    }
}

/// Draws the picture, and the patient's directions around it.
pub fn draw_picture(app: &App, frame: &mut Frame<'_>, body: Rect) {
    let [_, room, _] = layout::slices(body);
    let (Some(_), Some((job, picture))) = (&app.slices.view, &app.slices.picture) else {
        return;
    };
    let size = match picture {
        Picture::Encoded(protocol) => protocol.size(),
        Picture::Spelled(rows) => {
            let width = rows.first().map_or(0, |row| row.chars().count() as u16);
            ratatui::layout::Size::new(width, rows.len() as u16)
        }
        Picture::Failed(_) => return,
    };
    if size.width > room.width || size.height > room.height {
        // Made for a larger terminal; the one for this size is on its way.
        return;
    }
    let area = layout::middle(room, size.width, size.height);
    match picture {
        Picture::Encoded(protocol) => frame.render_widget(ratatui_image::Image::new(protocol), area),
        Picture::Spelled(rows) => {
            let lines: Vec<Line<'_>> = rows.iter().map(|row| Line::raw(row.as_str())).collect();
            frame.render_widget(Paragraph::new(lines), area);
        }
        Picture::Failed(_) => {}
    }
    let [left, right, top, bottom] = job.turn.letters;
    let (mid_x, mid_y) = (area.x + area.width / 2, area.y + area.height / 2);
    let places = [
        (left, area.x.saturating_sub(1), mid_y),
        (right, area.right(), mid_y),
        (top, mid_x, area.y.saturating_sub(1)),
        (bottom, mid_x, area.bottom()),
    ];
    for (letter, x, y) in places {
        if let Some(cell) = frame.buffer_mut().cell_mut((x, y)) {
            cell.set_char(letter).set_style(app.setup.theme.dim());
        }
    }
}

fn side_lines(app: &App, snapshot: &Snapshot, view: &SliceView) -> Vec<Line<'static>> {
    let theme = &app.setup.theme;
    let look = &app.slices.look;
    let labels = &snapshot.settings.labels;
    let palette = Palette::of(labels);
    let key = |action| app.setup.keymap.first_key_of(app.screen, action);
    let switch = |action, words: &str, on: bool| {
        Line::from(vec![
            Span::styled(format!("{} ", key(action)), theme.dim()),
            Span::raw(format!("{words}: {}", if on { "on" } else { "off" })),
        ])
    };
    let mut lines = Vec::new();
    let drawn = match (view.model, &view.predicted) {
        (Some(model), Some(_)) => format!("drawn by {model}"),
        _ => "nothing drawn beforehand".into(),
    };
    lines.push(Line::raw(drawn));
    // The sums are the current model's; without one there is no score to show.
    if let (Some(score), Some(model)) = (view.average_bvsb, view.score_model) {
        lines.push(Line::raw(format!("Avg BvSB {score:.4} by {model}")));
    }
    lines.push(Line::raw(""));
    if look.difference {
        let swatch = |rgb, words: &'static str| {
            Line::from(vec![
                Span::styled("\u{2588}\u{2588} ", theme.swatch(rgb)),
                Span::raw(words),
            ])
        };
        lines.push(swatch(palette.common, "= in common"));
        lines.push(swatch(palette.predicted, "p predicted alone"));
        lines.push(swatch(palette.corrected, "c corrected: drawn by hand"));
        if snapshot.settings.effort.tolerance_mm > 0.0 {
            lines.push(Line::raw("(pixel by pixel, no tolerance)"));
        }
    } else {
        let names = labels
            .names()
            .zip(letters(labels.names()))
            .zip(&palette.classes)
            .enumerate();
        for (at, ((name, letter), rgb)) in names {
            let shown = look.overlay && look.class.is_none_or(|only| usize::from(only) == at + 1);
            lines.push(Line::from(vec![
                Span::styled("\u{2588}\u{2588} ", theme.swatch(*rgb)),
                Span::raw(format!(
                    "{letter} {}{}",
                    clean(name),
                    if shown { "" } else { " (hidden)" }
                )),
            ]));
        }
    }
    if look.margin {
        let words = match (&view.margin, view.score_model) {
            (Some(_), Some(model)) => format!("unsure, by {model}"),
            _ => "no margin here".into(),
        };
        lines.push(Line::from(vec![
            Span::styled("\u{2588}\u{2588} ", theme.swatch(palette.unsure)),
            Span::raw(words),
        ]));
    }
    lines.push(Line::raw(""));
    lines.extend(effort_lines(app, snapshot, view));
    lines.push(switch(Action::ToggleOverlay, "overlay", look.overlay));
    lines.push(switch(Action::ToggleContours, "contours", look.contours));
    lines.push(switch(Action::ToggleMargin, "margin map", look.margin));
    lines.push(switch(Action::ToggleDifference, "difference", look.difference));
    if let Some(class) = look.class {
        lines.push(Line::raw(format!(
            "{} class: {}",
            key(Action::NextClass),
            clean(labels.name_of(class.into()))
        )));
    }
    lines
}

/// Saved effort per class of this slice and of the whole case, once a person has corrected it.
fn effort_lines(app: &App, snapshot: &Snapshot, view: &SliceView) -> Vec<Line<'static>> {
    let theme = &app.setup.theme;
    let Some(correction) = snapshot.correction_of(&view.case) else {
        return Vec::new();
    };
    let head = match correction.model {
        Some(model) => format!("saved effort of {model}"),
        None => "saved effort (nothing was drawn)".into(),
    };
    let mut lines = vec![
        Line::styled(head, theme.title()),
        Line::styled(format!("{:<10}{:>8} {:>8}", "", "slice", "case"), theme.dim()),
    ];
    let saved = |effort: &[ClassEffort], at: usize| percent(effort.get(at).and_then(ClassEffort::saved));
    for (at, name) in snapshot.settings.labels.names().enumerate() {
        let name: String = clean(name).chars().take(9).collect();
        let (slice, case) = (saved(&view.effort, at), saved(&correction.effort, at));
        lines.push(Line::raw(format!("{name:<10}{slice:>8} {case:>8}")));
    }
    let mean = |effort: &[ClassEffort]| percent(mean_of_known(effort.iter().map(ClassEffort::saved)));
    lines.push(Line::raw(format!(
        "{:<10}{:>8} {:>8}",
        "mean",
        mean(&view.effort),
        mean(&correction.effort)
    )));
    lines.push(Line::raw(""));
    lines
}
