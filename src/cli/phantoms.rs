//! Phantoms as files, for the demo and for experiments, and settings that fit them.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::args::PhantomsName;
use crate::imaging::{
    DATASET_SEED, ORGANS, Phantom, abdomen, encode_labels, encode_shorts, encode_volume, phantom,
};
use crate::protocol::ImportItem;
use crate::records::CaseId;
use crate::settings::{Image, Intensity, Label, Labels, Settings};

/// The first `count` of a set, without end otherwise.
pub fn set(of: PhantomsName) -> impl Iterator<Item = Phantom> {
    let all = (0..).map(move |index| match of {
        PhantomsName::Brain | PhantomsName::UsualBrain => phantom(DATASET_SEED, index),
        PhantomsName::Abdomen => abdomen(DATASET_SEED, index),
    });
    all.filter(move |made| of != PhantomsName::UsualBrain || !made.unusual)
}

/// Writes a phantom's image, and its mask beside it.
pub fn write(folder: &Path, id: CaseId, of: PhantomsName, made: &Phantom) -> Result<ImportItem> {
    let image = folder.join(format!("{id}.nii.gz"));
    let mask = folder.join(format!("{id}_seg.nii.gz"));
    let voxels = &made.image.voxels;
    let bytes = match of {
        // As scanners write them.
        PhantomsName::Abdomen => {
            let units: Vec<i16> = voxels.iter().map(|units| *units as i16).collect();
            encode_shorts(&made.image.grid, &units)
        }
        PhantomsName::Brain | PhantomsName::UsualBrain => encode_volume(&made.image),
    };
    fs::write(&image, bytes)?;
    fs::write(&mask, encode_labels(&made.truth, u16::from))?;
    Ok(ImportItem {
        id,
        images: vec![image],
        mask: Some(mask),
        pool: None,
    })
}

/// The settings of a project on them.
pub fn settings(of: PhantomsName) -> Settings {
    if of != PhantomsName::Abdomen {
        return Settings::default();
    }
    let colours = ["#9ecae1", "#a6541b", "#7b3f98", "#d94f70", "#f2f0d0", "#e31a1c"];
    let labels = (1..)
        .zip(ORGANS)
        .zip(colours)
        .map(|((value, name), color)| Label {
            value,
            name: name.into(),
            color: color.into(),
        });
    Settings {
        labels: Labels(labels.collect()),
        image: Image {
            intensity: Intensity::Ct,
            ..Image::default()
        },
        ..Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::TEMPLATE;

    #[test]
    fn settings_for_phantoms_hold_and_the_usual_ones_are_usual() {
        let path = Path::new("overtrace.toml");
        for of in [
            PhantomsName::Brain,
            PhantomsName::UsualBrain,
            PhantomsName::Abdomen,
        ] {
            let text = toml::to_string(&settings(of)).unwrap();
            assert_eq!(Settings::parse(&text, path).unwrap(), settings(of));
        }
        let template = Settings::parse(TEMPLATE, path).unwrap();
        assert_eq!(settings(PhantomsName::Brain), template);
        let organs = settings(PhantomsName::Abdomen);
        assert_eq!(organs.labels.names().collect::<Vec<_>>(), ORGANS);
        assert!(set(PhantomsName::UsualBrain).take(6).all(|made| !made.unusual));
        assert!(set(PhantomsName::Brain).take(5).any(|made| made.unusual));
    }
}
