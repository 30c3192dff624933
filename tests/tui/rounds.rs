//! Rounds: history, start, stop, the live curve; leaving.

use super::bench::Bench;
use super::project::project;
use super::scenes::shows;
use overtrace::protocol::{Activity, Answer, Command, Event, Stage};
use overtrace::records::{
    DeviceUse, EpochReport, Hash, Mask, MaskOrigin, ModelId, Pool, Project, RoundId, Row, What,
};

#[test]
fn training_can_be_started_without_the_cases_that_are_not_back() {
    let mut bench = Bench::on(project());
    bench.keys("f4 t");
    assert!(
        bench
            .screen()
            .contains("0 of 1 queried cases are back; 1 will be left out"),
        "{}",
        bench.screen()
    );
    bench.keys("y");
    assert_eq!(bench.sent(), [Command::Train]);
}

#[test]
fn a_round_starts_after_a_summary_was_confirmed() {
    let mut snapshot = project();
    snapshot.rounds.clear();
    let mut bench = Bench::on(snapshot);
    bench.keys("f4 s");
    let screen = bench.screen();
    for words in [
        "start a round?",
        "asks for 1 of 3 unlabelled cases by Average BvSB of m2",
        "weights of m2",
    ] {
        assert!(screen.contains(words), "{words}\n{screen}");
    }
    bench.keys("n");
    assert!(!bench.screen().contains("start a round?"));
    assert_eq!(bench.sent(), []);
    bench.keys("s enter");
    let start = Command::StartRound {
        from_scratch: false,
        budget: None,
        strategy: None,
    };
    assert_eq!(bench.sent(), [start]);
}

/// What the summary promises is what the engine then does.
#[test]
fn the_summary_says_when_a_round_trains_at_once_or_asks_without_a_model() {
    let mut snapshot = project();
    snapshot.rounds.clear();
    let labelled = snapshot
        .cases
        .values_mut()
        .find(|case| case.pool == Pool::Labelled)
        .unwrap();
    labelled.mask = Some(Mask {
        version: 1,
        blob: Hash::ZERO,
        origin: MaskOrigin::Imported,
    });
    let mut bench = Bench::on(snapshot.clone());
    bench.keys("f4 S");
    assert!(
        bench
            .screen()
            .contains("trains on 1 labelled cases; nothing is asked"),
        "{}",
        bench.screen()
    );
    snapshot.cases.retain(|_, case| case.pool != Pool::Labelled);
    snapshot.models.clear();
    let mut bench = Bench::on(snapshot.clone());
    bench.keys("f4 s");
    assert!(
        bench
            .screen()
            .contains("asks for 1 of 3 unlabelled cases in a random order"),
        "{}",
        bench.screen()
    );
    snapshot.cases.clear();
    let mut bench = Bench::on(snapshot);
    bench.keys("f4 s");
    assert!(
        bench
            .screen()
            .contains("neither a case to ask for nor one to learn from"),
        "{}",
        bench.screen()
    );
}

#[test]
fn an_open_round_keeps_another_from_starting_and_is_abandoned_with_a_reason() {
    let mut bench = Bench::on(project());
    bench.keys("f4 s");
    assert!(
        bench.screen().contains("round r2 is open (correcting)"),
        "{}",
        bench.screen()
    );
    bench.keys("x enter");
    assert!(
        bench.screen().contains("a reason is needed"),
        "{}",
        bench.screen()
    );
    bench.keys("t o o space s l o w enter");
    assert_eq!(
        bench.sent(),
        [Command::AbandonRound {
            why: "too slow".into()
        }]
    );
}

#[test]
fn the_expert_ends_the_loop_by_a_key_and_opens_it_again() {
    let mut bench = Bench::on(project());
    bench.keys("f4 e");
    assert!(
        bench.screen().contains("m2: mean Dice 0.800 on 1 held-out cases"),
        "{}",
        bench.screen()
    );
    bench.keys("o k enter");
    assert_eq!(bench.sent(), [Command::DeclareSatisfactory { why: "ok".into() }]);
    let ended = Project {
        satisfied: Some("ada: ok".into()),
        ..bench.snapshot().project.clone()
    };
    bench.change(What::DeclaredSatisfactory, vec![Row::Project(ended)], None);
    assert!(
        bench.screen().contains("satisfactory (o goes on): ada: ok"),
        "{}",
        bench.screen()
    );
    bench.keys("o n o enter");
    assert_eq!(bench.sent()[1..], [Command::Reopen { why: "no".into() }]);
}

