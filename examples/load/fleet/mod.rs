//! A fleet: the connections of a scenario, distributed over workers.

pub(crate) mod command;
mod connection;
mod dial;
pub(crate) mod gate;
pub(crate) mod hand;
mod read;
mod repeat;
pub(crate) mod tally;
pub(crate) mod worker;

use self::{
    command::{Command, Open, Opened, Range, Repeat, Reply},
    gate::Gate,
    hand::Hand,
    tally::Sum,
};
use crate::{
    failure::Failure,
    histogram::Histogram,
    number::{float_of, narrow, wide},
    stop,
    target::Target,
    wire::Plan,
};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// File descriptors of a process other than connections: publishers, pipes, pollers.
const RESERVED: u64 = 512;
/// The maximum number of connections in progress.
pub(crate) const IN_FLIGHT: u32 = 128;
/// The timeout of commands that a worker executes at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The time without a delivery after which no more are expected.
const STALL: Duration = Duration::from_secs(2);

/// The number of workers, and whether they are processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crew {
    /// The number of threads, if no processes are used.
    pub(crate) threads: u32,
    /// The number of processes; 0 for as many as the limit of file descriptors requires.
    pub(crate) processes: u32,
}

/// The connections of a scenario. Dropping it closes them.
#[derive(Debug)]
pub(crate) struct Fleet {
    hands: Vec<Hand>,
    gate: Arc<Gate>,
    /// The number of connections requested so far.
    count: u32,
}

/// The result of opening connections, for all workers.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// The number of subscribed connections.
    pub(crate) ready: u32,
    /// The number of failed connections.
    pub(crate) failed: u32,
    /// The time until the last worker had finished, in seconds.
    pub(crate) seconds: f64,
    /// The time from connecting to being subscribed.
    pub(crate) latency: Histogram,
    /// The reason of the first failure.
    pub(crate) fault: Option<String>,
}

/// The number of sockets that this process can open for connections.
pub(crate) fn descriptors() -> u64 {
    let (soft, _) = rlimit::getrlimit(rlimit::Resource::NOFILE).unwrap_or((1_024, 1_024));
    soft.saturating_sub(RESERVED).max(1)
}

impl Fleet {
    /// Starts workers for `connections` connections, which are not opened yet.
    pub(crate) fn new(target: &Target, crew: Crew, connections: u32) -> Result<Self, Failure> {
        let gate = Arc::new(Gate::new());
        let needed = u64::from(connections).div_ceil(descriptors());
        let processes = match (crew.processes, needed) {
            (0, 1) => 0,
            (0, needed) => needed,
            (asked, needed) => u64::from(asked).max(needed),
        };
        let hands: Result<Vec<Hand>, Failure> = match processes {
            0 => (0..crew.threads.max(1)).map(|_| Hand::thread(target, &gate)).collect(),
            processes => (0..processes).map(|_| Hand::process(target, &gate)).collect(),
        };
        Ok(Self { hands: hands?, gate, count: 0 })
    }

    /// Sets the id of the next connection to `id`, so that the users of two fleets differ.
    pub(crate) fn number_from(&mut self, id: u32) {
        self.count = id;
    }

    /// Opens and subscribes `count` more connections; fails if one of them does.
    pub(crate) fn open(&mut self, plan: &Plan, count: u32) -> Result<Opening, Failure> {
        let opening = self.try_open(plan, count, IN_FLIGHT)?;
        if opening.failed != 0 {
            let why = opening.fault.as_deref().unwrap_or("no answer in time");
            return Err(Failure::Server(format!(
                "{} of {count} connections failed: {why}",
                opening.failed
            )));
        }
        Ok(opening)
    }

