use alloc::vec;

use super::*;

#[test]
fn only_what_changed_is_handed_over_and_only_once() {
    let mut pages = Pages::new();
    pages.write(2, Bytes::from_static(b"c")).unwrap();
    let changes = pages.take_changes();
    let numbers: Vec<usize> = changes.pages.iter().map(|(number, _)| *number).collect();
    assert_eq!((changes.count, changes.total_bytes, numbers), (3, 1, vec![0, 1, 2]));
    pages.write(2, Bytes::from_static(b"c")).unwrap();
    assert_eq!(pages.take_changes().pages, vec![]);
    pages.write(1, Bytes::from_static(b"b")).unwrap();
    pages.truncate(2);
    let changes = pages.take_changes();
    assert_eq!((changes.count, changes.total_bytes), (2, 1));
    assert_eq!(changes.pages, vec![(1, Bytes::from_static(b"b"))]);
}

#[test]
fn a_page_over_the_bound_is_refused_and_nothing_changes() {
    let mut pages = Pages::new();
    let long = Bytes::from(vec![0; PAGE_BYTES_MAX + 1]);
    assert_eq!(pages.write(0, long), Err(PageError::TooLong(PAGE_BYTES_MAX + 1)));
    assert_eq!(pages.write(usize::MAX, Bytes::new()), Err(PageError::Number(usize::MAX)));
    assert_eq!((pages.count(), pages.take_changes().pages), (0, vec![]));
}
