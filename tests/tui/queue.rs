//! The queue, and what keys do to a case.

use super::bench::Bench;
use super::project::{at, case_id, project, with_handout, with_held};
use super::scenes::shows;
use overtrace::protocol::{Answer, Command, Event};
use overtrace::records::{Case, HeldId, ModelId, What};

#[test]
fn the_queue_is_in_order_of_rank_and_names_the_model_of_its_scores() {
    let mut bench = Bench::on(project());
    // The preview takes the room of the volumes.
    bench.keys("v");
    let screen = bench.screen();
    assert!(
        screen.contains("ranked by Average BvSB of m2, over all pixels"),
        "{screen}"
    );
    assert!(screen.contains("Avg BvSB by m2"), "{screen}");
    assert!(!screen.contains("stale"), "{screen}");
    let order = ["unsure", "middling", "certain"].map(|name| bench.row_of(name));
    assert!(order.is_sorted(), "{order:?}\n{screen}");
    let first = bench.line(order[0]);
    assert!(
        first.contains("1     unsure") && first.contains("0.4100"),
        "{first}"
    );
    assert!(
        first.contains("12.0") && first.contains("m2"),
        "the predicted ml of GM, and by whom: {first}"
    );
    assert!(
        screen.contains("1 labelled, 3 unlabelled, 1 held out"),
        "{screen}"
    );
}

#[test]
fn a_ranking_by_an_older_model_is_marked_stale() {
    let mut snapshot = project();
    snapshot.project.model = Some(ModelId(3));
    let mut bench = Bench::on(snapshot);
    for width in [120, 60] {
        bench.resize(width, 20);
        let screen = bench.screen();
        assert!(screen.contains("of m2 (stale: now m3; R ranks anew)"), "{screen}");
        assert!(
            screen.contains("Avg BvSB by m2"),
            "the scores still name their own model: {screen}"
        );
        assert!(screen.contains("m3  ranking stale"), "on every screen: {screen}");
    }
}

#[test]
fn a_score_without_a_model_is_not_shown() {
    let mut snapshot = project();
    for ranking in snapshot.rankings.values_mut() {
        ranking.model = None;
    }
    let screen = Bench::on(snapshot).screen();
    assert!(!screen.contains("0.4100"), "{screen}");
}

#[test]
fn keys_move_the_selection_and_it_stays_on_its_case_when_the_order_changes() {
    let mut bench = Bench::on(project());
    bench.keys("j j k k");
    assert_eq!(bench.selected_line().split_whitespace().nth(1), Some("unsure"));
    let mut order = bench.snapshot().order.clone();
    order.reverse();
    bench.change(What::PoolRanked, Vec::new(), Some(order));
    let selected = bench.selected_line();
    assert!(selected.starts_with("  3     unsure"), "{selected}");
    bench.keys("g g");
    assert_eq!(bench.selected_line().split_whitespace().nth(1), Some("certain"));
}

#[test]
fn ten_thousand_cases_scroll_and_only_those_on_the_screen_are_drawn() {
    let mut snapshot = project();
    let model = snapshot.cases[&case_id("unsure")].clone();
    for n in 0..10_000 {
        let id = case_id(&format!("case{n:05}"));
        let row = Case {
            id: id.clone(),
            ..model.clone()
        };
        snapshot.cases.insert(id, row);
    }
    let mut bench = Bench::on(snapshot);
    bench.keys("G");
    assert!(bench.selected_line().contains("labelled_1"), "{}", bench.screen());
    bench.keys("k k k");
    assert!(bench.selected_line().contains("case09998"), "{}", bench.screen());
    bench.keys("pageup");
    assert!(bench.selected_line().contains("case09978"), "{}", bench.screen());
    assert!(!bench.screen().contains("case00000"));
}

#[test]
fn handing_out_asks_for_the_owner_and_sends_the_case() {
    let mut bench = Bench::on(project());
    bench.keys("h");
    assert!(
        bench.screen().contains("hand unsure out to"),
        "{}",
        bench.screen()
    );
    assert!(bench.screen().contains("> ada"), "the account is the first guess");
    bench.keys("ctrl-u e v e enter");
    let owner = "eve".to_string();
    assert_eq!(
        bench.sent(),
        [Command::HandOut {
            case: case_id("unsure"),
            owner,
            again: false
        }]
    );
}

