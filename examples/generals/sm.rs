//! `sm`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pbft_app::core::generals::chain::Fault;
use pbft_app::core::generals::signed::{Heard, Refusal};
use pbft_app::core::generals::{General, SetChoice};
use pbft_sim::generals::script::Script;
use pbft_sim::generals::signed::{self, Case, Delivery, Keys, Outcome};
use serde::Serialize;

use crate::arguments::{Shape, read_script, too_many};
use crate::figure::{self, Figure, Node};
use crate::words::{self, Cell, Paint, by_name, commas, count};
use crate::{Failure, Shown, svg, to_json, usage};

/// Messages of a round on a terminal; the others are counted.
const ROWS_MAX: usize = 40;
/// Values whose spreading is drawn.
const FIGURES_MAX: usize = 4;

/// Options of `sm`.
#[derive(Args)]
pub(crate) struct Sm {
    #[command(flatten)]
    shape: Shape,
    /// Who gives the order
    #[arg(long, default_value_t = 1)]
    commander: u64,
    /// The order of a loyal commander
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    value: i128,
    /// What traitors send: {"1": [[sender, receiver, value, [chain]], ...], "2": ...}; nothing unless told
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// How the set of values becomes a decision
    #[arg(long, value_enum, default_value_t = Choice::Single)]
    choice: Choice,
    /// What is decided where there is no single value, or none
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "VALUE")]
    default: i128,
    /// Draw how each value spread
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    /// The only value, else the default
    Single,
    /// The lower one in the middle
    Median,
}

#[derive(Serialize)]
struct Json {
    decisions: BTreeMap<u8, i128>,
    #[serde(rename = "V")]
    values: BTreeMap<u8, Vec<i128>>,
    sent: Vec<u64>,
    dropped: u64,
    /// How often for which reason.
    reasons: BTreeMap<&'static str, u64>,
    #[serde(rename = "IC1")]
    ic1: bool,
    #[serde(rename = "IC2")]
    ic2: bool,
}

impl Sm {
    pub(crate) fn run(&self, paint: Paint) -> Result<Shown, Failure> {
        let setting = self.shape.setting(self.commander)?;
        let traitors = self.shape.traitors()?;
        let mut warnings = too_many(&setting, &traitors);
        let (script, more) = match &self.script {
            Some(path) => read_script(path, &setting)?,
            None => (Script::default(), Vec::new()),
        };
        warnings.extend(more);
        let choice = match self.choice {
            Choice::Single => SetChoice::Single,
            Choice::Median => SetChoice::Median,
        };
        let case = Case { setting, traitors, order: self.value, choice, default: self.default };
        let keys = Keys::ed25519(setting.n());
        let outcome = signed::run(&case, &script, &keys).map_err(usage)?;
        let figures = figures(&case, &outcome);
        if let Some(path) = &self.svg {
            let legend = "Read from left to right: who signed the value, and who heard it first through whom. Red: a traitor.";
            svg::write(path, &heading(&case), &figures, legend)?;
        }
        let text = match self.json {
            true => {
                let mut reasons = BTreeMap::new();
                for refusal in outcome.deliveries.iter().filter_map(|it| it.verdict?.err()) {
                    *reasons.entry(reason(&refusal)).or_default() += 1;
                }
                to_json(&Json {
                    decisions: by_name(&outcome.decisions),
                    values: by_name(&outcome.values),
                    dropped: outcome.dropped,
                    reasons,
                    ic1: outcome.ic1.is_ok(),
                    ic2: outcome.ic2.is_ok(),
                    sent: outcome.sent,
                })?
            }
            false => report(paint, &case, &outcome, &figures),
        };
        Ok(Shown { text, warnings })
    }
}

fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Over => "over",
        Refusal::UnknownSender(_) => "unknown sender",
        Refusal::TooManyValues => "too many values",
        Refusal::Chain(fault) => match fault {
            Fault::WrongLength { .. } => "wrong length",
            Fault::NotTheCommander(_) => "not the commander",
            Fault::ForeignKey(_) => "foreign key",
            Fault::RepeatedSigner(_) => "repeated signer",
            Fault::ThroughReceiver => "through its receiver",
            Fault::Forged(_) => "forged",
        },
    }
}

fn heading(case: &Case<i128>) -> String {
    let Case { setting, traitors, order, choice, default } = case;
    let commander = setting.commander();
    let order = match traitors.contains(&commander) {
        true => "orders what the script says".to_owned(),
        false => format!("orders {order}"),
    };
    let choice = match choice {
        SetChoice::Single => format!("the only value in V, else {default}"),
        SetChoice::Median => format!("the lower median of V, {default} if it is empty"),
    };
    format!(
        "SM({}) among {} generals, {commander} {order}; {}. Signatures: ed25519. Decision: {choice}.",
        setting.m(),
        setting.n(),
        words::traitors(traitors)
    )
}

