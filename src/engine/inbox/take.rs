//! Taking a mask in: stored, journalled, measured; only then acknowledged.

use jiff::Timestamp;

use super::DONE;
use super::checks::{Candidate, Decision};
use crate::effort::{agreement, saved_effort};
use crate::engine::EngineError;
use crate::engine::actor::Actor;
use crate::engine::project::next;
use crate::imaging::encode_labels;
use crate::protocol::{Answer, IntakeReport, Outcome};
use crate::records::{
    Agreement, Case, Correction, CorrectionId, Handout, HandoutEnd, HandoutId, Hash, HeldFile, Mask,
    MaskOrigin, Pool, Round, RoundState, Row, What, mean_saved,
};

impl Actor {
    /// Takes in a mask that passed every check, or a held file that somebody accepted, as it was or fixed.
    ///
    /// A second person's mask of a case is kept beside the first one's, which goes on training until somebody chooses.
    pub(super) fn take(
        &mut self,
        decided: Option<(&str, &HeldFile, Decision)>,
        candidate: Candidate,
        notes: &[(String, String)],
        report: &mut IntakeReport,
    ) -> Result<(), EngineError> {
        let id = candidate.case.expect("a file that passed the checks has a case");
        let mask = candidate.mask.expect("a file that passed the checks has classes");
        let case = self.project.case(&id)?.clone();
        let now = Timestamp::now();
        let number = CorrectionId(next(&self.project.snapshot.corrections, |id| id.0));
        let blobs = self.project.store.blobs();
        let blob = blobs.put(&encode_labels(&mask, u16::from))?;
        let file = blobs.put(&candidate.bytes)?;
        let table = candidate
            .table
            .as_deref()
            .map(|table| blobs.put(table))
            .transpose()?;
        let handouts = &self.project.snapshot.handouts;
        let asked = candidate.answers.and_then(|answered| handouts.get(&answered));
        let turnaround_s = asked.map(|handout| now.duration_since(handout.at).as_secs_f64());
        let handout = asked.cloned().unwrap_or_else(|| self.unasked(&case, blob, now));
        let settings = &self.project.snapshot.settings;
        let (classes, tolerance_mm) = (settings.classes(), settings.effort.tolerance_mm);
        let plane = self.project.plane(&case.grid);
        let effort = match handout.model {
            None => Vec::new(),
            Some(_) => {
                let drawn = self
                    .project
                    .label_map(handout.pre_annotation, "the pre-annotation")?;
                saved_effort(&drawn, &mask, plane, classes, tolerance_mm)
                    .map_err(|error| EngineError::Refused(error.to_string()))?
            }
        };
        let first = self.first_reading(&case, &handout.owner);
        let agreement = match &first {
            None => None,
            Some(first) => {
                let theirs = self.project.label_map(first.mask, "the other correction")?;
                let classes = agreement(&theirs, &mask, plane, classes, tolerance_mm)
                    .map_err(|error| EngineError::Refused(error.to_string()))?;
                Some(Agreement {
                    with: first.id,
                    mask: first.mask,
                    classes,
                })
            }
        };
        let round = self
            .project
            .snapshot
            .open_round()
            .filter(|round| round.queried.contains(&id))
            .cloned();
        let correction = Correction {
            id: number,
            case: id.clone(),
            handout: handout.id,
            round: round.as_ref().map(|round| round.id),
            who: handout.owner.clone(),
            at: now,
            mask: blob,
            file,
            table,
            pre_annotation: handout.pre_annotation,
            model: handout.model,
            effort: effort.clone(),
            tolerance_mm,
            plane: Some(plane),
            turnaround_s,
            minutes: None,
            notes: notes
                .iter()
                .map(|(code, words)| format!("{code}: {words}"))
                .collect(),
            agreement: agreement.clone(),
        };
        let own = Mask {
            version: case.mask_versions + 1,
            blob,
            origin: MaskOrigin::Correction(number),
        };
        // Who was given the mask that trains, to look it over, revises it; an empty drawing may be the same mask.
        let is_revision = first.as_ref().is_some_and(|first| {
            handout.model.is_none() && !handout.again && first.mask == handout.pre_annotation
        });
        let trains = case
            .mask
            .filter(|_| first.is_some() && !is_revision)
            .unwrap_or(own);
        let mut rows = vec![Row::Case(Case {
            pool: Pool::Labelled,
            mask: Some(trains),
            mask_versions: trains.version.max(case.mask_versions),
            // Somebody else may have it by now.
            handout: case.handout.filter(|open| *open != handout.id),
            queried: None,
            ..case
        })];
        if !matches!(handout.end, Some(HandoutEnd::Corrected(_))) {
            rows.push(Row::Handout(Handout {
                end: Some(HandoutEnd::Corrected(number)),
                ..handout
            }));
        }
        rows.extend(self.note_mask_labels());
        rows.extend(decided.map(|(_, held, decision)| {
            let words = match decision {
                Decision::Accept if held.mended.is_empty() => "accepted",
                Decision::Accept | Decision::Fix => "fixed",
            };
            let mut mended = held.mended.clone();
            mended.extend(held.fix.clone().filter(|_| decision == Decision::Fix));
            Row::Held(HeldFile {
                decided: Some(words.into()),
                mended,
                fix: None,
                ..held.clone()
            })
        }));
        if let Some(round) = round {
            let first_return = case.queried == Some(round.id);
            let round = self.with_effort(round, &correction);
            // What comes while the round trains is accepted, and learnt from in the next one.
            let counts = first_return && round.state == RoundState::Correcting;
            rows.push(Row::Round(Round {
                returned: round.returned + usize::from(counts),
                ..round
            }));
        }
        let owner = correction.who.clone();
        rows.push(Row::Correction(correction));
        let who = decided.map_or(owner.as_str(), |(who, ..)| who);
        self.commit(who, What::CorrectionAccepted, None, rows)?;
        // Acknowledged only now; if the machine stops before the move, the next look finds it known.
        let place = match decided {
            Some((_, held, _)) => self.rename_held(held, &id)?,
            None => candidate.path.to_path_buf(),
        };
        self.put_away(&place, DONE)?;
        if !notes.is_empty() {
            report.outcome = Outcome::Warn;
            report.code = notes[0].0.clone();
        }
        let saved = mean_saved(&effort);
        let mut words = vec![match saved {
            Some(saved) => format!(
                "{number}: saved effort {:.2} %, mean of the classes",
                saved * 100.0
            ),
            None => format!("{number}: saved effort n/a"),
        }];
        if let (Some(first), Some(agreement)) = (first, agreement) {
            words.push(beside_words(number, &first, &agreement, is_revision));
        }
        words.extend(notes.iter().map(|(_, note)| note.clone()));
        report.words = words.join("; ");
        report.correction = Some(number);
        report.effort = effort;
        Ok(())
    }