#[test]
fn a_case_that_is_out_is_not_handed_out_twice_and_can_be_withdrawn() {
    let mut bench = Bench::on(with_handout(project(), "unsure", "eve"));
    assert!(bench.screen().contains("out eve 2 h 00"), "{}", bench.screen());
    bench.keys("w i l l enter");
    let why = "ill".to_string();
    assert_eq!(
        bench.sent(),
        [Command::Withdraw {
            case: case_id("unsure"),
            why
        }]
    );
    // Somebody else's is taken over, with a reason; one's own is not handed out again.
    bench.keys("h");
    assert!(
        bench.screen().contains("take unsure over, because") && bench.screen().contains("eve has it since"),
        "{}",
        bench.screen()
    );
    bench.keys("i l l enter");
    let (owner, why) = ("ada".to_string(), "ill".to_string());
    let case = case_id("unsure");
    let sent = bench.sent();
    assert_eq!(sent.last(), Some(&Command::TakeOver { case, owner, why }));
    let mut bench = Bench::on(with_handout(project(), "unsure", "ada"));
    bench.keys("h");
    assert!(
        bench.screen().contains("unsure is in your hands"),
        "{}",
        bench.screen()
    );
}

#[test]
fn a_case_of_which_a_file_is_waited_for_is_in_the_inbox_until_it_is_not() {
    let mut bench = Bench::on(project());
    let why = "still changing".to_string();
    bench.say(Event::Inbox([(case_id("middling"), why)].into()));
    assert!(
        bench
            .line(bench.row_of("middling"))
            .contains("in inbox: still ch"),
        "{}",
        bench.screen()
    );
    bench.say(Event::Inbox([(case_id("unsure"), "not complete".into())].into()));
    assert!(
        bench.line(bench.row_of("middling")).contains("unlabelled"),
        "{}",
        bench.screen()
    );
    shows(&bench, "in inbox: not complete");
}

#[test]
fn a_held_file_is_accepted_or_refused_by_a_key() {
    let mut bench = Bench::on(with_held(project(), "unsure"));
    assert!(bench.screen().contains("held K7"), "{}", bench.screen());
    assert!(
        bench.screen().contains("a accepts, r refuses"),
        "{}",
        bench.screen()
    );
    bench.keys("a");
    assert!(
        bench.screen().contains("GM is nowhere in it"),
        "why it is held: {}",
        bench.screen()
    );
    bench.keys("y");
    assert_eq!(
        bench.sent(),
        [Command::AcceptHeld {
            held: HeldId(1),
            fix: false
        }]
    );
    bench.keys("r");
    bench.keys("enter");
    assert!(
        bench.screen().contains("a reason is needed"),
        "{}",
        bench.screen()
    );
    bench.keys("n o enter");
    let refusal = Command::RefuseHeld {
        held: HeldId(1),
        why: "no".into(),
    };
    assert_eq!(bench.sent()[1..], [refusal]);
    bench.keys("j a");
    assert!(
        bench.screen().contains("no file of middling waits"),
        "{}",
        bench.screen()
    );
}

#[test]
fn what_came_of_several_is_counted_in_one_line_and_kept_in_the_log() {
    let mut bench = Bench::on(project());
    bench.keys("space space h enter");
    assert!(
        !bench.screen().contains("marked"),
        "the marks were for this: {}",
        bench.screen()
    );
    let cases = bench.sent();
    assert_eq!(cases.len(), 2);
    bench.answer_if_open(Err("no room on the disk".into()));
    bench.answer_if_open(Ok(Answer::Done("it is out".into())));
    let screen = bench.screen();
    assert!(
        screen.contains("1 of 2 done, 1 not: handing out middling: no room"),
        "{screen}"
    );
    bench.keys("esc g l");
    let screen = bench.screen();
    assert!(
        screen.contains("it is out") && screen.contains("no room on the disk"),
        "{screen}"
    );
    // One mark is gone after it was acted on, too.
    let mut bench = Bench::on(project());
    bench.keys("space x y e s enter");
    assert!(!bench.screen().contains("marked"), "{}", bench.screen());
}

#[test]
fn the_youngest_comes_first_by_age_and_a_hidden_column_is_named() {
    let mut snapshot = project();
    for (name, seconds) in [("certain", 10), ("unsure", 20), ("middling", 30)] {
        snapshot.cases.get_mut(&case_id(name)).unwrap().added_at = at(seconds);
    }
    let mut bench = Bench::on(snapshot);
    bench.keys("<");
    let rows = ["middling", "unsure", "certain"].map(|case| bench.row_of(case));
    assert!(rows.is_sorted(), "{}", bench.screen());
    // The model of the volumes has no room at 80 columns.
    bench.resize(80, 24);
    bench.keys("< < < < <");
    let screen = bench.screen();
    assert!(screen.contains("sorted by model of the volumes"), "{screen}");
}

#[test]
fn a_held_out_case_is_not_handed_out() {
    let mut bench = Bench::on(project());
    bench.run("last_case 4");
    bench.keys("h");
    assert!(
        bench
            .screen()
            .contains("held_out_1 is held out: it only measures"),
        "{}",
        bench.screen()
    );
    assert!(bench.sent().is_empty());
}
