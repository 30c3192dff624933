//! Hand-outs: the files a person corrects, and the record of what they were given.

use std::fmt::Write;

use jiff::Timestamp;

use super::EngineError;
use super::actor::{Actor, Goal, Reply};
use super::inbox::reply_name;
use super::project::{next, write_private};
use super::sharing::Share;
use crate::imaging::{LabelMap, container, encode_labels};
use crate::protocol::{Answer, HandedOut};
use crate::records::{
    Case, CaseId, Handout, HandoutEnd, HandoutId, Hash, ModelId, Pool, Row, What, is_unsafe,
};
use crate::settings::Labels;
use crate::store::private_folder;

impl Actor {
    /// Hands a case out, having it drawn first where nothing has drawn it yet.
    pub(super) fn begin_hand_out(
        &mut self,
        who: &str,
        id: CaseId,
        owner: String,
        again: bool,
    ) -> Result<Reply, EngineError> {
        self.project.check_settings()?;
        let case = self.project.case(&id)?;
        if let Some(why) = &case.excluded {
            return EngineError::refused(format!(
                "{id} is excluded ({why}); `overtrace include {id}` first"
            ));
        }
        if case.pool == Pool::HeldOut {
            return EngineError::refused(format!(
                "{id} is held out: it measures models and is not corrected"
            ));
        }
        let open = case
            .handout
            .and_then(|handout| self.project.snapshot.handouts.get(&handout));
        if let Some(open) = open {
            return EngineError::refused(format!(
                "{id} is out with {} since {}; `overtrace handout {id} --take-over WHY` gives it to somebody else, \
                 `--withdraw WHY` takes it back",
                open.owner, open.at
            ));
        }
        check_owner(&owner)?;
        let model = self.project.drawing_model().map(|model| model.id);
        let drawn = case.mask.is_some() || model.is_none_or(|model| self.is_predicted(case, model));
        // While the worker is busy an older model's drawing is better than none; the hand-out names its model.
        let older = self.job.is_some() && self.project.snapshot.predictions.contains_key(&id);
        if drawn || older {
            return self.hand_out(who, &id, owner, None, again).map(Reply::Now);
        }
        self.need_idle()?;
        self.predict_then(
            Goal::HandOut {
                case: id,
                owner,
                again,
            },
            who,
        )
    }

