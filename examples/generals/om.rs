//! `om`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use pbft_app::core::generals::{Choice, General, Path};
use pbft_sim::generals::oral::{self, Case, Outcome, Saying};
use pbft_sim::generals::strategy::{Named, Strategy};
use serde::Serialize;

use crate::arguments::{Shape, Vote, read_table};
use crate::figure::{self, Figure, Lies};
use crate::words::{self, Cell, Paint, by_name, count};
use crate::{Failure, Shown, svg, to_json, usage};

/// Rows of a round on a terminal; rounds with more are summed up.
const ROWS_MAX: usize = 42;
/// Columns of a round on a terminal.
const COLUMNS_MAX: u8 = 16;
/// Decisions of lieutenants whose trees are not drawn; more are counted.
const TOLD_MAX: usize = 20;
/// All lieutenants' trees are drawn if they have no more nodes than this together, else one of them.
const NODES_TOGETHER: usize = 40;

/// Options of `om`.
#[derive(Args)]
pub(crate) struct Om {
    #[command(flatten)]
    shape: Shape,
    /// Who gives the order
    #[arg(long, default_value_t = 1)]
    commander: u64,
    /// The order
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    value: i128,
    #[command(flatten)]
    lies: LieOptions,
    #[command(flatten)]
    vote: Vote,
    /// Whose relay tree to show; unless told all, or the first that is loyal if they are large
    #[arg(long, value_name = "ID")]
    tree: Option<u64>,
    /// Draw the relay tree
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How traitors lie.
#[derive(Args)]
pub(crate) struct LieOptions {
    /// silent, flip, split, parity, pair, garbage or hash:S; flip unless told
    #[arg(long, value_name = "NAME", conflicts_with = "table")]
    pub(crate) strategy: Option<Named>,
    /// A file with lies by path and receiver: {"1>3": 0, "1>2>3": null}; what is not there is true
    #[arg(long, value_name = "FILE")]
    pub(crate) table: Option<PathBuf>,
}

/// A strategy and its name.
pub(crate) type Chosen = (Box<dyn Strategy<i128>>, String, Vec<String>);

impl LieOptions {
    pub(crate) fn choose(
        &self,
        case: &pbft_app::core::generals::Setting,
        commanders: &BTreeSet<General>,
        traitors: &pbft_sim::generals::Traitors,
    ) -> Result<Chosen, Failure> {
        match &self.table {
            Some(path) => {
                let (table, warnings) = read_table(path, case, commanders, traitors)?;
                Ok((Box::new(table), format!("the table {}", path.display()), warnings))
            }
            None => {
                let named = self.strategy.clone().unwrap_or(Named::Flip);
                let name = named.to_string();
                Ok((Box::new(named), name, Vec::new()))
            }
        }
    }
}

#[derive(Serialize)]
struct Json {
    decisions: BTreeMap<u8, i128>,
    sent: Vec<u64>,
    messages: u64,
    #[serde(rename = "IC1")]
    ic1: bool,
    #[serde(rename = "IC2")]
    ic2: bool,
}

impl Om {
    pub(crate) fn run(&self, paint: Paint) -> Result<Shown, Failure> {
        let setting = self.shape.setting(self.commander)?;
        let traitors = self.shape.traitors()?;
        let mut warnings = self.vote.warnings(&setting, &traitors)?;
        setting.check_oral_size(1).map_err(usage)?;
        let commanders = BTreeSet::from([setting.commander()]);
        let (strategy, name, more) = self.lies.choose(&setting, &commanders, &traitors)?;
        warnings.extend(more);
        let choice = Choice::from(self.vote.choice);
        let default = self.vote.default;
        let case = Case { setting, traitors, order: self.value, choice, default };
        let mut record = Record { lies: Lies::of(&case.traitors), rounds: BTreeMap::new() };
        let outcome = oral::run(&case, strategy.as_ref(), &mut |saying| record.note(saying))
            .map_err(usage)?;
        let figures = self.figures(&case, &outcome, &record.lies)?;
        if let Some(path) = &self.svg {
            svg::write(path, &heading(&case, &name), &figures, figure::LEGEND)?;
        }
        let text = match self.json {
            true => to_json(&Json {
                decisions: by_name(&outcome.decisions),
                messages: outcome.sent.iter().sum(),
                sent: outcome.sent,
                ic1: outcome.ic1.is_ok(),
                ic2: outcome.ic2.is_ok(),
            })?,
            false => report(paint, &case, &name, &outcome, &record, &figures),
        };
        Ok(Shown { text, warnings })
    }

