//! What the commands share on the command line, and the files they read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;

use clap::{Args, ValueEnum};
use pbft_app::core::generals::{self, General, Setting, SettingError};
use pbft_sim::generals::Traitors;
use pbft_sim::generals::script::{Line, Script};
use pbft_sim::generals::strategy::{Table, parse_key};

use crate::{Failure, usage};

/// How many, how many rounds, who lies.
#[derive(Args, Clone)]
pub(crate) struct Shape {
    /// How many generals, 2 to 99
    #[arg(long)]
    pub(crate) n: u64,
    /// How many traitors are reckoned with: there are m + 1 rounds; at most n - 2
    #[arg(long)]
    pub(crate) m: u64,
    /// Who lies, such as 1,3; nobody unless told
    #[arg(long, value_name = "LIST")]
    pub(crate) traitors: Option<String>,
}

impl Shape {
    pub(crate) fn setting(&self, commander: u64) -> Result<Setting, Failure> {
        let name = u8::try_from(commander).map(General);
        // The order of the checks is that of the arguments: n, m, then who commands.
        let setting = Setting::new(self.n, self.m, General(1)).map_err(usage)?;
        let refused = SettingError::NotAGeneral(commander, setting.n());
        name.map_err(|_| refused).and_then(|name| setting.commanded_by(name)).map_err(usage)
    }

    /// The traitors; those not given are none.
    pub(crate) fn traitors(&self) -> Result<Traitors, Failure> {
        let text = self.traitors.as_deref().unwrap_or_default().trim();
        if text.is_empty() || text == "none" {
            return Ok(Traitors::new());
        }
        let mut traitors = BTreeSet::new();
        for word in text.split(',') {
            let id: Option<u8> = word.trim().parse().ok();
            let id = id.filter(|id| *id >= 1 && u64::from(*id) <= self.n);
            let unknown = || {
                usage(format!(
                    "--traitors {text}: {word:?} is not one of the generals 1 to {}",
                    self.n
                ))
            };
            traitors.insert(General(id.ok_or_else(unknown)?));
        }
        Ok(traitors)
    }
}

/// The vote in OM(m).
#[derive(Args, Clone)]
pub(crate) struct Vote {
    /// How the values at a node of the relay tree become one
    #[arg(long, value_enum, default_value_t = Choice::Majority)]
    pub(crate) choice: Choice,
    /// What stands for silence and, under majority, for ties
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "VALUE")]
    pub(crate) default: i128,
    /// Refuse n <= 3m, where oral messages promise nothing, instead of warning
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Choice {
    /// The value of more than half, else the default
    Majority,
    /// The lower one in the middle
    Median,
}

impl From<Choice> for generals::Choice {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Majority => generals::Choice::Majority,
            Choice::Median => generals::Choice::Median,
        }
    }
}

impl Vote {
    /// What has to be said about the bound n > 3m.
    pub(crate) fn warnings(
        &self,
        setting: &Setting,
        traitors: &Traitors,
    ) -> Result<Vec<String>, Failure> {
        let (n, m) = (setting.n(), setting.m());
        let mut warnings = too_many(setting, traitors);
        if !setting.is_oral_bound_kept() {
            let bound = format!(
                "n = {n} is not above 3m = {}: oral messages promise nothing here",
                3 * u16::from(m)
            );
            if self.strict {
                return Err(usage(bound));
            }
            warnings.push(bound);
        }
        Ok(warnings)
    }
}

/// More traitors than m.
pub(crate) fn too_many(setting: &Setting, traitors: &Traitors) -> Vec<String> {
    let (count, m) = (traitors.len(), setting.m());
    let more = count > usize::from(m);
    more.then(|| format!("m = {m}, but there are {count} traitors: nothing is promised"))
        .into_iter()
        .collect()
}

/// Numbers between commas.
pub(crate) fn numbers(option: &str, text: &str) -> Result<Vec<i128>, Failure> {
    let number = |word: &str| {
        let parsed = word.trim().parse::<i128>();
        parsed
            .map_err(|_| usage(format!("{option} {text}: {word:?} is not an integer of 128 bits")))
    };
    text.split(',').map(number).collect()
}

fn read(path: &FilePath) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| usage(format!("{}: {error}", path.display())))
}

/// Reads a table of lies, and says which of them nobody will tell.
pub(crate) fn read_table(
    path: &FilePath,
    setting: &Setting,
    commanders: &BTreeSet<General>,
    traitors: &Traitors,
) -> Result<(Table<i128>, Vec<String>), Failure> {
    let entries: BTreeMap<String, Option<i128>> = serde_json::from_str(&read(path)?)
        .map_err(|error| usage(format!("{}: {error}", path.display())))?;
    let mut table = Table::default();
    let mut idle = Vec::new();
    for (key, value) in entries {
        let (way, receiver) = parse_key(&key).map_err(usage)?;
        let exists = way.generals().all(|id| setting.has(id)) && setting.has(receiver);
        let said = commanders.contains(&way.commander()) && way.len() <= setting.rounds();
        if !exists || !said || !traitors.contains(&way.sender()) {
            idle.push(key.clone());
        }
        if table.0.insert((way, receiver), value).is_some() {
            return Err(usage(format!("{}: {key:?} is there twice", path.display())));
        }
    }
    let warning = format!("no traitor comes to say what the table has for {}", idle.join(", "));
    Ok((table, if idle.is_empty() { Vec::new() } else { vec![warning] }))
}

type ScriptLine = (u64, u64, i128, Vec<u64>);

/// Reads a script of signed messages, and says which of its rounds do not take place.
pub(crate) fn read_script(
    path: &FilePath,
    setting: &Setting,
) -> Result<(Script<i128>, Vec<String>), Failure> {
    let rounds: BTreeMap<String, Vec<ScriptLine>> = serde_json::from_str(&read(path)?)
        .map_err(|error| usage(format!("{}: {error}", path.display())))?;
    let mut script = Script::default();
    let mut warnings = Vec::new();
    for (key, lines) in rounds {
        let round: Option<u8> = key.parse().ok().filter(|round| *round >= 1);
        let round = round.ok_or_else(|| usage(format!("{key:?} is no round: they start at 1")))?;
        if round > setting.rounds() {
            warnings.push(format!("round {round} of the script is after the last, m + 1"));
        }
        let lines = lines.into_iter().map(script_line).collect::<Result<Vec<_>, _>>()?;
        if script.0.insert(round, lines).is_some() {
            return Err(usage(format!("round {round} is there twice")));
        }
    }
    Ok((script, warnings))
}

fn script_line((sender, receiver, value, chain): ScriptLine) -> Result<Line<i128>, Failure> {
    let general = |id: u64| {
        let id = u8::try_from(id).map(General);
        id.map_err(|_| usage("a script names a general above 99".to_owned()))
    };
    let chain = chain.into_iter().map(general).collect::<Result<_, _>>()?;
    Ok(Line { sender: general(sender)?, receiver: general(receiver)?, value, chain })
}
