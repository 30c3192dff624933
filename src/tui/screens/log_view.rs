//! Draws the log, and what runs.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use crate::protocol::{Snapshot, Stage};
use crate::tui::activity::{activity_words, seconds_left};
use crate::tui::app::App;
use crate::tui::layout;
use crate::tui::text::{age, cut, span};

pub fn draw(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, body: Rect) {
    let theme = &app.theme;
    let areas = layout::list(body);
    let activity = &snapshot.activity;
    let mut job = format!(" job: {}", activity_words(activity));
    if let (Some(since), true) = (activity.since, activity.stage != Stage::Idle) {
        job += &format!(", for {}", age(since, app.now));
    }
    if let Some(left) = seconds_left(app.now, activity) {
        job += &format!(", at most {} left", span(left));
    }
    frame.render_widget(Line::styled(job, theme.title()), areas.title);
    let lines = app.log.lines();
    let head = match &app.log.problem {
        Some(why) => Line::styled(format!(" the journal cannot be read: {why}"), theme.error()),
        None if app.log.search.is_empty() => Line::styled(" newest first", theme.dim()),
        None => Line::styled(
            format!(" {} lines with {:?}", lines.len(), app.log.search),
            theme.warn(),
        ),
    };
    frame.render_widget(head, areas.header);
    let mut cursor = app.log.cursor;
    cursor.settle(lines.len(), areas.list.height.into());
    let window = cursor.window(lines.len(), areas.list.height.into());
    let width = usize::from(body.width);
    let shown = window.clone().map(|at| {
        let line = &lines[at];
        let style = match line.is_notice {
            _ if at == cursor.selected => theme.selected(),
            true => theme.warn(),
            false => ratatui::style::Style::new(),
        };
        let text = format!(
            " {:>8}  {}{}",
            age(line.at, app.now),
            if line.is_notice { "! " } else { "" },
            line.words
        );
        Line::from(Span::styled(cut(&text, width), style))
    });
    frame.render_widget(Paragraph::new(shown.collect::<Vec<_>>()), areas.list);
    if let Some(line) = lines.get(cursor.selected) {
        let at = line.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        frame.render_widget(
            Paragraph::new(format!("{at}  {}", line.words)).wrap(Wrap { trim: true }),
            areas.details,
        );
    }
}
