//! How fast the network is on this machine: a forward pass, a training step, a whole volume.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use rayon::ThreadPool;

use super::data::Case;
use super::draw::draw;
use super::judge::Judging;
use super::learning::Learning;
use super::network::{Net, field};
use super::tiling::TILE;
use super::{ModelError, Processor, Report};
use crate::imaging::{Grid, Plane, Rng, Volume};
use crate::records::{Architecture, BenchRow, BenchTask, CaseId, Progress, TaskResult};
use crate::settings::{Intensity, Loss};

const CLASSES: usize = 4;
/// The volume of the paper's segmentation times.
const VOLUME: [usize; 3] = [256, 128, 256];

/// Times what `task` asks for and reports each row when it is known.
///
/// # Errors
/// [`ModelError`] where threads cannot be had or a computation fails.
pub fn bench(
    task: &BenchTask,
    processor: &Processor,
    report: &mut Report<'_>,
) -> Result<TaskResult, ModelError> {
    processor.set_precision(task.precision);
    let mut found = |row| report(Progress::Timed(row));
    let pool = processor.pool(task.threads)?;
    for &base_channels in &task.base_channels {
        let shape = Architecture {
            networks: task.networks,
            channels: 1,
            classes: CLASSES,
            base_channels,
            slices: 1,
            deep_supervision: false,
        };
        let row = |what: &str, precision, seconds, flop| BenchRow {
            what: what.into(),
            base_channels: Some(base_channels),
            batch: Some(task.batch),
            precision: Some(precision),
            seconds,
            flop: Some(flop),
        };
        let mut work = Work::new(shape, task.batch, processor.device())?;
        let flop = work.learning.net.flop(&work.batch.0)?;
        let frozen = processor.drawing(&work.learning.net, task.batch, task.precision)?;
        let sizes = vec![[TILE, TILE]; work.batch.1.dim(0)?];
        let seconds = timed(task.runs, &mut || {
            pool.install(|| Judging::begin(&frozen, &work.batch.0, &sizes)?.end().map(drop))
        })?;
        drop(frozen);
        if found(row(
            "forward",
            processor.drawn_in(task.networks, task.precision),
            seconds,
            flop,
        ))
        .is_break()
        {
            return Ok(TaskResult::Cancelled);
        }
        let seconds = timed(task.runs, &mut || pool.install(|| work.step()))?;
        // Forward, and twice as much back: by the inputs and by the weights.
        let mut goes_on = found(row(
            "training step",
            processor.learnt_in(task.precision),
            seconds,
            3.0 * flop,
        ));
        if task.volume && goes_on.is_continue() {
            goes_on = found(drawing(task, shape, processor, &pool)?);
        }
        if goes_on.is_break() {
            return Ok(TaskResult::Cancelled);
        }
    }
    Ok(TaskResult::Timed(processor.machine(task.threads, task.precision)))
}

/// The drawing of a volume, every tile of it computed: on a CPU once, since it takes long.
fn drawing(
    task: &BenchTask,
    shape: Architecture,
    processor: &Processor,
    pool: &ThreadPool,
) -> Result<BenchRow, ModelError> {
    let grid = Grid::new(VOLUME, [0.9375, 1.5, 0.9375]);
    let volume = Volume {
        grid,
        voxels: vec![1.0; grid.len()],
    };
    let id = CaseId::new("volume").expect("letters alone");
    let case = Case::new(id, vec![volume], None, Plane(1), Intensity::None, CLASSES)?;
    let net = Net::drawn(shape, &Rng::new(1), processor.device())?;
    let field = net.field();
    let slices = processor.drawing_batch(task.batch);
    let batch = field.drawn(slices);
    let tiles = case.slices().div_ceil(field.depth) * case.tiling().tiles();
    let tile = Tensor::zeros(field.shape(1), DType::F32, processor.device())?;
    let flop = net.flop(&tile)? * tiles as f64;
    let net = processor.drawing(&net, batch, task.precision)?;
    let mut once = || pool.install(|| draw(&net, &case, batch, &mut || ControlFlow::Continue(())).map(drop));
    let seconds = if processor.is_gpu() {
        timed(task.runs, &mut once)?
    } else {
        let start = Instant::now();
        once()?;
        vec![start.elapsed().as_secs_f64()]
    };
    Ok(BenchRow {
        what: "drawing 256x128x256".into(),
        base_channels: Some(shape.base_channels),
        batch: Some(slices),
        precision: Some(processor.drawn_in(task.networks, task.precision)),
        seconds,
        flop: Some(flop),
    })
}

/// How long work is done before it is timed: memory is fresh, and the processor's clock low, at first.
const WARMING: Duration = Duration::from_millis(300);

/// `work` unmeasured for a moment, at least once, then `runs` times.
fn timed<E: Into<ModelError>>(
    runs: usize,
    work: &mut dyn FnMut() -> Result<(), E>,
) -> Result<Vec<f64>, ModelError> {
    let start = Instant::now();
    while {
        work().map_err(Into::into)?;
        start.elapsed() < WARMING
    } {}
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            work().map_err(Into::into)?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect()
}

/// A network, a batch, and what a training step needs.
struct Work {
    learning: Learning,
    /// Images and classes.
    batch: (Tensor, Tensor),
}

impl Work {
    fn new(shape: Architecture, batch: usize, device: &Device) -> candle_core::Result<Work> {
        let mut rng = Rng::new(1);
        let field = field(&shape);
        let tiles = field.tiles(batch);
        let images: Vec<f32> = (0..tiles * field.seen()).map(|_| rng.uniform() as f32).collect();
        let classes: Vec<u8> = (0..tiles * field.pixels())
            .map(|_| rng.below(CLASSES) as u8)
            .collect();
        Ok(Work {
            learning: Learning::drawn(shape, &rng, Loss::Dice, 1e-4, device)?,
            batch: (
                Tensor::from_vec(images, field.shape(tiles), device)?,
                Tensor::from_vec(classes, (tiles * field.depth, TILE, TILE), device)?,
            ),
        })
    }

    fn step(&mut self) -> candle_core::Result<()> {
        for member in self.learning.step(std::slice::from_ref(&self.batch), 1.0)? {
            member.loss()?;
        }
        self.batch.0.device().synchronize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Networks, Precision};

    #[test]
    fn everything_asked_for_is_timed_as_often_as_asked() {
        let task = BenchTask {
            networks: Networks::default(),
            base_channels: vec![2, 4],
            batch: 1,
            threads: 1,
            runs: 2,
            volume: false,
            precision: Precision::F32,
        };
        let mut rows = Vec::new();
        let result = bench(&task, &Processor::CPU, &mut |progress| {
            if let Progress::Timed(row) = progress {
                rows.push(row);
            }
            ControlFlow::Continue(())
        });
        assert!(matches!(result, Ok(TaskResult::Timed(machine)) if machine.threads == 1));
        let said: Vec<_> = rows
            .iter()
            .map(|row| (row.what.as_str(), row.base_channels))
            .collect();
        assert_eq!(
            said,
            [
                ("forward", Some(2)),
                ("training step", Some(2)),
                ("forward", Some(4)),
                ("training step", Some(4))
            ]
        );
        assert!(
            rows.iter()
                .all(|row| row.seconds.len() == 2 && row.seconds.iter().all(|s| *s > 0.0))
        );
    }
}
