//! An application whose state is many pages: for state transfer and for the cost of checkpoints.

use bytes::Bytes;
use pbft_app::{Application, Context, Pages, Refusal};

/// Bytes in one page, unless it is made with others.
pub const PAGE: usize = 4096;

/// So many pages. The operation `number (4 bytes, little-endian)` writes the slot's number into that page
/// and returns what it held.
pub struct Paged {
    page_bytes: usize,
    pages: Vec<Bytes>,
    changed: Vec<usize>,
}

impl Paged {
    /// `count` pages of [`PAGE`] bytes, each different from the others.
    pub fn new(count: usize) -> Self {
        Paged::with_page_bytes(count, PAGE)
    }

    /// `count` pages of so many bytes, at least 16, each different from the others.
    pub fn with_page_bytes(count: usize, page_bytes: usize) -> Self {
        let page = |number: usize| Self::page(page_bytes, number, 0);
        Paged { page_bytes, pages: (0..count).map(page).collect(), changed: (0..count).collect() }
    }

    fn page(page_bytes: usize, number: usize, value: u64) -> Bytes {
        let mut page = vec![0; page_bytes];
        page[..8].copy_from_slice(&value.to_le_bytes());
        page[8..16].copy_from_slice(&number.to_le_bytes());
        Bytes::from(page)
    }
}

impl Application for Paged {
    fn execute(&mut self, context: &Context, operation: &[u8]) -> Result<Bytes, Refusal> {
        let number = operation.try_into().map(u32::from_le_bytes);
        let number = number.map_err(|_| Refusal::new(1, "four bytes, please"))? as usize;
        let Some(page) = self.pages.get_mut(number) else {
            return Err(Refusal::new(2, "no such page"));
        };
        // A slice would keep the whole old page for as long as the reply is kept.
        let before = Bytes::copy_from_slice(&page[..8]);
        *page = Self::page(self.page_bytes, number, context.sequence().0);
        self.changed.push(number);
        Ok(before)
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, Refusal> {
        Ok(Bytes::new())
    }

    fn checkpoint(&mut self, pages: &mut Pages) {
        for number in self.changed.drain(..) {
            pages.write(number, self.pages[number].clone()).unwrap();
        }
    }

    fn restore(&mut self, pages: &Pages) {
        // Before the first operation there are none: then the state is what it was made with.
        if pages.count() > 0 {
            self.pages = pages.iter().cloned().collect();
            self.changed.clear();
        }
    }
}
