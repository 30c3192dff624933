//! Draws the slices: the pictures, the strip of all slices, and beside them what colours and numbers mean.

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::slices::Slices;
use crate::imaging::Plane;
use crate::protocol::{CaseView, Maker, Snapshot};
use crate::records::{ClassEffort, mean_saved};
use crate::tui::app::App;
use crate::tui::keys::Action;
use crate::tui::layout::{self, Arrangement};
use crate::tui::picture::{Kind, PRESETS, Picture};
use crate::tui::text::{clean, cut, letters};

pub fn draw(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, body: Rect) {
    let theme = &app.theme;
    let slices = &app.slices;
    let areas = layout::slices(body, slices.arrangement);
    let Some(case) = slices.case() else {
        let words = "no case is selected; choose one in the queue";
        frame.render_widget(Paragraph::new(words).alignment(Alignment::Center), areas.panes[0]);
        return;
    };
    let problem = slices.wanted().and_then(|wanted| app.views.problem(wanted));
    if let Some(why) = problem {
        let words = Paragraph::new(why).style(theme.error()).wrap(Wrap { trim: true });
        frame.render_widget(words, areas.panes[0]);
    }
    let (Some(view), Some(plane), Some(index)) = (&slices.view, slices.plane(), slices.index()) else {
        frame.render_widget(Line::styled(format!(" {case}"), theme.title()), areas.title);
        if problem.is_none() {
            frame.render_widget(Line::raw("opening the case").centered(), areas.panes[0]);
        }
        return;
    };
    let mut head = vec![
        Span::styled(format!(" {case}"), theme.title()),
        Span::raw(format!(
            "  {} slice {} of {}",
            plane.name(&view.grid),
            index + 1,
            plane.slices(&view.grid)
        )),
    ];
    if view.images > 1 {
        head.push(Span::raw(format!(
            "  image {} of {}",
            slices.image + 1,
            view.images
        )));
    }
    head.extend(layer_words(app, view).map(|words| Span::styled(format!("  {words}"), theme.warn())));
    frame.render_widget(Line::from(head), areas.title);
    draw_strip(app, plane, index, frame, areas.strip);
    let lines = side_lines(app, snapshot, view);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), areas.side);
    for (pane, area) in areas.panes.iter().enumerate() {
        if let Some((_, Picture::Failed(why))) = slices.picture(pane) {
            let words = Paragraph::new(why.as_str())
                .style(theme.error())
                .wrap(Wrap { trim: true });
            frame.render_widget(words, *area);
        }
    }
}

/// What is not as it is at first.
fn layer_words(app: &App, view: &CaseView) -> impl Iterator<Item = String> {
    let slices = &app.slices;
    let look = &slices.look;
    let zoom = (slices.zoom.factor > 1.0).then(|| format!("zoom {:.1}", slices.zoom.factor));
    let window = look.window.map(|[low, high]| {
        let known = PRESETS.iter().find(|preset| preset.window == look.window);
        known.map_or_else(
            || format!("window {low:.0} to {high:.0}"),
            |preset| format!("{} {low:.0} to {high:.0}", preset.name),
        )
    });
    let colours = (look.colours != crate::tui::picture::Look::default().colours)
        .then(|| look.colours.word().to_string());
    let beside = view
        .beside
        .as_ref()
        .map(|drawing| format!("beside {}", clean(&drawing.by.to_string())));
    [zoom, window, colours, beside].into_iter().flatten()
}

/// Draws the pictures of some slices, and the patient's directions around each.
pub fn draw_pictures(app: &App, slices: &Slices, panes: &[Rect], frame: &mut Frame<'_>) {
    if slices.view.is_none() {
        return;
    }
    for (pane, room) in panes.iter().enumerate() {
        let Some((job, picture)) = slices.picture(pane) else {
            continue;
        };
        let size = picture.size();
        let has_room = size.width <= room.width && size.height <= room.height;
        // Made for another arrangement or a larger terminal; the one for this is on its way.
        if size.width == 0 || !has_room || slices.panes().get(pane).map(|pane| pane.plane) != Some(job.plane)
        {
            continue;
        }
        let area = layout::middle(*room, size.width, size.height);
        match picture {
            Picture::Encoded(protocol) => frame.render_widget(ratatui_image::Image::new(protocol), area),
            Picture::Cells(cells) => frame.render_widget(cells, area),
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
                cell.set_char(letter).set_style(app.theme.dim());
            }
        }
    }
}

