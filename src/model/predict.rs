//! Drawing: the label map of a case, how sure each pixel is, and the sums that rank the pool.
//!
//! Tiles of consecutive slices go through the network in batches, without a graph. The tile without signal goes through
//! once and stands for all of its kind. What lies beyond a slice's edge is counted nowhere. Sums are taken in f64 of
//! the probabilities themselves; the margin map's bytes are for looking at.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use candle_core::Tensor;

use super::blend::draw_blended;
use super::checkpoint::load_network;
use super::data::{Case, Field};
use super::drawn::{Drawn, Spot};
use super::judge::{Judged, Judging, judge};
use super::network::Net;
use super::place::placed;
use super::processor::with_batch;
use super::tiling::Window;
use super::{ModelError, Processor, Report};
use crate::imaging::{LabelMap, encode_bytes, encode_labels};
use crate::metrics::dice;
use crate::records::{CaseId, PredictCase, PredictTask, Predicted, Progress, TaskResult};
use crate::settings::Drawing;

/// Draws every case of `task` into its folder; stops between cases when `report` says so.
///
/// # Errors
/// [`ModelError`]: weights or images that cannot be read or do not fit, or files that cannot be written.
pub fn predict(
    task: &PredictTask,
    processor: &Processor,
    report: &mut Report<'_>,
) -> Result<TaskResult, ModelError> {
    processor.set_precision(task.precision);
    let net = load_network(&task.weights, &task.architecture, processor.device())?;
    let net = processor.drawing(&net, task.precision)?;
    let pool = processor.pool(task.threads)?;
    let mut batch = net.field().drawn(processor.drawing_batch(task.batch));
    let read = |case: &PredictCase| -> Result<(Case, f64), ModelError> {
        let start = Instant::now();
        let mask = case.mask.as_ref().map(|(path, _)| path.as_path());
        let classes = task.architecture.classes;
        let read = Case::read(&case.id, &case.images, mask, case.plane, task.intensity, classes)?;
        Ok((read, start.elapsed().as_secs_f64()))
    };
    std::thread::scope(|scope| {
        // One case is read while the one before it is drawn.
        let (sender, cases) = sync_channel(0);
        scope.spawn(move || {
            // A receiver that has gone wants no more cases.
            task.cases
                .iter()
                .map(read)
                .find_map(|case| sender.send(case).err().map(drop))
        });
        // And the one before that is written.
        let mut writing: Option<ScopedJoinHandle<'_, Result<Predicted, ModelError>>> = None;
        let mut done = 0;
        let mut written = |writing: Option<ScopedJoinHandle<'_, _>>, report: &mut Report<'_>| {
            let Some(writing) = writing else {
                return Ok(ControlFlow::Continue(()));
            };
            let predicted: Predicted = writing.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            done += 1;
            Ok::<_, ModelError>(report(Progress::Case {
                predicted: Box::new(predicted),
                done,
                of: task.cases.len(),
            }))
        };
        for (case, asked) in cases.into_iter().zip(&task.cases) {
            let drawn = case.and_then(|(case, reading_s)| {
                let start = Instant::now();
                let drawn = with_batch(&mut batch, report, |batch, report| {
                    let tick = &mut || report(Progress::Drawing);
                    pool.install(|| match task.drawing {
                        Drawing {
                            overlap: false,
                            mirroring: false,
                        } => draw(&net, &case, batch, tick),
                        drawing => draw_blended(&net, &case, batch, drawing, tick),
                    })
                })?;
                Ok(drawn.map(|drawn| (case, drawn, reading_s + start.elapsed().as_secs_f64())))
            });
            // What is done is told before what went wrong.
            if written(writing.take(), report)?.is_break() {
                return Ok(TaskResult::Cancelled);
            }
            let Some((case, drawn, seconds)) = drawn? else {
                return Ok(TaskResult::Cancelled);
            };
            // The image is not needed any more, and is the largest part.
            let Case { id, mask, .. } = case;
            writing = Some(scope.spawn(move || {
                let start = Instant::now();
                let classes = task.architecture.classes;
                let mut predicted = finish(&id, mask.as_ref(), drawn, classes, &task.folder)?;
                predicted.drawing = task.drawing;
                predicted.dice_mask = asked.mask.as_ref().map(|(_, blob)| *blob);
                predicted.seconds = seconds + start.elapsed().as_secs_f64();
                Ok(predicted)
            }));
        }
        match written(writing, report)? {
            ControlFlow::Continue(()) => Ok(TaskResult::Predicted),
            ControlFlow::Break(()) => Ok(TaskResult::Cancelled),
        }
    })
}

