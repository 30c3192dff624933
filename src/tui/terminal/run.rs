//! The event loop: keys, signals, engine events and pictures come in through one channel; what the app wants
//! done is done here. Blocks while nothing happens; draws once for all that came in meanwhile.

use std::io::{self, IsTerminal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use super::Takeover;
use super::reader::{Read, read};
use crate::protocol::{EngineGone, EngineHandle, EngineReceiver, EngineSender};
use crate::tui::app::{App, Effect, Msg, Setup};
use crate::tui::config::Faults;
use crate::tui::keys::Keymap;
use crate::tui::picture::{PaintJob, Painter, Picture, PictureMode, ProfileJob};
use crate::tui::theme::{Theme, Themes};
use crate::tui::wire::{Depth, Input};

/// Messages taken in before a frame is drawn, so that a flood of them cannot keep the screen still.
const BATCH: usize = 256;
/// How long answers are waited for at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// What a person may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the keymap preset.
    pub keymap: String,
    /// A keymap file laid over it; one that is not there lays nothing.
    pub user_keymap: Option<PathBuf>,
    /// Name of the theme.
    pub theme: String,
    /// A theme file of the person's own, which may not be there.
    pub user_theme: Option<PathBuf>,
    /// How pictures reach the terminal.
    pub picture: PictureMode,
    /// Whether there are colours; no when `NO_COLOR` is set. Without, pictures are letters.
    pub colour: bool,
    /// Whether lines and bars are drawn in ASCII.
    pub ascii: bool,
    /// Whether the mouse is listened to.
    pub mouse: bool,
    /// The engine ends with the app: leaving while it computes asks first.
    pub engine_ends: bool,
    /// The folder of the log, which is named whenever the app stops otherwise than by a key.
    pub logs: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            keymap: "default".into(),
            user_keymap: None,
            theme: "auto".into(),
            user_theme: None,
            picture: PictureMode::Auto,
            colour: true,
            ascii: false,
            mouse: true,
            engine_ends: true,
            logs: PathBuf::from("logs"),
        }
    }
}

