//! Who is still writing: the files that some process has open for it.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The files that are open for writing, as far as this account may know: found out once, when it is first asked.
///
/// Of other accounts' processes, and of those that hide (an SFTP server does), nothing is seen: this comes beside the time that
/// a file has to rest, and does not stand in for it. A system without `/proc` shows none.
#[derive(Debug, Default)]
pub struct Writers(OnceCell<HashSet<(u64, u64)>>);

impl Writers {
    /// Whether a file is open for writing.
    pub fn have(&self, file: &Metadata) -> bool {
        self.0
            .get_or_init(open_for_writing)
            .contains(&(file.dev(), file.ino()))
    }
}

/// Device and inode of every regular file that is open for writing.
fn open_for_writing() -> HashSet<(u64, u64)> {
    let mut open = HashSet::new();
    let listed = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let is_number = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    for process in listed(Path::new("/proc")) {
        if !is_number(&process.file_name()) {
            continue;
        }
        for descriptor in listed(&process.path().join("fd")) {
            let info = process.path().join("fdinfo").join(descriptor.file_name());
            if !fs::read_to_string(info).is_ok_and(|info| is_written(&info)) {
                continue;
            }
            // Through the link: the file itself. Only of what is written: a dead network keeps whoever asks waiting.
            if let Ok(file) = fs::metadata(descriptor.path())
                && file.is_file()
            {
                open.insert((file.dev(), file.ino()));
            }
        }
    }
    open
}

/// Whether a descriptor's `fdinfo` says that it may be written through: the access mode is the last two bits of `flags`.
fn is_written(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 3 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_access_mode_is_in_the_last_two_bits_of_the_flags() {
        assert!(is_written("pos:\t0\nflags:\t0100001\nmnt_id:\t9\n"));
        assert!(is_written("flags:\t02\n"));
        assert!(!is_written("pos:\t0\nflags:\t0100000\n"));
        assert!(!is_written("pos:\t1\n"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_is_being_written_as_long_as_it_is_open_for_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.nii");
        let writer = fs::File::create(&path).unwrap();
        let reader = fs::File::open(&path).unwrap();
        let meta = reader.metadata().unwrap();
        assert!(Writers::default().have(&meta));
        drop(writer);
        assert!(!Writers::default().have(&meta), "read alone");
    }
}
