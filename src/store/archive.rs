//! A project in one file, and a project out of one: a tar of the settings, the journal up to one entry, every blob, and
//! what waits in the inbox. The index is left out: it is made anew.
//!
//! A project may be backed up while its engine runs. The journal is read first and its last whole line ends the copy; blobs
//! are written before the lines that name them and never change, so that those there are afterwards are enough.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Builder, EntryType, Header};

use super::journal::{self, Walk};
use super::{FOLDER, StoreError, folder_of, private_folder};
use crate::records::{Archived, Hash};

const JOURNAL: &str = "store/journal/0001.jsonl";
const HEAD: &str = "store/head";
const BLOBS: &str = "store/blobs";
/// Bytes of one file at most; an archive that says more is none of ours.
const LONGEST_FILE: u64 = 1 << 40;

/// Writes a project to `to`, which must not be there yet; `also` are further files, by their paths in the project. `report`
/// hears how many bytes of how many are written.
///
/// # Errors
/// [`StoreError::Io`], and [`StoreError::Journal`] where the journal does not hold: nothing is left at `to` then.
pub fn backup(
    project: &Path,
    to: &Path,
    also: &[PathBuf],
    report: &mut dyn FnMut(u64, u64),
) -> Result<Archived, StoreError> {
    let store = folder_of(project)?;
    if to.exists() {
        return Err(StoreError::io("writing", to)(
            std::io::ErrorKind::AlreadyExists.into(),
        ));
    }
    let Walk { entries, problem } = journal::walk(&store)?;
    if let Some((line, problem)) = problem {
        let path = project.join(JOURNAL);
        return Err(StoreError::Journal { path, line, problem });
    }
    let lines = entries.len();
    drop(entries);
    let mut files: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for shelf in listed(&store.join("blobs"))? {
        for blob in listed(&shelf)? {
            let meta = fs::metadata(&blob).map_err(StoreError::io("looking at", &blob))?;
            // Files that are being written have other names.
            if name_of(&blob).parse::<Hash>().is_ok() {
                files.insert(blob, meta.len());
            }
        }
    }
    let blobs = files.len();
    let mut waiting = 0;
    for path in also.iter().map(|path| project.join(path)) {
        if let Ok(meta) = fs::symlink_metadata(&path).map_err(|_| ())
            && meta.is_file()
        {
            waiting += usize::from(!path.ends_with("overtrace.toml"));
            files.insert(path, meta.len());
        }
    }
    let all = files.values().sum();
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    // Made 0600, whatever the umask.
    let mut temporary = tempfile::NamedTempFile::new_in(parent.unwrap_or(Path::new(".")))
        .map_err(StoreError::io("making a file beside", to))?;
    let writing = || StoreError::io("writing", to);
    let mut tar = Builder::new(BufWriter::new(temporary.as_file_mut()));
    let (text, head) = journal_of(&store, lines)?;
    add(&mut tar, Path::new(JOURNAL), text.as_slice(), text.len() as u64).map_err(writing())?;
    add(&mut tar, Path::new(HEAD), head.as_slice(), head.len() as u64).map_err(writing())?;
    let mut done = 0;
    for (path, bytes) in files {
        let file = File::open(&path).map_err(StoreError::io("opening", &path))?;
        let inside = path
            .strip_prefix(project)
            .expect("every file was found in the project");
        add(&mut tar, inside, file.take(bytes), bytes).map_err(StoreError::io("copying", &path))?;
        done += bytes;
        report(done, all);
    }
    tar.into_inner()
        .and_then(|mut file| file.flush())
        .map_err(writing())?;
    temporary.as_file().sync_all().map_err(writing())?;
    temporary
        .persist_noclobber(to)
        .map_err(|error| writing()(error.error))?;
    Ok(Archived {
        entries: lines,
        blobs,
        waiting,
        bytes: all + text.len() as u64,
    })
}

/// The first lines of the journal, and the head that goes with them.
fn journal_of(store: &Path, lines: usize) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let path = store.join("journal/0001.jsonl");
    let mut text = fs::read(&path).map_err(StoreError::io("reading", &path))?;
    let ends = text.split_inclusive(|&b| b == b'\n').take(lines).map(<[u8]>::len);
    let length = ends.sum();
    text.truncate(length);
    let head = journal::head_of(&path, &text)?;
    Ok((text, serde_json::to_vec(&head).expect("two plain fields")))
}

