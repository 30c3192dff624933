//! Experiments as a person runs them: strategies side by side, gone on with where they were stopped, reported on.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use overtrace::effort::{pooled, saved_effort};
use overtrace::imaging::{DATASET_SEED, LabelMap, Plane, Volume, encode_labels, encode_volume, phantom};
use serde_json::Value;
use support::boxes;

/// Boxes whose mask is another one each.
fn truth(n: u64) -> (Volume, LabelMap) {
    let (image, mut truth) = boxes(n);
    truth.voxels[n as usize] = 1;
    (image, truth)
}

/// Folders of labelled boxes.
fn data(folder: &Path, cases: u64) {
    for n in 0..cases {
        let case = folder.join(format!("data/box-{n}"));
        fs::create_dir_all(&case).unwrap();
        let (image, truth) = truth(n);
        fs::write(case.join("image.nii.gz"), encode_volume(&image)).unwrap();
        fs::write(case.join("label.nii.gz"), encode_labels(&truth, u16::from)).unwrap();
    }
    let settings = "[model]\nbase_channels = 2\n[training]\nsteps = 9\nbatch = 2\nthreads = 1\n";
    fs::write(folder.join("small.toml"), settings).unwrap();
}

fn overtrace(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_overtrace"))
        .current_dir(folder)
        .args(args)
        .output()
        .unwrap()
}

/// With what a line of words says.
fn words(folder: &Path, line: &str) -> Output {
    overtrace(folder, &line.split(' ').collect::<Vec<_>>())
}

const QUERY: &[&str] = &[
    "--json",
    "experiment",
    "query",
    "out",
    "--data",
    "data",
    "--test",
    "box-0,box-1",
    "--seeds",
    "2",
    "--settings",
    "small.toml",
];

fn done(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What does not depend on how long it took.
fn figures(all: &Value) -> Vec<Value> {
    let runs = all["outcome"]["runs"].as_array().unwrap();
    let points = runs.iter().flat_map(|run| run["points"].as_array().unwrap());
    points
        .map(|point| serde_json::json!([point["labelled"], point["asked"], point["dice"], point["effort"]]))
        .collect()
}

#[test]
fn strategies_are_tried_side_by_side_and_gone_on_with_where_they_were_stopped() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), 7);
    let all = done(&overtrace(folder.path(), QUERY));
    let runs = all["outcome"]["runs"].as_array().unwrap();
    let names: Vec<&str> = runs.iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "fold1-seed1-random",
            "fold1-seed1-average-bvsb",
            "fold1-seed2-random",
            "fold1-seed2-average-bvsb"
        ]
    );
    for run in runs {
        let points = run["points"].as_array().unwrap();
        let labelled: Vec<u64> = points
            .iter()
            .map(|point| point["labelled"].as_u64().unwrap())
            .collect();
        assert_eq!(labelled, [2, 3, 4, 5], "{run}");
        for point in &points[1..] {
            assert_eq!(point["asked"].as_array().unwrap().len(), 1);
            assert_eq!(
                point["effort"].as_array().unwrap().len(),
                3,
                "its saved effort was measured"
            );
        }
        assert_eq!(point_of(run, 0)["asked"], serde_json::json!([]));
    }
    // Those of a seed begin with the same model.
    assert_eq!(point_of(&runs[0], 0)["dice"], point_of(&runs[1], 0)["dice"]);
    let curves = all["summary"]["curves"].as_array().unwrap();
    assert_eq!(curves.len(), 2);
    assert_eq!(curves[0]["spots"][0]["runs"], 2);
    assert_eq!(all["summary"]["paired"][0]["area"]["pairs"], 2);
    let out = folder.path().join("out");
    let lines = fs::read_to_string(out.join("results.csv"))
        .unwrap()
        .lines()
        .count();
    assert_eq!(lines, 1 + 4 * 4);
    assert!(
        fs::read_to_string(out.join("pool.svg"))
            .unwrap()
            .starts_with("<svg")
    );
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(
        report.contains("<svg") && report.contains("54.35"),
        "ours, and the paper's"
    );
    for outside in ["src=", "href=", "@import", "url("] {
        assert!(
            !report.contains(outside),
            "the page needs nothing else: {outside}"
        );
    }
    // One run is lost: it is done again, and nothing else is.
    let head = || fs::read_to_string(out.join("runs/fold1-seed1-random/store/head")).unwrap();
    let kept = head();
    fs::remove_dir_all(out.join("runs/fold1-seed2-average-bvsb")).unwrap();
    let again = done(&overtrace(
        folder.path(),
        &["--json", "experiment", "query", "out"],
    ));
    assert_eq!(figures(&again), figures(&all));
    assert_eq!(head(), kept);
    // Its runs are projects like any other, and the app shows them beside the one that asked at random.
    let status = overtrace(&out.join("runs/fold1-seed2-average-bvsb"), &["verify", "--json"]);
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stderr)
    );
    let settings = fs::read_to_string(out.join("runs/fold1-seed2-average-bvsb/overtrace.toml")).unwrap();
    assert!(
        settings.contains("control = \"../fold1-seed2-random\""),
        "{settings}"
    );
    // Another experiment has no place there.
    let other = overtrace(folder.path(), &[QUERY, &["--budget", "2"]].concat());
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("holds another experiment"));
}

