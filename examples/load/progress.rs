//! Progress messages on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Prints a progress message.
pub(crate) fn say(text: impl Display) {
    // A closed standard error is no failure.
    let _ = writeln!(io::stderr(), "… {text}");
}