fn report(paint: Paint, case: &Case<i128>, outcome: &Outcome<i128>, figures: &[Figure]) -> String {
    let Case { setting, traitors, order, .. } = case;
    let mut out = format!("{}\n\n", heading(case));
    for round in 1..=setting.rounds() {
        let of_round = |it: &&Delivery<i128>| it.round == round;
        let deliveries: Vec<_> = outcome.deliveries.iter().filter(of_round).collect();
        let what = match round {
            1 => "the commander signs its order",
            _ => "whoever heard something new signs it and passes it on",
        };
        let text = format!("Round {round}: {what}");
        let sent = u64::try_from(deliveries.len()).unwrap_or(u64::MAX);
        let _ = writeln!(out, "{}   {}", paint.bold(&text), count(sent, "message"));
        if deliveries.is_empty() {
            out.push_str("  nobody has anything to say\n\n");
            continue;
        }
        let heading = ["from", "to", "value", "signed by", "what becomes of it"];
        let heading: Vec<String> = heading.map(str::to_owned).into();
        let rows: Vec<Vec<Cell>> =
            deliveries.iter().take(ROWS_MAX).map(|delivery| row(case, delivery)).collect();
        out.push_str(&words::list_table(paint, &heading, &rows));
        if deliveries.len() > ROWS_MAX {
            let _ = writeln!(out, "  ... and {} more", deliveries.len() - ROWS_MAX);
        }
        out.push('\n');
    }
    for figure in figures {
        out.push_str(&figure::draw(paint, figure));
        out.push('\n');
    }
    for (id, values) in &outcome.values {
        let decision = outcome.decisions.get(id).copied().unwrap_or_default();
        let why = match (case.choice, values.as_slice()) {
            (_, []) => "it heard nothing, so the default".to_owned(),
            (SetChoice::Single, [_]) => "the only value it heard".to_owned(),
            (SetChoice::Single, many) => {
                let commander = setting.commander();
                format!("{commander} signed {} orders: it is a traitor, so the default", many.len())
            }
            (SetChoice::Median, many) => {
                format!("number {} of {} values", many.len().div_ceil(2), many.len())
            }
        };
        let _ = writeln!(out, "{id} has V = {{{}}} and decides {decision}: {why}.", commas(values));
    }
    out.push('\n');
    let is_traitor = traitors.contains(&setting.commander());
    let Outcome { decisions, ic1, ic2, dropped, sent, .. } = outcome;
    let commander = setting.commander();
    out.push_str(&words::verdict(paint, commander, is_traitor, *order, decisions, ic1, ic2));
    let rounds = sent.iter().map(u64::to_string).collect::<Vec<_>>().join(" + ");
    let _ = writeln!(
        out,
        "{} in all: {rounds}. {} dropped.",
        count(sent.iter().sum(), "message"),
        count(*dropped, "chain")
    );
    out
}

fn row(case: &Case<i128>, delivery: &Delivery<i128>) -> Vec<Cell> {
    let Delivery { sender, receiver, value, signers, verdict, .. } = delivery;
    let is_traitor = |id: &General| case.traitors.contains(id);
    let becomes = match verdict {
        None if is_traitor(receiver) => Cell::of("to a traitor"),
        None => Cell::of("the commander does not listen"),
        Some(Ok(Heard::New)) => Cell::of("new: into V"),
        Some(Ok(Heard::Known)) => Cell::of("known"),
        Some(Err(refusal)) => Cell { text: format!("DROPPED: {refusal}"), lie: true },
    };
    let from = if is_traitor(sender) { format!("{sender}*") } else { sender.to_string() };
    let from = Cell { text: from, lie: is_traitor(sender) };
    vec![from, Cell::of(receiver), Cell::of(value), Cell::of(commas(signers)), becomes]
}

/// How each value spread: for every loyal lieutenant the chain by which it heard the value first.
fn figures(case: &Case<i128>, outcome: &Outcome<i128>) -> Vec<Figure> {
    let values: BTreeSet<i128> = outcome.values.values().flatten().copied().collect();
    let figure = |value: &i128| {
        let mut first: BTreeMap<General, (u8, General, &Vec<General>)> = BTreeMap::new();
        for it in &outcome.deliveries {
            if it.value == *value && it.verdict == Some(Ok(Heard::New)) {
                let heard = (it.round, it.sender, &it.signers);
                let kept = first.entry(it.receiver).or_insert(heard);
                *kept = (*kept).min(heard);
            }
        }
        let mut trie = Trie::default();
        for (receiver, (_, _, signers)) in &first {
            trie.add(signers.iter().chain([receiver]));
        }
        let heard = first.len();
        let root = trie.nodes(case, *value, 0).pop()?;
        let title = format!("How the value {value} spread: who heard it first through whom");
        let loyal = outcome.decisions.len();
        let result = format!("{heard} of {loyal} loyal lieutenants have {value} in V");
        (root.size() <= figure::NODES_MAX).then_some(Figure { title, result, root, cut: 0 })
    };
    values.iter().filter_map(figure).take(FIGURES_MAX).collect()
}

#[derive(Default)]
struct Trie(BTreeMap<General, Trie>);

impl Trie {
    fn add<'a>(&mut self, mut way: impl Iterator<Item = &'a General>) {
        if let Some(next) = way.next() {
            self.0.entry(*next).or_default().add(way);
        }
    }

    fn nodes(&self, case: &Case<i128>, value: i128, round: u8) -> Vec<Node> {
        let node = |(id, below): (&General, &Trie)| {
            let lie = case.traitors.contains(id).then(|| "a traitor".to_owned());
            let says = match (round, &lie) {
                (0, _) => format!("{id} signs {value}"),
                (_, None) => format!("{id} hears it in round {round}"),
                (_, Some(_)) => format!("{id} signs it too"),
            };
            let children = below.nodes(case, value, round + 1);
            Node { says, lie, vote: None, children }
        };
        self.0.iter().map(node).collect()
    }
}
