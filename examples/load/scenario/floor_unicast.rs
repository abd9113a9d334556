//! The floor of `unicast`: a server that answers each request without parsing it, and writes its
//! stamp in a prepared frame to one socket.

use super::floor::{Greeted, frames};
use crate::{
    bench::Bench,
    failure::Failure,
    fleet::command::Range,
    number::{float, index, millis, ratio},
    payload, process, progress,
    publisher::{Pace, Publisher, Publishing},
    show::outcome::Outcome,
    stop,
    wire::{self, Kind, Plan},
};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use std::{
    io::{self, ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const READ_BYTES: usize = 16 * 1024;

impl Bench {
    /// Publishes to a server that only forwards, and measures the cost.
    pub(crate) fn floor_unicast(
        &self,
        channels: u32,
        publishers: u32,
        duration: Duration,
    ) -> Result<Outcome, Failure> {
        let load = format!("{channels} sockets, one frame per request, {publishers} publishing");
        progress::say(format_args!("floor: {load}"));
        let Greeted { mut fleet, sockets, listener, target } = self.greet(channels)?;
        let publishing = Publishing {
            target,
            plan: Plan::new(Kind::Public, "floor", channels),
            payload_bytes: self.payload_bytes,
            connections: publishers,
            pace: Pace::Answers,
            limit: None,
        };
        let ended = Arc::new(AtomicBool::new(false));
        let before = fleet.gate().delivered();
        let publisher = Publisher::start(publishing, fleet.gate())?;
        let passing = {
            let (ended, bytes) = (Arc::clone(&ended), self.payload_bytes);
            thread::spawn(move || -> io::Result<Option<f64>> {
                let requests: io::Result<Vec<_>> =
                    (0..publishers).map(|_| listener.accept().map(|pair| pair.0)).collect();
                pass_on(requests?, sockets, bytes, &ended)
            })
        };
        stop::sleep(duration)?;
        let sent = publisher.finish()?;
        ended.store(true, Relaxed);
        let cpu_s = passing.join().map_err(|_| Failure::Lost("the floor"))?;
        let cpu_s = cpu_s.map_err(Failure::io("pass on"))?;
        let delivered = fleet.settle(before + sent.accepted)? - before;
        let sum = fleet.read(Range::ALL)?;

        let mut outcome = Outcome::new("floor", load);
        let count = float(sent.accepted);
        outcome.set("publishes_per_s", ratio(count, duration.as_secs_f64()));
        outcome.set_known("cpu_us_per_publish", cpu_s.map(|cpu_s| ratio(cpu_s * 1e6, count)));
        outcome.set("p50_ms", millis(sum.latency.quantile(0.5)));
        outcome.set("p99_ms", millis(sum.latency.quantile(0.99)));
        if delivered != sent.accepted || sum.verdict.wrong != 0 {
            outcome.fault(format!(
                "{delivered} of {} frames arrived, {} sockets wrong",
                sent.accepted, sum.verdict.wrong
            ));
        }
        Ok(outcome)
    }
}

/// Answers requests and forwards their stamps; returns the CPU time.
fn pass_on(
    requests: Vec<std::net::TcpStream>,
    mut sockets: Vec<std::net::TcpStream>,
    payload_bytes: usize,
    ended: &AtomicBool,
) -> io::Result<Option<f64>> {
    let (mut frame, places) = frames(1, payload_bytes);
    let place = places.first().copied().unwrap_or_default();
    let mut poll = Poll::new()?;
    let mut streams = Vec::new();
    for (at, request) in requests.into_iter().enumerate() {
        request.set_nodelay(true)?;
        request.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(request);
        poll.registry().register(&mut stream, Token(at), Interest::READABLE)?;
        streams.push(stream);
    }
    let mut events = Events::with_capacity(64);
    let mut buffer = vec![0; READ_BYTES];
    let from = process::thread_cpu_s();
    while !ended.load(Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(50)))?;
        for event in &events {
            let stream = &mut streams[event.token().0];
            let request = match stream.read(&mut buffer) {
                Ok(count) => &buffer[..count],
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            // Reads nothing once the publisher has ended. A request is one write, so one read
            // receives it.
            let Some((socket, stamp)) = addressee(request).zip(payload::stamp(request)) else {
                continue;
            };
            stream.write_all(ANSWER)?;
            payload::restamp(&mut frame, place, stamp);
            let count = sockets.len();
            sockets[socket % count].write_all(&frame)?;
        }
    }
    Ok(process::thread_cpu_s().zip(from).map(|(to, from)| to - from))
}

/// The number at the end of the channel's name.
fn addressee(request: &[u8]) -> Option<usize> {
    let end = wire::position(request, br#"","data":""#)?;
    let digits = std::str::from_utf8(request.get(end.checked_sub(5)?..end)?).ok()?;
    Some(index(digits.parse().ok()?))
}
