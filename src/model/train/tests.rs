use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::student::{annealed, fallen};
use super::*;
use crate::imaging::{Grid, LabelMap, Plane, Volume};
use crate::metrics::dice;
use crate::model::blend::draw_blended;
use crate::model::data::Field;
use crate::model::draw::draw;
use crate::model::tiling::TILE_PIXELS;
use crate::records::{Architecture, CaseId, SliceSums};
use crate::settings::{
    Drawing, Ensemble, Intensity, Loss, Network, Networks, Part, Precision, Recipe, Training,
};

/// Slices with a disc (class 1) and an equally bright square (class 2) on background: a third of the pixels, as in a
/// skull-stripped brain. With a tenth, Dice and MSE alike end at all background, here as in PyTorch.
pub fn discs_and_squares(name: &str, slices: usize, seed: u64) -> Case {
    let grid = Grid::new([64, 64, slices], [1.0; 3]);
    let (mut image, mut mask) = (vec![0.0; grid.len()], LabelMap::empty(grid));
    let mut rng = Rng::new(seed);
    for slice in 0..slices {
        let (disc, square) = (
            (rng.range(16.0, 48.0), rng.range(15.0, 17.0)),
            (rng.range(16.0, 48.0), rng.range(47.0, 49.0)),
        );
        for (y, x) in (0..64).flat_map(|y| (0..64).map(move |x| (y, x))) {
            let to = |(cx, cy): (f64, f64)| ((x as f64 - cx).abs(), (y as f64 - cy).abs());
            let ((dx, dy), (sx, sy)) = (to(disc), to(square));
            let class = if dx.hypot(dy) < 15.0 {
                1
            } else if sx.max(sy) < 14.0 {
                2
            } else {
                0
            };
            let at = (slice * 64 + y) * 64 + x;
            image[at] = if class > 0 {
                (3.0 + 0.2 * rng.normal()) as f32
            } else {
                0.0
            };
            mask.voxels[at] = class;
        }
    }
    let volume = Volume { grid, voxels: image };
    Case::new(
        CaseId::new(name).unwrap(),
        vec![volume],
        Some(mask),
        Plane(2),
        Intensity::Zscore,
        3,
    )
    .unwrap()
}

pub fn task(weights: &Path, max_epochs: usize) -> TrainTask {
    TrainTask {
        architecture: Architecture {
            networks: Networks::default(),
            channels: 1,
            classes: 3,
            base_channels: 4,
            slices: 1,
            deep_supervision: false,
        },
        start: None,
        cases: Vec::new(),
        training: Training {
            recipe: Recipe::Paper,
            without: Vec::new(),
            with: Vec::new(),
            loss: Loss::Dice,
            ensemble: Ensemble::Seeds,
            learning_rate: 1e-3,
            batch: 4,
            max_epochs,
            patience: 30,
            steps: 0,
            seed: 1,
            threads: 2,
        },
        intensity: Intensity::Zscore,
        precision: Precision::F32,
        weights: weights.to_path_buf(),
        resume: None,
    }
}

fn run(task: &TrainTask, cases: &[Case]) -> Trained {
    match train_on(task, &Processor::CPU, cases, &mut |_| ControlFlow::Continue(())).unwrap() {
        TaskResult::Trained(trained) => trained,
        other => panic!("{other:?}"),
    }
}

fn folder() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_path_buf();
    (folder, move |name: &str| path.join(name))
}

#[test]
fn discs_are_told_from_squares_and_a_warm_start_goes_on_from_there() {
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 20, 1), discs_and_squares("b", 20, 2)];
    let cold = run(&task(&file("cold"), 15), &cases);
    let best = &cold.curve[cold.best_epoch - 1];
    assert!(best.dice.iter().all(|d| d.unwrap() > 0.9), "{best:?}");
    assert!(best.loss < 0.5 * cold.curve[0].loss);
    let mut task = task(&file("warm"), 1);
    task.start = Some(file("cold"));
    let warm = run(&task, &cases);
    assert!(
        warm.curve[0].loss < 0.5 * cold.curve[0].loss,
        "{:?} after {:?}",
        warm.curve,
        cold.curve[0]
    );
}