#[test]
fn rounds_list_dice_and_saved_effort_per_class() {
    let mut bench = Bench::on(project());
    bench.keys("f4");
    let screen = bench.screen();
    assert!(screen.contains("CSF / GM / WM"), "{screen}");
    let line = bench.line(bench.row_of("r1"));
    assert!(
        line.contains("0.800") && line.contains("0.700 0.900 n/a"),
        "{line}"
    );
    assert!(
        line.contains("62.5 %") && line.contains("50.0% 75.0% n/a"),
        "{line}"
    );
    assert!(line.contains("2 min"), "{line}");
    bench.resize(60, 20);
    bench.keys("k");
    let screen = bench.screen();
    assert!(
        screen.contains("Dice by m2: CSF 0.700  GM 0.900  WM n/a"),
        "{screen}"
    );
    assert!(
        screen.contains("saved effort: CSF 50.0 %  GM 75.0 %  WM n/a"),
        "{screen}"
    );
}

#[test]
fn rounds_stand_beside_the_random_control_where_there_is_one() {
    let mut snapshot = project();
    let mut control = snapshot.rounds[&RoundId(1)].clone();
    control.held_out_dice = vec![Some(0.5), Some(0.6), None];
    snapshot.control = vec![control];
    let mut bench = Bench::on(snapshot);
    bench.resize(120, 40);
    bench.keys("f4 k");
    let line = bench.line(bench.row_of("r1"));
    assert!(line.contains("0.550"), "{line}");
    shows(&bench, "control");
    shows(&bench, "control, 1 labelled: Dice CSF 0.500  GM 0.600  WM n/a");
    shows(&bench, "control: saved effort CSF 50.0 %");
}

#[test]
fn the_curve_of_the_selected_rounds_model_is_fetched_once() {
    let mut bench = Bench::on(project());
    bench.keys("f4");
    assert!(
        bench.screen().contains("no training to show yet"),
        "r2 has no model: {}",
        bench.screen()
    );
    bench.keys("k");
    assert_eq!(
        bench.sent_all().last(),
        Some(&Command::Curve { model: ModelId(2) })
    );
    bench.answer(Ok(Answer::Curve(curve(3))));
    assert!(
        bench.screen().contains("loss of m2: 1.0000 in epoch 3"),
        "{}",
        bench.screen()
    );
    bench.keys("j k");
    let all = bench.sent_all();
    let asked = all
        .iter()
        .filter(|command| matches!(command, Command::Curve { .. }));
    assert_eq!(asked.count(), 1);
}

#[test]
fn a_running_training_draws_its_curve_live() {
    let mut bench = Bench::on(project());
    bench.keys("f4");
    bench.say(Event::Activity(training(2)));
    let screen = bench.screen();
    assert!(screen.contains("training epoch 3/10 40/80"), "{screen}");
    assert!(screen.contains("loss of this training: 1.5000"), "{screen}");
    assert!(screen.contains("at most 16 s"), "eight epochs of 2 s: {screen}");
    assert!(screen.contains("50% of the epoch"), "the gauge: {screen}");
    bench.say(Event::Activity(training(3)));
    assert!(bench.screen().contains("loss of this training: 1.0000"));
    // While it trains there is nothing to be trained by a key.
    assert!(!bench.screen().contains("trains now"), "{}", bench.screen());
}

