//! Draws the app: what every screen has, then the screen, then a question if there is one. Changes nothing.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect, Size};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::activity::{activity_words, seconds_left};
use super::app::{App, Tone};
use super::keys::Screen;
use super::layout;
use super::line::{Line as TypedLine, Purpose};
use super::prompt::Prompt;
use super::screens::{
    corrections_view, help_view, log_view, models_view, queue_view, rounds_view, slices_view,
};
use super::text::{ascii, clean, cut, is_unsafe, span};

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
        (Some(snapshot), Screen::Corrections) => corrections_view::draw(app, snapshot, frame, areas.body),
        (Some(snapshot), Screen::Models) => models_view::draw(app, snapshot, frame, areas.body),
        (Some(snapshot), Screen::Log) => log_view::draw(app, snapshot, frame, areas.body),
    }
    if !app.chord().is_empty() && app.prompt.is_none() {
        draw_continuations(app, frame, areas.body);
    }
    if let Some(line) = &app.line {
        draw_line(app, line, frame, areas.body, areas.message);
    }
    if let Some(prompt) = &app.prompt {
        draw_prompt(app, prompt, frame, areas.body);
    }
    scrub(frame.buffer_mut(), app.setup.ascii);
    // A picture may be an escape sequence, so it comes after the scrubbing; a question would be under it.
    draw_pictures(app, frame, areas.body);
    app.theme.paint(app.terminal.is_light, frame.buffer_mut());
}

fn draw_pictures(app: &App, frame: &mut Frame<'_>, body: Rect) {
    if !has_popup(app) {
        match app.screen {
            Screen::Slices => {
                let panes = layout::slices(body, app.slices.arrangement).panes;
                slices_view::draw_pictures(app, &app.slices, &panes, frame);
            }
            Screen::Queue => {
                let preview = layout::queue(body, app.queue.has_preview).preview;
                let is_current = app.preview.case() == app.queue.selected().map(|row| &row.case);
                if let Some(area) = preview.filter(|_| is_current) {
                    slices_view::draw_pictures(app, &app.preview, &[area], frame);
                }
            }
            _ => {}
        }
    }
}

/// Replaces what a terminal would obey, wherever it came from, and where only ASCII is wanted, what is none.
fn scrub(buffer: &mut Buffer, is_ascii: bool) {
    for cell in &mut buffer.content {
        if is_ascii && let Some(c) = cell.symbol().chars().next().filter(|c| !c.is_ascii()) {
            cell.set_char(ascii(c));
        }
        if cell.symbol().chars().any(is_unsafe) {
            let safe = clean(cell.symbol());
            cell.set_symbol(&safe);
        }
    }
}

