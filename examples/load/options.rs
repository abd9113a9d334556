//! The command line.

use crate::{
    bench::Bench,
    failure::Failure,
    fleet::Crew,
    payload,
    process::Processes,
    publisher::Pace,
    scenario::compare::Side,
    target::{Target, Url},
    wire::Kind,
};
use clap::{Parser, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// Puts load on a server that speaks the Pusher protocol, and measures it.
///
/// Figures with "cpu" and "rss" need --pid, and Linux. Sizes and rates that are not given have the
/// scenario's own defaults.
#[derive(Clone, Debug, Parser)]
#[command(name = "load")]
pub(crate) struct Options {
    /// What to do
    #[arg(value_enum)]
    pub(crate) scenario: Scenario,
    /// Base URL of the server; repeat it for each node of a cluster
    #[arg(long = "url", default_value = "http://127.0.0.1:8080")]
    urls: Vec<String>,
    /// Id of the app
    #[arg(long, default_value = "app-id")]
    app_id: String,
    /// Key of the app
    #[arg(long, default_value = "app-key")]
    key: String,
    /// Secret of the app
    #[arg(long, default_value = "app-secret")]
    secret: String,
    /// Process of the server; repeat it where there are several
    #[arg(long = "pid")]
    pids: Vec<u32>,
    /// Connections that subscribe
    #[arg(long, short = 'n')]
    pub(crate) subscribers: Option<u32>,
    /// Channels that they are spread over
    #[arg(long)]
    pub(crate) channels: Option<u32>,
    /// Kind of the channels
    #[arg(long, value_enum)]
    pub(crate) kind: Option<Kind>,
    /// Events per second, in an open loop
    #[arg(long, conflicts_with = "window")]
    pub(crate) rate: Option<f64>,
    /// Events that may be under way, in a closed loop
    #[arg(long)]
    pub(crate) window: Option<u32>,
    /// Connections that publish
    #[arg(long)]
    pub(crate) publishers: Option<u32>,
    /// Bytes of an event's data
    #[arg(long, default_value_t = 128)]
    pub(crate) payload: usize,
    /// Give each connection a token for resuming, as pages with a wsPath of /app/resume-TOKEN have
    #[arg(long)]
    resume: bool,
    /// Seconds that are measured
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Seconds of the same load before
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// slow: megabytes that are published
    #[arg(long)]
    pub(crate) volume_mb: Option<u32>,
    /// slow: subscribers that never read
    #[arg(long)]
    pub(crate) slow: Option<u32>,
    /// Threads that own connections
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Processes that own connections [default: as many as the file descriptors demand]
    #[arg(long, default_value_t = 0)]
    processes: u32,
    /// report: the server [default: campanile beside this program's folder]
    #[arg(long)]
    pub(crate) binary: Option<PathBuf>,
    /// compare: a server, as NAME=URL[,pid=N][,app-id=ID][,key=KEY][,secret=SECRET][,url=URL][,resume], or "floor" for what the
    /// kernel takes; at least two, and the ratios are to the first
    #[arg(long = "side", value_name = "SERVER")]
    pub(crate) sides: Vec<Side>,
    /// compare: a scenario with its options, such as "fanout --window 4"; may be repeated
    #[arg(long = "run", value_name = "SCENARIO")]
    pub(crate) runs: Vec<String>,
    /// compare: how often each run is done with each server
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a Markdown file with plots beside it
    #[arg(long, value_name = "FILE.md")]
    pub(crate) report: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Scenario {
    /// No server: what the kernel takes to write ready-made frames, one and 16 at a time, and to
    /// pass on one frame per request
    Floor,
    /// Open connections and subscribe them
    Connect,
    /// Hold many connections that receive nothing; only a fresh server shows what they need
    Idle,
    /// One channel, many subscribers
    Fanout,
    /// Many channels of one subscriber each
    Unicast,
    /// As many deliveries as possible
    Saturate,
    /// The same load at rising rates, until the server does not keep up
    Latency,
    /// Subscribe, unsubscribe, disconnect and connect while events are published
    Churn,
    /// All members of many presence channels join at once, and leave at once
    Presence,
    /// Some subscribers never read
    Slow,
    /// Client events within small private channels
    Whisper,
    /// A crowd is gone at once while others receive events
    Disconnect,
    /// Start servers, and hold every figure of the project against its bound
    Report,
    /// The same runs against several servers in turn, and their ratios
    Compare,
}

impl Options {
    /// Options of all scenarios.
    pub(crate) fn bench(&self) -> Result<Bench, Failure> {
        if self.payload < payload::BYTES_MIN {
            let least = payload::BYTES_MIN;
            return Err(Failure::Usage(format!("--payload is at least {least}")));
        }
        if self.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            return Err(Failure::Usage("--rate is more than 0".to_owned()));
        }
        let urls: Result<Vec<Url>, Failure> = self.urls.iter().map(|url| url.parse()).collect();
        Ok(Bench {
            target: Target {
                urls: urls?,
                app_id: self.app_id.clone(),
                key: self.key.clone(),
                secret: self.secret.clone(),
                resume: self.resume,
            },
            processes: Processes::new(&self.pids),
            crew: Crew { threads: self.threads, processes: self.processes },
            payload_bytes: self.payload,
            warm_up: seconds(self.warm_up),
        })
    }

    /// The duration of the measurement.
    pub(crate) fn duration(&self, default_s: f64) -> Duration {
        seconds(self.seconds.unwrap_or(default_s))
    }

    /// The requested pace: a rate, a window over `deliveries` for each event, or the default.
    pub(crate) fn pace(&self, deliveries: u32, default: Pace) -> Pace {
        match (self.rate, self.window) {
            (Some(rate), _) => Pace::Rate(rate),
            (None, Some(outstanding)) => Pace::Window { outstanding, deliveries },
            (None, None) => default,
        }
    }
}

/// Parses a duration in seconds: at least zero, at most a day.
fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(if seconds.is_nan() { 0.0 } else { seconds.clamp(0.0, 86_400.0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
