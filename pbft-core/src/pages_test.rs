use alloc::vec;

use proptest::prelude::*;

use super::*;

/// The root of the same pages built in one go.
fn fresh_root(pages: &Pages) -> Digest {
    let mut fresh = Pages::new();
    for (number, page) in pages.iter().enumerate() {
        fresh.write(number, page.clone()).unwrap();
    }
    fresh.truncate(pages.count());
    fresh.root()
}

proptest! {
    #[test]
    fn the_root_depends_on_the_pages_and_not_on_the_history(
        writes in prop::collection::vec((0_usize..40, prop::collection::vec(any::<u8>(), 0..4), any::<bool>(), 0_usize..45), 1..60)
    ) {
        let mut pages = Pages::new();
        for (number, bytes, ask, cut) in writes {
            pages.write(number, Bytes::from(bytes)).unwrap();
            if cut < 40 {
                pages.truncate(cut);
            }
            if ask {
                prop_assert_eq!(pages.root(), fresh_root(&pages));
            }
        }
        prop_assert_eq!(pages.root(), fresh_root(&pages));
        let total: usize = pages.iter().map(Bytes::len).sum();
        prop_assert_eq!(pages.total_bytes(), u64::try_from(total).unwrap());
    }
}

#[test]
fn contents_number_and_length_all_change_the_root() {
    let root = |list: &[&'static [u8]]| {
        let mut pages = Pages::new();
        for (number, bytes) in list.iter().enumerate() {
            pages.write(number, Bytes::from_static(bytes)).unwrap();
        }
        pages.root()
    };
    let roots = [
        root(&[]),
        root(&[b""]),
        root(&[b"a"]),
        root(&[b"", b"a"]),
        root(&[b"a", b""]),
        root(&[b"a", b"b"]),
        root(&[b"b", b"a"]),
    ];
    let mut unique = roots.to_vec();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), roots.len());
}

#[test]
fn a_page_over_the_bound_is_refused_and_nothing_changes() {
    let mut pages = Pages::new();
    let before = pages.root();
    let long = Bytes::from(vec![0; PAGE_BYTES_MAX + 1]);
    assert_eq!(pages.write(0, long), Err(PageError::TooLong(PAGE_BYTES_MAX + 1)));
    assert_eq!(pages.write(usize::MAX, Bytes::new()), Err(PageError::Number(usize::MAX)));
    assert_eq!((pages.count(), pages.root()), (0, before));
}
