//! A publisher: one thread that publishes over several connections, at a rate or as fast as
//! possible.

use crate::{
    failure::Failure,
    fleet::gate::Gate,
    histogram::{Histogram, Packed},
    http::{self, Answer, Requests},
    number::{float, index, micros, narrow, now_us, wide},
    payload::{NUMBER_MAX, Stamp},
    stop,
    target::Target,
    wire::Plan,
};
use mio::{Events, Interest, Poll, Token, Waker, net::TcpStream};
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const WAKE: Token = Token(usize::MAX);
/// The maximum poll timeout of a publisher.
const LOOK: Duration = Duration::from_millis(20);
/// The time that a publisher waits for the last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// The resolution of the poller; the publisher sleeps for shorter times.
const POLL_UNIT: Duration = Duration::from_millis(1);
const READ_BYTES: usize = 16 * 1024;

/// The pace at which events are published.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Events per second, regardless of the latency: an open loop.
    Rate(f64),
    /// A maximum number of events in progress, each from its publish to its last delivery.
    Window {
        /// The maximum number of events in progress.
        outstanding: u32,
        /// The number of deliveries that complete an event.
        deliveries: u32,
    },
    /// As soon as the last event of the same connection is answered.
    Answers,
}

/// The settings of a publisher.
#[derive(Clone, Debug)]
pub(crate) struct Publishing {
    /// The server.
    pub(crate) target: Target,
    /// The channels, which receive events in turn.
    pub(crate) plan: Plan,
    /// The size of each event's data, in bytes.
    pub(crate) payload_bytes: usize,
    /// The number of connections; each has at most one request in progress.
    pub(crate) connections: u32,
    /// The pace.
    pub(crate) pace: Pace,
    /// The number of events after which the publisher stops.
    pub(crate) limit: Option<u64>,
}

/// The result of a publisher.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    /// The number of events that were sent.
    pub(crate) sent: u64,
    /// The number of events that were answered with 200.
    pub(crate) accepted: u64,
    /// The other answers, by status; 0 means no answer.
    pub(crate) rejected: BTreeMap<u16, u64>,
    /// The time from each request to its answer.
    pub(crate) answers: Packed,
}

/// The handle of a running publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Published, Failure>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    accepted: AtomicU64,
}

#[derive(Debug)]
struct Loop {
    publishing: Publishing,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    /// The deliveries before the publisher began.
    gate_from: u64,
    poll: Poll,
    requests: Requests,
    channels: Vec<String>,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    begun: Instant,
    begun_us: u64,
    published: Published,
    answers: Histogram,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    since_us: Option<u64>,
    /// The previous answer: most answers are identical.
    last: Option<Answer>,
}

impl Publisher {
    /// Starts to publish.
    pub(crate) fn start(publishing: Publishing, gate: &Arc<Gate>) -> Result<Self, Failure> {
        let shared = Arc::new(Shared::default());
        let mut work = Loop::new(publishing, Arc::clone(&shared), Arc::clone(gate))?;
        let builder = thread::Builder::new().name("publisher".to_owned());
        let thread = builder.spawn(move || work.run()).map_err(Failure::io("start a thread"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The number of events that were answered with 200 so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(SeqCst)
    }

    /// Whether the publisher has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops publishing, and returns the result.
    pub(crate) fn finish(mut self) -> Result<Published, Failure> {
        self.shared.stop.store(true, SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(published)) => published,
            Some(Err(_)) | None => Err(Failure::Lost("the publisher")),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            // The result is discarded.
            let _ = thread.join();
        }
    }
}

impl Connection {
    fn open(poll: &Poll, at: usize, target: &Target) -> Result<Self, Failure> {
        let open = || -> io::Result<TcpStream> {
            let stream = std::net::TcpStream::connect(target.url(at).address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(at), interest)?;
            Ok(stream)
        };
        let stream = open().map_err(Failure::io("connect a publisher"))?;
        Ok(Self { stream, received: Vec::new(), unsent: Vec::new(), since_us: None, last: None })
    }

    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return,
                Ok(count) => {
                    self.unsent.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The next read detects the broken connection.
                Err(_) => return,
            }
        }
    }

    /// The received answer, if it is complete.
    fn answer(&mut self) -> Result<Option<Answer>, Failure> {
        if let Some(last) = self.last
            && last.bytes == self.received.len()
            && last.status == 200
            && !last.closes
            && self.received.starts_with(b"HTTP/1.1 200 ")
        {
            self.received.clear();
            return Ok(Some(last));
        }
        self.last = http::answer(&self.received)?;
        if let Some(answer) = self.last {
            self.received.drain(..answer.bytes);
        }
        Ok(self.last)
    }
}

