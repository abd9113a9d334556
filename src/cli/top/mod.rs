//! `campanile top`: a running server, live. On a terminal a table that is drawn again in each
//! interval, otherwise one line for each.

mod draw;
mod exposition;
mod plain;
mod poll;
mod rates;
mod signals;
mod terminal;
mod view;

use super::{
    EXIT_FAILED, fail, print_error, runtime,
    target::{AppTarget, MetricsArgs, ServerArgs},
};
use crate::escape::json_line;
use clap::Args;
use poll::Poller;
use rates::Report;
use signals::stop_signal;
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

#[derive(Args, Debug)]
pub(super) struct TopArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    /// Seconds between two samples
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: Duration,
    /// Stop after this many intervals
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print one JSON object for each interval
    #[arg(long)]
    json: bool,
    /// Print one line for each interval on a terminal too
    #[arg(long)]
    plain: bool,
}

/// Parses the interval: 0.2 to 3600 seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.2..=3_600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "must be 0.2 to 3600".to_owned())
}

pub(super) fn top(args: &TopArgs) -> ExitCode {
    let targets = args.server.target_with_metrics(&args.metrics);
    let ((target, metrics), runtime) = match (targets, runtime()) {
        (Ok(targets), Ok(runtime)) => (targets, runtime),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let poller = Poller::new(&target, &metrics, args.interval);
    let is_interactive = io::stdout().is_terminal() && !args.json && !args.plain;
    let code = runtime.block_on(async {
        if is_interactive {
            interactive(&target, poller, args.count).await
        } else {
            lines(poller, args).await
        }
    });
    // The system may still resolve a name, which is not waited for.
    runtime.shutdown_background();
    code
}

async fn interactive(target: &AppTarget, poller: Poller<'_>, count: Option<u64>) -> ExitCode {
    let name = target.origin.to_string();
    match terminal::run(&name, &target.app_id, poller, count).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILED, format_args!("cannot use the terminal: {error}")),
    }
}

/// Prints a line for each interval until a signal, the end of the count, or a closed output.
async fn lines(mut poller: Poller<'_>, args: &TopArgs) -> ExitCode {
    let stop = async {
        match stop_signal() {
            Ok(stop) => stop.await,
            Err(_none) => std::future::pending().await,
        }
    };
    let print = async {
        if let Err(error) = poller.begin().await {
            return fail(EXIT_FAILED, error);
        }
        let mut printed = 0;
        while args.count.is_none_or(|count| printed < count) {
            match poller.next().await {
                Ok(report) if write_line(&report, args.json).is_err() => break,
                Ok(_written) => {}
                // The server may be restarting.
                Err(error) => print_error(format_args!("campanile: {error}")),
            }
            printed += 1;
        }
        ExitCode::SUCCESS
    };
    tokio::select! {
        code = print => code,
        () = stop => ExitCode::SUCCESS,
    }
}

fn write_line(report: &Report, is_json: bool) -> io::Result<()> {
    let line =
        if is_json { json_line(&plain::json(report).to_string()) } else { plain::line(report) };
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_has_bounds() {
        assert_eq!(seconds("0.2"), Ok(Duration::from_millis(200)));
        for text in ["0.1", "0", "-1", "3601", "NaN", "x", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
