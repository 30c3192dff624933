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
    /// Every key.
    Help,
}

impl Screen {
    /// In the order of the tabs.
    pub const ALL: [Screen; 4] = [Screen::Queue, Screen::Slices, Screen::Rounds, Screen::Help];

    /// The word people see, and the name of the screen's section in a keymap.
    pub fn word(self) -> &'static str {
        match self {
            Screen::Queue => "queue",
            Screen::Slices => "slices",
            Screen::Rounds => "rounds",
            Screen::Help => "help",
        }
    }

    /// The action that shows the screen.
    pub fn action(self) -> Action {
        match self {
            Screen::Queue => Action::ShowQueue,
            Screen::Slices => Action::ShowSlices,
            Screen::Rounds => Action::ShowRounds,
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
    ($($name:literal $action:ident on [$($screen:ident)+]: $words:literal;)+) => {
        /// What a key does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $(#[doc = $words] $action,)+
        }

        /// The table.
        pub static ACTIONS: &[Entry] = &[
            $(Entry {
                name: $name,
                action: Action::$action,
                screens: &[$(Screen::$screen),+],
                words: $words,
            },)+
        ];
    };
}

actions! {
    "show_queue"            ShowQueue           on [Queue Slices Rounds Help]: "the queue: cases by rank";
    "show_slices"           ShowSlices          on [Queue Slices Rounds Help]: "the slices of the selected case";
    "show_rounds"           ShowRounds          on [Queue Slices Rounds Help]: "rounds, history and the running training";
    "show_help"             ShowHelp            on [Queue Slices Rounds Help]: "every key; again: back";
    "next_screen"           NextScreen          on [Queue Slices Rounds Help]: "the next screen";
    "previous_screen"       PreviousScreen      on [Queue Slices Rounds Help]: "the screen before";
    "cancel"                Cancel              on [Queue Slices Rounds Help]: "forget pending keys and the message";
    "redraw"                Redraw              on [Queue Slices Rounds Help]: "draw the screen anew";
    "suspend"               Suspend             on [Queue Slices Rounds Help]: "to the shell; fg comes back";
    "quit"                  Quit                on [Queue Slices Rounds Help]: "leave overtrace";

    "next_case"             NextCase            on [Queue Slices]: "the next case of the queue";
    "previous_case"         PreviousCase        on [Queue Slices]: "the case before";
    "first_case"            FirstCase           on [Queue]: "the first case: the one to ask for next";
    "last_case"             LastCase            on [Queue]: "the last case";
    "open_slices"           OpenSlices          on [Queue]: "show the case's slices";
    "hand_out"              HandOut             on [Queue Slices]: "write image and prediction for a person to correct";
    "withdraw"              Withdraw            on [Queue Slices]: "take a hand-out back without a mask";
    "accept_held"           AcceptHeld          on [Queue Slices]: "take the case's held file in after all";
    "refuse_held"           RefuseHeld          on [Queue Slices]: "move the case's held file to quarantine";
    "note_minutes"          NoteMinutes         on [Queue Slices]: "note the minutes spent on the last correction";
    "exclude_case"          ExcludeCase         on [Queue Slices]: "leave the case out of ranking, training and measuring";
    "include_case"          IncludeCase         on [Queue Slices]: "bring an excluded case back";
    "rank"                  Rank                on [Queue]: "predict what is missing and rank the pool now";
    "scan_inbox"            ScanInbox           on [Queue]: "look into the inbox now";

    "next_slice"            NextSlice           on [Slices]: "one slice on";
    "previous_slice"        PreviousSlice       on [Slices]: "one slice back";
    "first_slice"           FirstSlice          on [Slices]: "the first slice";
    "last_slice"            LastSlice           on [Slices]: "the last slice";
    "unsure_slice"          UnsureSlice         on [Slices]: "the slice the model is least sure of";
    "next_plane"            NextPlane           on [Slices]: "cut the volume along the next axis";
    "toggle_overlay"        ToggleOverlay       on [Slices]: "the label map: on or off";
    "toggle_contours"       ToggleContours      on [Slices]: "the label map: filled or as contours";
    "toggle_margin"         ToggleMargin        on [Slices]: "margin heat map: where the model is unsure";
    "toggle_difference"     ToggleDifference    on [Slices]: "after hand-in: contours in common, predicted, corrected";
    "next_class"            NextClass           on [Slices]: "one class after the other, then all";
    "more_opacity"          MoreOpacity         on [Slices]: "a denser overlay";
    "less_opacity"          LessOpacity         on [Slices]: "a thinner overlay";

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

    "page_down"             PageDown            on [Queue Slices Rounds Help]: "a page down; ten slices on";
    "page_up"               PageUp              on [Queue Slices Rounds Help]: "a page up; ten slices back";
    "line_down"             LineDown            on [Help]: "a line down";
    "line_up"               LineUp              on [Help]: "a line up";
    "first_line"            FirstLine           on [Help]: "the first line";
    "last_line"             LastLine            on [Help]: "the last line";
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
