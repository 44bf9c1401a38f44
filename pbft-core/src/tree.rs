//! The hash tree over pages: what a checkpoint's digest is made of, and what a transfer is proven by.
//!
//! A complete binary tree over the next power of two of leaves. A leaf covers its page's number and bytes, so
//! a node's digest depends on its height, its index and what is below it, and on nothing else: trees of
//! different width can be compared node by node. An empty page's leaf is null, and so is a node over
//! nothing but empty pages.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::crypto::Hasher;
use crate::pages::{PageChanges, Pages};
use crate::types::Digest;

mod node;

use node::{LEVELS, Node};

/// No node is expanded further at a time.
const EXPAND_LEVELS_MAX: u32 = 8;

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

/// Pages under their hash tree. Cloning it is a snapshot and costs nothing: the copies share what neither of them
/// changes.
#[derive(Clone, Debug)]
pub struct PageTree {
    root: Option<Arc<Node>>,
    /// Of the root: a multiple of four, and never less than before.
    height: u32,
    count: usize,
    total_bytes: u64,
    hashed: u64,
}

impl Default for PageTree {
    fn default() -> Self {
        PageTree { root: None, height: LEVELS, count: 0, total_bytes: 0, hashed: 0 }
    }
}

impl PageTree {
    /// A tree over no pages.
    pub fn new() -> Self {
        PageTree::default()
    }

    /// Takes changes in: hashes the changed pages and the paths above them, and nothing else.
    pub fn apply(&mut self, changes: PageChanges) {
        let PageChanges { count, total_bytes, mut pages } = changes;
        pages.retain(|(number, _)| *number < count);
        if !pages.is_sorted_by_key(|(number, _)| *number) {
            pages.sort_by_key(|(number, _)| *number);
        }
        if count < self.count
            && let Some(root) = &mut self.root
        {
            Arc::make_mut(root).cut(self.height, 0, count);
        }
        while count > 1 << self.height {
            self.height += LEVELS;
            self.root = self.root.take().map(|root| Arc::new(Node::over(self.height, root)));
        }
        self.count = count;
        self.total_bytes = total_bytes;
        self.hashed = self.hashed.saturating_add(u64::try_from(pages.len()).unwrap_or(u64::MAX));
        if !pages.is_empty() {
            let root = self.root.get_or_insert_with(|| Arc::new(Node::empty(self.height)));
            Arc::make_mut(root).apply(self.height, 0, &pages);
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
        if height > self.height {
            // Wider than the tree: the rest of it are empty pages.
            let top = if index == 0 { self.node(self.height, 0) } else { Digest::NULL };
            return (self.height..height).fold(top, |top, _| parent(top, Digest::NULL));
        }
        if index >> (self.height - height) > 0 {
            return Digest::NULL;
        }
        // The piece that it is in, or on top of.
        let lowest = height.next_multiple_of(LEVELS).max(LEVELS);
        let above = LEVELS - (lowest - height);
        let node = self.descend(index << height, lowest);
        node.map_or(Digest::NULL, |node| node.digest(above, index & ((1 << (LEVELS - above)) - 1)))
    }

    /// The piece of this height over page `number`.
    fn descend(&self, number: usize, lowest: u32) -> Option<&Node> {
        let (mut node, mut height) = (self.root.as_ref()?, self.height);
        while height > lowest {
            height -= LEVELS;
            node = node.node((number >> height) & ((1 << LEVELS) - 1))?;
        }
        Some(node)
    }

    /// The nodes `depth` levels below a node, left to right.
    pub fn expand(&self, height: u32, index: usize, depth: u32) -> Vec<Digest> {
        let depth = depth.min(height).min(EXPAND_LEVELS_MAX);
        let first = index << depth;
        (first..first + (1 << depth)).map(|at| self.node(height - depth, at)).collect()
    }

    /// The bytes of page `number`; empty beyond the last.
    pub fn page(&self, number: usize) -> Bytes {
        if number >> self.height > 0 {
            return Bytes::new();
        }
        let node = self.descend(number, LEVELS);
        let page = node.and_then(|node| node.page(number & ((1 << LEVELS) - 1)));
        page.cloned().unwrap_or_default()
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
        Pages::unchanged((0..self.count).map(|number| self.page(number)))
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
