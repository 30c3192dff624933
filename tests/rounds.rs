//! Rounds through the engine: taken up again in every state, and what happens beside them.

#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs;

use overtrace::imaging::encode_labels;
use overtrace::protocol::{Answer, CaseView, Command, NextStep, Outcome, Stage, Wanted};
use overtrace::records::{Correction, HandoutEnd, Pool, Round, RoundState, What};
use overtrace::settings::{Settings, Strategy};
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

fn last_round(bench: &Bench) -> Round {
    bench.snapshot().rounds.values().next_back().unwrap().clone()
}

fn state(bench: &Bench) -> RoundState {
    last_round(bench).state
}

fn last_correction(bench: &Bench) -> Correction {
    bench.snapshot().corrections.values().next_back().unwrap().clone()
}

fn opened(bench: &Bench, case: &str) -> CaseView {
    let open = Command::Open(Wanted::of(&id(case)));
    match bench.ask(open).unwrap() {
        Answer::Case(view) => *view,
        other => panic!("{other:?}"),
    }
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
    assert_eq!(snapshot.activity.stage, Stage::Idle);
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
    let round = last_round(&bench);
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
    // What the first look finds is heard before the mask is dropped, so it is a later look that finds that.
    bench.drop_file("nobody.nii.gz", b"");
    bench.hear(What::FileRefused);
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

#[test]
fn a_target_dice_on_the_held_out_cases_ends_the_loop() {
    let bench = bench(&format!("{SMALL}[query]\ntarget_dice = 0.0001\n"));
    bench.start_round();
    let why = bench.snapshot().project.satisfied.unwrap();
    assert!(why.contains("reached the target 0.0001"), "{why}");
    assert!(bench.ask(START).unwrap_err().contains("round reopen"));
    bench.done(Command::Reopen {
        why: "more came in".into(),
    });
    assert!(bench.start_round().contains("round r2 asks for"));
}

#[test]
fn each_round_records_the_settings_it_ran_with() {
    let bench = bench(SMALL);
    bench.start_round();
    let slower = SMALL.replace("0.02", "0.0002");
    fs::write(bench.project().join("overtrace.toml"), slower).unwrap();
    bench.start_round();
    bench.done(Command::Train);
    let rates: Vec<f64> = bench
        .snapshot()
        .rounds
        .values()
        .map(|round| {
            let name = round.settings.to_string();
            let blob = bench.project().join("store/blobs").join(&name[..2]).join(&name);
            let settings: Settings = serde_json::from_slice(&fs::read(blob).unwrap()).unwrap();
            settings.training.learning_rate
        })
        .collect();
    assert_eq!(rates, [0.02, 0.0002]);
    // The pools are those it trained with: the second round's case had not come back.
    let pools = |round: &Round| (round.labelled, round.unlabelled, round.held_out);
    let all: Vec<_> = bench.snapshot().rounds.values().map(pools).collect();
    assert_eq!(all, [(1, Some(2), 1), (1, Some(2), 1)]);
}

/// The same seed and labels, with and without held-out cases: the same weights to the bit.
#[test]
fn the_held_out_pool_never_steers_training() {
    let with = bench(SMALL);
    with.start_round();
    let without = Bench::new(SMALL);
    without.import("known", 1, Pool::Labelled);
    without.start_round();
    let weights = |bench: &Bench| bench.snapshot().models.values().next().unwrap().weights;
    assert_eq!(weights(&with), weights(&without));
}

#[test]
fn a_round_is_abandoned_at_rest_and_at_work_and_its_cases_are_free_again() {
    let long = SMALL.replace("max_epochs = 1", "max_epochs = 500\npatience = 500");
    let bench = bench(&long);
    bench.handle.send(START).unwrap();
    bench.hear(What::TrainingStarted);
    let abandon = || Command::AbandonRound {
        why: "wrong settings".into(),
    };
    assert!(
        bench
            .done(abandon())
            .contains("round r1 abandoned: wrong settings")
    );
    assert_eq!(state(&bench), RoundState::Abandoned("wrong settings".into()));
    assert!(
        bench.snapshot().models.is_empty(),
        "a stopped training keeps nothing"
    );
    fs::write(bench.project().join("overtrace.toml"), SMALL).unwrap();
    bench.start_round();
    bench.start_round();
    let asked = bench.snapshot().open_round().unwrap().queried[0].clone();
    assert!(bench.snapshot().cases[&asked].queried.is_some());
    bench.done(abandon());
    assert!(bench.snapshot().cases[&asked].queried.is_none());
    assert!(matches!(bench.ask(abandon()).unwrap(), Answer::Nothing(_)));
}

/// A labelled case is handed out with its own mask, which no model drew: the screen invents no effort for it.
#[test]
fn a_labelled_case_handed_out_again_gets_its_next_mask_version_and_trains_with_it() {
    let bench = bench(SMALL);
    bench.start_round();
    bench.hand_out("asked");
    bench.drop_file("asked.nii.gz", &truth(2));
    bench.only_report();
    assert!(opened(&bench, "asked").is_measured);
    let first = bench.snapshot().cases[&id("asked")].mask.unwrap();
    let out = bench.hand_out("asked");
    assert_eq!(out.model, None);
    bench.drop_file("asked.nii.gz", &truth(3));
    bench.only_report();
    let second = bench.snapshot().cases[&id("asked")].mask.unwrap();
    assert_eq!((first.version, second.version), (1, 2));
    assert_ne!(first.blob, second.blob);
    assert!(last_correction(&bench).effort.is_empty());
    assert!(!opened(&bench, "asked").is_measured);
    // The correction before is shown as it was, against what was drawn before it.
    let earlier = bench.snapshot().corrections.values().next().unwrap().id;
    let open = |case: &str| {
        bench.ask(Command::Open(Wanted {
            beside: None,
            correction: Some(earlier),
            ..Wanted::of(&id(case))
        }))
    };
    match open("asked").unwrap() {
        Answer::Case(view) => {
            assert!(view.is_measured);
            assert_eq!(view.corrected.unwrap(), boxes(2).1.voxels);
        }
        other => panic!("{other:?}"),
    }
    assert!(open("later").unwrap_err().contains("is no correction of later"));
    bench.start_round();
    bench.done(Command::Train);
    let name = last_round(&bench).training_set.unwrap().to_string();
    let set = fs::read_to_string(bench.project().join("store/blobs").join(&name[..2]).join(&name)).unwrap();
    assert!(
        set.contains(&second.blob.to_string()) && !set.contains(&first.blob.to_string()),
        "{set}"
    );
}

#[test]
fn a_mask_that_comes_after_its_hand_out_was_taken_back_is_measured_against_what_was_handed_out() {
    let bench = bench(SMALL);
    bench.start_round();
    bench.hand_out("asked");
    let words = bench.done(Command::Withdraw {
        case: id("asked"),
        why: "on leave".into(),
    });
    assert!(words.contains("taken back from bob"), "{words}");
    bench.drop_file("asked.nii.gz", &truth(2));
    let report = bench.only_report();
    assert_eq!((report.outcome, report.code.as_str()), (Outcome::Hold, "N4"));
    bench.accept(&report);
    let correction = last_correction(&bench);
    assert_eq!((correction.who.as_str(), correction.effort.len()), ("bob", 3));
    assert!(correction.turnaround_s.is_some());
}

#[test]
fn a_claim_is_taken_over_with_a_reason_in_one_entry() {
    let bench = bench(SMALL);
    let take_over = |owner: &str| {
        bench.ask(Command::TakeOver {
            case: id("asked"),
            owner: owner.into(),
            why: "bob is ill".into(),
        })
    };
    take_over("eve").unwrap_err();
    let first = bench.hand_out("asked");
    let before = bench.snapshot().seq;
    assert!(take_over("bob").unwrap_err().contains("bob has asked already"));
    assert!(take_over("e\u{202e}ve").unwrap_err().contains("names nobody"));
    let Answer::HandedOut(second) = take_over("eve").unwrap() else {
        panic!("no hand-out");
    };
    let known = bench.snapshot();
    assert_eq!(known.seq, before + 1);
    let ended = known.handouts[&first.id].end.clone();
    assert_eq!(ended, Some(HandoutEnd::Withdrawn("bob is ill".into())));
    assert_eq!(known.cases[&id("asked")].handout, Some(second.id));
    bench.drop_file(&second.reply_name, &truth(2));
    assert!(bench.only_report().correction.is_some());
    assert_eq!(last_correction(&bench).who, "eve");
}

#[test]
fn a_case_that_is_excluded_and_brought_back_is_waited_for_again_and_its_mask_meanwhile_is_held() {
    let bench = bench(SMALL);
    bench.start_round();
    bench.start_round();
    let asked = bench.snapshot().open_round().unwrap().queried[0].clone();
    bench.hand_out(asked.as_str());
    bench.done(Command::Exclude {
        case: asked.clone(),
        why: "motion".into(),
    });
    bench.drop_file(&format!("{asked}.nii.gz"), &truth(7));
    let report = bench.only_report();
    assert_eq!((report.outcome, report.code.as_str()), (Outcome::Hold, "N4"));
    assert!(report.words.contains("motion"), "{}", report.words);
    bench.done(Command::Include { case: asked.clone() });
    assert!(bench.snapshot().cases[&asked].queried.is_some());
    bench.accept(&report);
    assert!(bench.snapshot().is_complete(), "{:?}", last_round(&bench));
}

#[test]
fn weights_are_imported_whole_or_not_at_all_and_never_into_an_open_round() {
    let bench = bench(SMALL);
    bench.start_round();
    let weights = match bench.ask(Command::ExportModel).unwrap() {
        Answer::File(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    let file = bench.folder.path().join("weights.safetensors");
    fs::write(&file, &weights[..weights.len() - 100]).unwrap();
    let import = || Command::ImportModel { file: file.clone() };
    let refused = bench.ask(import()).unwrap_err();
    assert!(refused.contains("weights.safetensors"), "{refused}");
    assert_eq!(bench.snapshot().models.len(), 1);
    fs::write(&file, &weights).unwrap();
    assert!(bench.done(import()).contains("m2 imported"));
    bench.start_round();
    let refused = bench.ask(import()).unwrap_err();
    assert!(refused.contains("round r2 is correcting"), "{refused}");
}

/// Started in vain with other settings: those in force stay.
#[test]
fn a_round_that_is_not_begun_leaves_the_settings_as_they_were() {
    let bench = bench(SMALL);
    bench.start_round();
    let wider = SMALL.replace("base_channels = 2", "base_channels = 3");
    fs::write(bench.project().join("overtrace.toml"), wider).unwrap();
    let command = Command::StartRound {
        from_scratch: true,
        budget: Some(0),
        strategy: None,
    };
    assert!(bench.ask(command).unwrap_err().contains("budget of 0"));
    assert_eq!(bench.snapshot().settings.model.base_channels, 2);
}

/// Neither is half taken: what cannot be trained on, and what cannot be ranked by.
#[test]
fn another_network_s_weights_and_a_single_network_s_disagreement_are_refused_at_once() {
    let made = bench(SMALL);
    made.done(START);
    let Answer::File(weights) = made.ask(Command::ExportModel).unwrap() else {
        panic!("no weights");
    };
    let file = made.folder.path().join("u-net.safetensors");
    fs::write(&file, weights).unwrap();
    let by_disagreement = Command::StartRound {
        from_scratch: false,
        budget: None,
        strategy: Some(Strategy::Disagreement),
    };
    let rank = Command::Rank {
        strategy: Some(Strategy::Disagreement),
        pixels: None,
    };
    for command in [by_disagreement, rank] {
        let refused = made.ask(command).unwrap_err();
        assert!(refused.contains("m1 is a single network"), "{refused}");
    }
    assert!(made.snapshot().open_round().is_none());
    let other = bench(&SMALL.replace("[model]\n", "[model]\nnetworks = [\"voxresnet\"]\n"));
    let refused = other.ask(Command::ImportModel { file }).unwrap_err();
    assert!(
        refused.contains("networks = u-net, this project voxresnet; set model.networks"),
        "{refused}"
    );
    assert!(other.snapshot().models.is_empty());
}

#[test]
fn the_next_step_is_what_a_round_then_does() {
    let bench = Bench::new(SMALL);
    assert_eq!(bench.snapshot().next_step(false), NextStep::Nothing);
    bench.import("asked", 2, Pool::Unlabelled);
    assert_eq!(bench.snapshot().next_step(false), NextStep::Ask(None));
    assert!(bench.start_round().contains("random order"));
    bench.done(Command::AbandonRound {
        why: "labels came".into(),
    });
    bench.import("known", 1, Pool::Labelled);
    assert_eq!(bench.snapshot().next_step(false), NextStep::Train);
    assert!(bench.start_round().contains("m1 on 1 cases"));
    let model = bench.snapshot().project.model;
    assert_eq!(bench.snapshot().next_step(false), NextStep::Ask(model));
    assert_eq!(bench.snapshot().next_step(true), NextStep::Train);
}

/// The rounds of another project, which has its own engine meanwhile, stand beside those with as many labelled cases.
#[test]
fn rounds_are_held_against_a_control_that_is_another_project() {
    let control = bench(SMALL);
    control.done(START);
    assert_eq!(state(&control), RoundState::Closed);
    let folder = control.project();
    let ours = bench(&format!(
        "{SMALL}[query]\ncontrol = {folder:?}\nbeside = [{folder:?}, \"nowhere\"]\n"
    ));
    assert!(
        ours.snapshot().control.len() == 1,
        "it is there before our first round"
    );
    ours.done(START);
    let (snapshot, theirs) = (ours.snapshot(), last_round(&control));
    let [(name, rounds)] = &snapshot.beside[..] else {
        panic!("of what is not there nothing is drawn")
    };
    assert!(folder.ends_with(name) && *rounds == [theirs.clone()]);
    let round = snapshot.rounds.values().next_back().unwrap();
    assert_eq!(snapshot.control_of(round), Some(&theirs));
    let mut smaller = round.clone();
    smaller.labelled = 0;
    assert_eq!(snapshot.control_of(&smaller), None, "it had learnt from more");
    // What was read before is read again when there is more.
    control.done(Command::StartRound {
        from_scratch: true,
        budget: None,
        strategy: None,
    });
    let both = [theirs, last_round(&control)];
    assert_eq!(ours.snapshot().control, both);
    let journal = folder.join("store/journal/0001.jsonl");
    // A line that is being written just now is not there yet.
    let mut text = fs::read_to_string(&journal).unwrap();
    text.push_str("{\"hash\":\"00");
    fs::write(&journal, text).unwrap();
    assert_eq!(ours.snapshot().control, both);
}
