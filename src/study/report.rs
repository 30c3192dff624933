//! The outcome for people (one HTML page that needs nothing else) and for other programs (CSV).

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::paper::{IBSR18_EFFORT, IBSR18_FULL, MRBRAINS18_EFFORT, MRBRAINS18_FULL, POOL_NEEDED, caveat};
use super::{Chart, Kind, Line, MAJORITY, Outcome, QueryStrategy, Summary, System, svg};
use crate::records::{CaseId, mean_of_known};

/// Every round of every run, a line each, with a header; Dice and saved effort in 0 to 1, empty where unknown. The effort is that of
/// the cases that were asked for; with everything labelled, of those that were measured on.
pub fn csv(outcome: &Outcome) -> String {
    let names: Vec<String> = outcome.experiment.settings.labels.names().map(quoted).collect();
    let mut header = vec![
        "run", "fold", "seed", "system", "strategy", "labelled", "fraction",
    ]
    .into_iter()
    .map(String::from)
    .collect::<Vec<_>>();
    header.extend(names.iter().map(|name| format!("dice {name}").replace('"', "")));
    header.push("mean dice".into());
    header.extend(names.iter().map(|name| format!("saved {name}").replace('"', "")));
    header.extend(["training_s", "predicting_s", "asked"].map(String::from));
    let caveat = caveat(&outcome.experiment);
    header.extend(caveat.map(|_| "caveat".into()));
    let mut text = header
        .iter()
        .map(|cell| quoted(cell))
        .collect::<Vec<_>>()
        .join(",")
        + "\n";
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.6}"));
    for run in &outcome.runs {
        for point in &run.points {
            let effort = match point.effort.is_empty() && point.asked.is_empty() {
                true => &run.held_out_effort,
                false => &point.effort,
            };
            let mut cells = vec![
                quoted(&run.name),
                run.fold.to_string(),
                run.seed.to_string(),
                run.system.to_string(),
                run.strategy.to_string(),
                point.labelled.to_string(),
                format!("{:.6}", point.fraction),
            ];
            cells.extend((0..names.len()).map(|class| number(point.dice.get(class).copied().flatten())));
            cells.push(number(point.mean_dice()));
            cells.extend((0..names.len()).map(|class| number(effort.get(class).and_then(|one| one.saved()))));
            cells.push(format!("{:.3}", point.training_s));
            cells.push(format!("{:.3}", point.predicting_s));
            let asked: Vec<&str> = point.asked.iter().map(|case| case.as_str()).collect();
            cells.push(quoted(&asked.join(" ")));
            cells.extend(caveat.map(|(_, short)| quoted(short)));
            text += &(cells.join(",") + "\n");
        }
    }
    text
}

/// A cell, in quotes where it needs them.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_string(),
    }
}

