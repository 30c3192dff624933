//! Taking a mask in: stored, journalled, measured; only then acknowledged.

use jiff::Timestamp;

use super::DONE;
use super::checks::Candidate;
use crate::effort::saved_effort;
use crate::engine::EngineError;
use crate::engine::actor::Actor;
use crate::engine::project::next;
use crate::imaging::encode_labels;
use crate::protocol::{IntakeReport, Outcome};
use crate::records::{
    Case, Correction, CorrectionId, Handout, HandoutEnd, HandoutId, Hash, HeldFile, Mask, MaskOrigin, Pool,
    Round, RoundState, Row, What, mean_saved,
};

impl Actor {
    /// Takes in a mask that passed every check, or that a person (`who`) accepted.
    pub(super) fn take(
        &mut self,
        who: Option<&str>,
        candidate: Candidate,
        notes: &[(String, String)],
        held: Option<&HeldFile>,
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
        // A mask that comes after its hand-out was taken back is measured against what was handed out all the same.
        let handouts = &self.project.snapshot.handouts;
        let asked = case.handout.and_then(|open| handouts.get(&open)).or_else(|| {
            let last = handouts.values().rev().find(|handout| handout.case == id);
            last.filter(|handout| matches!(handout.end, Some(HandoutEnd::Withdrawn(_))))
        });
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
        };
        let version = case.mask_versions + 1;
        let mut rows = vec![
            Row::Handout(Handout {
                end: Some(HandoutEnd::Corrected(number)),
                ..handout
            }),
            Row::Case(Case {
                pool: Pool::Labelled,
                mask: Some(Mask {
                    version,
                    blob,
                    origin: MaskOrigin::Correction(number),
                }),
                mask_versions: version,
                handout: None,
                queried: None,
                ..case
            }),
        ];
        rows.extend(self.note_mask_labels());
        rows.extend(held.map(|held| {
            Row::Held(HeldFile {
                decided: Some("accepted".into()),
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
        self.commit(who.unwrap_or(&owner), What::CorrectionAccepted, None, rows)?;
        // Acknowledged only now; if the machine stops before the move, the next look finds it known.
        self.put_away(candidate.path, DONE)?;
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
        words.extend(notes.iter().map(|(_, note)| note.clone()));
        report.words = words.join("; ");
        report.correction = Some(number);
        report.effort = effort;
        Ok(())
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
            end: None,
        }
    }
}
