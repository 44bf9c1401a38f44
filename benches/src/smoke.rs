//! `cluster smoke`: whether clusters of processes commit anything at all. Never fails for being slow.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::measure::{Watch, measure};
use crate::workload::Workload;

/// Runs a few short loads.
///
/// # Errors
/// One of them committed nothing, or something did not end well.
pub fn run(directory: Option<PathBuf>) -> Result<(), Failure> {
    let load = Workload { seconds: 1.0, warmup: 0.2, timeout: 60.0, ..Workload::default() };
    let workloads = [
        Workload { callers: 16, ..load.clone() },
        Workload { rate: Some(100.0), ..load.clone() },
        Workload { unreplicated: true, ..load.clone() },
    ];
    let watch = Watch { directory, series_ms: Some(100), ..Watch::default() };
    for workload in workloads {
        let run = measure(&workload, &watch)?;
        let points = run.series.map_or(0, |series| series.points.len());
        if points == 0 {
            return Err(Failure::Failed("the series of a run is empty".to_owned()));
        }
        let rate = run.result.ops_per_second;
        println!("{}: {rate:.0} operations/s", workload.describe());
    }
    Ok(())
}