fn add(tar: &mut Builder<impl Write>, path: &Path, data: impl Read, bytes: u64) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(bytes);
    header.set_mtime(0);
    let mut data = data;
    tar.append_data(&mut header, path, &mut data)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    fs::read_dir(folder)
        .and_then(|items| items.map(|item| item.map(|item| item.path())).collect())
        .map_err(StoreError::io("looking into", folder))
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Makes the project of an archive in `project`, which must not be there yet. It appears whole or not at all: every blob is
/// held against its name, and the journal's chain is walked.
///
/// # Errors
/// [`StoreError::Exists`], [`StoreError::Io`], [`StoreError::Journal`], and [`StoreError::Archive`] where the file is no
/// archive of a project.
pub fn restore(from: &Path, project: &Path) -> Result<Archived, StoreError> {
    if project.exists() && fs::read_dir(project).map_or(true, |mut items| items.next().is_some()) {
        return Err(StoreError::Exists {
            path: project.to_path_buf(),
        });
    }
    let parent = project.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    private_folder(parent)?;
    let beside = tempfile::Builder::new()
        .prefix(".restoring-")
        .tempdir_in(parent)
        .map_err(StoreError::io("making a folder in", parent))?;
    let bad = |problem: String| StoreError::Archive {
        path: from.to_path_buf(),
        problem,
    };
    let file = File::open(from).map_err(StoreError::io("opening", from))?;
    let mut archive = Archive::new(BufReader::new(file));
    let mut found = Archived::default();
    let reading = |error: std::io::Error| bad(format!("it cannot be read: {error}"));
    for item in archive.entries().map_err(reading)? {
        let mut item = item.map_err(reading)?;
        let inside = item.path().map_err(reading)?.into_owned();
        let is_plain = inside
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if item.header().entry_type() != EntryType::Regular || !is_plain || item.size() > LONGEST_FILE {
            return Err(bad(format!("{inside:?} has no place in it")));
        }
        let path = beside.path().join(&inside);
        let is_blob = inside.starts_with(BLOBS);
        let hash = write(&mut item, &path)?;
        if is_blob && name_of(&path) != hash.to_string() {
            return Err(bad(format!("{} is not what its name says", inside.display())));
        }
        found.blobs += usize::from(is_blob);
        found.bytes += item.size();
        found.waiting += usize::from(!inside.starts_with(FOLDER) && inside != Path::new("overtrace.toml"));
    }
    if !beside.path().join(JOURNAL).is_file() {
        return Err(bad("there is no journal in it".into()));
    }
    let Walk { entries, problem } = journal::walk(&beside.path().join(FOLDER))?;
    if let Some((line, problem)) = problem {
        let path = from.join(JOURNAL);
        return Err(StoreError::Journal { path, line, problem });
    }
    found.entries = entries.len();
    if project.exists() {
        fs::remove_dir(project).map_err(StoreError::io("replacing", project))?;
    }
    let whole = beside.keep();
    fs::rename(&whole, project).map_err(StoreError::io("renaming to", project))?;
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(StoreError::io("syncing", parent))?;
    Ok(found)
}

/// Writes a file for this user alone, synced; the hash of its bytes.
fn write(from: &mut impl Read, path: &Path) -> Result<Hash, StoreError> {
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    let writing = || StoreError::io("writing", path);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(writing())?;
    std::io::copy(from, &mut file).map_err(writing())?;
    file.sync_all().map_err(writing())?;
    file.seek(SeekFrom::Start(0)).map_err(writing())?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&file).map_err(writing())?;
    Ok(Hash::from_bytes(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::blobs::hash_of;

    #[test]
    fn a_file_that_is_written_is_hashed_as_a_blob_is() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = vec![7; 200_000];
        let hash = write(&mut &bytes[..], &folder.path().join("a/b")).unwrap();
        assert_eq!(hash, hash_of(&bytes));
    }
}