#[test]
fn the_strong_recipe_learns_too() {
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 20, 1), discs_and_squares("b", 20, 2)];
    let mut task = task(&file("strong"), 20);
    task.training.recipe = Recipe::Strong;
    let trained = run(&task, &cases);
    let best = &trained.curve[trained.best_epoch - 1];
    assert!(best.dice.iter().all(|d| d.unwrap() > 0.9), "{best:?}");
}

/// Squares darker than discs: few slices have to do. Nineteen of them are a stack and a part of one.
#[test]
fn the_other_networks_learn_too_are_kept_and_draw_what_they_learnt() {
    let (_folder, file) = folder();
    let case = |name: &str, slices, empty, seed| {
        let mut case = discs_and_squares(name, slices + empty, seed);
        case.channels[0].voxels[slices * TILE_PIXELS..].fill(0.0);
        case.mask.as_mut().unwrap().voxels[slices * TILE_PIXELS..].fill(0);
        let mask = &case.mask.as_ref().unwrap().voxels;
        for (voxel, class) in case.channels[0].voxels.iter_mut().zip(mask) {
            *voxel *= if *class == 2 { 0.5 } else { 1.0 };
        }
        case
    };
    let cases = [case("a", 30, 18, 1), case("b", 30, 18, 2)];
    let committee = vec![Network::UNet, Network::VoxResNet];
    let kinds = [
        (Networks::one(Network::VoxResNet), 12),
        (Networks::one(Network::MultiScale), 4),
        (committee.try_into().unwrap(), 12),
    ];
    for (networks, epochs) in kinds {
        let weights = file(&networks.to_string());
        let mut task = task(&weights, epochs);
        task.architecture.networks = networks;
        task.architecture.base_channels = 8;
        task.training.learning_rate = 5e-3;
        let trained = run(&task, &cases);
        let best = &trained.curve[trained.best_epoch - 1];
        assert!(best.dice.iter().all(|d| d.unwrap() > 0.8), "{networks}: {best:?}");
        let net = checkpoint::load_network(&weights, &task.architecture, &Device::Cpu).unwrap();
        let tick = &mut || ControlFlow::Continue(());
        // After a stack of slices come stacks without anything.
        let drawn = draw(&net, &case("d", 16, 18, 4), 16, tick).unwrap().unwrap();
        let empty = &drawn.labels.voxels[16 * TILE_PIXELS..];
        assert!(empty.iter().all(|class| *class == 0), "{networks}");
        let other = case("c", 19, 0, 3);
        for overlap in [false, true] {
            let drawing = Drawing {
                overlap,
                mirroring: false,
            };
            let drawn = match overlap {
                false => draw(&net, &other, 16, tick),
                true => draw_blended(&net, &other, 16, drawing, tick),
            };
            let drawn = drawn.unwrap().unwrap();
            let dice = dice(&drawn.labels.voxels, &other.mask.as_ref().unwrap().voxels, 3);
            assert!(dice.iter().all(|d| d.unwrap() > 0.8), "{networks}: {dice:?}");
            let members = if networks.is_committee() { 2 } else { 0 };
            assert_eq!(drawn.members.len(), members);
            let pixels = |sums: &SliceSums| sums.pixels as usize == other.grid().len();
            assert!(drawn.members.iter().all(pixels), "{networks}");
        }
    }
}

/// The last of ten steps has a tenth of the way to go, whatever the number of steps was called in.
#[test]
fn the_rate_falls_to_nothing() {
    assert_eq!(
        (fallen(0.01, 0.0), fallen(0.01, 1.0), fallen(0.01, 7.0)),
        (0.01, 0.0, 0.0)
    );
    assert!((fallen(1.0, 0.9) - 0.1f64.powf(0.9)).abs() < 1e-12);
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 12, 1)];
    let last = |without: Vec<Part>| {
        let mut task = task(&file("rate"), 3);
        task.training.recipe = Recipe::Strong;
        task.training.without = without;
        let rng = Rng::new(1);
        let processor = Processor::CPU;
        let mut student = Student::new(&task, &processor, &rng, None).unwrap();
        let (learn, _) = split(&cases, Field::TILE, &mut rng.fork("validation"));
        let mut epoch = Epoch::new(3, 3, vec![vec![0], vec![1]]);
        let draw = |tiles: &[usize]| Ok(vec![learn.batch(tiles, &Device::Cpu)?]);
        student
            .epoch(&mut epoch, &draw, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        student.learning.adam.rate
    };
    // The last step of three epochs of two: five sixths are done.
    assert!((last(Vec::new()) - fallen(1e-3, 5.0 / 6.0)).abs() < 1e-12);
    assert_eq!(last(vec![Part::Poly]), 1e-3);
}

