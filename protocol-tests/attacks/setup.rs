//! The setup of an attack: a server, a bystander, and measurements of both.

use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use crate::bystander::{Bystander, Sample};
use kit::{DEADLINE, Server, Settings, eventually, quoted};

/// The maximum growth of the server's memory during an attack, and the maximum that the allocator may keep afterwards.
const GROWTH_MAX_KIB: u64 = 64 * 1_024;
const KEPT_MAX_KIB: u64 = 32 * 1_024;

/// The number of events that the bystander receives before the attack begins.
const CALM_EVENTS: usize = 60;

/// The maximum latency of a regular event during an attack. It only shows that clients are served; ratios are printed
/// and not asserted, since they depend on the load of the machine.
const LATENCY_MAX: Duration = Duration::from_secs(5);

/// The duration of attacks that have no end of their own.
pub(crate) const ATTACK_DURATION: Duration = Duration::from_millis(1_500);

/// Runs one attack at a time, so that no other attack affects the measurements.
static TURN: Mutex<()> = Mutex::const_new(());

/// A server with a bystander.
#[derive(Debug)]
pub(crate) struct AttackSetup {
    server: Server,
    bystander: Bystander,
    _turn: MutexGuard<'static, ()>,
}

impl AttackSetup {
    /// Starts the server with the log level of production. Clients that do not read, and so do not answer pings either,
    /// are not closed for that, however long an attack takes on a busy machine.
    pub(crate) async fn open(settings: Settings) -> Self {
        let turn = TURN.lock().await;
        let settings = settings.connection("activity_timeout_s", 3_600);
        let server = settings.section("log", "level", quoted("info")).start_node().await;
        let bystander = Bystander::start(server.address);
        Self { server, bystander, _turn: turn }
    }

    /// Runs `attack`, which returns a description of the attacker's outcome. Afterwards, waits until only the bystander
    /// is connected and the memory is released.
    pub(crate) async fn attacked_by(self, name: &str, attack: impl AsyncFnOnce(&Server) -> String) {
        let Self { server, bystander, _turn } = self;
        let seen = async |count: usize| {
            let what = format!("the ordinary subscriber has {count} events");
            eventually(&what, async || count <= bystander.count()).await;
        };
        seen(CALM_EVENTS).await;
        let memory = Memory::watch(server.process.id());
        let began = Instant::now();
        let outcome = attack(&server).await;
        // At least one event was published during the attack, however short it was.
        seen(bystander.count() + 2).await;
        let attack_time = began..Instant::now();
        let after_attack = bystander.count();
        server.wait_for_connections(1).await;
        // Events that were published during the attack, except for the last, may arrive after it.
        seen(after_attack + 2).await;
        let memory = memory.returned().await;
        let samples = bystander.finish();
        let (calm, attacked) = sorted(&samples, &attack_time);
        report(name, &calm, &attacked, memory, &outcome);
        if let Err(fault) = judge(&calm, &attacked) {
            panic!("{name}: {fault}");
        }
    }
}

/// The events before an attack, and those in transit during it. An event that was published before the attack and
/// delayed by it is among the latter.
fn sorted<'a>(
    samples: &'a [Sample],
    attack: &Range<Instant>,
) -> (Vec<&'a Sample>, Vec<&'a Sample>) {
    samples
        .iter()
        .filter(|sample| sample.published_at < attack.end)
        .partition(|sample| sample.published_at + sample.latency < attack.start)
}

/// The error in the service before or during an attack, if any. A period without events is an error.
fn judge(calm: &[&Sample], attacked: &[&Sample]) -> Result<(), String> {
    if calm.is_empty() || attacked.is_empty() {
        return Err(format!("{} events before, {} during", calm.len(), attacked.len()));
    }
    let longest = attacked.iter().map(|sample| sample.latency).max();
    match longest.filter(|longest| LATENCY_MAX <= *longest) {
        Some(longest) => Err(format!("an event took {longest:?}")),
        None => Ok(()),
    }
}

/// The server's resident memory in KiB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    process: u32,
    before: Option<u64>,
}

/// The resident memory before, at its peak, and after an attack, in KiB.
#[derive(Clone, Copy, Debug)]
struct Account {
    before: u64,
    most: u64,
    after: u64,
}

