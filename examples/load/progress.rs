//! What is going on, for whoever waits: on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Says what begins.
pub(crate) fn say(text: impl Display) {
    // Nobody reading any more is no failure.
    let _ = writeln!(io::stderr(), "… {text}");
}