#[test]
fn the_rate_of_snapshots_falls_along_a_cosine_and_begins_again() {
    let at = |done: f64| annealed(0.01, done, 2);
    for (done, share) in [
        (0.0, 1.0),
        (0.125, 0.5 + 0.125f64.sqrt()),
        (0.25, 0.5),
        (0.5, 1.0),
        (0.75, 0.5),
    ] {
        assert!((at(done) - 0.01 * share).abs() < 1e-12, "{done}: {}", at(done));
    }
    assert!(at(0.4999) < 1e-8);
    // Of the last of eight steps in two cycles three quarters of a cycle are done.
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 12, 1)];
    let mut task = task(&file("rate"), 1);
    task.architecture.networks = "u-net+u-net".parse().unwrap();
    (task.training.ensemble, task.training.steps) = (Ensemble::Snapshots, 8);
    let rng = Rng::new(1);
    let processor = Processor::CPU;
    let mut student = Student::new(&task, &processor, &rng, None).unwrap();
    let (learn, _) = split(&cases, Field::TILE, &mut rng.fork("validation"));
    let mut epoch = Epoch::new(1, 1, (0..8).map(|tile| vec![tile]).collect());
    let draw = |tiles: &[usize]| Ok(vec![learn.batch(tiles, &Device::Cpu)?]);
    student
        .epoch(&mut epoch, &draw, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert!((student.learning.adam.rate - annealed(1e-3, 0.875, 2)).abs() < 1e-12);
}

/// A rate of 0: what is saved is what was loaded.
#[test]
fn a_warm_start_begins_from_the_given_weights() {
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 3, 1)];
    run(&task(&file("first"), 1), &cases);
    let mut task = task(&file("second"), 1);
    task.start = Some(file("first"));
    task.training.learning_rate = 0.0;
    task.training.seed = 99;
    run(&task, &cases);
    let load = |name| checkpoint::load(&file(name), &task.architecture, None, &Device::Cpu).unwrap();
    let (first, second) = (load("first"), load("second"));
    for (name, weight) in first {
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&weight), values(&second[&name]), "{name}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_with_any_number_of_threads() {
    same_bytes(Recipe::Paper, Networks::default());
    same_bytes(Recipe::Strong, Networks::default());
    same_bytes(Recipe::Strong, others());
}

/// The networks that see more than a tile.
fn others() -> Networks {
    vec![Network::VoxResNet, Network::MultiScale].try_into().unwrap()
}

fn same_bytes(recipe: Recipe, networks: Networks) {
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 7, 1)];
    let bytes = |name: &str, seed, threads| {
        let mut task = task(&file(name), 2);
        task.training.recipe = recipe;
        if recipe == Recipe::Strong {
            task.training.with = vec![Part::Augmentation, Part::Mirroring];
        }
        task.architecture.networks = networks;
        (task.training.seed, task.training.threads) = (seed, threads);
        run(&task, &cases);
        std::fs::read(file(name)).unwrap()
    };
    let first = bytes("first", 1, 2);
    assert!(first == bytes("again", 1, 2), "two runs differ");
    assert!(first == bytes("alone", 1, 1), "one thread and two differ");
    bytes("other", 2, 2);
    let head = |name: &str| {
        let shape = checkpoint::header_of(&file(name)).unwrap().architecture;
        let weights = checkpoint::load(&file(name), &shape, None, &Device::Cpu).unwrap();
        let head = weights
            .keys()
            .filter(|name| name.starts_with("head"))
            .min()
            .unwrap();
        weights[head].flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_ne!(head("first"), head("other"), "the seed is not used");
}

