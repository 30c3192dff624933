//! Other kinds of data than one T1 image and three tissues: through import, training, ranking, hand-in, effort and view.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::process::Command as Program;

use overtrace::imaging::{Grid, LabelMap, Volume, encode_labels, encode_shorts, encode_volume};
use overtrace::protocol::{Answer, Command, ImportItem, Outcome, Wanted};
use overtrace::records::{CaseId, Pool, RoundState};
use support::{Bench, SMALL, boxes, id};

/// A case as files: its channels' bytes, and its mask with the classes that the file stands for.
struct Made {
    images: Vec<Vec<u8>>,
    mask: Vec<u8>,
    grid: Grid,
}

/// One whole round of the loop: two labelled cases, three to ask for, one to measure on.
fn goes_round(settings: &str, classes: usize, made: impl Fn(u64) -> Made) -> Bench {
    let bench = Bench::new(&format!(
        "{settings}\n[model]\nbase_channels = 2\n[training]\nmax_epochs = 2\nthreads = 2\n[inbox]\nstable_s = 0.0\n\
         [query]\ntrain_when_complete = false\n"
    ));
    let file = |name: String, bytes: &[u8]| {
        let path = bench.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let pools = [
        Pool::Labelled,
        Pool::Labelled,
        Pool::Unlabelled,
        Pool::Unlabelled,
        Pool::Unlabelled,
        Pool::HeldOut,
    ];
    let items = (0..).zip(pools).map(|(seed, pool)| {
        let made = made(seed);
        let images = made.images.iter().enumerate();
        ImportItem {
            id: id(&format!("case{seed}")),
            images: images
                .map(|(n, bytes)| file(format!("case{seed}_{n}.nii.gz"), bytes))
                .collect(),
            mask: (pool != Pool::Unlabelled).then(|| file(format!("case{seed}_mask.nii.gz"), &made.mask)),
            pool: Some(pool),
        }
    });
    let import = Command::Import {
        items: items.collect(),
        pool: None,
    };
    match bench.ask(import).unwrap() {
        Answer::Imported { refused, .. } => assert_eq!(refused, []),
        other => panic!("{other:?}"),
    }
    bench.start_round();
    bench.start_round();
    let snapshot = bench.snapshot();
    let queue: Vec<_> = snapshot
        .queue()
        .into_iter()
        .filter(|row| row.rank.is_some())
        .collect();
    assert_eq!(queue.len(), 3);
    assert!(queue.iter().all(|row| (0.0..=1.0).contains(&row.score.unwrap())));
    let asked = snapshot.open_round().unwrap().queried.clone();
    for case in &asked {
        let out = bench.hand_out(case.as_str());
        assert_eq!(out.folder.read_dir().unwrap().count(), made(0).images.len() + 3);
        let seed = case.as_str().strip_prefix("case").unwrap().parse().unwrap();
        bench.drop_file(&out.reply_name, &made(seed).mask);
        let mut report = bench.only_report();
        // A network of a few steps may have drawn nothing like it.
        while report.outcome == Outcome::Hold {
            report = bench.accept(&report);
        }
        assert!(report.correction.is_some(), "{report:?}");
        assert_eq!(report.effort.len(), classes - 1, "{report:?}");
        let Answer::Case(view) = bench.ask(Command::Open(Wanted::of(case))).unwrap() else {
            panic!()
        };
        assert_eq!(view.grid.shape, made(seed).grid.shape);
        assert!(view.predicted.is_some() && view.corrected.is_some() && view.margins.is_some());
        assert_eq!(view.scores.len(), view.plane.slices(&view.grid));
    }
    bench.done(Command::Train);
    let snapshot = bench.snapshot();
    let last = snapshot.rounds.values().last().unwrap();
    assert_eq!(last.state, RoundState::Closed);
    assert_eq!(last.held_out_dice.len(), classes - 1);
    assert!(last.held_out_dice.iter().any(Option::is_some));
    bench
}

#[test]
fn two_classes() {
    let settings = "labels = [{ value = 255, name = \"tumour\", color = \"#ff0000\" }]";
    goes_round(settings, 2, |seed| {
        let (image, truth) = boxes(seed);
        let voxels = truth.voxels.iter().map(|&class| u8::from(class == 1)).collect();
        let mask = LabelMap {
            grid: truth.grid,
            voxels,
        };
        Made {
            images: vec![encode_volume(&image)],
            mask: encode_labels(&mask, |_| 255),
            grid: truth.grid,
        }
    });
}

#[test]
fn two_channels_on_one_grid() {
    let bench = goes_round("[image]\nchannels = 2", 4, |seed| {
        let (image, truth) = boxes(seed);
        let other = Volume {
            grid: image.grid,
            voxels: image.voxels.iter().map(|value| 3000.0 - value).collect(),
        };
        Made {
            images: vec![encode_volume(&image), encode_volume(&other)],
            mask: encode_labels(&truth, u16::from),
            grid: truth.grid,
        }
    });
    // Either can be looked at: where there is signal they are 3000 together.
    let looked_at = |image| {
        let wanted = Wanted {
            image,
            ..Wanted::of(&id("case1"))
        };
        let Answer::Case(view) = bench.ask(Command::Open(wanted)).unwrap() else {
            panic!()
        };
        assert_eq!(view.images, 2);
        view
    };
    let (first, second) = (looked_at(0), looked_at(1));
    for voxel in 0..first.grid.len() {
        let sum = first.image.at(voxel) + second.image.at(voxel);
        assert!((sum - 3000.0).abs() < 1.0, "{sum}");
    }
    assert_eq!(looked_at(2).image, first.image, "of those there are");
    // A case with one image is not a case here.
    let path = bench.folder.path().join("alone.nii.gz");
    fs::write(&path, encode_volume(&boxes(9).0)).unwrap();
    let import = Command::Import {
        items: vec![ImportItem {
            id: id("alone"),
            images: vec![path],
            mask: None,
            pool: None,
        }],
        pool: None,
    };
    let Answer::Imported { refused, .. } = bench.ask(import).unwrap() else {
        panic!()
    };
    assert!(refused[0].1.contains('2'), "{refused:?}");
}

/// Whole Hounsfield units from -1000 on, in 16 bits; voxels of 1 x 1 x 6 mm; labels that a coder numbered with gaps.
#[test]
fn ct_with_more_classes_than_four() {
    let mut settings = String::from("labels = [");
    for (n, name) in ["lung", "liver", "spleen", "kidney", "bone", "vessel"]
        .iter()
        .enumerate()
    {
        let value = [1, 2, 3, 5, 8, 300][n];
        settings += &format!("{{ value = {value}, name = \"{name}\", color = \"#{n}0a0c0\" }}, ");
    }
    settings += "]\n[image]\nintensity = \"ct\"";
    let units = [-1000, -820, 105, 120, 170, 420, 210];
    let bench = goes_round(&settings, 7, |seed| {
        let grid = Grid::new([70, 40, 5], [1.0, 1.0, 6.0]);
        let shift = (seed % 3) as usize;
        let class = |at: usize| {
            let (x, y) = (at % 70, at / 70 % 40);
            match (4..36).contains(&y) && (4..64).contains(&x) {
                true => (((x + shift - 4) / 10) % 6 + 1) as u8,
                false => 0,
            }
        };
        let voxels: Vec<u8> = (0..grid.len()).map(class).collect();
        let image: Vec<i16> = voxels
            .iter()
            .enumerate()
            .map(|(at, &class)| units[class as usize] + ((at * 7 + seed as usize) % 5) as i16)
            .collect();
        let truth = LabelMap { grid, voxels };
        Made {
            images: vec![encode_shorts(&grid, &image)],
            mask: encode_labels(&truth, |class| [0, 1, 2, 3, 5, 8, 300][class as usize]),
            grid,
        }
    });
    // Whole units are shown as they are.
    let Answer::Case(view) = bench.ask(Command::Open(Wanted::of(&id("case1")))).unwrap() else {
        panic!()
    };
    assert_eq!((view.image.low, view.image.step), (-1000.0, 1.0));
    assert_eq!(view.plane.0, 2, "across the thickest axis");
}

/// What everybody without such data can try: abdomens, in short.
#[test]
fn an_experiment_on_phantoms_of_abdomens_runs_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("small.toml");
    let names = ["lung", "liver", "spleen", "kidney", "bone", "vessel"];
    let labels = (1..)
        .zip(names)
        .map(|(n, name)| format!("{{ value = {n}, name = \"{name}\", color = \"#{n}0a0c0\" }}, "));
    let text = format!(
        "labels = [{}]\n[image]\nintensity = \"ct\"\n[model]\nbase_channels = 2\n[training]\nsteps = 3\n",
        labels.collect::<String>()
    );
    fs::write(&settings, text).unwrap();
    let done = Program::new(env!("CARGO_BIN_EXE_overtrace"))
        .args([
            "experiment",
            "full",
            "--phantoms",
            "3",
            "--of",
            "abdomen",
            "--test",
            "phantom-02",
            "--json",
        ])
        .arg("--settings")
        .arg(&settings)
        .arg(folder.path().join("ct"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["summary"]["full"][0]["dice"].as_array().unwrap().len(), 6);
}

/// Two at once, chosen to differ, out of a random order that knows what was drawn; anybody can derive the order again.
#[test]
fn a_foreground_aware_order_is_seeded_and_two_of_it_are_chosen_to_differ() {
    let bench = Bench::new(&format!(
        "{SMALL}[query]\nstrategy = \"foreground-random\"\nbudget = 2\ndiversity = true\n"
    ));
    bench.import("labelled", 1, Pool::Labelled);
    for n in 0..7 {
        bench.import(&format!("case{n}"), 2 + n, Pool::Unlabelled);
    }
    bench.start_round();
    let words = bench.start_round();
    assert!(words.contains("a foreground-aware random order of m1"), "{words}");
    let snapshot = bench.snapshot();
    let ranking = &snapshot.rankings[&snapshot.project.ranking.unwrap()];
    assert!(ranking.seed.is_some() && ranking.model.is_some());
    let queue = snapshot.queue();
    assert!(queue.iter().all(|row| row.score.is_none()));
    let place = |case: &CaseId| queue.iter().find(|row| row.case == *case).unwrap().rank;
    let asked = &snapshot.open_round().unwrap().queried;
    assert_eq!(asked.len(), 2);
    assert_eq!(place(&asked[0]), Some(1));
    assert!(place(&asked[1]) <= Some(6), "out of three times as many");
    let project = bench.project();
    let Bench { folder, handle } = bench;
    drop(handle);
    support::until("the lock is free", || {
        !overtrace::store::is_held(&project).unwrap()
    });
    assert_eq!(
        overtrace::engine::verify(&project, &|_, _| {}).unwrap().problems,
        []
    );
    drop(folder);
}
