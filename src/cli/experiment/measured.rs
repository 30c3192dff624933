//! What a network made of the cases that are measured on: to look at, and how much of it need not be drawn again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Session, put};
use crate::effort::{pooled, saved_effort};
use crate::imaging::{Grid, LabelMap, Plane};
use crate::metrics::dice;
use crate::protocol::{Answer, CaseView, Command, Snapshot, Wanted};
use crate::records::{CaseId, ClassEffort, mean_of_known};
use crate::settings::Label;
use crate::study::{Picture, Run, Votes, panels};

/// Names of cases, and their pictures as PNG files.
pub type Pictures = Vec<(String, Vec<u8>)>;

/// What the measured cases came to.
#[derive(Default)]
pub struct Measured {
    /// A picture of each.
    pub pictures: Pictures,
    /// The effort that their drawings would have saved, pooled.
    pub effort: Vec<ClassEffort>,
    /// The same where a contour within a pixel counts as right.
    pub near_effort: Vec<ClassEffort>,
    /// Dice of what most labelled masks have at each voxel, a mean per class; empty where not all are of one size.
    pub majority_dice: Vec<Option<f64>>,
}

/// Looks at every measured case.
pub fn measured(
    session: &Session,
    folder: &Path,
    name: &str,
    run: &Run,
    snapshot: &Snapshot,
) -> Result<Measured> {
    fs::create_dir_all(folder).with_context(|| format!("making folder {}", folder.display()))?;
    let labels = &snapshot.settings.labels;
    let colours: Vec<[u8; 3]> = labels.0.iter().filter_map(Label::rgb).collect();
    let (mut pictures, mut efforts, mut near) = (Vec::new(), Vec::new(), Vec::new());
    let winners = majority(session, run, labels.classes())?;
    let mut of_majority = Vec::new();
    for id in &run.test {
        let view = look_at(session, id)?;
        let (Some(drawn), Some(mask), Some(margins)) = (view.predicted, view.corrected, view.margins) else {
            bail!("{id} has no drawing or no mask: what was drawn of it is not kept any more");
        };
        let [black, white] = view.image.window;
        let shade = |voxel| {
            let share = (view.image.at(voxel) - black) / (white - black).max(1e-9);
            (255.0 * share.clamp(0.0, 1.0)) as u8
        };
        let image: Vec<u8> = (0..view.grid.len()).map(shade).collect();
        let png = panels(&Picture {
            grid: &view.grid,
            plane: view.plane,
            image: &image,
            labels: &mask,
            drawn: &drawn.voxels,
            margins: &margins.voxels,
            colours: &colours,
        });
        let name = format!("{name}-{id}");
        put(&folder.join(format!("{name}.png")), &png)?;
        pictures.push((name, png));
        if let Some(winners) = winners
            .as_ref()
            .filter(|winners| winners.grid.shape == view.grid.shape)
        {
            of_majority.push(dice(&winners.voxels, &mask, labels.classes()));
        }
        let maps = [drawn.voxels, mask].map(|voxels| LabelMap {
            grid: view.grid,
            voxels,
        });
        let measure = |tolerance_mm| {
            let effort = saved_effort(&maps[0], &maps[1], view.plane, labels.classes(), tolerance_mm);
            effort.with_context(|| format!("measuring {id}"))
        };
        efforts.push(measure(snapshot.settings.effort.tolerance_mm)?);
        near.push(measure(pixel_mm(view.plane, &view.grid))?);
    }
    let of_class = |class: usize| mean_of_known(of_majority.iter().map(|dice: &Vec<_>| dice[class]));
    let is_voted = !of_majority.is_empty() && of_majority.len() == run.test.len();
    Ok(Measured {
        pictures,
        effort: pooled(efforts.iter().map(Vec::as_slice)),
        near_effort: pooled(near.iter().map(Vec::as_slice)),
        majority_dice: match is_voted {
            true => (0..labels.classes() - 1).map(of_class).collect(),
            false => Vec::new(),
        },
    })
}

/// The effort that the pre-annotations of some cases saved where a contour within a pixel counts as right, pooled.
pub fn near_effort(session: &Session, cases: &[CaseId], classes: usize) -> Result<Vec<ClassEffort>> {
    let mut efforts = Vec::new();
    for id in cases {
        let view = look_at(session, id)?;
        let maps = view.predicted.zip(view.corrected).filter(|_| view.is_measured);
        let Some((drawn, mask)) = maps else {
            // Nobody drew it beforehand.
            continue;
        };
        let [drawn, mask] = [drawn.voxels, mask].map(|voxels| LabelMap {
            grid: view.grid,
            voxels,
        });
        let effort = saved_effort(
            &drawn,
            &mask,
            view.plane,
            classes,
            pixel_mm(view.plane, &view.grid),
        );
        efforts.push(effort.with_context(|| format!("measuring {id}"))?);
    }
    Ok(pooled(efforts.iter().map(Vec::as_slice)))
}

/// A case with its image and maps.
fn look_at(session: &Session, id: &CaseId) -> Result<Box<CaseView>> {
    match session.ask(Command::Open(Wanted::of(id)))? {
        Answer::Case(view) => Ok(view),
        _ => bail!("{id} could not be looked at"),
    }
}

/// The longer side of a pixel of the slices.
fn pixel_mm(plane: Plane, grid: &Grid) -> f64 {
    let [width, height] = plane.pixel_mm(grid);
    width.max(height)
}

/// What most labelled masks have at each voxel; `None` where they are not of one size.
fn majority(session: &Session, run: &Run, classes: usize) -> Result<Option<LabelMap>> {
    let mut votes: Option<Votes> = None;
    for id in &run.labelled {
        let view = look_at(session, id)?;
        let mask = view.corrected.with_context(|| format!("{id} has no mask"))?;
        let votes = votes.get_or_insert_with(|| Votes::new(view.grid, classes));
        if !votes.add(&view.grid, &mask) {
            return Ok(None);
        }
    }
    Ok(votes.map(|votes| votes.winners()))
}
