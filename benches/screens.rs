//! Bytes that the next slice takes over the wire, ours beside ratatui-image's half-blocks: `cargo bench --bench screens`.
//!
//! `OVERTRACE_DATA` is a folder of CASE/image.nii.gz and CASE/label.nii.gz (real brains); without it, a phantom stands in.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use overtrace::imaging::{DATASET_SEED, Grid, MAX_VOLUME_BYTES, Plane, phantom, read_scan};
use overtrace::protocol::{CaseView, Drawing, Intensities, Maker};
use overtrace::records::{CaseId, ModelId};
use overtrace::settings::Labels;
use overtrace::tui::{Cells, Depth, Kind, Look, Output, PaintJob, Seen, Source, Themes, Turn, Zoom, compose};
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::widgets::Widget;
use ratatui_image::protocol::halfblocks::Halfblocks;

/// Cells of the picture.
const ROOM: [u16; 2] = [80, 40];

/// A writer that counts.
#[derive(Clone, Default)]
struct Count(Arc<Mutex<usize>>);

impl Count {
    fn take(&self) -> usize {
        std::mem::take(&mut *self.0.lock().expect("one thread"))
    }
}

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.0.lock().expect("one thread") += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A case as the engine sends it.
fn view(grid: Grid, image: &[f32], labels: Vec<u8>) -> CaseView {
    CaseView {
        case: CaseId::new("case").expect("a name"),
        grid,
        plane: Plane(grid.thickest_axis()),
        image: Intensities::of(image),
        images: 1,
        predicted: Some(Drawing {
            by: Maker::Model(ModelId(1)),
            voxels: labels,
        }),
        is_measured: false,
        corrected: None,
        margins: None,
        scores: Vec::new(),
        beside: None,
    }
}

fn cases() -> Vec<CaseView> {
    let Some(folder) = std::env::var_os("OVERTRACE_DATA") else {
        println!("OVERTRACE_DATA is not set: a phantom stands in for real brains");
        let case = phantom(DATASET_SEED, 0);
        return vec![view(case.image.grid, &case.image.voxels, case.truth.voxels)];
    };
    let read = |path: &Path| read_scan(path, MAX_VOLUME_BYTES).expect("a volume").volume;
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .filter_map(|item| Some(item.ok()?.path()).filter(|path| path.join("label.nii.gz").exists()))
        .collect();
    names.sort();
    names
        .iter()
        .take(3)
        .map(|case| {
            let (image, label) = (read(&case.join("image.nii.gz")), read(&case.join("label.nii.gz")));
            view(
                image.grid,
                &image.voxels,
                label.voxels.iter().map(|&v| v as u8).collect(),
            )
        })
        .collect()
}

/// The case cut to the box around what is labelled.
fn cropped(case: &CaseView) -> CaseView {
    let shape = case.grid.shape;
    let labels = &case.predicted.as_ref().expect("it was made so").voxels;
    let (mut from, mut to) = (shape, [0; 3]);
    let place = |at: usize| {
        [
            at % shape[0],
            at / shape[0] % shape[1],
            at / (shape[0] * shape[1]),
        ]
    };
    for at in (0..labels.len()).filter(|&at| labels[at] > 0) {
        for (axis, n) in place(at).into_iter().enumerate() {
            (from[axis], to[axis]) = (from[axis].min(n), to[axis].max(n + 1));
        }
    }
    let inside: Vec<usize> = (0..labels.len())
        .filter(|&at| {
            place(at)
                .into_iter()
                .enumerate()
                .all(|(axis, n)| (from[axis]..to[axis]).contains(&n))
        })
        .collect();
    let mut grid = case.grid;
    grid.shape = [0, 1, 2].map(|axis| to[axis] - from[axis]);
    CaseView {
        grid,
        image: Intensities {
            values: inside.iter().map(|&at| case.image.values[at]).collect(),
            ..case.image.clone()
        },
        predicted: Some(Drawing {
            by: Maker::Model(ModelId(1)),
            voxels: inside.iter().map(|&at| labels[at]).collect(),
        }),
        ..case.clone()
    }
}

