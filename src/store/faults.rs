//! Journal and blobs on a disk that fails, is full, or loses what was not synced when the power goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;

use super::blobs::Blobs;
use super::disk::{Disk, Handle};
use super::journal::Journal;
use crate::records::{Hash, What};

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    /// One of `0 .. n`.
    fn below(&mut self, n: usize) -> usize {
        // Knuth's MMIX generator, of which the upper bits are good.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// It fails, and so do those after it.
    PowerCut,
    /// It fails.
    Fails,
    /// There is no room, now and for some calls after.
    Full,
    /// Half of what was to be written is, and the rest is tried again.
    Short,
}

/// A file: what it holds, and how much of that a power cut leaves.
#[derive(Debug, Clone, Default)]
struct Node {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    /// A disk that says it has synced and has not.
    lies: bool,
}

/// A disk in memory.
#[derive(Debug, Clone, Default)]
struct Simulated(Arc<Mutex<State>>);

#[derive(Debug)]
struct Open {
    disk: Simulated,
    node: usize,
}

impl Simulated {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Counts a call that changes something; what happens at it.
    fn call(&self) -> Result<Option<Fault>> {
        let mut state = self.state();
        state.calls += 1;
        let at = state.calls;
        match state.fault {
            Some((first, Fault::PowerCut)) if at >= first => Err(Error::other("the power is gone")),
            Some((first, Fault::Full)) if (first..first + 6).contains(&at) => {
                Err(ErrorKind::StorageFull.into())
            }
            Some((first, Fault::Fails)) if at == first => Err(Error::other("the disk says no")),
            Some((first, Fault::Short)) if at == first => Ok(Some(Fault::Short)),
            _ => Ok(None),
        }
    }

    /// Power goes and comes back: of what was not synced some first part is there, or nothing; names that were not synced
    /// are as they were.
    fn cut_power(&self, dice: &mut Dice) {
        let mut state = self.state();
        state.names = state.durable_names.clone();
        for node in &mut state.nodes {
            let mut left = node.durable.clone();
            if node.bytes.starts_with(&node.durable) && dice.below(2) == 0 {
                let more = dice.below(node.bytes.len() - node.durable.len() + 1);
                left = node.bytes[..node.durable.len() + more].to_vec();
            }
            (node.bytes, node.durable) = (left.clone(), left);
        }
        state.fault = None;
    }

    fn open_node(&self, path: &Path, empty: bool) -> Result<Box<dyn Handle>> {
        self.call()?;
        let mut state = self.state();
        let known = state.names.get(path).copied();
        let node = match known {
            Some(node) => node,
            None => {
                state.nodes.push(Node::default());
                let node = state.nodes.len() - 1;
                state.names.insert(path.to_path_buf(), node);
                node
            }
        };
        if empty {
            state.nodes[node].bytes.clear();
        }
        Ok(Box::new(Open {
            disk: self.clone(),
            node,
        }))
    }
}

impl Disk for Simulated {
    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let state = self.state();
        let node = state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(state.nodes[*node].bytes.clone())
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Handle>> {
        self.open_node(path, false)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn Handle>> {
        self.open_node(path, true)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call()?;
        let mut state = self.state();
        let node = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), node);
        Ok(())
    }

    fn make_folder(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        self.call()?;
        let mut state = self.state();
        if state.lies {
            return Ok(());
        }
        let state = &mut *state;
        let is_in = |name: &PathBuf| name.parent() == Some(path);
        state.durable_names.retain(|name, _| !is_in(name));
        let now = state.names.iter().filter(|(name, _)| is_in(name));
        state
            .durable_names
            .extend(now.map(|(name, node)| (name.clone(), *node)));
        Ok(())
    }

    fn free(&self, _path: &Path) -> Option<u64> {
        None
    }
}

impl Handle for Open {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let fault = self.disk.call();
        let short = match &fault {
            Ok(None) => bytes.len(),
            // What fails may have been written in part.
            _ => bytes.len() / 2,
        };
        self.disk.state().nodes[self.node]
            .bytes
            .extend_from_slice(&bytes[..short]);
        fault.map(|_| short)
    }

    fn sync(&mut self) -> Result<()> {
        self.disk.call()?;
        let mut state = self.disk.state();
        if !state.lies {
            let node = &mut state.nodes[self.node];
            node.durable = node.bytes.clone();
        }
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        self.disk.call()?;
        self.disk.state().nodes[self.node].bytes.truncate(length as usize);
        Ok(())
    }
}

