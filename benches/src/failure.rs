//! How a command of the harness ends when it does not end well.

use std::fmt::Display;
use std::process::ExitCode;

use pbft_app::core::limits::ConfigError;
use pbft_app::{ConfigurationError, NodeError};

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// An option that cannot be used: which one, what it was, what to do. Exit code 2.
    Usage(ConfigError),
    /// Nothing to show: the sentence says why. Exit code 1.
    Failed(String),
}

impl Failure {
    pub fn usage(option: &str, value: impl Display, remedy: impl Display) -> Self {
        Failure::Usage(ConfigError::new(option, value, remedy))
    }

    /// What was tried, and what became of it.
    pub fn of(what: impl Display, error: impl Display) -> Self {
        Failure::Failed(format!("{what}: {error}"))
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Failed(_) => ExitCode::from(1),
        }
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Usage(error) => error.fmt(formatter),
            Failure::Failed(sentence) => formatter.write_str(sentence),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Usage(error)
    }
}

impl From<ConfigurationError> for Failure {
    fn from(error: ConfigurationError) -> Self {
        match error {
            ConfigurationError::Value(error) => Failure::Usage(error),
            other => Failure::Failed(other.to_string()),
        }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::Failed(format!("not the JSON expected: {error}"))
    }
}
