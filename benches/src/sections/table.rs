//! Rows of figures in Markdown.

use std::fmt::Write as _;

use crate::outcome::{Measured, Spread};
use crate::report::Point;

/// A whole number with its thousands apart.
pub(super) fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits that count.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => whole(value),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

pub(super) fn spread(spread: Spread) -> String {
    let Spread { median, low, high } = spread;
    if low == high {
        return whole(median);
    }
    format!("{} [{}..{}]", whole(median), whole(low), whole(high))
}

pub(super) const HEAD: &str = "operations/s | p50 us | p99 us | CPU s per million: all, clients, each replica | operations a slot | fsyncs an operation | peak MiB of a replica";
pub(super) const RULE: &str = "---|---|---|---|---|---|---";

/// The usual columns.
pub(super) fn columns(measured: &Measured) -> String {
    let run = measured.middle();
    let summary = &measured.summary;
    let cpu = &run.cpu_seconds_per_million;
    let replicas = cpu.replicas.iter().sum::<f64>() / cpu.replicas.len().max(1) as f64;
    let mut text = format!(
        "{} | {} | {} | {}, {}, {}",
        spread(summary.ops_per_second),
        whole(summary.p50_us.median),
        whole(summary.p99_us.median),
        figure(summary.cpu_seconds_per_million.median),
        figure(cpu.clients),
        figure(replicas),
    );
    let fill = run.batches.map_or_else(String::new, |it| figure(it.operations_per_slot));
    let syncs = run.journal.map_or_else(|| "none".to_owned(), |it| figure(it.syncs_per_operation));
    let peaks = run.peak_resident_bytes.iter().filter(|(name, _)| name.starts_with("replica"));
    let peak = peaks.map(|(_, bytes)| *bytes).max().unwrap_or(0) as f64 / f64::from(1 << 20);
    let _ = write!(text, " | {fill} | {syncs} | {peak:.0}");
    text
}

/// A table of points: label, curve, and the usual columns.
pub(super) fn points(what: &str, points: &[Point]) -> String {
    let mut text = format!("| {what} | load | {HEAD} |\n|---|---|{RULE}|\n");
    for point in points {
        let columns = match &point.measured {
            Ok(measured) => columns(measured),
            Err(why) => format!("{why} | | | | | |"),
        };
        let _ = writeln!(text, "| {} | {} | {columns} |", point.label, point.curve);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_rounded() {
        assert_eq!([0.4, 999.0, 1000.0, 1234567.0].map(whole), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.1234, 1.234, 12.34, 1234.0].map(figure), ["0.123", "1.23", "12.3", "1,234"]);
        let range = Spread { median: 5000.0, low: 4000.0, high: 6000.0 };
        assert_eq!(spread(range), "5,000 [4,000..6,000]");
    }
}
