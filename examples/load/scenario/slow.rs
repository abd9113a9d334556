//! The scenario `slow`: some subscribers never read, and the others must not be affected.
//!
//! The size of the system's buffers for an unread socket is unknown, and so is the time at which
//! the server closes it. Therefore, additional subscribers that do not read are opened, and begin
//! to read one after the other. When the first of them was closed, all others are read for their
//! close codes.

use crate::{
    bench::{Bench, Measured, Moment, Traffic},
    failure::Failure,
    fleet::{Fleet, command::Range, tally::Counters},
    histogram::Histogram,
    number::{float, millis, ratio},
    progress,
    publisher::{Pace, Publisher, Publishing},
    show::outcome::Outcome,
    stop,
    wire::{Kind, Plan},
};
use std::time::{Duration, Instant};

/// The number of subscribers that check, in turn, whether they were closed.
const PROBES: u32 = 32;
/// The interval of these checks.
const PROBE: Duration = Duration::from_millis(300);
/// The time from the first closed subscriber to the check of all others.
const OTHERS: Duration = Duration::from_millis(1_000);
/// The interval at which the memory is sampled.
const LOOK: Duration = Duration::from_millis(50);
/// The time that closed subscribers have to read what was sent before.
const LAST_READ: Duration = Duration::from_secs(3);
/// The maximum duration of a run.
const PATIENCE: Duration = Duration::from_secs(600);
/// The number of events in progress.
const OUTSTANDING: u32 = 8;

/// The parameters of the scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slow {
    /// The number of subscribers that read.
    pub(crate) reading: u32,
    /// The number of subscribers that never read.
    pub(crate) stuck: u32,
    /// The published data, in megabytes.
    pub(crate) volume_mb: u32,
    /// The duration of the measurement before.
    pub(crate) duration: Duration,
}

/// Subscribers that do not read.
struct Idlers {
    /// The slow subscribers under test.
    slow: Fleet,
    /// The subscribers that check for their closing.
    probes: Fleet,
    /// The number of slow subscribers.
    count: u64,
}

/// The observations while some subscribers did not read.
struct Seen {
    rss_kib_max: Option<f64>,
    slow: Counters,
}

impl Bench {
    /// Publishes to subscribers of which some never read.
    pub(crate) fn slow(&self, slow: Slow) -> Result<Outcome, Failure> {
        let Slow { reading, stuck: count, volume_mb, duration } = slow;
        let bytes = self.payload_bytes;
        let load = format!(
            "{count} never read, {reading} do, {volume_mb} MB published in events of {bytes} bytes"
        );
        progress::say(format_args!("slow: {load}"));
        let plan = Plan::new(Kind::Public, &Self::name("slow"), 1);
        let mut readers = Fleet::new(&self.target, self.crew, reading)?;
        readers.open(&plan, reading)?;
        let traffic = Traffic {
            scenario: "slow",
            subscribers: reading,
            channels: 1,
            kind: Kind::Public,
            pace: Pace::Window { outstanding: OUTSTANDING, deliveries: reading },
            publishers: 4,
            duration,
        };
        let calm = self.send(&mut readers, &plan, traffic)?;

        let mut idlers = Idlers {
            slow: self.idlers(&plan, count)?,
            probes: self.idlers(&plan, PROBES)?,
            count: u64::from(count),
        };
        readers.reset()?;
        let before = readers.gate().delivered();
        let events = u64::from(volume_mb) * 1_000_000 / u64::try_from(bytes).unwrap_or(u64::MAX);
        let publishing =
            Publishing { limit: Some(events.max(1)), ..self.publishing(&plan, traffic) };
        let from = self.moment(&readers, 0);
        let publisher = Publisher::start(publishing, readers.gate())?;
        let seen = self.watch(&publisher, &mut idlers)?;
        let to = self.moment(&readers, publisher.accepted());
        let sent = publisher.finish()?;
        let expected = sent.accepted * u64::from(reading);
        readers.settle(before + expected)?;
        let sum = readers.read(Range::ALL)?;
        let measured = Measured { from, to, published: sent, sum };

        let mut outcome = Outcome::new("slow", load);
        figures(&mut outcome, &calm, &measured, &seen);
        measured.verify(&mut outcome, readers.gate().delivered() - before, expected);
        Ok(outcome)
    }

    /// Opens the subscribers that do not read.
    fn idlers(&self, plan: &Plan, count: u32) -> Result<Fleet, Failure> {
        let mut fleet = Fleet::new(&self.target, self.crew, count)?;
        fleet.open(plan, count)?;
        fleet.pause(Range::ALL)?;
        Ok(fleet)
    }

    /// Runs until everything is published and the slow subscribers were checked.
    fn watch(&self, publisher: &Publisher, idlers: &mut Idlers) -> Result<Seen, Failure> {
        let mut rss_kib_max: Option<f64> = None;
        let mut probe = 0;
        let (begun, mut probed) = (Instant::now(), Instant::now());
        let mut found: Option<Instant> = None;
        let mut looked = false;
        while begun.elapsed() < PATIENCE && !publisher.is_done() {
            stop::sleep(LOOK)?;
            if let Some(usage) = self.processes.usage() {
                rss_kib_max = Some(rss_kib_max.unwrap_or_default().max(usage.rss_kib));
            }
            match found {
                None if PROBE < probed.elapsed() && probe < PROBES => {
                    idlers.probes.resume(Range { from: probe, to: probe + 1 })?;
                    (probe, probed) = (probe + 1, Instant::now());
                }
                None if counters(&mut idlers.probes)?.lost != 0 => found = Some(Instant::now()),
                Some(at) if OTHERS < at.elapsed() && !looked => {
                    idlers.slow.resume(Range::ALL)?;
                    looked = true;
                }
                None | Some(_) => {}
            }
        }
        if !looked {
            idlers.slow.resume(Range::ALL)?;
        }
        let until = Instant::now() + LAST_READ;
        loop {
            let slow = counters(&mut idlers.slow)?;
            if idlers.count <= slow.lost || until < Instant::now() {
                return Ok(Seen { rss_kib_max, slow });
            }
            stop::sleep(LOOK)?;
        }
    }
}

fn counters(fleet: &mut Fleet) -> Result<Counters, Failure> {
    Ok(fleet.read(Range { from: 0, to: 0 })?.counters)
}

fn figures(outcome: &mut Outcome, calm: &Measured, measured: &Measured, seen: &Seen) {
    let p99 = |latency: &Histogram| millis(latency.quantile(0.99));
    let rate =
        |moments: (&Moment, &Moment), count: u64| ratio(float(count), moments.0.seconds(moments.1));
    let before = rate((&calm.from, &calm.to), calm.deliveries());
    let meanwhile = rate((&measured.from, &measured.to), measured.deliveries());
    outcome.set("deliveries_before_per_s", before);
    outcome.set("deliveries_meanwhile_per_s", meanwhile);
    outcome.set("p99_before_ms", p99(&calm.sum.latency));
    outcome.set("p99_meanwhile_ms", p99(&measured.sum.latency));
    let rss_before = measured.from.rss_kib();
    let growth = seen.rss_kib_max.zip(rss_before).map(|(most, before)| (most - before) / 1_024.0);
    outcome.set_known("rss_growth_mib", growth);
    outcome.set("slow_closed", float(seen.slow.lost));
    let codes = &seen.slow.close_codes;
    outcome.set("slow_closed_with_4100", float(codes.get(&4_100).copied().unwrap_or_default()));
}