/// The place of a picture's corner on the screen, and which picture it is, for a cell of the screen that lies in it.
pub fn pane_at(slices: &Slices, panes: &[Rect], cell: [u16; 2]) -> Option<(usize, [u16; 2])> {
    panes.iter().enumerate().find_map(|(pane, room)| {
        let size = slices.picture(pane)?.1.size();
        let area = layout::middle(*room, size.width, size.height);
        let inside = area.contains(ratatui::layout::Position::new(cell[0], cell[1]));
        inside.then(|| (pane, [cell[0] - area.x, cell[1] - area.y]))
    })
}

/// Every slice's Average BvSB, or after hand-in its saved effort, from the first slice at the top: the fuller a cell, the
/// more there is to look at.
fn draw_strip(app: &App, plane: Plane, index: usize, frame: &mut Frame<'_>, area: Rect) {
    const SHADES: [char; 5] = [' ', '\u{2591}', '\u{2592}', '\u{2593}', '\u{2588}'];
    let theme = &app.theme;
    let (Some(profile), Some(view)) = (app.slices.profile(), &app.slices.view) else {
        return;
    };
    let (slices, rows) = (plane.slices(&view.grid), usize::from(area.height));
    if rows == 0 || slices == 0 {
        return;
    }
    let is_effort = !profile.efforts.is_empty();
    // What is lacking of 1: certainty, or effort saved.
    let lack = |slice: usize| {
        if is_effort {
            profile.saved(slice).map(|saved| 1.0 - saved)
        } else {
            profile.scores.get(slice).map(|score| 1.0 - score)
        }
    };
    let most = if is_effort {
        1.0
    } else {
        (0..slices).filter_map(lack).fold(0.0, f64::max)
    };
    for row in 0..rows {
        let from = row * slices / rows;
        let to = ((row + 1) * slices / rows).max(from + 1).min(slices);
        let worst = (from..to).filter_map(lack).reduce(f64::max);
        let share = worst.map_or(0.0, |lack| if most > 0.0 { lack / most } else { 0.0 });
        let level = ((share * (SHADES.len() - 1) as f64).ceil() as usize).min(SHADES.len() - 1);
        let here = (from..to).contains(&index);
        let y = area.y + row as u16;
        if let Some(cell) = frame.buffer_mut().cell_mut((area.x + 1, y)) {
            cell.set_char(SHADES[level]).set_style(theme.warn());
        }
        if let Some(cell) = frame.buffer_mut().cell_mut((area.x, y)).filter(|_| here) {
            cell.set_char('>').set_style(theme.title());
        }
    }
}

