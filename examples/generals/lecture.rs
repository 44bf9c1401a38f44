//! `exercise7` and `matrix`: the lecture's cases, with all their numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use pbft_app::core::generals::vector::Member;
use pbft_app::core::generals::{Choice, General, Path, Setting};
use pbft_sim::generals::Traitors;
use pbft_sim::generals::strategy::{Named, Strategy, Table};
use pbft_sim::generals::vector::{Case, Outcome};
use serde::Serialize;

use crate::figure::{LEGEND, Lies};
use crate::vector::{Played, play, vectors};
use crate::words::{self, Cell, Paint, by_name};
use crate::{Failure, Shown, svg, to_json, usage};

/// Who is looked at in exercise 7.
const THREE: General = General(3);

fn case(n: u64, m: u64, traitors: &[u8], values: Vec<i128>) -> Result<Case<i128>, Failure> {
    let setting = Setting::new(n, m, General(1)).map_err(usage)?;
    let traitors: Traitors = traitors.iter().copied().map(General).collect();
    Ok(Case { setting, traitors, values, choice: Choice::Majority, default: 0 })
}

/// Options of `exercise7`.
#[derive(Args)]
pub(crate) struct Exercise7 {
    /// How P1 and P2 lie
    #[arg(long, value_name = "NAME", default_value = "hash:7")]
    strategy: Named,
    /// Draw what P3 was told about each of the others
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ExerciseJson {
    n: u8,
    m: u8,
    traitors: [u8; 2],
    general: u8,
    /// Usable values in each round.
    received: Vec<u64>,
    /// What P3 received in each round, by path.
    values: Vec<BTreeMap<String, Option<i128>>>,
    vector: Vec<i128>,
    vectors: BTreeMap<u8, Vec<i128>>,
    agree: bool,
    truthful: bool,
}

/// What `member` was told in the round of paths of `length`, in the order of paths.
fn told(member: &Member<i128>, setting: &Setting, length: u8) -> Vec<(Path, Option<i128>)> {
    let trees = setting.generals().filter_map(|commander| member.tree(commander));
    let values = trees.flat_map(|tree| {
        let paths = tree.paths(length).into_iter();
        paths.map(|path| (path, tree.told(&path).copied())).collect::<Vec<_>>()
    });
    values.collect()
}

impl Exercise7 {
    pub(crate) fn run(&self, paint: Paint) -> Result<Shown, Failure> {
        let case = case(7, 2, &[1, 2], (1..=7).map(|id| 10 * id).collect())?;
        let played = play(&case, &self.strategy)?;
        if let Some(path) = &self.svg {
            let heading = "Exercise 7: n = 7, m = 2, P1 and P2 are traitors. What P3 was told.";
            svg::write(path, heading, &played.figures(&case), LEGEND)?;
        }
        let member = played.outcome.members.get(&THREE);
        let member = member.ok_or_else(|| Failure::Failed("P3 is loyal".to_owned()))?;
        let text = match self.json {
            true => self.json(&case, &played.outcome, member)?,
            false => self.report(paint, &case, &played, member),
        };
        Ok(Shown { text, warnings: Vec::new() })
    }

    fn json(
        &self,
        case: &Case<i128>,
        outcome: &Outcome<i128>,
        member: &Member<i128>,
    ) -> Result<String, Failure> {
        let rounds = 1..=case.setting.rounds();
        let values: Vec<BTreeMap<String, Option<i128>>> = rounds
            .map(|length| {
                let told = told(member, &case.setting, length).into_iter();
                told.map(|(path, value)| (path.to_string(), value)).collect()
            })
            .collect();
        let usable = |round: &BTreeMap<String, Option<i128>>| {
            round.values().map(|value| u64::from(value.is_some())).sum()
        };
        to_json(&ExerciseJson {
            n: 7,
            m: 2,
            traitors: [1, 2],
            general: THREE.0,
            received: values.iter().map(usable).collect(),
            values,
            vector: outcome.vectors.get(&THREE).cloned().unwrap_or_default(),
            vectors: by_name(&outcome.vectors),
            agree: outcome.agree,
            truthful: outcome.truthful,
        })
    }

