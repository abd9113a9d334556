//! The scenario `presence`: all members of many channels join at once, and leave at once.

use crate::{
    bench::Bench,
    failure::Failure,
    fleet::{Fleet, IN_FLIGHT, command::Range},
    number::{float, micros, millis, ratio},
    progress,
    show::outcome::Outcome,
    stop,
    wire::{Kind, Plan},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// The time without an event after which no more are expected.
const STALL: Duration = Duration::from_secs(3);

/// The parameters of the scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storm {
    /// The number of presence channels.
    pub(crate) channels: u32,
    /// The number of members of each, in addition to one observer.
    pub(crate) members: u32,
}

impl Bench {
    /// Lets members join and leave, and counts the events that the observers receive.
    pub(crate) fn presence(&self, storm: Storm) -> Result<Outcome, Failure> {
        let Storm { channels, members } = storm;
        let load = format!("{members} members join and leave each of {channels} channels");
        progress::say(format_args!("presence: {load}"));
        let plan = Plan::new(Kind::Presence, &Self::name("presence"), channels);
        let joining = channels * members;
        let mut watching = Fleet::new(&self.target, self.crew, channels)?;
        let mut moving = Fleet::new(&self.target, self.crew, joining)?;
        watching.open(&plan, channels)?;
        moving.number_from(channels);
        let due = u64::from(joining);
        let mut outcome = Outcome::new("presence", load);

        let from = self.moment(&watching, 0);
        let opening = moving.try_open(&plan, joining, IN_FLIGHT)?;
        let seen = wait(&mut watching, due, added)?;
        let to = self.moment(&watching, 0);
        outcome.set("joins_per_s", ratio(float(due), opening.seconds));
        let per_join = from.cpu_s(&to).map(|cpu_s| ratio(cpu_s * 1e6, float(due)));
        outcome.set_known("cpu_us_per_join", per_join);
        outcome.set("join_p50_ms", millis(opening.latency.quantile(0.5)));
        outcome.set("join_p99_ms", millis(opening.latency.quantile(0.99)));
        if opening.failed != 0 {
            let why = opening.fault.unwrap_or_default();
            outcome.fault(format!("{} joins failed: {why}", opening.failed));
        }
        if seen != due {
            outcome.fault(format!("{seen} member_added seen, but {due} were due"));
        }
        // Each member receives an event for every member that joins later.
        let told = u64::from(channels) * u64::from(members) * (u64::from(members) - 1) / 2;
        let heard = wait(&mut moving, told, added)?;
        outcome.set("notices_per_join", ratio(float(told + due), float(due)));
        if heard != told {
            outcome.fault(format!("members saw {heard} member_added, but {told} were due"));
        }

        // Half of them unsubscribe; the others disconnect.
        let from = self.moment(&watching, 0);
        let begun = Instant::now();
        let half = channels + joining / 2;
        moving.unsubscribe(Range { from: 0, to: half })?;
        moving.close(Range { from: half, to: u32::MAX })?;
        let seen = wait(&mut watching, due, |fleet| {
            Ok(fleet.read(Range { from: 0, to: 0 })?.counters.removed)
        })?;
        outcome.set("all_left_ms", millis(micros(begun.elapsed())));
        let to = self.moment(&watching, 0);
        let per_leave = from.cpu_s(&to).map(|cpu_s| ratio(cpu_s * 1e6, float(due)));
        outcome.set_known("cpu_us_per_leave", per_leave);
        if seen != due {
            outcome.fault(format!("{seen} member_removed seen, but {due} were due"));
        }
        Ok(outcome)
    }
}

fn added(fleet: &mut Fleet) -> Result<u64, Failure> {
    Ok(fleet.read(Range { from: 0, to: 0 })?.counters.added)
}

/// Waits until a count is `wanted`, or has not changed for a while.
fn wait(
    fleet: &mut Fleet,
    wanted: u64,
    mut count: impl FnMut(&mut Fleet) -> Result<u64, Failure>,
) -> Result<u64, Failure> {
    let (mut seen, mut since) = (count(fleet)?, Instant::now());
    while seen < wanted && since.elapsed() < STALL {
        stop::check()?;
        thread::sleep(Duration::from_millis(2));
        let now = count(fleet)?;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    Ok(seen)
}
