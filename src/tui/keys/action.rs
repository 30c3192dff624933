//! Everything a key can do: ONE table. Keymaps, the help screen and the README's key table derive from it, so a
//! new action is one line here and an arm where it acts.

use serde::Serialize;

/// One of the app's screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Screen {
    /// Cases by rank.
    Queue,
    /// One case, slice by slice.
    Slices,
    /// Rounds and the running training.
    Rounds,
    /// What came back, and what waits for a decision.
    Corrections,
    /// Models and what they are worth.
    Models,
    /// What happened, and what runs.
    Log,
    /// Every key.
    Help,
}

impl Screen {
    /// In the order of the tabs.
    pub const ALL: [Screen; 7] = [
        Screen::Queue,
        Screen::Slices,
        Screen::Rounds,
        Screen::Corrections,
        Screen::Models,
        Screen::Log,
        Screen::Help,
    ];

    /// The word people see, and the name of the screen's section in a keymap.
    pub fn word(self) -> &'static str {
        match self {
            Screen::Queue => "queue",
            Screen::Slices => "slices",
            Screen::Rounds => "rounds",
            Screen::Corrections => "corrections",
            Screen::Models => "models",
            Screen::Log => "log",
            Screen::Help => "help",
        }
    }

    /// The action that shows the screen.
    pub fn action(self) -> Action {
        match self {
            Screen::Queue => Action::ShowQueue,
            Screen::Slices => Action::ShowSlices,
            Screen::Rounds => Action::ShowRounds,
            Screen::Corrections => Action::ShowCorrections,
            Screen::Models => Action::ShowModels,
            Screen::Log => Action::ShowLog,
            Screen::Help => Action::ShowHelp,
        }
    }

    /// The screen `steps` tabs further on; negative goes back.
    pub fn further(self, steps: isize) -> Screen {
        let at = Screen::ALL
            .iter()
            .position(|&screen| screen == self)
            .expect("ALL holds every screen");
        Screen::ALL[(at as isize + steps).rem_euclid(Screen::ALL.len() as isize) as usize]
    }
}

/// One line of the table.
#[derive(Debug)]
pub struct Entry {
    /// What it is called in a keymap.
    pub name: &'static str,
    /// What it is called in the code.
    pub action: Action,
    /// Where it works; an action of every screen is bound in `[global]`.
    pub screens: &'static [Screen],
    /// What it does, in the words of help and README.
    pub words: &'static str,
}

macro_rules! actions {
    (@screens all) => { &Screen::ALL };
    (@screens $($screen:ident)+) => { &[$(Screen::$screen),+] };
    ($($name:literal $action:ident on [$($screen:ident)+]: $words:literal;)+) => {
        /// What a key does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $(#[doc = $words] $action,)+
        }

        /// The table.
        pub static ACTIONS: &[Entry] = &[
            $(Entry {
                name: $name,
                action: Action::$action,
                screens: actions!(@screens $($screen)+),
                words: $words,
            },)+
        ];
    };
}

