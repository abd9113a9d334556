//! Where a value was written, and what is wrong with it.

use std::fmt;

/// Where a value comes from. Later variants win over earlier ones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// Nobody wrote it.
    Default,
    /// A line of the configuration file.
    File {
        /// The file as the user named it.
        file: String,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
        /// The `.env` file that it stands in, or none for the real environment.
        dotenv: Option<String>,
    },
    /// A flag of the command line.
    Flag(&'static str),
}

impl Origin {
    /// The origin that beats those with a lower figure.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment { .. } => 2,
            Self::Flag(_) => 3,
        }
    }

    /// The name of the environment variable, if it is one.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Self::Environment { variable, .. } => Some(variable),
            Self::Default | Self::File { .. } | Self::Flag(_) => None,
        }
    }

    /// The same place, but under another variable's name.
    pub(super) fn with_variable(&self, name: &str) -> Self {
        match self {
            Self::Environment { dotenv, .. } => {
                Self::Environment { variable: name.to_owned(), dotenv: dotenv.clone() }
            }
            Self::Default | Self::File { .. } | Self::Flag(_) => self.clone(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Environment { variable, dotenv: None } => write!(f, "environment {variable}"),
            Self::Environment { variable, dotenv: Some(file) } => {
                write!(f, "environment {variable} ({file})")
            }
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Why the configuration cannot be used: where, which key, and the rule that it breaks, in one
/// line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    place: String,
    key: Option<String>,
    rule: String,
}

impl ConfigError {
    /// `key` at `origin` breaks `rule`.
    pub(super) fn key(origin: &Origin, key: impl fmt::Display, rule: impl Into<String>) -> Self {
        Self { place: origin.to_string(), key: Some(key.to_string()), rule: rule.into() }
    }

    /// Something at `place` that is no value of a key breaks `rule`.
    pub(super) fn at(place: impl fmt::Display, rule: impl Into<String>) -> Self {
        Self { place: place.to_string(), key: None, rule: rule.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.place, self.rule),
            None => write!(f, "{}: {}", self.place, self.rule),
        }
    }
}

impl std::error::Error for ConfigError {}
