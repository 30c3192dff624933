//! Draws the app: what every screen has, then the screen, then a question if there is one. Changes nothing.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect, Size};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::app::{App, Tone};
use super::keys::Screen;
use super::layout;
use super::prompt::Prompt;
use super::screens::{help_view, queue_view, rounds_view, slices_view};
use super::text::{clean, is_unsafe, span};
use crate::protocol::{Activity, Snapshot, Stage};
use crate::records::Pool;

/// Draws one frame.
pub fn draw(app: &App, frame: &mut Frame<'_>) {
    let whole = frame.area();
    let Size { width, height } = layout::SMALLEST;
    if whole.width < width || whole.height < height {
        let words = format!(
            "overtrace needs {width}x{height} cells; this terminal has {}x{}",
            whole.width, whole.height
        );
        frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), whole);
        return;
    }
    let areas = layout::areas(whole.as_size());
    draw_tabs(app, frame, areas.tabs);
    draw_state(app, frame, areas.state);
    draw_message(app, frame, areas.message);
    match (&app.snapshot, app.screen) {
        (_, Screen::Help) => help_view::draw(app, frame, areas.body),
        (None, _) => {
            let waiting = Paragraph::new("waiting for the engine").alignment(Alignment::Center);
            frame.render_widget(waiting, layout::middle(areas.body, areas.body.width, 1));
        }
        (Some(snapshot), Screen::Queue) => queue_view::draw(app, snapshot, frame, areas.body),
        (Some(snapshot), Screen::Slices) => slices_view::draw(app, snapshot, frame, areas.body),
        (Some(snapshot), Screen::Rounds) => rounds_view::draw(app, snapshot, frame, areas.body),
    }
    if let Some(prompt) = &app.prompt {
        draw_prompt(app, prompt, frame, areas.body);
    }
    scrub(frame.buffer_mut());
    // A picture may be an escape sequence, so it comes after the scrubbing; a question would be under it.
    if app.screen == Screen::Slices && app.prompt.is_none() {
        slices_view::draw_picture(app, frame, areas.body);
    }
}

/// Replaces what a terminal would obey, wherever it came from.
fn scrub(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if cell.symbol().chars().any(is_unsafe) {
            let safe = clean(cell.symbol());
            cell.set_symbol(&safe);
        }
    }
}

/// A text as wide as `room`, its end cut off with an ellipsis.
pub(super) fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_string();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

fn draw_tabs(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.setup.theme;
    let mut spans = Vec::new();
    for screen in Screen::ALL {
        let key = app.setup.keymap.first_key_of(app.screen, screen.action());
        let tab = format!(" {key} {} ", screen.word());
        let style = if screen == app.screen {
            theme.selected()
        } else {
            theme.dim()
        };
        spans.push(Span::styled(tab, style));
    }
    let taken: usize = spans.iter().map(Span::width).sum();
    let folder = app.snapshot.as_ref().map(|snapshot| {
        let name = snapshot.folder.file_name().unwrap_or(snapshot.folder.as_os_str());
        clean(&name.to_string_lossy())
    });
    let room = usize::from(area.width).saturating_sub(taken + 1);
    let name = cut(folder.as_deref().unwrap_or("overtrace"), room);
    let gap = usize::from(area.width).saturating_sub(taken + name.chars().count());
    spans.push(Span::raw(" ".repeat(gap)));
    spans.push(Span::styled(name, theme.title()));
    frame.render_widget(Line::from(spans), area);
}

/// What the worker is at, in a few words: `training epoch 12/500 63 %`.
pub(super) fn activity_words(activity: &Activity) -> String {
    if activity.stage == Stage::Idle {
        return "idle".into();
    }
    let mut words = activity.stage.word().to_string();
    if activity.epoch > 0 {
        words += &format!(" epoch {}/{}", activity.epoch, activity.max_epochs);
    }
    if activity.of > 0 {
        words += &format!(" {}/{}", activity.done, activity.of);
    }
    words
}

