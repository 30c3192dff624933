//! The app on a pseudo-terminal: however it ends or stops, the terminal is given back.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may stop at what it did not expect

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use overtrace::records::Pool;
use support::{Bench, SMALL};

const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

/// A terminal with the app on it.
struct Console {
    master: File,
    app: Child,
    output: Receiver<Vec<u8>>,
    seen: String,
    /// All that it printed.
    everything: String,
}

fn window(columns: u16, rows: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Console {
    fn start(project: &Path) -> Console {
        // Nobody's own keys.
        Console::configured(project, project)
    }

    /// The same, with a configuration folder.
    fn configured(project: &Path, configuration: &Path) -> Console {
        let (mut master, mut slave) = (0, 0);
        let size = window(100, 30);
        // SAFETY: openpty writes the two descriptors and reads the size, all of which live here.
        let opened = unsafe {
            libc::openpty(
                &mut master,
                &mut slave,
                std::ptr::null_mut(),
                std::ptr::null(),
                &size,
            )
        };
        assert_eq!(opened, 0);
        // SAFETY: openpty gave these to us, and nobody else closes them.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let mut command = Command::new(env!("CARGO_BIN_EXE_overtrace"));
        command
            .args(["--project", project.to_str().unwrap()])
            .env("TERM", "xterm-256color")
            .env("XDG_CONFIG_HOME", configuration)
            .env_remove("TMUX")
            .env_remove("COLORTERM")
            .env_remove("NO_COLOR")
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave));
        // SAFETY: between fork and exec only two system calls are made, which allocate nothing.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let app = command.spawn().unwrap();
        drop(command);
        let (sender, output) = channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The last descriptor of the other side closed reads as an error.
            while let Ok(n) = reader.read(&mut buffer) {
                if n == 0 || sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut console = Console {
            master,
            app,
            output,
            seen: String::new(),
            everything: String::new(),
        };
        console.wait_for(ENTERED);
        console
    }

    /// Answers the app's questions, as every terminal does: a VT220 without pictures, in order.
    fn answer(&mut self) {
        self.wait_for("\u{1b}[c");
        self.master.write_all(b"\x1b[?62c").unwrap();
    }

    /// Reads on until `text` was printed, then forgets everything up to it.
    fn wait_for(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            match self.output.recv_timeout(Duration::from_secs(60)) {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes);
                    self.seen.push_str(&text);
                    self.everything.push_str(&text);
                }
                Err(_) => panic!("{text:?} did not come; what came: {:?}", self.seen),
            }
        }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory to violate; the child is not waited for yet, so its number is its own.
        unsafe { libc::kill(self.app.id() as i32, signal) };
    }

    /// Whether the terminal takes lines and echoes, as a shell wants it.
    fn is_cooked(&self) -> bool {
        let mut mode = std::mem::MaybeUninit::<libc::termios>::uninit();
        // SAFETY: tcgetattr fills the whole structure when it succeeds, which is checked.
        let mode = unsafe {
            assert_eq!(libc::tcgetattr(self.master.as_raw_fd(), mode.as_mut_ptr()), 0);
            mode.assume_init()
        };
        mode.c_lflag & libc::ICANON != 0 && mode.c_lflag & libc::ECHO != 0
    }

    /// Waits for the app's next stop or end.
    fn changed(&self) -> std::process::ExitStatus {
        let mut status = 0;
        // SAFETY: waitpid writes one number, which lives here.
        let pid = unsafe { libc::waitpid(self.app.id() as i32, &mut status, libc::WUNTRACED) };
        assert_eq!(pid, self.app.id() as i32);
        std::process::ExitStatus::from_raw(status)
    }
}

fn project() -> Bench {
    let bench = Bench::new(SMALL);
    bench.import("brain_1", 0, Pool::Unlabelled);
    bench
}

/// The project without its engine, for the app to open.
fn closed(bench: Bench) -> tempfile::TempDir {
    let Bench { folder, handle } = bench;
    drop(handle);
    // The lock is free when another engine has had it and has ended.
    let after = support::start(&folder.path().join("project"), false);
    drop(after.handle);
    after.thread.join().unwrap();
    folder
}

