//! How much memory the worker holds. The only test of its program: it looks at the most that any ended child has held.
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use overtrace::imaging::{Grid, Plane, Volume, encode_volume};
use overtrace::records::{Pool, PredictCase, PredictTask, Task, TaskResult};
use overtrace::settings::{Compute, Drawing, Intensity, Precision};
use overtrace::worker::{Programs, run};
use support::{Bench, SMALL};

/// The most memory that any ended child of this process has held, in bytes.
fn most_memory() -> u64 {
    // SAFETY: `rusage` is plain numbers, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage), 0);
        usage
    };
    u64::try_from(usage.ru_maxrss).unwrap() * 1024
}

/// `OVERTRACE_VOLUMES=200` draws as many as a pool has; a few show growth too.
#[test]
fn drawing_many_volumes_takes_the_memory_of_one() {
    let programs = Programs::beside(Path::new(env!("CARGO_BIN_EXE_overtrace")));
    let compute = Compute {
        device: "cpu".parse().unwrap(),
        ..Compute::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let grid = Grid::new([96, 64, 128], [1.0; 3]);
    let voxels = (0..grid.len()).map(|n| (n * 7919 % 251) as f32 + 1.0).collect();
    let image = folder.path().join("image.nii.gz");
    fs::write(&image, encode_volume(&Volume { grid, voxels })).unwrap();
    let project = Bench::new(SMALL);
    project.import("lab", 0, Pool::Labelled);
    project.start_round();
    let snapshot = project.snapshot();
    let model = snapshot.models.values().next().unwrap();
    let weights = model.weights.to_string();
    let weights = project
        .project()
        .join("store/blobs")
        .join(&weights[..2])
        .join(&weights);
    let drawn = |volumes: usize| {
        let case = |n: usize| PredictCase {
            id: support::id(&format!("case{n}")),
            images: vec![image.clone()],
            mask: None,
            plane: Plane(1),
        };
        let task = PredictTask {
            architecture: model.architecture,
            weights: weights.clone(),
            cases: (0..volumes).map(case).collect(),
            intensity: Intensity::Zscore,
            precision: Precision::F32,
            batch: 8,
            drawing: Drawing::default(),
            threads: 2,
            folder: folder.path().to_path_buf(),
        };
        let task = Task::Predict(task);
        let result = run(&programs, &compute, task, &mut |_| ControlFlow::Continue(()));
        assert_eq!(result, TaskResult::Predicted);
        most_memory()
    };
    let volumes = std::env::var("OVERTRACE_VOLUMES").map_or(23, |n| n.parse().unwrap());
    let (few, many) = (drawn(3), drawn(volumes));
    println!("3 volumes: {} MB, {volumes}: {} MB", few >> 20, many >> 20);
    // A volume and its maps are 4.7 MB.
    assert!(
        many <= few + (60 << 20),
        "{few} bytes for 3, {many} for {volumes}"
    );
}
