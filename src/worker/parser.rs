//! Volumes from outside, read by a process that may come to grief: both ends.
//!
//! A reader's process is kept while a batch of files is read. Each question sets its limit of memory anew; whoever asks ends
//! it when the time is up. What is sent: the question, the bytes of the parts, then the answer, the joined bytes of a
//! pair, the voxels.

use std::io::{BufRead, BufReader, BufWriter, Error, ErrorKind, Read, Result, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::frames::{self, LONGEST, SHORT};
use crate::imaging::{RawVolume, Scan, VolumeError};

/// Memory that reading takes beside what the volume does: the program itself, and an allocator that asks for much at once.
const ROOM_BYTES: u64 = 512 << 20;
/// Bytes that are held at once for each byte unpacked: unpacked, cut out, as numbers, and as intensities.
const COPIES: u64 = 8;
/// Seconds for any file, and bytes a second that even a busy machine unpacks.
const LEAST_S: f64 = 5.0;
const BYTES_PER_S: f64 = 30e6;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    max_bytes: u64,
    memory_bytes: u64,
    /// Seconds of a processor at most: what is left alone does not go on for ever.
    cpu_s: u64,
    parts: Vec<u64>,
}

/// What is answered of a volume that could be read: its scan without voxels, how many there are, and how many bytes the one
/// file made of a pair has.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    scan: Scan,
    voxels: u64,
    joined: Option<u64>,
}

/// Reads volumes from outside in a process of its own, with limits of memory and time.
#[derive(Debug)]
pub struct Parser {
    program: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Parser {
    /// One that starts `program` when it is first asked.
    pub fn new(program: PathBuf) -> Parser {
        Parser {
            program,
            process: Mutex::new(None),
        }
    }

    /// The bytes to keep of a volume, and what they hold, as [`RawVolume::decode`] says.
    ///
    /// * `patience`: how many times the usual time it may take
    ///
    /// # Errors
    /// What the reader's process says; [`VolumeError::Slow`] or [`VolumeError::Deadly`] where it was ended or ended by
    /// itself; [`VolumeError::NoReader`] where it cannot be started, or is another version.
    pub fn parse(
        &self,
        raw: RawVolume,
        max_bytes: u64,
        patience: f64,
    ) -> std::result::Result<(Vec<u8>, Scan), VolumeError> {
        let (memory_bytes, limit_s) = limits(&raw, max_bytes, patience);
        let question = Question {
            max_bytes,
            memory_bytes,
            cpu_s: limit_s.ceil() as u64,
            parts: raw.parts.iter().map(|part| part.len() as u64).collect(),
        };
        let asked = self.ask(&question, &raw, limit_s);
        // It may have been ended for what others took: once more, with a process of its own.
        let asked = match asked {
            Err(VolumeError::Deadly { .. }) => self.ask(&question, &raw, limit_s),
            other => other,
        };
        let (joined, scan) = asked?;
        let bytes = joined.unwrap_or_else(|| raw.parts.into_iter().next().unwrap_or_default());
        Ok((bytes, scan))
    }

    fn ask(&self, question: &Question, raw: &RawVolume, limit_s: f64) -> Parsed {
        let mut kept = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        // One that ended between two questions is no fault of the next file.
        let alive = kept
            .take()
            .and_then(|mut process| process.is_alive().then_some(process));
        let mut process = match alive {
            Some(process) => process,
            None => Process::start(&self.program).map_err(|error| VolumeError::NoReader {
                why: format!("{}: {error}", self.program.display()),
            })?,
        };
        let pid = Pid::from_child(&process.child);
        let (done, is_done) = channel();
        let (answer, is_slow) = thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let is_slow =
                    is_done.recv_timeout(Duration::from_secs_f64(limit_s)) == Err(RecvTimeoutError::Timeout);
                if is_slow {
                    // It is not waited for before this thread ends, so the number is still its own.
                    let _ = kill_process(pid, Signal::KILL);
                }
                is_slow
            });
            let answer = process.ask(question, raw);
            // The other end is gone where the time was up.
            let _ = done.send(());
            (answer, watch.join().unwrap_or(false))
        });
        match answer {
            Err(_) if is_slow => Err(VolumeError::Slow { limit_s }),
            Ok(answer) => {
                // One that was ended as it answered is of no more use.
                *kept = Some(process).filter(|_| !is_slow);
                answer
            }
            Err(error) => Err(match process.ended(&error) {
                (_, true) => VolumeError::NoReader {
                    why:
                        "it is another version than the engine; `overtrace engine stop`, then start it again"
                            .into(),
                },
                (how, false) => VolumeError::Deadly { how },
            }),
        }
    }

    /// Ends the process until the next question.
    pub fn rest(&self) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A running reader. Dropped, it ends.
#[derive(Debug)]
struct Process {
    child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
}

type Parsed = std::result::Result<(Option<Vec<u8>>, Scan), VolumeError>;

