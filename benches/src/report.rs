//! `cluster report`: the whole matrix, one run after another, into a directory: `report.md`, its pictures and
//! `report.json`. What people write about it stands elsewhere, so that all of it can be made again at any commit.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::machine::Machine;
use crate::measure::{Run, Watch, measure};
use crate::outcome::Measured;
use crate::sections;
use crate::workload::Workload;

/// Options of `cluster report`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Fewer and shorter runs, to see that everything works: no figures to quote
    #[arg(long)]
    quick: bool,
    /// Where the report goes
    #[arg(long, default_value = "docs/benchmarks")]
    output: PathBuf,
    /// Directory on the disk that replicas are to use [default: where temporary files go]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Seconds measured for each point [default: 5, or 1 if quick]
    #[arg(long)]
    seconds: Option<f64>,
    /// Runs of each row of the goals [default: 3, or 1 if quick]
    #[arg(long)]
    runs: Option<usize>,
    /// Only these sections; the others stay as the report in the same place has them
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// A point of a section: one workload, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// What is compared along the section, in words and as a number.
    pub label: String,
    pub x: f64,
    /// Which of several curves it belongs to.
    pub curve: String,
    /// Nothing if nothing could be measured, with the reason.
    pub measured: Result<Measured, String>,
}

impl Point {
    pub fn ops(&self) -> Option<f64> {
        Some(self.measured.as_ref().ok()?.summary.ops_per_second.median)
    }
}

/// A section as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Section {
    pub name: String,
    pub commit: String,
    pub points: Vec<Point>,
    /// Its text, Markdown.
    pub text: String,
}

/// The file beside the text.
#[derive(Serialize, Deserialize)]
struct Kept {
    machine: Machine,
    quick: bool,
    sections: Vec<Section>,
}

/// What every section uses to measure.
pub struct Bench<'a> {
    pub arguments: &'a Arguments,
    pub output: &'a Path,
    bar: ProgressBar,
}

impl Bench<'_> {
    pub fn is_quick(&self) -> bool {
        self.arguments.quick
    }

    pub fn runs(&self) -> usize {
        self.arguments.runs.unwrap_or(if self.is_quick() { 1 } else { 3 })
    }

    /// The same workload for the time of one point.
    pub fn timed(&self, workload: &Workload) -> Workload {
        let seconds = self.arguments.seconds.unwrap_or(if self.is_quick() { 1.0 } else { 5.0 });
        let warmup = if self.is_quick() { 0.5 } else { 1.0 };
        Workload { seconds, warmup, ..workload.clone() }
    }

    pub fn watch(&self) -> Watch {
        let directory = self.arguments.directory.clone();
        Watch { directory, quiet: true, ..Watch::default() }
    }

    /// Measures once, with everything that is wanted of it.
    ///
    /// # Errors
    /// As [`measure`].
    pub fn run(&self, workload: &Workload, watch: &Watch) -> Result<Run, Failure> {
        let run = measure(workload, watch);
        self.bar.inc(1);
        run
    }

    /// Measures once for the time of one point.
    ///
    /// # Errors
    /// As [`measure`].
    pub fn once(&self, workload: &Workload) -> Result<Measured, Failure> {
        let workload = self.timed(workload);
        let run = self.run(&workload, &self.watch())?;
        Ok(Measured::new(workload, vec![run.result]))
    }

    /// A point of one curve.
    ///
    /// # Errors
    /// An option that does not hold. That nothing could be measured is a result.
    pub fn point(
        &self,
        label: impl ToString,
        x: f64,
        curve: &str,
        workload: &Workload,
    ) -> Result<Point, Failure> {
        let measured = match self.once(workload) {
            Ok(measured) => Ok(measured),
            Err(Failure::Failed(why)) => {
                self.bar.suspend(|| eprintln!("{}: {why}", workload.describe()));
                Err(why)
            }
            Err(usage) => return Err(usage),
        };
        Ok(Point { label: label.to_string(), x, curve: curve.to_owned(), measured })
    }
}

