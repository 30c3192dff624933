//! Tables for people. No score is shown without the model that gave it.

mod experiment;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::HumanBytes;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};

use crate::protocol::{EngineStatus, QueueRow, Snapshot, Space, Status};
use crate::records::{
    BenchRow, ClassEffort, Correction, Entry, Machine, Model, Pool, Round, mean_of_known, printable,
};
use crate::settings::{Pixels, Strategy};
pub use experiment::experiment;

/// A number between 0 and 1 as a percentage, or n/a.
pub fn percent(value: Option<f64>) -> String {
    value.map_or("n/a".into(), |value| format!("{:.2}", value * 100.0))
}

/// A moment in local time, to the minute.
pub fn moment(at: Timestamp) -> String {
    at.to_zoned_datetime(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M")
        .to_string()
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// A count with its thousands apart: 31,030,788.
fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn table(header: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>, text_columns: &[usize]) -> Table {
    let mut table = Table::new();
    let columns = header.len();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
    }
    for column in (0..columns).filter(|column| !text_columns.contains(column)) {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// What the scores of the queue are, and who gave them.
pub fn score_words(snapshot: &Snapshot) -> String {
    let Some(ranking) = snapshot.ranking() else {
        return "not ranked yet".into();
    };
    let over = if ranking.pixels == Pixels::Foreground {
        " over foreground"
    } else {
        ""
    };
    let Some(model) = ranking.model else {
        let why = if snapshot.project.model.is_none() {
            ": there is no model to rank by yet"
        } else {
            ""
        };
        return format!("a seeded random order{why}");
    };
    let name = ranking.strategy.words();
    let order = match ranking.strategy {
        Strategy::AverageBvsb => " (lowest is asked first)",
        Strategy::Entropy | Strategy::Disagreement => " in nats (highest is asked first)",
        Strategy::ClassStratified | Strategy::ForegroundRandom | Strategy::Random => "",
    };
    let stale = match snapshot.project.model {
        Some(current) if snapshot.ranking_is_stale() => {
            format!("; STALE: the current model is {current}, `overtrace rank` ranks anew")
        }
        _ => String::new(),
    };
    format!("{name}{order}{over} by model {model}{stale}")
}

/// The queue.
pub fn queue(snapshot: &Snapshot, rows: &[QueueRow]) -> String {
    let labels = &snapshot.settings.labels;
    let mut header: Vec<String> = ["rank", "case", "score", "status", "since"]
        .into_iter()
        .map(String::from)
        .collect();
    let mut members: Vec<&String> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.member_bvsb) {
        if !members.contains(&name) {
            members.push(name);
        }
    }
    header.extend(members.iter().map(|name| format!("{name} BvSB")));
    header.extend(labels.names().map(|name| format!("{name} ml")));
    header.push("by".into());
    header.extend(labels.names().map(|name| format!("{name} saved %")));
    let lines = rows.iter().map(|row| {
        let (status, since) = match &row.status {
            Status::Out { owner, since } => (format!("out: {owner}"), moment(*since)),
            Status::Held { code } => (format!("held: {code}"), String::new()),
            Status::InInbox { why } | Status::Excluded { why } => {
                (format!("{}: {why}", row.status.word()), String::new())
            }
            status => (status.word().to_string(), moment(row.added_at)),
        };
        let mut line = vec![
            row.rank.map_or(String::new(), |rank| rank.to_string()),
            row.case.to_string(),
            row.score.map_or(String::new(), |score| format!("{score:.6}")),
            status,
            since,
        ];
        line.extend(members.iter().map(|member| {
            let own = row.member_bvsb.iter().find(|(name, _)| name == *member);
            own.map_or(String::new(), |(_, score)| format!("{score:.6}"))
        }));
        let classes = labels.0.len();
        let cells = |values: &[String]| {
            let mut cells = values.to_vec();
            cells.resize(classes, String::new());
            cells
        };
        line.extend(cells(
            &row.class_ml
                .iter()
                .map(|ml| format!("{ml:.1}"))
                .collect::<Vec<_>>(),
        ));
        line.push(row.volume_model.map_or(String::new(), |model| model.to_string()));
        line.extend(cells(
            &row.saved_effort
                .iter()
                .map(|saved| percent(*saved))
                .collect::<Vec<_>>(),
        ));
        line
    });
    format!(
        "Scores: {}\n\n{}",
        score_words(snapshot),
        table(header, lines, &[1, 3, 4])
    )
}

/// The rounds.
pub fn rounds(snapshot: &Snapshot) -> String {
    let labels = &snapshot.settings.labels;
    let mut header: Vec<String> = ["round", "state", "asked", "back", "labelled", "model"]
        .into_iter()
        .map(String::from)
        .collect();
    header.extend(labels.names().map(|name| format!("{name} Dice %")));
    header.push("mean".into());
    header.extend(labels.names().map(|name| format!("{name} saved %")));
    let has_control = !snapshot.control.is_empty();
    header.extend(has_control.then(|| "control (labelled)".into()));
    header.extend(["training", "predicting"].map(String::from));
    let lines = snapshot.rounds.values().map(|round: &Round| {
        let mut line = vec![
            round.id.to_string(),
            round.state.word().to_string(),
            round.queried.len().to_string(),
            round.returned.to_string(),
            round.labelled.to_string(),
            round.model.map_or(String::new(), |model| model.to_string()),
        ];
        let dice = &round.held_out_dice;
        line.extend(
            (0..labels.0.len()).map(|class| dice.get(class).map_or(String::new(), |&dice| percent(dice))),
        );
        line.push(mean_of_known(dice.iter().copied()).map_or(String::new(), |mean| percent(Some(mean))));
        line.extend(saved(&round.effort, labels.0.len()));
        let control = snapshot.control_of(round).map_or_else(String::new, |control| {
            let mean = control.mean_dice();
            format!("{} ({})", percent(mean), control.labelled)
        });
        line.extend(has_control.then_some(control));
        line.extend([duration(round.training_s), duration(round.predicting_s)]);
        line
    });
    table(header, lines, &[1]).to_string()
}

fn saved(effort: &[ClassEffort], classes: usize) -> Vec<String> {
    (0..classes)
        .map(|class| {
            effort
                .get(class)
                .map_or(String::new(), |effort| percent(effort.saved()))
        })
        .collect()
}

/// The corrections.
pub fn corrections(snapshot: &Snapshot) -> String {
    let labels = &snapshot.settings.labels;
    let mut header: Vec<String> = ["correction", "case", "who", "at", "drawn by"]
        .into_iter()
        .map(String::from)
        .collect();
    header.extend(labels.names().map(|name| format!("{name} saved %")));
    header.extend(
        [
            "to draw mm",
            "to erase px",
            "mean Dice %",
            "turnaround",
            "minutes",
            "notes",
        ]
        .map(String::from),
    );
    let text = [1, 2, 3, header.len() - 1];
    let lines = snapshot.corrections.values().map(|correction: &Correction| {
        let mut line = vec![
            correction.id.to_string(),
            correction.case.to_string(),
            correction.who.clone(),
            moment(correction.at),
            correction
                .model
                .map_or("nobody".into(), |model| model.to_string()),
        ];
        let effort = &correction.effort;
        if effort.is_empty() {
            line.extend(labels.0.iter().map(|_| "n/a".to_string()));
            line.extend(["n/a"; 3].map(String::from));
        } else {
            line.extend(saved(effort, labels.0.len()));
            line.push(format!(
                "{:.0}",
                effort.iter().map(|class| class.added_path_mm).sum::<f64>()
            ));
            line.push(
                effort
                    .iter()
                    .map(|class| class.erased_px)
                    .sum::<u64>()
                    .to_string(),
            );
            line.push(percent(mean_of_known(effort.iter().map(|class| class.dice))));
        }
        line.push(correction.turnaround_s.map_or("n/a".into(), duration));
        line.push(
            correction
                .minutes
                .map_or(String::new(), |minutes| format!("{minutes}")),
        );
        let reading = correction.agreement.as_ref().map(|agreement| {
            format!(
                "beside {}: Dice {} %, contour {} %",
                agreement.with,
                percent(agreement.dice()),
                percent(agreement.contour())
            )
        });
        let trains = snapshot.trains(correction).then(|| "trains".to_string());
        let notes = trains
            .into_iter()
            .chain(reading)
            .chain(correction.notes.iter().cloned());
        line.push(notes.collect::<Vec<_>>().join("; "));
        line
    });
    table(header, lines, &text).to_string()
}

/// The models.
pub fn models(snapshot: &Snapshot) -> String {
    let header = [
        "model",
        "from",
        "round",
        "parameters",
        "trained on",
        "epochs",
        "best",
        "seconds",
        "validation Dice %",
        "made",
    ];
    let lines = snapshot.models.values().map(|model: &Model| {
        let current = if snapshot.project.model == Some(model.id) {
            " (current)"
        } else {
            ""
        };
        let round = match model.origin {
            crate::records::ModelOrigin::Round(round) => round.to_string(),
            crate::records::ModelOrigin::Imported => "imported".into(),
        };
        vec![
            format!("{}{current}", model.id),
            model.parent.map_or("scratch".into(), |parent| parent.to_string()),
            round,
            thousands(model.parameters),
            format!("{} cases", model.trained_cases),
            model.epochs.to_string(),
            model.best_epoch.to_string(),
            format!("{:.1}", model.seconds),
            percent(mean_of_known(model.validation_dice.iter().copied())),
            moment(model.at),
        ]
    });
    table(header.map(String::from).to_vec(), lines, &[0, 1, 2]).to_string()
}

/// The audit trail.
pub fn journal(entries: &[Entry]) -> String {
    let header = ["entry", "at (UTC)", "who", "what", "why", "rows"];
    let lines = entries.iter().map(|entry| {
        let at = entry
            .at
            .round(Unit::Second)
            .map_or_else(|_| entry.at.to_string(), |at| at.to_string());
        vec![
            entry.seq.to_string(),
            at,
            entry.who.clone(),
            entry.what.words(),
            entry.why.clone().unwrap_or_default(),
            entry.rows.len().to_string(),
        ]
    });
    table(header.map(String::from).to_vec(), lines, &[1, 2, 3, 4]).to_string()
}

/// How much room a project takes.
pub fn space(space: &Space) -> String {
    let free = space
        .free
        .map_or_else(|| "unknown".to_string(), |free| HumanBytes(free).to_string());
    format!(
        "disk        {} of blobs, {} of journal and index, {} in the inbox, {} handed out; {free} free",
        HumanBytes(space.blobs),
        HumanBytes(space.journal + space.index),
        HumanBytes(space.inbox),
        HumanBytes(space.handouts),
    )
}

/// Which engine runs, who is attached, and what it is at.
pub fn engine(engine: &EngineStatus, snapshot: &Snapshot) -> String {
    let mut lines = vec![
        format!(
            "engine      pid {}, overtrace {}, since {}{}",
            engine.pid,
            engine.version,
            engine.since.strftime("%F %T UTC"),
            if engine.stays { "" } else { ", of another surface" }
        ),
        format!(
            "project     {}",
            printable(&snapshot.folder.display().to_string())
        ),
        format!("at work     {}", snapshot.activity.stage.word()),
    ];
    for attached in &engine.attached {
        let pid = attached
            .pid
            .map_or_else(String::new, |pid| format!(", pid {pid}"));
        lines.push(format!(
            "attached    {}{pid}, since {}",
            printable(&attached.who),
            attached.since.strftime("%F %T UTC")
        ));
    }
    lines.join("\n")
}

/// Pools, the current model, the open round, and what waits.
pub fn status(snapshot: &Snapshot) -> String {
    let count = |pool| {
        snapshot
            .cases
            .values()
            .filter(|case| case.pool == pool && case.excluded.is_none())
            .count()
    };
    let excluded = snapshot
        .cases
        .values()
        .filter(|case| case.excluded.is_some())
        .count();
    let mut lines = vec![
        format!(
            "project     {}",
            printable(&snapshot.folder.display().to_string())
        ),
        format!(
            "pools       {} labelled, {} unlabelled, {} held out{}",
            count(Pool::Labelled),
            count(Pool::Unlabelled),
            count(Pool::HeldOut),
            if excluded > 0 {
                format!(", {excluded} excluded")
            } else {
                String::new()
            }
        ),
    ];
    let model = snapshot.project.model.and_then(|id| snapshot.models.get(&id));
    lines.push(format!(
        "model       {}",
        model.map_or("none yet".into(), |model| format!(
            "{}, trained on {} cases",
            model.id, model.trained_cases
        ))
    ));
    lines.push(format!("ranking     {}", score_words(snapshot)));
    lines.push(match (snapshot.open_round(), snapshot.rounds.len()) {
        (Some(round), _) => format!(
            "round       {} is {}; {} of {} cases are back",
            round.id,
            round.state.word(),
            round.returned,
            round.queried.len()
        ),
        (None, n) => format!("round       none open, {n} before"),
    });
    for case in snapshot.cases.values() {
        if let Some(handout) = case.handout.and_then(|id| snapshot.handouts.get(&id)) {
            lines.push(format!(
                "out         {} with {} since {}; wanted back: {}",
                case.id,
                printable(&handout.owner),
                moment(handout.at),
                handout.reply_name
            ));
        }
    }
    for held in snapshot.waiting() {
        lines.push(format!(
            "held        {} {}: {} {}",
            held.id,
            held.name,
            held.code,
            printable(&held.words)
        ));
    }
    if let Some(why) = &snapshot.project.satisfied {
        lines.push(format!(
            "loop        ended, performance satisfactory: {}",
            printable(why)
        ));
    }
    lines.join("\n")
}

/// The head of the bench's lines, which are printed one by one.
pub fn bench_head() -> String {
    format!(
        "{:<32} {:>5} {:>6} {:>5} {:>5} {:>10} {:>10} {:>10} {:>9}",
        "what", "base", "batch", "in", "runs", "median ms", "least", "most", "GFLOP/s"
    )
}

/// One thing that was timed.
pub fn bench_row(row: &BenchRow) -> String {
    let number = |n: Option<usize>| n.map_or(String::new(), |n| n.to_string());
    let [median_s, least_s, most_s] = row.spread_s();
    let rate = row
        .flop
        .map_or(String::new(), |flop| format!("{:.0}", flop / median_s / 1e9));
    format!(
        "{:<32} {:>5} {:>6} {:>5} {:>5} {:>10.1} {:>10.1} {:>10.1} {rate:>9}",
        row.what,
        number(row.base_channels),
        number(row.batch),
        row.precision
            .map_or(String::new(), |precision| precision.to_string()),
        row.seconds.len(),
        median_s * 1e3,
        least_s * 1e3,
        most_s * 1e3,
    )
}

/// What was timed on.
pub fn machine(machine: &Machine) -> String {
    format!(
        "{}; medians, warmed up but for a volume on the CPU",
        printable(&machine.to_string())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_percentages_read_as_people_say_them() {
        assert_eq!(
            [0.25, 61.0, 3_700.0, 90_000.0].map(duration),
            ["0.2 s", "1 min 01 s", "1 h 01 min", "1 d 1 h"]
        );
        assert_eq!(
            (percent(Some(0.5)), percent(None)),
            ("50.00".to_string(), "n/a".to_string())
        );
    }

    #[test]
    fn a_name_with_an_escape_is_printed_without_it() {
        let text = table(vec!["who".into()], [vec!["a\u{1b}[31m".to_string()]], &[0]).to_string();
        assert!(text.contains("a\u{fffd}[31m") && !text.contains('\u{1b}'));
    }
}
