//! A disk in memory that fails at a given step, forgets what was not synced, and can be full.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::disk::{Disk, Tail};

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Default)]
struct State {
    contents: Vec<Content>,
    /// Which content each name stands for; and which it will stand for after a power cut.
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    steps: u64,
    fails_at: Option<u64>,
    full: bool,
    random: u64,
}

impl State {
    /// The step fails, and so do all behind it.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        match self.fails_at {
            Some(step) if self.steps >= step => Err(io::Error::other("the process is dead")),
            _ => Ok(()),
        }
    }

    /// At most `max`.
    fn random(&mut self, max: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % (max + 1)
    }

    fn content(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// The disk.
#[derive(Clone, Default)]
pub(super) struct Plate(Arc<Mutex<State>>);

impl Plate {
    pub(super) fn failing_at(step: u64, seed: u64) -> Self {
        let state = State { fails_at: Some(step), random: seed, ..State::default() };
        Plate(Arc::new(Mutex::new(state)))
    }

    pub(super) fn with(name: &str, bytes: &[u8]) -> Self {
        let plate = Plate::default();
        let mut state = plate.state();
        state.contents.push(Content { bytes: bytes.to_vec(), synced: bytes.len() });
        state.names.insert(name.to_owned(), 0);
        drop(state);
        plate
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it")
    }

    pub(super) fn steps(&self) -> u64 {
        self.state().steps
    }

    pub(super) fn fill(&self, full: bool) {
        self.state().full = full;
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.contents[state.names[name]].bytes.clone()
    }

    /// The process has died; with `power_cut` what was not synced is there in part, in any part.
    pub(super) fn restart(&self, power_cut: bool) {
        let mut state = self.state();
        state.fails_at = None;
        if !power_cut {
            return;
        }
        state.names = state.durable.clone();
        for content in 0..state.contents.len() {
            let Content { bytes, synced } = state.contents[content].clone();
            let kept = synced + state.random(bytes.len() - synced);
            state.contents[content].bytes.truncate(kept);
            if kept > synced && state.random(1) == 0 {
                // A page of it never came.
                let hole = synced + state.random(kept - synced - 1);
                state.contents[content].bytes[hole] = 0;
            }
            state.contents[content].synced = kept;
        }
    }
}

impl Disk for Plate {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.step()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn read(&self, name: &str, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let state = self.state();
        let bytes = &state.contents[state.content(name)?].bytes;
        let start = bytes.len().min(offset as usize);
        Ok(bytes[start..bytes.len().min(start.saturating_add(bytes_max))].to_vec())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        let state = self.state();
        Ok(state.contents[state.content(name)?].bytes.len() as u64)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let content = state.content(name)?;
        state.contents[content].synced = state.contents[content].bytes.len();
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Tail>> {
        let mut state = self.state();
        state.step()?;
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = state.contents.len();
        state.contents.push(Content::default());
        state.names.insert(name.to_owned(), content);
        Ok(Box::new(PlateTail { plate: self.clone(), content }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let content = state.content(from)?;
        let done = state.step();
        // Whoever dies while a name changes finds it changed, or not.
        if done.is_ok() || state.random(1) == 0 {
            state.names.remove(from);
            state.names.insert(to.to_owned(), content);
            if state.random(1) == 0 {
                state.durable = state.names.clone();
            }
        }
        done
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.names.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.durable = state.names.clone();
        Ok(())
    }
}

struct PlateTail {
    plate: Plate,
    content: usize,
}

impl Tail for PlateTail {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.plate.state();
        let done = if state.full { Err(io::ErrorKind::StorageFull.into()) } else { state.step() };
        // Of a write that fails any part may be there.
        let written = if done.is_ok() { bytes.len() } else { state.random(bytes.len()) };
        state.contents[self.content].bytes.extend_from_slice(&bytes[..written]);
        done
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.plate.state();
        let done = state.step();
        if done.is_ok() || state.random(1) == 0 {
            let bytes = state.contents[self.content].bytes.len();
            state.contents[self.content].synced = bytes;
        }
        done
    }
}
