//! What an experiment came to, as tables.

use super::{percent, table};
use crate::records::mean_of_known;
use crate::study::{MAJORITY, Outcome, Summary};

/// An experiment's answers.
pub fn experiment(outcome: &Outcome, summary: &Summary) -> String {
    let labels = &outcome.experiment.settings.labels;
    let mut parts = Vec::new();
    if !summary.full.is_empty() {
        let mut header = vec!["system".to_string()];
        header.extend(labels.names().map(|name| format!("{name} Dice %")));
        header.push("average".into());
        if summary.full.iter().any(|full| !full.saved.is_empty()) {
            header.extend(labels.names().map(|name| format!("{name} saved %")));
            header.extend(labels.names().map(|name| format!("{name} +-1 px %")));
        }
        header.push("seconds a volume".into());
        let lines = summary.full.iter().map(|full| {
            let mut line = vec![full.system.to_string()];
            line.extend(full.dice.iter().map(|dice| percent(*dice)));
            line.push(percent(full.mean) + &full.spread_words());
            line.extend(full.saved.iter().map(|saved| percent(*saved)));
            line.extend(full.near_saved.iter().map(|saved| percent(*saved)));
            let seconds = full.seconds_a_case.map(|seconds| format!("{seconds:.2}"));
            line.push(seconds.unwrap_or("n/a".into()));
            line
        });
        let mut lines: Vec<Vec<String>> = lines.collect();
        if !summary.majority_dice.is_empty() {
            let mut line = vec![MAJORITY.to_string()];
            line.extend(summary.majority_dice.iter().map(|dice| percent(*dice)));
            line.push(percent(mean_of_known(summary.majority_dice.iter().copied())));
            line.resize(header.len(), String::new());
            lines.push(line);
        }
        parts.push(format!(
            "Everything labelled\n{}",
            table(header, lines.into_iter(), &[0])
        ));
    }
    if !summary.curves.is_empty() {
        let header = [
            "asked for by",
            "99 % of that at % of cases",
            "area % Dice",
            "less random's",
            "95 % interval",
            "pairs",
        ];
        let lines = summary.curves.iter().map(|curve| {
            let paired = summary.paired_of(curve);
            let area = paired.map(|paired| paired.area);
            vec![
                outcome.experiment.words_of(curve.system, curve.strategy),
                percent(curve.enough_at),
                percent(curve.area),
                area.map_or(String::new(), |area| format!("{:+.2}", 100.0 * area.mean)),
                area.map_or(String::new(), |area| {
                    format!("{:+.2} to {:+.2}", 100.0 * area.low, 100.0 * area.high)
                }),
                area.map_or(String::new(), |area| area.pairs.to_string()),
            ]
        });
        parts.push(format!(
            "Asking\n{}",
            table(header.map(String::from).to_vec(), lines, &[0])
        ));
    }
    for effort in summary
        .efforts
        .iter()
        .filter(|effort| effort.saved.iter().any(|saved| !saved.is_empty()))
    {
        let iterations = effort.saved.iter().map(Vec::len).max().unwrap_or(0);
        let mut header = vec!["class".to_string()];
        header.extend((1..=iterations).map(|n| format!("{n}")));
        header.extend(["mean", "+-1 px"].map(String::from));
        let lines = labels.names().enumerate().map(|(class, name)| {
            let mut line = vec![name.to_string()];
            line.extend(effort.saved[class].iter().map(|saved| percent(*saved)));
            line.push(percent(effort.mean[class]));
            line.push(percent(effort.near_mean[class]));
            line
        });
        let title = format!(
            "Saved effort % by iteration, asked for by {}",
            outcome.experiment.words_of(effort.system, effort.strategy)
        );
        parts.push(format!("{title}\n{}", table(header, lines, &[0])));
    }
    parts.extend(summary.caveat.clone());
    parts.join("\n\n")
}
