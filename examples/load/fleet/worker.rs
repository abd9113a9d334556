//! A worker: one thread that owns connections, reads what they receive, and executes commands.

use super::{
    command::{Command, Open, Opened, Range, Repeat, Reply},
    connection::{Connection, Stage},
    dial::Dialer,
    gate::Gate,
    tally::{Counts, Tally, Verdict},
};
use crate::{
    failure::Failure,
    histogram::Histogram,
    number::{micros, now_us},
    payload::StampReader,
    stop,
    target::Target,
    wire::{self, Plan},
};
use campanile::signature::Signer;
use mio::{Events, Interest, Poll, Token, Waker};
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError},
    },
    time::{Duration, Instant},
};

/// The token of the waker; the token of a connection is its index.
const WAKE: Token = Token(usize::MAX);
/// The size of the read buffer: more than most sockets hold, and less than the second-level cache.
const BUFFER_BYTES: usize = 128 * 1024;
const EVENTS_MAX: usize = 1_024;
/// The maximum number of connections begun per turn, so that the worker keeps reading.
const DIALS_PER_TURN: u32 = 32;
/// The poll timeout while timed work is pending.
const TURN: Duration = Duration::from_millis(1);
/// The poll timeout while the worker is idle.
const IDLE_TURN: Duration = Duration::from_millis(100);

/// The state of a worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(super) target: Target,
    pub(super) signer: Signer,
    pub(super) dialer: Dialer,
    pub(super) poll: Poll,
    pub(super) connections: Vec<Connection>,
    pub(super) plans: Vec<Plan>,
    pub(super) tally: Tally,
    pub(super) gate: Arc<Gate>,
    pub(super) stamps: StampReader,
    /// The read buffer of all connections.
    pub(super) buffer: Box<[u8]>,
    /// The write buffer of all connections.
    pub(super) outgoing: Vec<u8>,
    /// The state of the generator of masks.
    pub(super) seed: u64,
    /// The start of the worker: makes its tokens differ from those of other runs.
    started_us: u64,
    /// Connections that were not read completely in the previous turn.
    pub(super) again: Vec<usize>,
    pub(super) repeated: Option<Repeated>,
    opening: Option<Opening>,
    commands: Receiver<Command>,
    replies: Sender<Reply>,
}

/// A running command to open connections.
#[derive(Debug)]
struct Opening {
    open: Open,
    next: u32,
    begun: Instant,
    ready: u32,
    failed: u32,
    latency: Histogram,
}

/// A running [`Repeat`].
#[derive(Debug)]
pub(super) struct Repeated {
    pub(super) order: Repeat,
    pub(super) begun: Instant,
    /// The number of executed actions.
    pub(super) steps: u64,
}

/// The worker's ends of its two channels.
#[derive(Debug)]
pub(crate) struct Ends {
    /// The received commands.
    pub(crate) commands: Receiver<Command>,
    /// The sent replies.
    pub(crate) replies: Sender<Reply>,
}

