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
        /// GPUs it could have taken; 0 on the CPU.
        gpus: usize,
    },
    /// Something went on.
    Progress(Progress),
    /// The task ended. Nothing follows.
    Done(TaskResult),
}

/// The version of this program and of the messages it understands: programs of the same version may have been built from
/// different sources.
pub fn build() -> String {
    let messages = [
        include_str!("frames.rs"),
        include_str!("parser.rs"),
        include_str!("../imaging/nifti/mod.rs"),
        include_str!("../imaging/geometry.rs"),
        include_str!("../imaging/plane.rs"),
        include_str!("../imaging/volume.rs"),
        include_str!("../records/ids.rs"),
        include_str!("../records/model.rs"),
        include_str!("../records/task.rs"),
        include_str!("../records/bench.rs"),
        include_str!("../settings/mod.rs"),
        include_str!("../settings/compute.rs"),
        include_str!("../settings/network.rs"),
        include_str!("../settings/query.rs"),
        include_str!("../settings/recipe.rs"),
    ];
    let hash = blake3::hash(messages.concat().as_bytes()).to_hex();
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
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written_one_by_one() {
        let messages = [
            Said::Progress(Progress::Drawing),
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
