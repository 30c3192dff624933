//! A project made by hand: rows, and a case as the engine sends it.

use jiff::Timestamp;
use overtrace::imaging::{Grid, Plane};
use overtrace::protocol::{CaseView, Drawing, Intensities, Maker, Snapshot};
use overtrace::records::{
    Architecture, Case, CaseId, ClassEffort, Correction, CorrectionId, Fix, Handout, HandoutEnd, HandoutId,
    Hash, HeldFile, HeldId, Model, ModelId, ModelOrigin, Pool, Prediction, Ranking, RankingId, Round,
    RoundId, RoundState, Row, Scored, SliceSums,
};
use overtrace::settings::{Networks, Pixels, Settings, Strategy};
use ratatui::style::Color;

/// The case of that name.
pub fn case_id(name: &str) -> CaseId {
    CaseId::new(name).unwrap()
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// Colour of a cell.
pub fn colour(r: u8, g: u8, b: u8) -> Color {
    Color::Rgb(r, g, b)
}

fn effort(corrected_px: u64, shared_px: u64) -> ClassEffort {
    ClassEffort {
        predicted_px: 8,
        corrected_px,
        shared_px,
        erased_px: 8 - shared_px.min(8),
        added_path_mm: (corrected_px - shared_px) as f64,
        dice: Some(0.5),
    }
}

fn case(name: &str, pool: Pool) -> Case {
    Case {
        id: case_id(name),
        pool,
        excluded: None,
        images: vec![Hash::ZERO],
        grid: Grid::new([12, 9, 12], [1.0, 1.5, 1.0]),
        source: Hash::ZERO,
        mask: None,
        mask_versions: 0,
        handout: None,
        queried: None,
        added_at: at(0),

        forgotten: None,
    }
}

/// Three unlabelled cases ranked by m2, one labelled, one held out; round 1 is closed, round 2 is open.
pub fn project() -> Snapshot {
    let mut snapshot = Snapshot::empty("/data/study".into(), Settings::default());
    snapshot.project.model = Some(ModelId(2));
    snapshot.put(Row::Model(Model {
        id: ModelId(2),
        parent: Some(ModelId(1)),
        origin: ModelOrigin::Round(RoundId(1)),
        architecture: Architecture {
            networks: Networks::default(),
            channels: 1,
            classes: 4,
            base_channels: 16,
            slices: 1,
            deep_supervision: false,
        },
        parameters: 1_941_108,
        weights: Hash::ZERO,
        trained_on: None,
        trained_cases: 1,
        curve: None,
        best_epoch: 2,
        epochs: 3,
        seconds: 60.0,
        validation_dice: vec![Some(0.8); 3],
        at: at(0),
    }));
    snapshot.project.ranking = Some(RankingId(1));
    let scores = [("unsure", 0.41), ("middling", 0.62), ("certain", 0.93)];
    let pools = [("labelled_1", Pool::Labelled), ("held_out_1", Pool::HeldOut)];
    let unlabelled = scores.map(|(name, _)| (name, Pool::Unlabelled));
    for (name, pool) in unlabelled.into_iter().chain(pools) {
        snapshot.put(Row::Case(case(name, pool)));
    }
    for (name, _) in scores {
        snapshot.put(Row::Prediction(Prediction {
            case: case_id(name),
            model: ModelId(2),
            labels: Hash::ZERO,
            margins: Hash::ZERO,
            slices: Hash::ZERO,
            sums: SliceSums::default(),
            members: Vec::new(),
            class_entropies: Vec::new(),
            class_voxels: vec![0, 2000, 8000, 4000],
            drawing: overtrace::settings::Drawing::default(),
            dice: Vec::new(),
            dice_mask: None,
            seconds: 1.0,
        }));
    }
    snapshot.put(Row::Ranking(Ranking {
        id: RankingId(1),
        strategy: Strategy::AverageBvsb,
        pixels: Pixels::All,
        seed: None,
        model: Some(ModelId(2)),
        order: Hash::ZERO,
        cases: 3,
        at: at(0),
    }));
    snapshot.order = scores
        .map(|(name, score)| Scored {
            case: case_id(name),
            score: Some(score),
        })
        .to_vec();
    let closed = Round {
        id: RoundId(1),
        state: RoundState::Closed,
        settings: Hash::ZERO,
        from_scratch: false,
        strategy: Strategy::AverageBvsb,
        budget: 1,
        ranking: None,
        queried: vec![case_id("labelled_1")],
        returned: 1,
        parent: None,
        training_set: None,
        labelled: 1,
        model: Some(ModelId(2)),
        effort: vec![effort(8, 4), effort(8, 6), effort(0, 0)],
        held_out_dice: vec![Some(0.7), Some(0.9), None],
        held_out: 1,
        unlabelled: Some(4),
        training_s: 100.0,
        predicting_s: 20.0,
        started_at: at(0),
        ended_at: Some(at(200)),
    };
    let open = Round {
        id: RoundId(2),
        state: RoundState::Correcting,
        queried: vec![case_id("unsure")],
        returned: 0,
        model: None,
        effort: Vec::new(),
        held_out_dice: Vec::new(),
        ended_at: None,
        ..closed.clone()
    };
    snapshot.put(Row::Round(closed));
    snapshot.put(Row::Round(open));
    snapshot
}

fn handout(case: &str, owner: &str) -> Handout {
    Handout {
        id: HandoutId(1),
        case: case_id(case),
        owner: owner.into(),
        at: at(0),
        model: Some(ModelId(2)),
        pre_annotation: Hash::ZERO,
        reply_name: format!("{case}.nii.gz"),
        again: false,
        end: None,
    }
}

/// `case` in the hands of `owner` for two hours.
pub fn with_handout(mut snapshot: Snapshot, case: &str, owner: &str) -> Snapshot {
    snapshot.put(Row::Handout(handout(case, owner)));
    snapshot.cases.get_mut(&case_id(case)).unwrap().handout = Some(HandoutId(1));
    snapshot
}

/// A file of `case` that waits for a decision.
pub fn with_held(mut snapshot: Snapshot, case: &str) -> Snapshot {
    snapshot.put(Row::Held(HeldFile {
        id: HeldId(1),
        name: format!("{case}\u{1b}.nii.gz"),
        file: Hash::ZERO,
        case: case_id(case),
        code: "K7".into(),
        words: "GM is nowhere in it".into(),
        fix: Some(Fix::Mirror { axis: 0 }),
        table: None,
        answers: None,
        passed: Vec::new(),
        mended: Vec::new(),
        at: at(0),
        decided: None,
    }));
    snapshot
}

/// A correction of `case`: CSF was all right, half of GM was, WM is in neither.
pub fn with_correction(mut snapshot: Snapshot, case: &str) -> Snapshot {
    snapshot.put(Row::Handout(Handout {
        end: Some(HandoutEnd::Corrected(CorrectionId(1))),
        ..handout(case, "eve")
    }));
    snapshot.put(Row::Correction(Correction {
        id: CorrectionId(1),
        case: case_id(case),
        handout: HandoutId(1),
        round: None,
        who: "eve".into(),
        at: at(60),
        mask: Hash::ZERO,
        file: Hash::ZERO,
        pre_annotation: Hash::ZERO,
        model: Some(ModelId(2)),
        effort: vec![effort(8, 8), effort(8, 4), effort(0, 0)],
        tolerance_mm: 0.0,
        plane: None,
        turnaround_s: Some(60.0),
        minutes: None,
        notes: Vec::new(),
        agreement: None,
        table: None,
    }));
    snapshot
}

/// A square of GM, 4 x 4, in each of nine coronal slices of 12 x 12, its left upper corner at (x, y).
fn squares(x: usize, y: usize) -> Vec<u8> {
    let inside = |i: usize, k: usize| (x..x + 4).contains(&i) && (y..y + 4).contains(&k);
    let class = |at: usize| if inside(at % 12, at / (12 * 9)) { 2 } else { 0 };
    (0..12 * 9 * 12).map(class).collect()
}

/// A case that nobody has corrected: grey 100, GM predicted in the middle, the uppermost row unsure; slice 5 of 9 most of all.
pub fn view(case: &str) -> CaseView {
    view_of(case, false)
}

/// The same; `corrected` moves the square of GM one pixel on.
pub fn view_of(case: &str, corrected: bool) -> CaseView {
    let grid = Grid::new([12, 9, 12], [1.0, 1.5, 1.0]);
    let drawing = |voxels| Drawing {
        by: Maker::Model(ModelId(2)),
        voxels,
    };
    let margins = (0..grid.len()).map(|at| if at / (12 * 9) == 11 { 0 } else { 255 });
    CaseView {
        case: case_id(case),
        grid,
        plane: Plane(1),
        image: Intensities {
            values: vec![100; grid.len()],
            low: 0.0,
            step: 1.0,
            window: [0.0, 255.0],
        },
        images: 1,
        predicted: Some(drawing(squares(4, 4))),
        is_measured: corrected,
        corrected: corrected.then(|| squares(5, 4)),
        margins: Some(drawing(margins.collect())),
        scores: (0..9).map(|n| if n == 4 { 0.41 } else { 0.9 }).collect(),
        beside: None,
    }
}