/// Why the screens ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// Standard input or output is no terminal.
    #[error("the screens need a terminal; for scripts there are the verbs, see `overtrace --help`")]
    NoTerminal,
    /// There is no such keymap, or no such theme.
    #[error(transparent)]
    Choice(#[from] Faults),
    /// The terminal refused.
    #[error("using the terminal: {0}")]
    Terminal(#[from] io::Error),
    /// The engine ended.
    #[error(transparent)]
    Engine(#[from] EngineGone),
}

/// What comes in.
enum Incoming {
    /// Something for the app.
    Msg(Msg),
    /// SIGCONT: the terminal may be in any state.
    Continued,
    /// SIGWINCH.
    Resized,
    /// A signal asks the app to end.
    Signalled(i32),
    /// A thread panicked and the terminal was given back; the words are its last.
    Panicked(String),
    /// The engine ended.
    EngineGone,
    /// No more keys will come.
    KeysEnded(io::Error),
}

/// Runs the screens until the person leaves.
///
/// The thread that reads keys cannot be interrupted and lives on until the process ends.
///
/// # Errors
/// [`TuiError`]; the terminal is given back before it is returned.
pub fn run(handle: EngineHandle, options: Options) -> Result<(), TuiError> {
    // A preset that is not there is a slip on the command line; a file that does not hold keeps nobody from working.
    let preset = Keymap::preset(&options.keymap)?;
    let mut problems = Vec::new();
    let keymap = Keymap::load(&options.keymap, options.user_keymap.as_deref()).unwrap_or_else(|problem| {
        problems.push(format!("your keys are left out: {problem}"));
        preset
    });
    let themes = match options.user_theme.as_deref().map_or(Ok(None), Theme::own) {
        Ok(own) => Themes::new(&options.theme, own)?,
        Err(problem) => {
            problems.push(format!("your looks are left out: {problem}"));
            // What was said of the file is enough for those who asked for it: the app starts without.
            let theme = Some(options.theme.as_str()).filter(|theme| *theme != "own");
            Themes::new(theme.unwrap_or("auto"), None)?
        }
    };
    for problem in &problems {
        tracing::warn!("{problem}");
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(TuiError::NoTerminal);
    }
    let (inbox, incoming) = channel();
    // Before the terminal is taken: a signal must never end the program while it is.
    start_signals(inbox.clone())?;
    let panics = inbox.clone();
    let word = |name| std::env::var(name).unwrap_or_default();
    let depth = match options.colour {
        true => Depth::guess(&word("COLORTERM"), &word("TERM")),
        false => Depth::Mono,
    };
    let mut takeover = Takeover::new(depth, &options.logs, move |words| {
        drop(panics.send(Incoming::Panicked(words)));
    })?;
    takeover.listen_to_mouse(options.mouse)?;
    let (sender, receiver) = handle.split();
    let mut app = App::new(
        Setup {
            keymap,
            themes,
            who: sender.who().to_string(),
            picture: options.picture,
            depth,
            ascii: options.ascii,
            mouse: options.mouse,
            engine_ends: options.engine_ends,
        },
        Timestamp::now(),
    );
    app.update(Msg::Resize(takeover.size()?));
    for problem in problems {
        app.update(Msg::Notice(problem));
    }
    let painter = start_painter(inbox.clone());
    start_keys(inbox.clone());
    start_events(receiver, inbox);
    let is_multiplexed = !word("TMUX").is_empty()
        || ["tmux", "screen"]
            .iter()
            .any(|name| word("TERM").starts_with(name));
    takeover.ask(is_multiplexed)?;
    let hands = Hands { sender, painter };
    let end = follow(&mut app, &mut takeover, &incoming, &hands);
    wait_for_answers(&app, &incoming);
    if let Some(signal) = end? {
        takeover.leave(&format!("ended by {}", signal_name(signal).unwrap_or("a signal")));
    }
    Ok(())
}

/// Answers that come when the app has gone would be typed into the shell: they are waited for a little.
fn wait_for_answers(app: &App, incoming: &Receiver<Incoming>) {
    let until = Instant::now() + LAST_ANSWERS;
    let mut is_complete = app.knows_terminal();
    while !is_complete {
        match incoming.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Incoming::Msg(Msg::Terminal(known))) => is_complete = known.is_complete,
            Ok(Incoming::KeysEnded(_)) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// What the loop does things with.
struct Hands {
    sender: EngineSender,
    painter: Sender<Work>,
}

/// Runs the app until it is left, or ended by the signal that is returned.
fn follow(
    app: &mut App,
    takeover: &mut Takeover,
    incoming: &Receiver<Incoming>,
    hands: &Hands,
) -> Result<Option<i32>, TuiError> {
    loop {
        let wants = app.update(Msg::Frame(Timestamp::now()));
        if perform(app, takeover, hands, wants)? {
            return Ok(None);
        }
        takeover.draw(app)?;
        let first = incoming.recv().map_err(|_| EngineGone)?;
        let more = std::iter::from_fn(|| incoming.try_recv().ok()).take(BATCH);
        for one in std::iter::once(first).chain(more) {
            let effects = match one {
                Incoming::Msg(msg) => {
                    if let Msg::Terminal(known) = &msg {
                        takeover.use_all(known);
                    }
                    app.update(msg)
                }
                Incoming::Resized => app.update(Msg::Resize(takeover.size()?)),
                Incoming::Continued => {
                    takeover.resume()?;
                    app.update(Msg::Resumed(takeover.size()?))
                }
                Incoming::Signalled(signal) => return Ok(Some(signal)),
                Incoming::Panicked(words) => {
                    takeover.resume()?;
                    app.update(Msg::Resumed(takeover.size()?));
                    app.update(Msg::Notice(format!(
                        "a part of overtrace failed; the log is in {}; {words}",
                        takeover.logs()
                    )))
                }
                Incoming::EngineGone => return Err(EngineGone.into()),
                Incoming::KeysEnded(error) => return Err(error.into()),
            };
            if perform(app, takeover, hands, effects)? {
                return Ok(None);
            }
        }
    }
}

/// Does what the app wants done; `true` ends the loop.
fn perform(
    app: &mut App,
    takeover: &mut Takeover,
    hands: &Hands,
    effects: Vec<Effect>,
) -> Result<bool, TuiError> {
    for effect in effects {
        match effect {
            Effect::Send { command, purpose } => {
                let request = hands.sender.send(command)?;
                app.update(Msg::Sent { request, purpose });
            }
            // The painter lives as long as its sender.
            Effect::Paint(job) => drop(hands.painter.send(Work::Paint(job))),
            Effect::Profile(job) => drop(hands.painter.send(Work::Profile(job))),
            Effect::Suspend => takeover.suspend(),
            Effect::Redraw => takeover.clear()?,
            Effect::Mouse(is_on) => takeover.listen_to_mouse(is_on)?,
            Effect::Quit => return Ok(true),
        }
    }
    Ok(false)
}

/// What takes too long for the loop.
enum Work {
    Paint(Arc<PaintJob>),
    Profile(ProfileJob),
}

fn start_painter(inbox: Sender<Incoming>) -> Sender<Work> {
    let (jobs, todo) = channel::<Work>();
    thread::spawn(move || {
        let mut painter = Painter::default();
        for job in todo {
            let done = match job {
                Work::Paint(job) => {
                    // A fault in one picture is not the end of all others.
                    let picture = catch_unwind(AssertUnwindSafe(|| painter.paint(&job)));
                    let fault = |_| Picture::Failed("a fault of overtrace; the log says where".into());
                    Msg::Painted(job, picture.unwrap_or_else(fault))
                }
                Work::Profile(job) => {
                    let profile = job.make();
                    Msg::Profiled(job, profile)
                }
            };
            if inbox.send(Incoming::Msg(done)).is_err() {
                return;
            }
        }
    });
    jobs
}

fn start_signals(inbox: Sender<Incoming>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT, SIGTSTP, SIGCONT, SIGWINCH])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let incoming = match signal {
                SIGCONT => Incoming::Continued,
                SIGWINCH => Incoming::Resized,
                SIGTSTP => Incoming::Msg(Msg::Suspend),
                ending => Incoming::Signalled(ending),
            };
            if inbox.send(incoming).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn start_keys(inbox: Sender<Incoming>) {
    thread::spawn(move || {
        let ended = read(io::stdin(), |read| {
            let msg = match read {
                Read::Input(Input::Key(key)) => Msg::Key(key),
                Read::Input(Input::Paste(text)) => Msg::Paste(text),
                Read::Input(Input::Mouse(mouse)) => Msg::Mouse(mouse),
                Read::Input(Input::Answer(_)) => return true,
                Read::Terminal(known) => Msg::Terminal(known),
            };
            inbox.send(Incoming::Msg(msg)).is_ok()
        });
        if let Err(error) = ended {
            // Nobody is left to read it when the loop has ended.
            let _ = inbox.send(Incoming::KeysEnded(error));
        }
    });
}

fn start_events(receiver: EngineReceiver, inbox: Sender<Incoming>) {
    thread::spawn(move || {
        while let Ok(event) = receiver.wait() {
            if inbox.send(Incoming::Msg(Msg::Event(event))).is_err() {
                return;
            }
        }
        let _ = inbox.send(Incoming::EngineGone);
    });
}
