//! A piece of the hash tree: four levels of it over 16 pages, or over 16 such pieces.

use alloc::sync::Arc;

use bytes::Bytes;

use super::{leaf, parent};
use crate::types::Digest;

/// Levels of one piece.
pub(super) const LEVELS: u32 = 4;
const WIDTH: usize = 1 << LEVELS;

/// Small, because a snapshot copies each piece with a change below it, and all of them are 16 to one.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Heap order: the top is at 1, what is directly below this piece starts at 16.
    digests: [Digest; 2 * WIDTH],
    below: Below,
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "fifteen of sixteen are of the larger one")]
enum Below {
    Pages([Bytes; WIDTH]),
    /// `None` where there is nothing but empty pages.
    Nodes([Option<Arc<Node>>; WIDTH]),
}

impl Node {
    /// Nothing but empty pages.
    pub(super) fn empty(height: u32) -> Self {
        let below = match height {
            LEVELS => Below::Pages(Default::default()),
            _ => Below::Nodes(Default::default()),
        };
        Node { digests: [Digest::NULL; 2 * WIDTH], below }
    }

    /// A piece of which `first` is the leftmost one below.
    pub(super) fn over(height: u32, first: Arc<Node>) -> Self {
        let mut node = Node::empty(height);
        let top = first.digest(LEVELS, 0);
        if let Below::Nodes(nodes) = &mut node.below
            && let Some(slot) = nodes.first_mut()
        {
            *slot = Some(first);
        }
        node.set(0, top);
        node.refresh(1);
        node
    }

    /// The digest so many levels above what is below this piece, from the left.
    pub(super) fn digest(&self, above: u32, index: usize) -> Digest {
        self.digests.get((WIDTH >> above) + index).copied().unwrap_or(Digest::NULL)
    }

    pub(super) fn node(&self, at: usize) -> Option<&Arc<Node>> {
        match &self.below {
            Below::Pages(_) => None,
            Below::Nodes(nodes) => nodes.get(at)?.as_ref(),
        }
    }

    pub(super) fn page(&self, at: usize) -> Option<&Bytes> {
        match &self.below {
            Below::Pages(pages) => pages.get(at),
            Below::Nodes(_) => None,
        }
    }

    /// Takes in pages, ascending, all of them below this piece, which is `height` high and begins with page `first`:
    /// hashes them and the paths above them.
    pub(super) fn apply(&mut self, height: u32, first: usize, pages: &[(usize, Bytes)]) {
        let each = height - LEVELS;
        let (mut rest, mut dirty) = (pages, 0);
        while let Some((number, _)) = rest.first() {
            let at = (number - first) >> each;
            let start = first + (at << each);
            let end = start + (1 << each);
            let (own, others) = rest.split_at(rest.partition_point(|(number, _)| *number < end));
            rest = others;
            let digest = match &mut self.below {
                Below::Pages(pages) => {
                    let (Some(slot), Some((number, page))) = (pages.get_mut(at), own.last()) else {
                        return;
                    };
                    *slot = page.clone();
                    leaf(*number, page)
                }
                Below::Nodes(nodes) => {
                    let Some(slot) = nodes.get_mut(at) else { return };
                    let node = slot.get_or_insert_with(|| Arc::new(Node::empty(each)));
                    let node = Arc::make_mut(node);
                    node.apply(each, start, own);
                    node.digest(LEVELS, 0)
                }
            };
            self.set(at, digest);
            dirty |= 1 << at;
        }
        self.refresh(dirty);
    }

    /// Empties every page from `count` on.
    pub(super) fn cut(&mut self, height: u32, first: usize, count: usize) {
        let each = height - LEVELS;
        let mut dirty = 0;
        for at in 0..WIDTH {
            let start = first + (at << each);
            if start + (1 << each) <= count {
                continue;
            }
            let mut top = Digest::NULL;
            match &mut self.below {
                Below::Pages(pages) => {
                    pages.get_mut(at).map(core::mem::take);
                }
                Below::Nodes(nodes) => match nodes.get_mut(at) {
                    Some(Some(node)) if start < count => {
                        let node = Arc::make_mut(node);
                        node.cut(each, start, count);
                        top = node.digest(LEVELS, 0);
                    }
                    slot => {
                        slot.map(core::mem::take);
                    }
                },
            }
            self.set(at, top);
            dirty |= 1 << at;
        }
        self.refresh(dirty);
    }

    fn set(&mut self, at: usize, digest: Digest) {
        if let Some(slot) = self.digests.get_mut(WIDTH + at) {
            *slot = digest;
        }
    }

    /// Hashes the paths above what is below this piece, where a bit of `dirty` says that it changed.
    fn refresh(&mut self, mut dirty: u32) {
        let mut width = WIDTH;
        while width > 1 {
            width /= 2;
            let mut above = 0;
            for at in (0..width).filter(|at| dirty & (0b11 << (2 * at)) != 0) {
                let below = |at: usize| self.digests.get(at).copied().unwrap_or(Digest::NULL);
                let digest = parent(below(2 * (width + at)), below(2 * (width + at) + 1));
                if let Some(slot) = self.digests.get_mut(width + at) {
                    *slot = digest;
                }
                above |= 1 << at;
            }
            dirty = above;
        }
    }

    /// How many pieces there are, and how many of them are not those of `other`.
    #[cfg(test)]
    pub(super) fn copied(&self, other: &Node) -> (usize, usize) {
        let (mut all, mut copied) = (0, 0);
        for at in 0..WIDTH {
            let Some(node) = self.node(at) else { continue };
            let (below, below_copied) = match other.node(at) {
                Some(other) if Arc::ptr_eq(node, other) => (node.copied(other).0, 0),
                Some(other) => {
                    let (below, copied) = node.copied(other);
                    (below, copied + 1)
                }
                None => (node.copied(node).0, 1),
            };
            all += below + 1;
            copied += below_copied;
        }
        (all, copied)
    }
}
