//! What a network made of the cases that are measured on: to look at, and how much of it need not be drawn again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Session, put};
use crate::effort::{pooled, saved_effort};
use crate::imaging::LabelMap;
use crate::protocol::{Answer, Command, Snapshot, Wanted};
use crate::records::ClassEffort;
use crate::settings::Label;
use crate::study::{Picture, Run, panels};

/// Names of cases, and their pictures as PNG files.
pub type Pictures = Vec<(String, Vec<u8>)>;

/// A picture of every measured case, and the effort that their drawings would have saved, pooled.
pub fn measured(
    session: &Session,
    folder: &Path,
    name: &str,
    run: &Run,
    snapshot: &Snapshot,
) -> Result<(Pictures, Vec<ClassEffort>)> {
    fs::create_dir_all(folder).with_context(|| format!("making folder {}", folder.display()))?;
    let labels = &snapshot.settings.labels;
    let colours: Vec<[u8; 3]> = labels.0.iter().filter_map(Label::rgb).collect();
    let (mut pictures, mut efforts) = (Vec::new(), Vec::new());
    for id in &run.test {
        let Answer::Case(view) = session.ask(Command::Open(Wanted::of(id)))? else {
            bail!("{id} could not be looked at");
        };
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
        let map = |voxels| LabelMap {
            grid: view.grid,
            voxels,
        };
        let tolerance_mm = snapshot.settings.effort.tolerance_mm;
        let effort = saved_effort(
            &map(drawn.voxels),
            &map(mask),
            view.plane,
            labels.classes(),
            tolerance_mm,
        );
        efforts.push(effort.with_context(|| format!("measuring {id}"))?);
    }
    Ok((pictures, pooled(efforts.iter().map(Vec::as_slice))))
}