/// Trains until `epochs` new ones are done, then is cut off; what was said by then.
fn cut_short(task: &TrainTask, cases: &[Case], known: usize, epochs: usize) -> Vec<Progress> {
    let (mut said, mut done) = (Vec::new(), 0);
    let result = train_on(task, &Processor::CPU, cases, &mut |progress| {
        done += usize::from(matches!(progress, Progress::Epoch(_)));
        said.push(progress);
        match done >= known + epochs {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    assert_eq!(result.unwrap(), TaskResult::Cancelled);
    said
}

#[test]
fn a_training_that_is_cut_short_reaches_the_weights_that_it_would_have_reached_at_once() {
    cut_and_at_once(Recipe::Paper, Networks::default(), Ensemble::Seeds);
    cut_and_at_once(Recipe::Strong, Networks::default(), Ensemble::Seeds);
    cut_and_at_once(Recipe::Paper, others(), Ensemble::Seeds);
    for ensemble in [Ensemble::Folds, Ensemble::Snapshots] {
        cut_and_at_once(Recipe::Strong, "u-net+u-net".parse().unwrap(), ensemble);
    }
}

fn cut_and_at_once(recipe: Recipe, networks: Networks, ensemble: Ensemble) {
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 6, 1), discs_and_squares("d", 7, 2)];
    let task = |name: &str| {
        let mut task = task(&file(name), 6);
        task.training.recipe = recipe;
        if recipe == Recipe::Strong {
            task.training.with = vec![Part::Augmentation, Part::Mirroring];
        }
        task.training.ensemble = ensemble;
        if ensemble == Ensemble::Snapshots {
            // Two halves of six epochs.
            task.training.steps = 18;
        }
        task.architecture.networks = networks;
        task
    };
    if ensemble == Ensemble::Folds {
        let (learn, _) = split(&cases, Field::TILE, &mut Rng::new(1).fork("validation"));
        let lessons = Lesson::all(&task(""), &cases, &learn, &Rng::new(1));
        let left_out = |lesson: &Lesson| (0..learn.len()).any(|tile| !lesson.teaches(tile));
        assert!(
            lessons.len() == 2 && lessons.iter().all(left_out),
            "a case falls to either"
        );
    }
    let at_once = run(&task("at once"), &cases);
    let mut task = task("in parts");
    task.resume = Some(file("resume"));
    for known in 0..4 {
        cut_short(&task, &cases, known, 1);
        assert!(!file("in parts").exists(), "nothing is written before the end");
    }
    let in_parts = run(&task, &cases);
    assert_eq!(in_parts.best_epoch, at_once.best_epoch);
    let losses = |trained: &Trained| -> Vec<f64> { trained.curve.iter().map(|epoch| epoch.loss).collect() };
    assert_eq!(losses(&in_parts), losses(&at_once));
    let bytes = |name: &str| std::fs::read(file(name)).unwrap();
    assert!(bytes("in parts") == bytes("at once"), "other weights");
}

/// Cycles of one step each do not let the rate fall: the members are what one network is after one, two and three steps.
#[test]
fn snapshots_are_what_the_network_was_at_the_end_of_each_cycle() {
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 13, 1)];
    let weights = |name: &str, networks: &str, steps| {
        let mut task = task(&file(name), 1);
        task.architecture.networks = networks.parse().unwrap();
        task.training.steps = steps;
        if task.architecture.networks.is_committee() {
            task.training.ensemble = Ensemble::Snapshots;
        }
        assert_eq!(run(&task, &cases).curve.len(), 1);
        let loaded = checkpoint::load(&file(name), &task.architecture, None, &Device::Cpu).unwrap();
        move |prefix: &str, name: &str| -> Vec<f32> {
            let values = &loaded[&format!("{prefix}{name}")];
            values.flatten_all().unwrap().to_vec1().unwrap()
        }
    };
    let after = [1, 2, 3].map(|steps| weights(&format!("after {steps}"), "u-net", steps));
    let ensemble = weights("ensemble", "u-net+u-net+u-net", 3);
    for layer in ["down.0.0.weight", "head.bias"] {
        assert_eq!(ensemble("member.1.", layer), after[0]("", layer));
        assert_eq!(ensemble("member.2.", layer), after[1]("", layer));
        assert_eq!(ensemble("", layer), after[2]("", layer));
        assert_ne!(after[0]("", layer), after[1]("", layer));
    }
}

