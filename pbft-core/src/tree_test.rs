use alloc::vec;

use proptest::prelude::*;

use super::*;

/// The root by the definition, all at once.
fn reference(pages: &Pages) -> Digest {
    let width = pages.count().max(1).next_power_of_two();
    let row: Vec<Digest> = (0..width).map(|number| leaf(number, pages.page(number))).collect();
    let count = u32::try_from(pages.count()).unwrap();
    TreeHead { count, total_bytes: pages.total_bytes(), top: top_of(&row) }.root()
}

proptest! {
    #[test]
    fn the_root_is_a_function_of_the_pages_and_not_of_the_history(
        writes in prop::collection::vec((0_usize..700, prop::collection::vec(any::<u8>(), 0..4), any::<bool>(), 0_usize..2100), 1..40)
    ) {
        let mut pages = Pages::new();
        let mut tree = PageTree::new();
        let mut snapshots = Vec::new();
        for (number, bytes, ask, cut) in writes {
            pages.write(number, Bytes::from(bytes)).unwrap();
            if cut < 700 {
                pages.truncate(cut);
            }
            if ask {
                tree.apply(pages.take_changes());
                prop_assert_eq!(tree.head().root(), reference(&pages));
                snapshots.push((tree.clone(), tree.head()));
            }
        }
        tree.apply(pages.take_changes());
        prop_assert_eq!(tree.head().root(), reference(&pages));
        // Snapshots stay what they were, and every node is the parent of those below it.
        for (snapshot, head) in &snapshots {
            prop_assert_eq!(snapshot.head(), *head);
            for height in 1..=head.height() {
                for index in 0..4 {
                    let below = snapshot.expand(height, index, 3);
                    prop_assert_eq!(top_of(&below), snapshot.node(height, index));
                }
            }
        }
        let copy = tree.to_pages();
        prop_assert_eq!(reference(&copy), reference(&pages));
    }
}

#[test]
fn contents_number_and_length_all_change_the_root() {
    let root = |list: &[&'static [u8]]| {
        let mut pages = Pages::new();
        for (number, bytes) in list.iter().enumerate() {
            pages.write(number, Bytes::from_static(bytes)).unwrap();
        }
        let mut tree = PageTree::new();
        tree.apply(pages.take_changes());
        tree.head().root()
    };
    let mut roots = vec![
        root(&[]),
        root(&[b""]),
        root(&[b"a"]),
        root(&[b"", b"a"]),
        root(&[b"a", b""]),
        root(&[b"a", b"b"]),
        root(&[b"b", b"a"]),
    ];
    roots.sort();
    roots.dedup();
    assert_eq!(roots.len(), 7);
}

/// A checkpoint costs what changed, not what there is.
#[test]
fn hashing_follows_the_changes() {
    let mut pages = Pages::new();
    for number in 0..10_000 {
        pages.write(number, Bytes::from_static(b"x")).unwrap();
    }
    let mut tree = PageTree::new();
    tree.apply(pages.take_changes());
    let before = tree.hashed();
    let snapshot = tree.clone();
    for number in [3, 4, 5_000] {
        pages.write(number, Bytes::from_static(b"y")).unwrap();
    }
    tree.apply(pages.take_changes());
    assert_eq!(tree.hashed() - before, 3);
    // Of the pieces over 10,000 pages those above the three are copied, and none below or beside.
    let (Some(tree), Some(snapshot)) = (&tree.root, &snapshot.root) else { panic!("no tree") };
    assert_eq!(tree.copied(snapshot), (625 + 40 + 3, 2 + 2 + 2));
}

#[test]
fn a_tree_that_was_wider_and_one_that_never_was_are_equal_node_by_node() {
    let changes = |count: usize| {
        let mut pages = Pages::new();
        for number in 0..count {
            pages.write(number, Bytes::from(alloc::format!("{number}"))).unwrap();
        }
        pages.take_changes()
    };
    for (wide, count) in [(5000, 3), (300, 16), (17, 17), (70_000, 4097), (20, 0)] {
        let mut narrow = PageTree::new();
        narrow.apply(changes(count));
        let mut cut = PageTree::new();
        cut.apply(changes(wide));
        let total_bytes = narrow.head().total_bytes;
        cut.apply(PageChanges { count, total_bytes, pages: Vec::new() });
        assert_eq!(cut.head(), narrow.head());
        for height in 0..20 {
            for index in [0, 1, 2, 100, 5000] {
                assert_eq!(cut.node(height, index), narrow.node(height, index), "{height} {index}");
            }
        }
        assert!(cut.to_pages().iter().eq(narrow.to_pages().iter()));
    }
}

/// Grown and cut at the edges of the pieces, with nothing but empty pages in between: the digests are those of the
/// definition, and those of a tree that never was anything else.
#[test]
fn at_the_edges_of_its_pieces_a_tree_has_the_digests_of_the_definition() {
    let edges = [0, 1, 2, 15, 16, 17, 31, 33, 255, 256, 257, 300, 4095, 4096, 4097, 5000];
    let mut pages = Pages::new();
    let mut tree = PageTree::new();
    let mut random = 0x9e37_79b9_u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random).unwrap() % bound
    };
    for step in 0..300 {
        let edge = edges[below(edges.len())];
        match below(4) {
            0 => pages.truncate(edge),
            1 => pages.write(edge, Bytes::new()).unwrap(),
            _ => pages.write(edge, Bytes::from(alloc::format!("{step}"))).unwrap(),
        }
        if below(3) > 0 {
            continue;
        }
        let mut changes = pages.take_changes();
        while changes.pages.len() > 100 {
            tree.apply(changes.split_front(100));
        }
        tree.apply(changes);
        assert_eq!(tree.head().root(), reference(&pages), "step {step}");
        let copy = tree.to_pages();
        let mut fresh = PageTree::new();
        let mut every: Vec<(usize, Bytes)> = copy.iter().cloned().enumerate().collect();
        every.reverse();
        let (count, total_bytes) = (copy.count(), copy.total_bytes());
        fresh.apply(PageChanges { count, total_bytes, pages: every });
        for height in 0..16 {
            for index in edges.map(|edge| edge >> height) {
                assert_eq!(tree.node(height, index), fresh.node(height, index), "step {step}");
            }
        }
    }
}
