//! File systems of a network: no place for a store, and slow for an inbox.

use std::path::Path;

use super::EngineError;
use crate::settings::Settings;

/// File systems of a network, by the numbers that the kernel gives them: a lock there may be held twice, and what was synced
/// may be lost all the same.
const NETWORKS: [(i64, &str); 5] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
];

/// The network that a folder lies on, if it lies on one.
fn network_of(folder: &Path) -> Result<Option<&'static str>, EngineError> {
    let kind = rustix::fs::statfs(folder)
        .map_err(|error| EngineError::io("looking at the disk of", folder)(error.into()))?
        .f_type;
    Ok(network(kind as i64))
}

fn network(kind: i64) -> Option<&'static str> {
    // The kernel's numbers are 32 bits, whatever the field's width and sign.
    let kind = kind & 0xffff_ffff;
    let found = NETWORKS.iter().find(|(number, _)| *number == kind);
    found.map(|(_, name)| *name)
}

/// Refuses to keep a project where locks and syncing cannot be relied on, unless its owner says so.
pub fn check_place(folder: &Path, settings: &Settings) -> Result<(), EngineError> {
    refuse(network_of(folder)?, folder, settings)
}

fn refuse(network: Option<&str>, folder: &Path, settings: &Settings) -> Result<(), EngineError> {
    match network.filter(|_| !settings.store.network) {
        None => Ok(()),
        Some(name) => EngineError::refused(format!(
            "{} lies on {name}, whose locks and syncing cannot be relied on; put the project on a disk of this machine, or \
             say store.network = true in {} if it is yours alone and backed up",
            folder.display(),
            crate::settings::FILE
        )),
    }
}

/// How fast an inbox is gone through: on a network files come slowly, and events may not come at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Seconds that a file has to rest before it is read.
    pub rest_s: f64,
    /// Seconds between looks when no event says to look.
    pub look_s: f64,
    /// Whether a file rests by what earlier looks saw: its times are those of another machine's clock.
    pub by_looks: bool,
}

impl Pace {
    /// As the settings say; slower, and with more looks, on a network.
    pub fn of(inbox: &Path, settings: &Settings) -> Pace {
        Pace::on(network_of(inbox).ok().flatten(), settings)
    }

    fn on(network: Option<&str>, settings: &Settings) -> Pace {
        let (rest_s, look_s) = (settings.inbox.stable_s, settings.inbox.rescan_s);
        match network {
            None => Pace {
                rest_s,
                look_s,
                by_looks: false,
            },
            Some(_) => Pace {
                rest_s: rest_s.max(10.0),
                look_s: look_s.min(5.0),
                by_looks: true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_on_a_network_is_refused_unless_its_owner_says_so() {
        let (folder, mut settings) = (Path::new("/mnt/share"), Settings::default());
        assert_eq!(network(0x6969), Some("NFS"));
        // CIFS says it with its sign bit set.
        assert_eq!(network(-11_317_950), Some("SMB"));
        for local in [0xef53, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network(local), None);
        }
        let words = refuse(Some("NFS"), folder, &settings).unwrap_err().to_string();
        assert!(
            words.contains("NFS") && words.contains("store.network"),
            "{words}"
        );
        refuse(None, folder, &settings).unwrap();
        settings.store.network = true;
        refuse(Some("NFS"), folder, &settings).unwrap();
        let pace = |rest_s, look_s, by_looks| Pace {
            rest_s,
            look_s,
            by_looks,
        };
        assert_eq!(Pace::on(Some("NFS"), &settings), pace(10.0, 5.0, true));
        assert_eq!(Pace::on(None, &settings), pace(3.0, 30.0, false));
    }
}
