//! The scenario `report`: every figure with a bound, beside its bound.
//!
//! Servers are started for it and killed afterwards; each has one shard, except for the figures
//! about two. If a figure is a ratio to the floor, both are measured alternately.

use super::{
    disconnect::Disconnect,
    floor::Floor,
    holding::Holding,
    server::{OUTBOX_BYTES_MAX, Server},
    slow::Slow,
};
use crate::{
    bench::{Bench, Traffic, even},
    failure::Failure,
    number::{float, float_of, ratio},
    process::Processes,
    publisher::Pace,
    show::{
        judged::{Bound, Judged},
        outcome::{Outcome, number},
    },
    wire::Kind,
};
use std::{path::PathBuf, thread, time::Duration};

/// The number of rounds of alternating measurements.
const ROUNDS: u32 = 2;
/// The number of connections of the figures about many connections.
const CROWD: u32 = 18_000;
/// The number of subscribers of the figures about one channel.
const AUDIENCE: u32 = 1_000;
/// The numbers of subscribers per channel, ascending.
const AUDIENCES: [u32; 4] = [100, 1_000, 10_000, CROWD];
/// Deliveries per second for each of them.
const GROWTH_DELIVERIES: f64 = 40_000.0;
/// The numbers of channels with one subscriber, ascending.
const CHANNELS: [u32; 4] = [1, 100, 1_000, CROWD];
/// Publishes per second for each of them.
const GROWTH_PUBLISHES: f64 = 2_000.0;
/// The number of slow subscribers among the subscribers.
const SLOW: u32 = 50;
/// The size of their events, in bytes: small ones would take too long to fill the buffers.
const SLOW_PAYLOAD: usize = 10_000;
/// A rate in events per second at which no frames are merged.
const STEADY_RATE: f64 = 100.0;
/// The number of subscribers of the figure about a large channel.
const LARGE: u32 = 10_000;
/// Events per second for them.
const LARGE_RATE: f64 = 10.0;
/// The minimum time in which they receive enough events for a 99th percentile.
const LARGE_DURATION: Duration = Duration::from_secs(4);
/// The cost of a write of the floor on the machine of the bounds, in microseconds.
const FLOOR_US: f64 = 2.47;