/// Draws one case, `batch` tiles at a time; `None` when `tick`, asked after each batch, says so.
///
/// While a batch is computed the next one is cut out, and what was said of the one before is put where it lies.
pub(super) fn draw(
    net: &Net,
    case: &Case,
    batch: usize,
    tick: &mut (dyn FnMut() -> ControlFlow<()> + Send),
) -> Result<Option<Drawn>, ModelError> {
    let mut drawn = Drawn::of(case, net)?;
    let field = net.field();
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel(1);
        scope.spawn(move || {
            cut(field, case, batch * field.depth, |batch| {
                sender.send(batch).is_ok()
            })
        });
        let (begun, said) = sync_channel::<Said>(1);
        let placing = scope.spawn(move || {
            for said in said {
                said.place(&mut drawn, case)?;
            }
            Ok(drawn)
        });
        let mut blank = HashMap::new();
        for Batch { inputs, at, blanks } in batches {
            let mut said = Said::default();
            if !at.is_empty() {
                said.judging = Some((begin(net, inputs, &at)?, at));
            }
            for spots in blanks {
                let judged = match blank.entry(sizes(&spots)) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        // By itself, so that a GPU does not take it for a batch that comes again.
                        let logits = net.forward(&images(net, vec![0.0; field.seen()], &spots)?)?;
                        let judged = judge(&logits, new.key())?;
                        new.insert(Arc::new(judged))
                    }
                };
                said.blanks.push((judged.clone(), spots));
            }
            // Nobody takes it where placing failed; why is said below.
            if begun.send(said).is_err() {
                break;
            }
            if tick().is_break() {
                return Ok(None);
            }
        }
        drop(begun);
        let drawn: candle_core::Result<Drawn> = placing.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok(Some(drawn?))
    })
}

/// Tiles that go through the network together, and those without signal that came between.
#[derive(Default)]
struct Batch {
    inputs: Vec<f32>,
    at: Vec<Spot>,
    /// Of each stack.
    blanks: Vec<Vec<Spot>>,
}

/// Cuts a case into batches of `size` tiles, for as long as `take` takes them.
fn cut(field: Field, case: &Case, size: usize, take: impl Fn(Batch) -> bool) {
    let mut batch = Batch::default();
    let mut input = vec![0.0; field.seen()];
    for ((slices, asked), window) in places(field, case) {
        let spots = Spot::all(slices.start, field.depth, &asked, &window);
        if case.cut(field, slices, &window, &mut input) {
            batch.inputs.extend_from_slice(&input);
            batch.at.extend(spots);
        } else {
            batch.blanks.push(spots);
        }
        if batch.at.len() == size && !take(std::mem::take(&mut batch)) {
            return;
        }
    }
    if !batch.at.is_empty() || !batch.blanks.is_empty() {
        take(batch);
    }
}

/// What is said of a batch.
#[derive(Default)]
struct Said {
    judging: Option<(Judging, Vec<Spot>)>,
    blanks: Vec<(Arc<Judged>, Vec<Spot>)>,
}

impl Said {
    /// Waits for it, and puts it where it lies.
    fn place(self, drawn: &mut Drawn, case: &Case) -> candle_core::Result<()> {
        let mut place = |judged: &Judged, spots: Vec<Spot>| {
            for (tile, at) in spots.into_iter().enumerate() {
                drawn.place(case, at, judged, tile);
            }
        };
        for (judged, spots) in self.blanks {
            place(&judged, spots);
        }
        if let Some((judging, spots)) = self.judging {
            place(&judging.end()?, spots);
        }
        Ok(())
    }
}

/// Slices that are seen, and of them those that are asked for, with every tile of theirs.
fn places(field: Field, case: &Case) -> impl Iterator<Item = ((Range<usize>, Range<usize>), Window)> {
    let (all, tiling) = (0..case.slices(), case.tiling());
    field.stacks(all.clone(), all).flat_map(move |stack| {
        let windows = (0..tiling.tiles()).map(move |tile| tiling.window(tile));
        windows.map(move |window| (stack.clone(), window))
    })
}

fn begin(net: &Net, inputs: Vec<f32>, at: &[Spot]) -> candle_core::Result<Judging> {
    Judging::begin(net, &images(net, inputs, at)?, &sizes(at))
}

/// What the network sees of tiles.
fn images(net: &Net, inputs: Vec<f32>, at: &[Spot]) -> candle_core::Result<Tensor> {
    let field = net.field();
    placed(inputs, field.shape(at.len() / field.depth), net.device())
}

