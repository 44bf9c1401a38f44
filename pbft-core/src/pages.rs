//! State as numbered pages under a hash tree whose root costs what changed, not what there is.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::crypto::Hasher;
use crate::limits::PAGE_BYTES_MAX;
use crate::types::Digest;

/// Numbered pages of at most 64 KiB, and the tree over them. An absent page is an empty one.
///
/// The tree is a complete binary tree over the next power of two of leaves; a leaf covers its number and
/// bytes. Cloning shares the page bytes.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pages: Vec<Bytes>,
    total_bytes: u64,
    changed: BTreeSet<usize>,
    /// `levels[0]` are the leaves; the last level has one node.
    levels: Vec<Vec<Digest>>,
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
            // Pages skipped over are empty ones, and their leaves are new as well.
            self.changed.extend(self.pages.len()..number);
            self.pages.resize(number + 1, Bytes::new());
        }
        let is_new = !self.has_leaf(number);
        if let Some(page) = self.pages.get_mut(number)
            && (*page != bytes || is_new)
        {
            self.total_bytes = self.total_bytes - length(page) + length(&bytes);
            *page = bytes;
            self.changed.insert(number);
        }
        Ok(())
    }

    fn has_leaf(&self, number: usize) -> bool {
        self.levels.first().is_some_and(|leaves| number < leaves.len())
    }

    /// Drops every page from `count` on.
    pub fn truncate(&mut self, count: usize) {
        for (number, page) in self.pages.iter().enumerate().skip(count) {
            self.total_bytes -= length(page);
            self.changed.insert(number);
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

    /// Digest of all pages, their number and their total length. Hashes only what changed since the last
    /// call, and the paths above it.
    pub fn root(&mut self) -> Digest {
        let width = self.pages.len().max(1).next_power_of_two();
        if self.levels.first().map(Vec::len) != Some(width) {
            self.rebuild(width);
        } else {
            self.refresh();
        }
        self.changed.clear();
        let mut hasher = Hasher::new("pages");
        hasher.count(self.pages.len());
        hasher.number(self.total_bytes);
        let top = self.levels.last().and_then(|level| level.first());
        hasher.fixed(&top.copied().unwrap_or(Digest::NULL).0);
        hasher.finish()
    }

    fn leaf(&self, number: usize) -> Digest {
        let page = self.page(number);
        if page.is_empty() {
            return Digest::NULL;
        }
        let mut hasher = Hasher::new("page");
        hasher.count(number);
        hasher.field(page);
        hasher.finish()
    }

    fn rebuild(&mut self, width: usize) {
        // Growth keeps the old leaves: only changed ones are hashed again.
        let old = self.levels.first().cloned().unwrap_or_default();
        let leaf = |number| match old.get(number) {
            Some(leaf) if !self.changed.contains(&number) => *leaf,
            _ => self.leaf(number),
        };
        let leaves: Vec<Digest> = (0..width).map(leaf).collect();
        self.levels.clear();
        self.levels.push(leaves);
        while let Some(below) = self.levels.last()
            && below.len() > 1
        {
            let above = below.chunks(2).map(|pair| node(pair.first(), pair.get(1))).collect();
            self.levels.push(above);
        }
    }

    fn refresh(&mut self) {
        let mut dirty: Vec<usize> = self.changed.iter().copied().collect();
        for number in &dirty {
            let leaf = self.leaf(*number);
            if let Some(slot) = self.levels.first_mut().and_then(|level| level.get_mut(*number)) {
                *slot = leaf;
            }
        }
        for height in 1..self.levels.len() {
            dirty.iter_mut().for_each(|number| *number /= 2);
            dirty.dedup();
            let (below, above) = self.levels.split_at_mut(height);
            let (Some(below), Some(above)) = (below.last(), above.first_mut()) else {
                break;
            };
            for number in &dirty {
                if let Some(slot) = above.get_mut(*number) {
                    *slot = node(below.get(number * 2), below.get(number * 2 + 1));
                }
            }
        }
    }
}

fn node(left: Option<&Digest>, right: Option<&Digest>) -> Digest {
    let left = left.copied().unwrap_or(Digest::NULL);
    let right = right.copied().unwrap_or(Digest::NULL);
    if left == Digest::NULL && right == Digest::NULL {
        return Digest::NULL;
    }
    let mut hasher = Hasher::new("node");
    hasher.fixed(&left.0);
    hasher.fixed(&right.0);
    hasher.finish()
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "pages_test.rs"]
mod tests;
