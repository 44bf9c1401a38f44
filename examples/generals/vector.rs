//! `vector`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use pbft_app::core::generals::General;
use pbft_sim::generals::strategy::Strategy;
use pbft_sim::generals::vector::{self, Case, Outcome};
use serde::Serialize;

use crate::arguments::{Shape, Vote, numbers};
use crate::figure::{self, Lies};
use crate::om::LieOptions;
use crate::words::{self, Cell, Paint, by_name, count};
use crate::{Failure, Shown, svg, to_json, usage};

/// Options of `vector`.
#[derive(Args)]
pub(crate) struct Vector {
    #[command(flatten)]
    shape: Shape,
    /// Private values, general 1's first; 10,20,... unless told
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    values: Option<String>,
    #[command(flatten)]
    lies: LieOptions,
    #[command(flatten)]
    vote: Vote,
    /// Draw what the first loyal general was told about each of the others
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json {
    vectors: BTreeMap<u8, Vec<i128>>,
    agree: bool,
    truthful: bool,
    sent: Vec<u64>,
    packets: Vec<u64>,
}

impl Vector {
    pub(crate) fn run(&self, paint: Paint) -> Result<Shown, Failure> {
        let setting = self.shape.setting(1)?;
        let traitors = self.shape.traitors()?;
        let mut warnings = self.vote.warnings(&setting, &traitors)?;
        let values = match &self.values {
            Some(text) => numbers("--values", text)?,
            None => setting.generals().map(|id| 10 * i128::from(id.0)).collect(),
        };
        if values.len() != usize::from(setting.n()) {
            let (given, n) = (values.len(), setting.n());
            return Err(usage(format!("--values: {given} for {n} generals: one for each")));
        }
        let commanders: BTreeSet<General> = setting.generals().collect();
        let (strategy, name, more) = self.lies.choose(&setting, &commanders, &traitors)?;
        warnings.extend(more);
        let (choice, default) = (self.vote.choice.into(), self.vote.default);
        let case = Case { setting, traitors, values, choice, default };
        let played = play(&case, strategy.as_ref())?;
        if let Some(path) = &self.svg {
            let heading = format!(
                "Vector agreement among {} generals, m = {}; {}.",
                setting.n(),
                setting.m(),
                words::traitors(&case.traitors)
            );
            svg::write(path, &heading, &played.figures(&case), figure::LEGEND)?;
        }
        let text = match self.json {
            true => to_json(&played.outcome.to_json())?,
            false => report(paint, &case, &name, &played.outcome),
        };
        Ok(Shown { text, warnings })
    }
}

trait ToJson {
    fn to_json(&self) -> Json;
}

impl ToJson for Outcome<i128> {
    fn to_json(&self) -> Json {
        Json {
            vectors: by_name(&self.vectors),
            agree: self.agree,
            truthful: self.truthful,
            sent: self.sent.clone(),
            packets: self.packets.clone(),
        }
    }
}

/// A run and the lies in it.
pub(crate) struct Played {
    pub(crate) outcome: Outcome<i128>,
    pub(crate) lies: Lies,
}

pub(crate) fn play(case: &Case<i128>, strategy: &dyn Strategy<i128>) -> Result<Played, Failure> {
    let mut lies = Lies::of(&case.traitors);
    let outcome = vector::run(case, strategy, &mut |saying| lies.note(saying)).map_err(usage)?;
    Ok(Played { outcome, lies })
}

impl Played {
    /// What the first loyal general was told about each of the others.
    pub(crate) fn figures(&self, case: &Case<i128>) -> Vec<figure::Figure> {
        let Some(member) = self.outcome.members.values().next() else { return Vec::new() };
        let trees = case.setting.generals().filter_map(|commander| member.tree(commander));
        trees.filter_map(|tree| figure::of_tree(tree, case.choice, &self.lies)).collect()
    }
}

/// The vectors of all loyal generals, as a table, and whether they are equal.
pub(crate) fn vectors(paint: Paint, case: &Case<i128>, outcome: &Outcome<i128>) -> String {
    let ids: Vec<General> = case.setting.generals().collect();
    let mut heading = vec!["vector of".to_owned()];
    heading.extend(ids.iter().map(|id| match case.traitors.contains(id) {
        true => format!("{id}*"),
        false => format!("{id} "),
    }));
    let row = |name: String, values: &[i128]| {
        let cells = values.iter().map(|value| Cell::of(format!("{value} ")));
        std::iter::once(Cell::of(name)).chain(cells).collect::<Vec<Cell>>()
    };
    let rows: Vec<Vec<Cell>> =
        outcome.vectors.iter().map(|(id, vector)| row(id.to_string(), vector)).collect();
    let mut out = words::table(paint, &heading, &rows);
    if !case.traitors.is_empty() {
        out.push_str("  * a traitor: its entry is whatever the loyal ones take it to be\n");
    }
    let text = match (outcome.agree, outcome.vectors.len()) {
        (_, 0) => "There is no loyal general.".to_owned(),
        (_, 1) => "There is one loyal general only: it agrees with itself.".to_owned(),
        (true, count) => paint.good(&format!("All {count} loyal vectors are equal.")),
        (false, _) => paint.lie("The loyal vectors DIFFER."),
    };
    let _ = writeln!(out, "{text}");
    let text = match outcome.truthful {
        true => "The entries of loyal generals are their private values.".to_owned(),
        false => paint.lie("The entry of a loyal general is NOT its private value everywhere."),
    };
    let _ = writeln!(out, "{text}");
    out
}

fn report(paint: Paint, case: &Case<i128>, strategy: &str, outcome: &Outcome<i128>) -> String {
    let Case { setting, traitors, values, .. } = case;
    let lying = if traitors.is_empty() { String::new() } else { format!(" ({strategy})") };
    let mut out = format!(
        "Vector agreement, m = {}: each of {} generals is commander of an OM({}) once, all at once; {}{lying}.\n\n",
        setting.m(),
        setting.n(),
        setting.m(),
        words::traitors(traitors)
    );
    let private = setting.generals().zip(values).map(|(id, value)| format!("{id}: {value}"));
    let _ = writeln!(out, "Private values   {}\n", words::commas(private));
    for (index, (sent, packets)) in outcome.sent.iter().zip(&outcome.packets).enumerate() {
        let what = if index == 0 {
            "everyone tells its value"
        } else {
            "everyone passes on all that is new"
        };
        let _ = writeln!(
            out,
            "Round {}: {what}   {} in {}",
            index + 1,
            count(*sent, "value"),
            count(*packets, "packet")
        );
    }
    out.push('\n');
    out.push_str(&vectors(paint, case, outcome));
    out
}
