//! A question to the person before something is done: yes or no, or a line of text.

use super::keys::Key;
use crate::protocol::Command;
use crate::records::{CaseId, CorrectionId, HeldId, ModelId};

/// What is done with the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// This.
    Send(Command),
    /// The program ends.
    Quit,
    /// The text is the owner.
    HandOut(CaseId),
    /// The text is the reason; the owner is this one.
    TakeOver(CaseId, String),
    /// The text is the reason.
    Withdraw(CaseId),
    /// The text is the reason.
    Exclude(CaseId),
    /// The text is the reason.
    Refuse(HeldId),
    /// The text is the reason.
    Choose(CorrectionId),
    /// The text is a number of minutes.
    Minutes(CaseId),
    /// The text is the reason.
    Abandon,
    /// The text is the reason.
    Satisfactory,
    /// The text is the reason.
    Reopen,
    /// The text is the reason.
    UseModel(ModelId),
}

/// What came of an answer.
#[derive(Debug, PartialEq)]
pub enum Answered {
    /// Send these.
    Send(Vec<Command>),
    /// End.
    Quit,
}

/// A question on the screen; keys go to it until it is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// What is asked.
    pub title: String,
    /// What a person should know before answering.
    pub lines: Vec<String>,
    /// The text so far; `None` asks for yes or no.
    pub text: Option<String>,
    /// Why the last answer was none.
    pub problem: Option<String>,
    then: Vec<Then>,
}

/// What a key did to a question.
#[derive(Debug, PartialEq)]
pub enum Pressed {
    /// It is still open.
    Open,
    /// It was called off.
    Dropped,
    /// It was answered.
    Answered(Answered),
}

impl Prompt {
    /// Asks for yes or no.
    pub fn confirm(title: impl Into<String>, lines: Vec<String>, then: Then) -> Prompt {
        Prompt {
            title: title.into(),
            lines,
            text: None,
            problem: None,
            then: vec![then],
        }
    }

    /// One question for several: asked as `title`, answered for each.
    pub fn joined(title: String, lines: Vec<String>, prompts: Vec<Prompt>) -> Option<Prompt> {
        let first = prompts.first()?;
        Some(Prompt {
            title,
            lines,
            text: first.text.clone(),
            problem: None,
            then: prompts.into_iter().flat_map(|prompt| prompt.then).collect(),
        })
    }

    /// Asks for a line of text, beginning with `text`.
    pub fn line(title: impl Into<String>, lines: Vec<String>, text: &str, then: Then) -> Prompt {
        Prompt {
            text: Some(text.to_string()),
            ..Prompt::confirm(title, lines, then)
        }
    }

    /// The keys that answer, in words.
    pub fn keys(&self) -> &'static str {
        match self.text {
            Some(_) => "enter: do it   esc: leave it   ctrl-u: empty the line",
            None => "y or enter: do it   n or esc: leave it",
        }
    }

    /// Takes one key.
    pub fn press(&mut self, key: Key) -> Pressed {
        match (key.to_string().as_str(), &mut self.text) {
            ("esc" | "ctrl-c", _) | ("n" | "q", None) => Pressed::Dropped,
            ("enter", _) | ("y", None) => match self.answer() {
                Ok(answered) => Pressed::Answered(answered),
                Err(problem) => {
                    self.problem = Some(problem);
                    Pressed::Open
                }
            },
            ("backspace", Some(text)) => {
                text.pop();
                Pressed::Open
            }
            ("ctrl-u", Some(text)) => {
                text.clear();
                Pressed::Open
            }
            (_, Some(text)) => {
                text.extend(key.typed());
                Pressed::Open
            }
            (_, None) => Pressed::Open,
        }
    }

    /// Takes pasted text; control characters become spaces.
    pub fn paste(&mut self, pasted: &str) {
        if let Some(text) = &mut self.text {
            text.extend(pasted.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
    }

    fn answer(&self) -> Result<Answered, String> {
        if self.then.contains(&Then::Quit) {
            return Ok(Answered::Quit);
        }
        let commands = self.then.iter().map(|then| self.command(then));
        Ok(Answered::Send(commands.collect::<Result<_, _>>()?))
    }

    fn command(&self, then: &Then) -> Result<Command, String> {
        let text = self.text.as_deref().unwrap_or_default().trim();
        let why = || match text {
            "" => Err("a reason is needed; it goes into the journal".to_string()),
            text => Ok(text.to_string()),
        };
        Ok(match then.clone() {
            Then::Quit => return Err("leaving is no command".into()),
            Then::Send(command) => command,
            Then::HandOut(_) if text.is_empty() => return Err("a name is needed".into()),
            Then::HandOut(case) => Command::HandOut {
                case,
                owner: text.to_string(),
                again: false,
            },
            Then::TakeOver(case, owner) => Command::TakeOver {
                case,
                owner,
                why: why()?,
            },
            Then::Withdraw(case) => Command::Withdraw { case, why: why()? },
            Then::Exclude(case) => Command::Exclude { case, why: why()? },
            Then::Refuse(held) => Command::RefuseHeld { held, why: why()? },
            Then::Choose(correction) => Command::ChooseCorrection {
                correction,
                why: why()?,
            },
            Then::Minutes(case) => {
                let minutes = text
                    .parse()
                    .ok()
                    .filter(|minutes: &f64| minutes.is_finite() && *minutes > 0.0);
                let minutes =
                    minutes.ok_or_else(|| format!("{text:?} is no number of minutes; write 12 or 7.5"))?;
                Command::NoteMinutes { case, minutes }
            }
            Then::Abandon => Command::AbandonRound { why: why()? },
            Then::Satisfactory => Command::DeclareSatisfactory { why: why()? },
            Then::Reopen => Command::Reopen { why: why()? },
            Then::UseModel(model) => Command::UseModel { model, why: why()? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(prompt: &mut Prompt, keys: &str) -> Pressed {
        let mut last = Pressed::Open;
        for word in keys.split_whitespace() {
            last = prompt.press(Key::parse(word).expect("a key"));
        }
        last
    }

    #[test]
    fn a_reason_may_not_be_left_out() {
        let mut prompt = Prompt::line("abandon", Vec::new(), "", Then::Abandon);
        assert_eq!(press(&mut prompt, "space enter"), Pressed::Open);
        assert_eq!(
            prompt.problem.as_deref(),
            Some("a reason is needed; it goes into the journal")
        );
        let why = "to b".to_string();
        assert_eq!(
            press(&mut prompt, "t o space b a backspace enter"),
            Pressed::Answered(Answered::Send(vec![Command::AbandonRound { why }]))
        );
    }

    #[test]
    fn minutes_have_to_be_a_number_above_zero() {
        let case = CaseId::new("a").unwrap();
        let mut prompt = Prompt::line("minutes", Vec::new(), "", Then::Minutes(case.clone()));
        for bad in [
            "x enter",
            "ctrl-u 0 enter",
            "ctrl-u - 3 enter",
            "ctrl-u n a n enter",
        ] {
            assert_eq!(press(&mut prompt, bad), Pressed::Open, "{bad}");
        }
        assert_eq!(
            press(&mut prompt, "ctrl-u 7 . 5 enter"),
            Pressed::Answered(Answered::Send(vec![Command::NoteMinutes { case, minutes: 7.5 }]))
        );
    }

    #[test]
    fn pasted_text_answers_nothing_by_itself() {
        let mut prompt = Prompt::line("abandon", Vec::new(), "", Then::Abandon);
        prompt.paste("too\nslow");
        assert_eq!(prompt.text.as_deref(), Some("too slow"));
    }
}
