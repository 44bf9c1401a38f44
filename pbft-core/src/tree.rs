//! The hash tree over pages: what a checkpoint's digest is made of, and what a transfer is proven by.
//!
//! A complete binary tree over the next power of two of leaves. A leaf covers its page's number and bytes, so
//! a node's digest depends on its height, its index and what is below it, and on nothing else: trees of
//! different width can be compared node by node. An empty page's leaf is null, and so is a node over
//! nothing but empty pages.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::crypto::Hasher;
use crate::pages::{PageChanges, Pages};
use crate::types::Digest;

/// Leaves of one shared piece of the tree, and its height.
const CHUNK_PAGES: usize = 1 << CHUNK_HEIGHT;
const CHUNK_HEIGHT: u32 = 8;

/// 256 pages and the nodes over them, shared between snapshots until one of them changes it.
#[derive(Clone, Debug)]
struct Chunk {
    pages: Vec<Bytes>,
    /// Heap order: the top is at 1, the leaves start at 256. Height h starts at 256 >> h.
    nodes: Vec<Digest>,
}

impl Chunk {
    fn empty() -> Self {
        Chunk { pages: vec![Bytes::new(); CHUNK_PAGES], nodes: vec![Digest::NULL; 2 * CHUNK_PAGES] }
    }

    fn node(&self, height: u32, index: usize) -> Digest {
        self.nodes.get((CHUNK_PAGES >> height) + index).copied().unwrap_or(Digest::NULL)
    }

    fn set_leaf(&mut self, local: usize, page: Bytes, leaf: Digest) {
        if let Some(slot) = self.pages.get_mut(local) {
            *slot = page;
        }
        if let Some(slot) = self.nodes.get_mut(CHUNK_PAGES + local) {
            *slot = leaf;
        }
    }

    /// Hashes the paths above the leaves `dirty`.
    fn refresh(&mut self, dirty: &BTreeSet<usize>) {
        let mut places: Vec<usize> = dirty.iter().map(|local| CHUNK_PAGES + local).collect();
        for _ in 0..CHUNK_HEIGHT {
            places.iter_mut().for_each(|place| *place /= 2);
            places.dedup();
            for place in &places {
                let below = |at: usize| self.nodes.get(at).copied().unwrap_or(Digest::NULL);
                let digest = parent(below(place * 2), below(place * 2 + 1));
                if let Some(slot) = self.nodes.get_mut(*place) {
                    *slot = digest;
                }
            }
        }
    }
}

/// What proves a tree's root: its size and its topmost node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct TreeHead {
    /// How many pages there are.
    pub count: u32,
    /// Bytes in all of them together.
    pub total_bytes: u64,
    /// The topmost node, at [`TreeHead::height`].
    pub top: Digest,
}

impl TreeHead {
    /// The root digest.
    pub fn root(&self) -> Digest {
        let mut hasher = Hasher::new("pages");
        hasher.count(usize::try_from(self.count).unwrap_or(usize::MAX));
        hasher.number(self.total_bytes);
        hasher.fixed(&self.top.0);
        hasher.finish()
    }

    /// The height of the topmost node: 0 for a single page.
    pub fn height(&self) -> u32 {
        self.count.max(1).next_power_of_two().trailing_zeros()
    }
}

/// Pages under their hash tree. Cloning it is a snapshot: chunks of 256 pages are shared until one of the
/// copies changes them.
#[derive(Clone, Debug)]
pub struct PageTree {
    chunks: Vec<Arc<Chunk>>,
    /// `upper[k]` are the nodes of height 8 + k.
    upper: Vec<Vec<Digest>>,
    count: usize,
    total_bytes: u64,
    empty: Arc<Chunk>,
    hashed: u64,
}

impl Default for PageTree {
    fn default() -> Self {
        let empty = Arc::new(Chunk::empty());
        PageTree {
            chunks: Vec::new(),
            upper: Vec::new(),
            count: 0,
            total_bytes: 0,
            empty,
            hashed: 0,
        }
    }
}

impl PageTree {
    /// A tree over no pages.
    pub fn new() -> Self {
        PageTree::default()
    }

    /// Takes changes in: hashes the changed pages and the paths above them, and nothing else.
    pub fn apply(&mut self, changes: PageChanges) {
        let mut dirty: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let chunks = changes.count.div_ceil(CHUNK_PAGES);
        // What was cut off inside the last chunk is empty again.
        for number in changes.count..self.count.min(chunks * CHUNK_PAGES) {
            self.set(number, Bytes::new(), &mut dirty);
        }
        let grown = self.chunks.len()..chunks;
        self.chunks.resize(chunks, Arc::clone(&self.empty));
        self.count = changes.count;
        self.total_bytes = changes.total_bytes;
        for (number, page) in changes.pages {
            self.set(number, page, &mut dirty);
        }
        for (chunk, locals) in &dirty {
            if let Some(chunk) = self.chunks.get_mut(*chunk) {
                Arc::make_mut(chunk).refresh(locals);
            }
        }
        let changed = dirty.into_keys().chain(grown).collect();
        self.refresh_upper(changed);
    }

