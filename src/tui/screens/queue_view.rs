//! Draws the queue: only the rows on the screen are formatted.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, Wrap};

use super::cases;
use super::queue::Column;
use crate::protocol::{QueueRow, Snapshot, Status};
use crate::settings::{Pixels, Strategy};
use crate::tui::app::App;
use crate::tui::keys::Action;
use crate::tui::layout;
use crate::tui::text::{age, clean, cut, dice, percent};

/// How a column is shown: its header, its width, how little it matters, and what it says of a row.
struct Shown<'a> {
    column: Column,
    head: String,
    width: u16,
    /// Columns with the highest number go first when there is no room.
    spare: u8,
    cell: Words<'a>,
}

/// What a column says of a row.
type Words<'a> = Box<dyn Fn(&QueueRow) -> String + 'a>;

pub fn draw(app: &App, snapshot: &Snapshot, frame: &mut Frame<'_>, body: Rect) {
    let theme = &app.theme;
    let queue = &app.queue;
    let areas = layout::queue(body, queue.has_preview);
    frame.render_widget(title_line(app, snapshot), areas.title);
    let columns = columns(app, snapshot, areas.list.width.saturating_sub(2));
    let widths = || {
        let sign = std::iter::once(Constraint::Length(1));
        sign.chain(columns.iter().map(|column| Constraint::Length(column.width)))
    };
    let heads = columns.iter().map(|column| {
        let sign = match queue.sort {
            (sorted, false) if sorted == column.column => "^",
            (sorted, true) if sorted == column.column => "v",
            _ => "",
        };
        format!("{}{sign}", column.head)
    });
    let heads = Row::new(std::iter::once(String::new()).chain(heads)).style(theme.title());
    frame.render_widget(Table::new([heads], widths()), areas.header);
    let window = queue.cursor.window(queue.len(), areas.list.height.into());
    let rows = queue.window(window).map(|(at, row)| {
        let is_marked = queue.is_marked(&row.case);
        let sign = if is_marked { "*".to_string() } else { String::new() };
        let cells = columns
            .iter()
            .map(|column| cut(&(column.cell)(row), column.width.into()));
        let style = match row.status {
            _ if at == queue.cursor.selected => theme.selected(),
            _ if is_marked => theme.title(),
            Status::Held { .. } => theme.warn(),
            Status::Excluded { .. } => theme.dim(),
            _ => ratatui::style::Style::new(),
        };
        Row::new(std::iter::once(sign).chain(cells).collect::<Vec<_>>()).style(style)
    });
    frame.render_widget(Table::new(rows, widths()), areas.list);
    if queue.len() == 0 {
        let words = match queue.all() {
            0 => "no case yet; `overtrace import` takes images in".to_string(),
            all => format!("none of {all} cases is like {:?}", clean(&queue.filter)),
        };
        frame.render_widget(Line::raw(words).centered(), areas.list);
    }
    if let Some(row) = queue.selected() {
        draw_details(app, snapshot, row, frame, areas.details);
    }
    if let Some(area) = areas.preview {
        draw_preview_words(app, frame, area);
    }
}

/// What the preview shows, above its picture; or why it shows nothing.
fn draw_preview_words(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.theme;
    let preview = &app.preview;
    if let Some(why) = preview.wanted().and_then(|wanted| app.views.problem(wanted)) {
        let words = Paragraph::new(why.to_string())
            .style(theme.error())
            .wrap(Wrap { trim: true });
        return frame.render_widget(words, area);
    }
    // It keeps to the project's own cut and the slice that the model is least sure of.
    let (Some(view), Some(plane), Some(index)) = (&preview.view, preview.plane(), preview.index()) else {
        return;
    };
    let sure = match view.scores.get(index) {
        Some(_) => ", least sure",
        None => "",
    };
    let words = format!("slice {} of {}{sure}", index + 1, plane.slices(&view.grid));
    let above = Rect {
        y: area.y.saturating_sub(1),
        height: 1,
        ..area
    };
    // The letter of the patient's direction stands in the middle.
    let words = cut(&words, usize::from(area.width / 2).saturating_sub(1));
    frame.render_widget(Line::styled(words, theme.dim()), above);
}

/// What the list shows: how many of how many, how many marked, and what the order is.
fn title_line(app: &App, snapshot: &Snapshot) -> Line<'static> {
    let theme = &app.theme;
    let queue = &app.queue;
    let mut line = order_line(app, snapshot);
    if queue.sort.0 != Column::Rank {
        let way = if queue.sort.1 { ", the other way round" } else { "" };
        let words = format!(" sorted by {}{way} ", column_word(snapshot, queue.sort.0));
        line.spans.insert(0, Span::styled(words, theme.title()));
    }
    if !queue.filter.is_empty() {
        let words = format!(
            " {} of {} like {:?} ",
            queue.len(),
            queue.all(),
            clean(&queue.filter)
        );
        line.spans.insert(0, Span::styled(words, theme.warn()));
    }
    if queue.marked() > 0 {
        line.spans.insert(
            0,
            Span::styled(format!(" {} marked ", queue.marked()), theme.title()),
        );
    }
    line
}

