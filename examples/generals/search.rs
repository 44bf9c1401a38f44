//! `search`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use pbft_app::core::generals::{General, Setting};
use pbft_sim::generals::Traitors;
use pbft_sim::generals::search::{self, Found, Report};
use serde::Serialize;

use crate::arguments::{Shape, Vote, numbers};
use crate::words::{self, Paint, by_name, count};
use crate::{Failure, Shown, to_json, usage};

/// Without `--traitors` every set of m of them is searched, if there are no more than this.
const PLACEMENTS_MAX: usize = 500;

/// Options of `search`.
#[derive(Args)]
pub(crate) struct Search {
    #[command(flatten)]
    shape: Shape,
    /// Who gives the order
    #[arg(long, default_value_t = 1)]
    commander: u64,
    /// The order of a loyal commander; 0 and 1 are both tried unless told
    #[arg(long, allow_negative_numbers = true)]
    value: Option<i128>,
    /// What traitors may say
    #[arg(long, default_value = "0,1", allow_hyphen_values = true, value_name = "LIST")]
    alphabet: String,
    #[command(flatten)]
    vote: Vote,
    /// How many strategies to try where there are too many for all
    #[arg(long, default_value_t = 100_000)]
    samples: u64,
    /// Repeats the samples of an earlier search
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json {
    found: bool,
    exhaustive: bool,
    tried: u64,
    strategy: Option<BTreeMap<String, Option<i128>>>,
    decisions: Option<BTreeMap<u8, i128>>,
    traitors: Option<Vec<u8>>,
    value: Option<i128>,
    lies: Option<usize>,
    #[serde(rename = "IC1")]
    ic1: Option<bool>,
    #[serde(rename = "IC2")]
    ic2: Option<bool>,
}

impl Search {
    pub(crate) fn run(&self, paint: Paint) -> Result<Shown, Failure> {
        let setting = self.shape.setting(self.commander)?;
        setting.check_oral_size(1).map_err(usage)?;
        let placements = match &self.shape.traitors {
            Some(_) => vec![self.shape.traitors()?],
            None => placements(&setting)?,
        };
        let warnings = match placements.first() {
            Some(traitors) => self.vote.warnings(&setting, traitors)?,
            None => Vec::new(),
        };
        let mut alphabet = numbers("--alphabet", &self.alphabet)?;
        alphabet.sort_unstable();
        alphabet.dedup();
        let mut total = Report { found: None, exhaustive: true, tried: 0 };
        let mut by = Traitors::new();
        for traitors in placements {
            let search = search::Search {
                setting,
                traitors: traitors.clone(),
                orders: self.value.map_or(vec![0, 1], |value| vec![value]),
                alphabet: alphabet.clone(),
                choice: self.vote.choice.into(),
                default: self.vote.default,
                samples: self.samples,
                seed: self.seed,
            };
            let report = search.run().map_err(usage)?;
            total.tried += report.tried;
            total.exhaustive &= report.exhaustive;
            let size =
                |found: &Option<Found>| found.as_ref().map_or(usize::MAX, |it| it.lies.0.len());
            if size(&report.found) < size(&total.found) {
                (total.found, by) = (report.found, traitors);
            }
        }
        let text = match self.json {
            true => to_json(&json(&total, &by))?,
            false => self.report(paint, &setting, &total, &by),
        };
        Ok(Shown { text, warnings })
    }

