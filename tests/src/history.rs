//! Histories that `counter history` writes down, and whether they are linearizable.
//!
//! Amounts are positive and values are sums, so the order of the values of the additions is the order in which
//! they were executed: no search is needed, and the check is linear but for sorting.

use std::path::Path;

use serde_json::Value;

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    add: bool,
    amount: i64,
    invoked: u64,
    /// `None`: its outcome is unknown.
    completed: Option<u64>,
    value: Option<i64>,
}

/// What clients saw of a counter, in any order.
#[derive(Clone, Debug, Default)]
pub struct History(Vec<Operation>);

/// What a history that holds comes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Operations with an outcome.
    pub committed: usize,
    /// Operations without.
    pub unknown: usize,
    /// The counter after it.
    pub value: i64,
    /// The longest time in which no operation at all ended, in nanoseconds.
    pub longest_stall: u64,
}

impl History {
    /// Reads the lines that `counter history --out` wrote.
    pub fn read(path: &Path) -> History {
        let text = std::fs::read_to_string(path).unwrap();
        let operation = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_ne!(line["outcome"], "refused", "the counter is far from its bounds");
            Operation {
                add: line["op"] == "add",
                amount: line["amount"].as_i64().unwrap(),
                invoked: line["invoke_ns"].as_u64().unwrap(),
                completed: line["complete_ns"].as_u64(),
                value: line["value"].as_i64(),
            }
        };
        History(text.lines().map(operation).collect())
    }

    /// Whether it is the history of one counter that was `start` before it and is `end` after it: every addition
    /// with an outcome happened once, every one without at most once, all in an order that real time allows.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, start: i64, end: i64) -> Result<Summary, String> {
        let unknown = self.0.iter().filter(|it| it.value.is_none());
        let (count, room) = unknown.fold((0, 0), |(count, room), it| (count + 1, room + it.amount));
        let values = self.sums(start, end, room)?;
        for get in self.0.iter().filter(|it| !it.add) {
            // Sums that only unknown additions make are seen by nobody else.
            if let Some(value) = get.value
                && room == 0
                && values.binary_search(&value).is_err()
            {
                return Err(format!("a value nobody wrote: {get:?}"));
            }
        }
        self.real_time(start)?;
        let committed = self.0.len() - count;
        let longest_stall = self.longest_stall();
        Ok(Summary { committed, unknown: count, value: end, longest_stall })
    }

    /// The sums in order; what lies between them was added by operations with unknown outcomes, of which there
    /// is `room` in all.
    fn sums(&self, start: i64, end: i64, room: i64) -> Result<Vec<i64>, String> {
        let mut adds: Vec<(i64, i64)> = { self.0.iter().filter(|it| it.add) }
            .filter_map(|it| Some((it.value?, it.amount)))
            .collect();
        adds.sort_unstable();
        let (mut value, mut left, mut sums) = (start, room, vec![start]);
        for (after, amount) in adds {
            let between = after - amount - value;
            if between < 0 || between > left {
                return Err(format!(
                    "an addition is lost or doubled: {value}, then {after} by adding {amount}"
                ));
            }
            left -= between;
            value = after;
            sums.push(value);
        }
        if end < value || end - value > left {
            return Err(format!("the counter is {end} after additions up to {value}"));
        }
        Ok(sums)
    }

    /// Whoever ends before another begins has no greater value, and if both add a smaller one.
    fn real_time(&self, start: i64) -> Result<(), String> {
        let mut ends: Vec<(u64, i64)> =
            self.0.iter().filter_map(|it| Some((it.completed?, it.value?))).collect();
        ends.sort_unstable();
        let mut begins: Vec<&Operation> = self.0.iter().filter(|it| it.value.is_some()).collect();
        begins.sort_unstable_by_key(|it| it.invoked);
        let (mut ended, mut highest) = (ends.into_iter().peekable(), start);
        for operation in begins {
            while let Some((_, value)) = ended.next_if(|(at, _)| *at < operation.invoked) {
                highest = highest.max(value);
            }
            let value = operation.value.unwrap_or(highest);
            let least = if operation.add { highest + operation.amount } else { highest };
            if value < least {
                return Err(format!("{operation:?} began after somebody had seen {highest}"));
            }
        }
        Ok(())
    }

    fn longest_stall(&self) -> u64 {
        let mut ends: Vec<u64> = self.0.iter().filter_map(|it| it.completed).collect();
        ends.sort_unstable();
        ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(amount: i64, invoked: u64, completed: u64, value: i64) -> Operation {
        let (completed, value) = (Some(completed), Some(value));
        Operation { add: true, amount, invoked, completed, value }
    }

    fn get(invoked: u64, completed: u64, value: i64) -> Operation {
        Operation { add: false, ..add(0, invoked, completed, value) }
    }

    fn unknown(amount: i64) -> Operation {
        Operation { add: true, amount, invoked: 0, completed: None, value: None }
    }

    fn check(operations: &[Operation], end: i64) -> Result<Summary, String> {
        History(operations.to_vec()).check(0, end)
    }

    #[test]
    fn histories_of_one_counter_hold() {
        assert!(check(&[add(5, 1, 2, 5), get(3, 4, 5), add(2, 3, 6, 7)], 7).is_ok());
        assert!(check(&[add(5, 1, 2, 5), unknown(3), add(2, 3, 6, 10)], 10).is_ok());
        assert!(check(&[add(5, 1, 2, 5), unknown(3)], 5).is_ok());
        assert!(check(&[add(5, 1, 2, 5), unknown(3)], 8).is_ok());
    }

    #[test]
    fn lost_doubled_and_stale_operations_are_found() {
        assert!(check(&[add(5, 1, 2, 5), add(2, 3, 4, 2)], 5).is_err(), "lost");
        assert!(check(&[add(5, 1, 2, 5)], 0).is_err(), "forgotten");
        assert!(check(&[add(5, 1, 2, 5)], 10).is_err(), "doubled");
        assert!(check(&[add(5, 1, 2, 5), add(2, 3, 4, 12)], 12).is_err(), "doubled in between");
        assert!(check(&[unknown(3), add(5, 1, 2, 5)], 11).is_err(), "an unknown one doubled");
        assert!(check(&[add(5, 1, 2, 5), get(3, 4, 0)], 5).is_err(), "stale");
        assert!(check(&[add(5, 1, 2, 5), get(3, 4, 6)], 5).is_err(), "never written");
        assert!(check(&[add(5, 3, 4, 5), add(2, 1, 2, 7)], 7).is_err(), "against real time");
    }
}