/// Killed twice, at other places: what was begun is gone on with, and nothing that was reached is done again.
#[test]
fn a_killed_experiment_goes_on_to_the_figures_that_it_would_have_had() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), 6);
    let at_once = done(&overtrace(folder.path(), QUERY));
    fs::rename(folder.path().join("out"), folder.path().join("at-once")).unwrap();
    for rounds in [1, 4] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_overtrace"))
            .current_dir(folder.path())
            .args(QUERY)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut reached = said
            .map(|line| line.unwrap())
            .filter(|line| line.contains(" labelled, held-out Dice "));
        assert!(
            reached.nth(rounds - 1).is_some(),
            "it ended before it could be killed"
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // As if it had been begun on another machine.
    let machines = folder.path().join("out/machines.json");
    let mut begun_on: Value = serde_json::from_slice(&fs::read(&machines).unwrap()).unwrap();
    begun_on[0]["processor"] = "another".into();
    fs::write(&machines, begun_on.to_string()).unwrap();
    let in_parts = done(&overtrace(folder.path(), QUERY));
    assert_eq!(figures(&in_parts), figures(&at_once));
    assert_eq!(in_parts["outcome"]["machines"].as_array().unwrap().len(), 2);
    let [first, then] = [0, 1].map(|n| &in_parts["outcome"]["machines"][n]["processor"]);
    assert!(
        first == "another" && then.is_string() && then != first,
        "{first}, {then}"
    );
    for run in fs::read_dir(folder.path().join("out/runs")).unwrap() {
        let run = run.unwrap().path();
        if !run.file_name().unwrap().to_string_lossy().starts_with('.') {
            done_quietly(&overtrace(&run, &["verify"]));
        }
    }
}

fn point_of(run: &Value, at: usize) -> &Value {
    &run["points"][at]
}

