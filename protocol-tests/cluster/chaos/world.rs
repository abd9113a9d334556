//! The state that all parts of a run share.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::support::{Ledger, Observation, Outcome, Period, Violation};

use super::clients::Life;
use super::faults::Fault;

/// The time before and after a violation that is reported.
const BEFORE: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(4);
/// The interval at which the load of the machine is measured.
const TICK: Duration = Duration::from_millis(5);

/// The faults so far, in the form that the checker needs.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultRecord {
    /// The periods in which Redis lost data.
    pub(super) losses: Vec<Period>,
    /// When slots moved.
    pub(super) moves: Vec<Period>,
    /// Whether Redis may have lost data of webhooks and nothing else, which nodes can't detect.
    pub(super) has_lost_webhooks: bool,
    /// The periods in which the limits of `docs/cluster.md` applied.
    pub(super) excused: Vec<Period>,
    /// The periods in which nodes were paused.
    pauses: Vec<(SocketAddr, Period)>,
    /// The time by which the state must be right again.
    pub(super) healed_at: Option<Instant>,
    /// The periods without a fault: before the first one, and from when all nodes are ready again until the end.
    pub(super) calm: Vec<Period>,
    /// The beginning of the current period without a fault.
    calm_since: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) start: Instant,
    pub(super) ledger: Ledger,
    /// Milliseconds between two actions of a client.
    pub(super) pause: std::ops::Range<u64>,
    faults_so_far: Mutex<FaultRecord>,
    /// The times at which this process was runnable but did not run, and for how long.
    stalls: Mutex<Vec<(Instant, Duration)>>,
    addresses: Mutex<Vec<Option<SocketAddr>>>,
    paused: Mutex<HashSet<SocketAddr>>,
    log: Mutex<Vec<(Instant, String)>>,
    stopped: watch::Sender<bool>,
}

impl World {
    pub(super) fn new(seed: u64, pause: std::ops::Range<u64>) -> Self {
        Self {
            seed,
            start: Instant::now(),
            ledger: Ledger::default(),
            pause,
            faults_so_far: Mutex::default(),
            stalls: Mutex::default(),
            addresses: Mutex::default(),
            paused: Mutex::default(),
            log: Mutex::default(),
            stopped: watch::Sender::new(false),
        }
    }

