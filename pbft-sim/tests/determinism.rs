//! The check for authors: it lets a good application pass and tells of each bad one what is wrong with it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pbft_core::application::{Application, Context};
use pbft_core::message::{Outcome, Refusal};
use pbft_core::pages::Pages;
use pbft_sim::determinism::{Determinism, Difference, Divergence, Summary};

/// How an application errs, if it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    ListsInHashOrder,
    WritesInHashOrder,
    WritesTheLastKeyOnly,
    ForgetsTheCount,
    RestoresWithoutClearing,
    CountsInAStatic,
    CountsByThread,
    ShowsAnAddress,
    Panics,
    PanicsOnRestore,
}

static CALLS: AtomicU64 = AtomicU64::new(0);

std::thread_local! {
    static CALLS_HERE: AtomicU64 = const { AtomicU64::new(0) };
}

/// Keys with numbers, and a count of operations. `put` adds a key, `many` forty, `drop` removes all; `list`
/// and `count` tell.
struct Store {
    flaw: Flaw,
    ordered: BTreeMap<String, u64>,
    hashed: HashMap<String, u64>,
    count: u64,
    last: u64,
    anchor: Box<u8>,
}

impl Store {
    fn new(flaw: Flaw) -> Self {
        let (ordered, hashed) = (BTreeMap::new(), HashMap::new());
        Store { flaw, ordered, hashed, count: 0, last: 0, anchor: Box::new(0) }
    }

    fn put(&mut self, key: String) {
        self.ordered.insert(key.clone(), self.count);
        self.hashed.insert(key, self.count);
    }

    fn list(&self, hashed: bool) -> String {
        let line = |(key, value): (&String, &u64)| format!("{key} {value}\n");
        if hashed {
            self.hashed.iter().map(line).collect()
        } else {
            self.ordered.iter().map(line).collect()
        }
    }
}