const STORE: &str = "/project/store";

/// A store's two halves that have to hold.
struct Half {
    blobs: Blobs,
    journal: Journal,
}

fn open(disk: &Simulated) -> std::result::Result<Half, super::StoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let blobs = Blobs::on(Arc::clone(&disk), &Path::new(STORE).join("blobs"))?;
    let journal = Journal::open_on(disk, Path::new(STORE), &mut Vec::new())?;
    Ok(Half { blobs, journal })
}

impl Half {
    /// What a correction does: its bytes, then the entry that names them.
    fn commit(&mut self, n: u64) -> std::result::Result<(String, Hash), super::StoreError> {
        let hash = self
            .blobs
            .put(format!("the mask of {n}, {}", "x".repeat(40)).as_bytes())?;
        let why = format!("{n} {hash}");
        let at = Timestamp::UNIX_EPOCH;
        self.journal
            .append(at, "ann", What::Reopened, Some(why.clone()), Vec::new())?;
        Ok((why, hash))
    }

    /// Whether everything that was acknowledged is there, in order, and what it names.
    fn has(&self, acknowledged: &[(String, Hash)]) -> bool {
        let entries = self.journal.entries_after(0).unwrap();
        let whys: Vec<String> = entries.into_iter().map(|entry| entry.why.unwrap()).collect();
        let mut at = 0;
        acknowledged.iter().all(|(why, hash)| {
            let found = whys[at..].iter().position(|known| known == why);
            at += found.map_or(0, |found| found + 1);
            found.is_some() && self.blobs.get(*hash).is_ok()
        })
    }
}

/// Commits on a disk that fails at call `first`, and opens it again after a power cut; whether all is there, and how many
/// calls there were.
fn survives(first: usize, fault: Fault, lies: bool, dice: &mut Dice) -> (bool, usize) {
    let disk = Simulated::default();
    disk.state().lies = lies;
    let mut acknowledged = Vec::new();
    let mut half = open(&disk).unwrap();
    let before = disk.state().calls;
    disk.state().fault = Some((before + first, fault));
    for n in 0..8 {
        match half.commit(n) {
            Ok(done) => acknowledged.push(done),
            Err(error) => {
                let text = error.to_string();
                assert!(fault != Fault::Full || text.contains("overtrace gc"), "{text}");
                // What could not be taken back stops all that follows, until the next start.
                if !half.has(&acknowledged) {
                    return (false, 0);
                }
            }
        }
    }
    let calls = disk.state().calls - before;
    // Beside a power cut at some call, one after the last.
    disk.cut_power(dice);
    let Ok(mut half) = open(&disk) else {
        return (false, calls);
    };
    let all = half.has(&acknowledged);
    // And it works again.
    let next = half.commit(99).unwrap();
    acknowledged.push(next);
    (all && half.has(&acknowledged), calls)
}

#[test]
fn every_call_may_fail_and_nothing_acknowledged_is_lost() {
    let mut dice = Dice(1);
    let (whole, calls) = survives(usize::MAX / 2, Fault::Fails, false, &mut dice);
    assert!(whole && calls > 60, "{calls}");
    for fault in [Fault::Fails, Fault::Full, Fault::Short, Fault::PowerCut] {
        for first in 1..=calls + 1 {
            let (all, _) = survives(first, fault, false, &mut dice);
            assert!(all, "{fault:?} at call {first}");
        }
    }
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_and_without_syncing_it_would() {
    let mut dice = Dice(2);
    let mut lost = BTreeSet::new();
    for cut in 0..400 {
        let first = 1 + dice.below(90);
        assert!(
            survives(first, Fault::PowerCut, false, &mut dice).0,
            "cut {cut} at call {first}"
        );
        if !survives(first, Fault::PowerCut, true, &mut dice).0 {
            lost.insert(cut);
        }
    }
    assert!(lost.len() > 100, "the control lost {} times", lost.len());
}