/// A report that is being measured.
#[derive(Debug)]
pub(crate) struct Report {
    /// The program of the server.
    pub(crate) binary: PathBuf,
    /// The settings of the load; the server is set for each figure.
    pub(crate) bench: Bench,
    /// The megabytes of the scenario `slow`.
    pub(crate) volume_mb: u32,
    /// The duration of each measurement.
    pub(crate) duration: Duration,
    /// The cost of a write of the floor, once it was measured.
    pub(crate) floor_us: Option<f64>,
    /// The figures with bounds.
    pub(crate) judged: Vec<Judged>,
    /// The measured outcomes.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Report {
    /// Measures everything.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        self.one_channel()?;
        self.unicast_and_connect()?;
        self.memory()?;
        self.large_channel()?;
        self.growth()?;
        self.disconnect()?;
        self.two_shards()?;
        self.slow()
    }

    /// Starts a server with this many shards, and creates a bench for it.
    fn server(&self, shards: u32) -> Result<(Server, Bench), Failure> {
        let server = Server::start(&self.binary, shards)?;
        let processes = Processes::new(&[server.pid()]);
        let bench = Bench { target: server.target.clone(), processes, ..self.bench.clone() };
        Ok((server, bench))
    }

    fn keep(&mut self, outcome: Outcome) -> Outcome {
        self.outcomes.push(outcome.clone());
        outcome
    }

    /// Traffic to public channels of `audience` subscribers each.
    fn traffic(&self, scenario: &'static str, audience: u32, channels: u32, pace: Pace) -> Traffic {
        Traffic {
            scenario,
            subscribers: audience * channels,
            channels,
            kind: Kind::Public,
            pace,
            publishers: 1,
            duration: self.duration,
        }
    }

    fn saturate(&self) -> Traffic {
        let pace = Pace::Window { outstanding: 256, deliveries: AUDIENCE };
        Traffic { publishers: 16, ..self.traffic("saturate", AUDIENCE, 1, pace) }
    }

    /// 1,000 subscribers of one channel: with no, few and many frames to merge.
    fn one_channel(&mut self) -> Result<(), Failure> {
        let (_server, bench) = self.server(1)?;
        let wanted = self.floor(AUDIENCE, STEADY_RATE);
        let (asked, mut floor) = self.calm_floor(&bench, wanted)?;
        let rate = asked.rate;
        let steady = self.traffic("fanout", AUDIENCE, 1, Pace::Rate(rate));
        let window = Pace::Window { outstanding: 4, deliveries: AUDIENCE };
        let merging = self.traffic("fanout", AUDIENCE, 1, window);
        let (mut floors, mut steadies, mut mergings) = (Vec::new(), Vec::new(), Vec::new());
        let mut typical_ms: f64 = 0.0;
        for round in 0..ROUNDS {
            if round != 0 {
                floor = self.keep(bench.floor(asked)?);
            }
            floors.extend(floor.value("cpu_us_per_write"));
            let outcome = self.keep(bench.run(steady)?);
            typical_ms = typical_ms.max(outcome.value("p50_ms").unwrap_or_default());
            steadies.extend(outcome.value("cpu_us_per_delivery"));
            mergings.extend(self.keep(bench.run(merging)?).value("cpu_us_per_delivery"));
        }
        self.floor_us = mean(&floors);
        // An event that arrives before the previous one is delivered is merged with it.
        let merged = if 1_000.0 / rate < typical_ms { "; too busy: frames merged" } else { "" };
        let slower = slower(STEADY_RATE, rate);
        let note = format!("{}{slower}{merged}", self.beside_floor(&steadies));
        let figure = format!("CPU per delivery, 1,000 subscribers, {} events/s", number(rate));
        let over = self.over_floor(&steadies);
        self.judged
            .push(Judged::new(figure, Bound::Most(1.25), "× floor", over).aim(1.1).note(note));
        let figure = "CPU per delivery, 1,000 subscribers, 4 events outstanding";
        let over = self.over_floor(&mergings);
        let note = self.beside_floor(&mergings);
        self.judged
            .push(Judged::new(figure, Bound::Most(0.5), "× floor", over).aim(0.3).note(note));
        let outcome = self.keep(bench.run(self.saturate())?);
        let figure = "deliveries per second, 1,000 subscribers, saturated";
        let rate = outcome.value("deliveries_per_s");
        let note = with("µs of CPU each", outcome.value("cpu_us_per_delivery"));
        self.judged.push(Judged::new(figure, Bound::Least(3.8e6), "/s", rate).aim(8e6).note(note));
        Ok(())
    }

    fn floor(&self, connections: u32, rate: f64) -> Floor {
        Floor { connections, rate, frames: 1, duration: self.duration }
    }

    /// The floor as `wanted`, or at a rate that leaves it half of its time: a saturated floor is
    /// not a lower bound.
    fn calm_floor(&mut self, bench: &Bench, wanted: Floor) -> Result<(Floor, Outcome), Failure> {
        let first = bench.floor(wanted)?;
        let pass_ms = first.value("pass_p50_ms").unwrap_or_default();
        let slower = [1.0, 0.5, 0.25, 0.1].map(|share| share * wanted.rate);
        let fits = |rate: &f64| 2.0 * pass_ms <= 1_000.0 / rate;
        let rate = slower.into_iter().find(fits).unwrap_or(0.05 * wanted.rate);
        let calm = Floor { rate, ..wanted };
        let outcome = if rate < wanted.rate { bench.floor(calm)? } else { first };
        Ok((calm, self.keep(outcome)))
    }

    fn over_floor(&self, values: &[f64]) -> Option<f64> {
        Some(ratio(mean(values)?, self.floor_us?))
    }

    fn beside_floor(&self, values: &[f64]) -> String {
        match (mean(values), self.floor_us) {
            (Some(own), Some(floor)) => format!("{} µs, floor {} µs", number(own), number(floor)),
            (Some(_) | None, _) => String::new(),
        }
    }

    /// A remark about the floor of this machine, for figures that are not ratios.
    pub(crate) fn remark(&self) -> String {
        self.floor_us.map_or_else(String::new, |floor_us| {
            format!(
                "The floor took {} µs per write here. Bounds that are no ratios stem from a machine \
                 where it takes {} µs and that had nothing else to do.\n",
                number(floor_us),
                number(FLOOR_US)
            )
        })
    }

    fn unicast_and_connect(&mut self) -> Result<(), Failure> {
        let (_server, bench) = self.server(1)?;
        let traffic = self.traffic("unicast", 1, 1_000, Pace::Answers);
        let outcome = self.keep(bench.run(Traffic { publishers: 4, ..traffic })?);
        let floor = self.keep(bench.floor_unicast(1_000, 4, self.duration)?);
        let rate = outcome.value("publishes_per_s");
        self.judged.push(
            Judged::new("publishes per second, one subscriber each", Bound::Least(4e4), "/s", rate)
                .aim(5.4e4)
                .note(with("/s: the floor", floor.value("publishes_per_s"))),
        );
        let cpu = outcome.value("cpu_us_per_publish");
        let note = with("µs: the floor", floor.value("cpu_us_per_publish"));
        let judged = Judged::new("CPU per such publish", Bound::Most(20.0), "µs", cpu);
        self.judged.push(judged.aim(15.0).note(note));
        let outcome = self.keep(bench.connect(Holding::usual(5_000, Kind::Public), 64)?);
        let cpu = outcome.value("cpu_us_per_connection");
        let figure = "CPU per connection, from accept to subscribed";
        self.judged.push(
            Judged::new(figure, Bound::Most(60.0), "µs", cpu)
                .aim(35.0)
                .note(with("connections/s", outcome.value("connections_per_s"))),
        );
        Ok(())
    }

    /// Each kind on a separate server, since memory that was freed once is reused.
    fn memory(&mut self) -> Result<(), Failure> {
        let shared = Holding::usual(CROWD, Kind::Public);
        let rows = [
            ("RSS per idle connection, 18,000 on one channel", 3.0, Some(1.5), shared),
            (
                "RSS per idle connection, 18,000 with a channel each",
                3.0,
                Some(1.5),
                Holding { channels: CROWD, ..shared },
            ),
            (
                "RSS per presence member, channels of 100",
                4.0,
                None,
                Holding::usual(CROWD, Kind::Presence),
            ),
        ];
        for (figure, most, aim, holding) in rows {
            let (_server, bench) = self.server(1)?;
            let outcome = self.keep(bench.idle(holding, Duration::from_millis(500))?);
            let kib = outcome.value("rss_kib_per_connection");
            let judged = Judged::new(figure, Bound::Most(most), "KiB", kib);
            self.judged.push(Judged { aim, ..judged });
        }
        Ok(())
    }

    fn large_channel(&mut self) -> Result<(), Failure> {
        let (_server, bench) = self.server(1)?;
        let duration = self.duration.max(LARGE_DURATION);
        let (asked, mut floor) =
            self.calm_floor(&bench, Floor { duration, ..self.floor(LARGE, LARGE_RATE) })?;
        let rate = asked.rate;
        let (mut passes, mut p99s) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            if round != 0 {
                floor = self.keep(bench.floor(asked)?);
            }
            passes.extend(floor.value("pass_p50_ms"));
            let traffic = self.traffic("fanout", LARGE, 1, Pace::Rate(rate));
            let outcome = self.keep(bench.run(Traffic { duration, ..traffic })?);
            p99s.extend(outcome.value("p99_ms"));
        }
        let (pass, p99) = (mean(&passes), mean(&p99s));
        let note = with("ms p99", p99) + ", " + &with("ms to write 10,000 frames", pass);
        let note = note + &slower(LARGE_RATE, rate);
        let figure = format!("p99, 10,000 subscribers × {} events/s", number(rate));
        let over = p99.zip(pass).map(|(p99, pass)| ratio(p99, pass));
        self.judged.push(Judged::new(figure, Bound::Most(1.2), "× floor", over).note(note));
        Ok(())
    }

    fn growth(&mut self) -> Result<(), Failure> {
        let (_server, bench) = self.server(1)?;
        let mut costs = Vec::new();
        for audience in AUDIENCES {
            let rate = GROWTH_DELIVERIES / float(u64::from(audience));
            let traffic = self.traffic("fanout", audience, 1, Pace::Rate(rate));
            costs.extend(self.keep(bench.run(traffic)?).value("cpu_us_per_delivery"));
        }
        let figure = "CPU per delivery, from 100 to 18,000 subscribers of a channel, off the mean";
        self.judge_growth(figure, &costs);
        let mut costs = Vec::new();
        for channels in CHANNELS {
            let pace = Pace::Rate(GROWTH_PUBLISHES);
            let traffic = self.traffic("unicast", 1, channels, pace);
            let outcome = self.keep(bench.run(Traffic { publishers: 4, ..traffic })?);
            costs.extend(outcome.value("cpu_us_per_publish"));
        }
        let figure = "CPU per publish, from 1 to 18,000 channels, off the mean";
        self.judge_growth(figure, &costs);
        Ok(())
    }

    fn judge_growth(&mut self, figure: &str, costs: &[f64]) {
        let off = mean(costs).map(|mean| {
            costs.iter().map(|cost| ratio((cost - mean).abs(), mean)).fold(0.0, f64::max) * 100.0
        });
        let all: Vec<String> = costs.iter().map(|cost| number(*cost)).collect();
        let note = format!("{} µs", all.join(", "));
        self.judged.push(Judged::new(figure, Bound::Most(50.0), "%", off).note(note));
    }

    fn disconnect(&mut self) -> Result<(), Failure> {
        let (_server, bench) = self.server(1)?;
        let outcome = self.keep(bench.disconnect(Disconnect {
            crowd: CROWD,
            others: 100,
            rate: 100.0,
            duration: Duration::from_secs(1),
        })?);
        let gone = outcome.value("gone_ms");
        let figure = "18,000 connections dropped at once: all gone";
        self.judged.push(Judged::new(figure, Bound::Most(1_000.0), "ms", gone));
        let p99 = outcome.value("p99_meanwhile_ms");
        let note = with("ms before", outcome.value("p99_before_ms"));
        let figure = "p99 of other traffic meanwhile";
        self.judged.push(Judged::new(figure, Bound::Most(100.0), "ms", p99).note(note));
        Ok(())
    }

    fn two_shards(&mut self) -> Result<(), Failure> {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for (shards, rates) in [(1, &mut one), (2, &mut two)] {
                let (_server, bench) = self.server(shards)?;
                let outcome = bench.run(self.saturate())?;
                rates.extend(outcome.value("deliveries_per_s"));
                self.outcomes.push(outcome);
            }
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let gain = mean(&two).zip(mean(&one)).map(|(two, one)| ratio(two, one));
        // Two for the shards, and as many for the load generator.
        let judged = Judged::new("two shards, saturated", Bound::Least(1.6), "× one shard", gain)
            .applies(4 <= cores)
            .note(if cores < 4 { "no free cores: the load generator needs them" } else { "" });
        self.judged.push(judged);
        Ok(())
    }

    fn slow(&mut self) -> Result<(), Failure> {
        let (_server, bench) = self.server(1)?;
        let bench = Bench { payload_bytes: SLOW_PAYLOAD, ..bench };
        let outcome = self.keep(bench.slow(Slow {
            reading: AUDIENCE - SLOW,
            stuck: SLOW,
            volume_mb: self.volume_mb,
            duration: self.duration,
        })?);
        let volume = format!("{} MB published", self.volume_mb);
        let faults = Some(float_of(outcome.faults.len()));
        self.judged.push(
            Judged::new(
                "50 of 1,000 never read: faults of the others",
                Bound::Most(0.0),
                "",
                faults,
            )
            .note(volume),
        );
        let p99 = outcome.value("p99_meanwhile_ms").zip(outcome.value("p99_before_ms"));
        let over = p99.map(|(meanwhile, before)| ratio(meanwhile, before));
        let figure = "… p99 of the others";
        self.judged.push(Judged::new(figure, Bound::Most(2.0), "× before", over));
        let most = float(u64::from(SLOW) * u64::from(OUTBOX_BYTES_MAX)) / 1_048_576.0 + 32.0;
        let growth = outcome.value("rss_growth_mib");
        self.judged.push(Judged::new("… growth of RSS", Bound::Most(most), "MiB", growth));
        let closed = outcome.value("slow_closed_with_4100");
        let figure = "… of the 50, closed with 4100";
        let all = float(u64::from(SLOW));
        self.judged.push(Judged::new(figure, Bound::Least(all), "", closed));
        Ok(())
    }

    /// Latency and throughput over the load, for the plots.
    pub(crate) fn sweep(&mut self) -> Result<(), Failure> {
        let (_server, bench) = self.server(1)?;
        let subscribers = even(AUDIENCE, 1);
        let base = self.traffic("latency", subscribers, 1, Pace::Rate(1.0));
        let swept = bench.sweep(Traffic { publishers: 4, ..base })?;
        self.outcomes.extend(swept);
        Ok(())
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    Some(values.iter().sum::<f64>() / float_of(values.len()))
}

/// A note that the offered rate was lower than wanted.
fn slower(wanted: f64, rate: f64) -> String {
    if rate < wanted {
        format!("; not {}/s, with which the floor is too busy", number(wanted))
    } else {
        String::new()
    }
}

fn with(unit: &str, value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{} {unit}", number(value)))
}
