//! What a person wished of the engine, and what came of it, in words.

use super::app::{Effect, Purpose, Tone};
use super::text::percent;
use crate::protocol::{Answer, Command, IntakeReport, Outcome};
use crate::records::mean_saved;

/// A command that a person wished for.
pub fn wish(command: Command) -> Effect {
    let words = match &command {
        Command::HandOut { case, .. } => format!("handing out {case}"),
        Command::Withdraw { case, .. } => format!("withdrawing {case}"),
        Command::Exclude { case, .. } => format!("excluding {case}"),
        Command::Include { case } => format!("including {case}"),
        Command::AcceptHeld { held, fix: false } => format!("accepting {held}"),
        Command::AcceptHeld { held, fix: true } => format!("fixing {held}"),
        Command::ChooseCorrection { correction, .. } => format!("choosing {correction}"),
        Command::RefuseHeld { held, .. } => format!("refusing {held}"),
        Command::NoteMinutes { case, .. } => format!("noting minutes of {case}"),
        Command::Rank { .. } => "ranking".into(),
        Command::ScanInbox => "looking into the inbox".into(),
        Command::StartRound { .. } => "starting a round".into(),
        Command::Train => "training".into(),
        Command::AbandonRound { .. } => "abandoning the round".into(),
        Command::DeclareSatisfactory { .. } => "ending the loop".into(),
        Command::Reopen { .. } => "reopening the loop".into(),
        other => format!("{other:?}"),
    };
    Effect::Send {
        command,
        purpose: Purpose::Wish(words),
    }
}

/// What came of a wish, in words.
pub fn answer_words(wish: &str, answer: Answer) -> (Tone, String) {
    let text = match answer {
        Answer::Done(words) | Answer::Nothing(words) => words,
        Answer::HandedOut(out) => format!(
            "{} is in {}; the corrected mask goes to {} as {}",
            out.case,
            out.folder.display(),
            out.inbox.display(),
            out.reply_name
        ),
        Answer::Intake(reports) if reports.is_empty() => "nothing new in the inbox".into(),
        Answer::Intake(reports) => {
            let good = |report: &IntakeReport| matches!(report.outcome, Outcome::Accept | Outcome::Ignore);
            let tone = if reports.iter().all(good) {
                Tone::Plain
            } else {
                Tone::Warn
            };
            let each: Vec<String> = reports.iter().map(intake_words).collect();
            return (tone, each.join("; "));
        }
        _ => format!("{wish}: done"),
    };
    (Tone::Plain, text)
}

fn intake_words(report: &IntakeReport) -> String {
    let saved = mean_saved(&report.effort);
    let effort = match (report.outcome, saved) {
        (Outcome::Accept | Outcome::Warn, Some(_)) => format!(", saved effort {}", percent(saved)),
        _ => String::new(),
    };
    format!(
        "{} {}: {}{effort}",
        report.file,
        report.outcome.word(),
        report.words
    )
}
