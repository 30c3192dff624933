//! Scenes in which an action has something to act on, and what is looked for afterwards.

use super::bench::Bench;
use super::project::{project, view, view_of, with_correction, with_held};
use overtrace::protocol::{Command, Event, Snapshot};
use overtrace::records::{CorrectionId, ModelId, RankingId, RoundId, RoundState, Row};
use overtrace::tui::{Action, Screen};

/// A scene on `screen` in which every action has something to act on.
pub fn scene(snapshot: Snapshot, screen: Screen) -> Bench {
    let mut bench = Bench::on(snapshot);
    bench.run(screen.action().entry().name);
    if screen == Screen::Slices {
        let corrected = !bench.snapshot().corrections.is_empty();
        bench.answer_case(view_of("unsure", corrected));
    }
    bench
}

pub fn on(screen: Screen) -> Bench {
    scene(project(), screen)
}

/// Two models, the older of which ranked the other way round.
pub fn with_two_models() -> Snapshot {
    let mut snapshot = project();
    let mut older = snapshot.models[&ModelId(2)].clone();
    (older.id, older.parent) = (ModelId(1), None);
    snapshot.put(Row::Model(older));
    let mut ranking = snapshot.rankings[&RankingId(1)].clone();
    (ranking.id, ranking.model) = (RankingId(2), Some(ModelId(1)));
    snapshot.rankings.insert(ranking.id, ranking);
    snapshot
}

pub fn closed() -> Snapshot {
    let mut snapshot = project();
    for round in snapshot.rounds.values_mut() {
        round.state = RoundState::Closed;
    }
    snapshot
}

#[track_caller]
pub fn shows(bench: &Bench, words: &str) {
    let screen = bench.screen();
    assert!(screen.contains(words), "no {words:?} on\n{screen}");
}

#[track_caller]
pub fn selected(bench: &Bench, case: &str) {
    let line = bench.selected_line();
    assert!(line.contains(case), "{line}\n{}", bench.screen());
}

/// The action leads to `screen` from wherever it works.
pub fn leads_to(action: Action, screen: Screen) {
    for from in Screen::ALL
        .into_iter()
        .filter(|from| action.is_on(*from) && *from != screen)
    {
        let mut bench = on(from);
        bench.run(action.entry().name);
        assert_eq!(
            bench.app.screen(),
            screen,
            "{} from {}",
            action.entry().name,
            from.word()
        );
    }
}

/// After `setup`, the action makes `words` appear.
pub fn makes(action: Action, mut bench: Bench, setup: &str, words: &str) {
    bench.keys(setup);
    assert!(
        !bench.screen().contains(words),
        "{words:?} is there before\n{}",
        bench.screen()
    );
    bench.run(action.entry().name);
    shows(&bench, words);
}

/// The action asks, and typing `answer` sends `command`.
pub fn sends(action: Action, mut bench: Bench, answer: &str, command: Command) {
    bench.run(action.entry().name);
    bench.keys(answer);
    assert_eq!(bench.sent(), [command], "{}", bench.screen());
}

/// Two models, a held file and a correction.
/// A screen of lines with more of them than it has rows.
pub fn lines_on(screen: Screen) -> Bench {
    let mut bench = scene(with_lines(), screen);
    if screen == Screen::Log {
        (0..40).for_each(|n| bench.say(Event::Notice(format!("notice {n:02}"))));
        bench.keys("esc");
    }
    bench
}

fn with_lines() -> Snapshot {
    let mut snapshot = with_held(with_correction(project(), "middling"), "unsure");
    for (id, model) in with_two_models().models {
        snapshot.models.insert(id, model);
    }
    snapshot
}

/// Fifty more of what lists show.
fn with_many_lines() -> Snapshot {
    let mut snapshot = with_correction(project(), "unsure");
    for n in 10..60 {
        let mut round = snapshot.rounds[&RoundId(2)].clone();
        round.id = RoundId(n);
        snapshot.put(Row::Round(round));
        let mut correction = snapshot.corrections[&CorrectionId(1)].clone();
        correction.id = CorrectionId(n);
        snapshot.put(Row::Correction(correction));
        let mut model = snapshot.models[&ModelId(2)].clone();
        model.id = ModelId(n);
        snapshot.put(Row::Model(model));
    }
    snapshot
}

/// Keys go through the list by pages, on and back.
pub fn pages(screen: Screen) {
    let mut bench = match screen {
        Screen::Log => lines_on(screen),
        _ => scene(with_many_lines(), screen),
    };
    bench.resize(100, 24);
    // Which line is selected: two may read alike.
    let at = |bench: &Bench| -> (String, String) { (bench.selected_line(), bench.screen()) };
    bench.run(if screen == Screen::Rounds {
        "first_round"
    } else {
        "first_line"
    });
    let first = at(&bench);
    bench.run("page_down 2");
    let further = at(&bench);
    assert_ne!(first, further, "{}", screen.word());
    bench.run("page_up");
    let between = at(&bench);
    assert!(between != first && between != further, "{}", screen.word());
    bench.run("page_up");
    assert_eq!(at(&bench).0, first.0, "{}", screen.word());
}

/// Of a case with two images `action` shows the second; of one with one it says so.
pub fn has_images(action: &str) {
    let mut bench = on(Screen::Slices);
    bench.run(action);
    shows(&bench, "has one image");
    let mut case = view("unsure");
    case.images = 2;
    let mut bench = Bench::at(project(), case.clone());
    shows(&bench, "image 1 of 2");
    bench.run(action);
    case.image.values.fill(7);
    bench.answer_case(case);
    shows(&bench, "image 2 of 2");
    shows(&bench, "value 7");
}