    /// A stream of random numbers that is independent of all others.
    pub(super) fn random(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003).wrapping_add(part))
    }

    /// Sets the address of a node; `None` if it is down.
    pub(super) fn place(&self, node: usize, address: Option<SocketAddr>) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() <= node {
            addresses.resize(node + 1, None);
        }
        addresses[node] = address;
    }

    /// A random node that is running, as far as recorded.
    pub(super) fn any_node(&self, random: &mut StdRng) -> Option<SocketAddr> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let running: Vec<SocketAddr> = addresses.iter().flatten().copied().collect();
        (!running.is_empty()).then(|| running[random.random_range(0..running.len())])
    }

    /// Records an action of the test.
    pub(super) fn note(&self, what: String) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), what));
    }

    /// Records that a fault has ended, and the period in which its effects appear.
    pub(super) fn record_fault(&self, fault: Fault, period: Period, is_loss: bool) {
        let mut faults_so_far = self.faults_so_far.lock().unwrap_or_else(PoisonError::into_inner);
        let healed_at = Instant::now() + fault.heals_within();
        faults_so_far.healed_at = faults_so_far.healed_at.max(Some(healed_at));
        if is_loss {
            faults_so_far.losses.push(period);
        }
        faults_so_far.has_lost_webhooks |= fault.loses_webhooks();
    }

    /// Records that all nodes are ready and no fault is active.
    pub(super) fn fault_free_begins(&self) {
        let mut faults_so_far = self.faults_so_far.lock().unwrap_or_else(PoisonError::into_inner);
        faults_so_far.calm_since.get_or_insert_with(Instant::now);
    }

    /// Records that a fault begins, or that the run ends.
    pub(super) fn fault_free_ends(&self) {
        let mut faults_so_far = self.faults_so_far.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begin) = faults_so_far.calm_since.take() {
            faults_so_far.calm.push(Period { begin, end: Instant::now() });
        }
    }

    /// Records that a node is paused.
    pub(super) fn pause_begins(&self, node: SocketAddr) {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
    }

    pub(super) fn is_paused(&self, node: SocketAddr) -> bool {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).contains(&node)
    }

    /// Records the end of a node's pause.
    pub(super) fn pause_ends(&self, node: SocketAddr, period: Period) {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
        self.faults_so_far
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pauses
            .push((node, period));
    }

    pub(super) fn was_paused(&self, node: SocketAddr, begin: Instant, end: Instant) -> bool {
        let faults_so_far = self.faults_so_far.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(paused, period): &(SocketAddr, Period)| {
            *paused == node && period.overlaps(begin, end)
        };
        faults_so_far.pauses.iter().any(is_it)
    }

    /// Records a period in which slots move to another master.
    pub(super) fn slots_move(&self, period: Period) {
        self.faults_so_far.lock().unwrap_or_else(PoisonError::into_inner).moves.push(period);
    }

    pub(super) fn excuse(&self, period: Period) {
        self.faults_so_far.lock().unwrap_or_else(PoisonError::into_inner).excused.push(period);
    }

    pub(super) fn faults_so_far(&self) -> FaultRecord {
        self.faults_so_far.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records, until the end of the run, when the machine is too busy to run this process.
    pub(super) async fn record_stalls(&self) {
        let mut stopping = self.stopping();
        loop {
            let start = Instant::now();
            let stopped = tokio::time::timeout(TICK, stopping.wait_for(|stopped| *stopped));
            if stopped.await.is_ok() {
                return;
            }
            let stall = start.elapsed().saturating_sub(2 * TICK);
            if !stall.is_zero() {
                let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
                stalls.push((start, stall));
            }
        }
    }

    /// How long this process, and thus possibly the nodes, did not run between two moments.
    pub(super) fn stalled(&self, begin: Instant, end: Instant) -> Duration {
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        let within = stalls.iter().filter(|(at, stall)| begin < *at + *stall && *at < end);
        within.map(|(_, stall)| *stall).sum()
    }

    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }

    /// A summary of the run in numbers.
    pub(super) fn summary(&self, lives: &[Life]) -> String {
        let outcomes = [Outcome::Accepted, Outcome::Rejected, Outcome::Unknown, Outcome::Broken];
        let outcomes =
            outcomes.map(|outcome| format!("{} {outcome:?}", self.ledger.count(outcome)));
        let sessions: usize = lives.iter().map(|life| life.past.len()).sum();
        let mut received = 0;
        let mut closed = 0;
        for (_, entries) in lives.iter().flat_map(|life| &life.past) {
            received += entries
                .iter()
                .filter(|entry| matches!(entry.what, Observation::MessageReceived(_)))
                .count();
            closed += entries
                .iter()
                .filter(|entry| matches!(entry.what, Observation::CloseReceived(4200)))
                .count();
        }
        let rejected = self.ledger.slowest(Outcome::Rejected);
        format!(
            "publishes: {}; slowest rejection {rejected:?}; {sessions} past connections, {closed} of them closed 4200, \
             received {received} messages",
            outcomes.join(", ")
        )
    }

    /// The records around a violation, for its analysis.
    pub(super) fn trace(&self, violation: &Violation, lives: &[Life]) -> String {
        let mut text = violation.text.clone();
        let since = |at: Instant| at.duration_since(self.start).as_secs_f64();
        write!(text, "\nat {:.3} s; times are seconds since the start", since(violation.at))
            .expect("a String takes everything");
        for (at, what) in self.log.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            write!(text, "\n  {:8.3} {what}", since(*at)).expect("a String takes everything");
        }
        for (name, entries) in lives.iter().flat_map(Life::all) {
            if name != violation.client {
                continue;
            }
            write!(text, "\n{name} around that time, on {}:", violation.channel)
                .expect("a String takes everything");
            let near = entries.iter().filter(|entry| {
                let is_near = violation.at < entry.at + BEFORE && entry.at < violation.at + AFTER;
                let is_ours = match &entry.what {
                    Observation::SubscribeSent(channel)
                    | Observation::UnsubscribeSent(channel)
                    | Observation::ClientEventSent(channel, _) => *channel == violation.channel,
                    Observation::MessageReceived(message) => {
                        message["channel"] == violation.channel
                    }
                    Observation::CloseReceived(_) | Observation::ConnectionEnded => return true,
                };
                is_near && is_ours
            });
            for entry in near {
                write!(text, "\n  {:8.3} {:?}", since(entry.at), entry.what)
                    .expect("a String takes everything");
            }
        }
        let mut published = self.ledger.all();
        published.retain(|event| {
            event.channel == violation.channel
                && violation.at < event.answered + BEFORE
                && event.begun < violation.at + AFTER
        });
        published.sort_by_key(|event| event.begun);
        text += "\npublishes to that channel around that time:";
        for event in published {
            let (begun, answered) = (since(event.begun), since(event.answered));
            let (id, outcome, node) = (event.id, event.outcome, event.node);
            write!(text, "\n  {begun:8.3} to {answered:8.3} {id} {outcome:?} through {node}")
                .expect("a String takes everything");
        }
        text
    }
}
