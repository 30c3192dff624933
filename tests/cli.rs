//! The program by its command line, as a user or a script runs it.

#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use overtrace::imaging::{encode_labels, encode_volume, read_scan};
use serde_json::Value;
use support::{SMALL, boxes};

struct Shell {
    folder: tempfile::TempDir,
}

impl Shell {
    fn new() -> Shell {
        Shell {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = assert_cmd::Command::cargo_bin("overtrace").unwrap();
        command
            .current_dir(self.folder.path())
            .env("USER", "ann")
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs on the project and returns what was printed; the exit code has to be `code`.
    fn says(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(&[&["--project", "p"], args].concat());
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(
            !text.contains('\u{1b}'),
            "no colour and no bar without a terminal: {text:?}"
        );
        text
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[&["--project", "p", "--json"], args].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    fn project(&self, settings: &str) {
        fs::create_dir(self.at("p")).unwrap();
        fs::write(self.at("p/overtrace.toml"), settings).unwrap();
        self.says(0, &["init"]);
    }

    /// A case folder as the README describes it.
    fn case(&self, name: &str, seed: u64) -> String {
        let folder = self.at("data").join(name);
        fs::create_dir_all(&folder).unwrap();
        let (image, truth) = boxes(seed);
        fs::write(folder.join("image.nii.gz"), encode_volume(&image)).unwrap();
        fs::write(folder.join("label.nii.gz"), encode_labels(&truth, u16::from)).unwrap();
        folder.to_str().unwrap().to_string()
    }

    fn import(&self, name: &str, seed: u64, pool: &str) {
        self.says(0, &["import", &self.case(name, seed), "--pool", pool]);
    }
}

#[test]
fn the_whole_loop_runs_by_commands_and_every_table_names_its_model() {
    let shell = Shell::new();
    shell.project(SMALL);
    shell.import("known", 1, "labelled");
    shell.import("asked", 2, "unlabelled");
    shell.import("later", 3, "unlabelled");
    shell.import("test", 0, "held-out");
    assert!(
        shell
            .says(0, &["round", "start"])
            .contains("round r1 closed: m1 on 1 cases, held-out Dice")
    );
    let ranked = shell.says(0, &["rank"]);
    assert!(
        ranked.contains("Average BvSB (lowest is asked first) by model m1"),
        "{ranked}"
    );
    assert!(shell.says(0, &["round", "start"]).contains("round r2 asks for"));
    let out = shell.json(&["handout"]);
    let case = out["case"].as_str().unwrap().to_string();
    let folder = Path::new(out["folder"].as_str().unwrap());
    let instructions = fs::read_to_string(folder.join("README.txt")).unwrap();
    assert!(
        instructions.contains(&format!("{case}_corrected.nii.gz")),
        "{instructions}"
    );
    assert!(
        fs::read_to_string(folder.join("labels.txt"))
            .unwrap()
            .contains("\"GM\"")
    );
    let mask = shell.at("data").join(&case).join("label.nii.gz");
    fs::copy(
        mask,
        shell.at("p/inbox").join(out["reply_name"].as_str().unwrap()),
    )
    .unwrap();
    let taken = shell.says(0, &["inbox"]);
    assert!(
        taken.contains("accepted (K1)") && taken.contains("GM: saved"),
        "{taken}"
    );
    assert!(
        shell
            .says(0, &["round", "train"])
            .contains("round r2 closed: m2 on 2 cases")
    );
    let history = shell.json(&["history"]);
    assert_eq!(history[0]["model"], 1, "measured against what m1 drew");
    assert!(history[0]["effort"][0]["corrected_px"].as_u64().unwrap() > 0);
    let rounds = shell.json(&["round"]);
    assert_eq!(rounds[1]["state"], "closed");
    assert_eq!(rounds[1]["held_out_dice"].as_array().unwrap().len(), 3);
    shell.says(0, &["inbox", "minutes", &case, "42"]);
    assert_eq!(shell.json(&["history"])[0]["minutes"], 42.0);
    shell.says(0, &["export", shell.at("masks").to_str().unwrap()]);
    assert!(shell.at("masks").join(format!("{case}_seg.nii.gz")).is_file());
    shell.says(0, &["round", "satisfied", "--why", "good enough"]);
    assert!(
        shell
            .says(2, &["round", "start"])
            .contains("declared satisfactory (good enough)")
    );
    shell.says(0, &["round", "reopen", "--why", "not yet"]);
    assert!(
        shell
            .says(0, &["history", "--journal"])
            .contains("declared satisfactory")
    );
}

#[test]
fn exit_codes_tell_done_nothing_and_error_apart() {
    let shell = Shell::new();
    assert!(shell.says(2, &["status"]).contains("overtrace init"));
    shell.project(SMALL);
    shell.says(0, &["status"]);
    shell.says(1, &["inbox"]);
    shell.says(1, &["rank"]);
    shell.says(1, &["round", "start"]);
    shell.says(2, &["round", "train"]);
    shell.says(2, &["handout", "nobody"]);
    assert!(shell.says(2, &["init"]).contains("already"));
}

#[test]
fn init_explains_every_key_and_a_bad_one_is_named_with_its_line() {
    let shell = Shell::new();
    shell.says(0, &["init"]);
    let file = shell.at("p/overtrace.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("base_channels = 16") && text.contains("31,030,788"));
    fs::write(&file, text.replace("budget = 1", "bugdet = 1")).unwrap();
    let error = shell.says(2, &["status"]);
    let line = text.lines().position(|line| line.starts_with("budget")).unwrap() + 1;
    assert!(
        error.contains("bugdet") && error.contains(&format!("line {line}")),
        "{error}"
    );
}

#[test]
fn the_same_bytes_twice_are_one_case_and_a_bad_file_is_refused_by_name() {
    let shell = Shell::new();
    shell.project(SMALL);
    shell.import("known", 1, "labelled");
    let again = shell.case("again", 1);
    assert!(
        shell
            .says(1, &["import", &again])
            .contains("again is there already, as known")
    );
    let other = shell.case("known", 2);
    assert!(
        shell
            .says(2, &["import", &other])
            .contains("is there already with other images")
    );
    let broken = shell.case("broken", 3);
    fs::write(Path::new(&broken).join("image.nii.gz"), b"not a volume").unwrap();
    assert!(shell.says(2, &["import", &broken]).contains("broken refused"));
    assert_eq!(shell.json(&["status"])["queue"].as_array().unwrap().len(), 1);
}

#[test]
fn a_project_without_any_label_ranks_at_random_says_so_and_hands_out_an_empty_mask() {
    let shell = Shell::new();
    shell.project(SMALL);
    for (name, seed) in [("a", 0), ("b", 1), ("c", 2)] {
        shell.import(name, seed, "unlabelled");
    }
    let asked = shell.says(0, &["round", "start"]);
    assert!(
        asked.contains("seeded random order: there is no model to rank by yet"),
        "{asked}"
    );
    let out = shell.json(&["handout"]);
    assert_eq!(out["model"], Value::Null);
    let case = out["case"].as_str().unwrap();
    let label = shell.at("data").join(case).join("label.nii.gz");
    fs::copy(
        label,
        shell.at("p/inbox").join(out["reply_name"].as_str().unwrap()),
    )
    .unwrap();
    assert!(shell.says(0, &["inbox"]).contains("saved effort n/a"));
    assert!(shell.says(0, &["round", "train"]).contains("m1 on 1 cases"));
}

#[test]
fn settings_that_models_depend_on_are_refused_with_their_remedy_and_others_may_change() {
    let shell = Shell::new();
    shell.project(SMALL);
    shell.import("known", 1, "labelled");
    shell.import("asked", 2, "unlabelled");
    shell.says(0, &["round", "start"]);
    let file = shell.at("p/overtrace.toml");
    fs::write(&file, SMALL.replace("base_channels = 2", "base_channels = 3")).unwrap();
    let error = shell.says(2, &["rank"]);
    assert!(
        error.contains("model.base_channels is 3") && error.contains("--from-scratch"),
        "{error}"
    );
    assert!(
        shell
            .says(0, &["round", "start", "--from-scratch"])
            .contains("m2 on 1 cases")
    );
    fs::write(
        &file,
        SMALL.replace(
            "base_channels = 2",
            "base_channels = 3\n[query]\nstrategy = \"entropy\"",
        ),
    )
    .unwrap();
    assert!(
        shell
            .says(0, &["rank"])
            .contains("mean entropy in nats (highest is asked first) by model m2")
    );
}

#[test]
fn another_project_s_weights_start_and_rank_at_once() {
    let first = Shell::new();
    first.project(SMALL);
    first.import("known", 1, "labelled");
    first.says(0, &["round", "start"]);
    let weights = first.at("weights.safetensors");
    first.says(0, &["model", "export", weights.to_str().unwrap()]);
    let second = Shell::new();
    second.project(SMALL);
    second.import("asked", 2, "unlabelled");
    assert!(
        second
            .says(0, &["model", "import", weights.to_str().unwrap()])
            .contains("m1 imported")
    );
    assert!(second.says(0, &["rank"]).contains("by model m1"));
    assert!(
        second
            .says(2, &["model", "import", "p/overtrace.toml"])
            .contains("overtrace.toml")
    );
}

#[test]
fn a_case_can_be_excluded_with_a_reason_and_brought_back() {
    let shell = Shell::new();
    shell.project(SMALL);
    shell.import("a", 0, "unlabelled");
    shell.import("b", 1, "unlabelled");
    shell.says(0, &["exclude", "a", "--why", "moved in the scanner"]);
    assert!(
        shell
            .says(0, &["status"])
            .contains("excluded: moved in the scanner")
    );
    assert_eq!(shell.json(&["rank"])["queue"][0]["case"], "b");
    shell.says(0, &["include", "a"]);
    assert_eq!(shell.json(&["rank"])["queue"].as_array().unwrap().len(), 2);
}

#[test]
fn no_file_of_a_project_is_readable_by_group_or_world() {
    let shell = Shell::new();
    shell.says(0, &["init"]);
    shell.import("known", 1, "labelled");
    let mut folders = vec![shell.at("p")];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap().map(|item| item.unwrap()) {
            let meta = item.metadata().unwrap();
            assert_eq!(meta.permissions().mode() & 0o077, 0, "{}", item.path().display());
            if meta.is_dir() {
                folders.push(item.path());
            }
        }
    }
}

#[test]
fn two_channels_are_one_case_on_one_grid() {
    let shell = Shell::new();
    shell.project(&format!("[image]\nchannels = 2\n{SMALL}"));
    let folder = shell.at("data/two");
    fs::create_dir_all(&folder).unwrap();
    let ((first, truth), (second, _)) = (boxes(0), boxes(1));
    fs::write(folder.join("image1.nii.gz"), encode_volume(&first)).unwrap();
    fs::write(folder.join("image2.nii.gz"), encode_volume(&second)).unwrap();
    fs::write(folder.join("label.nii.gz"), encode_labels(&truth, u16::from)).unwrap();
    shell.says(0, &["import", folder.to_str().unwrap()]);
    assert!(shell.says(0, &["round", "start"]).contains("m1 on 1 cases"));
    assert!(
        shell
            .says(2, &["import", &shell.case("one", 2)])
            .contains("image.channels is 2")
    );
}

#[test]
fn the_demo_runs_the_loop_and_prints_its_tables_without_a_terminal() {
    let shell = Shell::new();
    let output = shell.run(&["demo", "d", "--max-epochs", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let first = text.find("first ranked queue after").unwrap();
    let second = text.find("round r2 asks for").unwrap();
    assert!(first < second, "{text}");
    assert!(
        text.contains("round r3 closed: m3 on 10 cases, held-out Dice"),
        "{text}"
    );
    assert_eq!(
        text.matches("stand-in annotator").count(),
        8,
        "eight corrections: {text}"
    );
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("training 1 of 1 epochs"),
        "progress without a terminal: {log}"
    );
    let again = shell.run(&["demo", "d", "--max-epochs", "1", "--json"]);
    let rounds: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(rounds.as_array().unwrap().len(), 3, "the demo is made anew");
    fs::remove_file(shell.at("d/.overtrace-demo")).unwrap();
    let refused = shell.run(&["demo", "d", "--max-epochs", "1"]);
    assert_eq!(
        refused.status.code(),
        Some(2),
        "a folder that is no demo is left alone"
    );
}

#[test]
fn label_maps_are_exported_in_every_form_and_read_back() {
    let shell = Shell::new();
    shell.project(SMALL);
    shell.import("known", 1, "labelled");
    let (_, truth) = boxes(1);
    for (format, files) in [
        ("nii-gz", &["nii.gz"][..]),
        ("nii", &["nii"]),
        ("pair", &["hdr", "img"]),
    ] {
        shell.says(
            0,
            &["export", shell.at(format).to_str().unwrap(), "--format", format],
        );
        for ending in files {
            let path = shell.at(format).join(format!("known_seg.{ending}"));
            let scan = read_scan(&path, 1 << 20).unwrap();
            assert!(scan.volume.grid.matches(&truth.grid), "{ending}");
            assert!(
                scan.volume
                    .voxels
                    .iter()
                    .zip(&truth.voxels)
                    .all(|(a, b)| *a == f32::from(*b)),
                "{ending}"
            );
        }
    }
}

#[test]
fn the_bench_times_what_is_asked_and_names_the_machine() {
    let shell = Shell::new();
    let args = [
        "bench",
        "--base-channels",
        "2,4",
        "--batch",
        "1",
        "--threads",
        "1",
        "--runs",
        "3",
    ];
    let output = shell.run(&[&args[..], &["--json"]].concat());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(
        rows.len(),
        5,
        "forward and step of two widths, and the contours: {found}"
    );
    assert!(
        rows.iter()
            .all(|row| row["seconds"].as_array().unwrap().len() == 3)
    );
    assert_eq!(found["machine"]["threads"], 1);
    let text = String::from_utf8(shell.run(&args).stdout).unwrap();
    assert!(
        text.contains("training step") && text.contains("medians, warmed up"),
        "{text}"
    );
    let step: Vec<&str> = text
        .lines()
        .find_map(|line| line.strip_prefix("training step"))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(step[..4], ["2", "1", "f32", "3"], "{text}");
}

/// Two minutes: `cargo test --release --test cli -- --ignored`.
#[test]
#[ignore = "the whole demo"]
fn the_demo_s_first_model_is_below_0_9_and_the_later_ones_above() {
    let shell = Shell::new();
    let rounds: Value = serde_json::from_slice(&shell.run(&["demo", "d", "--json"]).stdout).unwrap();
    let mean = |round: &Value| {
        let dice: Vec<f64> = round["held_out_dice"]
            .as_array()
            .unwrap()
            .iter()
            .map(|dice| dice.as_f64().unwrap())
            .collect();
        dice.iter().sum::<f64>() / dice.len() as f64
    };
    let means: Vec<f64> = rounds.as_array().unwrap().iter().map(mean).collect();
    assert!(means[0] < 0.9 && means[1] > 0.9 && means[2] > 0.9, "{means:?}");
}
