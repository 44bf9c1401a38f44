//! Relay trees as a picture: SVG without scripts, fonts or anything else from outside.

use std::fmt::Write as _;
use std::path::Path;

use crate::Failure;
use crate::figure::{Figure, Node};

/// Pixels of one letter of the text in boxes, near enough for any sans-serif font of 13 px.
const LETTER: usize = 7;
const BOX_HEIGHT: usize = 40;
const ROW: usize = 50;
const GAP: usize = 46;
const MARGIN: usize = 28;
const STYLE: &str = "text{font-family:'DejaVu Sans',Verdana,Arial,sans-serif;font-size:12px;fill:#1d2733}\
.title{font-size:15px;font-weight:bold}.result{font-size:14px;font-weight:bold;fill:#1a5c38}\
.note{font-size:10px;fill:#5b6570}.lie{fill:#a31515;font-weight:bold}";

/// Draws `figures` one below the other under `heading` and above `legend` into `path`.
pub(crate) fn write(
    path: &Path,
    heading: &str,
    figures: &[Figure],
    legend: &str,
) -> Result<(), Failure> {
    std::fs::write(path, picture(heading, figures, legend))
        .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Breaks a text into lines of at most `width` letters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut();
        match last {
            Some(line) if line.is_empty() => *line = word.to_owned(),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn notes(node: &Node) -> Option<String> {
    match (&node.lie, &node.vote) {
        (Some(lie), Some(vote)) => Some(format!("{lie}; {vote}")),
        (Some(lie), None) => Some(lie.clone()),
        (None, vote) => vote.clone(),
    }
}

fn width_of(node: &Node) -> usize {
    let says = node.says.chars().count() * LETTER;
    let note = notes(node).map_or(0, |note| note.chars().count() * (LETTER - 1));
    says.max(note) + 24
}

/// The widest box of each level.
fn widths(node: &Node, depth: usize, widest: &mut Vec<usize>) {
    if widest.len() <= depth {
        widest.push(0);
    }
    if let Some(width) = widest.get_mut(depth) {
        *width = (*width).max(width_of(node));
    }
    node.children.iter().for_each(|child| widths(child, depth + 1, widest));
}

struct Canvas {
    lines: String,
    boxes: String,
    /// Left edges of the levels.
    lefts: Vec<usize>,
    next: usize,
}

impl Canvas {
    /// Draws a node and all below it; returns the middle of its box.
    fn node(&mut self, node: &Node, depth: usize) -> usize {
        let middles: Vec<usize> =
            node.children.iter().map(|child| self.node(child, depth + 1)).collect();
        let middle = match (middles.first(), middles.last()) {
            (Some(first), Some(last)) => first.midpoint(*last),
            _ => {
                self.next += ROW;
                self.next - ROW / 2
            }
        };
        let left = self.lefts.get(depth).copied().unwrap_or(MARGIN);
        let right = left + width_of(node);
        for (child, end) in node.children.iter().zip(&middles) {
            let to = self.lefts.get(depth + 1).copied().unwrap_or(right);
            let half = right.midpoint(to);
            let colour = if child.lie.is_some() { "#c0392b" } else { "#9aa5b1" };
            let _ = writeln!(
                self.lines,
                "<path d=\"M{right} {middle} C{half} {middle} {half} {end} {to} {end}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
            );
        }
        self.draw_box(node, left, middle);
        middle
    }

    fn draw_box(&mut self, node: &Node, left: usize, middle: usize) {
        let (width, top) = (width_of(node), middle - BOX_HEIGHT / 2);
        let (fill, stroke) =
            if node.lie.is_some() { ("#fdeaea", "#c0392b") } else { ("#f3f7fb", "#6b7f95") };
        let _ = writeln!(
            self.boxes,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{BOX_HEIGHT}\" rx=\"7\" fill=\"{fill}\" stroke=\"{stroke}\"/>"
        );
        let (x, note) = (left + 12, notes(node));
        let y = if note.is_some() { middle - 3 } else { middle + 5 };
        let says = escape(&node.says);
        let _ = writeln!(self.boxes, "<text x=\"{x}\" y=\"{y}\">{says}</text>");
        if let Some(note) = note {
            let class = if node.lie.is_some() { "note lie" } else { "note" };
            let (y, note) = (middle + 13, escape(&note));
            let _ =
                writeln!(self.boxes, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{note}</text>");
        }
    }
}

fn picture(heading: &str, figures: &[Figure], legend: &str) -> String {
    let mut body = String::new();
    let mut wide = 620;
    let mut trees = Vec::new();
    for figure in figures {
        let mut widest = Vec::new();
        widths(&figure.root, 0, &mut widest);
        let lefts = widest.iter().scan(MARGIN, |left, width| {
            let here = *left;
            *left += width + GAP;
            Some(here)
        });
        let lefts: Vec<usize> = lefts.collect();
        let texts = figure.title.chars().count().max(figure.result.chars().count()) * (LETTER + 2);
        wide = wide.max(widest.iter().map(|width| width + GAP).sum::<usize>()).max(texts);
        trees.push((figure, lefts));
    }
    let mut y = MARGIN + 6;
    for line in wrap(heading, wide / LETTER) {
        let line = escape(&line);
        let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{y}\">{line}</text>");
        y += 18;
    }
    for (figure, lefts) in trees {
        y += 28;
        let (title, result) = (escape(&figure.title), escape(&figure.result));
        let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{y}\" class=\"title\">{title}</text>");
        let mut canvas = Canvas { lines: String::new(), boxes: String::new(), lefts, next: y + 10 };
        canvas.node(&figure.root, 0);
        body.push_str(&canvas.lines);
        body.push_str(&canvas.boxes);
        y = canvas.next + 20;
        if figure.cut > 0 {
            let text = format!("{} more levels of relays are not drawn", figure.cut);
            let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{y}\" class=\"note\">{text}</text>");
            y += 20;
        }
        let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{y}\" class=\"result\">{result}</text>");
        y += 14;
    }
    y += 30;
    let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{y}\" class=\"note\">{legend}</text>");
    let (width, height) = (wide + 2 * MARGIN, y + MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}