    /// Opens and subscribes `count` more connections; some may fail.
    pub(crate) fn try_open(
        &mut self,
        plan: &Plan,
        count: u32,
        in_flight: u32,
    ) -> Result<Opening, Failure> {
        let timeout_s = 30 + u64::from(count / 200);
        let begun = Instant::now();
        let workers = narrow(wide(self.hands.len()));
        let mut from = self.count;
        self.count += count;
        for (place, hand) in (0..workers).zip(&mut self.hands) {
            let to = from + count / workers + u32::from(place < count % workers);
            let in_flight = (in_flight / workers).max(1);
            let range = Range { from, to };
            hand.tell(Command::Open(Open { range, plan: plan.clone(), in_flight, timeout_s }))?;
            from = to;
        }
        let mut opening = Opening::default();
        for hand in &self.hands {
            let Reply::Opened(opened) = hand.reply(Duration::from_secs(timeout_s + 30))? else {
                return Err(Failure::Lost("the order of a worker's answers"));
            };
            opening.add(opened);
        }
        opening.seconds = begun.elapsed().as_secs_f64();
        Ok(opening)
    }

    /// The ids of the worker processes.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        self.hands.iter().filter_map(Hand::pid)
    }

    /// The count of deliveries, for publishers.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Sends one command to all workers, and adds up their counts.
    fn tell(&mut self, command: &Command) -> Result<Sum, Failure> {
        for hand in &mut self.hands {
            hand.tell(command.clone())?;
        }
        let mut sum = Sum::default();
        for hand in &self.hands {
            match hand.reply(ANSWER_TIMEOUT)? {
                Reply::Counts(counts) => sum.add(*counts),
                Reply::Done => {}
                Reply::Opened(_) => return Err(Failure::Lost("the order of a worker's answers")),
            }
        }
        Ok(sum)
    }

    /// Resets all counts.
    pub(crate) fn reset(&mut self) -> Result<(), Failure> {
        self.tell(&Command::Reset).map(drop)
    }

    /// Resets the latencies.
    pub(crate) fn mark(&mut self) -> Result<(), Failure> {
        self.tell(&Command::Mark).map(drop)
    }

    /// All counts, and the verdict on a range of connections.
    pub(crate) fn read(&mut self, range: Range) -> Result<Sum, Failure> {
        self.tell(&Command::Read(range))
    }

    /// Closes connections.
    pub(crate) fn close(&mut self, range: Range) -> Result<(), Failure> {
        self.tell(&Command::Close(range)).map(drop)
    }

    /// Unsubscribes connections without closing them.
    pub(crate) fn unsubscribe(&mut self, range: Range) -> Result<(), Failure> {
        self.tell(&Command::Unsubscribe(range)).map(drop)
    }

    /// Stops reading from connections.
    pub(crate) fn pause(&mut self, range: Range) -> Result<(), Failure> {
        self.tell(&Command::Pause(range)).map(drop)
    }

    /// Resumes reading from connections.
    pub(crate) fn resume(&mut self, range: Range) -> Result<(), Failure> {
        self.tell(&Command::Resume(range)).map(drop)
    }

    /// Repeats an action with one connection after the other, distributed over the workers.
    pub(crate) fn repeat(&mut self, order: Repeat) -> Result<(), Failure> {
        let per_second = order.per_second / float_of(self.hands.len());
        self.tell(&Command::Repeat(Repeat { per_second, ..order })).map(drop)
    }

    /// Ends the actions of `repeat`.
    pub(crate) fn rest(&mut self) -> Result<(), Failure> {
        self.tell(&Command::Rest).map(drop)
    }

    /// Waits for `wanted` deliveries, until there were none for two seconds. Returns the number of
    /// deliveries.
    pub(crate) fn settle(&self, wanted: u64) -> Result<u64, Failure> {
        let (mut seen, mut since) = (self.gate.delivered(), Instant::now());
        while seen < wanted && since.elapsed() < STALL {
            stop::check()?;
            thread::sleep(Duration::from_millis(2));
            let delivered = self.gate.delivered();
            if delivered != seen {
                (seen, since) = (delivered, Instant::now());
            }
        }
        Ok(seen)
    }

    /// Kills all worker processes; the system then closes all sockets at once.
    pub(crate) fn kill(self) {
        self.hands.into_iter().for_each(Hand::kill);
    }
}

impl Opening {
    fn add(&mut self, opened: Opened) {
        self.ready += opened.ready;
        self.failed += opened.failed;
        self.latency.add(&opened.latency);
        self.fault = self.fault.take().or(opened.fault);
    }
}