#[test]
fn sigterm_sighup_and_q_give_the_terminal_back() {
    let folder = closed(project());
    for how in ["term", "hup", "q"] {
        let mut console = Console::start(&folder.path().join("project"));
        console.answer();
        console.wait_for("brain_1");
        assert!(!console.is_cooked(), "{how}");
        match how {
            "term" => console.signal(libc::SIGTERM),
            "hup" => console.signal(libc::SIGHUP),
            _ => console.master.write_all(b"q").unwrap(),
        }
        console.wait_for(LEFT);
        assert_eq!(console.changed().code(), Some(0), "{how}");
        assert!(console.is_cooked(), "{how}");
    }
}

/// A signal that comes while the terminal is still being asked what it can show, and does not answer.
#[test]
fn sigterm_gives_the_terminal_back_from_the_first_moment_on() {
    let folder = closed(project());
    let mut console = Console::start(&folder.path().join("project"));
    console.signal(libc::SIGTERM);
    console.wait_for(LEFT);
    assert_eq!(console.changed().code(), Some(0));
    assert!(console.is_cooked());
}

#[test]
fn ctrl_z_stops_on_a_sane_terminal_and_the_app_comes_back_and_follows_a_new_size() {
    let folder = closed(project());
    let mut console = Console::start(&folder.path().join("project"));
    console.answer();
    console.wait_for("brain_1");
    console.master.write_all(b"\x1a").unwrap();
    console.wait_for(LEFT);
    assert_eq!(console.changed().stopped_signal(), Some(libc::SIGSTOP));
    assert!(console.is_cooked());
    console.signal(libc::SIGCONT);
    console.wait_for(ENTERED);
    console.wait_for("brain_1");
    assert!(!console.is_cooked());
    let size = window(60, 12);
    // SAFETY: TIOCSWINSZ reads one window size, which lives here.
    unsafe { libc::ioctl(console.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    console.wait_for("brain_1");
    console.master.write_all(b"q").unwrap();
    console.wait_for(LEFT);
    assert_eq!(console.changed().code(), Some(0));
}

/// Answers that come late, and in pieces that begin right after an ESC: no key among them, and pictures get better.
#[test]
fn a_late_answer_is_never_taken_for_keys_and_upgrades_the_pictures() {
    let folder = closed(project());
    let mut console = Console::start(&folder.path().join("project"));
    // The first screen does not wait for answers, and keys work meanwhile.
    console.wait_for("half");
    console.master.write_all(b"?").unwrap();
    console.wait_for("(first_case)");
    for part in [
        &b"\x1b"[..],
        b"_Gi=31;OK\x1b",
        b"\\\x1b[6;20;10t\x1b]11;rgb:0000/0000/00",
        b"00\x1b\\",
        b"\x1b[?62c",
    ] {
        console.master.write_all(part).unwrap();
    }
    console.wait_for("kitty");
    console.master.write_all(b"\x1b").unwrap();
    console.wait_for("brain_1");
    assert!(
        !console.everything.contains("does nothing here"),
        "{}",
        console.everything
    );
    console.master.write_all(b"q").unwrap();
    console.wait_for(LEFT);
    assert_eq!(console.changed().code(), Some(0));
}

#[test]
fn keys_and_looks_that_do_not_hold_are_left_out_and_said() {
    let folder = closed(project());
    let keys = folder.path().join("config/overtrace");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::write(keys.join("keymap.toml"), "[queue]\n\"j\" = \"next_cse\"\n").unwrap();
    std::fs::write(
        keys.join("theme.toml"),
        "[styles]\nwarn = \"bold\"\ntitle = \"cyna\"\n",
    )
    .unwrap();
    let mut console = Console::configured(&folder.path().join("project"), &folder.path().join("config"));
    console.answer();
    console.wait_for("your looks are left out");
    console.wait_for("theme.toml:3:");
    // The message has room for one of them, the log for both.
    console.master.write_all(b"gl").unwrap();
    console.wait_for("keymap.toml:2:");
    console.wait_for("next_case");
    console.master.write_all(b"qq").unwrap();
    console.wait_for(LEFT);
    assert_eq!(console.changed().code(), Some(0));
}

/// A test that fails leaves no app behind.
impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.app.kill();
    }
}
