//! The log's state: what was said since the start, and the journal's last entries, newest first.

use jiff::Timestamp;

use crate::records::Entry;
use crate::tui::keys::Action;
use crate::tui::list::Cursor;
use crate::tui::text::clean;

/// Notices and entries that are kept.
const KEPT: usize = 1000;

/// The log screen.
#[derive(Debug, Default)]
pub struct Log {
    pub cursor: Cursor,
    /// What its lines are narrowed by.
    pub search: String,
    notices: Vec<(Timestamp, String)>,
    entries: Vec<Entry>,
    is_asked: bool,
    /// The last entry there was when the journal was asked for last: it is asked for again when there is another.
    asked_at: Option<u64>,
    /// Why the journal is not here.
    pub problem: Option<String>,
}

/// A line of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// What, ready for the screen.
    pub words: String,
    /// Whether it is a notice, and not of the journal.
    pub is_notice: bool,
}

impl Log {
    /// Keeps what was said.
    pub fn notice(&mut self, at: Timestamp, words: String) {
        if self.notices.len() == KEPT {
            self.notices.remove(0);
        }
        self.notices.push((at, words));
    }

    /// The first entry to ask for, if some are missing; `seq` is the last there is.
    pub fn request(&mut self, seq: u64) -> Option<u64> {
        let known = self.entries.last().map_or(0, |entry| entry.seq);
        if self.is_asked || known >= seq || self.asked_at == Some(seq) {
            return None;
        }
        (self.is_asked, self.asked_at) = (true, Some(seq));
        Some((known + 1).max(seq.saturating_sub(KEPT as u64 - 1)))
    }

    /// Takes entries.
    pub fn answered(&mut self, result: Result<Vec<Entry>, String>) {
        self.is_asked = false;
        match result {
            Ok(entries) => {
                self.problem = None;
                self.entries.extend(entries);
                let old = self.entries.len().saturating_sub(KEPT);
                self.entries.drain(..old);
            }
            Err(why) => self.problem = Some(why),
        }
    }

    /// Its lines, newest first.
    pub fn lines(&self) -> Vec<LogLine> {
        let notices = self.notices.iter().map(|(at, words)| LogLine {
            at: *at,
            words: words.clone(),
            is_notice: true,
        });
        let entries = self.entries.iter().map(|entry| {
            let why = entry
                .why
                .as_ref()
                .map_or_else(String::new, |why| format!(": {}", clean(why)));
            let subjects: Vec<String> = entry.rows.iter().filter_map(subject).take(3).collect();
            let more = if subjects.is_empty() {
                String::new()
            } else {
                format!(" {}", subjects.join(", "))
            };
            LogLine {
                at: entry.at,
                words: format!(
                    "#{} {} by {}{more}{why}",
                    entry.seq,
                    entry.what.words(),
                    clean(&entry.who)
                ),
                is_notice: false,
            }
        });
        let search = self.search.to_lowercase();
        let mut lines: Vec<LogLine> = notices
            .chain(entries)
            .filter(|line| line.words.to_lowercase().contains(&search))
            .collect();
        // Of those at the same time, too, the last comes first.
        lines.reverse();
        lines.sort_by_key(|line| std::cmp::Reverse(line.at));
        lines
    }

    /// Shows only the lines with `text`.
    pub fn search(&mut self, text: &str) {
        self.search = text.to_string();
        self.cursor = Cursor::default();
    }

    /// Shows all lines again; whether some were not.
    pub fn widen(&mut self) -> bool {
        let had = !self.search.is_empty();
        self.search("");
        had
    }

    /// Moves through it; `page` is the height of the list.
    pub fn act(&mut self, action: Action, count: Option<usize>, page: usize) {
        let len = self.lines().len();
        self.cursor.act(action, count, page, len);
    }
}

/// What an entry is about.
fn subject(row: &crate::records::Row) -> Option<String> {
    use crate::records::Row;
    match row {
        Row::Case(row) => Some(row.id.to_string()),
        Row::Model(row) => Some(row.id.to_string()),
        Row::Round(row) => Some(row.id.to_string()),
        Row::Prediction(row) => Some(row.case.to_string()),
        Row::Handout(row) => Some(format!("to {}", clean(&row.owner))),
        Row::Held(row) => Some(clean(&row.name)),
        Row::Project(_) | Row::Correction(_) | Row::Ranking(_) | Row::Erasure(_) => None,
    }
}