/// The charts of an outcome, each with the name of its file.
pub fn charts(outcome: &Outcome, summary: &Summary) -> Vec<(String, Chart)> {
    let mut charts = Vec::new();
    if !summary.curves.is_empty() {
        let lines = summary.curves.iter().map(|curve| Line {
            name: outcome.experiment.words_of(curve.system, curve.strategy),
            points: curve
                .spots
                .iter()
                .map(|spot| (100.0 * spot.fraction, 100.0 * spot.dice, 100.0 * spot.spread))
                .collect(),
        });
        charts.push((
            "pool".to_string(),
            Chart {
                title: "Held-out Dice by the share of the cases that is labelled (as the paper's Fig. 8)"
                    .into(),
                x: "share of the cases that is labelled, %".into(),
                y: "mean Dice, %".into(),
                lines: lines.collect(),
            },
        ));
    }
    let of_system = |system: System| match outcome.experiment.systems.len() {
        1 => String::new(),
        _ => format!("-{system}"),
    };
    let names: Vec<&str> = outcome.experiment.settings.labels.names().collect();
    // Of every system the first run that learnt.
    let learnt = outcome.experiment.systems.iter().filter_map(|system| {
        let mut runs = outcome.runs.iter().filter(|run| run.system == *system);
        runs.find(|run| !run.curve.is_empty() && outcome.experiment.kind == Kind::Full)
    });
    for run in learnt {
        let lines = names.iter().enumerate().map(|(class, name)| Line {
            name: (*name).to_string(),
            points: run
                .curve
                .iter()
                .filter_map(|epoch| {
                    Some((
                        epoch.epoch as f64,
                        100.0 * epoch.dice.get(class).copied().flatten()?,
                        0.0,
                    ))
                })
                .collect(),
        });
        charts.push((
            format!("learning{}", of_system(run.system)),
            Chart {
                title: format!("Validation Dice by epoch, {} (as the paper's Fig. 9)", run.name),
                x: "epoch".into(),
                y: "Dice, %".into(),
                lines: lines.collect(),
            },
        ));
    }
    for effort in &summary.efforts {
        let lines = names.iter().zip(&effort.saved).map(|(name, iterations)| Line {
            name: (*name).to_string(),
            points: (1..)
                .zip(iterations)
                .filter_map(|(n, saved)| Some((f64::from(n), 100.0 * (*saved)?, 0.0)))
                .collect(),
        });
        charts.push((
            format!("effort{}-{}", of_system(effort.system), effort.strategy),
            Chart {
                title: format!(
                    "Saved effort by iteration, asked for by {}",
                    outcome.experiment.words_of(effort.system, effort.strategy)
                ),
                x: "iteration".into(),
                y: "saved effort, %".into(),
                lines: lines.collect(),
            },
        ));
    }
    if let Some((_, short)) = caveat(&outcome.experiment) {
        for (_, chart) in &mut charts {
            chart.x += &format!(" ({short})");
        }
    }
    charts
}

