//! The scenarios `connect` and `idle`: connections that receive nothing.

use crate::{
    bench::{Bench, even},
    failure::Failure,
    fleet::{Fleet, command::Range},
    number::{float, millis, ratio},
    progress,
    show::outcome::Outcome,
    stop,
    wire::{Kind, Plan},
};
use std::time::Duration;

/// The time that a server has to release memory before it is measured.
const SETTLE: Duration = Duration::from_millis(1_000);
/// The number of members of a presence channel; each of them receives the roster.
const MEMBERS: u32 = 100;

/// The connections of the scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    /// The number of connections.
    pub(crate) connections: u32,
    /// The number of channels.
    pub(crate) channels: u32,
    /// The kind of the channels.
    pub(crate) kind: Kind,
}

impl Holding {
    /// Presence channels of a hundred members, or one channel of another kind.
    pub(crate) fn usual(connections: u32, kind: Kind) -> Self {
        let channels = if kind == Kind::Presence { connections.div_ceil(MEMBERS) } else { 1 };
        Self { connections: even(connections, channels), channels, kind }
    }

    fn describe(self) -> String {
        let kind = match self.kind {
            Kind::None => return format!("{} connections without subscription", self.connections),
            Kind::Public => "public",
            Kind::Private => "private",
            Kind::Presence => "presence",
        };
        let channels = if self.channels == 1 { "channel" } else { "channels" };
        format!("{} connections on {} {kind} {channels}", self.connections, self.channels)
    }
}

impl Bench {
    /// Opens connections, and measures the rate and the cost.
    pub(crate) fn connect(&self, holding: Holding, in_flight: u32) -> Result<Outcome, Failure> {
        let load = format!("{}, {in_flight} at a time", holding.describe());
        progress::say(format_args!("connect: {load}"));
        let mut fleet = Fleet::new(&self.target, self.crew, holding.connections)?;
        let plan = Plan::new(holding.kind, &Self::name("connect"), holding.channels);
        let from = self.moment(&fleet, 0);
        let opening = fleet.try_open(&plan, holding.connections, in_flight)?;
        let to = self.moment(&fleet, 0);
        let mut outcome = Outcome::new("connect", load);
        let ready = float(u64::from(opening.ready));
        outcome.set("connections_per_s", ratio(ready, opening.seconds));
        let cpu_s = from.cpu_s(&to);
        outcome.set_known("cpu_us_per_connection", cpu_s.map(|cpu_s| ratio(cpu_s * 1e6, ready)));
        outcome.set("p50_ms", millis(opening.latency.quantile(0.5)));
        outcome.set("p99_ms", millis(opening.latency.quantile(0.99)));
        outcome.set("max_ms", millis(opening.latency.max()));
        if opening.failed != 0 {
            let why = opening.fault.unwrap_or_else(|| "no answer in time".to_owned());
            outcome.fault(format!("{} connections failed: {why}", opening.failed));
        }
        Ok(outcome)
    }

    /// Holds idle connections, and measures the memory of each and the CPU time.
    pub(crate) fn idle(&self, holding: Holding, duration: Duration) -> Result<Outcome, Failure> {
        let load = holding.describe();
        progress::say(format_args!("idle: {load}"));
        let mut fleet = Fleet::new(&self.target, self.crew, holding.connections)?;
        let plan = Plan::new(holding.kind, &Self::name("idle"), holding.channels);
        let before = self.moment(&fleet, 0);
        fleet.open(&plan, holding.connections)?;
        stop::sleep(SETTLE)?;
        let from = self.moment(&fleet, 0);
        stop::sleep(duration)?;
        let to = self.moment(&fleet, 0);
        let mut outcome = Outcome::new("idle", load);
        let count = float(u64::from(holding.connections));
        let growth = before.growth_kib(&to);
        outcome.set_known("rss_kib_per_connection", growth.map(|kib| ratio(kib, count)));
        outcome.set_known("rss_growth_mib", growth.map(|kib| kib / 1_024.0));
        let cores = from.cpu_s(&to).map(|cpu_s| ratio(cpu_s, from.seconds(&to)));
        outcome.set_known("idle_cores", cores);
        let sum = fleet.read(Range::ALL)?;
        if sum.verdict.ready != u64::from(holding.connections) {
            outcome.fault(format!("only {} were still there", sum.verdict.ready));
        }
        Ok(outcome)
    }
}