/// What the order is: made how and by which model, whether that is the current one, and over which pixels.
fn order_line(app: &App, snapshot: &Snapshot) -> Line<'static> {
    let theme = &app.theme;
    let Some(ranking) = snapshot.ranking() else {
        return Line::styled(" not ranked yet", theme.dim());
    };
    let words = ranking.strategy.words();
    let (Some(model), true) = (ranking.model, ranking.strategy.has_scores()) else {
        let seed = ranking
            .seed
            .map_or_else(String::new, |seed| format!(" (seed {seed})"));
        return Line::raw(format!(" ranked by {words}{seed}"));
    };
    let mut spans = vec![Span::raw(format!(" ranked by {words} of {model}"))];
    if snapshot.ranking_is_stale() {
        let current = snapshot
            .project
            .model
            .map_or_else(|| "none".into(), |model| model.to_string());
        let rank = app.setup.keymap.first_key_of(app.screen, Action::Rank);
        let stale = format!(" (stale: now {current}; {rank} ranks anew)");
        spans.push(Span::styled(stale, theme.warn()));
    }
    spans.push(Span::raw(match ranking.pixels {
        Pixels::All => ", over all pixels",
        Pixels::Foreground => ", over foreground pixels",
    }));
    Line::from(spans)
}

fn score_head(snapshot: &Snapshot) -> String {
    let Some(ranking) = snapshot.ranking() else {
        return "score".into();
    };
    let name = match ranking.strategy {
        Strategy::AverageBvsb => "Avg BvSB",
        Strategy::Entropy => "entropy",
        Strategy::Disagreement => "disagreement",
        Strategy::ClassStratified | Strategy::ForegroundRandom | Strategy::Random => return "score".into(),
    };
    ranking
        .model
        .map_or_else(|| "score".into(), |model| format!("{name} by {model}"))
}

/// A score is never shown without the model that made it.
fn known_score(row: &QueueRow) -> Option<f64> {
    row.score.filter(|_| row.score_model.is_some())
}