/// Three cycles of two epochs each: until a snapshot is taken the network itself stands there, or what was learnt before.
#[test]
fn a_snapshot_that_is_not_yet_taken_is_no_untrained_network() {
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 9, 1)];
    let mut task = task(&file("ensemble"), 1);
    task.architecture.networks = "u-net+u-net+u-net".parse().unwrap();
    (task.training.ensemble, task.training.steps) = (Ensemble::Snapshots, 12);
    let kept = |task: &TrainTask, epochs: usize| {
        let rng = Rng::new(1);
        let processor = Processor::CPU;
        let mut student = Student::new(task, &processor, &rng, None).unwrap();
        let (learn, _) = split(&cases, Field::TILE, &mut rng.fork("validation"));
        let draw = |tiles: &[usize]| Ok(vec![learn.batch(tiles, &Device::Cpu)?]);
        for number in 1..=epochs {
            let mut epoch = Epoch::new(number, 6, vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
            let going = student.epoch(&mut epoch, &draw, &mut |_| ControlFlow::Continue(()));
            going.unwrap();
        }
        let learned = student.checkpoint(1, epochs).unwrap().learned;
        ["", "member.1.", "member.2."].map(|prefix| {
            let name = format!("{prefix}head.bias");
            let (_, values, _) = learned.iter().find(|(found, ..)| *found == name).unwrap();
            values.clone()
        })
    };
    let [learner, first, second] = kept(&task, 1);
    assert_eq!([&first, &second], [&learner, &learner]);
    let [learner, first, second] = kept(&task, 3);
    assert_eq!(second, learner);
    assert_ne!(first, learner, "it was taken after two epochs");
    let all = kept(&task, 6);
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    // The next training goes on from the last: until it has snapshots of its own, those stand.
    run(&task, &cases);
    let load = |layer: &str| -> Vec<f32> {
        let loaded = checkpoint::load(&file("ensemble"), &task.architecture, None, &Device::Cpu).unwrap();
        loaded[layer].flatten_all().unwrap().to_vec1().unwrap()
    };
    let before = ["member.1.head.bias", "member.2.head.bias"].map(load);
    let mut next = task.clone();
    next.start = Some(file("ensemble"));
    let [_, first, second] = kept(&next, 1);
    assert_eq!([first, second], before);
}

/// A rate of 0: every epoch is as good as the first, which has no snapshot yet. The first with both, after 8 of 12 steps of two
/// an epoch, is kept.
#[test]
fn an_ensemble_is_kept_once_it_is_whole() {
    let (_folder, file) = folder();
    let mut task = task(&file("ensemble"), 1);
    task.architecture.networks = "u-net+u-net+u-net".parse().unwrap();
    (task.training.ensemble, task.training.steps) = (Ensemble::Snapshots, 12);
    task.training.learning_rate = 0.0;
    let trained = run(&task, &[discs_and_squares("a", 9, 1)]);
    assert_eq!((trained.best_epoch, trained.curve.len()), (4, 6));
}

#[test]
fn what_was_kept_of_another_training_or_is_damaged_is_left_and_said() {
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 7, 1)];
    let mut task = task(&file("weights"), 3);
    task.resume = Some(file("resume"));
    let is_anew = |said: &[Progress]| {
        let first = said.iter().find_map(|progress| match progress {
            Progress::Notice(words) => Some(words.contains("begins anew")),
            Progress::Epoch(_) => Some(false),
            _ => None,
        });
        first.unwrap()
    };
    assert!(!is_anew(&cut_short(&task, &cases, 0, 1)));
    assert!(!is_anew(&cut_short(&task, &cases, 1, 1)), "it goes on");
    task.training.seed = 2;
    assert!(is_anew(&cut_short(&task, &cases, 0, 1)), "another seed");
    let kept: Vec<PathBuf> = std::fs::read_dir(file("resume"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "safetensors")
        })
        .collect();
    assert_eq!(kept.len(), 2, "the last and the best, and none before: {kept:?}");
    for path in kept {
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert!(is_anew(&cut_short(&task, &cases, 0, 1)), "{}", path.display());
    }
}

