//! A project in one file, and a project out of one: a tar of the settings, the journal up to one entry, every blob, and
//! what waits in the inbox. The index is left out: it is made anew.
//!
//! A project may be backed up while its engine runs. The journal is read first and its last whole line ends the copy; blobs
//! are written before the lines that name them and never change, so that those there are afterwards are enough. Only where
//! the journal says afterwards that something was taken away meanwhile is the copy made once more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Builder, EntryType, Header};
use tempfile::NamedTempFile;

use super::journal::{self, Walk};
use super::{FOLDER, StoreError, folder_of, private_folder};
use crate::records::{Archived, Entry, Hash, Row};

/// Where the parts of a store lie in a project.
fn inside(part: &str) -> PathBuf {
    Path::new(FOLDER).join(part)
}

fn journal_inside() -> PathBuf {
    inside("journal").join(journal::FILE)
}

/// The settings, which wait for nobody.
const SETTINGS: &str = "overtrace.toml";
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
        return Err(StoreError::io("writing", to)(ErrorKind::AlreadyExists.into()));
    }
    let erasures = |entries: &[Entry]| {
        let rows = entries.iter().flat_map(|entry| &entry.rows);
        rows.filter(|row| matches!(row, Row::Erasure(_))).count()
    };
    loop {
        let walked = journal::walk(&store)?.whole(&store)?;
        let made = copy(project, &walked, to, also, report);
        if erasures(&journal::walk(&store)?.entries) == erasures(&walked.entries) {
            let (archive, made) = made?;
            archive
                .persist_noclobber(to)
                .map_err(|error| StoreError::io("writing", to)(error.error))?;
            return Ok(made);
        }
    }
}

/// Writes everything to a file beside `to`, synced.
fn copy(
    project: &Path,
    walked: &Walk,
    to: &Path,
    also: &[PathBuf],
    report: &mut dyn FnMut(u64, u64),
) -> Result<(NamedTempFile, Archived), StoreError> {
    let mut files: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for shelf in listed(&project.join(inside("blobs")))? {
        for blob in listed(&shelf)? {
            let meta = fs::metadata(&blob).map_err(StoreError::io("looking at", &blob))?;
            // Files that are being written have other names.
            if name_of(&blob).parse::<Hash>().is_ok() {
                files.insert(blob, meta.len());
            }
        }
    }
    let blobs = files.len();
    let all: u64 = files.values().sum();
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    // Made 0600, whatever the umask.
    let mut temporary = NamedTempFile::new_in(parent.unwrap_or(Path::new(".")))
        .map_err(StoreError::io("making a file beside", to))?;
    let writing = || StoreError::io("writing", to);
    let mut tar = Builder::new(BufWriter::new(temporary.as_file_mut()));
    let head = serde_json::to_vec(&walked.head).expect("two plain fields");
    for (path, bytes) in [(journal_inside(), &walked.lines), (inside("head"), &head)] {
        add(&mut tar, &path, bytes.as_slice(), bytes.len() as u64).map_err(writing())?;
    }
    let mut done = 0;
    for (path, bytes) in files {
        let file = File::open(&path).map_err(StoreError::io("opening", &path))?;
        let place = path
            .strip_prefix(project)
            .expect("every blob lies in the project");
        add(&mut tar, place, file, bytes).map_err(StoreError::io("copying", &path))?;
        done += bytes;
        report(done, all);
    }
    let mut waiting = 0;
    for place in also {
        // What people drop may change or go at any moment: each file is read whole, as it is now.
        let path = project.join(place);
        let how = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        let Ok(mut file) = how else { continue };
        if !file.metadata().is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(StoreError::io("reading", &path))?;
        add(&mut tar, place, bytes.as_slice(), bytes.len() as u64).map_err(writing())?;
        waiting += usize::from(place != Path::new(SETTINGS));
        done += bytes.len() as u64;
    }
    tar.into_inner()
        .and_then(|mut file| file.flush())
        .map_err(writing())?;
    temporary.as_file().sync_all().map_err(writing())?;
    let made = Archived {
        entries: walked.entries.len(),
        blobs,
        waiting,
        bytes: done + walked.lines.len() as u64,
    };
    Ok((temporary, made))
}

fn add(tar: &mut Builder<impl Write>, path: &Path, data: impl Read, bytes: u64) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(bytes);
    header.set_mtime(0);
    let mut data = data.take(bytes);
    tar.append_data(&mut header, path, &mut data)?;
    // The header has said how many there are.
    match data.limit() {
        0 => Ok(()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
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
    let mut file = File::open(from).map_err(StoreError::io("opening", from))?;
    // An archive ends in two empty blocks; one that was cut off between two files would be read without a word.
    let mut end = [1; 1024];
    let ends = file
        .seek(SeekFrom::End(-1024))
        .and_then(|_| file.read_exact(&mut end))
        .and_then(|()| file.seek(SeekFrom::Start(0)));
    if ends.is_err() || end != [0; 1024] {
        return Err(bad("it is cut off, or no archive".into()));
    }
    let mut folders = BTreeSet::new();
    let mut archive = Archive::new(BufReader::new(file));
    let mut found = Archived::default();
    let reading = |error: std::io::Error| bad(format!("it cannot be read: {error}"));
    for item in archive.entries().map_err(reading)? {
        let mut item = item.map_err(reading)?;
        let place = item.path().map_err(reading)?.into_owned();
        let is_plain = place
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if item.header().entry_type() != EntryType::Regular || !is_plain || item.size() > LONGEST_FILE {
            return Err(bad(format!("{place:?} has no place in it")));
        }
        let path = beside.path().join(&place);
        let is_blob = place.starts_with(inside("blobs"));
        let hash = write(&mut item, &path)?;
        folders.extend(
            path.ancestors()
                .skip(1)
                .take_while(|path| path.starts_with(beside.path()))
                .map(Path::to_path_buf),
        );
        if is_blob && name_of(&path) != hash.to_string() {
            return Err(bad(format!("{} is not what its name says", place.display())));
        }
        found.blobs += usize::from(is_blob);
        found.bytes += item.size();
        found.waiting += usize::from(!place.starts_with(FOLDER) && place != Path::new(SETTINGS));
    }
    if !beside.path().join(journal_inside()).is_file() {
        return Err(bad("there is no journal in it".into()));
    }
    found.entries = journal::walk(&beside.path().join(FOLDER))?
        .whole(from)?
        .entries
        .len();
    for folder in &folders {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(StoreError::io("syncing", folder))?;
    }
    if project.exists() {
        fs::remove_dir(project).map_err(StoreError::io("replacing", project))?;
    }
    fs::rename(beside.path(), project).map_err(StoreError::io("renaming to", project))?;
    // It is the project's folder now, and stays.
    let _ = beside.keep();
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