impl Worker {
    /// A worker without connections, and the waker that announces commands.
    pub(crate) fn new(
        target: Target,
        gate: Arc<Gate>,
        ends: Ends,
    ) -> Result<(Self, Waker), Failure> {
        let poll = Poll::new().map_err(Failure::io("make a poller"))?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(Failure::io("make a waker"))?;
        let worker = Self {
            signer: target.signer(),
            target,
            dialer: Dialer::new()?,
            poll,
            connections: Vec::new(),
            plans: Vec::new(),
            tally: Tally::default(),
            gate,
            stamps: StampReader::default(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            outgoing: Vec::new(),
            seed: now_us(),
            started_us: now_us(),
            again: Vec::new(),
            repeated: None,
            opening: None,
            commands: ends.commands,
            replies: ends.replies,
        };
        Ok((worker, waker))
    }

    /// Runs until the sender of commands is dropped.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !stop::requested() {
            if !self.obey() {
                return;
            }
            self.open_more();
            self.step_repeated();
            let busy = self.opening.is_some() || self.repeated.is_some();
            let turn = match (self.again.is_empty(), busy) {
                (false, _) => Duration::ZERO,
                (true, true) => TURN,
                (true, false) => IDLE_TURN,
            };
            if self.poll.poll(&mut events, Some(turn)).is_err() {
                continue;
            }
            for at in std::mem::take(&mut self.again) {
                self.read(at);
            }
            for event in &events {
                if event.token() == WAKE {
                    continue;
                }
                if event.is_writable() {
                    self.flush(event.token().0);
                }
                if event.is_readable() || event.is_read_closed() {
                    self.read(event.token().0);
                }
            }
        }
    }

    /// Executes the pending commands. Returns false if the sender was dropped.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open(open)) => self.begin_opening(open),
                Ok(command) => {
                    let reply = self.carry_out(command);
                    // The receiver may have been dropped.
                    let _ = self.replies.send(reply);
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Reply {
        match command {
            Command::Open(open) => self.begin_opening(open),
            Command::Reset => {
                self.tally = Tally::default();
                self.connections.iter_mut().for_each(Connection::reset);
            }
            Command::Mark => {
                self.tally.latency.clear();
                self.tally.ready.clear();
            }
            Command::Read(range) => return Reply::Counts(Box::new(self.counts(range))),
            Command::Close(range) => self.each(range, |worker, at| worker.connections[at].close()),
            Command::Unsubscribe(range) => self.each(range, Self::unsubscribe),
            Command::Pause(range) => {
                self.each(range, |worker, at| worker.connections[at].reads = false);
            }
            Command::Resume(range) => self.each(range, |worker, at| {
                worker.connections[at].reads = true;
                worker.read(at);
            }),
            Command::Repeat(order) => {
                self.repeated = Some(Repeated { order, begun: Instant::now(), steps: 0 });
            }
            Command::Rest => self.repeated = None,
        }
        Reply::Done
    }

    /// Applies a function to each connection of a range.
    fn each(&mut self, range: Range, mut action: impl FnMut(&mut Self, usize)) {
        for at in 0..self.connections.len() {
            if range.holds(self.connections[at].id) {
                action(self, at);
            }
        }
    }

    fn unsubscribe(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.stage == Stage::Ready {
            connection.stage = Stage::Unsubscribed;
            let text = wire::unsubscribe(&self.plans[usize::from(connection.plan)], connection.id);
            self.send_text(at, &text);
        }
    }

    fn counts(&self, range: Range) -> Counts {
        let mut verdict = Verdict { least: u32::MAX, ..Verdict::default() };
        for connection in self.connections.iter().filter(|one| range.holds(one.id)) {
            let count = connection.count();
            verdict.connections += 1;
            verdict.ready += u64::from(connection.stage == Stage::Ready);
            verdict.delivered += u64::from(count);
            verdict.least = verdict.least.min(count);
            verdict.most = verdict.most.max(count);
            verdict.wrong += u64::from(!connection.is_complete());
        }
        Counts {
            latency: self.tally.latency.pack(),
            ready: self.tally.ready.pack(),
            counters: self.tally.counters.clone(),
            verdict,
        }
    }

    fn begin_opening(&mut self, open: Open) {
        self.plans.push(open.plan.clone());
        self.opening = Some(Opening {
            next: open.range.from,
            open,
            begun: Instant::now(),
            ready: 0,
            failed: 0,
            latency: Histogram::default(),
        });
    }

    /// Begins as many connections as allowed, and replies when all are finished.
    fn open_more(&mut self) {
        let Some(mut opening) = self.opening.take() else { return };
        for _ in 0..DIALS_PER_TURN {
            let begun = opening.next - opening.open.range.from;
            let under_way = begun - opening.ready - opening.failed;
            if opening.next == opening.open.range.to || opening.open.in_flight <= under_way {
                break;
            }
            let plan = u16::try_from(self.plans.len() - 1).unwrap_or(u16::MAX);
            let id = opening.next;
            opening.next += 1;
            if let Err(error) = self.connect(None, id, plan) {
                opening.failed += 1;
                self.tally.counters.fault(|| format!("cannot connect: {error}"));
            }
        }
        let late = Duration::from_secs(opening.open.timeout_s) < opening.begun.elapsed();
        let count = opening.open.range.len();
        if opening.ready + opening.failed < count && !late {
            self.opening = Some(opening);
            return;
        }
        let opened = Opened {
            ready: opening.ready,
            failed: count - opening.ready,
            elapsed_us: micros(opening.begun.elapsed()),
            latency: opening.latency.pack(),
            fault: self.tally.counters.fault.clone(),
        };
        // The receiver may have been dropped.
        let _ = self.replies.send(Reply::Opened(opened));
    }

    /// Opens a connection, at an existing index or at a new one.
    pub(super) fn connect(&mut self, at: Option<usize>, id: u32, plan: u16) -> io::Result<()> {
        let since_us = now_us();
        let url_index = usize::try_from(id).unwrap_or_default();
        let receive_buffer = self.plans[usize::from(plan)].receive_buffer;
        let address = self.target.url(url_index).address;
        let mut stream = self.dialer.dial(address, receive_buffer)?;
        let at = at.unwrap_or(self.connections.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(at), interest)?;
        let connection = Connection::new(stream, id, plan, since_us);
        match self.connections.get_mut(at) {
            Some(place) => *place = connection,
            None => self.connections.push(connection),
        }
        self.outgoing.clear();
        // The same one again if the connection is replaced.
        let token = format!("{:016x}{id:08x}", self.started_us);
        self.outgoing.extend_from_slice(wire::upgrade(&self.target, url_index, &token).as_bytes());
        self.send(at);
        Ok(())
    }

    /// Handles a connection that is subscribed, or connected if no subscription is wanted.
    pub(super) fn on_ready(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        connection.stage = Stage::Ready;
        connection.begin_window();
        let took_us = now_us().saturating_sub(connection.since_us);
        self.tally.ready.record(took_us);
        if let Some(opening) = &mut self.opening
            && opening.open.range.holds(connection.id)
        {
            opening.ready += 1;
            opening.latency.record(took_us);
        }
    }

    /// Handles a connection that has ended without a command.
    pub(super) fn on_lost(&mut self, at: usize, why: impl FnOnce() -> String) {
        let connection = &mut self.connections[at];
        let was_ready = matches!(connection.stage, Stage::Ready | Stage::Unsubscribed);
        let id = connection.id;
        connection.close();
        self.tally.counters.lost += 1;
        self.tally.counters.fault(why);
        if let Some(opening) = &mut self.opening
            && opening.open.range.holds(id)
            && !was_ready
        {
            opening.failed += 1;
        }
    }
}