/// Sends what differs between two buffers; the bytes that it takes.
fn sent<B: Backend<Error = io::Error>>(
    backend: &mut B,
    count: &Count,
    before: &Buffer,
    after: &Buffer,
) -> usize {
    let changes = before.diff(after);
    backend.draw(changes.into_iter()).expect("it only counts");
    backend.flush().expect("it only counts");
    count.take()
}

/// Bytes of each next slice: ours, then ratatui-image's.
fn bytes(case: &CaseView, depth: Depth, overlay: bool) -> Vec<[usize; 2]> {
    let view = Seen(Arc::new(case.clone()));
    let plane = case.plane;
    let palette = Arc::new(Themes::default().theme(true, None).palette(&Labels::default()));
    let area = Rect::new(0, 0, ROOM[0], ROOM[1]);
    let counts = [Count::default(), Count::default()];
    let mut ours = Output::new(counts[0].clone(), depth);
    let mut theirs = CrosstermBackend::new(counts[1].clone());
    let mut before: Option<(Cells, [Buffer; 2])> = None;
    let mut found = Vec::new();
    for index in 0..plane.slices(&case.grid) {
        let job = PaintJob {
            pane: 0,
            view: view.clone(),
            plane,
            index,
            source: Source::Drawn,
            look: Look {
                overlay,
                ..Look::default()
            },
            zoom: Zoom::default(),
            focus: [0, 0],
            cross: None,
            palette: palette.clone(),
            letters: Arc::new([]),
            turn: Turn::of(&case.grid, plane),
            cells: Size::new(ROOM[0], ROOM[1]),
            kind: Kind::Half,
            depth,
            cell_px: [10, 20],
        };
        let picture = compose(
            &job,
            &job.window([f64::from(ROOM[0]), f64::from(ROOM[1]) * 2.0], 1.0),
        );
        let cells = Cells::of(
            &picture,
            before.as_ref().map(|(cells, _)| cells),
            &palette.all(),
            depth,
        );
        let mut buffers = [Buffer::empty(area), Buffer::empty(area)];
        (&cells).render(area, &mut buffers[0]);
        let size = cells.size();
        let blocks = Halfblocks::new(image::DynamicImage::ImageRgb8(picture), size).expect("half-blocks");
        let blocks = ratatui_image::protocol::Protocol::Halfblocks(blocks);
        ratatui_image::Image::new(&blocks).render(Rect::new(0, 0, size.width, size.height), &mut buffers[1]);
        if let Some((_, before)) = &before {
            found.push([
                sent(&mut ours, &counts[0], &before[0], &buffers[0]),
                sent(&mut theirs, &counts[1], &before[1], &buffers[1]),
            ]);
        }
        before = Some((cells, buffers));
    }
    // Slices beyond the head are the same to everybody.
    found.retain(|[_, theirs]| *theirs > 2000);
    found
}

fn main() {
    let cases = cases();
    println!(
        "bytes of the next slice in {} x {} cells; {} cases; median (90th percentile) over adjacent slices",
        ROOM[0],
        ROOM[1],
        cases.len()
    );
    println!(
        "{:<26}{:<12}{:>8} {:>16}{:>18}{:>8}",
        "picture", "colours", "slices", "overtrace", "ratatui-image", "share"
    );
    for (picture, is_cropped) in [("whole slice", false), ("brain filling it", true)] {
        for overlay in [false, true] {
            for (colours, depth) in [("256", Depth::Ansi256), ("true", Depth::True)] {
                let mut found: Vec<[usize; 2]> = Vec::new();
                for case in &cases {
                    let case = if is_cropped { cropped(case) } else { case.clone() };
                    found.extend(bytes(&case, depth, overlay));
                }
                let of = |which: usize, share: f64| {
                    let mut sorted: Vec<usize> = found.iter().map(|pair| pair[which]).collect();
                    sorted.sort_unstable();
                    sorted[((sorted.len() - 1) as f64 * share) as usize]
                };
                let words = |which: usize| format!("{} ({})", of(which, 0.5), of(which, 0.9));
                println!(
                    "{:<26}{:<12}{:>8} {:>16}{:>18}{:>7.0}%",
                    format!("{picture}{}", if overlay { ", contours" } else { "" }),
                    colours,
                    found.len(),
                    words(0),
                    words(1),
                    100.0 * of(0, 0.5) as f64 / of(1, 0.5) as f64
                );
            }
        }
    }
}