    /// The correction that a case trains with, where it is another person's than `owner`'s.
    fn first_reading(&self, case: &Case, owner: &str) -> Option<Correction> {
        let MaskOrigin::Correction(first) = case.mask?.origin else {
            return None;
        };
        let first = self.project.snapshot.corrections.get(&first)?;
        (first.who != owner).then(|| first.clone())
    }

    /// Has a case train with one of its corrections, whoever's.
    pub(in crate::engine) fn choose_correction(
        &mut self,
        who: &str,
        id: CorrectionId,
        why: String,
    ) -> Result<Answer, EngineError> {
        let Some(chosen) = self.project.snapshot.corrections.get(&id).cloned() else {
            return EngineError::refused(format!(
                "there is no correction {id}; `overtrace history` lists them"
            ));
        };
        let case = self.project.case(&chosen.case)?.clone();
        if case.forgotten.is_some() {
            return EngineError::refused(format!("{} is forgotten: nothing is left of {id}", case.id));
        }
        if case
            .mask
            .is_some_and(|mask| mask.origin == MaskOrigin::Correction(id))
        {
            return Ok(Answer::Nothing(format!("{} trains with {id} already", case.id)));
        }
        let words = format!(
            "{} trains with {id} of {} from the next training on",
            case.id, chosen.who
        );
        let version = case.mask_versions + 1;
        let row = Row::Case(Case {
            mask: Some(Mask {
                version,
                blob: chosen.mask,
                origin: MaskOrigin::Correction(id),
            }),
            mask_versions: version,
            ..case
        });
        self.commit(who, What::MaskChosen, Some(why), vec![row])?;
        Ok(Answer::Done(words))
    }

    /// The hand-out of a mask that nobody was asked for and a person accepted all the same: nothing was drawn
    /// for it, so its saved effort is n/a.
    fn unasked(&self, case: &Case, mask: Hash, at: Timestamp) -> Handout {
        Handout {
            id: HandoutId(next(&self.project.snapshot.handouts, |id| id.0)),
            case: case.id.clone(),
            owner: "unknown".into(),
            at,
            model: None,
            pre_annotation: mask,
            reply_name: String::new(),
            again: false,
            end: None,
        }
    }
}

/// What there is to say of a second person's mask.
fn beside_words(id: CorrectionId, first: &Correction, agreement: &Agreement, is_revision: bool) -> String {
    let percent =
        |share: Option<f64>| share.map_or_else(|| "n/a".into(), |share| format!("{:.1} %", 100.0 * share));
    let agrees = format!(
        "Dice {}, contour {}",
        percent(agreement.dice()),
        percent(agreement.contour())
    );
    match is_revision {
        true => format!(
            "a revision of {} of {} ({agrees}); it trains from now on",
            first.id, first.who
        ),
        false => format!(
            "kept beside {} of {}, which trains ({agrees}); `overtrace inbox choose {id} --why ..` has it train instead",
            first.id, first.who
        ),
    }
}