impl Application for Store {
    fn execute(&mut self, _: &Context, operation: &[u8]) -> Result<Bytes, Refusal> {
        self.count += 1;
        let counted = |calls: &AtomicU64| calls.fetch_add(1, Ordering::Relaxed);
        let calls = match self.flaw {
            Flaw::CountsByThread => CALLS_HERE.with(counted),
            _ => counted(&CALLS),
        };
        let told = match std::str::from_utf8(operation).unwrap() {
            "many" => {
                (0..40).for_each(|number| self.put(format!("many {number}")));
                String::new()
            }
            "drop" => {
                self.ordered.clear();
                self.hashed.clear();
                String::new()
            }
            "list" => self.list(self.flaw == Flaw::ListsInHashOrder),
            "count" => match self.flaw {
                Flaw::CountsInAStatic | Flaw::CountsByThread => calls.to_string(),
                Flaw::ShowsAnAddress => format!("{:p}", &raw const *self.anchor),
                _ => self.count.to_string(),
            },
            "refuse" => return Err(Refusal::new(1, "as asked")),
            "bad" if self.flaw == Flaw::Panics => panic!("a bad operation"),
            "bad" => String::new(),
            key => {
                self.last = self.count;
                self.put(key.to_owned());
                String::new()
            }
        };
        Ok(Bytes::from(told))
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, Refusal> {
        Ok(Bytes::new())
    }

    fn checkpoint(&mut self, pages: &mut Pages) {
        let count = if self.flaw == Flaw::ForgetsTheCount { 0 } else { self.count };
        pages.write(0, Bytes::from(format!("{count} {}", self.last))).unwrap();
        if self.flaw == Flaw::WritesTheLastKeyOnly {
            let number = usize::try_from(self.last).unwrap();
            let found = self.ordered.iter().find(|(_, value)| **value == self.last);
            let page = found.map(|(key, value)| format!("{key} {value}\n")).unwrap_or_default();
            return pages.write(number + 1, Bytes::from(page)).unwrap();
        }
        let list = self.list(self.flaw == Flaw::WritesInHashOrder);
        pages.write(1, Bytes::from(list)).unwrap();
    }

    fn restore(&mut self, pages: &Pages) {
        assert!(self.flaw != Flaw::PanicsOnRestore || pages.count() == 0, "not expected");
        let head = String::from_utf8(pages.page(0).to_vec()).unwrap();
        let (count, last) = head.split_once(' ').unwrap_or(("0", "0"));
        (self.count, self.last) = (count.parse().unwrap(), last.parse().unwrap());
        if self.flaw != Flaw::RestoresWithoutClearing {
            self.ordered.clear();
            self.hashed.clear();
        }
        for page in pages.iter().skip(1) {
            for line in std::str::from_utf8(page).unwrap().lines() {
                let (key, value) = line.rsplit_once(' ').unwrap();
                self.ordered.insert(key.to_owned(), value.parse().unwrap());
                self.hashed.insert(key.to_owned(), value.parse().unwrap());
            }
        }
    }
}

/// Thirty keys, and in their midst whatever shows the flaw.
fn operations(special: &[&str]) -> Vec<Vec<u8>> {
    let key = |number: u32| format!("key {number}").into_bytes();
    let before = (0..15).map(|_| key(0));
    let special = special.iter().map(|operation| operation.as_bytes().to_vec());
    before.chain(special).chain((15..30).map(key)).collect()
}

fn check(flaw: Flaw, special: &[&str], seed: u64) -> Result<Summary, Divergence> {
    let factory = move || Box::new(Store::new(flaw)) as Box<dyn Application>;
    Determinism::new(factory).operations(operations(special)).runs(4).seed(seed).check()
}

fn found(flaw: Flaw, special: &[&str], seed: u64) -> Divergence {
    let divergence = check(flaw, special, seed).unwrap_err();
    println!("{divergence}\n");
    assert_eq!(divergence.bytes, operations(special)[divergence.operation]);
    divergence
}

#[test]
fn a_good_application_passes() {
    for seed in 0..20 {
        let special = ["many", "list", "count", "refuse", "drop", "bad", "list"];
        let summary = check(Flaw::None, &special, seed).unwrap();
        assert_eq!(summary.operations, 37);
        assert!((3..37).contains(&summary.slots));
        assert!(summary.restores >= 3 && summary.snapshots > summary.slots + 3, "{summary:?}");
        let again = check(Flaw::None, &special, seed).unwrap();
        assert_eq!(again, summary, "the seed decides");
    }
    let factory = || Box::new(Store::new(Flaw::None)) as Box<dyn Application>;
    assert_eq!(Determinism::new(factory).check().unwrap().operations, 0);
}

#[test]
fn a_result_in_hash_order_is_found_and_its_operation_named() {
    for seed in 0..10 {
        let found = found(Flaw::ListsInHashOrder, &["many", "count", "list"], seed);
        assert_eq!(found.operation, 17);
        assert!(matches!(*found.what, Difference::Result { .. }));
        assert!(found.to_string().starts_with("operation 17 (\"list\") gave Done(b\""));
    }
}

#[test]
fn pages_in_hash_order_are_found_and_the_first_operation_named() {
    for seed in 0..10 {
        let found = found(Flaw::WritesInHashOrder, &["count", "many", "list"], seed);
        assert_eq!(found.operation, 16);
        assert!(matches!(*found.what, Difference::State { .. }));
    }
}

#[test]
fn a_page_left_out_because_another_one_changed_later_is_found() {
    for seed in 0..10 {
        let found = found(Flaw::WritesTheLastKeyOnly, &["count", "a", "b"], seed);
        assert!(found.circumstance.contains("`checkpoint` left out a page"), "{found}");
        // The first key's page needs a second key's operation to be left out.
        assert_eq!(found.operation, 1);
        assert!(matches!(*found.what, Difference::State { .. }));
    }
}

#[test]
fn a_field_that_checkpoint_forgets_is_found_by_a_restore() {
    for seed in 0..10 {
        let found = found(Flaw::ForgetsTheCount, &["count"], seed);
        let Difference::Restored { lost, difference } = &*found.what else {
            panic!("{found}");
        };
        // The second key's number already depends on the count.
        assert_eq!((found.operation, *lost), (1, Some(0)));
        assert!(matches!(**difference, Difference::State { .. }));
        let causes = "usual causes are state not covered by `checkpoint`";
        assert!(found.to_string().contains(causes), "{found}");
    }
}

#[test]
fn what_restore_leaves_from_before_is_found() {
    let found = (0..20).find_map(|seed| {
        check(Flaw::RestoresWithoutClearing, &["many", "x", "drop", "list"], seed).err()
    });
    let found = found.unwrap();
    println!("{found}");
    assert!(matches!(*found.what, Difference::Restored { .. }));
}

#[test]
fn a_static_and_a_thread_s_own_variable_are_found() {
    for seed in 0..10 {
        for flaw in [Flaw::CountsInAStatic, Flaw::CountsByThread, Flaw::ShowsAnAddress] {
            let found = found(flaw, &["x", "count"], seed);
            assert_eq!(found.operation, 16);
            let Difference::Result { first, second } = &*found.what else { panic!("{found}") };
            assert!(matches!((first, second), (Outcome::Done(_), Outcome::Done(_))));
        }
    }
}

#[test]
fn a_panic_is_reported_with_its_operation() {
    for seed in 0..10 {
        let found = found(Flaw::Panics, &["many", "bad", "list"], seed);
        let message = "a bad operation".to_owned();
        assert_eq!((found.operation, *found.what), (16, Difference::Panicked { message }));
    }
    let found = found(Flaw::PanicsOnRestore, &[], 1);
    assert_eq!(*found.what, Difference::Panicked { message: "not expected".to_owned() });
}
