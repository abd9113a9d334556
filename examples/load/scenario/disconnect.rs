//! The scenario `disconnect`: many connections end at the same moment, and others must not be
//! affected.

use crate::{
    bench::{Bench, Measured, Traffic},
    failure::Failure,
    fleet::{Crew, Fleet, command::Range},
    http::Requests,
    number::{micros, millis},
    progress,
    publisher::{Pace, Publisher},
    show::outcome::Outcome,
    stop,
    wire::{Kind, Plan},
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// The interval at which the server is queried for the closed connections.
const ASK: Duration = Duration::from_millis(5);
/// The timeout of these queries.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the other subscribers are measured afterwards.
const AFTER: Duration = Duration::from_millis(300);

/// The parameters of the scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disconnect {
    /// The number of connections that are dropped.
    pub(crate) crowd: u32,
    /// The number of subscribers that stay.
    pub(crate) others: u32,
    /// Events per second for them.
    pub(crate) rate: f64,
    /// How long they are measured before.
    pub(crate) duration: Duration,
}

impl Bench {
    /// Drops many connections at once while other subscribers receive events.
    pub(crate) fn disconnect(&self, disconnect: Disconnect) -> Result<Outcome, Failure> {
        let Disconnect { crowd, others, rate, duration } = disconnect;
        let load = format!("{crowd} are dropped, {others} receive {rate} events/s");
        progress::say(format_args!("disconnect: {load}"));
        let crowd_plan = Plan::new(Kind::Public, &Self::name("crowd"), 1);
        let plan = Plan::new(Kind::Public, &Self::name("others"), 1);
        // They are in separate processes, which are killed: only then do all sockets end at once.
        let crew = Crew { threads: 1, processes: self.crew.processes.max(1) };
        let mut leaving = Fleet::new(&self.target, crew, crowd)?;
        leaving.open(&crowd_plan, crowd)?;
        let mut staying = Fleet::new(&self.target, self.crew, others)?;
        staying.open(&plan, others)?;
        staying.reset()?;

        let before = staying.gate().delivered();
        let traffic = Traffic {
            scenario: "disconnect",
            subscribers: others,
            channels: 1,
            kind: Kind::Public,
            pace: Pace::Rate(rate),
            publishers: 1,
            duration,
        };
        let publisher = Publisher::start(self.publishing(&plan, traffic), staying.gate())?;
        stop::sleep(self.warm_up)?;
        staying.mark()?;
        stop::sleep(duration)?;
        let calm = staying.read(Range::ALL)?.latency;
        staying.mark()?;
        let from = self.moment(&staying, publisher.accepted());
        let gone = self.drop_all(leaving, &crowd_plan)?;
        stop::sleep(AFTER)?;
        let to = self.moment(&staying, publisher.accepted());
        let sent = publisher.finish()?;
        let expected = sent.accepted * u64::from(others);
        staying.settle(before + expected)?;
        let sum = staying.read(Range::ALL)?;

        let mut outcome = Outcome::new("disconnect", load);
        outcome.set("gone_ms", millis(micros(gone.unwrap_or(PATIENCE))));
        outcome.set("p99_before_ms", millis(calm.quantile(0.99)));
        outcome.set("p99_meanwhile_ms", millis(sum.latency.quantile(0.99)));
        outcome.set("max_meanwhile_ms", millis(sum.latency.max()));
        outcome.set_known("cpu_s", from.cpu_s(&to));
        if gone.is_none() {
            outcome.fault("the crowd's channel was still occupied when patience ended");
        }
        let measured = Measured { from, to, published: sent, sum };
        measured.verify(&mut outcome, staying.gate().delivered() - before, expected);
        Ok(outcome)
    }

    /// The time from the end of a fleet until no node reports any of its connections.
    fn drop_all(&self, leaving: Fleet, plan: &Plan) -> Result<Option<Duration>, Failure> {
        let requests = Requests::new(&self.target);
        let channel = plan.channel(0);
        let begun = Instant::now();
        // A killed process takes a moment to end, which does not count.
        let killer = thread::spawn(move || leaving.kill());
        let mut node = 0;
        while node < self.target.urls.len() && begun.elapsed() < PATIENCE {
            stop::check()?;
            if requests.is_occupied(node, &channel)? {
                thread::sleep(ASK);
            } else {
                node += 1;
            }
        }
        let gone = (node == self.target.urls.len()).then(|| begun.elapsed());
        killer.join().map_err(|_| Failure::Lost("the end of the crowd"))?;
        Ok(gone)
    }
}
