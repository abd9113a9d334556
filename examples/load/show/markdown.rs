//! A report as files: tables in Markdown, and plots.

use super::{
    outcome::{Outcome, tables},
    svg::{Line, Plot},
};
use crate::{failure::Failure, number::now_s};
use std::{env, fmt::Write, fs, path::Path, thread};

/// Writes the report, with `first` at its beginning, and its plots if there are any.
pub(crate) fn write(path: &Path, first: &str, outcomes: &[Outcome]) -> Result<(), Failure> {
    let failed = Failure::io("write the report");
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut text = format!("# Load\n\n{}\n", conditions());
    if !first.is_empty() {
        text.push_str(first);
        text.push('\n');
    }
    let swept: Vec<&Outcome> = outcomes.iter().filter(|one| one.scenario == "latency").collect();
    if 1 < swept.len() {
        for (name, plot) in [("latency", latency(&swept)), ("throughput", throughput(&swept))] {
            let file = format!("{stem}-{name}.svg");
            fs::write(path.with_file_name(&file), plot.svg()).map_err(&failed)?;
            // Writing to a String does not fail.
            let _ = write!(text, "![{}]({file})\n\n", plot.title);
        }
    }
    text.push_str(&tables(outcomes));
    fs::write(path, text.trim_end().to_owned() + "\n").map_err(&failed)
}

fn points(swept: &[&Outcome], x: &str, y: &str) -> Vec<(f64, f64)> {
    swept.iter().filter_map(|one| Some((one.value(x)?, one.value(y)?))).collect()
}

fn latency(swept: &[&Outcome]) -> Plot {
    let line = |name: &str, figure: &str| Line {
        name: name.to_owned(),
        points: points(swept, "offered_per_s", figure),
    };
    Plot {
        title: "Latency over load".to_owned(),
        across: "deliveries per second that are offered".to_owned(),
        upwards: "ms".to_owned(),
        lines: vec![line("p50", "p50_ms"), line("p99", "p99_ms"), line("p99.9", "p999_ms")],
    }
}

fn throughput(swept: &[&Outcome]) -> Plot {
    Plot {
        title: "Throughput over load".to_owned(),
        across: "deliveries per second that are offered".to_owned(),
        upwards: "deliveries per second".to_owned(),
        lines: vec![Line {
            name: "delivered".to_owned(),
            points: points(swept, "offered_per_s", "deliveries_per_s"),
        }],
    }
}

/// The command, the machine and the date.
fn conditions() -> String {
    let command = shown(env::args().skip(1));
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("unknown CPU", |pair| pair.1);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "`load {}`\n\n{model}, {cores} cores, {} {}, {}. Average load when it ended: {load}, this \
         program included.\n",
        command,
        env::consts::OS,
        kernel.trim(),
        date(now_s())
    )
}

/// The command line, without the secrets.
fn shown(arguments: impl Iterator<Item = String>) -> String {
    let mut command = Vec::new();
    let mut is_secret = false;
    for argument in arguments {
        command.push(match argument.split_once("secret=") {
            _ if is_secret => "…".to_owned(),
            Some((before, _)) => format!("{before}secret=…"),
            None if argument.contains(' ') => format!("\"{argument}\""),
            None => argument.clone(),
        });
        is_secret = argument == "--secret";
    }
    command.join(" ")
}

/// The day of a time in seconds since 1970, as `2026-11-25`.
fn date(seconds: u64) -> String {
    // Years begin in March here, so that the leap day is the last; 400 of them have 146,097 days.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_names() {
        let rows = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_764_085_000, "2025-11-25"),
            (1_735_689_599, "2024-12-31"),
        ];
        for (seconds, text) in rows {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let words = ["--side", "a=http://x,secret=abc", "--secret", "abc", "--json"];
        let text = shown(words.into_iter().map(str::to_owned));
        assert_eq!(text, "--side a=http://x,secret=… --secret … --json");
    }
}
