//! Forgetting a case whose patient withdrew: its bytes are erased, and a tombstone keeps the chain checkable.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;

use super::EngineError;
use super::actor::Actor;
use super::inbox::{DONE, HELD, QUARANTINE, case_of_file};
use crate::protocol::Answer;
use crate::records::{Case, CaseId, Fix, Handout, HandoutEnd, Hash, HeldFile, ModelId, Row, TrainedOn, What};
use crate::store::taken_away;

impl Actor {
    /// Erases a case's images, masks, drawings, files and where it came from. Its name, hashes and figures stay in the
    /// journal. What was learnt from it stays in the weights of the models that the answer names.
    pub(super) fn forget(&mut self, who: &str, id: &CaseId, why: String) -> Result<Answer, EngineError> {
        self.need_idle()?;
        let case = self.project.case(id)?.clone();
        if case.forgotten.is_some() {
            // What was cut short is brought to its end.
            self.erasing(id, |actor| actor.erase(id))?;
            return Ok(Answer::Nothing(format!("{id} is forgotten already")));
        }
        let snapshot = &self.project.snapshot;
        if let Some(round) = snapshot.open_round().filter(|_| case.queried.is_some()) {
            return EngineError::refused(format!(
                "round {} waits for {id}; exclude it first, or end the round",
                round.id
            ));
        }
        let blobs = self.project.store.blobs().clone();
        if let Some(round) = snapshot.open_round()
            && let Some(set) = round.training_set
            && blobs
                .get_json::<Vec<TrainedOn>>(set)?
                .iter()
                .any(|on| on.case == *id)
        {
            return EngineError::refused(format!(
                "round {} is learning from {id}; let it end, or abandon it, first",
                round.id
            ));
        }
        let entries = self.project.store.entries(0)?;
        let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
        for row in entries.iter().flat_map(|entry| &entry.rows) {
            let hashes = row.blobs().into_iter().map(|named| named.hash);
            match row.case() {
                Some(case) if case == id => own.extend(hashes),
                _ => others.extend(hashes),
            }
        }
        // An empty mask, say, is the same file in several cases.
        let erased: Vec<Hash> = own.difference(&others).copied().collect();
        let bytes = erased.iter().filter_map(|hash| blobs.size(*hash)).sum();
        let mut learnt: Vec<ModelId> = Vec::new();
        for model in snapshot.models.values() {
            let set: Vec<TrainedOn> = model
                .trained_on
                .map_or(Ok(Vec::new()), |set| blobs.get_json(set))?;
            if set.iter().any(|on| on.case == *id) {
                learnt.push(model.id);
            }
        }
        let now = Timestamp::now();
        let mut rows = vec![
            Row::Case(Case {
                excluded: Some(format!("forgotten: {why}")),
                forgotten: Some(now),
                mask: None,
                handout: None,
                queried: None,
                ..case.clone()
            }),
            Row::Erasure(self.erasure(Some(id.clone()), &erased, bytes)?),
        ];
        let open = case.handout.and_then(|open| snapshot.handouts.get(&open));
        rows.extend(open.map(|open| {
            Row::Handout(Handout {
                end: Some(HandoutEnd::Withdrawn(format!("forgotten: {why}"))),
                ..open.clone()
            })
        }));
        // A mask that may be this patient's goes too: there is nothing to hold it against any more.
        let held = snapshot.waiting().filter(|held| may_be(held, id));
        rows.extend(held.map(|held| {
            Row::Held(HeldFile {
                decided: Some("forgotten".into()),
                ..held.clone()
            })
        }));
        // Journalled first: what is missing afterwards, the journal says so of.
        self.erasing(id, |actor| {
            actor.commit(who, What::CaseForgotten, Some(why), rows)?;
            actor.erase(id)
        })?;
        let learnt: Vec<String> = learnt.iter().map(ToString::to_string).collect();
        let learnt = match learnt.as_slice() {
            [] => "no model has learnt from it".to_string(),
            models => format!("{} learnt from it", models.join(", ")),
        };
        Ok(Answer::Done(format!(
            "{id} is forgotten: {} blobs ({} MB) are erased; {learnt}; copies elsewhere (the files it was imported from, \
             backups, what people were handed) are not overtrace's to erase",
            erased.len(),
            bytes >> 20
        )))
    }

    /// Removes the bytes of a case that the journal says is forgotten.
    pub(super) fn erase(&self, id: &CaseId) -> Result<(), EngineError> {
        let store = &self.project.store;
        let entries = store.entries(0)?;
        // What another case has put back since stays.
        let (gone, _) = taken_away(&entries, store.blobs());
        for row in entries.iter().flat_map(|entry| &entry.rows) {
            let Row::Erasure(erasure) = row else { continue };
            if erasure.case.as_ref() == Some(id) {
                let hashes: Vec<Hash> = store.blobs().get_json(erasure.blobs)?;
                for hash in hashes.into_iter().filter(|hash| gone.contains(hash)) {
                    store.blobs().remove(hash)?;
                }
            }
        }
        let held = self.project.snapshot.held.values();
        self.erase_held(&held.filter(|held| may_be(held, id)).collect::<Vec<_>>())?;
        self.erase_files(id)
    }

    /// Removes what was written for people and what they sent, by the case's name.
    fn erase_files(&self, id: &CaseId) -> Result<(), EngineError> {
        let remove = |path: &Path| {
            let removed = match path.is_dir() {
                true => std::fs::remove_dir_all(path),
                false => std::fs::remove_file(path),
            };
            match removed {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other.map_err(EngineError::io("erasing", path)),
            }
        };
        let listed = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
        for item in listed(&self.project.folder("handouts")) {
            let name = item.file_name().to_string_lossy().into_owned();
            let of = name.rsplit_once("-h").map(|(case, _)| case);
            if of == Some(id.as_str()) {
                remove(&item.path())?;
            }
        }
        let inbox = self.project.inbox();
        let cases = &self.project.snapshot.cases;
        for folder in [
            inbox.clone(),
            inbox.join(DONE),
            inbox.join(HELD),
            inbox.join(QUARANTINE),
        ] {
            for item in listed(&folder) {
                let name = item.file_name().to_string_lossy().into_owned();
                let name = name.strip_suffix(".reason.json").unwrap_or(&name);
                if case_of_file(name, cases).as_ref() == Some(id) && item.path().is_file() {
                    remove(&item.path())?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a held file is of a case, or may be.
fn may_be(held: &HeldFile, id: &CaseId) -> bool {
    let mut fixes = held.mended.iter().chain(&held.fix);
    held.case == *id || fixes.any(|fix| *fix == Fix::Case(id.clone()))
}
