//! Pictures: curves and courses as SVG.

use std::collections::BTreeMap;
use std::path::Path;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::failure::Failure;
use crate::series::Series;

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// From nothing up.
    Linear,
    Logarithmic,
}

/// An axis: what it shows and how.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    pub label: &'static str,
    pub scale: Scale,
}

/// A named curve.
#[derive(Clone, Debug)]
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// One picture.
#[derive(Clone, Debug)]
pub struct Picture {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub curves: Vec<Curve>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Colours that stay apart for most eyes, also printed in grey.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 90, 181),
    RGBColor(220, 50, 32),
    RGBColor(26, 133, 80),
    RGBColor(148, 82, 165),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

const SIZE: (u32, u32) = (800, 420);
/// Numbers shown on each axis.
const LABELS: usize = 8;

fn failed(path: &Path) -> impl Fn(&dyn std::fmt::Display) -> Failure + '_ {
    move |error| Failure::of(format!("cannot draw {}", path.display()), error)
}

impl Picture {
    /// Writes an SVG.
    ///
    /// # Errors
    /// There is nothing to draw, or it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = failed(path);
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        self.draw(&area, &[]).map_err(|error| failed(&error))?;
        area.present().map_err(|error| failed(&error))
    }

    /// The names of the curves, each once.
    fn names(&self) -> impl Iterator<Item = &str> {
        let is_first = |index: usize| {
            let name = &self.curves[index].name;
            self.curves.iter().position(|curve| curve.name == *name) == Some(index)
        };
        let all = self.curves.iter().enumerate();
        all.filter(move |(index, _)| is_first(*index)).map(|(_, curve)| curve.name.as_str())
    }

    fn draw(&self, area: &Area<'_>, marks: &[f64]) -> Result<(), String> {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = range(points().map(|point| point.0), self.x.scale);
        let y = range(points().map(|point| point.1), self.y.scale);
        let (Some(x), Some(y)) = (x, y) else {
            return Err("there are no points".to_owned());
        };
        let mut builder = ChartBuilder::on(area);
        builder.caption(&self.title, ("sans-serif", 16)).margin(12);
        builder.x_label_area_size(42).y_label_area_size(78);
        let text = |error: DrawingAreaErrorKind<_>| error.to_string();
        let low = y.start;
        let high = y.end;
        let marks = (marks, low, high);
        match (self.x.scale, self.y.scale) {
            (Scale::Linear, Scale::Linear) => {
                self.fill(builder.build_cartesian_2d(x, y).map_err(text)?, marks)
            }
            (Scale::Linear, Scale::Logarithmic) => {
                self.fill(builder.build_cartesian_2d(x, y.log_scale()).map_err(text)?, marks)
            }
            (Scale::Logarithmic, Scale::Linear) => {
                self.fill(builder.build_cartesian_2d(x.log_scale(), y).map_err(text)?, marks)
            }
            (Scale::Logarithmic, Scale::Logarithmic) => {
                let chart = builder.build_cartesian_2d(x.log_scale(), y.log_scale());
                self.fill(chart.map_err(text)?, marks)
            }
        }
    }

    fn fill<'a, 'b: 'a, X, Y>(
        &self,
        mut chart: ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>,
        (marks, low, high): (&[f64], f64, f64),
    ) -> Result<(), String>
    where
        X: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let text = |error: DrawingAreaErrorKind<_>| error.to_string();
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(self.x.label).y_desc(self.y.label).x_labels(LABELS).y_labels(LABELS);
        mesh.x_label_formatter(&|value| short(*value));
        mesh.y_label_formatter(&|value| short(*value));
        mesh.light_line_style(WHITE.mix(0.0)).bold_line_style(BLACK.mix(0.1));
        mesh.draw().map_err(text)?;
        for mark in marks {
            let line = [(*mark, low), (*mark, high)];
            chart.draw_series(LineSeries::new(line, BLACK.mix(0.6))).map_err(text)?;
        }
        for curve in &self.curves {
            // Parts of one curve have one colour.
            let index = self.names().position(|name| name == curve.name).unwrap_or(0);
            let colour = COLOURS[index % COLOURS.len()];
            let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2));
            let legend =
                move |(x, y)| Rectangle::new([(x, y - 3), (x + 14, y + 3)], colour.filled());
            let drawn = chart.draw_series(line).map_err(text)?;
            if self.names().nth(1).is_some() {
                drawn.label(&curve.name).legend(legend);
            }
            // Few points are measurements that want to be seen; many are a course.
            if curve.points.len() <= 24 {
                let dots = curve.points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
                chart.draw_series(dots).map_err(text)?;
            }
        }
        if self.names().nth(1).is_some() {
            let mut labels = chart.configure_series_labels();
            labels.background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3));
            labels.position(SeriesLabelPosition::LowerRight).draw().map_err(text)?;
        }
        Ok(())
    }
}

/// What the axis must hold.
fn range(values: impl Iterator<Item = f64>, scale: Scale) -> Option<std::ops::Range<f64>> {
    let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    match scale {
        _ if values.is_empty() => None,
        Scale::Linear => Some(0.0..if high > 0.0 { high * 1.05 } else { 1.0 }),
        Scale::Logarithmic => {
            let low = low.max(high * 1e-9).max(1e-9);
            let high = high.max(low);
            if high < low * 10.0 {
                // Less than a decade would have one number beside it, or none.
                return Some(
                    10_f64.powf(low.log10().floor())..10_f64.powf(high.log10().floor() + 1.0),
                );
            }
            Some(low * 0.8..high * 1.25)
        }
    }
}

