//! The common parts of all scenarios: the server, and the measurement of traffic to it.

use crate::{
    failure::Failure,
    fleet::{Crew, Fleet, command::Range, tally::Sum},
    histogram::Histogram,
    number::{float, millis, narrow, now_us, ratio},
    process::{self, Processes, Usage},
    progress,
    publisher::{Pace, Published, Publisher, Publishing},
    show::outcome::{Outcome, number},
    stop,
    target::Target,
    wire::{Kind, Plan},
};
use std::time::{Duration, Instant};

/// The interval of progress messages.
const TELL: Duration = Duration::from_secs(1);

/// The server under test, and the settings of the load.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// The addresses and credentials of the server.
    pub(crate) target: Target,
    /// The processes of the server.
    pub(crate) processes: Processes,
    /// The number and kind of the workers.
    pub(crate) crew: Crew,
    /// The size of an event's data, in bytes.
    pub(crate) payload_bytes: usize,
    /// The duration of the load before the measurement.
    pub(crate) warm_up: Duration,
}

/// A load of subscribers and published events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// The name of the scenario.
    pub(crate) scenario: &'static str,
    /// The number of connections; a multiple of `channels`.
    pub(crate) subscribers: u32,
    /// The number of channels, each with the same number of subscribers.
    pub(crate) channels: u32,
    /// The kind of the channels.
    pub(crate) kind: Kind,
    /// The pace at which events are published.
    pub(crate) pace: Pace,
    /// The number of publishing connections.
    pub(crate) publishers: u32,
    /// The duration of the measurement.
    pub(crate) duration: Duration,
}

/// A snapshot of all counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: Instant,
    delivered: u64,
    accepted: u64,
    usage: Option<Usage>,
    own_cpu_s: Option<f64>,
}

/// The result of measured traffic.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The beginning of the measurement.
    pub(crate) from: Moment,
    /// The end of the measurement.
    pub(crate) to: Moment,
    /// Everything that was published, including before and after the measurement.
    pub(crate) published: Published,
    /// The counts of the subscribers.
    pub(crate) sum: Sum,
}

impl Bench {
    /// A name for channels that no earlier run has used.
    pub(crate) fn name(scenario: &str) -> String {
        format!("{scenario}-{:06x}", (now_us() / 1_000) & 0xff_ffff)
    }

    /// Reads all counters.
    pub(crate) fn moment(&self, fleet: &Fleet, accepted: u64) -> Moment {
        Moment {
            at: Instant::now(),
            delivered: fleet.gate().delivered(),
            accepted,
            usage: self.processes.usage(),
            own_cpu_s: process::own_cpu_s(fleet.pids()),
        }
    }

    /// Opens subscribers, sends traffic to them, and verifies that everything arrived exactly once.
    pub(crate) fn run(&self, traffic: Traffic) -> Result<Outcome, Failure> {
        progress::say(traffic.describe());
        let plan = Plan::new(traffic.kind, &Self::name(traffic.scenario), traffic.channels);
        let mut fleet = Fleet::new(&self.target, self.crew, traffic.subscribers)?;
        fleet.open(&plan, traffic.subscribers)?;
        self.measure(&mut fleet, &plan, traffic)
    }

    /// Sends traffic to open subscribers.
    pub(crate) fn measure(
        &self,
        fleet: &mut Fleet,
        plan: &Plan,
        traffic: Traffic,
    ) -> Result<Outcome, Failure> {
        let before = fleet.gate().delivered();
        let measured = self.send(fleet, plan, traffic)?;
        let mut outcome = Outcome::new(traffic.scenario, traffic.describe());
        measured.figures(&mut outcome);
        let audience = u64::from(traffic.subscribers / traffic.channels);
        let expected = measured.published.accepted * audience;
        measured.verify(&mut outcome, fleet.gate().delivered() - before, expected);
        if traffic.publishers == 1 && measured.sum.counters.disorder != 0 {
            outcome.fault(format!("{} events out of order", measured.sum.counters.disorder));
        }
        Ok(outcome)
    }

    /// Publishes for the duration of the measurement, and waits until everything has arrived.
    pub(crate) fn send(
        &self,
        fleet: &mut Fleet,
        plan: &Plan,
        traffic: Traffic,
    ) -> Result<Measured, Failure> {
        fleet.reset()?;
        let before = fleet.gate().delivered();
        let publisher = Publisher::start(self.publishing(plan, traffic), fleet.gate())?;
        stop::sleep(self.warm_up)?;
        fleet.mark()?;
        let from = self.moment(fleet, publisher.accepted());
        let until = from.at + traffic.duration;
        let (mut told, mut seen) = (from.at, from.delivered);
        while Instant::now() < until && !publisher.is_done() {
            let left = until.saturating_duration_since(Instant::now());
            stop::sleep(left.min(Duration::from_millis(100)))?;
            if TELL < told.elapsed() {
                let delivered = fleet.gate().delivered();
                let rate = ratio(float(delivered - seen), told.elapsed().as_secs_f64());
                progress::say(format_args!("  {} deliveries/s", number(rate)));
                (told, seen) = (Instant::now(), delivered);
            }
        }
        let to = self.moment(fleet, publisher.accepted());
        let sent = publisher.finish()?;
        let audience = u64::from(traffic.subscribers / traffic.channels);
        fleet.settle(before + sent.accepted * audience)?;
        // Duplicates arrive slightly later.
        stop::sleep(Duration::from_millis(50))?;
        let sum = fleet.read(Range::ALL)?;
        Ok(Measured { from, to, published: sent, sum })
    }

