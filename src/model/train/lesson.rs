//! What each member of a committee learns from a batch of tiles: all of them the same, or each from all but its own share of
//! the cases.

use candle_core::{Device, Result, Tensor};

use super::samples::Sampler;
use super::tiles::Tiles;
use crate::imaging::Rng;
use crate::model::data::Case;
use crate::records::TrainTask;
use crate::settings::Ensemble;

/// What a member learns from.
pub struct Lesson<'a> {
    tiles: &'a Tiles,
    sampler: Option<Sampler<'a>>,
    /// Of every tile whether it is learnt from.
    is_taught: Vec<bool>,
    /// Those that are.
    taught: Vec<usize>,
}

impl<'a> Lesson<'a> {
    /// One for all members, or, of folds, one for each.
    pub fn all(task: &TrainTask, cases: &'a [Case], tiles: &'a Tiles, rng: &Rng) -> Vec<Lesson<'a>> {
        let members = task.architecture.networks.members().count();
        let left_out = match task.training.ensemble {
            Ensemble::Seeds | Ensemble::Snapshots => vec![Vec::new()],
            Ensemble::Folds => folds(cases, tiles, members, &rng.fork("folds")),
        };
        let lesson = |left_out: Vec<usize>| {
            let cases_of = tiles.places().iter().map(|place| place.case);
            let is_taught: Vec<bool> = cases_of.map(|case| !left_out.contains(&case)).collect();
            let taught: Vec<usize> = (0..tiles.len()).filter(|&tile| is_taught[tile]).collect();
            Lesson {
                tiles,
                sampler: Sampler::new(&task.training, cases, tiles, &taught),
                is_taught,
                taught,
            }
        };
        left_out.into_iter().map(lesson).collect()
    }

    /// Whether a tile is learnt from.
    pub fn teaches(&self, tile: usize) -> bool {
        self.is_taught[tile]
    }

    /// Inputs and classes of those of a batch's tiles that are learnt from; of a batch without any, of one that stands in.
    ///
    /// * `epoch`: what is drawn in it depends on this
    ///
    /// # Errors
    /// None on the CPU.
    pub fn batch(&self, batch: &[usize], epoch: &Rng, device: &Device) -> Result<(Tensor, Tensor)> {
        let mut own: Vec<usize> = batch
            .iter()
            .copied()
            .filter(|&tile| self.is_taught[tile])
            .collect();
        if own.is_empty() {
            own.extend(batch.first().map(|tile| self.taught[tile % self.taught.len()]));
        }
        match &self.sampler {
            Some(sampler) => sampler.batch(&own, epoch, device),
            None => self.tiles.batch(&own, device),
        }
    }
}