/// Measures and writes everything.
///
/// # Errors
/// An option that does not hold, a section without any figure, or a file that cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let all = sections::all();
    for name in &arguments.only {
        if !all.iter().any(|section| section.name == name) {
            let names: Vec<&str> = all.iter().map(|section| section.name).collect();
            let remedy = format!("the sections are {}", names.join(", "));
            return Err(Failure::usage("--only", name, remedy));
        }
    }
    if arguments.runs == Some(0) {
        return Err(Failure::usage("--runs", 0, "take at least 1"));
    }
    let output = arguments.output.as_path();
    std::fs::create_dir_all(output)
        .map_err(|error| Failure::usage("--output", output.display(), error))?;
    let disk = arguments.directory.clone().unwrap_or_else(std::env::temp_dir);
    let machine = Machine::here(&disk);
    let earlier = if arguments.only.is_empty() { Vec::new() } else { kept(output)?.sections };
    let is_wanted =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let bench = Bench { arguments, output, bar: pbft_sim::progress::bar(0, "runs") };
    let runs = all.iter().filter(|section| is_wanted(section.name)).map(|section| {
        let runs = if bench.is_quick() { section.runs_quick } else { section.runs };
        if section.name == "goals" { runs * bench.runs() as u64 } else { runs }
    });
    bench.bar.set_length(runs.sum());
    let mut sections = Vec::new();
    for sections::Section { name, measure, .. } in all {
        if is_wanted(name) {
            let (points, text) = measure(&bench)?;
            if points.iter().all(|point| point.measured.is_err()) {
                let why = points.into_iter().find_map(|point| point.measured.err());
                let why = why.unwrap_or_else(|| "there are no points".to_owned());
                return Err(Failure::Failed(format!("the section {name} has no figures: {why}")));
            }
            let commit = machine.commit.clone();
            sections.push(Section { name: name.to_owned(), commit, points, text });
        } else {
            sections.extend(earlier.iter().find(|section| section.name == name).cloned());
        }
        // Written after every section: what was measured is not lost if a later one fails.
        write(
            output,
            &Kept { machine: machine.clone(), quick: arguments.quick, sections: sections.clone() },
        )?;
    }
    bench.bar.finish_and_clear();
    println!("{}", output.join("report.md").display());
    Ok(())
}

fn kept(output: &Path) -> Result<Kept, Failure> {
    let path = output.join("report.json");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let remedy = format!("needs the rest of an earlier report: {error}");
        Failure::usage("--only", path.display(), remedy)
    })?;
    Ok(serde_json::from_str(&text)?)
}

fn write(output: &Path, kept: &Kept) -> Result<(), Failure> {
    let mut json = format!("{{\"machine\":{},\n", serde_json::to_string(&kept.machine)?);
    let _ = writeln!(json, "\"quick\":{},\n\"sections\":[", kept.quick);
    for (index, section) in kept.sections.iter().enumerate() {
        let comma = if index + 1 < kept.sections.len() { "," } else { "" };
        let _ = writeln!(json, "{}{comma}", serde_json::to_string(section)?);
    }
    json.push_str("]}\n");
    let write = |name: &str, text: &str| {
        let path = output.join(name);
        std::fs::write(&path, text).map_err(|error| Failure::of(path.display(), error))
    };
    write("report.json", &json)?;
    write("report.md", &markdown(kept))
}

fn markdown(kept: &Kept) -> String {
    let machine = &kept.machine;
    let mut text = format!(
        "# Report\n\nWritten by `cargo run --release -p pbft-benches --bin cluster -- report`; do not edit.\n\n\
         {} cores of {}, {:.0} GiB, Linux {}, storage {}, load average {:.1} before. Replicas and clients are\n\
         processes of their own and share these cores and this disk.\n",
        machine.cores,
        machine.processor,
        machine.memory_bytes as f64 / f64::from(1 << 30),
        machine.kernel,
        machine.storage,
        machine.load_average,
    );
    if kept.quick {
        text.push_str("\n**A quick run, to see that everything works: no figures to quote.**\n");
    }
    for section in &kept.sections {
        let _ = write!(text, "\n{}\n\nCommit {}.\n", section.text.trim_end(), section.commit);
    }
    text
}