#[test]
fn everything_labelled_is_measured_in_folds_and_effort_begins_from_other_weights_without_labels() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), 4);
    let full = "--json experiment full full --data data --folds 2 --settings small.toml";
    let full = done(&words(folder.path(), full));
    let runs = full["outcome"]["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    let row = &full["summary"]["full"][0];
    assert_eq!(row["dice"].as_array().unwrap().len(), 3);
    assert!(row["seconds_a_case"].as_f64().unwrap() > 0.0);
    // Both folds together measured every case: the contour to draw is that of all masks, whatever was drawn.
    assert_eq!(row["saved"].as_array().unwrap().len(), 3);
    assert_eq!(row["near_saved"].as_array().unwrap().len(), 3);
    let masks = (0..4).map(|n| {
        let truth = truth(n).1;
        saved_effort(&truth, &truth, Plane(2), 4, 0.0).unwrap()
    });
    let masks: Vec<_> = masks.collect();
    let whole = pooled(masks.iter().map(Vec::as_slice));
    for (class, whole) in whole.iter().enumerate() {
        let px = |run: &Value| {
            let px = &run["held_out_effort"][class]["corrected_px"];
            px.as_u64().unwrap()
        };
        assert_eq!(runs.iter().map(px).sum::<u64>(), whole.corrected_px);
    }
    let csv = fs::read_to_string(folder.path().join("full/results.csv")).unwrap();
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let at = header.iter().position(|cell| *cell == "saved CSF").unwrap();
    for (line, run) in lines.zip(runs) {
        let effort = &run["held_out_effort"][0];
        let share = effort["shared_px"].as_f64().unwrap() / effort["corrected_px"].as_f64().unwrap();
        assert!((line[at].parse::<f64>().unwrap() - share).abs() < 1e-6, "{csv}");
    }
    // What most masks have is measured too. Of the two masks of the other fold the lower class wins where they differ.
    let measures = |fold: u64, case: u64| {
        let picture = format!("full/pictures/fold{fold}-seed1-box-{case}.png");
        folder.path().join(picture).is_file()
    };
    let by_hand = |case: u64, class: u8| {
        let fold = (1..=2).find(|fold| measures(*fold, case)).unwrap();
        let others = (0..4).filter(|other| !measures(fold, *other));
        let masks: Vec<Vec<u8>> = others.map(|other| truth(other).1.voxels).collect();
        let lower: Vec<u8> = masks[0].iter().zip(&masks[1]).map(|(a, b)| *a.min(b)).collect();
        let mask = truth(case).1.voxels;
        let is = |voxel: &&u8| **voxel == class;
        let both = lower.iter().zip(&mask).filter(|(a, b)| a == b && **a == class);
        2.0 * both.count() as f64 / (lower.iter().filter(is).count() + mask.iter().filter(is).count()) as f64
    };
    let known = full["summary"]["majority_dice"].as_array().unwrap();
    assert_eq!(known.len(), 3);
    for (class, known) in (1..).zip(known) {
        let mean = (0..4).map(|case| by_hand(case, class)).sum::<f64>() / 4.0;
        assert!(
            (known.as_f64().unwrap() - mean).abs() < 1e-9,
            "{class}: {known}, {mean}"
        );
    }
    assert!(folder.path().join("full/learning.svg").is_file());
    let is_png = |path: &Path| fs::read(path).unwrap().starts_with(b"\x89PNG");
    assert!(is_png(&folder.path().join("full/learning.png")));
    // Every measured case is in a picture, and all of them in the page.
    let pictures: Vec<_> = fs::read_dir(folder.path().join("full/pictures"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .collect();
    assert!(!pictures.is_empty() && pictures.iter().all(|picture| is_png(picture)));
    let page = fs::read_to_string(folder.path().join("full/report.html")).unwrap();
    assert_eq!(page.matches("data:image/png").count(), pictures.len());
    // The first fold's network draws for an annotator who has nothing.
    let run = folder.path().join("full/runs/fold1-seed1");
    let export = overtrace(&run, &["model", "export", "../../../other.safetensors"]);
    assert!(
        export.status.success(),
        "{}",
        String::from_utf8_lossy(&export.stderr)
    );
    // Another goes on learning from its weights.
    let args = "--json experiment full further --data data --test box-3 --weights other.safetensors";
    let args: Vec<&str> = args.split(' ').chain(["--settings", "small.toml"]).collect();
    let further = done(&overtrace(folder.path(), &args));
    let point = point_of(&further["outcome"]["runs"][0], 0);
    assert!(point["training_s"].as_f64().unwrap() > 0.0, "{point}");
    assert_eq!(further["summary"]["full"].as_array().unwrap().len(), 1);
    let models = done(&overtrace(
        &folder.path().join("further/runs/fold1-seed1"),
        &["--json", "model", "list"],
    ));
    let models = models.as_array().unwrap();
    assert_eq!(
        (models.len(), &models[1]["parent"]),
        (2, &models[0]["id"]),
        "{models:?}"
    );
    let effort = done(&overtrace(
        folder.path(),
        &[
            "--json",
            "experiment",
            "effort",
            "effort",
            "--data",
            "data",
            "--test",
            "box-3",
            "--start",
            "0",
            "--weights",
            "other.safetensors",
            "--settings",
            "small.toml",
        ],
    ));
    let points = effort["outcome"]["runs"][0]["points"].as_array().unwrap();
    assert_eq!(points.len(), 3, "one a case");
    // Within a pixel the same contours are measured, and no less of them was right.
    for point in points {
        for class in 0..3 {
            let px = |of: &str, what: &str| point[of][class][what].as_u64().unwrap();
            assert_eq!(px("near_effort", "corrected_px"), px("effort", "corrected_px"));
            assert!(px("near_effort", "shared_px") >= px("effort", "shared_px"));
        }
    }
    let table = &effort["summary"]["efforts"][0];
    assert!(table["near_mean"][0].as_f64().unwrap() >= table["mean"][0].as_f64().unwrap());
    let page = fs::read_to_string(folder.path().join("effort/report.html")).unwrap();
    assert!(
        page.contains("2.46, 56.28, 73.71"),
        "without labels the paper's Table 4"
    );
    let hash = effort["outcome"]["weights"].as_str().unwrap();
    assert!(
        hash.len() == 64 && page.contains(&format!("weights {hash}")),
        "{hash}"
    );
    let saved = effort["summary"]["efforts"][0]["saved"].as_array().unwrap();
    assert_eq!((saved.len(), saved[0].as_array().unwrap().len()), (3, 3));
}

#[test]
fn systems_have_a_row_each_and_a_committee_asks_where_it_disagrees() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), 5);
    let settings = "[model]\nbase_channels = 4\n[training]\nsteps = 2\nbatch = 2\nthreads = 2\n";
    fs::write(folder.path().join("small.toml"), settings).unwrap();
    let data = ["--data", "data", "--test", "box-0", "--settings", "small.toml"];
    let systems = "u-net,u-net-mse,voxresnet,multi-scale,u-net+voxresnet,u-net+u-net-snapshots";
    let full = ["--json", "experiment", "full", "full", "--systems", systems];
    let full = done(&overtrace(folder.path(), &[&full[..], &data].concat()));
    let rows = full["summary"]["full"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["system"].as_str().unwrap()).collect();
    assert_eq!(names.join(","), systems);
    assert!(
        rows.iter()
            .all(|row| row["seconds_a_case"].as_f64().unwrap() > 0.0)
    );
    let learnt: Vec<&Value> = full["outcome"]["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| &run["curve"][0]["loss"])
        .collect();
    assert!(learnt.iter().all(|loss| loss.as_f64().unwrap() > 0.0));
    assert!(
        learnt[0].as_f64().unwrap() > 1.0 && learnt[1].as_f64().unwrap() < 1.0,
        "Dice, and a mean of squares"
    );
    let report = fs::read_to_string(folder.path().join("full/report.html")).unwrap();
    assert!(report.contains("overtrace, u-net+voxresnet"), "{report}");
    let machine = &full["outcome"]["machines"][0];
    assert_eq!((&machine["threads"], &machine["gpu"]), (&2.into(), &Value::Null));
    assert!(
        report.contains(": 2 of "),
        "the page says what computed: {report}"
    );
    assert!(
        folder
            .path()
            .join("full/pictures/fold1-seed1-multi-scale-box-0.png")
            .is_file()
    );

    let query = [
        "--json",
        "experiment",
        "query",
        "query",
        "--systems",
        "u-net+u-net-folds,voxresnet+u-net",
    ];
    let asked = [
        "--strategies",
        "disagreement,class-stratified,random",
        "--rounds",
        "1",
    ];
    let query = done(&overtrace(folder.path(), &[&query[..], &asked, &data].concat()));
    assert_eq!(query["summary"]["paired"].as_array().unwrap().len(), 4);
    let run = folder
        .path()
        .join("query/runs/fold1-seed1-u-net+u-net-folds-disagreement");
    done_quietly(&overtrace(&run, &["verify"]));
    let stratified = folder
        .path()
        .join("query/runs/fold1-seed1-u-net+u-net-folds-class-stratified");
    done_quietly(&overtrace(&stratified, &["verify"]));
    let ranked = done(&overtrace(&run, &["--json", "rank"]));
    let left = &ranked["queue"][0];
    assert!(left["score"].as_f64().unwrap() > 0.0, "{left}");
    let own = left["member_bvsb"].as_array().unwrap();
    assert!(own.len() == 2 && own[0][1] != own[1][1], "{left}");
    let table = overtrace(&run, &["rank"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("u-net 2 BvSB"));
    let report = fs::read_to_string(folder.path().join("query/report.html")).unwrap();
    assert!(report.contains("Worth annotating"));
    // One network has nobody to disagree with.
    let alone = "experiment query alone --strategies disagreement,random --data data --test box-0 --settings small.toml";
    let refused = words(folder.path(), alone);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nobody to disagree with"));
    // Nor is there one that learns for all of several kinds; nothing is begun with it.
    let mixed = "experiment full mixed --systems u-net+voxresnet-snapshots --data data --test box-0 --settings small.toml";
    let refused = words(folder.path(), mixed);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("training.ensemble = snapshots: "));
    assert!(!folder.path().join("mixed/experiment.toml").exists());
}

