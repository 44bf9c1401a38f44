//! Values, lists, votes and tables in words and letters.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use pbft_app::core::generals::{Choice, General};
use pbft_sim::generals::Traitors;
use pbft_sim::generals::checker::Broken;
use serde::Serialize;

/// Whether to colour.
#[derive(Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Lies.
    pub(crate) fn lie(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// What came of it, well.
    pub(crate) fn good(self, text: &str) -> String {
        self.with("1;32", text)
    }

    /// Headings.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What may be skipped.
    pub(crate) fn faint(self, text: &str) -> String {
        self.with("2", text)
    }
}

/// Generals by number, as JSON has them.
pub(crate) fn by_name<T: Clone + Serialize>(map: &BTreeMap<General, T>) -> BTreeMap<u8, T> {
    map.iter().map(|(id, value)| (id.0, value.clone())).collect()
}

/// "1, 2 and 3"
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match words.split_last() {
        None => "nobody".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

/// "1, 2, 3"
pub(crate) fn commas<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// "1 message", "2 messages"
pub(crate) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

pub(crate) fn traitors(traitors: &Traitors) -> String {
    match traitors.len() {
        0 => "there is no traitor".to_owned(),
        1 => format!("general {} is a traitor", list(traitors)),
        _ => format!("generals {} are traitors", list(traitors)),
    }
}

/// Why a vote ends as it does.
pub(crate) fn because(choice: Choice, values: &[i128], outcome: i128) -> String {
    let total = values.len();
    let for_it = values.iter().filter(|value| **value == outcome).count();
    match choice {
        _ if total == 1 => "the only value there is".to_owned(),
        Choice::Majority if for_it > total / 2 => {
            format!("{for_it} of {total} values are {outcome}, more than half")
        }
        Choice::Majority => format!("no value is more than half of the {total}, so the default"),
        Choice::Median => {
            let mut sorted = values.to_vec();
            sorted.sort_unstable();
            let rank = total.div_ceil(2);
            let all = if total > 12 { String::new() } else { format!(" {}", commas(sorted)) };
            format!("sorted{all}: number {rank} of {total} is the lower middle")
        }
    }
}

/// IC1 and IC2 in words.
pub(crate) fn verdict(
    paint: Paint,
    commander: General,
    is_traitor: bool,
    order: i128,
    decisions: &BTreeMap<General, i128>,
    ic1: &Result<(), Broken<i128>>,
    ic2: &Result<(), Broken<i128>>,
) -> String {
    let mut text = String::new();
    let holds = |holds: bool, name: &str| match holds {
        true => paint.good(&format!("{name} holds")),
        false => paint.lie(&format!("{name} IS BROKEN")),
    };
    let said = match (ic1, decisions.values().next()) {
        (_, None) => "there is no loyal lieutenant who could disagree".to_owned(),
        (Ok(()), Some(value)) if decisions.len() > 12 => {
            format!("all {} loyal lieutenants decide {value}", decisions.len())
        }
        (Ok(()), Some(value)) => {
            format!("all loyal lieutenants ({}) decide {value}", commas(decisions.keys()))
        }
        (Err(broken), _) => format!("loyal lieutenants differ: {broken}"),
    };
    let _ = writeln!(text, "{}: {said}.", holds(ic1.is_ok(), "IC1"));
    let said = match ic2 {
        _ if is_traitor => {
            format!("general {commander}, in command, is a traitor, and nobody need obey it")
        }
        Ok(()) => format!("the commander is loyal, and its order {order} is obeyed"),
        Err(broken) => format!("the commander is loyal, but {broken}"),
    };
    let _ = writeln!(text, "{}: {said}.", holds(ic2.is_ok(), "IC2"));
    text
}

/// A cell of a table: its text, and whether it is to be marked as a lie.
#[derive(Clone, Default)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) lie: bool,
}

impl Cell {
    pub(crate) fn of(text: impl Display) -> Self {
        Cell { text: text.to_string(), lie: false }
    }

    pub(crate) fn lie(text: impl Display) -> Self {
        Cell { text: format!("{text}!"), lie: true }
    }
}

/// Rows under a heading, the first column to the left, the others, numbers, to the right.
pub(crate) fn table(paint: Paint, heading: &[String], rows: &[Vec<Cell>]) -> String {
    aligned(paint, heading, rows, 1)
}

/// Rows under a heading, everything to the left.
pub(crate) fn list_table(paint: Paint, heading: &[String], rows: &[Vec<Cell>]) -> String {
    aligned(paint, heading, rows, heading.len())
}

fn aligned(paint: Paint, heading: &[String], rows: &[Vec<Cell>], left: usize) -> String {
    let columns = heading.len();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| &cell.text);
        let longest = cells.chain(heading.get(column)).map(|text| text.chars().count()).max();
        longest.unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let pad = |column: usize, text: &str| {
        let room = widths.get(column).copied().unwrap_or(0);
        let blank = " ".repeat(room.saturating_sub(text.chars().count()));
        if column < left { (String::new(), blank) } else { (blank, String::new()) }
    };
    let mut out = String::new();
    let mut line = |cells: Vec<String>| {
        let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
    };
    let head = heading.iter().enumerate().map(|(column, text)| {
        let (before, after) = pad(column, text);
        format!("{before}{}{after}", paint.faint(text))
    });
    line(head.collect());
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let (before, after) = pad(column, &cell.text);
            let text = if cell.lie { paint.lie(&cell.text) } else { cell.text.clone() };
            format!("{before}{text}{after}")
        });
        line(cells.collect());
    }
    out
}