/// Seconds that the running stage takes at most, from how long its parts took so far.
pub(super) fn seconds_left(app: &App, activity: &Activity) -> Option<f64> {
    if activity.stage == Stage::Training {
        let taken: f64 = activity.curve.iter().map(|epoch| epoch.seconds).sum();
        let done = activity.curve.len();
        let left = activity.max_epochs.saturating_sub(done);
        return (done > 0).then(|| taken / done as f64 * left as f64);
    }
    let since = activity.since?;
    let elapsed_s = (app.now.as_millisecond() - since.as_millisecond()) as f64 / 1000.0;
    let left = activity.of.saturating_sub(activity.done);
    (activity.done > 0 && elapsed_s > 0.0).then(|| elapsed_s / activity.done as f64 * left as f64)
}

fn draw_state(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.setup.theme;
    let Some(snapshot) = &app.snapshot else { return };
    let model = snapshot
        .project
        .model
        .map_or_else(|| "no model".into(), |model| model.to_string());
    let mut spans = vec![Span::styled(model, theme.title())];
    if snapshot.ranking_is_stale() {
        spans.push(Span::styled("  ranking stale", theme.warn()));
    }
    let held = snapshot.waiting().count();
    if held > 0 {
        spans.push(Span::styled(format!("  {held} held back"), theme.warn()));
    }
    if snapshot.project.satisfied.is_some() {
        spans.push(Span::styled("  satisfactory", theme.good()));
    }
    let mut activity = activity_words(&snapshot.activity);
    if let Some(left) = seconds_left(app, &snapshot.activity) {
        activity += &format!(" at most {}", span(left));
    }
    spans.push(Span::raw(format!("  {activity}  {}", pools(snapshot))));
    let line = Line::from(spans);
    let room = usize::from(area.width).saturating_sub(line.width());
    frame.render_widget(line, area);
    if room > app.setup.picture.len() {
        frame.render_widget(Line::styled(app.setup.picture, theme.dim()).right_aligned(), area);
    }
}

/// Labelled, unlabelled and held-out cases, without the excluded ones.
fn pools(snapshot: &Snapshot) -> String {
    let count = |pool| {
        let here = |case: &&crate::records::Case| case.pool == pool && case.excluded.is_none();
        snapshot.cases.values().filter(here).count()
    };
    format!(
        "{} labelled, {} unlabelled, {} held out",
        count(Pool::Labelled),
        count(Pool::Unlabelled),
        count(Pool::HeldOut)
    )
}

fn draw_message(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.setup.theme;
    let pending = app.pending();
    let mut room = area;
    if !pending.is_empty() {
        let width = (pending.chars().count() as u16 + 1).min(area.width);
        room.width -= width;
        let corner = Rect {
            x: area.x + room.width,
            width,
            height: 1,
            ..area
        };
        frame.render_widget(Line::styled(pending, theme.warn()).right_aligned(), corner);
    }
    if let Some((tone, text)) = &app.message {
        let style = match tone {
            Tone::Plain => theme.good(),
            Tone::Warn => theme.warn(),
            Tone::Error => theme.error(),
        };
        frame.render_widget(
            Paragraph::new(text.as_str())
                .style(style)
                .wrap(Wrap { trim: true }),
            room,
        );
    }
}

fn draw_prompt(app: &App, prompt: &Prompt, frame: &mut Frame<'_>, body: Rect) {
    let theme = &app.setup.theme;
    let mut lines: Vec<Line<'_>> = prompt.lines.iter().map(|line| Line::raw(line.as_str())).collect();
    if let Some(text) = &prompt.text {
        let shown: String = clean(text);
        lines.push(Line::from(vec![
            Span::styled("> ", theme.title()),
            Span::raw(shown),
            Span::styled(" ", theme.selected()),
        ]));
    }
    if let Some(problem) = &prompt.problem {
        lines.push(Line::styled(clean(problem), theme.error()));
    }
    lines.push(Line::raw(""));
    lines.push(Line::styled(prompt.keys(), theme.dim()));
    let width = 72.min(body.width);
    let inside = usize::from(width) - 2;
    let rows: usize = lines
        .iter()
        .map(|line| line.width().max(1).div_ceil(inside))
        .sum();
    // A wrapped line breaks between words and so may need one row more than its width says.
    let slack = lines.iter().filter(|line| line.width() > inside).count();
    let area = layout::middle(body, width, (rows + slack + 2) as u16);
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(Span::styled(format!(" {} ", prompt.title), theme.title()));
    frame.render_widget(
        Paragraph::new(lines).block(block).wrap(Wrap { trim: false }),
        area,
    );
}