#[test]
fn strategies_over_foreground_and_chosen_to_differ_are_tried_on_every_fold() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), 9);
    let strategies = "entropy,average-bvsb-foreground-diverse,random";
    let all = "--json experiment query out --data data --settings small.toml --folds 3 --budget 2 --rounds 1";
    let all = done(&words(folder.path(), &format!("{all} --strategies {strategies}")));
    let runs = all["outcome"]["runs"].as_array().unwrap();
    let named = |strategy: &str| runs.iter().filter(|run| run["strategy"] == strategy).count();
    assert_eq!(strategies.split(',').map(named).collect::<Vec<_>>(), [3, 3, 3]);
    for run in runs {
        assert_eq!(point_of(run, 0)["labelled"], 2, "{run}");
        assert_eq!(point_of(run, 1)["asked"].as_array().unwrap().len(), 2, "{run}");
    }
    let paired = all["summary"]["paired"].as_array().unwrap();
    let pairs = paired
        .iter()
        .map(|paired| (paired["strategy"].as_str(), paired["area"]["pairs"].as_u64()));
    let sides = strategies.split(',').filter(|side| *side != "random");
    assert!(pairs.eq(sides.map(|side| (Some(side), Some(3)))), "{paired:?}");
    let told = |strategy: &str| {
        let run = folder.path().join(format!("out/runs/fold3-seed1-{strategy}"));
        let ranked = overtrace(&run, &["rank"]);
        let settings = fs::read_to_string(run.join("overtrace.toml")).unwrap();
        String::from_utf8(ranked.stdout).unwrap() + &settings
    };
    let diverse = told("average-bvsb-foreground-diverse");
    assert!(
        diverse.contains(" over foreground") && diverse.contains("diversity = true"),
        "{diverse}"
    );
    let entropy = told("entropy");
    assert!(
        !entropy.contains(" over foreground") && entropy.contains("diversity = false"),
        "{entropy}"
    );
    // What a strategy takes no notice of is no side of its own, nor is a choice among one.
    for (strategy, why) in [
        ("random-diverse", "leave -diverse out"),
        ("entropy-diverse", "give --budget 2 or more"),
    ] {
        let other = format!("experiment query other --data data --strategies {strategy}");
        let refused = words(folder.path(), &other);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why), "{said}");
    }
}

