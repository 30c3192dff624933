//! The queue's state: its rows, which of them are shown and in which order, and which one is selected.
//!
//! Rows are made once and then kept up case by case, so that a change costs no more than putting the order right.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use nucleo_matcher::pattern::{AtomKind, CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use crate::protocol::{QueueRow, Snapshot};
use crate::records::{CaseId, Pool};
use crate::tui::keys::Action;
use crate::tui::list::Cursor;

/// What the queue can be sorted by; the columns of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Column {
    /// Place in the ranking.
    #[default]
    Rank,
    /// Name.
    Case,
    /// Score.
    Score,
    /// Where it is.
    Status,
    /// What its correction would save.
    Expected,
    /// Volume of a class, counted from 0 without background.
    Volume(usize),
    /// The model that predicted the volumes.
    VolumeModel,
    /// Mean saved effort.
    Saved,
    /// Saved effort of a class.
    ClassSaved(usize),
    /// How long it has been here.
    Age,
}

/// The queue screen.
#[derive(Debug)]
pub struct Queue {
    rows: Vec<QueueRow>,
    /// Where each case's row is.
    places: HashMap<CaseId, u32>,
    /// The ranking's order, by places of rows, with its scores.
    order: Vec<(u32, Option<f64>)>,
    /// Rows that are shown, in their order.
    shown: Vec<u32>,
    /// Cases that are labelled, unlabelled and held out, without the excluded ones.
    pub pools: [usize; 3],
    /// What the rows are sorted by, and whether the other way round.
    pub sort: (Column, bool),
    /// What the rows are narrowed by.
    pub filter: String,
    marked: HashSet<CaseId>,
    pub cursor: Cursor,
    /// The preview is wanted.
    pub has_preview: bool,
    /// Characters in the longest name, for the width of its column.
    pub longest_name: usize,
    /// The smallest and the largest score, for the length of the bars.
    pub scores: [f64; 2],
    /// Number of classes, background left out.
    classes: usize,
    /// The selected case by name: the order may change under it.
    case: Option<CaseId>,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            rows: Vec::new(),
            places: HashMap::new(),
            order: Vec::new(),
            shown: Vec::new(),
            pools: [0; 3],
            sort: (Column::Rank, false),
            filter: String::new(),
            marked: HashSet::new(),
            cursor: Cursor::default(),
            has_preview: true,
            longest_name: 0,
            scores: [0.0; 2],
            classes: 0,
            case: None,
        }
    }
}

impl Queue {
    /// Makes the rows anew.
    pub fn refresh(&mut self, snapshot: &Snapshot) {
        self.rows = snapshot.queue_rows();
        self.places = self.rows.iter().map(|row| row.case.clone()).zip(0..).collect();
        self.marked.retain(|case| snapshot.cases.contains_key(case));
        self.classes = snapshot.settings.labels.0.len();
        self.reorder(snapshot);
    }

    /// Puts the rows into the order of a new ranking.
    pub fn reorder(&mut self, snapshot: &Snapshot) {
        self.order = snapshot.order_of(&self.places);
        self.rank(snapshot);
        self.arrange();
    }

    /// Makes the rows of some cases anew, and ranks what is left.
    pub fn patch(&mut self, snapshot: &Snapshot, cases: &HashSet<CaseId>) {
        let mut changed = HashSet::new();
        for case in cases {
            let Some(row) = snapshot.queue_row(case) else {
                continue;
            };
            let at = *self.places.entry(case.clone()).or_insert(self.rows.len() as u32);
            match self.rows.get_mut(at as usize) {
                Some(old) => *old = row,
                None => self.rows.push(row),
            }
            changed.insert(at);
        }
        self.rank(snapshot);
        // The others stay among each other as they were.
        self.shown.retain(|at| !changed.contains(at));
        for at in self.like(changed.into_iter()) {
            let place = self
                .shown
                .partition_point(|other| self.compare(*other, at).is_lt());
            self.shown.insert(place, at);
        }
        self.find();
    }

    /// Ranks, and measures what the table needs.
    fn rank(&mut self, snapshot: &Snapshot) {
        snapshot.rank(&mut self.rows, &self.order);
        let names = self.rows.iter().map(|row| row.case.as_str().len());
        self.longest_name = names.max().unwrap_or(0);
        let scores = || self.rows.iter().filter_map(|row| row.score);
        self.scores = [
            scores().fold(f64::INFINITY, f64::min),
            scores().fold(0.0, f64::max),
        ];
        self.pools = [0; 3];
        for row in self.rows.iter().filter(|row| !row.is_excluded) {
            let at = match row.pool {
                Pool::Labelled => 0,
                Pool::Unlabelled => 1,
                Pool::HeldOut => 2,
            };
            self.pools[at] += 1;
        }
    }