    /// The settings of the publisher for `traffic`.
    pub(crate) fn publishing(&self, plan: &Plan, traffic: Traffic) -> Publishing {
        Publishing {
            target: self.target.clone(),
            plan: plan.clone(),
            payload_bytes: self.payload_bytes,
            connections: traffic.publishers,
            pace: traffic.pace,
            limit: None,
        }
    }
}

impl Traffic {
    /// A short description of the load.
    pub(crate) fn describe(self) -> String {
        let pace = match self.pace {
            Pace::Rate(rate) => format!("{} events/s", number(rate)),
            Pace::Window { outstanding, .. } => format!("{outstanding} events under way"),
            Pace::Answers => "as fast as answered".to_owned(),
        };
        let channels = if self.channels == 1 { "channel" } else { "channels" };
        format!(
            "{} on {} {channels}, {pace}, {} publishing",
            self.subscribers, self.channels, self.publishers
        )
    }
}

impl Moment {
    /// The CPU seconds of the server between `self` and `later`.
    pub(crate) fn cpu_s(&self, later: &Self) -> Option<f64> {
        Some(later.usage?.cpu_s - self.usage?.cpu_s)
    }

    /// The growth of the server's memory between `self` and `later`, in KiB.
    pub(crate) fn growth_kib(&self, later: &Self) -> Option<f64> {
        Some(later.usage?.rss_kib - self.usage?.rss_kib)
    }

    /// The server's memory in KiB.
    pub(crate) fn rss_kib(&self) -> Option<f64> {
        Some(self.usage?.rss_kib)
    }

    /// The seconds between `self` and `later`.
    pub(crate) fn seconds(&self, later: &Self) -> f64 {
        later.at.saturating_duration_since(self.at).as_secs_f64()
    }
}

impl Measured {
    /// The number of deliveries during the measurement.
    pub(crate) fn deliveries(&self) -> u64 {
        self.to.delivered - self.from.delivered
    }

    /// Adds the measured figures.
    pub(crate) fn figures(&self, outcome: &mut Outcome) {
        let (from, to) = (&self.from, &self.to);
        let seconds = from.seconds(to);
        let deliveries = float(self.deliveries());
        let publishes = float(to.accepted - from.accepted);
        outcome.set("deliveries_per_s", ratio(deliveries, seconds));
        outcome.set("publishes_per_s", ratio(publishes, seconds));
        if let Some(cpu_s) = from.cpu_s(to) {
            outcome.set("cpu_us_per_delivery", ratio(cpu_s * 1e6, deliveries));
            outcome.set("cpu_us_per_publish", ratio(cpu_s * 1e6, publishes));
            outcome.set("server_cores", ratio(cpu_s, seconds));
        }
        let own = from.own_cpu_s.zip(to.own_cpu_s).map(|(from, to)| ratio(to - from, seconds));
        outcome.set_known("generator_cores", own);
        let received = &self.sum.counters;
        let bytes = ratio(float(received.bytes), float(received.delivered));
        outcome.set("bytes_per_delivery", bytes);
        let latency = &self.sum.latency;
        outcome.set("p50_ms", millis(latency.quantile(0.5)));
        outcome.set("p99_ms", millis(latency.quantile(0.99)));
        outcome.set("p999_ms", millis(latency.quantile(0.999)));
        let answers = Histogram::from(&self.published.answers);
        outcome.set("answer_p99_ms", millis(answers.quantile(0.99)));
        outcome.set_known("rss_mib", to.usage.map(|usage| usage.rss_kib / 1_024.0));
    }

    /// Records a fault for everything that did not arrive exactly once.
    pub(crate) fn verify(&self, outcome: &mut Outcome, delivered: u64, expected: u64) {
        if delivered != expected {
            let (least, most) = (self.sum.verdict.least, self.sum.verdict.most);
            outcome.fault(format!(
                "{delivered} deliveries, but {expected} were due; a connection got {least} to {most}"
            ));
        }
        let verdict = &self.sum.verdict;
        if verdict.wrong != 0 {
            outcome.fault(format!(
                "{} of {} connections did not receive each event once",
                verdict.wrong, verdict.connections
            ));
        }
        for (status, count) in &self.published.rejected {
            outcome.fault(format!("{count} publishes answered with {status}"));
        }
        let counters = &self.sum.counters;
        if counters.lost != 0 || counters.errors != 0 {
            let why = counters.fault.as_deref().unwrap_or("no reason given");
            outcome.fault(format!(
                "{} connections lost, {} errors: {why}",
                counters.lost, counters.errors
            ));
        }
    }
}

/// `wanted` connections, rounded up to a multiple of the channels.
pub(crate) fn even(wanted: u32, channels: u32) -> u32 {
    let channels = channels.max(1);
    let rounded = u64::from(wanted.max(1)).div_ceil(u64::from(channels)) * u64::from(channels);
    narrow(rounded)
}
