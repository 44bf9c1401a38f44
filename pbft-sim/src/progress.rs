//! Progress of the command-line programs.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr that counts `what` up to `length` and says how long the rest takes; hidden where stderr is no
/// terminal.
pub fn bar(length: u64, what: &str) -> ProgressBar {
    let attended = std::io::stderr().is_terminal();
    let target = if attended { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what}, {{eta}} left");
    match ProgressStyle::with_template(&template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
