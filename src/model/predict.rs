//! Drawing the cases of a task: the next one is read and the last one written while one is drawn.

use std::io::Write;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use super::blend::draw_blended;
use super::checkpoint::load_network;
use super::data::Case;
use super::draw::draw;
use super::drawn::Drawn;
use super::processor::with_batch;
use super::{ModelError, Processor, Report};
use crate::imaging::{LabelMap, encode_bytes, encode_labels};
use crate::metrics::dice;
use crate::records::{CaseId, PredictCase, PredictTask, Predicted, Progress, TaskResult};
use crate::settings::Drawing;

/// Draws every one of `cases` as `task` says, into its folder; stops between cases when `report` says so. The next case is asked for
/// as soon as one is begun with.
///
/// # Errors
/// [`ModelError`]: weights or images that cannot be read or do not fit, or files that cannot be written.
pub fn predict(
    task: &PredictTask,
    cases: impl Iterator<Item = PredictCase> + Send,
    processor: &Processor,
    report: &mut Report<'_>,
) -> Result<TaskResult, ModelError> {
    processor.set_precision(task.precision);
    let net = load_network(&task.weights, &task.architecture, processor.device())?;
    let mut batch = net.field().drawn(processor.drawing_batch(task.batch));
    let net = processor.drawing(&net, batch, task.precision)?;
    let drawn_in = processor.drawn_in(task.architecture.networks, task.precision);
    if processor.is_gpu() && drawn_in != task.precision {
        // Whether to go on is asked again at the first batch.
        let _ = report(Progress::Notice(format!(
            "drawing in {drawn_in}: only the U-shape network by itself draws in {}",
            task.precision
        )));
    }
    let pool = processor.pool(task.threads)?;
    let read = |case: PredictCase| -> Result<_, ModelError> {
        let start = Instant::now();
        let (mask, blob) = case.mask.unzip();
        let (mask, classes) = (mask.as_deref(), task.architecture.classes);
        let read = Case::read(&case.id, &case.images, mask, case.plane, task.intensity, classes)?;
        Ok((read, blob, start.elapsed().as_secs_f64()))
    };
    std::thread::scope(|scope| {
        // One case is read while the one before it is drawn.
        let (sender, read_cases) = sync_channel(0);
        scope.spawn(move || {
            // A receiver that has gone wants no more cases.
            cases.map(read).find_map(|case| sender.send(case).err().map(drop))
        });
        // And the one before that is written.
        let mut writing: Option<ScopedJoinHandle<'_, Result<Predicted, ModelError>>> = None;
        let written = |writing: Option<ScopedJoinHandle<'_, _>>, report: &mut Report<'_>| {
            let Some(writing) = writing else {
                return Ok(ControlFlow::Continue(()));
            };
            let predicted: Predicted = writing.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok::<_, ModelError>(report(Progress::Case(Box::new(predicted))))
        };
        for case in read_cases {
            let drawn = case.and_then(|(case, blob, reading_s)| {
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
                Ok(drawn.map(|drawn| (case, blob, drawn, reading_s + start.elapsed().as_secs_f64())))
            });
            // What is done is told before what went wrong.
            if written(writing.take(), report)?.is_break() {
                return Ok(TaskResult::Cancelled);
            }
            let Some((case, blob, drawn, seconds)) = drawn? else {
                return Ok(TaskResult::Cancelled);
            };
            // The image is not needed any more, and is the largest part.
            let Case { id, mask, .. } = case;
            writing = Some(scope.spawn(move || {
                let start = Instant::now();
                let classes = task.architecture.classes;
                let mut predicted = finish(&id, mask.as_ref(), drawn, classes, &task.folder)?;
                predicted.drawing = task.drawing;
                predicted.dice_mask = blob;
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
    use crate::imaging::{Plane, Rng, encode_volume, read_scan};
    use crate::model::checkpoint::{Checkpoint, Header, save};
    use crate::model::draw::tests::{SHAPE, case, volume};
    use crate::model::network::parameters;
    use crate::records::{CaseId, Hash};
    use crate::settings::{Intensity, Precision};

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
        let cases = task.cases.iter().cloned();
        let result = predict(&task, cases, &Processor::CPU, &mut |progress| {
            heard.push(progress);
            ControlFlow::Continue(())
        });
        assert_eq!(result.unwrap(), TaskResult::Predicted);
        let drawn = heard
            .into_iter()
            .filter(|progress| *progress != Progress::Drawing);
        let predicted: Vec<Predicted> = drawn
            .map(|progress| match progress {
                Progress::Case(predicted) => *predicted,
                other => panic!("{other:?}"),
            })
            .collect();
        let net = load_network(&task.weights, &SHAPE, &Device::Cpu)
            .unwrap()
            .frozen(4);
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
        assert_eq!(predicted.len(), 2);
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

    #[test]
    fn a_break_stops_between_cases_and_between_batches() {
        for (at, written) in [(true, true), (false, false)] {
            let folder = tempfile::tempdir().unwrap();
            let task = task(folder.path());
            let cases = task.cases.iter().cloned();
            let result = predict(&task, cases, &Processor::CPU, &mut |progress| {
                if at == matches!(progress, Progress::Case(_)) {
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