/// The score as a bar of seven cells, from an eighth of a cell for the smallest of the ranking to all for the largest:
/// counted from 0 the bars of a real pool would all be full.
fn bar(score: f64, [smallest, largest]: [f64; 2]) -> String {
    const EIGHTHS: [&str; 8] = [
        "", "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}",
    ];
    if largest <= 0.0 {
        return String::new();
    }
    let range = largest - smallest;
    let share = if range > 0.0 {
        (score - smallest) / range
    } else {
        1.0
    };
    let eighths = (1.0 + share * 55.0).round().clamp(1.0, 56.0) as usize;
    format!("{}{}", "\u{2588}".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

fn status_words(app: &App, status: &Status) -> String {
    match status {
        Status::Held { code } => format!("held {}", clean(code)),
        Status::Out { owner, since } => format!("out {} {}", clean(owner), age(*since, app.now)),
        Status::InInbox { why } | Status::Excluded { why } => format!("{}: {}", status.word(), clean(why)),
        status => status.word().into(),
    }
}

/// A column's name in full: it may have no room in the table.
fn column_word(snapshot: &Snapshot, column: Column) -> String {
    let class = |at: usize| {
        snapshot
            .settings
            .labels
            .names()
            .nth(at)
            .map_or_else(String::new, clean)
    };
    match column {
        Column::Rank => "rank".into(),
        Column::Case => "case".into(),
        Column::Score => "score".into(),
        Column::Status => "status".into(),
        Column::Expected => "expected saved effort".into(),
        Column::Volume(at) => format!("volume of {}", class(at)),
        Column::VolumeModel => "model of the volumes".into(),
        Column::Saved => "saved effort".into(),
        Column::ClassSaved(at) => format!("saved effort of {}", class(at)),
        Column::Age => "age".into(),
    }
}

fn columns<'a>(app: &'a App, snapshot: &'a Snapshot, room: u16) -> Vec<Shown<'a>> {
    let labels = &snapshot.settings.labels.0;
    let range = app.queue.scores;
    let label =
        move |at: usize, word: &str, room: usize| cut(&format!("{} {word}", clean(&labels[at].name)), room);
    let one = |column: Column| -> Shown<'a> {
        let (head, width, spare, cell): (String, usize, u8, Words<'a>) = match column {
            Column::Rank => (
                "#".into(),
                5,
                0,
                Box::new(|row| row.rank.map_or_else(|| "-".into(), |rank| rank.to_string())),
            ),
            Column::Case => (
                "case".into(),
                app.queue.longest_name.clamp(6, 24),
                0,
                Box::new(|row| row.case.to_string()),
            ),
            Column::Score => (
                score_head(snapshot),
                14,
                0,
                Box::new(move |row| {
                    known_score(row)
                        .map_or_else(String::new, |score| format!("{score:.4} {}", bar(score, range)))
                }),
            ),
            Column::Status => (
                "status".into(),
                19,
                0,
                Box::new(|row| status_words(app, &row.status)),
            ),
            Column::Expected => (
                "expect".into(),
                7,
                1,
                Box::new(|row| {
                    row.expected_effort
                        .map_or_else(String::new, |saved| format!("~{:.0} %", 100.0 * saved))
                }),
            ),
            Column::Volume(at) => (
                label(at, "ml", 10),
                7,
                3,
                Box::new(move |row| {
                    row.class_ml
                        .get(at)
                        .map_or_else(String::new, |ml| format!("{ml:.1}"))
                }),
            ),
            Column::VolumeModel => (
                "by".into(),
                4,
                3,
                Box::new(|row| {
                    row.volume_model
                        .map_or_else(String::new, |model| model.to_string())
                }),
            ),
            Column::Saved => (
                "saved".into(),
                7,
                2,
                Box::new(|row| {
                    if row.saved_effort.is_empty() {
                        String::new()
                    } else {
                        percent(row.mean_saved_effort())
                    }
                }),
            ),
            Column::ClassSaved(at) => (
                label(at, "saved", 12),
                7,
                4,
                Box::new(move |row| {
                    row.saved_effort
                        .get(at)
                        .map_or_else(String::new, |share| percent(*share))
                }),
            ),
            Column::Age => ("age".into(), 8, 1, Box::new(|row| age(row.added_at, app.now))),
        };
        Shown {
            column,
            // Room for the sign of the order.
            width: width.max(head.chars().count() + 1) as u16,
            head,
            spare,
            cell,
        }
    };
    let mut columns: Vec<Shown<'a>> = app.queue.columns().into_iter().map(one).collect();
    // One column of a kind alone would mislead: the kind goes as a whole.
    let width = |columns: &[Shown<'_>]| columns.iter().map(|column| column.width + 1).sum::<u16>();
    while width(&columns) > room + 1 {
        let Some(spare) = columns
            .iter()
            .map(|column| column.spare)
            .max()
            .filter(|spare| *spare > 0)
        else {
            break;
        };
        columns.retain(|column| column.spare != spare);
    }
    columns
}

/// Everything about one case that its row may have no room for.
fn draw_details(app: &App, snapshot: &Snapshot, row: &QueueRow, frame: &mut Frame<'_>, area: Rect) {
    let theme = &app.theme;
    let names: Vec<String> = snapshot.settings.labels.names().map(clean).collect();
    let per_class = |values: Vec<String>| {
        let each: Vec<String> = names
            .iter()
            .zip(values)
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        each.join("  ")
    };
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{} ", row.case), theme.title()),
        Span::raw(match (row.pool.word(), status_words(app, &row.status)) {
            (pool, status) if status.replace(' ', "-") == pool => status,
            (pool, status) => format!("{pool}, {status}"),
        }),
    ])];
    if let Some(file) = cases::held(snapshot, &row.case) {
        let [accept, refuse] = [Action::AcceptHeld, Action::RefuseHeld]
            .map(|action| app.setup.keymap.first_key_of(app.screen, action));
        let words = format!(
            "{} waits ({accept} accepts, {refuse} refuses): {}",
            clean(&file.name),
            clean(&file.words)
        );
        lines.push(Line::styled(words, theme.warn()));
    }
    if let (Some(model), false) = (row.volume_model, row.class_ml.is_empty()) {
        let ml = row.class_ml.iter().map(|ml| format!("{ml:.1} ml")).collect();
        lines.push(Line::raw(format!("predicted by {model}: {}", per_class(ml))));
        if !row.dice.is_empty() {
            let values = row.dice.iter().map(|value| dice(*value)).collect();
            lines.push(Line::raw(format!("Dice by {model}: {}", per_class(values))));
        }
    }
    if !row.saved_effort.is_empty() {
        let values = row.saved_effort.iter().map(|share| percent(*share)).collect();
        lines.push(Line::raw(format!("saved effort: {}", per_class(values))));
    }
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), area);
}