    fn report(&self, paint: Paint, setting: &Setting, report: &Report, by: &Traitors) -> String {
        let (n, m) = (setting.n(), setting.m());
        let who = match &self.shape.traitors {
            Some(list) if !list.is_empty() => format!("traitors {list}"),
            Some(_) => "no traitor".to_owned(),
            None => format!("every set of {}", count(u64::from(m), "traitor")),
        };
        let tried = match report.exhaustive {
            true => {
                format!("all {} were played", count(report.tried, "strategy").replace("ys", "ies"))
            }
            false => format!("{} of too many for all were played", report.tried),
        };
        let mut out = format!("OM({m}) among {n} generals, {who}: {tried}.\n\n");
        let Some(Found { order, lies, outcome }) = &report.found else {
            let enough = setting.is_oral_bound_kept()
                && (self.shape.traitors().is_ok_and(|it| it.len() <= usize::from(m)));
            let text = match (report.exhaustive, enough) {
                (true, _) => "No lie breaks IC1 or IC2.",
                (false, true) => {
                    "None of them breaks IC1 or IC2. A sample proves nothing, but that n > 3m does."
                }
                (false, false) => "None of them breaks IC1 or IC2. A sample proves nothing.",
            };
            let _ = writeln!(out, "{}", paint.good(text));
            return out;
        };
        let size = u64::try_from(lies.0.len()).unwrap_or(u64::MAX);
        let order_text = match by.contains(&setting.commander()) {
            true => String::new(),
            false => format!(" when the order is {order}"),
        };
        let (lies_text, verb) = (count(size, "lie"), if size == 1 { "breaks" } else { "break" });
        let text = format!("{lies_text} of {} {verb} it{order_text}:", words::list(by));
        let _ = writeln!(out, "{}", paint.lie(&text));
        for ((path, receiver), said) in &lies.0 {
            let sender = path.sender();
            let said = said.map_or("nothing".to_owned(), |value| value.to_string());
            let about = match path.before() {
                None => "its order is".to_owned(),
                Some(before) => format!("what it heard along {before} is"),
            };
            let _ = writeln!(out, "  {sender} tells {receiver}: {about} {said}");
        }
        out.push('\n');
        let commander = setting.commander();
        let is_traitor = by.contains(&commander);
        let (decisions, ic1, ic2) = (&outcome.decisions, &outcome.ic1, &outcome.ic2);
        for (id, decision) in decisions {
            let _ = writeln!(out, "{id} decides {decision}.");
        }
        out.push_str(&words::verdict(paint, commander, is_traitor, *order, decisions, ic1, ic2));
        let table: BTreeMap<String, Option<i128>> = entries(lies);
        let table = to_json(&table).unwrap_or_default();
        let _ = write!(
            out,
            "\nTo see it: put this into lies.json and run om --n {n} --m {m} --traitors {} --commander {commander} --value {order} --table lies.json\n{table}",
            by.iter().map(General::to_string).collect::<Vec<_>>().join(",")
        );
        out
    }
}

fn entries(lies: &pbft_sim::generals::strategy::Table<i128>) -> BTreeMap<String, Option<i128>> {
    lies.entries().map(|(key, value)| (key, *value)).collect()
}

fn json(report: &Report, by: &Traitors) -> Json {
    let found = report.found.as_ref();
    Json {
        found: found.is_some(),
        exhaustive: report.exhaustive,
        tried: report.tried,
        strategy: found.map(|found| entries(&found.lies)),
        decisions: found.map(|found| by_name(&found.outcome.decisions)),
        traitors: found.map(|_| by.iter().map(|id| id.0).collect()),
        value: found.map(|found| found.order),
        lies: found.map(|found| found.lies.0.len()),
        ic1: found.map(|found| found.outcome.ic1.is_ok()),
        ic2: found.map(|found| found.outcome.ic2.is_ok()),
    }
}

/// Every set of m traitors, the commander among them or not.
fn placements(setting: &Setting) -> Result<Vec<Traitors>, Failure> {
    let mut sets = vec![Traitors::new()];
    for _ in 0..setting.m() {
        let longer = |set: &Traitors| -> Vec<Traitors> {
            let last = set.last().map_or(0, |id| id.0);
            let next = setting.generals().filter(|id| id.0 > last);
            next.map(|id| set.iter().copied().chain([id]).collect()).collect()
        };
        sets = sets.iter().flat_map(longer).collect();
        if sets.len() > 100 * PLACEMENTS_MAX {
            break;
        }
    }
    if sets.len() > PLACEMENTS_MAX {
        return Err(usage("there are too many sets of traitors for all: choose with --traitors"));
    }
    Ok(sets)
}
