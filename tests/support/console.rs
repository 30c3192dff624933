//! A program on a pseudo-terminal: what it prints, what a terminal would show of it, what it leaves behind.
#![allow(dead_code, clippy::unwrap_used)] // each program that includes it uses its own part

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal with a program on it.
pub struct Console {
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    program: Box<dyn Child + Send + Sync>,
    output: Receiver<(Instant, Vec<u8>)>,
    screen: vt100::Parser,
    /// All that was printed.
    printed: Vec<u8>,
    /// What of it was waited for.
    read_to: usize,
    /// When the last of it came.
    heard_at: Option<Instant>,
    /// No program has the terminal any more.
    is_closed: bool,
}

fn pty_size([columns, rows]: [u16; 2]) -> PtySize {
    PtySize {
        rows,
        cols: columns,
        pixel_width: 0,
        pixel_height: 0,
    }
}

/// Rows and columns as vt100 counts them.
fn cells([columns, rows]: [u16; 2]) -> (NonZeroU16, NonZeroU16) {
    (NonZeroU16::new(rows).unwrap(), NonZeroU16::new(columns).unwrap())
}

impl Console {
    /// Starts a program on a terminal of these many columns and rows, in an environment of its own: nobody's keys, no
    /// multiplexer.
    pub fn start(program: &Path, args: &[&str], env: &[(&str, &str)], size: [u16; 2]) -> Console {
        let pair = native_pty_system().openpty(pty_size(size)).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(args);
        command.env_clear();
        command.cwd(std::env::current_dir().unwrap());
        command.env("TERM", "xterm-256color");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        env.iter().for_each(|(name, value)| command.env(name, value));
        let program = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            // The last descriptor of the other side closed reads as an error.
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send((Instant::now(), buffer[..n].to_vec())).is_err() {
                    return;
                }
            }
        });
        let (rows, columns) = cells(size);
        Console {
            keyboard: pair.master.take_writer().unwrap(),
            master: pair.master,
            program,
            output,
            screen: vt100::Parser::new(rows, columns, 0),
            printed: Vec::new(),
            read_to: 0,
            heard_at: None,
            is_closed: false,
        }
    }

    /// Presses keys, or answers as the terminal.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.keyboard.write_all(bytes.as_ref()).unwrap();
    }

    /// Takes in what is printed next; when it came, and how many bytes of it there were. `None` where nothing came.
    pub fn hear(&mut self, patience: Duration) -> Option<(Instant, usize)> {
        match self.output.recv_timeout(patience) {
            Ok((at, bytes)) => {
                self.screen.process(&bytes);
                self.printed.extend_from_slice(&bytes);
                self.heard_at = Some(at);
                Some((at, bytes.len()))
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.is_closed = true;
                None
            }
        }
    }

    /// Reads on until what is shown or printed holds.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&Console) -> bool) {
        while !is_so(self) {
            if self.hear(PATIENCE).is_none() {
                panic!("{what}: never; the screen:\n{}", self.screen());
            }
        }
    }

    /// Reads on until `text` is on the screen.
    pub fn shows(&mut self, text: &str) {
        self.until(&format!("{text:?} on the screen"), |console| {
            console.screen().contains(text)
        });
    }

    /// Reads on until these bytes were printed, after those that were waited for before.
    pub fn prints(&mut self, bytes: &str) {
        let find = |console: &Console| {
            let rest = &console.printed[console.read_to..];
            rest.windows(bytes.len())
                .position(|window| window == bytes.as_bytes())
        };
        self.until(&format!("{bytes:?} printed"), |console| find(console).is_some());
        self.read_to += find(self).unwrap() + bytes.len();
    }

    /// What the terminal shows.
    pub fn screen(&self) -> String {
        self.screen.screen().contents()
    }

    /// Reads on to the end of the next synchronized frame, of a program that was told that the terminal knows them; when
    /// its last byte came, and its text. `None` where none ends in time.
    pub fn frame(&mut self, patience: Duration) -> Option<(Instant, String)> {
        const END: &[u8] = b"\x1b[?2026l";
        let mut came = self.heard_at;
        loop {
            let rest = &self.printed[self.read_to..];
            if let Some(at) = rest.windows(END.len()).position(|window| window == END) {
                let frame = String::from_utf8_lossy(&rest[..at]).into_owned();
                self.read_to += at + END.len();
                return Some((came?, frame));
            }
            came = Some(self.hear(patience)?.0);
        }
    }

    /// Whether a cell is shown with its colours exchanged.
    pub fn is_reversed(&self, column: u16, row: u16) -> bool {
        let cell = self.screen.screen().cell(row, column);
        cell.is_some_and(vt100::Cell::inverse)
    }

    /// Everything that was printed.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed).into_owned()
    }

    /// Whether the terminal is as a shell wants it: it takes lines and echoes, shows its own screen and its cursor, and
    /// neither mouse nor paste are reported.
    pub fn is_sane(&self) -> bool {
        let mode = self.master.get_termios().unwrap().local_flags.bits();
        let screen = self.screen.screen();
        let reports =
            screen.bracketed_paste() || screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None;
        mode & libc::ICANON != 0
            && mode & libc::ECHO != 0
            && !screen.alternate_screen()
            && !screen.hide_cursor()
            && !reports
    }

    /// Changes the size, as a window manager does.
    pub fn resize(&mut self, size: [u16; 2]) {
        let (rows, columns) = cells(size);
        self.screen.screen_mut().set_size(rows, columns);
        self.master.resize(pty_size(size)).unwrap();
    }

    /// The program's process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.program.process_id().unwrap() as i32).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the program's next stop or end.
    pub fn changed(&self) -> WaitStatus {
        let changed = waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap();
        changed.unwrap().1
    }

    /// Waits for the end; its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        while self.hear(PATIENCE).is_some() {}
        assert!(self.is_closed, "it never ended; the screen:\n{}", self.screen());
        self.changed().exit_status()
    }
}

/// A test that fails leaves no program behind.
impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.program.kill();
    }
}
