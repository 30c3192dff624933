//! What a dropped file must pass, in order: name, kind, case, rest, container, geometry, values, sanity.
//!
//! A check looks at what the earlier ones found out and adds to it. Codes are those of the hand-in rules, which
//! the README lists.

use std::path::Path;

use jiff::Timestamp;

use super::content::{c_read, g_grid, h2_notes, s1_rest, s2_regular, v_values};
use super::mixups::p2_mixed_up;
use super::names::{is_reply, n1_passing, n2_name, n3_case, n4_forgotten, n4_handed_out, n4_whose};
use super::shown;
use super::writers::Writers;
use crate::engine::EngineError;
use crate::engine::project::Project;
use crate::imaging::{LabelMap, Scan};
use crate::records::{CaseId, Fix, HandoutId, Hash, HeldFile};
use crate::store::Blobs;
use crate::worker::Parser;

/// What a check found.
#[derive(Debug)]
pub enum Finding {
    /// Go on.
    Pass,
    /// Go on, with a note.
    Warn(&'static str, String),
    /// A person has to decide.
    Hold(&'static str, String),
    /// Refused.
    Reject(&'static str, String),
    /// Refused, and not kept.
    Erase(&'static str, String),
    /// Look again later.
    Wait(&'static str, String),
    /// Leave alone.
    Ignore(&'static str),
    /// The very content was taken in before.
    Known(String),
}

/// A dropped file and what is known of it so far.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its name as it was dropped, as it may be shown.
    pub name: String,
    /// When it last changed.
    seen: Timestamp,
    /// What a person decided.
    decision: Option<Decision>,
    /// Reads it.
    pub parser: &'a Parser,
    /// Who is writing.
    pub writers: &'a Writers,
    /// The case it is for.
    pub case: Option<CaseId>,
    /// The hand-out that it answers.
    pub answers: Option<HandoutId>,
    /// What a person says is to be undone, in this order.
    pub mends: Vec<Fix>,
    /// Codes that a person lets pass.
    passed: Vec<String>,
    /// How many times the usual time reading it may take.
    pub patience: f64,
    /// The other way to read it, for a person to choose.
    pub fix: Option<Fix>,
    /// Its bytes, of a pair the one file made of both; and their BLAKE3.
    pub bytes: Vec<u8>,
    pub file: Option<Hash>,
    /// Whether it looked the same for long enough, where its own times say nothing.
    pub rested: Option<bool>,
    /// The label table that lies beside it.
    pub table: Option<Vec<u8>>,
    pub scan: Option<Scan>,
    /// Its classes, on the image's grid.
    pub mask: Option<LabelMap>,
}

/// What files are looked at with.
type Tools<'a> = (&'a Parser, &'a Writers);

impl<'a> Candidate<'a> {
    /// A file nothing is known of.
    pub fn new(path: &'a Path, seen: Timestamp, (parser, writers): Tools<'a>) -> Self {
        Candidate {
            path,
            name: shown(path),
            seen,
            decision: None,
            parser,
            writers,
            case: None,
            answers: None,
            mends: Vec::new(),
            passed: Vec::new(),
            patience: 1.0,
            table: None,
            rested: None,
            fix: None,
            bytes: Vec::new(),
            file: None,
            scan: None,
            mask: None,
        }
    }

    /// A held file that a person decided about.
    pub fn decided(
        path: &'a Path,
        seen: Timestamp,
        tools: Tools<'a>,
        held: &HeldFile,
        decision: Decision,
    ) -> Self {
        let mut mends = held.mended.clone();
        mends.extend(held.fix.clone().filter(|_| decision == Decision::Fix));
        let other = mends.iter().rev().find_map(|fix| match fix {
            Fix::Case(other) => Some(other.clone()),
            _ => None,
        });
        Candidate {
            name: held.name.clone(),
            decision: Some(decision),
            // It answered what was asked of the case that it was taken for.
            answers: held.answers.filter(|_| other.is_none()),
            case: Some(other.unwrap_or_else(|| held.case.clone())),
            mends,
            passed: held.passed.iter().cloned().chain([held.code.clone()]).collect(),
            patience: 10.0,
            ..Candidate::new(path, seen, tools)
        }
    }

    /// Whether a person lets this pass.
    pub(super) fn passes(&self, code: &str) -> bool {
        self.passed.iter().any(|passed| passed == code)
    }

    pub(super) fn is_decided(&self) -> bool {
        self.decision.is_some()
    }

    /// Seconds since it last changed.
    pub(super) fn waited_s(&self) -> f64 {
        Timestamp::now().duration_since(self.seen).as_secs_f64()
    }

    pub(super) fn case(&self) -> &CaseId {
        self.case.as_ref().expect("the case was found before this check")
    }
}

/// How a held file is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// As it is.
    Accept,
    /// The other way to read it.
    Fix,
}

type Check = fn(&mut Candidate, &Project) -> Result<Finding, EngineError>;

/// Every check, in order.
pub const CHECKS: &[Check] = &[
    n1_passing,
    s2_regular,
    n2_name,
    n3_case,
    n4_forgotten,
    n4_whose,
    s1_rest,
    c_read,
    p4_again,
    n4_handed_out,
    h2_notes,
    g_grid,
    v_values,
    p1_sane,
    p2_mixed_up,
    p3_unchanged,
];

/// What makes a mask of a file.
pub const READING: &[Check] = &[c_read, g_grid, v_values];

/// P4: content that was handed in before is not taken twice, nor for another case.
fn p4_again(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let case = candidate.case();
    let table = candidate.table.as_deref().map(Blobs::hash);
    let same = project
        .snapshot
        .corrections
        .values()
        .filter(|old| Some(old.file) == candidate.file);
    let mut same = same.collect::<Vec<_>>();
    same.sort_by_key(|old| &old.case != case);
    let Some(old) = same.first() else {
        return Ok(Finding::Pass);
    };
    if &old.case != case {
        return Ok(Finding::Reject(
            "P4",
            format!(
                "the very bytes that were handed in for {} ({}); send this case's own mask",
                old.case, old.id
            ),
        ));
    }
    // Other names make other labels of the same values.
    let Some(old) = same.iter().rfind(|old| &old.case == case && old.table == table) else {
        return Ok(Finding::Pass);
    };
    // A case handed out again may come back as it was, under the name that was asked for; under any other name it is the file
    // that came before, once more.
    let open = project.case(case)?.handout.filter(|open| *open != old.handout);
    let open = open.and_then(|open| project.snapshot.handouts.get(&open));
    match open.filter(|open| is_reply(&candidate.name, &open.reply_name)) {
        None => Ok(Finding::Known(format!(
            "taken in before, as correction {}",
            old.id
        ))),
        Some(open) if open.owner == old.who => Ok(Finding::Pass),
        Some(open) => Ok(Finding::Hold(
            "P4",
            format!(
                "the very bytes of {} by {}; accept it if {} agrees with every voxel",
                old.id, old.who, open.owner
            ),
        )),
    }
}

/// P1: an empty mask, or a class gone that the pre-annotation had plenty of.
fn p1_sane(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    const PLENTY: u64 = 50;
    let labels = &project.snapshot.settings.labels;
    let mask = candidate
        .mask
        .as_ref()
        .expect("the values were read before this check");
    let counts = mask.class_voxels(labels.classes());
    if counts[1..].iter().all(|&n| n == 0) {
        return Ok(Finding::Hold(
            "P1",
            "the mask is empty; accept it if there is nothing to draw".into(),
        ));
    }
    let Some(drawn) = pre_annotation(candidate, project)? else {
        return Ok(Finding::Pass);
    };
    let before = drawn.class_voxels(labels.classes());
    let gone: Vec<String> = (1..labels.classes())
        .filter(|&class| counts[class] == 0 && before[class] > PLENTY)
        .map(|class| format!("{} ({} voxels were drawn)", labels.name_of(class), before[class]))
        .collect();
    if gone.is_empty() {
        return Ok(Finding::Pass);
    }
    Ok(Finding::Hold(
        "P1",
        format!("the mask has no {}; accept it if that is meant", gone.join(", ")),
    ))
}

/// P3: nothing was changed.
fn p3_unchanged(candidate: &mut Candidate, project: &Project) -> Result<Finding, EngineError> {
    let drawn = pre_annotation(candidate, project)?;
    let same = drawn.is_some_and(|drawn| {
        candidate
            .mask
            .as_ref()
            .is_some_and(|mask| mask.voxels == drawn.voxels)
    });
    if same {
        let words = "it is what was handed out, unchanged; accept it to approve the pre-annotation as it is";
        return Ok(Finding::Hold("P3", words.into()));
    }
    Ok(Finding::Pass)
}

pub(super) fn pre_annotation(
    candidate: &Candidate,
    project: &Project,
) -> Result<Option<LabelMap>, EngineError> {
    let handout = candidate
        .answers
        .and_then(|id| project.snapshot.handouts.get(&id));
    handout
        .map(|handout| project.label_map(handout.pre_annotation, "the pre-annotation"))
        .transpose()
}