fn side_lines(app: &App, snapshot: &Snapshot, view: &CaseView) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let slices = &app.slices;
    let look = &slices.look;
    let labels = &snapshot.settings.labels;
    let palette = theme.palette(labels);
    let switch = |action, words: &str, on: bool| {
        Line::from(vec![
            Span::styled(format!("{} ", app.key_of(action)), theme.dim()),
            Span::raw(format!("{words}: {}", if on { "on" } else { "off" })),
        ])
    };
    let mut lines = Vec::new();
    let drawn = match (&view.predicted, &view.corrected) {
        (Some(drawing), _) => format!("drawn by {}", drawing.by),
        (None, Some(_)) => "the mask; nothing drawn beforehand".into(),
        (None, None) => "nothing drawn beforehand".into(),
    };
    lines.push(Line::raw(drawn));
    lines.extend(held_lines(app, snapshot));
    if slices.arrangement == Arrangement::Beside {
        let other = match (&view.corrected, &view.beside) {
            (_, Some(drawing)) => format!("right: {}", clean(&drawing.by.to_string())),
            (Some(_), None) => "right: the mask".into(),
            (None, None) => format!(
                "right: nothing; {} shows another model's",
                app.key_of(Action::NextBeside)
            ),
        };
        lines.push(Line::raw(other));
    }
    lines.extend(score_line(slices, view));
    lines.extend(crosshair_lines(app, snapshot, view));
    lines.push(Line::raw(""));
    let swatch = |(pattern, style), words: String| {
        Line::from(vec![Span::styled(pattern, style), Span::raw(format!(" {words}"))])
    };
    if look.difference && view.has_two() {
        let other = match view.beside.as_ref().map(|drawing| &drawing.by) {
            None => "corrected: drawn by hand",
            Some(Maker::Model(_)) => "the other model alone",
            Some(Maker::Reading(_)) => "the held file, read the other way",
        };
        lines.push(swatch(palette.line(palette.common, 1), "= in common".into()));
        lines.push(swatch(
            palette.line(palette.predicted, 2),
            "p predicted alone".into(),
        ));
        lines.push(swatch(palette.line(palette.corrected, 3), format!("c {other}")));
        if snapshot.settings.effort.tolerance_mm > 0.0 {
            lines.push(Line::raw("(pixel by pixel, no tolerance)"));
        }
    } else {
        let names = labels.names().zip(letters(labels.names())).zip(&palette.classes);
        for (k, ((name, letter), rgb)) in (1..).zip(names) {
            let class = look.class(k);
            let sign = if slices.class == Some(k) { ">" } else { " " };
            let shown = match (look.overlay && class.is_on, class.opacity) {
                (false, _) => " (hidden)".into(),
                (true, 100) => String::new(),
                (true, opacity) => format!(" {opacity} %"),
            };
            let pattern = match look.contours {
                true => palette.line(*rgb, k),
                false => palette.surface(*rgb, k),
            };
            lines.push(swatch(pattern, format!("{sign}{letter} {}{shown}", clean(name))));
        }
    }
    if look.margin {
        let words = match (&view.margins, app.shown().kind) {
            (Some(margins), Kind::Ascii) => format!("? unsure, ! very, by {}", margins.by),
            (Some(margins), _) => format!("unsure, by {}", margins.by),
            (None, _) => "no margin here".into(),
        };
        lines.push(swatch(palette.block(palette.unsure), words));
    }
    lines.push(Line::raw(""));
    lines.extend(effort_lines(app, snapshot, view));
    lines.push(switch(Action::ToggleOverlay, "overlay", look.overlay));
    lines.push(switch(Action::ToggleContours, "contours", look.contours));
    lines.push(switch(Action::ToggleMargin, "margin map", look.margin));
    lines.push(switch(Action::ToggleDifference, "difference", look.difference));
    if let Some(profile) = slices.profile() {
        let strip = match (profile.efforts.is_empty(), profile.scores.is_empty()) {
            (false, _) => Some("strip: what was not saved"),
            (true, false) => Some("strip: how unsure"),
            (true, true) => None,
        };
        lines.extend(strip.map(|words| Line::styled(words, theme.dim())));
    }
    lines
}

/// What a held file is held for, and the keys that decide about it.
fn held_lines(app: &App, snapshot: &Snapshot) -> Vec<Line<'static>> {
    let Some(file) = app.slices.held(snapshot) else {
        return Vec::new();
    };
    let warn = |words: String| Line::styled(words, app.theme.warn());
    let mut lines = vec![warn(format!(
        "{} {}, held: {}",
        file.id,
        clean(&file.name),
        clean(&file.code)
    ))];
    let key = |action| app.key_of(action);
    lines.push(warn(format!(
        "{} accepts, {} refuses it",
        key(Action::AcceptHeld),
        key(Action::RefuseHeld)
    )));
    if let Some(words) = snapshot.fix_words(file) {
        let words = clean(&words);
        lines.push(warn(format!("{} fixes it: {words}", key(Action::FixHeld))));
        lines.push(warn(format!("{} shows that", key(Action::NextBeside))));
    }
    lines
}

fn score_line(slices: &Slices, view: &CaseView) -> Option<Line<'static>> {
    let score = slices.profile()?.scores.get(slices.index()?)?;
    // A score is never shown without the model that gave it.
    let by = &view.margins.as_ref()?.by;
    Some(Line::raw(format!("Avg BvSB {score:.4} by {by}")))
}