#[test]
fn usual_brains_are_the_phantoms_that_are_not_unusual() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), 0);
    let full =
        "--json experiment full full --phantoms 5 --of usual-brain --test phantom-04 --settings small.toml";
    done(&words(folder.path(), full));
    // Five of which none is unusual, though one of the first five of all is.
    let usual = (0..)
        .map(|n| phantom(DATASET_SEED, n))
        .filter(|made| !made.unusual);
    for (n, usual) in usual.take(5).enumerate() {
        let mask = folder
            .path()
            .join(format!("full/phantoms/phantom-{n:02}_seg.nii.gz"));
        assert!(
            fs::read(mask).unwrap() == encode_labels(&usual.truth, u16::from),
            "{n}"
        );
    }
}

#[test]
fn the_script_of_all_experiments_runs_in_its_smallest_version() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_overtrace");
    let script = Command::new("bash")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/experiments.sh"))
        .arg(folder.path())
        .envs([
            ("SMALL", "1"),
            ("WIDTH", "2"),
            ("STEPS", "1"),
            ("OVERTRACE", program),
        ])
        .output();
    done_quietly(&script.unwrap());
    let tables = fs::read_to_string(folder.path().join("tables.txt")).unwrap();
    for kind in ["full", "query", "effort"] {
        let plan = fs::read_to_string(folder.path().join(kind).join("experiment.toml")).unwrap();
        assert!(plan.contains(&format!("kind = \"{kind}\"")), "{plan}");
        assert!(
            tables.contains(&format!("== {kind}\nEverything labelled")),
            "{tables}"
        );
    }
}

fn done_quietly(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_makes_no_experiment_is_said_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path(), 3);
    // Too few phantoms: more of them may be made in the same place.
    let phantoms = [
        "experiment",
        "query",
        "made",
        "--settings",
        "small.toml",
        "--phantoms",
    ];
    let few = overtrace(folder.path(), &[&phantoms[..], &["3"]].concat());
    assert!(String::from_utf8_lossy(&few.stderr).contains("start from fewer"));
    let still = overtrace(folder.path(), &[&phantoms[..], &["2"]].concat());
    assert!(String::from_utf8_lossy(&still.stderr).contains("start from fewer"));
    for (args, words) in [
        (&["experiment", "query", "out"][..], "no data"),
        (
            &["experiment", "query", "out", "--data", "data", "--start", "5"],
            "start from fewer",
        ),
        (
            &["experiment", "query", "out", "--data", "data", "--folds", "1"],
            "no case is left to measure on",
        ),
        (
            &["experiment", "query", "out", "--data", "data", "--test", "nobody"],
            "none of the cases",
        ),
        (
            &["experiment", "query", "data", "--data", "data"],
            "holds no experiment",
        ),
    ] {
        let output = overtrace(folder.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(words), "{said}");
        assert!(!folder.path().join("out/experiment.toml").exists());
    }
}
