//! A group that shares a project: what its members may reach, and nobody else.
//!
//! Without `store.share_group` everything is the owner's alone (0700, 0600). With it the group may pass through the project's
//! folder (0710), read what was handed out (0750, 0640), drop files into the inbox (2770: what is dropped is the group's) and
//! talk to the engine (0660). Store, logs, what was taken in and what is held stay the owner's.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use super::EngineError;
use crate::settings::Settings;

/// Whom a project is shared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing(Option<u32>);

/// What the group may do with a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Pass through a folder whose names it knows.
    Through,
    /// Look into a folder.
    Look,
    /// Look into a folder and put something there.
    Drop,
    /// Read a file.
    Read,
    /// Talk at a socket.
    Talk,
}

impl Share {
    /// The mode with a group, and without one.
    fn modes(self) -> [u32; 2] {
        match self {
            Share::Through => [0o710, 0o700],
            Share::Look => [0o750, 0o700],
            Share::Drop => [0o2770, 0o700],
            Share::Read => [0o640, 0o600],
            Share::Talk => [0o660, 0o600],
        }
    }
}

impl Sharing {
    /// With nobody.
    pub const NOBODY: Sharing = Sharing(None);

    /// As the settings say.
    ///
    /// # Errors
    /// There is no such group.
    pub fn of(settings: &Settings) -> Result<Sharing, EngineError> {
        let name = settings.store.share_group.as_str();
        if name.is_empty() {
            return Ok(Sharing::NOBODY);
        }
        match uzers::get_group_by_name(name) {
            Some(group) => Ok(Sharing(Some(group.gid()))),
            None => EngineError::refused(format!(
                "there is no group {name:?} on this machine; name one in store.share_group, or leave it empty"
            )),
        }
    }

    /// Whether there is a group.
    pub fn is_shared(self) -> bool {
        self.0.is_some()
    }

    /// Gives the group what it may do with a file or folder, and takes everything else from everybody else.
    ///
    /// # Errors
    /// The system's: the owner is no member of the group, say.
    pub fn open(self, path: &Path, share: Share) -> Result<(), EngineError> {
        let [shared, private] = share.modes();
        let mode = match self.0 {
            None => private,
            Some(gid) => {
                chown(path, None, Some(gid)).map_err(EngineError::io("giving store.share_group", path))?;
                shared
            }
        };
        std::fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(EngineError::io("setting the mode of", path))
    }
}

/// The account's name, as the system knows it.
pub fn name_of(uid: u32) -> String {
    match uzers::get_user_by_uid(uid) {
        Some(user) => user.name().to_string_lossy().into_owned(),
        None => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_not_there_is_refused_by_name() {
        let mut settings = Settings::default();
        assert_eq!(Sharing::of(&settings).unwrap(), Sharing::NOBODY);
        settings.store.share_group = "no such group here".into();
        let words = Sharing::of(&settings).unwrap_err().to_string();
        assert!(
            words.contains("no such group here") && words.contains("store.share_group"),
            "{words}"
        );
    }

    #[test]
    fn without_a_group_everything_is_the_owner_s_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        for share in [Share::Through, Share::Look, Share::Drop] {
            Sharing::NOBODY.open(folder.path(), share).unwrap();
            let mode = std::fs::metadata(folder.path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{share:?}");
        }
    }
}