fn draw_tabs(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.theme;
    let tabs = |has_keys: bool| -> Vec<Span<'static>> {
        let tab = |screen: Screen| {
            let key = app.key_of(screen.action());
            let words = match has_keys || screen == Screen::Help {
                true => format!(" {key} {} ", screen.word()),
                false => format!(" {} ", screen.word()),
            };
            let style = match screen == app.screen {
                true => theme.selected(),
                false => theme.dim(),
            };
            Span::styled(words, style)
        };
        Screen::ALL.map(tab).into()
    };
    let width = |spans: &[Span<'_>]| spans.iter().map(Span::width).sum::<usize>();
    // Where there is no room for all the keys there is only that of help, which has them.
    let mut spans = Some(tabs(true))
        .filter(|spans| width(spans) <= area.width.into())
        .unwrap_or_else(|| tabs(false));
    let taken = width(&spans);
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

fn draw_state(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.theme;
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
    if let Some(left) = seconds_left(app.now, &snapshot.activity) {
        activity += &format!(" at most {}", span(left));
    }
    let picture = app.shown().kind.word();
    let room = usize::from(area.width).saturating_sub(picture.len() + 2);
    // Where there is no room for all of it, the pools are said shortly, then not at all.
    let known: usize = spans.iter().map(Span::width).sum();
    let with = |pools: String| format!("  {activity}  {pools}");
    let fits = |words: &String| known + Line::raw(words.as_str()).width() <= room;
    let words = Some(with(pools(app, false)))
        .filter(fits)
        .or_else(|| Some(with(pools(app, true))).filter(fits))
        .unwrap_or_else(|| cut(&format!("  {activity}"), room.saturating_sub(known)));
    spans.push(Span::raw(words));
    frame.render_widget(Line::from(spans), area);
    // In cells of its own: a line's style is that of all the cells it is given.
    let width = (picture.len() as u16).min(area.width);
    let right = Rect {
        x: area.right() - width,
        width,
        ..area
    };
    frame.render_widget(Line::styled(picture, theme.dim()), right);
}

/// Labelled, unlabelled and held-out cases, without the excluded ones; or that not all are here yet.
fn pools(app: &App, shortly: bool) -> String {
    if let Some(known) = app.snapshot.as_ref().filter(|known| known.cases_left_out > 0) {
        return format!("reading {} more cases", known.cases_left_out);
    }
    let [labelled, unlabelled, held_out] = app.queue.pools;
    if shortly {
        return format!("{labelled}/{unlabelled}/{held_out} cases");
    }
    format!("{labelled} labelled, {unlabelled} unlabelled, {held_out} held out")
}

/// Whether something lies over the screen that a picture would be drawn on.
fn has_popup(app: &App) -> bool {
    app.prompt.is_some()
        || !app.chord().is_empty()
        || app
            .line
            .as_ref()
            .is_some_and(|line| line.purpose == Purpose::Command)
}

/// What may follow the keys of a chord that was begun.
fn draw_continuations(app: &App, frame: &mut Frame<'_>, body: Rect) {
    let theme = &app.theme;
    let follow = app.setup.keymap.continuations(app.screen, app.chord());
    let lines: Vec<Line<'_>> = follow
        .iter()
        .map(|(key, action)| {
            let words = action.map_or("..", |action| action.entry().words);
            Line::from(vec![
                Span::styled(format!("{:<10}", key.to_string()), theme.warn()),
                Span::raw(words),
            ])
        })
        .collect();
    let height = (lines.len() as u16 + 2).min(body.height);
    let area = Rect {
        y: body.bottom() - height,
        height,
        width: body.width.min(76),
        ..body
    };
    frame.render_widget(Clear, area);
    let title = Span::styled(format!(" {} ", app.pending()), theme.title());
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), area);
}

/// Draws the line being typed, and what it may become.
fn draw_line(app: &App, line: &TypedLine, frame: &mut Frame<'_>, body: Rect, message: Rect) {
    let theme = &app.theme;
    let room = Rect { height: 1, ..message };
    frame.render_widget(Clear, message);
    let shown = Line::from(vec![
        Span::styled(line.sign().to_string(), theme.title()),
        Span::raw(clean(&line.text)),
        Span::styled(" ", theme.selected()),
    ]);
    frame.render_widget(shown, room);
    let (candidates, at) = line.candidates(app.screen);
    if candidates.is_empty() {
        return;
    }
    let height = (candidates.len() as u16)
        .min(12)
        .min(body.height.saturating_sub(2));
    let area = Rect {
        x: body.x,
        y: body.bottom() - height - 2,
        width: body.width.min(76),
        height: height + 2,
    };
    let from = at.unwrap_or(0).saturating_sub(usize::from(height) - 1);
    let rows = candidates.iter().enumerate().skip(from).take(height.into());
    let lines: Vec<Line<'_>> = rows
        .map(|(n, entry)| {
            let style = if at == Some(n) {
                theme.selected()
            } else {
                ratatui::style::Style::new()
            };
            Line::from(vec![
                Span::styled(format!("{:<22}", entry.name), style),
                Span::styled(entry.words, theme.dim()),
            ])
        })
        .collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered()), area);
}

fn draw_message(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.theme;
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
    let theme = &app.theme;
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
