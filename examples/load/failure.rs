//! Why a run could not be carried out.

use std::{fmt, io};

/// The end of a scenario that could not be measured.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was typed makes no sense.
    Usage(String),
    /// The system refused something.
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The server did not do what the protocol says, or not in time.
    Server(String),
    /// A part of this program ended early.
    Lost(&'static str),
    /// Ctrl-C.
    Interrupted,
}

impl Failure {
    /// Turns an error of the system into the failure of `what`.
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