    /// Those of some rows that are like the filter.
    fn like(&self, rows: impl Iterator<Item = u32>) -> Vec<u32> {
        if self.filter.is_empty() {
            return rows.collect();
        }
        let mut matcher = Matcher::new(Config::DEFAULT);
        let pattern = Pattern::new(
            &self.filter,
            CaseMatching::Smart,
            Normalization::Smart,
            AtomKind::Fuzzy,
        );
        let (mut text, mut letters) = (String::new(), Vec::new());
        rows.filter(|&at| {
            let row = &self.rows[at as usize];
            text.clear();
            text.extend([row.case.as_str(), " ", row.status.word(), " ", row.status.note()]);
            let text = Utf32Str::new(&text, &mut letters);
            pattern.score(text, &mut matcher).is_some()
        })
        .collect()
    }

    /// Which of two rows comes first: what is not known comes last whichever way round, and equals stay by rank and name.
    fn compare(&self, a: u32, b: u32) -> Ordering {
        let (column, reverse) = self.sort;
        let (a, b) = (&self.rows[a as usize], &self.rows[b as usize]);
        compare(column, reverse, a, b)
            .then_with(|| known_first(a.rank, b.rank, false, Ord::cmp))
            .then_with(|| a.case.cmp(&b.case))
    }

    /// Finds out which rows are shown, and their order.
    fn arrange(&mut self) {
        let mut shown = self.like(0..self.rows.len() as u32);
        shown.sort_by(|a, b| self.compare(*a, *b));
        self.shown = shown;
        self.find();
    }

    /// Finds the selected case among the rows shown; another one takes its place where it is not.
    fn find(&mut self) {
        let at = self.case.as_ref().and_then(|case| {
            let place = self.places.get(case)?;
            self.shown.iter().position(|at| at == place)
        });
        if let Some(at) = at {
            self.cursor.selected = at;
        }
        self.step(0);
    }

    /// Brings the selected row into the window.
    pub fn settle(&mut self, page: usize) {
        self.cursor.settle(self.shown.len(), page);
    }

    /// Moves the selection by `steps`.
    fn step(&mut self, steps: isize) {
        self.cursor.step(steps, self.shown.len());
        self.case = self.selected().map(|row| row.case.clone());
    }

    /// Selects a case, where it is shown.
    pub fn select(&mut self, case: &CaseId) {
        self.case = Some(case.clone());
        self.find();
    }

    /// Selects the row on a line of the window.
    pub fn click(&mut self, line: usize) {
        let at = self.cursor.offset + line;
        if at < self.shown.len() {
            self.cursor.selected = at;
            self.step(0);
        }
    }

    /// Moves around the end.
    fn turn(&mut self, steps: isize) {
        let len = self.shown.len() as isize;
        if len > 0 {
            self.cursor.selected = (self.cursor.selected as isize + steps).rem_euclid(len) as usize;
            self.step(0);
        }
    }

    /// Moves the selection, or changes what is shown; `page` is the height of the list.
    pub fn act(&mut self, action: Action, count: Option<usize>, page: usize) {
        let times = count.unwrap_or(1) as isize;
        match action {
            Action::NextCase => self.step(times),
            Action::PreviousCase => self.step(-times),
            Action::PageDown => self.step(times * page as isize),
            Action::PageUp => self.step(-times * page as isize),
            Action::FirstCase => self.step(isize::MIN),
            // `10G` is the tenth line, as everywhere.
            Action::LastCase => {
                self.cursor.selected = 0;
                self.step(count.map_or(isize::MAX, |line| line as isize - 1));
            }
            Action::NextMatch => self.turn(times),
            Action::PreviousMatch => self.turn(-times),
            Action::SortNext => self.sort_by(times),
            Action::SortPrevious => self.sort_by(-times),
            Action::SortReverse => {
                self.sort.1 = !self.sort.1;
                self.arrange();
            }
            Action::ToggleMark => {
                if let Some(case) = self.selected().map(|row| row.case.clone()) {
                    if !self.marked.remove(&case) {
                        self.marked.insert(case);
                    }
                    self.step(1);
                }
            }
            Action::MarkAll => {
                let rows = self.window(0..self.shown.len());
                let shown: HashSet<CaseId> = rows.map(|(_, row)| row.case.clone()).collect();
                if shown.is_subset(&self.marked) {
                    self.marked.retain(|case| !shown.contains(case));
                } else {
                    self.marked.extend(shown);
                }
            }
            Action::TogglePreview => self.has_preview = !self.has_preview,
            _ => {}
        }
    }

