//! The terminal: taken over while the app runs, and given back sane however it ends.
//!
//! Given back on return and unwinding (drop), on a panic in any thread (hook), before the program stops for
//! Ctrl-Z, and on SIGTERM and SIGHUP, which end the app in the ordinary way. Where it is not a key that ended the app,
//! the terminal is told where the log is.

mod reader;
mod run;

pub use run::{Options, TuiError, run};

use std::io::{self, Stdout, Write, stderr, stdout};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::execute;
use ratatui::crossterm::style::Print;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Position, Rect, Size};

use super::app::App;
use super::text::clean;
use super::view::draw;
use super::wire::{Capabilities, Depth, FEW_QUESTIONS, Output, QUESTIONS};

/// Whether the terminal is the app's. One a process, because a panic hook has no owner to ask.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Whether the mouse is listened to while it is.
static MOUSE: AtomicBool = AtomicBool::new(false);

/// Buttons, moves with a button down, places beyond column 223.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1002h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1002l\x1b[?1000l";

/// The terminal while it is the app's; given back on drop.
pub struct Takeover {
    terminal: Terminal<Output<Stdout>>,
    /// The folder of the log, as it can be printed.
    logs: String,
}

fn take() -> io::Result<()> {
    // Raw mode is left first: after a stop from outside the shell has its own mode set, and crossterm, which
    // believes that raw mode is on, would do nothing.
    disable_raw_mode()?;
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide)?;
    if MOUSE.load(Ordering::SeqCst) {
        execute!(stdout(), Print(MOUSE_ON))?;
    }
    Ok(())
}

/// Gives the terminal back, once; errors are of no use to anyone by then.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(
            stdout(),
            Print(MOUSE_OFF),
            DisableBracketedPaste,
            LeaveAlternateScreen,
            Show
        );
        let _ = disable_raw_mode();
    }
}

/// Says something on the terminal that was given back; it may have gone away (SIGHUP), and then nobody reads it.
fn tell(words: &str) {
    let _ = writeln!(stderr(), "overtrace: {words}");
}

impl Takeover {
    /// Takes the terminal over. A panic in any thread gives it back before the earlier hook prints its words,
    /// and then calls `on_panic` with them: the thread may have ended alone, and the app goes on.
    pub fn new(
        depth: Depth,
        logs: &Path,
        on_panic: impl Fn(String) + Send + Sync + 'static,
    ) -> io::Result<Takeover> {
        let logs = clean(&logs.display().to_string());
        let takeover = Takeover {
            terminal: Terminal::new(Output::new(stdout(), depth))?,
            logs: logs.clone(),
        };
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let taken = TAKEN.load(Ordering::SeqCst);
            give_back();
            earlier(panic);
            if taken {
                tell(&format!("the log is in {logs}"));
                on_panic(panic.to_string());
            }
        }));
        take()?;
        Ok(takeover)
    }

    /// Asks the terminal what it can do; the answers come as input, whenever they do.
    pub fn ask(&self, is_multiplexed: bool) -> io::Result<()> {
        execute!(
            stdout(),
            Print(if is_multiplexed { FEW_QUESTIONS } else { QUESTIONS })
        )
    }

    /// Brings the output to what the terminal said it can do.
    pub fn use_all(&mut self, known: &Capabilities) {
        let output = self.terminal.backend_mut();
        output.set_synchronized(known.synchronized);
        if let Some(depth) = known.depth {
            output.raise_depth(depth);
        }
    }

    /// Listens to the mouse, or does not.
    pub fn listen_to_mouse(&self, is_on: bool) -> io::Result<()> {
        MOUSE.store(is_on, Ordering::SeqCst);
        if TAKEN.load(Ordering::SeqCst) {
            execute!(stdout(), Print(if is_on { MOUSE_ON } else { MOUSE_OFF }))?;
        }
        Ok(())
    }

    /// The size in cells.
    pub fn size(&self) -> io::Result<Size> {
        self.terminal.size()
    }

    /// Draws, while the terminal is the app's.
    pub fn draw(&mut self, app: &App) -> io::Result<()> {
        if TAKEN.load(Ordering::SeqCst) {
            self.terminal.draw(|frame| draw(app, frame))?;
        }
        Ok(())
    }

    /// Has the next frame draw every cell.
    pub fn clear(&mut self) -> io::Result<()> {
        // Not `Terminal::clear`: that asks the terminal where the cursor is, and the answer would have to get
        // past the thread that waits for keys. To resize to the same size clears as well and asks nothing.
        let whole = Rect::from((Position::ORIGIN, self.size()?));
        self.terminal.resize(whole)
    }

    /// Gives the terminal back and stops the job until the shell goes on with it; SIGCONT is the sign to
    /// [`Takeover::resume`].
    pub fn suspend(&self) {
        self.leave("stopped; fg goes on");
        // SAFETY: kill has no memory to violate. The whole group is stopped, as the kernel does on Ctrl-Z, so
        // that a wrapper which waits for the app stops too; SIGSTOP because SIGTSTP is handled by us.
        unsafe { libc::kill(0, libc::SIGSTOP) };
    }

    /// Gives the terminal back, and says on it why and where the log is.
    pub fn leave(&self, why: &str) {
        give_back();
        tell(&format!("{why}; the log is in {}", self.logs));
    }

    /// The folder of the log.
    pub fn logs(&self) -> &str {
        &self.logs
    }

    /// Takes the terminal over again, whatever happened to it meanwhile.
    pub fn resume(&mut self) -> io::Result<()> {
        take()?;
        self.terminal.backend_mut().forget();
        self.clear()
    }
}

impl Drop for Takeover {
    fn drop(&mut self) {
        give_back();
    }
}
