//! Where values are set.

use std::fmt;

/// The server whose variables or file configure the first app.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CompatServer {
    /// Laravel Reverb.
    Reverb,
    /// soketi.
    Soketi,
}

impl fmt::Display for CompatServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reverb => "Reverb",
            Self::Soketi => "soketi",
        })
    }
}

/// The source of a value. Later variants override earlier ones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ValueSource {
    /// Default of Campanile.
    Default,
    /// Default of the server whose variables configure the app.
    Compat(CompatServer),
    /// A line of the configuration file.
    File {
        /// The file as the user named it.
        file: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// An option in a configuration file of soketi.
    FileOption {
        /// The file as the user named it.
        file: String,
        /// The path of the option, such as `appManager.array.apps[0].key`.
        path: String,
    },
    /// An environment variable.
    Environment {
        /// The variable's name.
        variable: String,
        /// The `.env` file that contains it; `None` for the process environment.
        dotenv: Option<String>,
    },
    /// A flag of the command line.
    Flag(&'static str),
}

impl ValueSource {
    /// The precedence of the source: higher ones override lower ones.
    pub(super) fn precedence(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Compat(_) => 1,
            Self::File { .. } | Self::FileOption { .. } => 2,
            Self::Environment { .. } => 3,
            Self::Flag(_) => 4,
        }
    }

    /// The layer, and the line in the file.
    pub(super) fn sort_key(&self) -> (u8, usize) {
        let line = match self {
            Self::File { line, .. } => *line,
            Self::Default
            | Self::Compat(_)
            | Self::FileOption { .. }
            | Self::Environment { .. }
            | Self::Flag(_) => 0,
        };
        (self.precedence(), line)
    }

    /// The name of the environment variable, if it is one.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Self::Environment { variable, .. } => Some(variable),
            Self::Default
            | Self::Compat(_)
            | Self::File { .. }
            | Self::FileOption { .. }
            | Self::Flag(_) => None,
        }
    }

    /// The configuration file, if it is one.
    pub(super) fn file(&self) -> Option<&str> {
        match self {
            Self::File { file, .. } | Self::FileOption { file, .. } => Some(file),
            Self::Default | Self::Compat(_) | Self::Environment { .. } | Self::Flag(_) => None,
        }
    }

    /// Whether the value was written for another server, in its variable or its file.
    pub(super) fn is_compat(&self) -> bool {
        match self {
            Self::FileOption { .. } => true,
            Self::Environment { variable, .. } => variable.starts_with(['R', 'S']),
            Self::Default | Self::Compat(_) | Self::File { .. } | Self::Flag(_) => false,
        }
    }

    /// The source of the field `name` of a value in JSON. That of an element is `[0]`.
    pub(super) fn child(&self, name: &str) -> Self {
        match self {
            Self::FileOption { file, path } => {
                let dot = if path.is_empty() || name.starts_with('[') { "" } else { "." };
                Self::FileOption { file: file.clone(), path: format!("{path}{dot}{name}") }
            }
            Self::Default
            | Self::Compat(_)
            | Self::File { .. }
            | Self::Environment { .. }
            | Self::Flag(_) => self.clone(),
        }
    }

    /// The same source, but under another variable's name.
    pub(super) fn with_variable(&self, name: &str) -> Self {
        match self {
            Self::Environment { dotenv, .. } => {
                Self::Environment { variable: name.to_owned(), dotenv: dotenv.clone() }
            }
            Self::Default
            | Self::Compat(_)
            | Self::File { .. }
            | Self::FileOption { .. }
            | Self::Flag(_) => self.clone(),
        }
    }
}

impl fmt::Display for ValueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Compat(server) => write!(f, "default of {server}"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::FileOption { file, path } => write!(f, "{file}: {path}"),
            Self::Environment { variable, dotenv: None } => write!(f, "environment {variable}"),
            Self::Environment { variable, dotenv: Some(file) } => {
                write!(f, "environment {variable} ({file})")
            }
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}