/// One page: the answers, the charts, the paper's figures beside ours, and what it all was made from.
///
/// * `pictures`: names of cases, and their pictures as PNG files
pub fn html(outcome: &Outcome, summary: &Summary, pictures: &[(String, Vec<u8>)]) -> String {
    let mut page = String::from(HEAD);
    let experiment = &outcome.experiment;
    let names: Vec<&str> = experiment.settings.labels.names().collect();
    let title = match experiment.kind {
        Kind::Full => "Everything labelled",
        Kind::Query => "Which cases to ask for",
        Kind::Effort => "How much need not be drawn",
    };
    put(&mut page, &format!("<h1>{title}</h1>"));
    put(
        &mut page,
        &format!(
            "<p>{} cases, {} runs done. {}</p>",
            experiment.cases.len(),
            outcome.runs.len(),
            summary
                .caveat
                .as_deref()
                .unwrap_or("Figures of the paper, of its own cases, stand beside ours for orientation.")
        ),
    );
    if !summary.full.is_empty() {
        put(
            &mut page,
            "<h2>With everything labelled: Dice and saved effort, %</h2>",
        );
        let ours = summary.full.iter().map(|full| {
            let method = format!("overtrace, {}", full.system);
            let saved = [&full.saved[..], &full.near_saved[..]].concat();
            let mut cells = row(&method, &full.dice, full.mean, &saved, full.seconds_a_case);
            cells[1 + full.dice.len()] += &full.spread_words();
            cells
        });
        let mut rows: Vec<Vec<String>> = ours.collect();
        let saved: Vec<String> = match summary.full.iter().any(|full| !full.saved.is_empty()) {
            true => {
                let each = |what: &str| {
                    names
                        .iter()
                        .map(move |name| format!("{name} {what}"))
                        .collect::<Vec<_>>()
                };
                [each("saved"), each("within a pixel")].concat()
            }
            false => Vec::new(),
        };
        let unknown = vec![None; saved.len()];
        if !summary.majority_dice.is_empty() {
            let mean = mean_of_known(summary.majority_dice.iter().copied());
            rows.push(row(MAJORITY, &summary.majority_dice, mean, &unknown, None));
        }
        if names == ["CSF", "GM", "WM"] {
            rows.extend(IBSR18_FULL.iter().map(|(method, dice, seconds)| {
                let known: Vec<Option<f64>> = dice[..3].iter().map(|dice| Some(dice / 100.0)).collect();
                row(method, &known, Some(dice[3] / 100.0), &unknown, Some(*seconds))
            }));
            rows.extend(MRBRAINS18_FULL.iter().map(|(method, dice)| {
                let known: Vec<Option<f64>> = dice[..3].iter().map(|dice| Some(dice / 100.0)).collect();
                row(method, &known, Some(dice[3] / 100.0), &unknown, None)
            }));
        }
        let mut header = vec!["method"];
        header.extend(&names);
        header.push("average");
        header.extend(saved.iter().map(String::as_str));
        header.push("seconds a volume");
        put(&mut page, &table(&header, &rows));
    }
    if !summary.curves.is_empty() {
        put(
            &mut page,
            "<h2>Asking: the share that is enough, and the area under the curve</h2>",
        );
        let rows: Vec<Vec<String>> = summary
            .curves
            .iter()
            .map(|curve| {
                let paired = summary.paired_of(curve);
                vec![
                    experiment.words_of(curve.system, curve.strategy),
                    percent(curve.enough_at),
                    percent(curve.area),
                    paired.map_or_else(String::new, |paired| {
                        format!(
                            "{:+.2} [{:+.2}, {:+.2}], {} pairs",
                            100.0 * paired.area.mean,
                            100.0 * paired.area.low,
                            100.0 * paired.area.high,
                            paired.area.pairs
                        )
                    }),
                ]
            })
            .collect();
        let header = [
            "asked for by",
            "99 % of all labelled at, % of the cases",
            "area, % Dice",
            "area less random's, 95 % interval",
        ];
        put(&mut page, &table(&header, &rows));
        put(
            &mut page,
            &format!(
                "<p>The paper reaches what everything labelled gives at {POOL_NEEDED:.0} % of its pool.</p>"
            ),
        );
    }
    for effort in &summary.efforts {
        let iterations = effort.saved.iter().map(Vec::len).max().unwrap_or(0);
        if iterations == 0 {
            continue;
        }
        put(
            &mut page,
            &format!(
                "<h2>Saved effort, %, asked for by {}</h2>",
                experiment.words_of(effort.system, effort.strategy)
            ),
        );
        let mut header = vec!["class".to_string()];
        header.extend((1..=iterations).map(|n| format!("iteration {n}")));
        let (paper, title) = match experiment.start {
            0 => (
                MRBRAINS18_EFFORT,
                "paper, MRBrainS18 from no label, iterations 1 to 3; mean",
            ),
            _ => (
                IBSR18_EFFORT,
                "paper, IBSR18 from 2 cases, iterations 1 to 4; mean",
            ),
        };
        header.extend(["mean", "mean within a pixel", title].map(String::from));
        let rows: Vec<Vec<String>> = names
            .iter()
            .enumerate()
            .map(|(class, name)| {
                let mut cells = vec![escaped(name)];
                cells.extend(effort.saved[class].iter().map(|saved| percent(*saved)));
                cells.push(percent(effort.mean[class]));
                cells.push(percent(effort.near_mean[class]));
                let paper = paper.iter().find(|(known, ..)| known == name);
                cells.push(paper.map_or_else(String::new, |(_, saved, mean)| {
                    let each: Vec<String> = saved.iter().map(|saved| format!("{saved:.2}")).collect();
                    format!("{}; {mean:.2}", each.join(", "))
                }));
                cells
            })
            .collect();
        put(
            &mut page,
            &table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &rows),
        );
    }
    for (_, chart) in charts(outcome, summary) {
        if let Some(svg) = svg(&chart) {
            put(&mut page, &format!("<figure>{svg}</figure>"));
        }
    }
    asked(&mut page, outcome);
    if !pictures.is_empty() {
        put(
            &mut page,
            "<h2>Image, labels, what was drawn, how sure (white) that is (as the paper's Fig. 10)</h2>",
        );
    }
    for (name, png) in pictures {
        let (name, data) = (escaped(name), STANDARD.encode(png));
        put(
            &mut page,
            &format!(
                "<figure><img alt=\"{name}\" src=\"data:image/png;base64,{data}\"><figcaption>{name}</figcaption></figure>"
            ),
        );
    }
    put(&mut page, "<h2>Runs</h2>");
    let rows: Vec<Vec<String>> = outcome
        .runs
        .iter()
        .map(|run| {
            let last = run.points.last();
            vec![
                escaped(&run.name),
                run.points.len().to_string(),
                last.map_or_else(String::new, |point| point.labelled.to_string()),
                percent(last.and_then(super::Point::mean_dice)),
                percent(mean_of_known(run.points.iter().map(super::Point::mean_dice))),
                format!(
                    "{:.0}",
                    run.points
                        .iter()
                        .map(|point| point.training_s + point.predicting_s)
                        .sum::<f64>()
                ),
                run.held.to_string(),
            ]
        })
        .collect();
    let header = [
        "run",
        "rounds",
        "labelled at last",
        "Dice at last",
        "Dice, mean of rounds",
        "seconds",
        "held and accepted",
    ];
    put(&mut page, &table(&header, &rows));
    put(&mut page, "<h2>Made from</h2>");
    let machines: Vec<String> = outcome
        .machines
        .iter()
        .map(|machine| machine.to_string())
        .collect();
    let made = format!(
        "overtrace {}, {}\n\n{}",
        outcome.version,
        machines.join("; then "),
        toml::to_string(&experiment.settings).unwrap_or_default()
    );
    put(&mut page, &format!("<pre>{}</pre>", escaped(&made)));
    let weights = outcome.weights.iter().map(|hash| format!("weights {hash}"));
    let files = outcome
        .files
        .iter()
        .map(|(case, hashes)| format!("{case} {}", hashes.join(" ")));
    let files: Vec<String> = weights.chain(files).collect();
    put(
        &mut page,
        &format!(
            "<details><summary>BLAKE3 of the files</summary><pre>{}</pre></details>",
            escaped(&files.join("\n"))
        ),
    );
    page + "</body></html>\n"
}

