//! A bundle: pages that a checkpoint writes together, as one value of the snapshots' file.
//!
//! The version, how many pages there are, for each its tree, number and length, and then their bytes. Everything is
//! little-endian.

use bytes::Bytes;
use pbft_core::pages::Pages;
use pbft_core::types::Sequence;

use super::changed::TREES;

/// What a page takes beside its bytes.
const ENTRY_BYTES: usize = 9;
const HEADER_BYTES: usize = 12;
/// The database takes a power of two for each large value, so a bundle stays a little below one.
const MARGIN_BYTES: u64 = 128;
const BYTES_MIN: u64 = 16 << 10;
const BYTES_MAX: u64 = 512 << 10;

/// A page in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) tree: u8,
    pub(super) number: u32,
    /// Of the page; 0 says that it is empty from here on.
    pub(super) bytes: u32,
}

impl Entry {
    pub(super) fn of(tree: u8, number: usize, page: &[u8]) -> Self {
        let bytes = u32::try_from(page.len()).unwrap_or(u32::MAX);
        Entry { tree, number: u32::try_from(number).unwrap_or(u32::MAX), bytes }
    }

    /// What it takes on the disk.
    pub(super) fn cost_bytes(&self) -> u64 {
        u64::from(self.bytes).saturating_add(ENTRY_BYTES as u64)
    }

    pub(super) fn page(&self) -> usize {
        usize::try_from(self.number).unwrap_or(usize::MAX)
    }
}

/// Splits what is to be written into bundles that waste little of the powers of two they are given.
pub(super) fn split(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut left: u64 = entries.iter().map(Entry::cost_bytes).sum();
    let mut bundles: Vec<Vec<Entry>> = Vec::new();
    let (mut room, mut bundle) = (room(left), Vec::new());
    let mut taken = 0_u64;
    for entry in entries {
        let cost = entry.cost_bytes();
        if !bundle.is_empty() && taken.saturating_add(cost) > room {
            bundles.push(std::mem::take(&mut bundle));
            left = left.saturating_sub(taken);
            (room, taken) = (self::room(left), 0);
        }
        taken = taken.saturating_add(cost);
        bundle.push(entry);
    }
    if !bundle.is_empty() {
        bundles.push(bundle);
    }
    bundles
}

/// How many bytes the next bundle takes of so many that are left.
fn room(left: u64) -> u64 {
    let power = left.checked_ilog2().map_or(0, |log| 1_u64 << log);
    power.clamp(BYTES_MIN, BYTES_MAX).saturating_sub(MARGIN_BYTES)
}

/// How long the stored value is.
pub(super) fn value_bytes(entries: &[Entry]) -> usize {
    let bytes: u64 = entries.iter().map(Entry::cost_bytes).sum();
    usize::try_from(bytes).unwrap_or(usize::MAX).saturating_add(HEADER_BYTES)
}

/// Fills `value`, which is [`value_bytes`] long. Written in place: it is large, and there are many.
pub(super) fn encode(
    version: Sequence,
    entries: &[Entry],
    page: impl Fn(&Entry) -> Bytes,
    value: &mut [u8],
) {
    let mut at = 0_usize;
    let mut put = |bytes: &[u8]| {
        let end = at.saturating_add(bytes.len());
        if let Some(place) = value.get_mut(at..end) {
            place.copy_from_slice(bytes);
        }
        at = end;
    };
    put(&version.0.to_le_bytes());
    put(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    for entry in entries {
        put(&[entry.tree]);
        put(&entry.number.to_le_bytes());
        put(&entry.bytes.to_le_bytes());
    }
    entries.iter().for_each(|entry| put(&page(entry)));
}

/// Pages with their bytes.
type Contents<'v> = Vec<(Entry, &'v [u8])>;

/// What is in a stored value: its version and its pages; `None` if it is no bundle.
pub(super) fn decode(value: &[u8]) -> Option<(Sequence, Contents<'_>)> {
    let (version, rest) = value.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (mut about, mut bytes) = rest.split_at_checked(count.checked_mul(ENTRY_BYTES)?)?;
    let mut entries = Vec::with_capacity(count);
    while let Some((tree, after)) = about.split_first() {
        let (number, after) = after.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let (number, length) = (u32::from_le_bytes(*number), u32::from_le_bytes(*length));
        // Whoever reads it takes memory for every page up to this one.
        if usize::from(*tree) >= TREES.len() || usize::try_from(number).ok()? >= Pages::COUNT_MAX {
            return None;
        }
        let (page, others) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
        entries.push((Entry { tree: *tree, number, bytes: length }, page));
        (about, bytes) = (after, others);
    }
    bytes.is_empty().then_some((Sequence(u64::from_le_bytes(*version)), entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u32, bytes: u32) -> Vec<Entry> {
        (0..count).map(|number| Entry { tree: 1, number, bytes }).collect()
    }

    #[test]
    fn bundles_hold_everything_once_and_fill_their_powers_of_two() {
        for (count, bytes) in [(1, 0), (1, 65_536), (7, 100), (700, 4096), (5000, 60), (40, 65_536)]
        {
            let all = entries(count, bytes);
            let bundles = split(all.clone());
            assert_eq!(bundles.concat(), all);
            let sizes: Vec<u64> = bundles
                .iter()
                .map(|it| it.iter().map(Entry::cost_bytes).sum::<u64>() + MARGIN_BYTES)
                .collect();
            assert!(sizes.iter().all(|size| *size <= BYTES_MAX || bundles.len() == 1), "{sizes:?}");
            let used: u64 = sizes.iter().sum();
            let given: u64 = sizes.iter().map(|it| it.next_power_of_two().max(BYTES_MIN)).sum();
            assert!(given <= used * 3 / 2 + (64 << 10), "{count} of {bytes}: {given} for {used}");
        }
    }

    #[test]
    fn what_is_encoded_comes_back_and_what_is_cut_off_does_not() {
        let pages = [&b"one"[..], b"", b"three"];
        let entries: Vec<Entry> =
            pages.iter().enumerate().map(|(number, page)| Entry::of(1, number, page)).collect();
        let mut value = vec![0; value_bytes(&entries)];
        let page = |entry: &Entry| Bytes::from_static(pages[entry.page()]);
        encode(Sequence(7), &entries, page, &mut value);
        let expected: Vec<_> = entries.iter().copied().zip(pages).collect();
        assert_eq!(decode(&value), Some((Sequence(7), expected)));
        for length in 0..value.len() {
            assert_eq!(decode(&value[..length]), None, "{length}");
        }
    }
}
