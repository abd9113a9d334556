//! The load generator for all published figures of this project. It works with any server of the
//! Pusher protocol.
//!
//! ```text
//! cargo run --release --example load -- fanout --url http://127.0.0.1:8080 --pid PID
//! cargo run --release --example load -- report --report load.md
//! cargo run --release --example load -- compare --side a=http://127.0.0.1:8080,pid=PID \
//!     --side b=http://127.0.0.1:6001,pid=PID,app-id=ID,key=KEY,secret=SECRET
//! ```
//!
//! A [`fleet`] of connections is distributed over workers; each [worker](fleet::worker) is one
//! thread, in this process or in another one, that reads all its sockets into one buffer and counts
//! the events without storing them. A [`publisher`] is one thread that publishes signed events over
//! HTTP. Each event carries a stamp, the publisher's clock and a number: it provides the latency,
//! and the proof that everything arrived exactly once. [`bench`] combines these, and its result is
//! an [outcome](show::outcome).

mod bench;
mod failure;
mod fleet;
mod frame;
mod histogram;
mod http;
mod number;
mod options;
mod payload;
mod process;
mod progress;
mod publisher;
mod scenario;
mod show;
mod stop;
mod target;
mod wire;

use clap::Parser;
use failure::Failure;
use fleet::hand;
use options::{Options, Scenario};
use scenario::{compare, report::Report, server};
use serde_json::{Value, json};
use show::{judged, markdown, outcome, outcome::Outcome};
use std::{
    env,
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

/// The exit code of an invalid command line.
const EXIT_USAGE: u8 = 2;
/// The exit code after a signal, by the convention of shells.
const EXIT_INTERRUPTED: u8 = 130;
/// The exit code after a failure, or if events were lost or duplicated.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    // As many file descriptors as the system allows. If they do not suffice, processes share the
    // connections.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    if env::args().nth(1).as_deref() == Some(hand::WORKER) {
        return end(hand::run_process());
    }
    let options = Options::parse();
    end(stop::listen().and_then(|()| run(&options)))
}

fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed standard error is no failure.
            let _ = writeln!(io::stderr(), "load: {failure}");
            ExitCode::from(match failure {
                Failure::Usage(_) => EXIT_USAGE,
                Failure::Interrupted => EXIT_INTERRUPTED,
                Failure::Io { .. } | Failure::Server(_) | Failure::Lost(_) => EXIT_FAILED,
            })
        }
    }
}

/// The output of a run.
struct Shown {
    /// The text that is printed, or put at the beginning of the report.
    first: String,
    /// The JSON output.
    json: Value,
    /// The measured outcomes.
    outcomes: Vec<Outcome>,
}

fn run(options: &Options) -> Result<(), Failure> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are one measurement each")]
    let shown = match options.scenario {
        Scenario::Report => report(options)?,
        Scenario::Compare => compare(options)?,
        _ => {
            let outcomes = scenario::run(options)?;
            Shown { first: String::new(), json: outcome::json(&outcomes), outcomes }
        }
    };
    if options.json {
        say(&shown.json);
    } else {
        let tables = outcome::tables(&shown.outcomes);
        say(format!("{}{}", shown.first, tables).trim_end());
    }
    if let Some(path) = &options.report {
        markdown::write(path, &shown.first, &shown.outcomes)?;
    }
    let faults: usize = shown.outcomes.iter().map(|outcome| outcome.faults.len()).sum();
    if faults == 0 {
        return Ok(());
    }
    Err(Failure::Server("not everything went as it should: see the lines with !".to_owned()))
}

fn report(options: &Options) -> Result<Shown, Failure> {
    let mut report = Report {
        binary: server::binary(options.binary.as_deref())?,
        bench: options.bench()?,
        volume_mb: options.volume_mb.unwrap_or(8),
        duration: options.duration(2.0),
        floor_us: None,
        judged: Vec::new(),
        outcomes: Vec::new(),
    };
    report.run()?;
    if options.report.is_some() {
        report.sweep()?;
    }
    let json = json!({
        "figures": judged::judged_json(&report.judged),
        "outcomes": outcome::json(&report.outcomes),
    });
    let first = format!("{}\n{}\n", judged::judged_table(&report.judged), report.remark());
    Ok(Shown { first, json, outcomes: report.outcomes })
}

fn compare(options: &Options) -> Result<Shown, Failure> {
    let comparisons = compare::compare(options)?;
    let tables: Vec<String> =
        comparisons.iter().map(|one| compare::comparison_table(options, one)).collect();
    let outcomes = compare::flattened(options, comparisons);
    let json = outcome::json(&outcomes);
    Ok(Shown { first: format!("{}\n", tables.join("\n")), json, outcomes })
}

/// Prints to standard output.
fn say(text: impl Display) {
    let mut stdout = io::stdout().lock();
    // A closed standard output is no failure.
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