    /// Every column, in the order of the table.
    pub fn columns(&self) -> Vec<Column> {
        let mut columns = vec![
            Column::Rank,
            Column::Case,
            Column::Score,
            Column::Status,
            Column::Expected,
        ];
        columns.extend((0..self.classes).map(Column::Volume));
        columns.extend([Column::VolumeModel, Column::Saved]);
        columns.extend((0..self.classes).map(Column::ClassSaved));
        columns.push(Column::Age);
        columns
    }

    fn sort_by(&mut self, steps: isize) {
        let columns = self.columns();
        let at = columns
            .iter()
            .position(|column| *column == self.sort.0)
            .unwrap_or(0);
        let next = (at as isize + steps).rem_euclid(columns.len() as isize) as usize;
        self.sort = (columns[next], false);
        self.arrange();
    }

    /// Shows only the rows that are like `text`.
    pub fn filter(&mut self, text: &str) {
        if self.filter != text {
            self.filter = text.to_string();
            self.arrange();
        }
    }

    /// Shows one kind of narrowing less: the filter, then the marks; whether there was one.
    pub fn widen(&mut self) -> bool {
        if !self.filter.is_empty() {
            self.filter("");
            return true;
        }
        self.unmark()
    }

    /// Takes every mark away; whether there was one.
    pub fn unmark(&mut self) -> bool {
        let had = !self.marked.is_empty();
        self.marked.clear();
        had
    }

    /// Rows shown.
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Rows in all.
    pub fn all(&self) -> usize {
        self.rows.len()
    }

    /// Cases marked.
    pub fn marked(&self) -> usize {
        self.marked.len()
    }

    /// Whether a case is marked.
    pub fn is_marked(&self, case: &CaseId) -> bool {
        self.marked.contains(case)
    }

    /// Some of the rows shown, each with its place.
    pub fn window(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = (usize, &QueueRow)> {
        range.map(|at| (at, &self.rows[self.shown[at] as usize]))
    }

    /// The row that keys act on where none is marked.
    pub fn selected(&self) -> Option<&QueueRow> {
        self.shown
            .get(self.cursor.selected)
            .map(|&at| &self.rows[at as usize])
    }

    /// The cases that keys act on: the marked ones in the order shown, otherwise the selected one.
    pub fn chosen(&self) -> Vec<CaseId> {
        if self.marked.is_empty() {
            return self.selected().map(|row| row.case.clone()).into_iter().collect();
        }
        let shown = self.shown.iter().map(|&at| &self.rows[at as usize].case);
        let mut chosen: Vec<CaseId> = shown.filter(|case| self.marked.contains(case)).cloned().collect();
        // Those that the filter hides come last, by name.
        let seen: HashSet<&CaseId> = chosen.iter().collect();
        let mut hidden: Vec<CaseId> = self
            .marked
            .iter()
            .filter(|case| !seen.contains(case))
            .cloned()
            .collect();
        hidden.sort_unstable();
        chosen.append(&mut hidden);
        chosen
    }
}

fn known_first<T>(a: Option<T>, b: Option<T>, reverse: bool, by: impl Fn(&T, &T) -> Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if reverse => by(&b, &a),
        (Some(a), Some(b)) => by(&a, &b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

fn compare(column: Column, reverse: bool, a: &QueueRow, b: &QueueRow) -> Ordering {
    let number = |of: fn(&QueueRow, usize) -> Option<f64>, at: usize| {
        known_first(of(a, at), of(b, at), reverse, f64::total_cmp)
    };
    match column {
        Column::Rank => {
            // Ranked cases, the other unlabelled ones, the rest.
            let place = |row: &QueueRow| (row.rank.is_none(), row.pool != Pool::Unlabelled);
            place(a)
                .cmp(&place(b))
                .then_with(|| known_first(a.rank, b.rank, reverse, Ord::cmp))
        }
        Column::Case => known_first(Some(&a.case), Some(&b.case), reverse, Ord::cmp),
        Column::Score => number(|row, _| row.score, 0),
        Column::Status => known_first(Some(a.status.word()), Some(b.status.word()), reverse, Ord::cmp),
        Column::Expected => number(|row, _| row.expected_effort, 0),
        Column::Volume(class) => number(|row, class| row.class_ml.get(class).copied(), class),
        Column::VolumeModel => known_first(a.volume_model, b.volume_model, reverse, Ord::cmp),
        Column::Saved => number(|row, _| row.mean_saved_effort(), 0),
        Column::ClassSaved(class) => {
            number(|row, class| row.saved_effort.get(class).copied().flatten(), class)
        }
        // The youngest first.
        Column::Age => known_first(Some(a.added_at), Some(b.added_at), !reverse, Ord::cmp),
    }
}
