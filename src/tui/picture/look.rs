//! How slices are looked at: layers, intensities, colours.

use serde::{Deserialize, Serialize};

/// How one class is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassLook {
    /// Whether it is shown at all.
    pub is_on: bool,
    /// How dense, 0 to 100: contours as they are, fills half as dense.
    pub opacity: u8,
}

/// Which layers are on.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// The label map.
    pub overlay: bool,
    /// The label map as contours instead of filled.
    pub contours: bool,
    /// The margin heat map.
    pub margin: bool,
    /// The paper's Fig. 6 (e) instead of the label map: contours in common, predicted, corrected.
    pub difference: bool,
    /// Lines through the crosshair.
    pub crosshair: bool,
    /// Of each class, background left out; those beyond the end are shown.
    pub classes: Vec<ClassLook>,
    /// What is black and what is white; the image's own percentiles when `None`.
    pub window: Option<[f64; 2]>,
    /// What intensities are shown in.
    pub colours: ColourMap,
}

impl Default for Look {
    fn default() -> Self {
        Look {
            overlay: true,
            contours: true,
            margin: false,
            difference: false,
            crosshair: false,
            classes: Vec::new(),
            window: None,
            colours: ColourMap::Grey,
        }
    }
}

impl Look {
    /// How class `k`, from 1, is shown.
    pub fn class(&self, k: u8) -> ClassLook {
        let whole = ClassLook {
            is_on: true,
            opacity: 100,
        };
        self.classes.get(usize::from(k) - 1).copied().unwrap_or(whole)
    }

    /// Changes how classes are shown: this one, from 1, or all of the first `classes`.
    pub fn change(&mut self, class: Option<u8>, classes: usize, change: impl Fn(&mut ClassLook)) {
        for k in 1..=classes as u8 {
            let look = self.class(k);
            if self.classes.len() < usize::from(k) {
                self.classes.push(look);
            }
        }
        match class {
            Some(k) => self
                .classes
                .get_mut(usize::from(k) - 1)
                .into_iter()
                .for_each(change),
            None => self.classes.iter_mut().for_each(change),
        }
    }
}

/// From black to white, in colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColourMap {
    /// Greys.
    Grey,
    /// White to black, as on film.
    Inverted,
    /// Black, red, yellow, white.
    Hot,
    /// Greys with a tinge of blue, as radiographs were looked at.
    Bone,
}

impl ColourMap {
    /// All of them, in the order that a key goes through.
    pub const ALL: [ColourMap; 4] = [
        ColourMap::Grey,
        ColourMap::Inverted,
        ColourMap::Hot,
        ColourMap::Bone,
    ];

    /// The word people see.
    pub fn word(self) -> &'static str {
        match self {
            ColourMap::Grey => "grey",
            ColourMap::Inverted => "inverted",
            ColourMap::Hot => "hot",
            ColourMap::Bone => "bone",
        }
    }

    /// The next one.
    pub fn next(self) -> ColourMap {
        let at = ColourMap::ALL.iter().position(|map| *map == self).unwrap_or(0);
        ColourMap::ALL[(at + 1) % ColourMap::ALL.len()]
    }

    /// The colour of a brightness.
    pub fn rgb(self, v: u8) -> [u8; 3] {
        // A ramp that begins at `from` and ends `over` later.
        let ramp = |from: u16, over: u16| ((u16::from(v).saturating_sub(from)) * 255 / over).min(255) as u8;
        match self {
            ColourMap::Grey => [v; 3],
            ColourMap::Inverted => [255 - v; 3],
            ColourMap::Hot => [ramp(0, 95), ramp(95, 96), ramp(191, 64)],
            ColourMap::Bone => {
                // 7/8 grey and 1/8 of a ramp for each channel, blue first.
                let tinged = |other: u8| ((u16::from(v) * 7 + u16::from(other)) / 8) as u8;
                [tinged(ramp(191, 64)), tinged(ramp(95, 96)), tinged(ramp(0, 95))]
            }
        }
    }
}

/// A way to see intensities: its name, and black and white, `None` for the image's own percentiles.
pub struct Preset {
    /// What it is for.
    pub name: &'static str,
    /// Black and white, in the image's unit.
    pub window: Option<[f64; 2]>,
}

/// From level and width in Hounsfield units.
const fn hounsfield(name: &'static str, level: f64, width: f64) -> Preset {
    Preset {
        name,
        window: Some([level - width / 2.0, level + width / 2.0]),
    }
}

/// The percentiles, then the usual windows of CT.
pub static PRESETS: [Preset; 7] = [
    Preset {
        name: "percentiles",
        window: None,
    },
    hounsfield("CT brain", 40.0, 80.0),
    hounsfield("CT subdural", 75.0, 215.0),
    hounsfield("CT soft tissue", 50.0, 400.0),
    hounsfield("CT liver", 30.0, 150.0),
    hounsfield("CT bone", 400.0, 1800.0),
    hounsfield("CT lung", -600.0, 1500.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_map_runs_from_one_end_to_the_other_without_a_fold() {
        for map in ColourMap::ALL {
            let light = |v: u8| map.rgb(v).iter().map(|&c| u32::from(c)).sum::<u32>();
            let rises = map != ColourMap::Inverted;
            assert!((1..=255).all(|v| (light(v) >= light(v - 1)) == rises || light(v) == light(v - 1)));
            assert_eq!([light(0), light(255)], if rises { [0, 765] } else { [765, 0] });
        }
        assert_eq!(ColourMap::Bone.next(), ColourMap::Grey);
    }

    #[test]
    fn one_class_or_all_are_changed() {
        let mut look = Look::default();
        look.change(Some(2), 3, |class| class.is_on = false);
        assert_eq!(
            [1, 2, 3, 9].map(|k| look.class(k).is_on),
            [true, false, true, true]
        );
        look.change(None, 3, |class| class.opacity -= 10);
        assert_eq!([1, 2, 4].map(|k| look.class(k).opacity), [90, 90, 100]);
    }
}
