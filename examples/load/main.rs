//! The load generator behind every figure of this project, for any server that speaks the Pusher
//! protocol.
//!
//! ```text
//! cargo run --release --example load -- fanout --url http://127.0.0.1:8080 --pid PID
//! cargo run --release --example load -- report --report load.md
//! cargo run --release --example load -- compare --side a=http://127.0.0.1:8080,pid=PID \
//!     --side b=http://127.0.0.1:6001,pid=PID,app-id=ID,key=KEY,secret=SECRET
//! ```
//!
//! A [`fleet`] of connections is spread over workers; each [worker](fleet::worker) is one thread,
//! here or in a process of its own, that reads all its sockets into one buffer and counts what
//! comes without keeping it. A [`publisher`] is one thread that publishes signed events over HTTP.
//! Each event carries a stamp, the publisher's clock and a number: from it come latencies, and the
//! proof that everything arrived exactly once. [`bench`] puts these together, and what it finds out
//! is an [outcome](show::outcome).

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

/// Wrong usage.
const EXIT_USAGE: u8 = 2;
/// Ended by a signal, as shells count it.
const EXIT_INTERRUPTED: u8 = 130;
/// Failed, or found that something did not arrive as it should.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    // As many connections as the system lets us have. Where it does not, processes share them.
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
            // Nobody reading any more is no failure.
            let _ = writeln!(io::stderr(), "load: {failure}");
            ExitCode::from(match failure {
                Failure::Usage(_) => EXIT_USAGE,
                Failure::Interrupted => EXIT_INTERRUPTED,
                Failure::Io { .. } | Failure::Server(_) | Failure::Lost(_) => EXIT_FAILED,
            })
        }
    }
}

/// What is shown when all is done.
struct Shown {
    /// Comes first, for people.
    first: String,
    /// For machines.
    json: Value,
    /// What was measured.
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

/// Writes for whoever asked.
fn say(text: impl Display) {
    let mut stdout = io::stdout().lock();
    // As above.
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
