//! State as numbered pages. Who changed them says so; [`crate::tree`] hashes them, elsewhere and later.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::limits::PAGE_BYTES_MAX;

/// Numbered pages of at most 64 KiB. An absent page is an empty one. Cloning shares the page bytes.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pages: Vec<Bytes>,
    total_bytes: u64,
    changed: BTreeSet<usize>,
}

/// A page that cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// More than 64 KiB in one page.
    #[error("{0} bytes in one page; split the state into pages of at most {PAGE_BYTES_MAX}")]
    TooLong(usize),
    /// A page number far beyond what memory holds.
    #[error("page number {0}; number pages from 0 without gaps")]
    Number(usize),
}

impl Pages {
    /// The most pages: 2^24, one TiB at the largest page size.
    pub const COUNT_MAX: usize = 1 << 24;

    /// No pages.
    pub fn new() -> Self {
        Pages::default()
    }

    /// These pages, none of which counts as changed.
    pub(crate) fn unchanged(pages: impl Iterator<Item = Bytes>) -> Self {
        let pages: Vec<Bytes> = pages.collect();
        let total_bytes = pages.iter().map(length).sum();
        Pages { pages, total_bytes, changed: BTreeSet::new() }
    }

    /// Replaces page `number`. A page that did not change costs nothing.
    ///
    /// # Errors
    /// A page over 64 KiB or a number over [`Pages::COUNT_MAX`]; nothing is changed then.
    pub fn write(&mut self, number: usize, bytes: Bytes) -> Result<(), PageError> {
        if bytes.len() > PAGE_BYTES_MAX {
            return Err(PageError::TooLong(bytes.len()));
        }
        if number >= Self::COUNT_MAX {
            return Err(PageError::Number(number));
        }
        if number >= self.pages.len() {
            // Pages skipped over are empty ones, and new as well.
            self.changed.extend(self.pages.len()..=number);
            self.pages.resize(number + 1, Bytes::new());
        }
        if let Some(page) = self.pages.get_mut(number)
            && *page != bytes
        {
            self.total_bytes = self.total_bytes - length(page) + length(&bytes);
            *page = bytes;
            self.changed.insert(number);
        }
        Ok(())
    }

    /// Drops every page from `count` on.
    pub fn truncate(&mut self, count: usize) {
        for page in self.pages.iter().skip(count) {
            self.total_bytes -= length(page);
        }
        self.pages.truncate(count);
    }

    /// The bytes of page `number`; empty if it was never written.
    pub fn page(&self, number: usize) -> &[u8] {
        self.pages.get(number).map_or(&[], |page| page)
    }

    /// All pages in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.pages.iter()
    }

    /// How many pages there are.
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// Bytes in all pages together.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// What changed since the last call, the bytes shared and not copied.
    pub fn take_changes(&mut self) -> PageChanges {
        let changed = core::mem::take(&mut self.changed);
        let kept = changed.into_iter().filter(|number| *number < self.pages.len());
        let page = |number: usize| (number, self.pages.get(number).cloned().unwrap_or_default());
        PageChanges {
            count: self.pages.len(),
            total_bytes: self.total_bytes,
            pages: kept.map(page).collect(),
        }
    }
}

/// What became of pages between two checkpoints: the cost of a checkpoint follows this and not the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageChanges {
    /// How many pages there are now.
    pub count: usize,
    /// Bytes in all of them together.
    pub total_bytes: u64,
    /// The pages that changed, ascending.
    pub pages: Vec<(usize, Bytes)>,
}

impl PageChanges {
    /// Takes out the first pages, at most so many: both parts taken in one after the other are the whole.
    pub fn split_front(&mut self, pages_max: usize) -> PageChanges {
        let rest = self.pages.split_off(pages_max.min(self.pages.len()));
        let pages = core::mem::replace(&mut self.pages, rest);
        PageChanges { count: self.count, total_bytes: self.total_bytes, pages }
    }
}

pub(crate) fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "pages_test.rs"]
mod tests;