    fn set(&mut self, number: usize, page: Bytes, dirty: &mut BTreeMap<usize, BTreeSet<usize>>) {
        let (at, local) = (number / CHUNK_PAGES, number % CHUNK_PAGES);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let leaf = leaf(number, &page);
        Arc::make_mut(chunk).set_leaf(local, page, leaf);
        self.hashed = self.hashed.saturating_add(1);
        dirty.entry(at).or_default().insert(local);
    }

    fn refresh_upper(&mut self, mut dirty: BTreeSet<usize>) {
        let width = self.chunks.len().max(1).next_power_of_two();
        let levels = usize::try_from(width.trailing_zeros()).unwrap_or(0) + 1;
        let fresh = self.upper.len() != levels;
        if fresh {
            // Another width: every chunk's top moves to a new place.
            self.upper = (0..levels).map(|level| vec![Digest::NULL; width >> level]).collect();
            dirty = (0..self.chunks.len()).collect();
        }
        let tops = &self.chunks;
        if let Some(bottom) = self.upper.first_mut() {
            for (at, slot) in bottom.iter_mut().enumerate().skip(tops.len()) {
                if *slot != Digest::NULL {
                    *slot = Digest::NULL;
                    dirty.insert(at);
                }
            }
            for at in &dirty {
                let top = tops.get(*at).map_or(Digest::NULL, |chunk| chunk.node(CHUNK_HEIGHT, 0));
                if let Some(slot) = bottom.get_mut(*at) {
                    *slot = top;
                }
            }
        }
        let mut places: Vec<usize> = dirty.into_iter().collect();
        for level in 1..levels {
            places.iter_mut().for_each(|place| *place /= 2);
            places.dedup();
            let (below, above) = self.upper.split_at_mut(level);
            let (Some(below), Some(above)) = (below.last(), above.first_mut()) else { return };
            let at = |index: usize| below.get(index).copied().unwrap_or(Digest::NULL);
            for place in &places {
                if let Some(slot) = above.get_mut(*place) {
                    *slot = parent(at(place * 2), at(place * 2 + 1));
                }
            }
        }
    }

    /// Size and topmost node.
    pub fn head(&self) -> TreeHead {
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        let head = TreeHead { count, total_bytes: self.total_bytes, top: Digest::NULL };
        TreeHead { top: self.node(head.height(), 0), ..head }
    }

    /// The node at a height above the leaves; null beyond the tree.
    pub fn node(&self, height: u32, index: usize) -> Digest {
        if height <= CHUNK_HEIGHT {
            let shift = CHUNK_HEIGHT - height;
            let chunk = self.chunks.get(index >> shift);
            return chunk
                .map_or(Digest::NULL, |chunk| chunk.node(height, index & ((1 << shift) - 1)));
        }
        let level = usize::try_from(height - CHUNK_HEIGHT).unwrap_or(usize::MAX);
        let level = self.upper.get(level);
        level.and_then(|level| level.get(index)).copied().unwrap_or(Digest::NULL)
    }

    /// The nodes `depth` levels below a node, left to right.
    pub fn expand(&self, height: u32, index: usize, depth: u32) -> Vec<Digest> {
        let depth = depth.min(height).min(CHUNK_HEIGHT);
        let first = index << depth;
        (first..first + (1 << depth)).map(|at| self.node(height - depth, at)).collect()
    }

    /// The bytes of page `number`; empty beyond the last.
    pub fn page(&self, number: usize) -> Bytes {
        let chunk = self.chunks.get(number / CHUNK_PAGES);
        chunk.and_then(|chunk| chunk.pages.get(number % CHUNK_PAGES)).cloned().unwrap_or_default()
    }

    /// How many pages there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many pages were hashed in the life of this tree: for tests of what a checkpoint costs.
    pub fn hashed(&self) -> u64 {
        self.hashed
    }

    /// The pages as an application takes them, their bytes shared; none counts as changed.
    pub fn to_pages(&self) -> Pages {
        let mut pages = Pages::new();
        for number in 0..self.count {
            // What is in the tree fitted a page once.
            let _ = pages.write(number, self.page(number));
        }
        let _ = pages.take_changes();
        pages
    }
}

/// The leaf of a page.
pub fn leaf(number: usize, page: &[u8]) -> Digest {
    if page.is_empty() {
        return Digest::NULL;
    }
    let mut hasher = Hasher::new("page");
    hasher.count(number);
    hasher.field(page);
    hasher.finish()
}

/// The node above two others.
pub fn parent(left: Digest, right: Digest) -> Digest {
    if left == Digest::NULL && right == Digest::NULL {
        return Digest::NULL;
    }
    let mut hasher = Hasher::new("node");
    hasher.fixed(&left.0);
    hasher.fixed(&right.0);
    hasher.finish()
}

/// The node above a whole row of 2^k others.
pub fn top_of(row: &[Digest]) -> Digest {
    let mut row = row.to_vec();
    while row.len() > 1 {
        let pair = |pair: &[Digest]| match pair {
            [left, right] => parent(*left, *right),
            [left] => parent(*left, Digest::NULL),
            _ => Digest::NULL,
        };
        row = row.chunks(2).map(pair).collect();
    }
    row.first().copied().unwrap_or(Digest::NULL)
}

#[cfg(test)]
#[path = "tree_test.rs"]
mod tests;
