//! The scenarios by name, with their defaults.

mod churn;
pub(crate) mod compare;
mod disconnect;
mod floor;
mod floor_connect;
mod floor_unicast;
mod holding;
mod presence;
pub(crate) mod report;
pub(crate) mod server;
mod slow;
mod whisper;

use self::{
    churn::Churn, disconnect::Disconnect, floor::Floor, holding::Holding, presence::Storm,
    slow::Slow, whisper::Whisper,
};
use crate::{
    bench::{Bench, Traffic, even},
    failure::Failure,
    number::float,
    options::{Options, Scenario},
    publisher::Pace,
    show::outcome::{Figure, Outcome},
    wire::Kind,
};

/// The rates of the scenario `latency`, in events per second.
const RATES: [f64; 9] = [10.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0];
/// The connections of the scenario `connect`, and how many of them are opened at a time.
const CONNECTIONS: u32 = 5_000;
const IN_FLIGHT: u32 = 64;
/// The share of the offered load below which a server is saturated.
const KEEPS_UP: f64 = 0.9;

/// Runs the requested scenario.
pub(crate) fn run(options: &Options) -> Result<Vec<Outcome>, Failure> {
    let bench = options.bench()?;
    match options.scenario {
        Scenario::Floor => floor(&bench, options),
        Scenario::Connect => {
            let holding = holding(options, CONNECTIONS);
            bench.connect(holding, options.window.unwrap_or(IN_FLIGHT)).map(|one| vec![one])
        }
        Scenario::Idle => {
            bench.idle(holding(options, 18_000), options.duration(2.0)).map(|one| vec![one])
        }
        Scenario::Latency if options.rate.is_none() => {
            bench.sweep(traffic(Scenario::Latency, options))
        }
        Scenario::Fanout | Scenario::Unicast | Scenario::Saturate | Scenario::Latency => {
            bench.run(traffic(options.scenario, options)).map(|one| vec![one])
        }
        Scenario::Churn => bench.churn(churn(options)).map(|one| vec![one]),
        Scenario::Presence => bench.presence(storm(options)).map(|one| vec![one]),
        Scenario::Slow => slow(&bench, options).map(|one| vec![one]),
        Scenario::Whisper => bench.whisper(whisper(options)).map(|one| vec![one]),
        Scenario::Disconnect => bench.disconnect(disconnect(options)).map(|one| vec![one]),
        Scenario::Report | Scenario::Compare => {
            Err(Failure::Usage("a run of runs cannot be a run".to_owned()))
        }
    }
}

fn churn(options: &Options) -> Churn {
    let half = options.subscribers.unwrap_or(1_000).div_ceil(2);
    Churn {
        steady: half,
        restless: half,
        steps_per_s: 500.0,
        rate: options.rate.unwrap_or(50.0),
        duration: options.duration(3.0),
    }
}

fn storm(options: &Options) -> Storm {
    let channels = options.channels.unwrap_or(20).max(1);
    Storm { channels, members: options.subscribers.unwrap_or(1_000).div_ceil(channels).max(2) - 1 }
}

fn slow(bench: &Bench, options: &Options) -> Result<Outcome, Failure> {
    // Small events would take too long to fill the buffers.
    let bench = Bench { payload_bytes: options.payload.max(10_000), ..bench.clone() };
    let slow = options.slow.unwrap_or(50);
    let all = options.subscribers.unwrap_or(1_000).max(slow + 1);
    bench.slow(Slow {
        reading: all - slow,
        stuck: slow,
        volume_mb: options.volume_mb.unwrap_or(16),
        duration: options.duration(2.0),
    })
}

fn whisper(options: &Options) -> Whisper {
    let members = options.subscribers.unwrap_or(1_000);
    let channels = options.channels.unwrap_or(members.div_ceil(10)).max(1);
    Whisper {
        members: even(members, channels),
        channels,
        rate: options.rate.unwrap_or(1_000.0),
        duration: options.duration(3.0),
    }
}

fn disconnect(options: &Options) -> Disconnect {
    Disconnect {
        crowd: options.subscribers.unwrap_or(18_000),
        others: 100,
        rate: options.rate.unwrap_or(100.0),
        duration: options.duration(2.0),
    }
}

