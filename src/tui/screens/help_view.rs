//! Draws the help.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::help::HelpLine;
use crate::tui::app::App;
use crate::tui::text::{clean, cut};

pub fn draw(app: &App, frame: &mut Frame<'_>, body: Rect) {
    let theme = &app.theme;
    let lines = app.help.lines(&app.setup.keymap);
    let widest = lines.iter().map(|line| match line {
        HelpLine::Key(keys, ..) => keys.chars().count(),
        _ => 0,
    });
    let keys_width = widest.max().unwrap_or(0).min(20);
    if lines.is_empty() {
        let words = format!(" no key, action or word is like {:?}", clean(&app.help.search));
        return frame.render_widget(Line::styled(words, theme.dim()), body);
    }
    let room = usize::from(body.width).saturating_sub(keys_width + 3);
    let first = app.help.cursor.offset.min(lines.len());
    let shown = lines[first..]
        .iter()
        .take(body.height.into())
        .map(|line| match line {
            HelpLine::Head(name) => Line::styled(format!(" {name}"), theme.title()),
            HelpLine::Key(keys, name, words) => {
                let mut spans = vec![
                    Span::styled(format!(" {keys:<keys_width$}  "), theme.warn()),
                    Span::raw(cut(words, room)),
                ];
                if body.width >= 100 {
                    spans.push(Span::styled(format!("  ({name})"), theme.dim()));
                }
                Line::from(spans)
            }
            HelpLine::Gap => Line::raw(""),
        });
    frame.render_widget(Paragraph::new(shown.collect::<Vec<_>>()), body);
}