fn sizes(at: &[Spot]) -> Vec<[usize; 2]> {
    at.iter().map(|at| at.size).collect()
}

/// Writes a case's files and sums it up; how it was drawn, against which mask, and the seconds are still to be filled in.
fn finish(
    case: &CaseId,
    mask: Option<&LabelMap>,
    drawn: Drawn,
    classes: usize,
    folder: &Path,
) -> Result<Predicted, ModelError> {
    let labels = folder.join(format!("{case}.labels.nii.gz"));
    let margins = folder.join(format!("{case}.margins.nii.gz"));
    write_private(&labels, &encode_labels(&drawn.labels, u16::from))?;
    write_private(&margins, &encode_bytes(&drawn.labels.grid, &drawn.margins))?;
    let class_voxels = drawn.labels.class_voxels(classes);
    let dice = mask
        .map(|mask| dice(&drawn.labels.voxels, &mask.voxels, classes))
        .unwrap_or_default();
    Ok(Predicted {
        case: case.clone(),
        labels,
        margins,
        slices: drawn.slices,
        members: drawn.members,
        class_entropies: drawn.class_entropies,
        class_voxels,
        drawing: Drawing::default(),
        dice_mask: None,
        dice,
        seconds: 0.0,
    })
}

/// Writes a file whole or not at all, for its owner alone.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let failed = ModelError::io("writing", path);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(&failed)?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(&failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use candle_core::Device;

    use super::*;
    use crate::imaging::{Grid, Plane, Rng, Volume, encode_volume, read_scan};
    use crate::model::checkpoint::{Checkpoint, Header, save};
    use crate::model::network::parameters;
    use crate::records::{Architecture, CaseId, Hash};
    use crate::settings::{Intensity, Network, Networks, Precision};

    const SHAPE: Architecture = Architecture {
        networks: Networks::one(Network::UNet),
        channels: 1,
        classes: 3,
        base_channels: 2,
        slices: 1,
        deep_supervision: false,
    };

    /// 70 x 66 pixels a slice (four tiles, three of them padded), the first slice and one more tile without signal.
    fn volume() -> Volume {
        let grid = Grid::new([70, 3, 66], [1.0; 3]);
        let mut rng = Rng::new(3);
        let voxels = (0..grid.len()).map(|at| {
            let (i, j) = (at % 70, at / 70 % 3);
            if j == 0 || (j == 1 && i >= 64) {
                0.0
            } else {
                rng.range(1.0, 2.0) as f32
            }
        });
        Volume {
            grid,
            voxels: voxels.collect(),
        }
    }

    fn case() -> Case {
        let id = CaseId::new("ibsr_01").unwrap();
        Case::new(id, vec![volume()], None, Plane(1), Intensity::None, 3).unwrap()
    }

    #[test]
    fn padding_is_counted_nowhere() {
        let net = Net::drawn(SHAPE, &Rng::new(1), &Device::Cpu).unwrap();
        let drawn = draw(&net, &case(), 4, &mut || ControlFlow::Continue(()))
            .unwrap()
            .unwrap();
        assert_eq!(
            drawn.slices.iter().map(|s| s.pixels).collect::<Vec<_>>(),
            [70 * 66; 3]
        );
        let foreground = drawn.labels.voxels.iter().filter(|&&class| class > 0).count() as u64;
        assert_eq!(
            drawn.slices.iter().map(|s| s.foreground_pixels).sum::<u64>(),
            foreground
        );
        let bytes: f64 = drawn.margins.iter().map(|&m| f64::from(m) / 255.0).sum();
        let sums: f64 = drawn.slices.iter().map(|s| s.margin).sum();
        assert!((bytes - sums).abs() <= drawn.margins.len() as f64 * 0.5 / 255.0);
        let entropy: f64 = drawn.slices.iter().map(|slice| slice.entropy).sum();
        let foreground: f64 = drawn.slices.iter().map(|slice| slice.foreground_entropy).sum();
        assert!((drawn.class_entropies.iter().sum::<f64>() - entropy).abs() < 1e-6);
        assert!((drawn.class_entropies[1..].iter().sum::<f64>() - foreground).abs() < 1e-6);
    }

    /// Every tile by itself, without signal or not, through a network that sees one tile at a time.
    #[test]
    fn the_blank_tile_computed_once_gives_the_sums_of_each_computed() {
        let net = Net::drawn(SHAPE, &Rng::new(1), &Device::Cpu).unwrap();
        let case = case();
        let mut each = Drawn {
            labels: LabelMap::empty(*case.grid()),
            margins: vec![0; case.grid().len()],
            slices: vec![crate::records::SliceSums::default(); 3],
            members: Vec::new(),
            class_entropies: vec![0.0; 3],
        };
        let mut blanks = 0;
        for (slice, tile) in (0..3).flat_map(|slice| (0..4).map(move |tile| (slice, tile))) {
            let mut input = vec![0.0; Field::TILE.seen()];
            let window = case.tiling().window(tile);
            blanks += usize::from(!case.cut(Field::TILE, slice..slice + 1, &window, &mut input));
            let at = Spot::of(slice, &window);
            each.place(&case, at, &begin(&net, input, &[at]).unwrap().end().unwrap(), 0);
        }
        assert_eq!(blanks, 4 + 2);
        for batch in [1, 3, 16] {
            let drawn = draw(&net, &case, batch, &mut || ControlFlow::Continue(()))
                .unwrap()
                .unwrap();
            assert_eq!((&drawn.labels, &drawn.margins), (&each.labels, &each.margins));
            for (a, b) in drawn.slices.iter().zip(&each.slices) {
                // Tiles are added in another order where blank ones do not wait for a batch.
                assert!((a.margin - b.margin).abs() < 1e-9 && (a.entropy - b.entropy).abs() < 1e-9);
            }
        }
    }

    /// Twenty slices, the first seven of them and a corner of the others without signal, through networks that see slices and
    /// surroundings: as if each tile were asked about by itself.
    #[test]
    fn blank_stacks_and_surroundings_change_nothing_for_a_committee() {
        let shape = Architecture {
            networks: vec![Network::VoxResNet, Network::MultiScale].try_into().unwrap(),
            base_channels: 4,
            ..SHAPE
        };
        let net = Net::drawn(shape, &Rng::new(1), &Device::Cpu).unwrap();
        let grid = Grid::new([140, 66, 20], [1.0; 3]);
        let mut rng = Rng::new(3);
        let voxels = (0..grid.len()).map(|at| {
            let has_signal = at / 140 / 66 >= 7 && at % 140 >= 100;
            if has_signal {
                rng.range(1.0, 2.0) as f32
            } else {
                0.0
            }
        });
        let volume = Volume {
            grid,
            voxels: voxels.collect(),
        };
        let id = CaseId::new("a").unwrap();
        let case = Case::new(id, vec![volume], None, Plane(2), Intensity::None, 3).unwrap();
        let mut each = Drawn::of(&case, &net).unwrap();
        let mut blanks = 0;
        for ((slices, asked), window) in places(net.field(), &case) {
            let mut input = vec![0.0; net.field().seen()];
            blanks += usize::from(!case.cut(net.field(), slices.clone(), &window, &mut input));
            let spots = Spot::all(slices.start, net.field().depth, &asked, &window);
            let judged = begin(&net, input, &spots).unwrap().end().unwrap();
            for (n, at) in spots.into_iter().enumerate() {
                each.place(&case, at, &judged, n);
            }
        }
        // The left column's tiles, whose surroundings end before 98: two of them in each of two stacks.
        assert_eq!(blanks, 4);
        let drawn = draw(&net, &case, 2, &mut || ControlFlow::Continue(()))
            .unwrap()
            .unwrap();
        assert_eq!((&drawn.labels, &drawn.margins), (&each.labels, &each.margins));
        assert_eq!(drawn.members.len(), 2);
        for (a, b) in drawn.class_entropies.iter().zip(&each.class_entropies) {
            assert!(*b > 0.0 && (a - b).abs() < 1e-6 * b, "{a} {b}");
        }
        for (a, b) in drawn.members.iter().zip(&each.members) {
            assert_eq!(a.pixels as usize, grid.len(), "every pixel once");
            assert!((a.margin - b.margin).abs() < 1e-6 * b.margin);
        }
    }

    fn task(folder: &Path) -> PredictTask {
        let learned = parameters(&SHAPE).into_iter().map(|p| {
            let values = p.drawn(&Rng::new(1));
            (p.name, values.clone(), [values.clone(), values].concat())
        });
        let weights = folder.join("weights.safetensors");
        save(
            &Checkpoint {
                header: Header::new(SHAPE, 1, 1, 1),
                learned: learned.collect(),
            },
            &weights,
            true,
        )
        .unwrap();
        let image = folder.join("image.nii.gz");
        std::fs::write(&image, encode_volume(&volume())).unwrap();
        let mask = folder.join("mask.nii.gz");
        std::fs::write(&mask, encode_labels(&LabelMap::empty(volume().grid), u16::from)).unwrap();
        let case = |name: &str, mask: Option<(PathBuf, Hash)>| PredictCase {
            id: CaseId::new(name).unwrap(),
            images: vec![image.clone()],
            mask,
            plane: Plane(1),
        };
        PredictTask {
            architecture: SHAPE,
            weights,
            cases: vec![
                case("a", None),
                case("b", Some((mask, Hash::from_bytes([7; 32])))),
            ],
            intensity: Intensity::None,
            precision: Precision::F32,
            batch: 4,
            drawing: Drawing::default(),
            threads: 1,
            folder: folder.to_path_buf(),
        }
    }

    #[test]
    fn a_case_becomes_two_private_files_and_its_sums() {
        let folder = tempfile::tempdir().unwrap();
        let task = task(folder.path());
        let mut heard = Vec::new();
        let result = predict(&task, &Processor::CPU, &mut |progress| {
            heard.push(progress);
            ControlFlow::Continue(())
        });
        assert_eq!(result.unwrap(), TaskResult::Predicted);
        let drawn = heard
            .into_iter()
            .filter(|progress| *progress != Progress::Drawing);
        let predicted: Vec<Predicted> = drawn
            .zip(1..)
            .map(|(progress, nth)| match progress {
                Progress::Case { predicted, done, of } if (done, of) == (nth, 2) => *predicted,
                other => panic!("{other:?}"),
            })
            .collect();
        let net = load_network(&task.weights, &SHAPE, &Device::Cpu).unwrap();
        let drawn = draw(&net, &case(), 4, &mut || ControlFlow::Continue(()))
            .unwrap()
            .unwrap();
        for (predicted, name) in predicted.iter().zip(["a", "b"]) {
            assert_eq!(
                predicted.labels,
                folder.path().join(format!("{name}.labels.nii.gz"))
            );
            let read = |path: &Path| {
                assert_eq!(
                    std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
                    0o600
                );
                let scan = read_scan(path, 1 << 20).unwrap();
                scan.volume.voxels.iter().map(|&v| v as u8).collect::<Vec<_>>()
            };
            assert_eq!(read(&predicted.labels), drawn.labels.voxels);
            assert_eq!(read(&predicted.margins), drawn.margins);
            assert_eq!(predicted.slices, drawn.slices);
            assert_eq!(predicted.class_voxels, drawn.labels.class_voxels(3));
        }
        assert_eq!(
            predicted.iter().map(|p| p.dice_mask).collect::<Vec<_>>(),
            [None, Some(Hash::from_bytes([7; 32]))]
        );
        assert!(predicted[0].dice.is_empty());
        let expected: Vec<Option<f64>> = drawn.labels.class_voxels(3)[1..]
            .iter()
            .map(|&n| (n > 0).then_some(0.0))
            .collect();
        assert_eq!(predicted[1].dice, expected, "against an empty mask");
    }

    /// Many batches of one tile, so that every stage has something under way when it is told to stop.
    #[test]
    fn a_break_ends_every_stage_of_drawing() {
        let net = Net::drawn(SHAPE, &Rng::new(1), &Device::Cpu).unwrap();
        let mut batches = 0;
        for last in 1..4 {
            let mut left = last;
            let drawn = draw(&net, &case(), 1, &mut || {
                (left, batches) = (left - 1, batches + 1);
                match left {
                    0 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            });
            assert!(drawn.unwrap().is_none());
        }
        assert_eq!(batches, 1 + 2 + 3);
    }

    /// A network that fails in the second of its layers, while tiles are cut and others wait to be placed.
    #[test]
    fn a_network_that_fails_ends_every_stage_of_drawing() {
        let shape = Architecture { channels: 2, ..SHAPE };
        let mut wrong = case();
        wrong.channels.push(wrong.channels[0].clone());
        let net = Net::drawn(shape, &Rng::new(1), &Device::Cpu).unwrap();
        let net = net.narrowed().unwrap();
        let error = draw(&net, &wrong, 1, &mut || ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains("BF16"), "{error}");
    }

    #[test]
    fn a_break_stops_between_cases_and_between_batches() {
        for (at, written) in [(true, true), (false, false)] {
            let folder = tempfile::tempdir().unwrap();
            let result = predict(&task(folder.path()), &Processor::CPU, &mut |progress| {
                if at == matches!(progress, Progress::Case { .. }) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            assert_eq!(result.unwrap(), TaskResult::Cancelled);
            assert_eq!(folder.path().join("a.labels.nii.gz").exists(), written);
            assert!(!folder.path().join("b.labels.nii.gz").exists());
        }
    }
}
