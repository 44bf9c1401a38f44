//! Where a measurement was made, and of what.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine, the tree and the disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    pub memory_bytes: u64,
    pub kernel: String,
    /// Commit of the tree this program was built in, with `+` if something in it was changed since.
    pub commit: String,
    /// Where replicas that store on a disk do so, and what kind of file system that is.
    pub storage: String,
    /// Processes that wanted to run, over the last minute, before the measurement.
    pub load_average: f64,
}

impl Machine {
    /// This one.
    pub fn here(directory: &Path) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let model =
            info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        let memory = read("/proc/meminfo");
        let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = kib.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        let load = read("/proc/loadavg");
        Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: model.unwrap_or("an unknown processor").to_owned(),
            memory_bytes: kib.unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: commit(),
            storage: format!("{} ({})", directory.display(), file_system(directory)),
            load_average: load
                .split_whitespace()
                .next()
                .map_or(0.0, |it| it.parse().unwrap_or(0.0)),
        }
    }

    /// In one line.
    pub fn describe(&self) -> String {
        let gib = self.memory_bytes as f64 / f64::from(1 << 30);
        format!(
            "{} cores of {}, {gib:.0} GiB, Linux {}, commit {}, storage {}, load average {:.1} before",
            self.cores, self.processor, self.kernel, self.commit, self.storage, self.load_average
        )
    }
}

/// The file system with the longest mount point above the directory.
fn file_system(directory: &Path) -> String {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let above = mounts.filter(|(point, _)| directory.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map_or("unknown", |(_, kind)| kind).to_owned()
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_some_and(|changed| !changed.is_empty()) { commit + "+" } else { commit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_is() {
        let machine = Machine::here(Path::new("/proc"));
        assert!(machine.cores > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty());
        assert!(machine.storage.ends_with("(proc)"), "{}", machine.storage);
    }
}
