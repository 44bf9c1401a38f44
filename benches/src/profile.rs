//! Where the processor's time goes, by what the code at hand is doing: `perf` samples, sorted by symbol.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::patterns::{CATEGORIES, classify};

/// Samples per second of every core. No round number: it must not beat with anything periodic.
const FREQUENCY: &str = "499";
/// Symbols named beside the shares.
const TOP: usize = 12;

/// Shares of the processor time of all processes of a run, self time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub samples: u64,
    /// Percent by category.
    pub shares: BTreeMap<String, f64>,
    /// Percent, category and symbol of the costliest.
    pub top: Vec<(f64, String, String)>,
}

/// `perf`, at work.
pub struct Recording {
    perf: Child,
    file: PathBuf,
}

/// Whether `perf` can be used at all.
///
/// # Errors
/// It is not there.
pub fn check() -> Result<(), Failure> {
    let found = Command::new("perf").arg("--version").stdout(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Failure::usage(
        "--profile",
        "perf",
        "no such program on PATH: install your kernel's perf (linux-perf, linux-tools), or leave the option out",
    ))
}

impl Recording {
    /// Samples these processes for so long.
    ///
    /// # Errors
    /// `perf` cannot be started.
    pub fn start(directory: &Path, pids: &[u32], length: Duration) -> Result<Self, Failure> {
        let file = directory.join("perf.data");
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let perf = Command::new("perf")
            .args(["record", "--quiet", "--freq", FREQUENCY, "--pid", &pids.join(","), "--output"])
            .arg(&file)
            .args(["--", "sleep", &format!("{:.2}", length.as_secs_f64())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::of("cannot start perf", error))?;
        Ok(Recording { perf, file })
    }

    /// What it has seen.
    ///
    /// # Errors
    /// `perf` failed, or saw nothing.
    pub fn finish(mut self) -> Result<Profile, Failure> {
        let status = self.perf.wait()?;
        if !status.success() {
            let remedy =
                "it may not watch processes here: see /proc/sys/kernel/perf_event_paranoid";
            return Err(Failure::Failed(format!("perf record ended with {status}: {remedy}")));
        }
        let output = Command::new("perf")
            .args(["report", "--stdio", "--no-inline", "--show-nr-samples"])
            .args(["--fields", "overhead,sample,dso,symbol", "--input"])
            .arg(&self.file)
            .stderr(Stdio::null())
            .output()?;
        let profile = parse(&String::from_utf8_lossy(&output.stdout));
        if profile.samples == 0 {
            return Err(Failure::Failed("perf has no samples of the processes".to_owned()));
        }
        Ok(profile)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }
}

/// Reads lines such as `12.50%  100  cluster  [.] sha2::sha256::compress`.
fn parse(report: &str) -> Profile {
    let mut symbols: Vec<(u64, &'static str, String)> = Vec::new();
    for line in report.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(share), Some(samples), Some(object)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let (true, Ok(samples)) = (share.ends_with('%'), samples.parse::<u64>()) else { continue };
        let is_kernel = words.next() == Some("[k]");
        let symbol = words.collect::<Vec<_>>().join(" ");
        symbols.push((samples, classify(is_kernel, object, &symbol), symbol));
    }
    symbols.sort_by_key(|(samples, _, _)| std::cmp::Reverse(*samples));
    let all: u64 = symbols.iter().map(|(samples, _, _)| samples).sum();
    let percent = |samples: u64| 100.0 * samples as f64 / all.max(1) as f64;
    let mut shares: BTreeMap<String, f64> = BTreeMap::new();
    for (samples, category, _) in &symbols {
        *shares.entry((*category).to_owned()).or_insert(0.0) += percent(*samples);
    }
    let top = symbols.into_iter().take(TOP);
    let top =
        top.map(|(samples, category, symbol)| (percent(samples), category.to_owned(), symbol));
    Profile { samples: all, shares, top: top.collect() }
}

impl Profile {
    /// Categories in their own order with their share, the largest symbols below.
    pub fn describe(&self) -> String {
        let mut text = format!("processor time by what it is spent on, {} samples\n", self.samples);
        for (category, share) in self.in_order() {
            let _ = writeln!(text, "{share:>7.1} %  {category}");
        }
        let _ = writeln!(text, "the costliest symbols");
        for (share, category, symbol) in &self.top {
            let short: String = symbol.chars().take(90).collect();
            let _ = writeln!(text, "{share:>7.1} %  {category}: {short}");
        }
        text
    }

    /// Every category, with nothing where nothing was seen.
    pub fn in_order(&self) -> impl Iterator<Item = (&'static str, f64)> {
        CATEGORIES.iter().map(|name| (*name, self.shares.get(*name).copied().unwrap_or(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_perf_is_read_and_classified() {
        let report = "# Samples: 8\n#\n\
            \x20   50.00%       4  cluster            [.] sha2::sha256::x86_sha::compress\n\
            \x20   25.00%       2  [kernel.kallsyms]  [k] udp_sendmsg\n\
            \x20   12.50%       1  libc.so.6          [.] malloc\n\
            \x20   12.50%       1  cluster            [.] <alloc::vec::Vec<T> as Something>::odd name\n\n";
        let profile = parse(report);
        assert_eq!(profile.samples, 8);
        assert_eq!(profile.shares["hash"], 50.0);
        assert_eq!(profile.shares["network"], 25.0);
        assert_eq!(profile.shares["memory"], 12.5);
        assert_eq!(profile.shares["rest"], 12.5);
        assert_eq!(profile.top[0].2, "sha2::sha256::x86_sha::compress");
        assert_eq!(profile.shares.values().sum::<f64>(), 100.0);
    }
}
