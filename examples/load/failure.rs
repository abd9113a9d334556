//! The reasons why a run failed.

use std::{fmt, io};

/// The error of a scenario that could not be measured.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is invalid.
    Usage(String),
    /// A system call failed.
    Io {
        /// The attempted operation.
        what: &'static str,
        /// The error of the system.
        error: io::Error,
    },
    /// The server violated the protocol, or did not answer in time.
    Server(String),
    /// A part of this program ended early.
    Lost(&'static str),
    /// The run was interrupted with Ctrl-C.
    Interrupted,
}

impl Failure {
    /// Converts an error of the system into the failure of `what`.
    pub(crate) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Io { what, error }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Server(text) => f.write_str(text),
            Self::Io { what, error } => write!(f, "cannot {what}: {error}"),
            Self::Lost(part) => write!(f, "{part} ended early"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}
