//! The app in a shell under a real tmux, which is told what to do through its control mode.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{project, support};
use rustix::process::{Pid, Signal, kill_process};

/// What the shell asks for a line with.
const PROMPT: &str = "ready>";

/// A tmux of its own with one shell in it.
struct Tmux {
    client: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

impl Tmux {
    /// `None`, and says so, where there is no tmux.
    fn start(folder: &Path) -> Option<Tmux> {
        let mut command = Command::new("tmux");
        command
            .args(["-S", folder.join("tmux").to_str().unwrap(), "-f", "/dev/null"])
            .args(["-C", "new-session", "bash --norc --noprofile"])
            .env_remove("TMUX")
            .env("XDG_CONFIG_HOME", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let Ok(mut client) = command.spawn() else {
            eprintln!("no tmux here: the app is not tried in it");
            return None;
        };
        let (sender, lines) = channel();
        let output = BufReader::new(client.stdout.take().unwrap());
        std::thread::spawn(move || {
            // A pane prints what it likes.
            for line in output.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut tmux = Tmux {
            commands: client.stdin.take().unwrap(),
            client,
            lines,
        };
        tmux.block();
        tmux.resize([100, 30]);
        tmux.run(&format!("PS1={}", quoted(&format!("{PROMPT} "))));
        Some(tmux)
    }

    fn line(&self) -> String {
        self.lines
            .recv_timeout(Duration::from_secs(60))
            .expect("tmux says something within a minute")
    }

    /// The next answer.
    fn block(&mut self) -> Vec<String> {
        while !self.line().starts_with("%begin") {}
        let mut block = Vec::new();
        loop {
            let line = self.line();
            assert!(!line.starts_with("%error"), "{block:?}");
            if line.starts_with("%end") {
                return block;
            }
            block.push(line);
        }
    }

    fn ask(&mut self, command: &str) -> Vec<String> {
        writeln!(self.commands, "{command}").unwrap();
        self.block()
    }

    fn press(&mut self, key: &str) {
        self.ask(&format!("send-keys {key}"));
    }

    /// Types a line into the shell.
    fn run(&mut self, line: &str) {
        self.ask(&format!("send-keys -l {}", quoted(line)));
        self.press("Enter");
    }

    fn resize(&mut self, [columns, rows]: [u16; 2]) {
        self.ask(&format!("refresh-client -C {columns}x{rows}"));
    }

    fn screen(&mut self) -> String {
        self.ask("capture-pane -p").join("\n")
    }

    /// Waits until the screen holds `text`.
    fn shows(&mut self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    /// Waits until the shell waits for a line.
    fn is_asked(&mut self) {
        self.until("a prompt", |screen| screen.trim_end().ends_with(PROMPT));
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return;
            }
            // What was printed before the screen was asked for is in it; it changes when something is printed after that.
            loop {
                match self.lines.recv_timeout(Duration::from_secs(60)) {
                    Ok(line) if line.starts_with("%output") || line.starts_with("%layout-change") => break,
                    Ok(_) => {}
                    Err(_) => panic!("{what:?} is never shown:\n{screen}"),
                }
            }
        }
    }

    /// Whether the pane shows its own screen and its cursor, and reports no mouse.
    fn is_sane(&mut self) -> bool {
        let flags = self.ask("display-message -p '#{alternate_on}#{cursor_flag}#{mouse_any_flag}'");
        flags == ["010"]
    }
}

/// A word of the shell's and of tmux's.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = writeln!(self.commands, "kill-server");
        let _ = self.client.wait();
    }
}

/// Starts the app in the shell; its process.
fn open(tmux: &mut Tmux, folder: &Path) -> Pid {
    let file = folder.join("pid");
    let script = format!("echo $$ > {}; exec \"$0\" \"$@\"", file.display());
    let app = env!("CARGO_BIN_EXE_overtrace");
    let project = folder.join("project");
    tmux.run(&format!(
        "sh -c {} {app} --project {}",
        quoted(&script),
        project.display()
    ));
    tmux.shows("brain_1");
    let pid = std::fs::read_to_string(file).unwrap();
    Pid::from_raw(pid.trim().parse().unwrap()).unwrap()
}

#[test]
fn the_app_lives_in_tmux_from_start_to_end() {
    let folder = project();
    let Some(mut tmux) = Tmux::start(folder.path()) else {
        return;
    };
    let app = open(&mut tmux, folder.path());
    // tmux was asked nothing about pictures: half-blocks.
    tmux.shows("half");
    tmux.press("Enter");
    tmux.shows("axial slice 3 of 4");
    tmux.press("G");
    tmux.shows("axial slice 4 of 4");
    tmux.press("C-z");
    tmux.shows("stopped; fg goes on; the log is in");
    tmux.shows("Stopped");
    tmux.is_asked();
    assert!(tmux.is_sane());
    tmux.run("echo an$((40 + 2))swer");
    tmux.shows("an42swer");
    tmux.run("fg");
    tmux.shows("axial slice 4 of 4");
    assert!(!tmux.is_sane());
    tmux.press("k");
    tmux.shows("axial slice 3 of 4");
    tmux.resize([40, 10]);
    tmux.shows("overtrace needs 60x20 cells");
    tmux.resize([200, 60]);
    tmux.shows("axial slice 3 of 4");
    kill_process(app, Signal::TERM).unwrap();
    tmux.shows("ended by SIGTERM; the log is in");
    tmux.is_asked();
    tmux.run("echo it was $?");
    tmux.shows("it was 0");
    assert!(tmux.is_sane());
    let screen = tmux.screen();
    assert!(
        screen.contains("an42swer") && !screen.contains("slice 3 of 4"),
        "{screen}"
    );
}

/// The SSH line breaks, or tmux is ended: SIGHUP. The app ends, and the engine goes on without it.
#[test]
fn the_app_ends_with_its_tmux_and_the_engine_does_not() {
    let folder = project();
    let Some(mut tmux) = Tmux::start(folder.path()) else {
        return;
    };
    open(&mut tmux, folder.path());
    let attached = || support::attached(&folder.path().join("project"));
    let app = attached().into_iter().find_map(|one| one.pid).unwrap();
    drop(tmux);
    // Two are told of while the app has not gone: it, and who asks.
    while attached().iter().any(|one| one.pid == Some(app)) {
        std::thread::yield_now();
    }
}