    fn report(
        &self,
        paint: Paint,
        case: &Case<i128>,
        played: &Played,
        member: &Member<i128>,
    ) -> String {
        let mut out = format!(
            "Exercise 7: seven processes, two of them faulty (P1 and P2, strategy: {}), agree on a vector.\n\
             Private values v1 to v7: {}. What does P3 receive, and what does it decide?\n\n",
            self.strategy,
            words::commas(&case.values)
        );
        for length in 1..=case.setting.rounds() {
            let told = told(member, &case.setting, length);
            let usable = told.iter().filter(|(_, value)| value.is_some()).count();
            let what = match length {
                1 => "Each of the others tells its value",
                2 => "Each passes on the values it heard in round 1",
                _ => "Each passes on the values it heard in round 2",
            };
            let text = format!("Round {length}: {usable} usable values. {what}");
            let _ = writeln!(out, "{}", paint.bold(&text));
            match length {
                1 => out.push_str(&first(paint, &told, &played.lies)),
                2 => out.push_str(&grid(paint, "P3 hears from", "about", &told, &played.lies)),
                _ => {
                    for commander in case.setting.generals().filter(|id| *id != THREE) {
                        let is_about =
                            |(path, _): &&(Path, Option<i128>)| path.commander() == commander;
                        let about: Vec<_> = told.iter().filter(is_about).copied().collect();
                        let corner = format!("about P{commander}, from");
                        out.push_str(&grid(
                            paint,
                            &corner,
                            "who heard it from",
                            &about,
                            &played.lies,
                        ));
                        out.push('\n');
                    }
                }
            }
            out.push('\n');
        }
        out.push_str("! marks what a loyal process would not have said. What comes back through P3 itself is not usable.\n\n");
        out.push_str(&vectors(paint, case, &played.outcome));
        let vector = played.outcome.vectors.get(&THREE).cloned().unwrap_or_default();
        let _ = writeln!(
            out,
            "P3's result vector is ({}) = (x1, x2, v3, v4, v5, v6, v7), where x1 and x2 are whatever the\n\
             votes on the traitors' values come to: the same for everyone.",
            words::commas(vector)
        );
        out
    }
}

fn mark(lies: &Lies, path: Path, receiver: General, value: Option<i128>) -> Cell {
    match value {
        None => Cell { text: "- ".to_owned(), lie: true },
        Some(value) if lies.has(path, receiver) => Cell::lie(value),
        Some(value) => Cell::of(format!("{value} ")),
    }
}

fn first(paint: Paint, told: &[(Path, Option<i128>)], lies: &Lies) -> String {
    let mut heading = vec!["from".to_owned()];
    heading.extend(told.iter().map(|(path, _)| format!("P{} ", path.sender())));
    let mut row = vec![Cell::of("says")];
    row.extend(told.iter().map(|(path, value)| mark(lies, *path, THREE, *value)));
    words::table(paint, &heading, &[row])
}

/// Senders down, those before them on the path across.
fn grid(
    paint: Paint,
    corner: &str,
    across: &str,
    told: &[(Path, Option<i128>)],
    lies: &Lies,
) -> String {
    let before = |path: &Path| path.before().map(|path| path.sender());
    let columns: std::collections::BTreeSet<General> =
        told.iter().filter_map(|(path, _)| before(path)).collect();
    let senders: std::collections::BTreeSet<General> =
        told.iter().map(|(path, _)| path.sender()).collect();
    let mut heading = vec![format!("{corner} | {across}")];
    heading.extend(columns.iter().map(|id| format!("P{id} ")));
    let rows = senders.iter().map(|sender| {
        let cells = columns.iter().map(|column| {
            let found = told
                .iter()
                .find(|(path, _)| path.sender() == *sender && before(path) == Some(*column));
            found.map_or(Cell::of(". "), |(path, value)| mark(lies, *path, THREE, *value))
        });
        std::iter::once(Cell::of(format!("P{sender}"))).chain(cells).collect()
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    words::table(paint, &heading, &rows)
}

/// Options of `matrix`.
#[derive(Args)]
pub(crate) struct Matrix {
    /// Draw what P2 was told about each of the others, under majority
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct MatrixJson {
    packets: u64,
    values: u64,
    told: BTreeMap<u8, i128>,
    /// Row k of P's matrix: the vector that k passed on to P; its own row is what it heard itself.
    matrices: BTreeMap<u8, Vec<Vec<Option<i128>>>>,
    majority: MatrixVectors,
    median: MatrixVectors,
}

#[derive(Serialize)]
struct MatrixVectors {
    vectors: BTreeMap<u8, Vec<i128>>,
    agree: bool,
}

/// What P1 tells P2, P3 and P4.
const TOLD: [(u8, i128); 3] = [(2, 12), (3, 11), (4, 13)];

impl Matrix {
    pub(crate) fn run(&self, paint: Paint) -> Result<Shown, Failure> {
        let majority = case(4, 1, &[1], vec![11, 21, 31, 41])?;
        let median = Case { choice: Choice::Median, ..majority.clone() };
        let strategy = strategy()?;
        let (by_majority, by_median) = (play(&majority, &strategy)?, play(&median, &strategy)?);
        if let Some(path) = &self.svg {
            let heading =
                "The matrix case: n = 4, m = 1, P1 is a traitor. What P2 was told; majority.";
            svg::write(path, heading, &by_majority.figures(&majority), LEGEND)?;
        }
        let text = match self.json {
            true => to_json(&MatrixJson {
                packets: by_majority.outcome.packets.iter().sum(),
                values: by_majority.outcome.sent.iter().sum(),
                told: TOLD.into_iter().collect(),
                matrices: matrices(&by_majority.outcome),
                majority: MatrixVectors {
                    vectors: by_name(&by_majority.outcome.vectors),
                    agree: by_majority.outcome.agree,
                },
                median: MatrixVectors {
                    vectors: by_name(&by_median.outcome.vectors),
                    agree: by_median.outcome.agree,
                },
            })?,
            false => report(paint, (&majority, &by_majority), (&median, &by_median)),
        };
        Ok(Shown { text, warnings: Vec::new() })
    }
}

/// Three different values for P1's own, and something else in place of all that it passes on.
fn strategy() -> Result<impl Strategy<i128>, Failure> {
    let own = Path::of(General(1)).map_err(usage)?;
    let told = TOLD.into_iter().map(|(id, value)| ((own, General(id)), Some(value)));
    let own = Table(told.collect());
    Ok(move |path: &Path, receiver: General, honest: &i128| match path.len() {
        1 => own.say(path, receiver, honest),
        _ => Some(honest + 100 * i128::from(receiver.0)),
    })
}

/// Each loyal general's matrix.
fn matrices(outcome: &Outcome<i128>) -> BTreeMap<u8, Vec<Vec<Option<i128>>>> {
    let matrix = |(id, member): (&General, &Member<i128>)| (id.0, matrix(*id, member, outcome));
    outcome.members.iter().map(matrix).collect()
}

fn matrix(id: General, member: &Member<i128>, outcome: &Outcome<i128>) -> Vec<Vec<Option<i128>>> {
    let ids = || (1..=4).map(General);
    let entry = |row: General, column: General| {
        let own = || outcome.vectors.get(&id)?.get(usize::from(id.0) - 1).copied();
        let Some(tree) = member.tree(column) else {
            // About itself it needs nobody's word.
            return if row == id { own() } else { None };
        };
        let direct = Path::of(column).ok()?;
        let path = if row == id || row == column { Some(direct) } else { direct.then(row).ok() };
        // What a general says of itself stands in its own row.
        tree.told(&path?).copied()
    };
    ids().map(|row| ids().map(|column| entry(row, column)).collect()).collect()
}

fn report(
    paint: Paint,
    (majority, by_majority): (&Case<i128>, &Played),
    (median, by_median): (&Case<i128>, &Played),
) -> String {
    let Outcome { packets, sent, .. } = &by_majority.outcome;
    let mut out = format!(
        "The matrix: four processes, P1 a traitor. P1 tells P2 12, P3 11 and P4 13 of its own value, and lies about\n\
         all that it passes on. The others have 21, 31 and 41. {} packets, {} values.\n\n",
        packets.iter().sum::<u64>(),
        sent.iter().sum::<u64>()
    );
    for (id, matrix) in matrices(&by_majority.outcome) {
        let _ = writeln!(out, "{}", paint.bold(&format!("What P{id} holds after two rounds")));
        let heading: Vec<String> = std::iter::once("row | about".to_owned())
            .chain((1..=4).map(|column| format!("P{column} ")))
            .collect();
        let rows = matrix.iter().zip(1_u8..).map(|(row, from)| {
            let name =
                if from == id { format!("P{from} (heard itself)") } else { format!("P{from}") };
            let cells = row.iter().map(|value| match value {
                None => Cell::of(". "),
                Some(value) if from == 1 => Cell::lie(value),
                Some(value) => Cell::of(format!("{value} ")),
            });
            std::iter::once(Cell::of(name)).chain(cells).collect()
        });
        let rows: Vec<Vec<Cell>> = rows.collect();
        out.push_str(&words::table(paint, &heading, &rows));
        out.push('\n');
    }
    out.push_str(
        "A column is voted on by what one heard itself and what the two others say they heard; ! marks P1's word.\n\n",
    );
    let _ = writeln!(
        out,
        "{}",
        paint.bold("Majority: 12, 11 and 13 have none, so P1's entry is the default, 0")
    );
    out.push_str(&vectors(paint, majority, &by_majority.outcome));
    let _ = writeln!(out, "\n{}", paint.bold("Lower median: 12 is in the middle of 11, 12 and 13"));
    out.push_str(&vectors(paint, median, &by_median.outcome));
    out
}
