//! What the kernel says of a process: processor time, by thread too, and memory.

use std::collections::BTreeMap;
use std::fs;

/// Linux counts processor time in hundredths of a second for programs, whatever it does inside.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process used so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds outside and inside the kernel.
    pub user: f64,
    pub kernel: f64,
    /// Seconds of each thread that is alive, by its id, and its name.
    pub threads: BTreeMap<u32, (String, f64)>,
    /// Bytes of memory now, and at most so far.
    pub resident: u64,
    pub resident_max: u64,
}

/// What it used between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spent {
    pub user: f64,
    pub kernel: f64,
    /// By name, the number of the replica left out.
    pub threads: BTreeMap<String, f64>,
}

impl Spent {
    pub fn total(&self) -> f64 {
        self.user + self.kernel
    }
}

impl Usage {
    /// Of a process that runs; `None` once it is gone.
    pub fn of(pid: u32) -> Option<Usage> {
        let (_, user, kernel) = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            // A thread may end between the two reads.
            let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let id = entry.file_name().to_string_lossy().parse();
            if let (Ok(id), Some((name, user, kernel))) = (id, parse_stat(&text)) {
                threads.insert(id, (name, user + kernel));
            }
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let (resident, resident_max) =
            (parse_bytes(&status, "VmRSS:")?, parse_bytes(&status, "VmHWM:")?);
        Some(Usage { user, kernel, threads, resident, resident_max })
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Usage) -> Spent {
        let mut threads = BTreeMap::new();
        for (id, (name, seconds)) in &self.threads {
            let before = earlier.threads.get(id).map_or(0.0, |(_, seconds)| *seconds);
            *threads.entry(role(name)).or_insert(0.0) += seconds - before;
        }
        Spent { user: self.user - earlier.user, kernel: self.kernel - earlier.kernel, threads }
    }
}

/// Bytes of memory that a process holds now.
pub fn resident(pid: u32) -> Option<u64> {
    parse_bytes(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

/// The thread's name without the number behind it.
fn role(name: &str) -> String {
    let bare = name.trim_end_matches(|end: char| end.is_ascii_digit());
    bare.strip_suffix('-').unwrap_or(name).to_owned()
}

/// Name, seconds outside and seconds inside the kernel. The name may hold spaces and brackets.
fn parse_stat(text: &str) -> Option<(String, f64, f64)> {
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some((name, seconds()?, seconds()?))
}

fn parse_bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_holds() {
        let line = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 100 1 2";
        assert_eq!(parse_stat(line), Some(("a (b) c".to_owned(), 2.5, 0.5)));
        assert_eq!(parse_stat("nothing"), None);
    }

    #[test]
    fn threads_are_known_by_what_they_do() {
        assert_eq!(role("replica-0"), "replica");
        assert_eq!(role("execute-12"), "execute");
        assert_eq!(role("tokio-rt-worker"), "tokio-rt-worker");
        assert_eq!(role("x86"), "x86");
    }

    #[test]
    fn what_is_spent_counts_new_threads_from_nothing() {
        let thread = |id: u32, name: &str, seconds: f64| (id, (name.to_owned(), seconds));
        let before =
            Usage { user: 1.0, threads: [thread(1, "replica-0", 1.0)].into(), ..Usage::default() };
        let threads = [thread(1, "replica-0", 1.5), thread(2, "execute-0", 0.25)].into();
        let after = Usage { user: 1.5, kernel: 0.25, threads, ..Usage::default() };
        let spent = after.since(&before);
        assert!((spent.total() - 0.75).abs() < 1e-9);
        assert!((spent.threads["replica"] - 0.5).abs() < 1e-9);
        assert!((spent.threads["execute"] - 0.25).abs() < 1e-9);
    }

    #[test]
    fn this_process_is_accounted_for() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 0 && usage.resident_max >= usage.resident);
        assert!(!usage.threads.is_empty());
        assert_eq!(parse_bytes("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12 * 1024));
    }
}