/// Where the crosshair stands, and what lies there.
fn crosshair_lines(app: &App, snapshot: &Snapshot, view: &CaseView) -> Vec<Line<'static>> {
    let [i, j, k] = app.slices.at;
    let [x, y, z] = view.grid.affine.world_mm([i, j, k].map(|n| n as f64));
    let shape = view.grid.shape;
    let voxel = i + shape[0] * (j + shape[1] * k);
    let value = view.image.at(voxel);
    let labels = &snapshot.settings.labels;
    let name = |class: u8| match class {
        0 => "background".into(),
        class => clean(labels.name_of(class.into())),
    };
    let mut lines = vec![
        Line::raw(format!(
            "voxel {i} {j} {k}, value {}",
            (value * 1000.0).round() / 1000.0
        )),
        Line::raw(format!("{x:.1} {y:.1} {z:.1} mm (RAS)")),
    ];
    let drawn = view.predicted.as_ref().map(|drawing| name(drawing.voxels[voxel]));
    let margin = view
        .margins
        .as_ref()
        .map(|margins| f64::from(margins.voxels[voxel]) / 255.0);
    let mut words = Vec::new();
    words.extend(drawn);
    words.extend(
        view.corrected
            .as_ref()
            .map(|mask| format!("mask {}", name(mask[voxel]))),
    );
    words.extend(view.beside.as_ref().map(|drawing| {
        let by = clean(&drawing.by.to_string());
        format!("{by} {}", name(drawing.voxels[voxel]))
    }));
    words.extend(margin.map(|margin| format!("margin {margin:.2}")));
    if !words.is_empty() {
        lines.push(Line::raw(words.join(", ")));
    }
    lines
}

/// C, L and saved effort per class of this slice, and of the whole case, once a person has corrected it.
fn effort_lines(app: &App, snapshot: &Snapshot, view: &CaseView) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let wanted = app.slices.wanted();
    if wanted.is_some_and(|wanted| wanted.held.is_some()) {
        return Vec::new();
    }
    let shown = wanted.and_then(|wanted| wanted.correction);
    let Some(correction) = shown
        .and_then(|id| snapshot.corrections.get(&id))
        .or_else(|| snapshot.correction_of(&view.case))
    else {
        return Vec::new();
    };
    let head = match correction.model {
        Some(model) => format!("{}: saved effort of {model}", correction.id),
        None => format!("{}: no saved effort, nothing was drawn", correction.id),
    };
    let mut lines = vec![
        Line::styled(head, theme.title()),
        Line::styled(
            format!("{:<6}{:>5}{:>5}{:>6}{:>6}", "slice", "C", "L", "saved", "case"),
            theme.dim(),
        ),
    ];
    let here: &[ClassEffort] = app
        .slices
        .profile()
        .zip(app.slices.index())
        .and_then(|(profile, index)| profile.efforts.get(index))
        .map_or(&[], Vec::as_slice);
    let short =
        |share: Option<f64>| share.map_or_else(|| "n/a".into(), |share| format!("{:.0} %", 100.0 * share));
    for (at, name) in snapshot.settings.labels.names().enumerate() {
        let count = |of: fn(&ClassEffort) -> u64| {
            here.get(at)
                .map_or_else(|| "-".into(), |effort| of(effort).to_string())
        };
        let (c, l) = (
            count(|effort| effort.shared_px),
            count(|effort| effort.corrected_px),
        );
        let saved = |effort: &[ClassEffort]| short(effort.get(at).and_then(ClassEffort::saved));
        lines.push(Line::raw(format!(
            "{:<6}{c:>5}{l:>5}{:>6}{:>6}",
            cut(&clean(name), 6),
            saved(here),
            saved(&correction.effort)
        )));
    }
    let mean = |effort: &[ClassEffort]| short(mean_saved(effort));
    lines.push(Line::raw(format!(
        "{:<16}{:>6}{:>6}",
        "mean",
        mean(here),
        mean(&correction.effort)
    )));
    lines.push(Line::raw(""));
    lines
}