fn floor(bench: &Bench, options: &Options) -> Result<Vec<Outcome>, Failure> {
    let connections = options.subscribers.unwrap_or(1_000);
    let rate = options.rate.unwrap_or(100.0);
    let duration = options.duration(3.0);
    let one = |frames| bench.floor(Floor { connections, rate, frames, duration });
    let unicast = || bench.floor_unicast(connections, options.publishers.unwrap_or(4), duration);
    Ok(vec![one(1)?, one(16)?, unicast()?])
}

/// What the kernel takes for the load of a scenario.
pub(crate) fn floor_of(options: &Options) -> Result<Outcome, Failure> {
    let bench = options.bench()?;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others have no floor")]
    match options.scenario {
        Scenario::Connect => {
            let connections = holding(options, CONNECTIONS).connections;
            bench.floor_connect(connections, options.window.unwrap_or(IN_FLIGHT))
        }
        Scenario::Fanout | Scenario::Unicast => {
            let Traffic { subscribers, channels, publishers, pace, duration, .. } =
                traffic(options.scenario, options);
            match pace {
                Pace::Rate(rate) if channels == 1 => {
                    bench.floor(Floor { connections: subscribers, rate, frames: 1, duration })
                }
                Pace::Answers => bench.floor_unicast(channels, publishers, duration),
                Pace::Rate(_) | Pace::Window { .. } => Err(Failure::Usage(
                    "the floor of this load is not known: fanout has one at a rate, unicast without".to_owned(),
                )),
            }
        }
        _ => Err(Failure::Usage("connect, fanout and unicast have a floor".to_owned())),
    }
}

fn holding(options: &Options, connections: u32) -> Holding {
    let connections = options.subscribers.unwrap_or(connections);
    let usual = Holding::usual(connections, options.kind.unwrap_or(Kind::Public));
    match options.channels {
        Some(channels) => Holding { connections: even(connections, channels), channels, ..usual },
        None => usual,
    }
}

/// The load of a scenario, as requested or by default.
fn traffic(scenario: Scenario, options: &Options) -> Traffic {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others have loads of their own")]
    let (name, channels, publishers, default) = match scenario {
        Scenario::Unicast => ("unicast", None, 4, Pace::Answers),
        Scenario::Saturate => {
            ("saturate", Some(1), 16, Pace::Window { outstanding: 256, deliveries: 1 })
        }
        Scenario::Latency => ("latency", Some(1), 4, Pace::Rate(100.0)),
        _ => ("fanout", Some(1), 1, Pace::Rate(100.0)),
    };
    let wanted = options.subscribers.unwrap_or(1_000);
    let channels = options.channels.or(channels).unwrap_or(wanted).max(1);
    let subscribers = even(wanted, channels);
    let pace = match options.pace(1, default) {
        Pace::Window { outstanding, .. } => {
            Pace::Window { outstanding, deliveries: subscribers / channels }
        }
        other @ (Pace::Rate(_) | Pace::Answers) => other,
    };
    Traffic {
        scenario: name,
        subscribers,
        channels,
        kind: options.kind.unwrap_or(Kind::Public),
        pace,
        publishers: options.publishers.unwrap_or(publishers),
        duration: options.duration(3.0),
    }
}

impl Bench {
    /// The same subscribers at increasing rates, until the server is saturated.
    pub(crate) fn sweep(&self, base: Traffic) -> Result<Vec<Outcome>, Failure> {
        let audience = float(u64::from(base.subscribers / base.channels));
        let mut outcomes = Vec::new();
        for rate in RATES {
            let mut outcome = self.run(Traffic { pace: Pace::Rate(rate), ..base })?;
            let offered = Figure { name: "offered_per_s", value: rate * audience };
            outcome.figures.insert(0, offered);
            let reached = outcome.value("deliveries_per_s").unwrap_or_default();
            outcomes.push(outcome);
            if reached < KEEPS_UP * rate * audience {
                break;
            }
        }
        Ok(outcomes)
    }
}
