//! Every action by what holds after it. The match is whole: an action without a check here does not compile.

use super::bench::Bench;
use super::project::{case_id, project, view, view_of, with_correction, with_handout, with_held};
use super::scenes::{
    closed, has_images, leads_to, lines_on, makes, on, pages, scene, selected, sends, shows, with_two_models,
};
use overtrace::protocol::{Answer, Beside, Command, Drawing, Maker};
use overtrace::records::{CorrectionId, Hash, HeldId, Mask, MaskOrigin, ModelId, RoundId, Row, Scored};
use overtrace::tui::{ACTIONS, Action, Screen};
use ratatui::style::Color;

fn check(action: Action) {
    let name = action.entry().name;
    let why = || "why".to_string();
    match action {
        Action::ShowQueue => leads_to(action, Screen::Queue),
        Action::ShowSlices => leads_to(action, Screen::Slices),
        Action::ShowRounds => leads_to(action, Screen::Rounds),
        Action::ShowCorrections => leads_to(action, Screen::Corrections),
        Action::ShowModels => leads_to(action, Screen::Models),
        Action::ShowLog => leads_to(action, Screen::Log),
        Action::ShowHelp => {
            leads_to(action, Screen::Help);
            let mut bench = on(Screen::Rounds);
            bench.run(name);
            bench.run(name);
            assert_eq!(bench.app.screen(), Screen::Rounds);
        }
        Action::NextScreen | Action::PreviousScreen => {
            for (n, screen) in Screen::ALL.into_iter().enumerate() {
                let mut bench = on(screen);
                bench.run(name);
                let step = if action == Action::NextScreen {
                    1
                } else {
                    Screen::ALL.len() - 1
                };
                assert_eq!(bench.app.screen(), Screen::ALL[(n + step) % Screen::ALL.len()]);
            }
        }
        Action::CommandLine => {
            let mut bench = on(Screen::Log);
            bench.keys(": n e x t");
            shows(&bench, "next_screen");
            bench.keys("esc");
            assert!(!bench.screen().contains("next_screen"));
        }
        Action::Cancel => {
            let mut bench = on(Screen::Queue);
            bench.run("rank");
            bench.answer(Err("no model".into()));
            shows(&bench, "no model");
            bench.run(name);
            assert!(!bench.screen().contains("no model"));
            let mut bench = on(Screen::Models);
            bench.run(name);
            assert_eq!(bench.app.screen(), Screen::Queue);
        }
        Action::Leave => {
            let mut bench = on(Screen::Corrections);
            bench.run(name);
            assert_eq!((bench.app.screen(), bench.quit), (Screen::Queue, false));
            bench.run(name);
            assert!(bench.quit);
        }
        Action::Quit => {
            let mut bench = on(Screen::Rounds);
            bench.run(name);
            assert!(bench.quit);
        }
        Action::NextPictureMode => {
            let mut bench = on(Screen::Slices);
            bench.run(name);
            shows(&bench, "pictures: half (half)");
            bench.keys("esc");
            (0..4).for_each(|_| bench.run(name));
            shows(&bench, "pictures: ascii (ascii)");
            assert!(
                bench.screen().lines().any(|line| line.contains("GGG")),
                "{}",
                bench.screen()
            );
            bench.run(name);
            shows(&bench, "pictures are off");
        }
        Action::NextTheme => {
            let mut bench = on(Screen::Slices);
            let ground = |bench: &Bench| bench.buffer()[(0, 0)].bg;
            assert_eq!(ground(&bench), Color::Reset, "the terminal's own");
            bench.run(name);
            shows(&bench, "looks: dark (dark)");
            bench.run(name);
            shows(&bench, "looks: light (light)");
            assert_eq!(ground(&bench), Color::Rgb(255, 255, 255));
            for _ in 0..4 {
                bench.run(name);
            }
            shows(&bench, "looks: auto (dark)");
            assert_eq!(ground(&bench), Color::Reset);
        }
        Action::ToggleMouse => {
            let mut bench = on(Screen::Queue);
            bench.run(name);
            assert!(!bench.listens);
            bench.run(name);
            assert!(bench.listens);
        }
        Action::Redraw => {
            let mut bench = on(Screen::Queue);
            bench.run(name);
            assert_eq!(bench.redrawn, 1);
        }
        Action::Suspend => {
            let mut bench = on(Screen::Queue);
            bench.run(name);
            assert_eq!(bench.suspended, 1);
        }
        Action::PageDown | Action::PageUp => {
            let mut bench = on(Screen::Slices);
            bench.run(name);
            let expected = if action == Action::PageDown {
                "slice 9 of 9"
            } else {
                "slice 1 of 9"
            };
            shows(&bench, expected);
            let mut bench = on(Screen::Help);
            bench.resize(120, 20);
            bench.run("page_down");
            let below = bench.screen();
            bench.run("page_up");
            assert_ne!(below, bench.screen());
            for screen in [Screen::Rounds, Screen::Corrections, Screen::Models, Screen::Log] {
                pages(screen);
            }
        }
        Action::NextCase => {
            let mut bench = on(Screen::Queue);
            bench.run(name);
            selected(&bench, "middling");
            makes(action, on(Screen::Slices), "", " middling ");
        }
        Action::PreviousCase => {
            let mut bench = on(Screen::Queue);
            bench.run("last_case");
            bench.run(name);
            selected(&bench, "held_out_1");
        }
        Action::FirstCase => {
            let mut bench = on(Screen::Queue);
            bench.keys("j j");
            bench.run(name);
            selected(&bench, "unsure");
        }
        Action::LastCase => {
            let mut bench = on(Screen::Queue);
            bench.run(name);
            selected(&bench, "labelled_1");
            bench.run("last_case 2");
            selected(&bench, "middling");
        }
        Action::OpenSlices => leads_to(action, Screen::Slices),
        Action::Filter => {
            let mut bench = on(Screen::Queue);
            bench.run(name);
            bench.keys("m d l enter");
            shows(&bench, "1 of 5 like \"mdl\"");
            selected(&bench, "middling");
            bench.keys("esc");
            assert!(!bench.screen().contains("like"));
            selected(&bench, "middling");
        }
        Action::NextMatch | Action::PreviousMatch => {
            let mut bench = on(Screen::Queue);
            // Those whose names or states have all three letters in this order.
            bench.keys("/ h e l enter");
            shows(&bench, "of 5 like \"hel\"");
            bench.keys("esc");
            bench.run("first_case");
            bench.run(name);
            // On to the next one, and back around the end.
            selected(
                &bench,
                if action == Action::NextMatch {
                    "middling"
                } else {
                    "labelled_1"
                },
            );
        }
        Action::SortNext => {
            let mut bench = on(Screen::Queue);
            bench.run(name);
            shows(&bench, "case^");
            let rows =
                ["certain", "held_out_1", "labelled_1", "middling", "unsure"].map(|case| bench.row_of(case));
            assert!(rows.is_sorted(), "{}", bench.screen());
        }
        Action::SortPrevious => makes(action, on(Screen::Queue), "", "age^"),
        Action::SortReverse => {
            let mut bench = on(Screen::Queue);
            bench.run(name);
            let rows = ["certain", "middling", "unsure", "held_out_1"].map(|case| bench.row_of(case));
            assert!(
                rows.is_sorted(),
                "what has no rank stays behind\n{}",
                bench.screen()
            );
        }
        Action::ToggleMark => {
            let mut bench = on(Screen::Queue);
            bench.run(name);
            selected(&bench, "middling");
            bench.run(name);
            shows(&bench, "2 marked");
            bench.keys("k");
            bench.run(name);
            shows(&bench, "1 marked");
        }
        Action::MarkAll => {
            let mut bench = on(Screen::Queue);
            bench.run(name);
            shows(&bench, "5 marked");
            bench.run("exclude_case");
            bench.keys("w h y enter");
            assert_eq!(bench.sent().len(), 5);
            bench.run(name);
            bench.run(name);
            assert!(!bench.screen().contains("marked"));
        }
        Action::TogglePreview => {
            let mut bench = on(Screen::Queue);
            bench.answer_case(view("unsure"));
            let gm = super::project::colour(0x57, 0xc7, 0x85);
            assert!(bench.colours().contains(&gm));
            bench.run(name);
            assert!(!bench.colours().contains(&gm));
        }
        Action::HandOut => {
            let hand_out = |case: &str| Command::HandOut {
                case: case_id(case),
                owner: "ada".into(),
                again: false,
            };
            sends(action, on(Screen::Queue), "enter", hand_out("unsure"));
            sends(action, on(Screen::Slices), "enter", hand_out("unsure"));
            let mut bench = on(Screen::Queue);
            bench.keys("space space");
            bench.run(name);
            shows(&bench, "2 cases: hand out to");
            bench.keys("enter");
            assert_eq!(bench.sent(), [hand_out("unsure"), hand_out("middling")]);
        }
        Action::Withdraw => {
            let snapshot = with_handout(project(), "unsure", "eve");
            let command = Command::Withdraw {
                case: case_id("unsure"),
                why: why(),
            };
            for screen in [Screen::Queue, Screen::Slices] {
                let bench = scene(snapshot.clone(), screen);
                sends(action, bench, "w h y enter", command.clone());
            }
        }
        Action::AcceptHeld | Action::FixHeld => {
            let (held, fix) = (HeldId(1), action == Action::FixHeld);
            for screen in [Screen::Queue, Screen::Slices, Screen::Corrections] {
                let bench = scene(with_held(project(), "unsure"), screen);
                sends(action, bench, "y", Command::AcceptHeld { held, fix });
            }
        }
        Action::ChooseCorrection => {
            let choose = Command::ChooseCorrection {
                correction: CorrectionId(1),
                why: why(),
            };
            let bench = scene(with_correction(project(), "unsure"), Screen::Corrections);
            sends(action, bench, "w h y enter", choose);
        }
        Action::RefuseHeld => {
            for screen in [Screen::Queue, Screen::Slices, Screen::Corrections] {
                let bench = scene(with_held(project(), "unsure"), screen);
                let command = Command::RefuseHeld {
                    held: HeldId(1),
                    why: why(),
                };
                sends(action, bench, "w h y enter", command);
            }
        }
        Action::NoteMinutes => {
            for screen in [Screen::Queue, Screen::Slices, Screen::Corrections] {
                let bench = scene(with_correction(project(), "unsure"), screen);
                let command = Command::NoteMinutes {
                    case: case_id("unsure"),
                    minutes: 12.0,
                };
                sends(action, bench, "1 2 enter", command);
            }
        }
        Action::ExcludeCase => {
            let command = Command::Exclude {
                case: case_id("unsure"),
                why: why(),
            };
            for screen in [Screen::Queue, Screen::Slices] {
                sends(action, on(screen), "w h y enter", command.clone());
            }
        }
        Action::IncludeCase => {
            let mut snapshot = project();
            snapshot.cases.get_mut(&case_id("unsure")).unwrap().excluded = Some(why());
            let mut bench = scene(snapshot, Screen::Queue);
            bench.keys("/ u n s u r e enter");
            let command = Command::Include {
                case: case_id("unsure"),
            };
            sends(action, bench, "", command);
        }
        Action::Rank => {
            let command = Command::Rank {
                strategy: None,
                pixels: None,
            };
            sends(action, on(Screen::Queue), "", command);
        }
        Action::ScanInbox => {
            sends(action, on(Screen::Queue), "", Command::ScanInbox);
            sends(action, on(Screen::Corrections), "", Command::ScanInbox);
        }
        Action::NextSlice => makes(action, on(Screen::Slices), "", "slice 6 of 9"),
        Action::PreviousSlice => makes(action, on(Screen::Slices), "", "slice 4 of 9"),
        Action::FirstSlice => makes(action, on(Screen::Slices), "", "slice 1 of 9"),
        Action::LastSlice => {
            makes(action, on(Screen::Slices), "", "slice 9 of 9");
            let mut bench = on(Screen::Slices);
            bench.run("last_slice 3");
            shows(&bench, "slice 3 of 9");
        }
        Action::UnsureSlice => makes(action, on(Screen::Slices), "j j j", "slice 5 of 9"),
        Action::NextDisagreement | Action::PreviousDisagreement => {
            let snapshot = with_correction(project(), "unsure");
            let expected = if action == Action::NextDisagreement {
                "slice 6 of 9"
            } else {
                "slice 4 of 9"
            };
            makes(action, scene(snapshot, Screen::Slices), "", expected);
        }
        Action::NextPlane => makes(action, on(Screen::Slices), "", "axial slice 7 of 12"),
        Action::NextArrangement => {
            let mut bench = on(Screen::Slices);
            let letters = |bench: &Bench| bench.screen().matches('R').count();
            let one = letters(&bench);
            bench.run(name);
            assert!(
                letters(&bench) > one,
                "the axial cut has its right too\n{}",
                bench.screen()
            );
            bench.run(name);
            shows(&bench, "right: nothing");
            bench.run(name);
            assert_eq!(letters(&bench), one);
        }
        Action::NextBeside => {
            let mut bench = scene(with_two_models(), Screen::Slices);
            bench.run(name);
            assert_eq!(bench.opened().pop().unwrap().1, Some(Beside::Model(ModelId(1))));
            let mut both = view("unsure");
            both.beside = Some(Drawing {
                by: Maker::Model(ModelId(1)),
                voxels: vec![1; both.grid.len()],
            });
            bench.answer_case(both);
            shows(&bench, "beside m1");
        }
        Action::CrosshairLeft => makes(action, on(Screen::Slices), "", "voxel 7 4 6"),
        Action::CrosshairRight => makes(action, on(Screen::Slices), "", "voxel 5 4 6"),
        Action::CrosshairUp => makes(action, on(Screen::Slices), "", "voxel 6 4 7"),
        Action::CrosshairDown => makes(action, on(Screen::Slices), "", "voxel 6 4 5"),
        Action::ToggleCrosshair => {
            let mut bench = on(Screen::Slices);
            let line = super::project::colour(60, 220, 160);
            bench.run(name);
            assert!(bench.has_colour(line));
            bench.run(name);
            assert!(!bench.has_colour(line));
        }
        Action::ZoomIn => makes(action, on(Screen::Slices), "", "zoom 1.5"),
        Action::ZoomOut => makes(action, on(Screen::Slices), "z z", "zoom 1.5"),
        Action::ZoomReset => {
            let mut bench = on(Screen::Slices);
            bench.keys("z");
            bench.run(name);
            assert!(!bench.screen().contains("zoom 1"));
        }
        Action::PanLeft | Action::PanRight | Action::PanUp | Action::PanDown => {
            let mut bench = on(Screen::Slices);
            bench.keys("z z z");
            let picture = bench.picture();
            (0..3).for_each(|_| bench.run(name));
            assert_ne!(bench.picture(), picture, "{name}");
            bench.keys("=");
            let whole = bench.picture();
            bench.run(name);
            assert_eq!(bench.picture(), whole, "as a whole there is nothing to pan");
        }
        Action::WindowNarrower => makes(action, on(Screen::Slices), "", "window 13 to 242"),
        Action::WindowWider => makes(action, on(Screen::Slices), "", "window -14 to 269"),
        Action::LevelUp => makes(action, on(Screen::Slices), "", "window 13 to 268"),
        Action::LevelDown => makes(action, on(Screen::Slices), "", "window -13 to 242"),
        Action::NextWindow => makes(action, on(Screen::Slices), "", "CT brain 0 to 80"),
        Action::NextImage => has_images(name),
        Action::NextColours => makes(action, on(Screen::Slices), "", "inverted"),
        Action::ToggleOverlay => makes(action, on(Screen::Slices), "", "overlay: off"),
        Action::ToggleContours => makes(action, on(Screen::Slices), "", "contours: off"),
        Action::ToggleMargin => makes(action, on(Screen::Slices), "", "margin map: on"),
        Action::ToggleDifference => {
            let snapshot = with_correction(project(), "unsure");
            makes(action, scene(snapshot, Screen::Slices), "", "= in common");
        }
        Action::NextClass => makes(action, on(Screen::Slices), "", ">C CSF"),
        Action::ToggleClass => makes(action, on(Screen::Slices), "l l", ">G GM (hidden)"),
        Action::MoreOpacity => makes(action, on(Screen::Slices), "- -", "GM 90 %"),
        Action::LessOpacity => makes(action, on(Screen::Slices), "", "GM 90 %"),
        Action::NextRound | Action::LastRound | Action::PreviousRound | Action::FirstRound => {
            let mut snapshot = project();
            let mut third = snapshot.rounds[&RoundId(2)].clone();
            third.id = RoundId(3);
            snapshot.put(Row::Round(third));
            let mut bench = scene(snapshot, Screen::Rounds);
            let back = matches!(action, Action::PreviousRound | Action::FirstRound);
            bench.run(if back { "last_round" } else { "first_round" });
            bench.run(name);
            let expected = match action {
                Action::NextRound | Action::PreviousRound => "r2",
                Action::LastRound => "r3",
                _ => "r1",
            };
            assert!(bench.selected_line().contains(expected), "{}", bench.screen());
        }
        Action::StartRound | Action::StartFromScratch => {
            let mut snapshot = closed();
            let labelled = snapshot.cases.get_mut(&case_id("labelled_1")).unwrap();
            labelled.mask = Some(Mask {
                version: 1,
                blob: Hash::ZERO,
                origin: MaskOrigin::Imported,
            });
            let command = Command::StartRound {
                from_scratch: action == Action::StartFromScratch,
                budget: None,
                strategy: None,
            };
            sends(action, scene(snapshot, Screen::Rounds), "y", command);
        }
        Action::Train => sends(action, on(Screen::Rounds), "y", Command::Train),
        Action::AbandonRound => {
            sends(
                action,
                on(Screen::Rounds),
                "w h y enter",
                Command::AbandonRound { why: why() },
            );
        }
        Action::DeclareSatisfactory => {
            let command = Command::DeclareSatisfactory { why: why() };
            sends(action, on(Screen::Rounds), "w h y enter", command);
        }
        Action::Reopen => {
            let mut snapshot = project();
            snapshot.project.satisfied = Some("ada: good".into());
            sends(
                action,
                scene(snapshot, Screen::Rounds),
                "w h y enter",
                Command::Reopen { why: why() },
            );
        }
        Action::OpenCorrection => {
            let mut bench = scene(with_correction(project(), "unsure"), Screen::Corrections);
            bench.run(name);
            assert_eq!(bench.app.screen(), Screen::Slices);
            // What the preview asked for comes first.
            bench.answer_case(view_of("unsure", true));
            let asked = bench
                .sent_all()
                .into_iter()
                .rev()
                .find_map(|command| match command {
                    Command::Open(wanted) => Some(wanted.correction),
                    _ => None,
                });
            assert_eq!(
                asked,
                Some(Some(CorrectionId(1))),
                "this one, not the case's last"
            );
            bench.answer_case(view_of("unsure", true));
            shows(&bench, "difference: on");
            bench.run("cancel");
            assert_eq!(
                bench.app.screen(),
                Screen::Corrections,
                "back where it was opened"
            );
        }
        Action::OpenCurve => {
            let mut bench = on(Screen::Models);
            bench.run(name);
            assert_eq!(bench.app.screen(), Screen::Rounds);
            assert!(bench.selected_line().contains("r1"));
        }
        Action::MakeCurrent => {
            let mut snapshot = with_two_models();
            snapshot.rounds = closed().rounds;
            let mut bench = scene(snapshot, Screen::Models);
            bench.keys("j");
            bench.run(name);
            shows(&bench, "that rolls m2 back");
            bench.keys("w h y enter");
            let command = Command::UseModel {
                model: ModelId(1),
                why: why(),
            };
            assert_eq!(bench.sent(), [command]);
        }
        Action::CompareRankings => {
            let mut bench = scene(with_two_models(), Screen::Models);
            bench.keys("j");
            bench.run(name);
            assert!(bench.sent_all().contains(&Command::Orders));
            let order = |names: [&str; 3]| -> Vec<Scored> {
                let scored = names.map(|name| Scored {
                    case: case_id(name),
                    score: Some(0.5),
                });
                scored.to_vec()
            };
            let orders = vec![
                (ModelId(1), order(["certain", "middling", "unsure"])),
                (ModelId(2), order(["unsure", "middling", "certain"])),
            ];
            bench.answer(Ok(Answer::Orders(orders)));
            shows(&bench, "m1 and m2: rank correlation -1.000 over 3 cases");
            assert!(
                bench.row_of("certain") < bench.row_of("middling"),
                "{}",
                bench.screen()
            );
            bench.run(name);
            assert!(!bench.screen().contains("rank correlation"));
        }
        Action::LineDown | Action::LastLine | Action::LineUp | Action::FirstLine => {
            let is_down = matches!(action, Action::LineDown | Action::LastLine);
            for screen in [Screen::Models, Screen::Corrections, Screen::Log, Screen::Help] {
                let mut bench = lines_on(screen);
                bench.resize(100, 20);
                let before = bench.screen();
                if !is_down {
                    bench.run("line_down");
                }
                bench.run(name);
                assert_eq!(bench.screen() != before, is_down, "{name} on {}", screen.word());
            }
        }
        Action::Search => {
            let mut bench = on(Screen::Help);
            bench.run(name);
            bench.keys("o p a c i t y enter");
            shows(&bench, "the chosen class denser");
            assert!(!bench.screen().contains("next case of the queue"));
            assert!(!bench.screen().contains(" rounds\n"), "no heading without a line");
            bench.keys("esc");
            shows(&bench, "next case of the queue");
            bench.run(name);
            bench.keys("x x x enter");
            shows(&bench, "no key, action or word is like \"xxx\"");
            let mut bench = lines_on(Screen::Log);
            shows(&bench, "notice 39");
            bench.run(name);
            bench.keys("n o t i c e space 0 7 enter");
            shows(&bench, "notice 07");
            assert!(!bench.screen().contains("notice 39"), "{}", bench.screen());
            bench.keys("esc");
            shows(&bench, "notice 39");
        }
    }
}

#[test]
fn every_action_does_what_its_words_say_when_its_name_is_typed() {
    for entry in ACTIONS {
        check(entry.action);
    }
}
