//! The search for another process that listens on the same address, while the server drains.

use super::AcceptorReport;
use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Number of connections after which another listener can be ruled out: of two sockets, the kernel
/// chooses each with equal probability.
pub(super) const SEARCH_PROBES: u32 = 16;
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(20);
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a probe may wait in the own queue before it is known to be accepted elsewhere.
pub(super) const DRAINING_WAIT: Duration = Duration::from_millis(10);

/// The search for another process that listens on the same address.
#[derive(Debug)]
pub(super) struct ListenerSearch {
    pub(super) address: SocketAddr,
    /// A connection to the address whose acceptor is not known yet, its local address, and its start
    /// time. It may not be established yet.
    pub(super) probe: Option<(TcpStream, SocketAddr, Instant)>,
    pub(super) next: Instant,
    /// Probes that this process accepted.
    pub(super) own_probes: u32,
}

impl ListenerSearch {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, probe: None, next: Instant::now(), own_probes: 0 }
    }

    /// Starts a probe if one is due. Never blocks: a full queue has room again only after the
    /// acceptor continues.
    pub(super) fn start_probe(&mut self, report: &mpsc::UnboundedSender<AcceptorReport>) {
        let now = Instant::now();
        let has_failed = |(probe, _, at): &mut (TcpStream, SocketAddr, Instant)| {
            *at + PROBE_TIMEOUT <= now || !matches!(probe.take_error(), Ok(None))
        };
        if self.probe.take_if(has_failed).is_some() {
            self.failed(now, report);
        }
        if self.probe.is_some() || now < self.next {
            return;
        }
        match begin_connection(self.address) {
            Ok((probe, from)) => self.probe = Some((probe, from, now)),
            Err(_unreachable) => self.failed(now, report),
        }
    }

    /// Counts a probe that failed, and schedules the next.
    fn failed(&mut self, now: Instant, report: &mpsc::UnboundedSender<AcceptorReport>) {
        self.count_own_probe(report);
        self.next = now + PROBE_INTERVAL;
    }

    /// Whether a connection that was accepted is the probe.
    pub(super) fn is_own(
        &mut self,
        peer: SocketAddr,
        report: &mpsc::UnboundedSender<AcceptorReport>,
    ) -> bool {
        let is_own = self.probe.as_ref().is_some_and(|(_, from, _)| *from == peer);
        if is_own {
            self.probe = None;
            self.count_own_probe(report);
        }
        is_own
    }

    /// Handles an empty queue: a probe that is connected was accepted by another process.
    pub(super) fn on_idle(&mut self, report: &mpsc::UnboundedSender<AcceptorReport>) {
        let is_elsewhere = |(probe, _, at): &mut (TcpStream, SocketAddr, Instant)| {
            DRAINING_WAIT <= at.elapsed() && probe.peer_addr().is_ok()
        };
        if let Some((probe, ..)) = self.probe.take_if(is_elsewhere) {
            self.next = Instant::now() + PROBE_INTERVAL;
            let _ = report.send(AcceptorReport::AcceptedElsewhere(probe));
        }
    }

    pub(super) fn count_own_probe(&mut self, report: &mpsc::UnboundedSender<AcceptorReport>) {
        self.own_probes += 1;
        if self.own_probes == SEARCH_PROBES {
            let _ = report.send(AcceptorReport::NoOtherListener);
        }
        if SEARCH_PROBES <= self.own_probes {
            self.next = Instant::now() + PROBE_INTERVAL;
        }
    }
}

/// Starts a connection without waiting for it, and returns its local address.
fn begin_connection(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = TcpStream::from(mio::net::TcpStream::connect(address)?);
    let from = stream.local_addr()?;
    Ok((stream, from))
}