/// 21 tiles to learn from, after one slice of each case is held out: six steps of 3 or 4 tiles.
#[test]
fn every_step_and_epoch_is_reported_and_a_break_stops_it() {
    let (_folder, file) = folder();
    let cases = [discs_and_squares("a", 12, 1), discs_and_squares("b", 11, 2)];
    let task = task(&file("weights"), 3);
    let mut heard = Vec::new();
    let result = train_on(&task, &Processor::CPU, &cases, &mut |progress| {
        heard.push(progress.clone());
        match progress {
            Progress::Epoch(epoch) if epoch.epoch == 2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    assert_eq!(result.unwrap(), TaskResult::Cancelled);
    assert!(!file("weights").exists());
    assert_eq!(heard.len(), 2 * (6 + 1), "21 tiles in steps of 4, and the epoch");
    assert_eq!(
        heard[5],
        Progress::Step {
            epoch: 1,
            max_epochs: 3,
            step: 6,
            steps: 6
        }
    );
}

#[test]
fn training_stops_after_patience_epochs_without_gain() {
    let (_folder, file) = folder();
    let mut task = task(&file("weights"), 100);
    (task.training.patience, task.training.learning_rate) = (2, 0.0);
    let trained = run(&task, &[discs_and_squares("a", 3, 1)]);
    assert_eq!((trained.best_epoch, trained.curve.len()), (1, 3));
}

#[test]
fn cases_without_signal_are_an_error_and_a_single_slice_is_none() {
    let (_folder, file) = folder();
    let mut empty = discs_and_squares("a", 1, 1);
    let task = task(&file("weights"), 1);
    assert_eq!(run(&task, &[empty.clone()]).curve.len(), 1);
    empty.channels[0].voxels.fill(0.0);
    let error = train_on(&task, &Processor::CPU, &[empty], &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap_err();
    assert!(matches!(error, ModelError::NoSignal { cases: 1 }));
}

/// What is done is not done again; what is left is done with fewer tiles at a time.
#[test]
fn an_epoch_goes_on_with_smaller_batches() {
    let mut epoch = Epoch::new(1, 1, vec![vec![0, 1, 2, 3, 4], vec![5, 6, 7], vec![8]]);
    epoch.shrink(8);
    assert_eq!(epoch.left, [vec![0, 1, 2, 3, 4], vec![5, 6, 7], vec![8]]);
    epoch.left.pop_front();
    epoch.shrink(2);
    assert_eq!(epoch.left, [vec![5, 6], vec![7], vec![8]]);
}

/// What is compared learns equally long, however many cases it has: 7 steps, be that two epochs and a bit or most of one.
#[test]
fn a_training_of_so_many_steps_ends_after_them_whatever_else_is_set() {
    let folder = tempfile::tempdir().unwrap();
    for (slices, epochs) in [(12, 3), (40, 1)] {
        let mut task = task(&folder.path().join("weights"), 1);
        (task.training.steps, task.training.patience) = (7, 1);
        let mut taken = Vec::new();
        let result = train_on(
            &task,
            &Processor::CPU,
            &[discs_and_squares("a", slices, 1)],
            &mut |progress| {
                if let Progress::Step {
                    epoch,
                    max_epochs,
                    step,
                    ..
                } = progress
                {
                    taken.push((epoch, step));
                    assert_eq!(max_epochs, epochs, "what is left is told by it");
                }
                ControlFlow::Continue(())
            },
        );
        assert!(matches!(result.unwrap(), TaskResult::Trained(_)));
        assert_eq!((taken.len(), taken.last().unwrap().0), (7, epochs), "{taken:?}");
    }
}