    fn figures(
        &self,
        case: &Case<i128>,
        outcome: &Outcome<i128>,
        lies: &Lies,
    ) -> Result<Vec<Figure>, Failure> {
        let chosen = match self.tree {
            None => None,
            Some(id) => {
                let general = u8::try_from(id).ok().map(General);
                let known = general.filter(|general| outcome.trees.contains_key(general));
                let refused = || usage(format!("--tree {id}: not a loyal lieutenant"));
                Some(known.ok_or_else(refused)?)
            }
        };
        let each = outcome.trees.values().next().map_or(1, figure::drawn);
        let together = each.saturating_mul(outcome.trees.len()) <= NODES_TOGETHER;
        let shown = outcome.trees.iter().filter(|(id, _)| chosen.is_none_or(|it| it == **id));
        let shown = shown.take(if together { usize::MAX } else { 1 });
        Ok(shown.filter_map(|(_, tree)| figure::of_tree(tree, case.choice, lies)).collect())
    }
}

/// What was said, as far as it is shown.
pub(crate) struct Record {
    pub(crate) lies: Lies,
    rounds: BTreeMap<u8, Round>,
}

#[derive(Default)]
struct Round {
    sent: u64,
    silent: u64,
    lies: BTreeMap<General, u64>,
    /// By path, as long as there are few.
    rows: BTreeMap<Path, BTreeMap<General, Option<i128>>>,
    more: bool,
}

impl Record {
    pub(crate) fn note(&mut self, saying: &Saying<i128>) {
        self.lies.note(saying);
        let round = self.rounds.entry(saying.path.len()).or_default();
        round.sent += u64::from(saying.said.is_some());
        round.silent += u64::from(saying.said.is_none());
        if saying.is_lie() {
            *round.lies.entry(saying.path.sender()).or_default() += 1;
        }
        if !round.rows.contains_key(&saying.path) && round.rows.len() >= ROWS_MAX {
            round.more = true;
            return;
        }
        round.rows.entry(saying.path).or_default().insert(saying.receiver, saying.said);
    }
}

fn heading(case: &Case<i128>, strategy: &str) -> String {
    let Case { setting, traitors, order, choice, default } = case;
    let lying = match traitors.is_empty() {
        true => String::new(),
        false => format!(" (strategy: {strategy})"),
    };
    let commander = setting.commander();
    let would = if traitors.contains(&commander) { "; a loyal one would order" } else { ", order" };
    let vote = match choice {
        Choice::Majority => format!("majority; silence and ties count as {default}"),
        Choice::Median => format!("lower median; silence counts as {default}"),
    };
    format!(
        "OM({}) among {} generals, {commander} commands{would} {order}; {}{lying}. Vote: {vote}.",
        setting.m(),
        setting.n(),
        words::traitors(traitors)
    )
}

fn report(
    paint: Paint,
    case: &Case<i128>,
    strategy: &str,
    outcome: &Outcome<i128>,
    record: &Record,
    figures: &[Figure],
) -> String {
    let Case { setting, traitors, order, .. } = case;
    let mut out = format!("{}\n\n", heading(case, strategy));
    for (number, round) in &record.rounds {
        out.push_str(&round_table(paint, case, *number, round, &record.lies));
        out.push('\n');
    }
    out.push_str("Read \"1>3\" as: 3 passes on what 1 said. ");
    if !traitors.is_empty() {
        out.push_str("* is a traitor, ! a lie, - silence. ");
    }
    out.push_str("Nobody tells those on the path.\n\n");
    for figure in figures {
        out.push_str(&figure::draw(paint, figure));
        out.push('\n');
    }
    if figures.len() < outcome.trees.len() {
        let all = outcome.trees.values().take(TOLD_MAX);
        let all = all.filter_map(|tree| figure::result(tree, case.choice));
        let _ = writeln!(out, "{}", paint.bold("All loyal lieutenants"));
        for result in all {
            let _ = writeln!(out, "  {result}");
        }
        let more = outcome.trees.len().saturating_sub(TOLD_MAX);
        if more > 0 {
            let _ = writeln!(out, "  ... and {more} more");
        }
        out.push_str("  (--tree ID shows how another of them was told)\n\n");
    }
    let is_traitor = traitors.contains(&setting.commander());
    let Outcome { decisions, ic1, ic2, sent, .. } = outcome;
    let commander = setting.commander();
    out.push_str(&words::verdict(paint, commander, is_traitor, *order, decisions, ic1, ic2));
    let rounds = sent.iter().map(u64::to_string).collect::<Vec<_>>().join(" + ");
    let _ = writeln!(out, "{} in all: {rounds}.", count(sent.iter().sum(), "message"));
    out
}

fn round_table(paint: Paint, case: &Case<i128>, number: u8, round: &Round, lies: &Lies) -> String {
    let what = if number == 1 {
        "the commander gives its order".to_owned()
    } else {
        format!("every lieutenant passes on what it heard in round {}", number - 1)
    };
    let mut out = paint.bold(&format!("Round {number}: {what}"));
    let _ = write!(out, "   {}", count(round.sent, "message"));
    let told: u64 = round.lies.values().sum::<u64>().saturating_sub(round.silent);
    if told > 0 {
        let _ = write!(out, ", {}", paint.lie(&count(told, "lie")));
    }
    if round.silent > 0 {
        let _ = write!(out, ", {}", paint.lie(&format!("{} kept silent", round.silent)));
    }
    out.push('\n');
    if round.more || case.setting.n() > COLUMNS_MAX {
        let by = round.lies.iter().map(|(id, lies)| format!("{} by {id}", count(*lies, "lie")));
        let by: Vec<String> = by.collect();
        let by = if by.is_empty() { "all true".to_owned() } else { words::list(by) };
        let _ = writeln!(out, "  too many to show: {by}");
        return out;
    }
    let mut heading = vec!["path".to_owned()];
    heading.extend(case.setting.lieutenants().map(|id| format!("to {id} ")));
    let rows = round.rows.iter().map(|(path, row)| {
        let cells = case.setting.lieutenants().map(|receiver| match row.get(&receiver) {
            None => Cell::of(". "),
            Some(None) => Cell { text: "- ".to_owned(), lie: true },
            Some(Some(value)) if lies.has(*path, receiver) => Cell::lie(value),
            Some(Some(value)) => Cell::of(format!("{value} ")),
        });
        let liar = if case.traitors.contains(&path.sender()) { "*" } else { "" };
        std::iter::once(Cell::of(format!("{path}{liar}"))).chain(cells).collect()
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    out.push_str(&words::table(paint, &heading, &rows));
    out
}
