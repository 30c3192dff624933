//! What an experiment was computed on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::put;
use crate::cli::Doors;
use crate::records::{BenchTask, Machine};
use crate::settings::Settings;

/// Beside its runs.
const MACHINES: &str = "machines.json";

/// What an experiment was begun on, and gone on with since: its times are of all of them.
pub struct Machines<'a> {
    doors: &'a Doors,
    file: PathBuf,
    is_noted: bool,
    /// In that order.
    pub known: Vec<Machine>,
}

impl<'a> Machines<'a> {
    /// Those of the experiment in `folder`. What cannot be read, or was written by another version, is forgotten.
    pub fn open(doors: &'a Doors, folder: &Path) -> Machines<'a> {
        let file = folder.join(MACHINES);
        let known = fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Machines {
            doors,
            file,
            is_noted: false,
            known: known.unwrap_or_default(),
        }
    }

    /// Notes that this machine computes, the first time that it does.
    pub fn note(&mut self, settings: &Settings) -> Result<()> {
        if self.is_noted {
            return Ok(());
        }
        let task = BenchTask {
            networks: settings.model.networks,
            base_channels: Vec::new(),
            batch: 1,
            threads: settings.training.threads,
            runs: 0,
            volume: false,
            precision: settings.compute.precision,
        };
        let machine = (self.doors.bench)(&task, &settings.compute, &mut |_| ())?;
        if !self.known.contains(&machine) {
            self.known.push(machine);
            put(&self.file, &serde_json::to_vec_pretty(&self.known)?)?;
        }
        self.is_noted = true;
        Ok(())
    }
}
