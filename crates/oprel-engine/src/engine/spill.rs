//! Pages and checkpoints to a store: what was computed is written out behind the work. How it comes back
//! is in `load`.

use oprel_nn::Exec;
use oprel_nn::state::PageId;

use super::Engine;
use crate::name::Name;
use crate::state::Place;
use crate::store::{PageKey, PageStore, Part};

/// Fewest whole pages of a text that is worth a store.
const FEWEST: usize = 2;
/// How often a store that is to be flushed may refuse before it is given up.
const PATIENCE: usize = 64;
/// Pages that are copied out in a step.
const A_STEP: usize = 1;

impl Engine {
    /// Keeps whole pages there too, from now on.
    pub fn set_store(&mut self, store: Box<dyn PageStore>) {
        self.store = Some(store);
    }

    /// Whether pages are to be written out.
    pub fn has_spills(&self) -> bool {
        self.store.is_some() && !self.spills.is_empty()
    }

    /// Writes out some pages; whether it is worth going on now.
    pub fn spill(&mut self) -> bool {
        self.spill_some(16) > 0
    }

    /// Writes out everything, and waits until it is safe.
    pub fn flush(&mut self) {
        let mut refused = 0;
        while self.has_spills() && refused < PATIENCE {
            refused = if self.spill_some(usize::MAX) > 0 { 0 } else { refused + 1 };
            if let Some(store) = self.store.as_mut().filter(|_| refused > 0) {
                store.flush();
            }
        }
        self.spills.clear();
        if let Some(store) = &mut self.store {
            store.flush();
        }
    }

    /// Writes out pages beside the work of a step.
    pub(super) fn spill_a_few(&mut self) {
        self.spill_some(A_STEP);
    }

    fn spill_some(&mut self, most: usize) -> usize {
        let Some(store) = &mut self.store else { return 0 };
        let mut written = 0;
        while let Some(&key) = self.spills.front().filter(|_| written < most) {
            if !store.takes(bytes_of(&*self.exec, self.state.n_groups(), key)) {
                return written;
            }
            let new = !store.holds(key);
            let bytes = match key.part {
                _ if !new => None,
                Part::Group(group) => {
                    let page = self.state.page(key);
                    page.and_then(|page| read_page(&*self.exec, group as usize, page).ok())
                }
                Part::Point { .. } => {
                    let place = self.state.point(key);
                    place.and_then(|place| read_point(&*self.exec, &place).ok())
                }
            };
            if bytes.is_some_and(|bytes| store.put(key, bytes).is_err()) {
                return written;
            }
            written += 1;
            self.spills.pop_front();
        }
        written
    }

    /// What a sequence of these pages and tokens computed is to be written out.
    pub(super) fn note_spills(&mut self, names: &[Name], tokens: &[u32]) {
        if self.store.is_none() || names.len() <= FEWEST {
            return;
        }
        let groups = self.state.n_groups();
        for &name in &names[1..] {
            self.spills.extend((0..groups).map(|group| PageKey::page(name, group)));
        }
        self.spills.extend(self.state.points_of(names, tokens));
    }

    /// Saves pages and checkpoints whose places are about to be used for something else. A store that has
    /// too much to do goes without them.
    pub(super) fn save_evicted(&mut self) {
        let (pages, points) = (self.state.take_evicted(), self.state.take_evicted_points());
        let Some(store) = &mut self.store else { return };
        for (page, key) in pages {
            let Part::Group(group) = key.part else { continue };
            let group = group as usize;
            if store.takes(self.exec.page_bytes(group))
                && !store.holds(key)
                && let Ok(bytes) = read_page(&*self.exec, group, page)
            {
                let _ = store.put(key, bytes);
            }
        }
        for (key, place) in points {
            if store.takes(bytes_of(&*self.exec, self.state.n_groups(), key))
                && !store.holds(key)
                && let Ok(bytes) = read_point(&*self.exec, &place)
            {
                let _ = store.put(key, bytes);
            }
        }
    }
}

/// Bytes of a page's part or of a checkpoint.
pub(super) fn bytes_of(exec: &dyn Exec, n_groups: usize, key: PageKey) -> usize {
    match key.part {
        Part::Group(group) => exec.page_bytes(group as usize),
        Part::Point { rest: 0, .. } => exec.row_bytes(),
        Part::Point { .. } => {
            exec.row_bytes() + (0..n_groups).map(|g| exec.page_bytes(g)).sum::<usize>()
        }
    }
}

fn read_page(exec: &dyn Exec, group: usize, page: PageId) -> oprel_nn::Result<Vec<u8>> {
    let mut bytes = vec![0; exec.page_bytes(group)];
    exec.read_page(group, page, &mut bytes)?;
    Ok(bytes)
}

/// A checkpoint: its row, then what each group holds of the tokens after the last whole page.
fn read_point(exec: &dyn Exec, place: &Place) -> oprel_nn::Result<Vec<u8>> {
    let mut bytes = vec![0; exec.row_bytes()];
    exec.read_row(place.row, &mut bytes)?;
    for (group, &page) in place.pages.iter().enumerate() {
        bytes.extend(read_page(exec, group, page)?);
    }
    Ok(bytes)
}
