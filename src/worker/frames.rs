//! Messages on a pipe: the length in four bytes, then the message in bincode.

use std::io::{Error, ErrorKind, Read, Result, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::records::{Progress, TaskResult};

/// Bytes of a worker's message at most: the sums of every slice of a large volume are some hundred thousand.
pub const LONGEST: u32 = 64 << 20;

/// Bytes of a short message.
pub const SHORT: u32 = 1024;

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Said {
    /// It has what it computes with.
    Ready {
        /// [`build`] of its program.
        build: String,
        /// The numbers of the GPUs that there are, of the one that it has first; none on the CPU.
        gpus: Vec<usize>,
    },
    /// Something went on.
    Progress(Progress),
    /// The task ended. Nothing follows.
    Done(TaskResult),
    /// It wants another case to draw; the answer is an `Option<PredictCase>`, none where none is left.
    Next,
}

/// Files, each with what stands in it.
macro_rules! sources {
    ($($path:literal),* $(,)?) => { [$(($path, include_str!($path))),*] };
}

/// Where the types of all messages stand.
const SOURCES: &[(&str, &str)] = &sources![
    "frames.rs",
    "parser.rs",
    "../imaging/nifti/mod.rs",
    "../imaging/geometry.rs",
    "../imaging/plane.rs",
    "../imaging/volume.rs",
    "../records/ids.rs",
    "../records/model.rs",
    "../records/task.rs",
    "../records/bench.rs",
    "../settings/mod.rs",
    "../settings/compute.rs",
    "../settings/network.rs",
    "../settings/recipe.rs",
    "../settings/text.rs",
];

/// The version of this program and of the messages it understands: programs of the same version may have been built from
/// different sources.
pub fn build() -> String {
    let messages: String = SOURCES.iter().map(|(_, text)| *text).collect();
    let hash = blake3::hash(messages.as_bytes()).to_hex();
    format!("{} {}", env!("CARGO_PKG_VERSION"), &hash[..8])
}

/// Writes one message of at most `longest` bytes.
///
/// # Errors
/// A message longer than that, or what the writer says.
pub fn write(mut to: impl Write, message: &impl Serialize, longest: u32) -> Result<()> {
    let bytes = bincode::serde::encode_to_vec(message, bincode::config::standard())
        .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length <= longest);
    let length = length.ok_or_else(|| too_long(bytes.len(), longest))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads one message of at most `longest` bytes; `None` where the other end closed the pipe between two.
///
/// # Errors
/// A message that is longer, torn or not what is expected, or what the reader says.
pub fn read<T: DeserializeOwned>(mut from: impl Read, longest: u32) -> Result<Option<T>> {
    let mut length = [0; 4];
    let mut got = 0;
    while got < length.len() {
        match from.read(&mut length[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = u32::from_le_bytes(length);
    if length > longest {
        return Err(too_long(length as usize, longest));
    }
    // Grows with what comes: a length alone takes no memory.
    let mut bytes = Vec::with_capacity((length as usize).min(1 << 16));
    from.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    // Lengths inside the message are believed no further than the frame's own.
    let standard = bincode::config::standard();
    let decoded = if longest <= SHORT {
        bincode::serde::decode_from_slice(&bytes, standard.with_limit::<{ SHORT as usize }>())
    } else if longest <= LONGEST {
        bincode::serde::decode_from_slice(&bytes, standard.with_limit::<{ LONGEST as usize }>())
    } else {
        bincode::serde::decode_from_slice(&bytes, standard.with_limit::<{ u32::MAX as usize }>())
    };
    let (message, used) = decoded.map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    if used != bytes.len() {
        return Err(Error::new(
            ErrorKind::InvalidData,
            format!("a message of {used} bytes in a frame of {length}"),
        ));
    }
    Ok(Some(message))
}

fn too_long(bytes: usize, longest: u32) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("a message of {bytes} bytes; at most {longest} are taken"),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The names of types that a line names: after `:`, `(`, `<`, `[`, `,` or `&`; what a line begins with is a name of its own.
    fn types(line: &str) -> Vec<&str> {
        let line = line.split("//").next().unwrap_or_default();
        let words = line.split(|c: char| !c.is_alphanumeric());
        let is_type = |word: &&str| {
            let before = &line[..word.as_ptr() as usize - line.as_ptr() as usize];
            word.starts_with(char::is_uppercase)
                && before.trim_end().ends_with([':', '(', '<', '[', ',', '&'])
        };
        words.filter(is_type).collect()
    }

    /// Every type of the rooms that messages come from: the file it stands in, and the types it is made of.
    fn definitions() -> BTreeMap<String, Vec<(PathBuf, Vec<String>)>> {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut left: Vec<PathBuf> = ["worker", "records", "settings", "imaging"]
            .map(|room| src.join(room))
            .into();
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for (at, line) in text.lines().enumerate() {
                let words = ["pub ", "pub(super) ", "pub(crate) "];
                let line = words
                    .iter()
                    .find_map(|words| line.strip_prefix(words))
                    .unwrap_or(line);
                let Some(line) = ["struct ", "enum ", "type "]
                    .into_iter()
                    .find_map(|kind| line.strip_prefix(kind))
                else {
                    continue;
                };
                let name = line.split(|c: char| !c.is_alphanumeric()).next().unwrap();
                // One line, or all up to the brace that stands where the definition began.
                let is_one = line.ends_with([';', '}']);
                let others = text
                    .lines()
                    .skip(at + 1)
                    .take_while(|line| !is_one && *line != "}");
                let made_of = [&line[name.len()..]].into_iter().chain(others).flat_map(types);
                let definition = (path.clone(), made_of.map(String::from).collect());
                found.entry(name.to_string()).or_default().push(definition);
            }
        }
        found
    }

    #[test]
    fn a_build_is_known_by_the_types_of_all_messages() {
        let definitions = definitions();
        let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/worker");
        let listed: BTreeSet<PathBuf> = SOURCES
            .iter()
            .map(|(path, _)| worker.join(path).canonicalize().unwrap())
            .collect();
        let mut left: Vec<String> = ["Said", "Task", "PredictCase", "Question", "Answer"]
            .map(String::from)
            .into();
        let (mut seen, mut files) = (BTreeSet::new(), BTreeSet::new());
        while let Some(name) = left.pop() {
            let [(path, made_of)] = &definitions.get(&name).map_or(&[][..], Vec::as_slice) else {
                let known = ["BTreeMap", "Box", "Option", "PathBuf", "String", "Vec"];
                assert!(
                    known.contains(&&name[..]),
                    "{name} is defined elsewhere, or twice"
                );
                continue;
            };
            assert!(listed.contains(path), "{name} stands in {}", path.display());
            files.insert(path.clone());
            if seen.insert(name) {
                left.extend(made_of.iter().cloned());
            }
        }
        // How `as_text!` writes some of them.
        files.insert(worker.join("../settings/text.rs").canonicalize().unwrap());
        assert_eq!(files, listed, "{seen:?}");
    }

    #[test]
    fn messages_are_read_as_they_were_written_one_by_one() {
        let messages = [
            Said::Progress(Progress::Drawing),
            Said::Next,
            Said::Done(TaskResult::Failed("no reason".into())),
        ];
        let mut pipe = Vec::new();
        for message in &messages {
            write(&mut pipe, message, LONGEST).unwrap();
        }
        let mut rest = &pipe[..];
        for message in messages {
            assert_eq!(read(&mut rest, LONGEST).unwrap(), Some(message));
        }
        assert_eq!(read::<Said>(&mut rest, LONGEST).unwrap(), None);
    }

    #[test]
    fn a_torn_an_overlong_and_a_padded_message_are_errors() {
        let mut pipe = Vec::new();
        write(&mut pipe, &Said::Progress(Progress::Drawing), LONGEST).unwrap();
        for end in 1..pipe.len() {
            assert!(read::<Said>(&pipe[..end], LONGEST).is_err(), "{end} bytes");
        }
        assert!(read::<Said>(&u32::MAX.to_le_bytes()[..], LONGEST).is_err());
        pipe.push(0);
        pipe[0] += 1;
        assert!(read::<Said>(&pipe[..], LONGEST).is_err());
    }
}
