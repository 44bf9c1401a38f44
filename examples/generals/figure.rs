//! The relay tree as it is drawn, on a terminal and as SVG: nodes with a saying, a mark and a vote.

use std::collections::BTreeMap;

use pbft_app::core::generals::tree::{Tree, Vote};
use pbft_app::core::generals::{Choice, General, Path};
use pbft_sim::generals::Traitors;
use pbft_sim::generals::oral::Saying;

use crate::words::{Paint, because, commas};

/// Trees with more nodes are cut, on a terminal and as pictures.
pub(crate) const NODES_MAX: usize = 180;

/// Votes are listed one by one up to so many.
const OTHERS_MAX: usize = 8;

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// What is said here.
    pub(crate) says: String,
    /// What is wrong with it, if something is: why it is a lie.
    pub(crate) lie: Option<String>,
    /// The vote at it, if there is one.
    pub(crate) vote: Option<String>,
    /// What others say about it.
    pub(crate) children: Vec<Node>,
}

impl Node {
    /// This node and all below it.
    pub(crate) fn size(&self) -> usize {
        1 + self.children.iter().map(Node::size).sum::<usize>()
    }
}

/// What a tree belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Whose it is.
    pub(crate) title: String,
    /// What comes of it.
    pub(crate) result: String,
    pub(crate) root: Node,
    /// How many of its levels are not drawn.
    pub(crate) cut: u8,
}

/// What a picture of a relay tree needs to be understood.
pub(crate) const LEGEND: &str = "Red: a lie. * a traitor. A vote is over what the owner was told directly and \
                                 what the votes of the boxes to the right come to.";

/// The lies told in a run, by path and receiver, each with what would have been true.
pub(crate) struct Lies {
    traitors: Traitors,
    told: BTreeMap<(Path, General), i128>,
}

impl Lies {
    pub(crate) fn of(traitors: &Traitors) -> Self {
        Lies { traitors: traitors.clone(), told: BTreeMap::new() }
    }

    /// A general's number, with a star if it is a traitor.
    pub(crate) fn name(&self, general: General) -> String {
        format!("{general}{}", if self.traitors.contains(&general) { "*" } else { "" })
    }

    pub(crate) fn note(&mut self, saying: &Saying<i128>) {
        if saying.is_lie() {
            self.told.insert((saying.path, saying.receiver), saying.honest);
        }
    }

    pub(crate) fn truth(&self, path: Path, receiver: General) -> Option<i128> {
        self.told.get(&(path, receiver)).copied()
    }

    pub(crate) fn has(&self, path: Path, receiver: General) -> bool {
        self.told.contains_key(&(path, receiver))
    }
}

/// How many nodes a lieutenant's tree has down to `levels`.
fn nodes(tree: &Tree<i128>, levels: u8) -> usize {
    let mut total: usize = 0;
    let mut level: usize = 1;
    for depth in 1..=levels {
        total = total.saturating_add(level);
        level = level.saturating_mul(usize::from(tree.setting().n().saturating_sub(depth + 1)));
    }
    total
}

/// How many nodes of a lieutenant's tree are drawn.
pub(crate) fn drawn(tree: &Tree<i128>) -> usize {
    nodes(tree, levels(tree))
}

/// As many levels as fit, one at least.
fn levels(tree: &Tree<i128>) -> u8 {
    let all = tree.setting().rounds();
    (1..=all).rev().find(|levels| nodes(tree, *levels) <= NODES_MAX).unwrap_or(1)
}

/// The tree of one lieutenant.
pub(crate) fn of_tree(tree: &Tree<i128>, choice: Choice, lies: &Lies) -> Option<Figure> {
    let levels = levels(tree);
    let path = Path::of(tree.setting().commander()).ok()?;
    let owner = tree.owner();
    Some(Figure {
        title: format!(
            "What general {owner} was told about the order of {}",
            lies.name(path.commander())
        ),
        result: result(tree, choice)?,
        root: node(tree, &path, levels, lies),
        cut: tree.setting().rounds() - levels,
    })
}

