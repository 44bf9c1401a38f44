//! How throughput and latency move with load, replicas, payload, envelopes and batches.

use super::table;
use super::{envelopes, singles};
use crate::failure::Failure;
use crate::plot::{Axis, Curve, Picture, Scale};
use crate::report::{Bench, Point};
use crate::workload::Workload;

const RATE: Axis = Axis { label: "operations/s", scale: Scale::Linear };

/// Draws a curve of throughput for each load.
fn draw(
    bench: &Bench<'_>,
    name: &str,
    title: &str,
    x: Axis,
    y: Axis,
    points: &[Point],
) -> Result<(), Failure> {
    let mut curves: Vec<Curve> = Vec::new();
    for point in points {
        let Some(rate) = point.ops() else { continue };
        match curves.iter_mut().find(|curve| curve.name == point.curve) {
            Some(curve) => curve.points.push((point.x, rate)),
            None => {
                curves.push(Curve { name: point.curve.clone(), points: vec![(point.x, rate)] });
            }
        }
    }
    let picture = Picture { title: title.to_owned(), x, y, curves };
    picture.write(&bench.output.join(format!("{name}.svg")))
}

/// Fractions of what a closed loop reaches.
const LOADS: [f64; 11] = [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1];
const LOADS_QUICK: [f64; 4] = [0.1, 0.4, 0.7, 1.0];

/// Throughput against latency, open loop at rising rates.
pub(super) fn latency(bench: &Bench<'_>) -> Result<(Vec<Point>, String), Failure> {
    let load = Workload { clients: 8, callers: 256, ..Workload::default() };
    let saturated = bench.once(&load)?.summary.ops_per_second.median;
    let loads = if bench.is_quick() { &LOADS_QUICK[..] } else { &LOADS[..] };
    let mut points = Vec::new();
    for part in loads {
        let rate = (saturated * part).max(10.0).round();
        let open = Workload { rate: Some(rate), ..load.clone() };
        let label = format!("{}/s", table::whole(rate));
        points.push(bench.point(label, rate, "open loop", &open)?);
    }
    let curve = |name: &str, field: fn(&Point) -> Option<f64>| Curve {
        name: name.to_owned(),
        points: points
            .iter()
            .filter_map(|point| Some((point.ops()?, field(point)? / 1000.0)))
            .collect(),
    };
    let curves = vec![
        curve("p50", |point| Some(point.measured.as_ref().ok()?.summary.p50_us.median)),
        curve("p99", |point| Some(point.measured.as_ref().ok()?.summary.p99_us.median)),
    ];
    let picture = Picture {
        title: "latency by committed throughput, open loop, n = 4, durable".to_owned(),
        x: Axis { label: "operations committed per second", scale: Scale::Linear },
        y: Axis { label: "ms", scale: Scale::Logarithmic },
        curves,
    };
    picture.write(&bench.output.join("latency.svg"))?;
    let text = format!(
        "## Throughput against latency\n\nEight clients begin 16-byte operations at a fixed rate; latency counts from when an operation was due. A closed loop\n\
         of 8 clients x 256 callers reaches {} operations/s.\n\n![latency by throughput](latency.svg)\n\n{}",
        table::whole(saturated),
        table::points("asked for", &points)
    );
    Ok((points, text))
}

/// Growth with the number of replicas.
pub(super) fn replicas(bench: &Bench<'_>) -> Result<(Vec<Point>, String), Failure> {
    let counts: &[usize] = if bench.is_quick() { &[4, 7] } else { &[4, 7, 10, 13] };
    let mut points = Vec::new();
    for replicas in counts {
        for (curve, load) in [("64 clients", singles()), ("envelopes of 64", envelopes())] {
            let load = Workload { replicas: *replicas, ..load };
            points.push(bench.point(format!("n = {replicas}"), *replicas as f64, curve, &load)?);
        }
    }
    let x = Axis { label: "replicas", scale: Scale::Linear };
    let y = Axis { scale: Scale::Logarithmic, ..RATE };
    draw(bench, "replicas", "throughput by number of replicas, durable", x, y, &points)?;
    let text = format!(
        "## More replicas\n\nAll on the same cores, which is what grows the price.\n\n![throughput by replicas](replicas.svg)\n\n{}",
        table::points("replicas", &points)
    );
    Ok((points, text))
}

/// Growth with the payload.
pub(super) fn payload(bench: &Bench<'_>) -> Result<(Vec<Point>, String), Failure> {
    let sizes: &[usize] = if bench.is_quick() { &[16, 1024] } else { &[16, 64, 256, 1024, 4096] };
    let mut points = Vec::new();
    for bytes in sizes {
        let load = Workload { operation_bytes: *bytes, ..envelopes() };
        points.push(bench.point(
            format!("{bytes} bytes"),
            *bytes as f64,
            "envelopes of 64",
            &load,
        )?);
    }
    let x = Axis { label: "bytes of an operation", scale: Scale::Logarithmic };
    draw(bench, "payload", "throughput by payload, n = 4, durable", x, RATE, &points)?;
    let text = format!(
        "## Larger operations\n\n32 clients x 128 callers, envelopes of 64.\n\n![throughput by payload](payload.svg)\n\n{}",
        table::points("payload", &points)
    );
    Ok((points, text))
}

/// What operations under one signature bring.
pub(super) fn envelope_sizes(bench: &Bench<'_>) -> Result<(Vec<Point>, String), Failure> {
    let sizes: &[u32] = if bench.is_quick() { &[1, 64] } else { &[1, 4, 16, 64, 256, 1024] };
    let mut points = Vec::new();
    for envelope in sizes {
        // As many operations under way whatever the envelope, up to what a client's window of numbers lets.
        let envelopes_in_flight = (2048 / *envelope as usize).clamp(2, 128);
        let (clients, callers) = (8, 2048);
        let load = Workload {
            clients,
            callers,
            envelope: *envelope,
            envelopes_in_flight,
            ..Workload::default()
        };
        points.push(bench.point(
            envelope,
            f64::from(*envelope),
            "8 clients x 2048 callers",
            &load,
        )?);
    }
    let x = Axis { label: "operations in an envelope at most", scale: Scale::Logarithmic };
    draw(bench, "envelopes", "throughput by envelope, n = 4, durable", x, RATE, &points)?;
    let text = format!(
        "## Operations under one signature\n\n![throughput by envelope](envelopes.svg)\n\n{}",
        table::points("operations in an envelope at most", &points)
    );
    Ok((points, text))
}

/// What requests in one slot bring.
pub(super) fn batches(bench: &Bench<'_>) -> Result<(Vec<Point>, String), Failure> {
    let sizes: &[u32] = if bench.is_quick() { &[1, 64] } else { &[1, 4, 16, 64, 256, 1024] };
    let mut points = Vec::new();
    for batch in sizes {
        let load = Workload {
            clients: 16,
            callers: 64,
            envelope: 1,
            envelopes_in_flight: 64,
            batch: *batch,
            ..Workload::default()
        };
        points.push(bench.point(batch, f64::from(*batch), "16 clients x 64 callers", &load)?);
    }
    let x = Axis { label: "requests in a batch at most", scale: Scale::Logarithmic };
    draw(
        bench,
        "batches",
        "throughput by batch, a signature for each operation, n = 4, durable",
        x,
        RATE,
        &points,
    )?;
    let text = format!(
        "## Requests in one slot\n\nA signature for each operation.\n\n![throughput by batch](batches.svg)\n\n{}",
        table::points("requests in a batch at most", &points)
    );
    Ok((points, text))
}