impl Loop {
    fn new(publishing: Publishing, shared: Arc<Shared>, gate: Arc<Gate>) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::io("make a poller"))?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(Failure::io("make a waker"))?;
        gate.wake(Some(Arc::new(waker)));
        let count = index(u64::from(publishing.connections.max(1)));
        let connections: Result<Vec<Connection>, Failure> =
            (0..count).map(|at| Connection::open(&poll, at, &publishing.target)).collect();
        let plan = &publishing.plan;
        Ok(Self {
            channels: (0..plan.channels).map(|number| plan.channel(number)).collect(),
            requests: Requests::new(&publishing.target),
            gate_from: gate.delivered(),
            connections: connections?,
            idle: (0..count).rev().collect(),
            begun: Instant::now(),
            begun_us: now_us(),
            published: Published::default(),
            answers: Histogram::default(),
            publishing,
            shared,
            gate,
            poll,
        })
    }

    fn run(&mut self) -> Result<Published, Failure> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; READ_BYTES];
        self.begun = Instant::now();
        self.begun_us = now_us();
        let mut ended: Option<Instant> = None;
        loop {
            let stopped = self.shared.stop.load(SeqCst) || stop::requested() || self.is_spent();
            let wait = if stopped {
                let since = *ended.get_or_insert_with(Instant::now);
                if self.idle.len() == self.connections.len() || LAST_ANSWERS < since.elapsed() {
                    break;
                }
                LOOK
            } else {
                self.send_due()
            };
            let (nap, wait) =
                if wait < POLL_UNIT { (wait, Duration::ZERO) } else { (Duration::ZERO, wait) };
            if !nap.is_zero() {
                thread::sleep(nap);
            }
            if self.poll.poll(&mut events, Some(wait)).is_err() {
                continue;
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.on_event(event.token().0, &mut buffer)?;
            }
        }
        let unanswered = wide(self.connections.len() - self.idle.len());
        if unanswered != 0 {
            *self.published.rejected.entry(0).or_default() += unanswered;
        }
        self.gate.wake(None);
        self.published.answers = self.answers.pack();
        Ok(std::mem::take(&mut self.published))
    }

    fn is_spent(&self) -> bool {
        let most = u64::from(NUMBER_MAX) * wide(self.channels.len());
        self.publishing.limit.unwrap_or(u64::MAX).min(most) <= self.published.sent
    }

    /// Publishes all events that are due, and returns how long none will be.
    fn send_due(&mut self) -> Duration {
        while !self.is_spent() {
            let Some(at) = self.idle.last().copied() else { return LOOK };
            let sent = self.published.sent;
            let at_us = match self.publishing.pace {
                Pace::Rate(per_second) => {
                    let due = Duration::from_secs_f64(float(sent) / per_second);
                    let early = due.saturating_sub(self.begun.elapsed());
                    if !early.is_zero() {
                        // Whole milliseconds are polled, and the remainder is slept.
                        let polled = Duration::from_millis(
                            u64::try_from(early.as_millis()).unwrap_or(u64::MAX),
                        );
                        return if polled.is_zero() { early } else { polled.min(LOOK) };
                    }
                    // The latency counts from the scheduled time, so it includes the wait for a
                    // connection.
                    self.begun_us + micros(due)
                }
                Pace::Window { outstanding, deliveries } => {
                    let complete = (sent + 1).saturating_sub(u64::from(outstanding));
                    let wanted = self.gate_from + complete * u64::from(deliveries);
                    if !self.gate.reached(wanted) {
                        return LOOK;
                    }
                    now_us()
                }
                Pace::Answers => now_us(),
            };
            self.idle.pop();
            self.send(at, at_us);
        }
        LOOK
    }

    fn send(&mut self, at: usize, at_us: u64) {
        let count = wide(self.channels.len());
        let sent = self.published.sent;
        let channel = &self.channels[index(sent % count)];
        let stamp = Stamp { at_us, number: narrow(sent / count) };
        self.published.sent += 1;
        let connection = &mut self.connections[at];
        let bytes = self.publishing.payload_bytes;
        self.requests.push_event(&mut connection.unsent, at, channel, stamp, bytes);
        connection.since_us = Some(now_us());
        connection.flush();
    }

    fn on_event(&mut self, at: usize, buffer: &mut [u8]) -> Result<(), Failure> {
        let connection = &mut self.connections[at];
        connection.flush();
        loop {
            match connection.stream.read(buffer) {
                Ok(0) => return self.on_end(at),
                Ok(count) => {
                    connection.received.extend_from_slice(&buffer[..count]);
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.on_end(at),
            }
        }
        if connection.received.is_empty() {
            return Ok(());
        }
        let Some(answer) = connection.answer()? else { return Ok(()) };
        self.on_answer(at, answer);
        if answer.closes { self.reopen(at) } else { Ok(()) }
    }

    fn on_answer(&mut self, at: usize, answer: Answer) {
        let Some(since_us) = self.connections[at].since_us.take() else { return };
        self.answers.record(now_us().saturating_sub(since_us));
        if answer.status == 200 {
            self.published.accepted += 1;
            self.shared.accepted.store(self.published.accepted, SeqCst);
        } else {
            *self.published.rejected.entry(answer.status).or_default() += 1;
        }
        self.idle.push(at);
    }

    /// Handles a connection that the server has closed. The outcome of an unanswered event is
    /// unknown.
    fn on_end(&mut self, at: usize) -> Result<(), Failure> {
        if self.connections[at].since_us.is_some() {
            *self.published.rejected.entry(0).or_default() += 1;
            self.idle.push(at);
        }
        self.reopen(at)
    }

    fn reopen(&mut self, at: usize) -> Result<(), Failure> {
        self.connections[at] = Connection::open(&self.poll, at, &self.publishing.target)?;
        Ok(())
    }
}