#[test]
fn what_was_learnt_from_labels_is_a_chart_over_the_rounds_beside_the_control() {
    let mut snapshot = project();
    let mut bench = Bench::on(snapshot.clone());
    bench.resize(140, 40);
    bench.keys("f4");
    shows(&bench, "held-out Dice");
    let marks = |bench: &Bench| -> usize {
        let is_mark = |c: &char| ('\u{2801}'..='\u{28ff}').contains(c) || "\u{2022}\u{2588}".contains(*c);
        bench.screen().chars().filter(is_mark).count()
    };
    let one = marks(&bench);
    // Two more rounds, each with more labels, and a control.
    let first = snapshot.rounds[&RoundId(1)].clone();
    for (id, labelled, dice) in [(3, 5, 0.85), (4, 9, 0.9)] {
        let mut round = first.clone();
        (round.id, round.labelled) = (RoundId(id), labelled);
        round.held_out_dice = vec![Some(dice); 3];
        snapshot.control.push(round.clone());
        snapshot.put(Row::Round(round));
    }
    let mut bench = Bench::on(snapshot.clone());
    bench.resize(140, 40);
    bench.keys("f4");
    for name in [
        "\u{2812} held-out Dice",
        "\u{2022} saved",
        "\u{2588} random",
        "cases 9",
    ] {
        shows(&bench, name);
    }
    assert!(marks(&bench) > one + 5, "a line: {}", bench.screen());
    // Other projects' rounds, named in a legend by what differs.
    let mut round = first;
    round.labelled = 30;
    round.held_out_dice = vec![Some(0.2); 3];
    let names = ["fold1-seed1-entropy", "fold1-seed1-u-net-average-bvsb"];
    snapshot.beside = names.map(|name| (name.to_string(), vec![round.clone()])).into();
    let mut bench = Bench::on(snapshot);
    bench.resize(140, 40);
    bench.keys("f4");
    shows(&bench, "entropy");
    shows(&bench, "u-net-average-bvsb");
    shows(&bench, "cases 30");
}

#[test]
fn a_round_is_not_begun_after_the_loop_was_ended() {
    let mut snapshot = project();
    snapshot.project.satisfied = Some("good".into());
    snapshot.rounds.retain(|id, _| *id == RoundId(1));
    let mut bench = Bench::on(snapshot);
    bench.keys("f4 s");
    shows(&bench, "the loop has ended (good); reopen it first");
    assert!(bench.sent().is_empty());
}

#[test]
fn a_running_training_shows_how_much_of_each_gpu_is_in_use() {
    let mut bench = Bench::on(project());
    bench.keys("f4");
    let card = |number: u64, busy_percent| DeviceUse {
        device: format!("NVIDIA H100 ({number})"),
        used_bytes: (number + 1) << 33,
        total_bytes: 80 << 30,
        busy_percent,
    };
    bench.say(Event::Activity(Activity {
        devices: vec![card(0, Some(97))],
        ..training(2)
    }));
    shows(&bench, "NVIDIA H100 (0) 8.0 of 80.0 GiB, 97 % busy");
    bench.resize(120, 30);
    bench.say(Event::Activity(Activity {
        devices: vec![card(0, Some(97)), card(1, None)],
        ..training(2)
    }));
    shows(&bench, "NVIDIA H100 (1) 16.0 of 80.0 GiB");
}

#[test]
fn leaving_while_a_round_trains_asks_first() {
    let mut bench = Bench::on(project());
    bench.say(Event::Activity(training(2)));
    bench.keys("q");
    assert!(!bench.quit);
    assert!(
        bench.screen().contains("goes on with `overtrace round train`"),
        "{}",
        bench.screen()
    );
    bench.keys("n q y");
    assert!(bench.quit);
}

#[test]
fn leaving_an_idle_app_asks_nothing() {
    let mut bench = Bench::on(project());
    bench.keys("q");
    assert!(bench.quit);
}

fn curve(epochs: usize) -> Vec<EpochReport> {
    (1..=epochs)
        .map(|epoch| EpochReport {
            epoch,
            loss: 2.5 - 0.5 * epoch as f64,
            dice: vec![Some(0.25 * epoch as f64), None, None],
            best_epoch: epoch,
            seconds: 2.0,
        })
        .collect()
}

pub fn training(epochs_done: usize) -> Activity {
    Activity {
        stage: Stage::Training,
        done: 40,
        of: 80,
        epoch: epochs_done + 1,
        max_epochs: 10,
        curve: curve(epochs_done),
        since: None,
        devices: Vec::new(),
    }
}