impl Process {
    fn start(program: &PathBuf) -> Result<Process> {
        let mut child = Command::new(program)
            .args(["parse", "--build", &frames::build()])
            // What is freed is given back, and address space is asked for as it is used: both count against the limit.
            .env("MIMALLOC_PURGE_DELAY", "0")
            .env("MIMALLOC_ARENA_RESERVE", "16384")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let taken = "a pipe was asked for";
        Ok(Process {
            input: BufWriter::new(child.stdin.take().expect(taken)),
            output: BufReader::new(child.stdout.take().expect(taken)),
            child,
        })
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn ask(&mut self, question: &Question, raw: &RawVolume) -> Result<Parsed> {
        frames::write(&mut self.input, question, SHORT)?;
        raw.parts.iter().try_for_each(|part| self.input.write_all(part))?;
        self.input.flush()?;
        let answer: std::result::Result<Answer, VolumeError> =
            frames::read(&mut self.output, LONGEST)?.ok_or(ErrorKind::UnexpectedEof)?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        let joined = answer.joined.map(|bytes| exactly(&mut self.output, bytes));
        let mut scan = answer.scan;
        scan.volume.voxels = floats(&mut self.output, answer.voxels)?;
        Ok(Ok((joined.transpose()?, scan)))
    }

    /// How it ended, in words; and whether it did not understand the questions.
    fn ended(mut self, error: &Error) -> (String, bool) {
        // One that is still there has said something that is no answer.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => (status.to_string(), status.code() == Some(OTHER_BUILD)),
            Err(_) => (error.to_string(), false),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exit code of a reader that another version's engine has started.
pub const OTHER_BUILD: i32 = 4;

/// Whether a program of `build` asks questions that this one understands.
pub fn understands(build: &str) -> bool {
    build == frames::build()
}

/// The reader's end: answers questions until `input` ends.
///
/// # Errors
/// Pipes that broke, or a limit that the system does not let be set.
pub fn parse(input: impl Read, output: impl Write) -> Result<()> {
    let (mut input, mut output) = (BufReader::new(input), BufWriter::new(output));
    while let Some(question) = frames::read::<Question>(&mut input, SHORT)? {
        limit(question.memory_bytes, question.cpu_s)?;
        let parts = question.parts.iter().map(|&bytes| exactly(&mut input, bytes));
        let raw = RawVolume {
            parts: parts.collect::<Result<_>>()?,
            notes: Vec::new(),
        };
        let is_pair = raw.parts.len() > 1;
        let answer = raw.decode(question.max_bytes);
        let (answer, bytes, voxels) = match answer {
            Err(error) => (Err(error), Vec::new(), Vec::new()),
            Ok((bytes, mut scan)) => {
                let voxels = std::mem::take(&mut scan.volume.voxels);
                let answer = Answer {
                    scan,
                    voxels: voxels.len() as u64,
                    joined: is_pair.then_some(bytes.len() as u64),
                };
                (Ok(answer), bytes, voxels)
            }
        };
        frames::write(&mut output, &answer, LONGEST)?;
        if is_pair {
            output.write_all(&bytes)?;
        }
        for voxel in voxels {
            output.write_all(&voxel.to_le_bytes())?;
        }
        output.flush()?;
    }
    Ok(())
}

/// Lets this process have so much memory, and so many seconds of a processor from now on, as far as it may have them at all.
fn limit(memory_bytes: u64, cpu_s: u64) -> Result<()> {
    let used_s = clock_gettime(ClockId::ProcessCPUTime).tv_sec as u64;
    for (resource, most) in [(Resource::As, memory_bytes), (Resource::Cpu, used_s + 1 + cpu_s)] {
        let maximum = getrlimit(resource).maximum;
        let current = Some(maximum.map_or(most, |maximum| most.min(maximum)));
        setrlimit(resource, Rlimit { current, maximum })?;
    }
    Ok(())
}

/// Memory in bytes, and time in seconds, that reading a volume may take.
fn limits(raw: &RawVolume, max_bytes: u64, patience: f64) -> (u64, f64) {
    let unpacked = raw.most_unpacked(max_bytes);
    (
        ROOM_BYTES.saturating_add(unpacked.saturating_mul(COPIES)),
        patience * (LEAST_S + unpacked as f64 / BYTES_PER_S),
    )
}

/// So many bytes and no fewer; they take memory as they come.
fn exactly(from: &mut impl Read, bytes: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    from.take(bytes).read_to_end(&mut out)?;
    match out.len() as u64 == bytes {
        true => Ok(out),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// So many numbers.
fn floats(from: &mut impl BufRead, count: u64) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    let mut rest = count;
    let mut bytes = vec![0; 1 << 16];
    while rest > 0 {
        let now = rest.min((bytes.len() / 4) as u64) as usize;
        from.read_exact(&mut bytes[..now * 4])?;
        let numbers = bytes[..now * 4].chunks_exact(4);
        out.extend(numbers.map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])));
        rest -= now as u64;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_packed_may_need_more_than_it_has() {
        let limits = |parts: &[&[u8]], max_bytes, patience| {
            let raw = RawVolume {
                parts: parts.iter().map(|part| part.to_vec()).collect(),
                notes: Vec::new(),
            };
            limits(&raw, max_bytes, patience)
        };
        let mb = 1 << 20;
        assert_eq!(limits(&[&[0; 1 << 20]], u64::MAX, 1.0).0, (512 + 8) * mb);
        let packed = [&[0x1f, 0x8b][..], &[0; 1022]].concat();
        assert_eq!(limits(&[&packed], u64::MAX, 1.0).0, 512 * mb + 8 * 1032 * 1024);
        assert_eq!(
            limits(&[&packed], 1000, 1.0).0,
            512 * mb + 8000,
            "no more than the cap"
        );
        assert_eq!(
            limits(&[&[0; 300], &packed], 1000, 1.0).0,
            512 * mb + 8 * 1300,
            "a pair"
        );
        assert_eq!(limits(&[&[]], 1000, 10.0), (512 * mb, 50.0));
    }
}
