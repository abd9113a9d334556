//! The scenario `whisper`: client events within small private channels.

use crate::{
    bench::{Bench, Measured},
    failure::Failure,
    fleet::{
        Fleet,
        command::{Action, Range, Repeat},
    },
    number::float,
    progress,
    publisher::Published,
    show::outcome::Outcome,
    stop,
    wire::{Kind, Plan},
};
use std::time::Duration;

/// The parameters of the scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whisper {
    /// The number of connections; a multiple of `channels`.
    pub(crate) members: u32,
    /// The number of channels, each with the same number of members.
    pub(crate) channels: u32,
    /// Client events per second, sent by all members in turn.
    pub(crate) rate: f64,
    /// The duration of the measurement.
    pub(crate) duration: Duration,
}

impl Bench {
    /// Lets members of private channels send client events to each other.
    pub(crate) fn whisper(&self, whisper: Whisper) -> Result<Outcome, Failure> {
        let load = format!(
            "{} members of {} channels, {} client events/s",
            whisper.members, whisper.channels, whisper.rate
        );
        progress::say(format_args!("whisper: {load}"));
        let plan = Plan::new(Kind::Private, &Self::name("whisper"), whisper.channels);
        let mut fleet = Fleet::new(&self.target, self.crew, whisper.members)?;
        fleet.open(&plan, whisper.members)?;
        fleet.reset()?;
        let before = fleet.gate().delivered();
        fleet.repeat(Repeat {
            action: Action::Whisper,
            range: Range::ALL,
            per_second: whisper.rate,
            payload_bytes: self.payload_bytes,
        })?;
        stop::sleep(self.warm_up)?;
        fleet.mark()?;
        let nobody = Range { from: 0, to: 0 };
        let whispered = fleet.read(nobody)?.counters.whispered;
        let from = self.moment(&fleet, whispered);
        stop::sleep(whisper.duration)?;
        let to = self.moment(&fleet, fleet.gate().delivered());
        fleet.rest()?;
        let whispered = fleet.read(nobody)?.counters.whispered;
        let others = u64::from(whisper.members / whisper.channels).saturating_sub(1);
        fleet.settle(before + whispered * others)?;
        stop::sleep(Duration::from_millis(50))?;
        let sum = fleet.read(Range::ALL)?;
        let delivered = fleet.gate().delivered() - before;
        let counters = sum.counters.clone();

        let mut outcome = Outcome::new("whisper", load);
        let measured = Measured { from, to, published: Published::default(), sum };
        measured.figures(&mut outcome);
        // Nothing was published over HTTP.
        outcome.figures.retain(|one| !one.name.contains("publish") && one.name != "answer_p99_ms");
        outcome.set("whispers", float(whispered));
        if delivered != whispered * others {
            outcome.fault(format!("{delivered} deliveries, but {} were due", whispered * others));
        }
        if counters.lost != 0 || counters.errors != 0 {
            let why = counters.fault.unwrap_or_default();
            outcome.fault(format!("{} lost, {} errors: {why}", counters.lost, counters.errors));
        }
        Ok(outcome)
    }
}