    /// Writes the files and journals the hand-out.
    ///
    /// A labelled case is handed out with its own mask, which no model drew, so its saved effort is n/a. `instead` is the
    /// hand-out that ends with this one.
    pub(super) fn hand_out(
        &mut self,
        who: &str,
        id: &CaseId,
        owner: String,
        instead: Option<Handout>,
        again: bool,
    ) -> Result<Answer, EngineError> {
        let case = self.project.case(id)?.clone();
        if case.handout != instead.as_ref().map(|open| open.id) || case.excluded.is_some() {
            return EngineError::refused(format!(
                "{id} was handed out or excluded while it was being drawn"
            ));
        }
        let (pre_annotation, model, again) = match &instead {
            // Whoever takes it over is given the same: it may be a second reading.
            Some(open) => (open.pre_annotation, open.model, open.again),
            None => {
                let (pre_annotation, model) = self.pre_annotation(&case, again)?;
                (pre_annotation, model, again)
            }
        };
        let number = HandoutId(next(&self.project.snapshot.handouts, |id| id.0));
        let settings = &self.project.snapshot.settings;
        let folder = self.project.folder("handouts").join(format!("{id}-{number}"));
        private_folder(&folder)?;
        let blobs = self.project.store.blobs();
        let mut image_names = Vec::new();
        for (at, &image) in case.images.iter().enumerate() {
            let bytes = blobs.get(image)?;
            let channel = if case.images.len() > 1 {
                format!("{}", at + 1)
            } else {
                String::new()
            };
            let name = format!("{id}_image{channel}.{}", container(&bytes));
            write_private(&folder.join(&name), &bytes)?;
            image_names.push(name);
        }
        let mut map = self.project.label_map(pre_annotation, "the pre-annotation")?;
        map.grid = case.grid;
        let mask = folder.join(format!("{id}_seg.nii.gz"));
        write_private(
            &mask,
            &encode_labels(&map, |class| settings.labels.value_of(class)),
        )?;
        write_private(
            &folder.join("labels.txt"),
            itk_snap_labels(&settings.labels).as_bytes(),
        )?;
        // A second hand-out is answered under another name: its masks are not the first one's.
        let snapshot = &self.project.snapshot;
        let is_first = !snapshot.handouts.values().any(|other| other.case == *id);
        let reply_name = reply_name(id, number, is_first, &snapshot.cases);
        let inbox = self.project.inbox();
        let drawn = match model {
            Some(model) => format!("drawn by model {model}"),
            None if case.mask.is_some_and(|mask| mask.blob == pre_annotation) => {
                "the mask this case has so far".to_string()
            }
            None => "no model drew it".to_string(),
        };
        let text = format!(
            "Case {id}, handed out to {owner}.\n\n\
             1. Open {images} and the segmentation {id}_seg.nii.gz ({drawn})\n   \
                in ITK-SNAP (load labels.txt by Segmentation > Import Label Descriptions) or 3D Slicer.\n\
             2. Correct what is wrong in the segmentation. Keep its grid; use only these labels: {labels}.\n\
             3. Save it as exactly\n\n       {reply_name}\n\n   and copy that file to\n\n       {inbox}\n\n   \
             overtrace takes it in and measures what the pre-annotation saved you.\n",
            images = image_names.join(", "),
            labels = settings.labels,
            inbox = inbox.display(),
        );
        write_private(&folder.join("README.txt"), text.as_bytes())?;
        if self.project.sharing.is_shared() {
            let files = std::fs::read_dir(&folder).map_err(EngineError::io("looking into", &folder))?;
            for file in files.flatten() {
                self.project.sharing.open(&file.path(), Share::Read)?;
            }
            self.project.sharing.open(&folder, Share::Look)?;
        }
        let handout = Handout {
            id: number,
            case: id.clone(),
            owner,
            at: Timestamp::now(),
            model,
            pre_annotation,
            reply_name: reply_name.clone(),
            again,
            end: None,
        };
        let mut rows = vec![
            Row::Handout(handout),
            Row::Case(Case {
                handout: Some(number),
                ..case
            }),
        ];
        let (what, why) = match instead {
            None => (What::HandedOut, None),
            Some(open) => {
                let why = open.end.as_ref().and_then(|end| match end {
                    HandoutEnd::Withdrawn(why) => Some(why.clone()),
                    HandoutEnd::Corrected(_) => None,
                });
                rows.push(Row::Handout(open));
                (What::TakenOver, why)
            }
        };
        self.commit(who, what, why, rows)?;
        Ok(Answer::HandedOut(HandedOut {
            id: number,
            case: id.clone(),
            folder,
            mask,
            reply_name,
            inbox,
            model,
        }))
    }

    fn pre_annotation(&self, case: &Case, again: bool) -> Result<(Hash, Option<ModelId>), EngineError> {
        if again {
            // Of the first one that was asked for: what came later was given the masks of those before.
            let snapshot = &self.project.snapshot;
            let first = snapshot.corrections.values().find(|correction| {
                let handout = snapshot.handouts.get(&correction.handout);
                correction.case == case.id && handout.is_some_and(|handout| !handout.reply_name.is_empty())
            });
            return match first {
                Some(first) => Ok((first.pre_annotation, first.model)),
                None => EngineError::refused(format!(
                    "{} has no correction yet that a second reading could stand beside",
                    case.id
                )),
            };
        }
        if let Some(mask) = case.mask {
            return Ok((mask.blob, None));
        }
        if let Some(prediction) = self.project.snapshot.predictions.get(&case.id) {
            return Ok((prediction.labels, Some(prediction.model)));
        }
        let empty = encode_labels(&LabelMap::empty(case.grid), u16::from);
        Ok((self.project.store.blobs().put(&empty)?, None))
    }