/// Which cases each system finds worth annotating, in its order: they differ from model to model (the paper's section 3.4).
fn asked(page: &mut String, outcome: &Outcome) {
    let experiment = &outcome.experiment;
    let rows = outcome
        .runs
        .iter()
        .filter(|run| run.strategy != QueryStrategy::RANDOM);
    let rows = rows.filter_map(|run| {
        let cases: Vec<&str> = run
            .points
            .iter()
            .flat_map(|point| &point.asked)
            .map(CaseId::as_str)
            .collect();
        let who = experiment.words_of(run.system, run.strategy);
        let numbers = [run.fold.to_string(), run.seed.to_string()];
        (!cases.is_empty()).then(|| {
            [
                vec![escaped(&who)],
                numbers.to_vec(),
                vec![escaped(&cases.join(", "))],
            ]
            .concat()
        })
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    // Those that began with the same cases beside each other.
    rows.sort_by(|a, b| a[1..3].cmp(&b[1..3]));
    if experiment.kind == Kind::Query && !rows.is_empty() {
        put(page, "<h2>Worth annotating: the cases asked for, in order</h2>");
        put(page, &table(&["asked for by", "fold", "seed", "cases"], &rows));
    }
}

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>overtrace: an experiment</title>\n\
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}\n\
table{border-collapse:collapse;margin:1em 0}td,th{border-bottom:1px solid #ccc;padding:.25em .8em;text-align:right}\n\
td:first-child,th:first-child{text-align:left}figure{margin:1.5em 0}svg,img{max-width:100%;height:auto}\n\
pre{background:#f5f5f5;padding:1em;overflow-x:auto}</style></head><body>\n";

fn put(page: &mut String, words: &str) {
    writeln!(page, "{words}").expect("a String takes every write");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "n/a".into(), |share| format!("{:.2}", 100.0 * share))
}

fn row(
    method: &str,
    dice: &[Option<f64>],
    mean: Option<f64>,
    saved: &[Option<f64>],
    seconds: Option<f64>,
) -> Vec<String> {
    let mut cells = vec![escaped(method)];
    cells.extend(dice.iter().map(|dice| percent(*dice)));
    cells.push(percent(mean));
    cells.extend(saved.iter().map(|saved| percent(*saved)));
    cells.push(seconds.map_or_else(|| "n/a".into(), |seconds| format!("{seconds:.1}")));
    cells
}

/// A table of cells that are HTML already, under a header that is text.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        let cells: String = cells.map(|cell| format!("<{tag}>{cell}</{tag}>")).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let mut text = String::from("<table>\n");
    text += &cells("th", &mut header.iter().map(|cell| escaped(cell)));
    for row in rows {
        text += &cells("td", &mut row.iter().cloned());
    }
    text + "</table>"
}