/// A number as short as it can be read.
fn short(value: f64) -> String {
    let shown = |value: f64, unit: &str| {
        let text = format!("{value:.2}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match value.abs() {
        size if size >= 1e6 => shown(value / 1e6, "M"),
        size if size >= 1e3 => shown(value / 1e3, "k"),
        _ => shown(value, ""),
    }
}

/// The course of a run: throughput, latency and, if it was sampled, memory, one below the other.
///
/// # Errors
/// There is nothing to draw, or it cannot be written.
pub fn course(series: &Series, path: &Path) -> Result<(), Failure> {
    let time = Axis { label: "seconds", scale: Scale::Linear };
    let seconds = |at_ms: u64| at_ms as f64 / 1000.0;
    let mut pictures = Vec::new();
    let throughput = series.points.iter().map(|it| (seconds(it.at_ms), it.ops_per_second));
    pictures.push(Picture {
        title: series.title.clone(),
        x: time,
        y: Axis { label: "operations/s", scale: Scale::Linear },
        curves: vec![Curve { name: "throughput".to_owned(), points: throughput.collect() }],
    });
    // Where nothing ended there is no latency, and no line.
    let parts = series.points.split(|point| point.p99_us.is_none());
    let latency = parts.filter(|part| !part.is_empty()).map(|part| Curve {
        name: "p99".to_owned(),
        points: part
            .iter()
            .filter_map(|it| Some((seconds(it.at_ms), it.p99_us? as f64 / 1000.0)))
            .collect(),
    });
    pictures.push(Picture {
        title: format!("p99 of each {} ms", series.interval_ms),
        x: time,
        y: Axis { label: "ms", scale: Scale::Logarithmic },
        curves: latency.collect(),
    });
    let mut memory: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for point in &series.points {
        for (name, bytes) in &point.resident_bytes {
            let mib = *bytes as f64 / f64::from(1 << 20);
            memory.entry(name).or_default().push((seconds(point.at_ms), mib));
        }
    }
    if !memory.is_empty() {
        let curves = memory.into_iter();
        pictures.push(Picture {
            title: "memory of each process".to_owned(),
            x: time,
            y: Axis { label: "MiB resident", scale: Scale::Linear },
            curves: curves.map(|(name, points)| Curve { name: name.to_owned(), points }).collect(),
        });
    }
    let failed = failed(path);
    let height = 260 * u32::try_from(pictures.len()).unwrap_or(1);
    let area = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let marks: Vec<f64> = series.events.iter().map(|(at_ms, _)| seconds(*at_ms)).collect();
    for (part, picture) in area.split_evenly((pictures.len(), 1)).iter().zip(&pictures) {
        picture.draw(part, &marks).map_err(|error| failed(&error))?;
    }
    area.present().map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Point;

    #[test]
    fn numbers_on_axes_are_short() {
        let all = [0.0, 0.25, 12.0, 1500.0, 2_000_000.0].map(short);
        assert_eq!(all, ["0", "0.25", "12", "1.5k", "2M"]);
    }

    #[test]
    fn an_axis_holds_all_values() {
        assert_eq!(range([1.0, 2.0].into_iter(), Scale::Linear), Some(0.0..2.1));
        let logarithmic = range([0.0, 10.0].into_iter(), Scale::Logarithmic).unwrap();
        assert!(logarithmic.start > 0.0 && logarithmic.end > 10.0);
        let decades = range([20.0, 90.0].into_iter(), Scale::Logarithmic).unwrap();
        assert!((decades.start - 10.0).abs() < 1e-9 && (decades.end - 100.0).abs() < 1e-9);
        assert_eq!(range(std::iter::empty(), Scale::Linear), None);
    }

    #[test]
    fn a_picture_and_a_course_are_drawn_and_nothing_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("picture.svg");
        let linear = Axis { label: "x", scale: Scale::Linear };
        let curve = Curve { name: "a curve".to_owned(), points: vec![(1.0, 2.0), (3.0, 4.0)] };
        let other = Curve { name: "another".to_owned(), ..curve.clone() };
        let curves = vec![curve, other];
        let y = Axis { label: "y", scale: Scale::Logarithmic };
        let picture = Picture { title: "title".to_owned(), x: linear, y, curves };
        picture.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("<svg") && text.contains("a curve") && text.contains("title"));
        let empty = Picture { curves: Vec::new(), ..picture };
        assert!(matches!(empty.write(&path), Err(Failure::Failed(_))));
        let point = |at_ms, p99_us| Point {
            at_ms,
            ops_per_second: 10.0,
            p99_us,
            resident_bytes: [("replica-0".to_owned(), 1 << 20)].into(),
        };
        let points = vec![point(100, Some(5)), point(200, None), point(300, Some(7))];
        let events = vec![(150, "killed".to_owned())];
        course(&Series { title: String::new(), interval_ms: 100, points, events }, &path).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("MiB resident"));
    }
}