/// The cases that each member leaves out: those that fall to it by their names, whatever else is labelled, so that it leaves them
/// out in every round. To whom all fall, that one leaves none out.
fn folds(cases: &[Case], tiles: &Tiles, members: usize, rng: &Rng) -> Vec<Vec<usize>> {
    let mut learnt: Vec<usize> = tiles.places().iter().map(|place| place.case).collect();
    learnt.sort_unstable();
    learnt.dedup();
    let falls_to = |case: usize| rng.fork(cases[case].id.as_str()).below(members);
    let share = |member| {
        let share: Vec<usize> = learnt
            .iter()
            .copied()
            .filter(|&case| falls_to(case) == member)
            .collect();
        match share.len() == learnt.len() {
            true => Vec::new(),
            false => share,
        }
    };
    (0..members).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::data::Field;
    use crate::model::train::tests::{discs_and_squares, task};
    use crate::model::train::tiles::split;
    use crate::settings::Recipe;

    fn values((images, classes): (Tensor, Tensor)) -> (Vec<f32>, Vec<u8>) {
        (
            images.flatten_all().unwrap().to_vec1().unwrap(),
            classes.flatten_all().unwrap().to_vec1().unwrap(),
        )
    }

    #[test]
    fn every_case_is_left_out_by_one_member_and_taught_by_the_others() {
        let cases: Vec<Case> = ["a", "b", "c", "d"]
            .iter()
            .zip(0..)
            .map(|(name, n)| discs_and_squares(name, 6, n))
            .collect();
        let (learn, _) = split(&cases, Field::TILE, &mut Rng::new(1));
        let mut task = task("weights".as_ref(), 1);
        task.architecture.networks = "u-net+u-net+u-net".parse().unwrap();
        let lessons = |task: &TrainTask| Lesson::all(task, &cases, &learn, &Rng::new(1)).len();
        assert_eq!(lessons(&task), 1, "one for all");
        task.training.ensemble = Ensemble::Folds;
        for recipe in [Recipe::Paper, Recipe::Strong] {
            task.training.recipe = recipe;
            // By "strong" foreground is drawn from any tile of the lesson; what it is cut from shows in its pixels.
            let lessons = Lesson::all(&task, &cases, &learn, &Rng::new(1));
            for tile in 0..learn.len() {
                assert_eq!(lessons.iter().filter(|lesson| !lesson.is_taught[tile]).count(), 1);
            }
            let of_lattice = |tile: usize| values(learn.batch(&[tile], &Device::Cpu).unwrap());
            for lesson in &lessons {
                let theirs: Vec<_> = (0..learn.len())
                    .filter(|&tile| !lesson.is_taught[tile])
                    .map(of_lattice)
                    .collect();
                for seed in 0..30 {
                    let batch: Vec<usize> = (0..learn.len()).collect();
                    let (images, classes) = lesson.batch(&batch, &Rng::new(seed), &Device::Cpu).unwrap();
                    assert_eq!(images.dim(0).unwrap(), lesson.taught.len());
                    for n in 0..lesson.taught.len() {
                        let one = (images.narrow(0, n, 1).unwrap(), classes.narrow(0, n, 1).unwrap());
                        assert!(
                            !theirs.contains(&values(one)),
                            "a tile of a case that is left out"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_batch_of_a_case_that_is_left_out_has_a_tile_of_another_and_a_case_alone_is_taught() {
        let cases: Vec<Case> = ["a", "b", "c"]
            .iter()
            .zip(1..)
            .map(|(name, seed)| discs_and_squares(name, 6, seed))
            .collect();
        let (learn, _) = split(&cases, Field::TILE, &mut Rng::new(1));
        let mut task = task("weights".as_ref(), 1);
        task.architecture.networks = "u-net+u-net".parse().unwrap();
        task.training.ensemble = Ensemble::Folds;
        // By this seed some fall to either.
        let all = |seed| Lesson::all(&task, &cases, &learn, &Rng::new(seed));
        let leave_out = |seed: &u64| all(*seed).iter().all(|lesson| lesson.taught.len() < learn.len());
        let seed = (1..100).find(leave_out).unwrap();
        let lessons = all(seed);
        for lesson in &lessons {
            let theirs = (0..learn.len()).find(|&tile| !lesson.is_taught[tile]).unwrap();
            let (images, _) = lesson.batch(&[theirs], &Rng::new(1), &Device::Cpu).unwrap();
            let images: Vec<f32> = images.flatten_all().unwrap().to_vec1().unwrap();
            let is_from = |tile: &usize| values(learn.batch(&[*tile], &Device::Cpu).unwrap()).0 == images;
            assert!(lesson.taught.iter().any(is_from));
        }
        // Another case beside them changes nothing about who leaves out which.
        let left_out = |lesson: &Lesson| -> Vec<String> {
            let places = lesson.tiles.places().iter().zip(&lesson.is_taught);
            let mut names: Vec<String> = places
                .filter(|(place, is_taught)| !**is_taught && place.case < 3)
                .map(|(place, _)| cases[place.case].id.to_string())
                .collect();
            names.dedup();
            names
        };
        let more = [&cases[..], &[discs_and_squares("d", 6, 4)]].concat();
        let (learn, _) = split(&more, Field::TILE, &mut Rng::new(1));
        for (before, after) in lessons
            .iter()
            .zip(Lesson::all(&task, &more, &learn, &Rng::new(seed)))
        {
            assert_eq!(left_out(before), left_out(&after));
        }
        let (learn, _) = split(&cases[..1], Field::TILE, &mut Rng::new(1));
        for lesson in Lesson::all(&task, &cases[..1], &learn, &Rng::new(1)) {
            assert_eq!(lesson.taught.len(), learn.len());
        }
    }
}
