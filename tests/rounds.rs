//! Rounds through the engine: taken up again in every state, and what happens beside them.

#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;

use overtrace::imaging::encode_labels;
use overtrace::protocol::{Answer, Command};
use overtrace::records::{Pool, RoundState, What};
use support::{Bench, SMALL, boxes, id};

const START: Command = Command::StartRound {
    from_scratch: false,
    budget: None,
    strategy: None,
};

fn truth(seed: u64) -> Vec<u8> {
    encode_labels(&boxes(seed).1, u16::from)
}

/// A labelled, a held-out and two unlabelled cases.
fn bench(settings: &str) -> Bench {
    let bench = Bench::new(settings);
    bench.import("known", 1, Pool::Labelled);
    bench.import("test", 4, Pool::HeldOut);
    bench.import("asked", 2, Pool::Unlabelled);
    bench.import("later", 3, Pool::Unlabelled);
    bench
}

fn state(bench: &Bench) -> RoundState {
    bench
        .snapshot()
        .rounds
        .values()
        .next_back()
        .unwrap()
        .state
        .clone()
}

/// A command that fails while the image of `case` is gone.
fn fails_without(bench: &Bench, case: &str, command: Command) {
    let error = bench.without_image(case, || bench.ask(command).unwrap_err());
    assert!(
        error.contains("the worker failed") && error.contains("overtrace round train"),
        "{error}"
    );
}

#[test]
fn a_round_goes_on_after_a_restart_in_every_state_with_the_settings_it_began_with() {
    let first = bench(SMALL);
    fails_without(&first, "known", START);
    assert_eq!(state(&first), RoundState::Training);
    // What the file says now is for the next round.
    let wider = SMALL.replace("base_channels = 2", "base_channels = 3");
    fs::write(first.project().join("overtrace.toml"), wider).unwrap();

    let second = first.restart();
    assert_eq!(state(&second), RoundState::Training);
    fails_without(&second, "test", Command::Train);
    assert_eq!(state(&second), RoundState::Evaluating);

    let third = second.restart();
    assert!(
        third
            .done(Command::Train)
            .contains("round r1 closed: m1 on 1 cases, held-out Dice")
    );
    let model = third.snapshot().models.values().next().unwrap().clone();
    assert_eq!(model.architecture.base_channels, 2);
    let refused = third.ask(START).unwrap_err();
    assert!(refused.contains("model.base_channels is 3 now"), "{refused}");
    fs::write(third.project().join("overtrace.toml"), SMALL).unwrap();

    third.import("last", 5, Pool::Unlabelled);
    fails_without(&third, "last", START);
    assert_eq!(state(&third), RoundState::Querying);

    let fourth = third.restart();
    assert!(fourth.done(Command::Train).contains("round r2 asks for"));
    assert_eq!(state(&fourth), RoundState::Correcting);

    let fifth = fourth.restart();
    assert_eq!(state(&fifth), RoundState::Correcting);
    assert!(
        fifth.done(Command::Train).contains("round r2 closed"),
        "closes without the case that is not back"
    );
}

#[test]
fn a_round_that_cannot_run_is_not_begun() {
    let bench = bench(SMALL);
    let two = format!("{SMALL}[image]\nchannels = 2\n");
    fs::write(bench.project().join("overtrace.toml"), two).unwrap();
    let refused = bench.ask(START).unwrap_err();
    assert!(
        refused.contains("known has 1 images, but image.channels is 2"),
        "{refused}"
    );
    assert!(bench.snapshot().rounds.is_empty());
}

/// The import is served while the worker draws the pool.
#[test]
fn a_case_that_joins_the_pool_while_it_is_drawn_is_drawn_and_ranked_too() {
    let bench = bench(SMALL);
    bench.start_round();
    for n in 0..8 {
        bench.import(&format!("more-{n}"), 10 + n, Pool::Unlabelled);
    }
    bench.handle.send(START).unwrap();
    bench.import("joined", 30, Pool::Unlabelled);
    bench.hear(What::CasesQueried);
    let snapshot = bench.snapshot();
    assert_eq!(snapshot.ranking().unwrap().cases, 11);
    assert!(snapshot.predictions.contains_key(&id("joined")));
}

#[test]
fn a_correction_that_comes_while_the_round_trains_is_taken_and_learnt_from_in_the_next() {
    let bench = bench(&format!("{SMALL}[query]\nbudget = 2\n"));
    bench.start_round();
    bench.start_round();
    for case in ["asked", "later"] {
        bench.hand_out(case);
    }
    bench.drop_file("asked.nii.gz", &truth(2));
    bench.only_report();
    // The scan is served while the worker trains.
    bench.handle.send(Command::Train).unwrap();
    bench.drop_file("later.nii.gz", &truth(3));
    assert_eq!(bench.only_report().case, Some(id("later")));
    bench.hear(What::RoundClosed);
    let snapshot = bench.snapshot();
    let round = snapshot.rounds.values().next_back().unwrap();
    assert_eq!((round.labelled, round.returned, round.queried.len()), (2, 1, 2));
    assert_eq!(snapshot.cases[&id("later")].pool, Pool::Labelled);
    assert!(bench.start_round().contains("m3 on 3 cases"));
}

/// The regular look is an hour away: it is the system's hint that makes the engine look.
#[test]
fn a_watching_engine_takes_a_dropped_mask_and_trains_when_the_last_case_is_back() {
    let settings = format!("{SMALL}rescan_s = 3600.0\n");
    let bench = bench(&settings);
    bench.start_round();
    bench.start_round();
    let case = bench.snapshot().open_round().unwrap().queried[0].clone();
    let out = bench.hand_out(case.as_str());
    let bench = bench.restart_watching();
    // The first look is over when this is answered.
    bench.snapshot();
    let seed = if case == id("asked") { 2 } else { 3 };
    bench.drop_file(&out.reply_name, &truth(seed));
    bench.hear(What::CorrectionAccepted);
    bench.hear(What::TrainingStarted);
    bench.hear(What::RoundClosed);
    assert_eq!(bench.snapshot().rounds.values().next_back().unwrap().labelled, 2);
}

#[test]
fn a_mask_for_a_case_that_is_there_is_not_dropped_without_a_word() {
    let bench = bench(SMALL);
    let item = overtrace::protocol::ImportItem {
        id: id("asked"),
        images: vec![bench.folder.path().join("asked.nii.gz")],
        mask: Some(bench.folder.path().join("asked_truth.nii.gz")),
        pool: None,
    };
    let command = Command::Import {
        items: vec![item],
        pool: None,
    };
    match bench.ask(command).unwrap() {
        Answer::Imported {
            known, masks_left, ..
        } => {
            assert_eq!(known, [(id("asked"), id("asked"))]);
            assert!(masks_left[0].1.contains("through the inbox"), "{masks_left:?}");
        }
        other => panic!("{other:?}"),
    }
}