actions! {
    "show_queue"            ShowQueue           on [all]: "the queue: cases by rank";
    "show_slices"           ShowSlices          on [all]: "the slices of the selected case";
    "show_rounds"           ShowRounds          on [all]: "rounds, history and the running training";
    "show_corrections"      ShowCorrections     on [all]: "what came back, and what waits for a decision";
    "show_models"           ShowModels          on [all]: "models, and what they are worth";
    "show_log"              ShowLog             on [all]: "what happened, and what runs";
    "show_help"             ShowHelp            on [all]: "every key; again: back";
    "next_screen"           NextScreen          on [all]: "the next screen";
    "previous_screen"       PreviousScreen      on [all]: "the screen before";
    "command_line"          CommandLine         on [all]: "type a command; tab completes it";
    "cancel"                Cancel              on [all]: "one step back: pending keys, the message, a filter, the screen";
    "leave"                 Leave               on [all]: "leave the screen; from the queue, overtrace";
    "next_picture_mode"     NextPictureMode     on [all]: "how pictures are shown: auto, half, sixel, kitty, iterm2, ascii, off";
    "next_theme"            NextTheme           on [all]: "the looks: auto, dark, light, high-contrast, colour-blind, mono, your own";
    "toggle_mouse"          ToggleMouse         on [all]: "listen to the mouse, or leave it to the terminal";
    "redraw"                Redraw              on [all]: "draw the screen anew";
    "suspend"               Suspend             on [all]: "to the shell; fg comes back";
    "quit"                  Quit                on [all]: "leave overtrace";
    "page_down"             PageDown            on [all]: "a page down; ten slices on";
    "page_up"               PageUp              on [all]: "a page up; ten slices back";

    "next_case"             NextCase            on [Queue Slices]: "the next case of the queue";
    "previous_case"         PreviousCase        on [Queue Slices]: "the case before";
    "first_case"            FirstCase           on [Queue]: "the first case: the one to ask for next";
    "last_case"             LastCase            on [Queue]: "the last case; with a count, that line";
    "open_slices"           OpenSlices          on [Queue]: "show the case's slices";
    "filter"                Filter              on [Queue]: "show only the cases whose name or status is like what is typed";
    "next_match"            NextMatch           on [Queue]: "the next case that the filter shows, around the end";
    "previous_match"        PreviousMatch       on [Queue]: "the case before that the filter shows";
    "sort_next"             SortNext            on [Queue]: "sort by the next column";
    "sort_previous"         SortPrevious        on [Queue]: "sort by the column before";
    "sort_reverse"          SortReverse         on [Queue]: "sort the other way round";
    "toggle_mark"           ToggleMark          on [Queue]: "mark the case, and go to the next; keys act on all marked";
    "mark_all"              MarkAll             on [Queue]: "mark every case shown; again: none";
    "toggle_preview"        TogglePreview       on [Queue]: "the most uncertain slice beside the list: on or off";
    "hand_out"              HandOut             on [Queue Slices]: "write image and prediction for a person to correct";
    "withdraw"              Withdraw            on [Queue Slices]: "take a hand-out back without a mask";
    "accept_held"           AcceptHeld          on [Queue Slices Corrections]: "take the case's held file in after all";
    "fix_held"              FixHeld             on [Queue Slices Corrections]: "take the case's held file in, read the other way";
    "refuse_held"           RefuseHeld          on [Queue Slices Corrections]: "move the case's held file to quarantine";
    "note_minutes"          NoteMinutes         on [Queue Slices Corrections]: "note the minutes spent on the last correction";
    "exclude_case"          ExcludeCase         on [Queue Slices]: "leave the case out of ranking, training and measuring";
    "include_case"          IncludeCase         on [Queue Slices]: "bring an excluded case back";
    "rank"                  Rank                on [Queue]: "predict what is missing and rank the pool now";
    "scan_inbox"            ScanInbox           on [Queue Corrections]: "look into the inbox now";

    "next_slice"            NextSlice           on [Slices]: "one slice on";
    "previous_slice"        PreviousSlice       on [Slices]: "one slice back";
    "first_slice"           FirstSlice          on [Slices]: "the first slice";
    "last_slice"            LastSlice           on [Slices]: "the last slice; with a count, that slice";
    "unsure_slice"          UnsureSlice         on [Slices]: "the slice the model is least sure of";
    "next_disagreement"     NextDisagreement    on [Slices]: "the next slice in which two label maps disagree";
    "previous_disagreement" PreviousDisagreement on [Slices]: "the last slice before in which they disagree";
    "next_plane"            NextPlane           on [Slices]: "cut the volume along the next axis";
    "next_arrangement"      NextArrangement     on [Slices]: "one cut, all three, or drawn and corrected side by side";
    "next_beside"           NextBeside          on [Slices]: "hold another model's drawing against this one";
    "crosshair_left"        CrosshairLeft       on [Slices]: "crosshair: one pixel to the left";
    "crosshair_right"       CrosshairRight      on [Slices]: "crosshair: to the right";
    "crosshair_up"          CrosshairUp         on [Slices]: "crosshair: up";
    "crosshair_down"        CrosshairDown       on [Slices]: "crosshair: down";
    "toggle_crosshair"      ToggleCrosshair     on [Slices]: "the crosshair's lines: on or off";
    "zoom_in"               ZoomIn              on [Slices]: "zoom in on the crosshair";
    "zoom_out"              ZoomOut             on [Slices]: "zoom out";
    "zoom_reset"            ZoomReset           on [Slices]: "the slice as a whole";
    "pan_left"              PanLeft             on [Slices]: "zoomed in: look further left";
    "pan_right"             PanRight            on [Slices]: "zoomed in: further right";
    "pan_up"                PanUp               on [Slices]: "zoomed in: further up";
    "pan_down"              PanDown             on [Slices]: "zoomed in: further down";
    "window_narrower"       WindowNarrower      on [Slices]: "more contrast: a narrower window of intensities";
    "window_wider"          WindowWider         on [Slices]: "less contrast: a wider window";
    "level_down"            LevelDown           on [Slices]: "brighter: the window further down";
    "level_up"              LevelUp             on [Slices]: "darker: the window further up";
    "next_window"           NextWindow          on [Slices]: "percentiles, then the usual windows of CT";
    "next_image"            NextImage           on [Slices]: "of cases with several images (T1, FLAIR) the next";
    "next_colours"          NextColours         on [Slices]: "what intensities are shown in: grey, inverted, hot, bone";
    "toggle_overlay"        ToggleOverlay       on [Slices]: "the label map: on or off";
    "toggle_contours"       ToggleContours      on [Slices]: "the label map: filled or as contours";
    "toggle_margin"         ToggleMargin        on [Slices]: "margin heat map: where the model is unsure";
    "toggle_difference"     ToggleDifference    on [Slices]: "contours in common, predicted, corrected";
    "next_class"            NextClass           on [Slices]: "choose the class that keys act on; after the last: all";
    "toggle_class"          ToggleClass         on [Slices]: "show or hide the chosen class; with a count, that class";
    "more_opacity"          MoreOpacity         on [Slices]: "the chosen class denser";
    "less_opacity"          LessOpacity         on [Slices]: "the chosen class thinner";

    "next_round"            NextRound           on [Rounds]: "the next round";
    "previous_round"        PreviousRound       on [Rounds]: "the round before";
    "first_round"           FirstRound          on [Rounds]: "the first round";
    "last_round"            LastRound           on [Rounds]: "the newest round, with the live curve";
    "start_round"           StartRound          on [Rounds]: "start a round: rank and ask, or train the first model";
    "start_from_scratch"    StartFromScratch    on [Rounds]: "start a round with new weights";
    "train"                 Train               on [Rounds]: "train now, without the cases that are not back; resume";
    "abandon_round"         AbandonRound        on [Rounds]: "cancel the open round";
    "declare_satisfactory"  DeclareSatisfactory on [Rounds]: "end the loop: the performance is satisfactory";
    "reopen"                Reopen              on [Rounds]: "go on after all";

    "open_correction"       OpenCorrection      on [Corrections]: "show it against what was predicted";
    "choose_correction"     ChooseCorrection    on [Corrections]: "have the case train with this one of its corrections";
    "open_curve"            OpenCurve           on [Models]: "show the round that made the model";
    "make_current"          MakeCurrent         on [Models]: "draw and go on from this model; an older one: roll back";
    "compare_rankings"      CompareRankings     on [Models]: "hold this model's ranking against the current model's";

    "line_down"             LineDown            on [Corrections Models Log Help]: "a line down";
    "line_up"               LineUp              on [Corrections Models Log Help]: "a line up";
    "first_line"            FirstLine           on [Corrections Models Log Help]: "the first line";
    "last_line"             LastLine            on [Corrections Models Log Help]: "the last line";
    "search"                Search              on [Log Help]: "show only the lines with what is typed";
}

impl Action {
    /// The action's line of the table.
    pub fn entry(self) -> &'static Entry {
        &ACTIONS[self as usize]
    }

    /// The action that a keymap calls `name`.
    pub fn named(name: &str) -> Option<Action> {
        ACTIONS
            .iter()
            .find(|entry| entry.name == name)
            .map(|entry| entry.action)
    }

    /// Whether the action works on every screen.
    pub fn is_global(self) -> bool {
        self.entry().screens.len() == Screen::ALL.len()
    }

    /// Whether the action works on `screen`.
    pub fn is_on(self, screen: Screen) -> bool {
        self.entry().screens.contains(&screen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_finds_its_own_line_and_no_name_is_there_twice() {
        for (at, entry) in ACTIONS.iter().enumerate() {
            assert!(std::ptr::eq(entry.action.entry(), entry));
            assert_eq!(Action::named(entry.name), Some(entry.action));
            assert!(ACTIONS[..at].iter().all(|other| other.words != entry.words));
        }
        assert_eq!(Action::named("fly"), None);
    }

    #[test]
    fn tabs_go_round_in_both_directions() {
        assert_eq!(Screen::Help.further(1), Screen::Queue);
        assert_eq!(Screen::Queue.further(-1), Screen::Help);
    }
}