/// What the owner of a tree decides, and why.
pub(crate) fn result(tree: &Tree<i128>, choice: Choice) -> Option<String> {
    let path = Path::of(tree.setting().commander()).ok()?;
    let vote = tree.vote(&path);
    let others = vote.others.iter().map(|(_, value)| *value);
    let values: Vec<i128> = std::iter::once(vote.direct).chain(others).collect();
    let why = because(choice, &values, vote.outcome);
    Some(format!("{} decides {}: {why}", tree.owner(), vote.outcome))
}

fn node(tree: &Tree<i128>, path: &Path, levels: u8, lies: &Lies) -> Node {
    let (setting, owner) = (tree.setting(), tree.owner());
    let vote = tree.vote(path);
    let (sender, value) = (lies.name(path.sender()), vote.direct);
    let says = match (path.before(), vote.is_told) {
        (_, false) => format!("{sender} says nothing: counts as {value}"),
        (None, true) => format!("{sender} orders {value}"),
        (Some(before), true) => {
            format!("{sender} says: {} told me {value}", lies.name(before.sender()))
        }
    };
    let lie = lies.truth(*path, owner).map(|truth| match path.before() {
        None => format!("LIE: its order should be {truth}"),
        Some(before) => format!("LIE: {} told it {truth}", lies.name(before.sender())),
    });
    let is_leaf = vote.others.is_empty();
    let votes = format!("vote: {value} direct, {} => {}", by_others(&vote, lies), vote.outcome);
    let children: Vec<Node> = if path.len() < levels {
        path.children(&setting, owner).map(|child| node(tree, &child, levels, lies)).collect()
    } else {
        Vec::new()
    };
    Node { says, lie, vote: (!is_leaf).then_some(votes), children }
}

/// What the others' values are; with many of them how often each value is there.
fn by_others(vote: &Vote<i128>, lies: &Lies) -> String {
    if vote.others.len() <= OTHERS_MAX {
        return commas(
            vote.others.iter().map(|(id, value)| format!("{value} by {}", lies.name(*id))),
        );
    }
    let mut counts: BTreeMap<i128, usize> = BTreeMap::new();
    for (_, value) in &vote.others {
        *counts.entry(*value).or_default() += 1;
    }
    let shown =
        counts.iter().take(OTHERS_MAX).map(|(value, count)| format!("{value} by {count} others"));
    let rest = counts.len().saturating_sub(OTHERS_MAX);
    let more = (rest > 0).then(|| format!("{rest} more values"));
    commas(shown.chain(more))
}

/// The tree in letters, one line for each node.
pub(crate) fn draw(paint: Paint, figure: &Figure) -> String {
    let mut lines = Vec::new();
    collect(&figure.root, "", "", &mut lines);
    let width = lines.iter().map(|line| line.plain.chars().count()).max().unwrap_or(0);
    let mut out = format!("{}\n", paint.bold(&figure.title));
    for line in &lines {
        let pad = " ".repeat(width - line.plain.chars().count());
        let text = if line.is_lie { paint.lie(&line.plain) } else { line.plain.clone() };
        let text = format!("  {text}{pad}   {}", paint.faint(&line.vote));
        out.push_str(text.trim_end());
        out.push('\n');
    }
    if figure.cut > 0 {
        out.push_str(&format!("  ... {} more levels of relays are not shown\n", figure.cut));
    }
    out.push_str(&format!("  {}\n", paint.bold(&figure.result)));
    out
}

struct Line {
    plain: String,
    is_lie: bool,
    vote: String,
}

fn collect(node: &Node, first: &str, rest: &str, lines: &mut Vec<Line>) {
    let lie = node.lie.as_ref().map_or(String::new(), |truth| format!("   {truth}"));
    lines.push(Line {
        plain: format!("{first}{}{lie}", node.says),
        is_lie: node.lie.is_some(),
        vote: node.vote.clone().unwrap_or_default(),
    });
    let last = node.children.len().saturating_sub(1);
    for (index, child) in node.children.iter().enumerate() {
        let (branch, below) = if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        collect(child, &format!("{rest}{branch}"), &format!("{rest}{below}"), lines);
    }
}
