//! From paths to cases: image files, case folders, folders of case folders, CSV lists.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::imaging::volume_stem;
use crate::protocol::ImportItem;
use crate::records::{CaseId, Pool};

/// The cases that the paths name, in the order of the paths and, inside a folder, of the names.
pub fn items(paths: &[PathBuf], mask: Option<&PathBuf>, id: Option<&CaseId>) -> Result<Vec<ImportItem>> {
    if (mask.is_some() || id.is_some()) && !(paths.len() == 1 && paths[0].is_file()) {
        bail!("--mask and --id go with exactly one image file");
    }
    let mut items = Vec::new();
    for path in paths {
        if path.is_dir() {
            items.extend(folder(path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
        {
            items.extend(list(path)?);
        } else {
            let id = match id {
                Some(id) => id.clone(),
                None => name_of(path)?,
            };
            items.push(ImportItem {
                id,
                images: vec![path.clone()],
                mask: mask.cloned(),
                pool: None,
            });
        }
    }
    // The engine may be another process, in another folder.
    for item in &mut items {
        for file in item.images.iter_mut().chain(&mut item.mask) {
            *file = std::path::absolute(&*file).with_context(|| format!("resolving {}", file.display()))?;
        }
    }
    Ok(items)
}

/// The case name that a path suggests: its last part without the NIfTI ending.
fn name_of(path: &Path) -> Result<CaseId> {
    let name = path
        .file_name()
        .with_context(|| format!("{} has no name", path.display()))?
        .to_string_lossy();
    CaseId::new(volume_stem(&name).unwrap_or(&name))
        .with_context(|| format!("naming the case of {} after it; give --id", path.display()))
}

/// A case folder (`image*` with a NIfTI ending, one a channel in the order of the names, and perhaps `label` with one),
/// or the case folders in a folder.
fn folder(path: &Path) -> Result<Vec<ImportItem>> {
    if let Some(item) = case_folder(path)? {
        return Ok(vec![item]);
    }
    let mut folders: Vec<PathBuf> = listing(path)?.into_iter().filter(|path| path.is_dir()).collect();
    folders.sort();
    let mut items = Vec::new();
    for folder in &folders {
        items.extend(case_folder(folder)?);
    }
    if items.is_empty() {
        bail!(
            "{} holds no image.nii.gz, and no folder in it does; give the image files themselves",
            path.display()
        );
    }
    Ok(items)
}

fn case_folder(path: &Path) -> Result<Option<ImportItem>> {
    let named = |path: &Path, start: &str| {
        path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            // The .img of a pair comes along with its .hdr.
            let is_half = name.to_lowercase().ends_with(".img");
            name.starts_with(start) && volume_stem(&name).is_some() && !is_half
        })
    };
    let files = listing(path)?;
    let mut images: Vec<PathBuf> = files
        .iter()
        .filter(|file| named(file, "image"))
        .cloned()
        .collect();
    if images.is_empty() {
        return Ok(None);
    }
    images.sort();
    let mask = files.into_iter().find(|file| named(file, "label"));
    let path = path
        .canonicalize()
        .with_context(|| format!("resolving {}", path.display()))?;
    Ok(Some(ImportItem {
        id: name_of(&path)?,
        images,
        mask,
        pool: None,
    }))
}

fn listing(path: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(path)
        .and_then(|items| items.map(|item| item.map(|item| item.path())).collect())
        .with_context(|| format!("looking into {}", path.display()))
}

/// A CSV list with a header: `case`, `image` (and `image2`, ..), `mask`, `pool`; relative paths are relative to it.
fn list(path: &Path) -> Result<Vec<ImportItem>> {
    let reading = || format!("reading {}", path.display());
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .with_context(reading)?;
    let header = reader.headers().with_context(reading)?.clone();
    if let Some(odd) = header
        .iter()
        .find(|name| !["case", "mask", "pool"].contains(name) && !name.starts_with("image"))
    {
        bail!(
            "{}: column {odd:?} is none of case, image, image2.., mask, pool",
            path.display()
        );
    }
    let base = path.parent().unwrap_or(Path::new(""));
    let mut items = Vec::new();
    for record in reader.records() {
        let record = record.with_context(reading)?;
        let line = record.position().map_or(0, csv::Position::line);
        let at = || format!("{}, line {line}", path.display());
        let column = |wanted: &str| {
            header
                .iter()
                .zip(&record)
                .find(|(name, value)| *name == wanted && !value.is_empty())
                .map(|(_, value)| value)
        };
        let images: Vec<PathBuf> = header
            .iter()
            .zip(&record)
            .filter(|(name, value)| name.starts_with("image") && !value.is_empty())
            .map(|(_, value)| base.join(value))
            .collect();
        let Some(first) = images.first() else {
            bail!("{}: names no image", at())
        };
        let id = match column("case") {
            Some(name) => CaseId::new(name).with_context(at)?,
            None => name_of(first).with_context(at)?,
        };
        let pool = match column("pool") {
            None => None,
            Some("labelled") => Some(Pool::Labelled),
            Some("unlabelled") => Some(Pool::Unlabelled),
            Some("held-out") => Some(Pool::HeldOut),
            Some(other) => bail!(
                "{}: pool {other:?} is none of labelled, unlabelled, held-out",
                at()
            ),
        };
        items.push(ImportItem {
            id,
            images,
            mask: column("mask").map(|mask| base.join(mask)),
            pool,
        });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_cases_channels_and_pools() {
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("cases.csv");
        fs::write(
            &csv,
            "case,image,image2,mask,pool\na,t1.nii,flair.nii,m.nii,held-out\n,x_1.nii.gz,,,\n",
        )
        .unwrap();
        let items = list(&csv).unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(items[0].images, [at("t1.nii"), at("flair.nii")]);
        assert_eq!(
            (items[0].mask.clone(), items[0].pool),
            (Some(at("m.nii")), Some(Pool::HeldOut))
        );
        assert_eq!(
            (items[1].id.as_str(), items[1].mask.clone(), items[1].pool),
            ("x_1", None, None)
        );
    }

    #[test]
    fn a_list_with_an_odd_column_or_pool_is_refused_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("cases.csv");
        fs::write(&csv, "image,label\nx.nii,y.nii\n").unwrap();
        assert!(list(&csv).unwrap_err().to_string().contains("\"label\""));
        fs::write(&csv, "image,pool\nx.nii,\ny.nii,test\n").unwrap();
        assert!(list(&csv).unwrap_err().to_string().contains("line 3"));
    }

    #[test]
    fn a_folder_of_case_folders_gives_each_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for (case, files) in [
            ("b", &["image.nii.gz", "label.nii.gz"][..]),
            ("a", &["image1.nii", "image2.nii"]),
        ] {
            fs::create_dir(folder.path().join(case)).unwrap();
            files
                .iter()
                .for_each(|file| fs::write(folder.path().join(case).join(file), "").unwrap());
        }
        let items = items(&[folder.path().to_path_buf()], None, None).unwrap();
        assert_eq!(
            items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!((items[0].images.len(), items[0].mask.is_some()), (2, false));
        assert_eq!((items[1].images.len(), items[1].mask.is_some()), (1, true));
    }
}
