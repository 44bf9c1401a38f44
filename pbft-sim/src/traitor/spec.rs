//! A traitor in words: `NAME[+NAME...][,key=value...]`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::catalogue;

/// What a traitor is to be, as the command line and tests say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    names: Vec<String>,
    settings: BTreeMap<String, String>,
}

/// Why words describe no traitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// No behaviour has this name.
    Name(String),
    /// A setting that this behaviour does not have, or a value that it cannot be.
    Setting {
        /// Which.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl SpecError {
    pub(super) fn name(name: &str) -> SpecError {
        SpecError::Name(name.to_owned())
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpecError::Name(name) => {
                writeln!(formatter, "no traitor is called {name:?}; there are:")?;
                write!(formatter, "{}", catalogue::describe())
            }
            SpecError::Setting { key, problem } => write!(formatter, "setting {key}: {problem}"),
        }
    }
}

impl std::error::Error for SpecError {}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Spec, SpecError> {
        let mut parts = text.split(',');
        let names: Vec<String> = parts
            .next()
            .unwrap_or_default()
            .split('+')
            .map(|name| name.trim().to_owned())
            .collect();
        if let Some(unknown) = names.iter().find(|name| catalogue::find(name).is_none()) {
            return Err(SpecError::name(unknown));
        }
        let mut settings = BTreeMap::new();
        for part in parts {
            let Some((key, value)) = part.split_once('=') else {
                let problem = "write it as key=value".to_owned();
                return Err(SpecError::Setting { key: part.to_owned(), problem });
            };
            settings.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        Ok(Spec { names, settings })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.names.join("+"))?;
        self.settings.iter().try_for_each(|(key, value)| write!(formatter, ",{key}={value}"))
    }
}

impl Spec {
    /// Several behaviours by turns, or one.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What it does, in words.
    pub fn does(&self) -> String {
        let each = self.names.iter().filter_map(|name| catalogue::does(name));
        each.collect::<Vec<_>>().join("; by turns ")
    }

    pub(super) fn settings(&self) -> Settings {
        Settings(self.settings.clone())
    }
}

/// Settings not yet asked for.
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Takes a number out.
    pub(super) fn number(&mut self, key: &str, otherwise: u64) -> Result<u64, SpecError> {
        match self.0.remove(key) {
            None => Ok(otherwise),
            Some(value) => value.parse().map_err(|_| SpecError::Setting {
                key: key.to_owned(),
                problem: format!("{value:?} is no number"),
            }),
        }
    }

    fn word(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// Whatever nobody asked for is a mistake.
    pub(super) fn finish(self) -> Result<(), SpecError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(key) => Err(SpecError::Setting {
                key,
                problem:
                    "this traitor has no such setting; all have when=primary|backup, per_mille, \
                          from_sequence, from_view, from_ms, switch_ms, provoke"
                        .to_owned(),
            }),
        }
    }
}

/// In which role it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Any,
    Primary,
    Backup,
}

/// When it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trigger {
    pub(super) role: Role,
    pub(super) per_mille: u64,
    pub(super) from_sequence: u64,
    pub(super) from_view: u64,
    pub(super) from_micros: u64,
}

impl Trigger {
    pub(super) fn new(settings: &mut Settings) -> Result<Trigger, SpecError> {
        let role = match settings.word("when").as_deref() {
            None => Role::Any,
            Some("primary") => Role::Primary,
            Some("backup") => Role::Backup,
            Some(other) => {
                return Err(SpecError::Setting {
                    key: "when".to_owned(),
                    problem: format!("{other:?} is neither primary nor backup"),
                });
            }
        };
        Ok(Trigger {
            role,
            per_mille: settings.number("per_mille", 1000)?,
            from_sequence: settings.number("from_sequence", 0)?,
            from_view: settings.number("from_view", 0)?,
            from_micros: settings.number("from_ms", 0)?.saturating_mul(1000),
        })
    }
}
