//! What keys do to one case, from the queue and from its slices alike.

use crate::protocol::{Command, Snapshot};
use crate::records::{Case, CaseId, HeldFile, Pool};
use crate::tui::keys::Action;
use crate::tui::prompt::{Prompt, Then};
use crate::tui::text::{clean, percent};

/// What a key leads to.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// A question first.
    Ask(Prompt),
    /// Wishes to the engine.
    Send(Vec<Command>),
}

/// The oldest file that waits for a decision on `case`.
pub fn held<'a>(snapshot: &'a Snapshot, case: &CaseId) -> Option<&'a HeldFile> {
    snapshot.waiting().find(|held| held.case == *case)
}

/// What `action` leads to for `cases`; `who` is the account of the person at the keys. Of several, those that it can be
/// done to, in one question.
///
/// # Errors
/// Why it cannot be done now, in words.
pub fn act(action: Action, snapshot: &Snapshot, cases: &[CaseId], who: &str) -> Result<Step, String> {
    let [case] = cases else {
        return act_on_all(action, snapshot, cases, who);
    };
    act_on_one(action, snapshot, case, who)
}

/// The question before a held file is accepted, fixed or refused.
///
/// # Errors
/// A fix for one that can be read one way only.
pub fn decide(action: Action, file: &HeldFile, snapshot: &Snapshot) -> Result<Step, String> {
    let (name, lines) = (
        format!("{} {}", file.id, clean(&file.name)),
        vec![format!("{}: {}", clean(&file.code), clean(&file.words))],
    );
    Ok(Step::Ask(match (action, snapshot.fix_words(file)) {
        (Action::AcceptHeld, _) => Prompt::confirm(
            format!("accept {name} for {}?", file.case),
            lines,
            Then::Send(Command::AcceptHeld {
                held: file.id,
                fix: false,
            }),
        ),
        (Action::FixHeld, Some(words)) => Prompt::confirm(
            format!("take {name} in, {}?", clean(&words)),
            lines,
            Then::Send(Command::AcceptHeld {
                held: file.id,
                fix: true,
            }),
        ),
        (Action::FixHeld, None) => {
            return Err(format!(
                "{} can be read one way only; accept it as it is, or refuse it",
                file.id
            ));
        }
        _ => Prompt::line(
            format!("refuse {name}, because"),
            lines,
            "",
            Then::Refuse(file.id),
        ),
    }))
}

fn act_on_all(action: Action, snapshot: &Snapshot, cases: &[CaseId], who: &str) -> Result<Step, String> {
    let (mut prompts, mut commands, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for case in cases {
        match act_on_one(action, snapshot, case, who) {
            Ok(Step::Ask(prompt)) => prompts.push(prompt),
            Ok(Step::Send(more)) => commands.extend(more),
            Err(why) => left_out.push(why),
        }
    }
    let done = prompts.len() + commands.len();
    if done == 0 {
        return Err(match left_out.as_slice() {
            [] => "no case is selected".into(),
            [first, ..] => format!("none of the {} marked cases: {first}", cases.len()),
        });
    }
    let mut lines = Vec::new();
    if let Some(first) = left_out.first() {
        lines.push(format!("{} are left out: {first}", left_out.len()));
    }
    let words = match action {
        Action::HandOut => "hand out to",
        Action::Withdraw => "withdraw, because",
        Action::AcceptHeld => "accept what is held",
        Action::FixHeld => "take in what is held, read the other way",
        Action::RefuseHeld => "refuse what is held, because",
        Action::NoteMinutes => "minutes at work on each",
        Action::ExcludeCase => "exclude, because",
        _ => "include",
    };
    match Prompt::joined(format!("{done} cases: {words}"), lines, prompts) {
        Some(prompt) => Ok(Step::Ask(prompt)),
        None => Ok(Step::Send(commands)),
    }
}

fn act_on_one(action: Action, snapshot: &Snapshot, case: &CaseId, who: &str) -> Result<Step, String> {
    let row: &Case = snapshot
        .cases
        .get(case)
        .ok_or_else(|| format!("{case} is not in the project any more"))?;
    let handout = row.handout.and_then(|id| snapshot.handouts.get(&id));
    let ask = |title: String, lines: Vec<String>, text: &str, then| {
        Ok(Step::Ask(Prompt::line(title, lines, text, then)))
    };
    match action {
        Action::HandOut => {
            if let Some(out) = handout {
                if out.owner == who {
                    return Err(format!("{case} is in your hands: handouts/{case}-{}", out.id));
                }
                let lines = vec![format!(
                    "{} has it since {}",
                    clean(&out.owner),
                    out.at.strftime("%F %H:%M UTC")
                )];
                let then = Then::TakeOver(case.clone(), who.to_string());
                return ask(format!("take {case} over, because"), lines, "", then);
            }
            if row.excluded.is_some() {
                return Err(format!("{case} is excluded; include it first"));
            }
            let drawn = snapshot.predictions.get(case).map_or(
                "no model has drawn it: the mask will be empty".into(),
                |prediction| format!("{} has drawn it", prediction.model),
            );
            if row.pool == Pool::HeldOut {
                return Err(format!(
                    "{case} is held out: it only measures, and is not handed out"
                ));
            }
            ask(
                format!("hand {case} out to"),
                vec![drawn],
                who,
                Then::HandOut(case.clone()),
            )
        }
        Action::Withdraw => {
            let out = handout.ok_or_else(|| format!("{case} is in nobody's hands"))?;
            let lines = vec![format!("{} has it", clean(&out.owner))];
            ask(
                format!("withdraw {case}, because"),
                lines,
                "",
                Then::Withdraw(case.clone()),
            )
        }
        Action::AcceptHeld | Action::FixHeld | Action::RefuseHeld => {
            let file =
                held(snapshot, case).ok_or_else(|| format!("no file of {case} waits for a decision"))?;
            decide(action, file, snapshot)
        }
        Action::NoteMinutes => {
            let last = snapshot
                .correction_of(case)
                .ok_or_else(|| format!("{case} has not come back corrected yet"))?;
            let mean = crate::records::mean_saved(&last.effort);
            let lines = vec![format!(
                "correction {} by {}, saved effort {}",
                last.id,
                clean(&last.who),
                percent(mean)
            )];
            let before = last
                .minutes
                .map_or_else(String::new, |minutes| minutes.to_string());
            ask(
                format!("minutes at work on {case}"),
                lines,
                &before,
                Then::Minutes(case.clone()),
            )
        }
        Action::ExcludeCase => {
            if row.excluded.is_some() {
                return Err(format!("{case} is excluded already"));
            }
            let lines = vec!["it will not be ranked, train or measure".into()];
            ask(
                format!("exclude {case}, because"),
                lines,
                "",
                Then::Exclude(case.clone()),
            )
        }
        Action::IncludeCase => match row.excluded {
            Some(_) => Ok(Step::Send(vec![Command::Include { case: case.clone() }])),
            None => Err(format!("{case} is not excluded")),
        },
        other => Err(format!("{} does nothing to a case", other.entry().name)),
    }
}
