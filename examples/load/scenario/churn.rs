//! The scenario `churn`: subscribe, unsubscribe, disconnect and connect while events are published.

use crate::{
    bench::{Bench, Measured, Traffic},
    failure::Failure,
    fleet::{
        Fleet,
        command::{Action, Range, Repeat},
    },
    number::{float, millis, ratio},
    progress,
    publisher::{Pace, Publisher},
    show::outcome::Outcome,
    stop,
    wire::{Kind, Plan},
};
use std::time::Duration;

/// The parameters of the scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Churn {
    /// The number of subscribers that stay, and must lose nothing.
    pub(crate) steady: u32,
    /// The number of subscribers that disconnect and reconnect.
    pub(crate) restless: u32,
    /// Actions per second: alternately unsubscribing and subscribing, and disconnecting and
    /// connecting.
    pub(crate) steps_per_s: f64,
    /// Events per second.
    pub(crate) rate: f64,
    /// The duration of the measurement.
    pub(crate) duration: Duration,
}

impl Bench {
    /// Publishes to subscribers of which some disconnect and reconnect.
    pub(crate) fn churn(&self, churn: Churn) -> Result<Outcome, Failure> {
        let load = format!(
            "{} stay, {} come and go {} times/s, {} events/s",
            churn.steady, churn.restless, churn.steps_per_s, churn.rate
        );
        progress::say(format_args!("churn: {load}"));
        let plan = Plan::new(Kind::Public, &Self::name("churn"), 1);
        let mut steady = Fleet::new(&self.target, self.crew, churn.steady)?;
        let mut restless = Fleet::new(&self.target, self.crew, churn.restless)?;
        steady.open(&plan, churn.steady)?;
        restless.open(&plan, churn.restless)?;
        steady.reset()?;
        restless.reset()?;

        let publishing = self.publishing(&plan, churn.traffic());
        let before = steady.gate().delivered();
        let publisher = Publisher::start(publishing, steady.gate())?;
        restless.repeat(Repeat {
            action: Action::Churn,
            range: Range::ALL,
            per_second: churn.steps_per_s,
            payload_bytes: self.payload_bytes,
        })?;
        stop::sleep(self.warm_up)?;
        steady.mark()?;
        restless.mark()?;
        let steps_before = steps(&mut restless)?;
        let from = self.moment(&steady, publisher.accepted());
        stop::sleep(churn.duration)?;
        let to = self.moment(&steady, publisher.accepted());
        let steps_after = steps(&mut restless)?;
        restless.rest()?;
        let sent = publisher.finish()?;
        steady.settle(before + sent.accepted * u64::from(churn.steady))?;
        stop::sleep(Duration::from_millis(200))?;
        let (kept, moved) = (steady.read(Range::ALL)?, restless.read(Range::ALL)?);

        let mut outcome = Outcome::new("churn", load);
        let seconds = from.seconds(&to);
        outcome.set("steps_per_s", ratio(float(steps_after - steps_before), seconds));
        outcome.set("ready_p50_ms", millis(moved.ready.quantile(0.5)));
        outcome.set("ready_p99_ms", millis(moved.ready.quantile(0.99)));
        let disorder = moved.counters.disorder + kept.counters.disorder;
        let lost = moved.counters.lost + moved.counters.errors;
        let why = moved.counters.fault.clone().unwrap_or_default();
        let measured = Measured { from, to, published: sent, sum: kept };
        measured.figures(&mut outcome);
        let expected = measured.published.accepted * u64::from(churn.steady);
        measured.verify(&mut outcome, steady.gate().delivered() - before, expected);
        if disorder != 0 {
            outcome.fault(format!("{disorder} gaps within a subscription"));
        }
        if lost != 0 {
            outcome.fault(format!("{lost} connections lost or rejected: {why}"));
        }
        Ok(outcome)
    }
}

/// The number of actions of the changing subscribers so far.
fn steps(fleet: &mut Fleet) -> Result<u64, Failure> {
    let counters = fleet.read(Range { from: 0, to: 0 })?.counters;
    Ok(counters.resubscribed + counters.reconnected)
}

impl Churn {
    fn traffic(self) -> Traffic {
        Traffic {
            scenario: "churn",
            subscribers: self.steady,
            channels: 1,
            kind: Kind::Public,
            pace: Pace::Rate(self.rate),
            // One publisher, so that the events of each subscription have an order.
            publishers: 1,
            duration: self.duration,
        }
    }
}