    /// Gives a case that is out to somebody else: the one hand-out ends and the other begins in one entry.
    pub(super) fn take_over(
        &mut self,
        who: &str,
        id: &CaseId,
        owner: String,
        why: String,
    ) -> Result<Answer, EngineError> {
        check_owner(&owner)?;
        let case = self.project.case(id)?;
        let open = case
            .handout
            .and_then(|handout| self.project.snapshot.handouts.get(&handout));
        let Some(open) = open else {
            return EngineError::refused(format!(
                "{id} is in nobody's hands; `overtrace handout {id}` hands it out"
            ));
        };
        if open.owner == owner {
            return EngineError::refused(format!("{owner} has {id} already, since {}", open.at));
        }
        let instead = Handout {
            end: Some(HandoutEnd::Withdrawn(why)),
            ..open.clone()
        };
        self.hand_out(who, id, owner, Some(instead), false)
    }

    /// Takes a hand-out back; a mask that comes for it later is held.
    pub(super) fn withdraw(&mut self, who: &str, id: &CaseId, why: String) -> Result<Answer, EngineError> {
        let case = self.project.case(id)?.clone();
        let open = case
            .handout
            .and_then(|handout| self.project.snapshot.handouts.get(&handout))
            .cloned();
        let Some(mut handout) = open else {
            return Ok(Answer::Nothing(format!("{id} is not handed out")));
        };
        let words = format!("{id} is taken back from {}", handout.owner);
        handout.end = Some(HandoutEnd::Withdrawn(why.clone()));
        let rows = vec![
            Row::Handout(handout),
            Row::Case(Case {
                handout: None,
                ..case
            }),
        ];
        self.commit(who, What::HandoutWithdrawn, Some(why), rows)?;
        Ok(Answer::Done(words))
    }

    /// Notes how long a person worked on the case's last correction.
    pub(super) fn note_minutes(
        &mut self,
        who: &str,
        id: &CaseId,
        minutes: f64,
    ) -> Result<Answer, EngineError> {
        if !(minutes.is_finite() && (0.0..=10_000.0).contains(&minutes)) {
            return EngineError::refused(format!("{minutes} minutes; it has to lie in 0 to 10000"));
        }
        let Some(mut correction) = self.project.snapshot.correction_of(id).cloned() else {
            return EngineError::refused(format!("{id} has no correction whose time could be noted"));
        };
        correction.minutes = Some(minutes);
        let words = format!("{minutes} minutes noted for {} of {id}", correction.id);
        self.commit(who, What::MinutesNoted, None, vec![Row::Correction(correction)])?;
        Ok(Answer::Done(words))
    }
}

fn check_owner(owner: &str) -> Result<(), EngineError> {
    if owner.trim().is_empty() || owner.chars().any(is_unsafe) || owner.len() > 100 {
        return EngineError::refused(format!("{owner:?} names nobody; give a printable name"));
    }
    Ok(())
}

/// A label description file as ITK-SNAP reads it: index, red, green, blue, opacity, visibility, mesh, name.
fn itk_snap_labels(labels: &Labels) -> String {
    let mut text = String::from("# ITK-SNAP label description file\n0 0 0 0 0 0 0 \"Clear Label\"\n");
    for label in &labels.0 {
        let [r, g, b] = label
            .rgb()
            .expect("colours were checked when the settings were read");
        let name = label.name.replace('"', "'");
        writeln!(text, "{} {r} {g} {b} 1 1 1 \"{name}\"", label.value).expect("a String takes every write");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn itk_snap_gets_every_label_with_its_colour() {
        let text = itk_snap_labels(&Labels::default());
        assert!(text.contains("\n1 74 163 255 1 1 1 \"CSF\"\n"), "{text}");
        assert_eq!(text.lines().count(), 5);
    }
}