impl Memory {
    /// Resets the peak, and starts to measure.
    fn watch(process: u32) -> Self {
        // Where the kernel rejects the reset, the peak since the start is higher, never lower.
        let _reset = std::fs::write(format!("/proc/{process}/clear_refs"), "5");
        Self { process, before: figure(process, "VmRSS:") }
    }

    /// Waits until the memory is released, and asserts that it never exceeded its bound. Returns none where the system
    /// does not report it.
    async fn returned(self) -> Option<Account> {
        let before = self.before?;
        let most = figure(self.process, "VmHWM:")?;
        assert!(
            most <= before + GROWTH_MAX_KIB,
            "memory grew from {before} to {most} KiB while attacked"
        );
        let start = Instant::now();
        loop {
            let after = figure(self.process, "VmRSS:")?;
            if after <= before + KEPT_MAX_KIB {
                return Some(Account { before, most, after });
            }
            assert!(
                start.elapsed() < DEADLINE,
                "memory is {after} KiB after the attack and was {before} KiB before"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn figure(process: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The 99th percentile of the latency, in ms. NaN without events.
fn p99(samples: &[&Sample]) -> f64 {
    let mut latencies: Vec<Duration> = samples.iter().map(|sample| sample.latency).collect();
    latencies.sort_unstable();
    let place = (latencies.len() * 99).div_ceil(100).saturating_sub(1);
    latencies.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

#[expect(clippy::print_stdout, reason = "the account of the attack is what it is run for")]
fn report(
    name: &str,
    calm: &[&Sample],
    attacked: &[&Sample],
    memory: Option<Account>,
    outcome: &str,
) {
    let (before, during) = (p99(calm), p99(attacked));
    let ratio = during / before.max(0.001);
    let events = attacked.len();
    let memory = memory.map_or_else(
        || "unknown".to_owned(),
        |Account { before, most, after }| {
            let [before, most, after] = [before, most, after].map(|kib| kib / 1_024);
            format!("{before} -> {most} -> {after} MiB")
        },
    );
    println!(
        "attack: {name}: p99 {before:.1} -> {during:.1} ms (x {ratio:.1}, {events} events, none lost); \
         RSS {memory}; {outcome}"
    );
}

/// How many of `wanted` connections the limits on file descriptors allow for one attack, in this process and in the
/// server.
pub(crate) fn affordable(wanted: usize) -> usize {
    /// File descriptors for other purposes than clients, in either process.
    const RESERVED: u64 = 512;
    let limit = rlimit::increase_nofile_limit(rlimit::INFINITY).unwrap_or(1_024);
    wanted.min(usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(usize::MAX))
}

/// Samples with these publish times and latencies, in ms.
fn samples(start: Instant, times: &[(u64, u64)]) -> Vec<Sample> {
    let sample = |(at, latency)| Sample {
        published_at: start + Duration::from_millis(at),
        latency: Duration::from_millis(latency),
    };
    times.iter().copied().map(sample).collect()
}

#[test]
fn an_attack_without_samples_before_or_during_it_fails() {
    let start = Instant::now();
    let [second, third] = [1_000, 2_000].map(|at| start + Duration::from_millis(at));
    let verdict = |times: &[(u64, u64)]| {
        let samples = samples(start, times);
        let (calm, attacked) = sorted(&samples, &(second..third));
        judge(&calm, &attacked)
    };
    assert_eq!(verdict(&[(0, 10), (1_500, 10), (2_500, 9_000)]), Ok(()));
    assert_eq!(verdict(&[(0, 10), (2_000, 10)]), Err("1 events before, 0 during".to_owned()));
    assert_eq!(verdict(&[(1_000, 10)]), Err("0 events before, 1 during".to_owned()));
    // Events delayed by the attack, published before it or during it.
    for published_at in [990, 1_000, 1_999] {
        let times = [(0, 10), (published_at, 5_000)];
        assert_eq!(verdict(&times), Err("an event took 5s".to_owned()), "{published_at}");
    }
    assert_eq!(verdict(&[(0, 10), (990, 4_999)]), Ok(()));
    assert!(p99(&[]).is_nan());
}
