//! The floor: a server that only writes prepared frames.
//!
//! It greets like a Pusher server, so that the same fleet can read from it; then one thread writes
//! the same bytes to one socket after the other. No server that writes each frame separately can
//! have a lower cost.

use crate::{
    bench::Bench,
    failure::Failure,
    fleet::{Crew, Fleet, command::Range},
    frame,
    histogram::Histogram,
    number::{float, micros, millis, narrow, now_us, ratio, wide},
    payload::{self, Stamp},
    process, progress,
    show::outcome::Outcome,
    stop,
    target::{Target, Url},
    wire::{Kind, Plan},
};
use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

const GREETING: &str = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.1\",\"activity_timeout\":120}"}"#;
const UPGRADED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// The parameters of the scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    /// The number of sockets.
    pub(crate) connections: u32,
    /// The number of passes over all sockets per second.
    pub(crate) rate: f64,
    /// The number of frames per write.
    pub(crate) frames: u32,
    /// The duration of the measurement.
    pub(crate) duration: Duration,
}

impl Bench {
    /// Writes to sockets, and measures the cost.
    pub(crate) fn floor(&self, floor: Floor) -> Result<Outcome, Failure> {
        let load = format!(
            "{} sockets, {} times per second, {} frames at a time",
            floor.connections, floor.rate, floor.frames
        );
        progress::say(format_args!("floor: {load}"));
        let count = floor.connections;
        let Greeted { mut fleet, mut sockets, .. } = self.greet(count)?;
        let before = fleet.gate().delivered();
        let (passes, cpu_s, durations) = write_all(&mut sockets, floor, self.payload_bytes)?;
        let expected = passes * u64::from(count) * u64::from(floor.frames);
        let delivered = fleet.settle(before + expected)? - before;
        let sum = fleet.read(Range::ALL)?;

        let mut outcome = Outcome::new("floor", load);
        let writes = float(passes * u64::from(count));
        outcome.set_known("cpu_us_per_write", cpu_s.map(|cpu_s| ratio(cpu_s * 1e6, writes)));
        outcome.set_known("cpu_us_per_delivery", cpu_s.map(|s| ratio(s * 1e6, float(expected))));
        outcome.set("pass_p50_ms", millis(durations.quantile(0.5)));
        outcome.set("pass_p99_ms", millis(durations.quantile(0.99)));
        outcome.set("p50_ms", millis(sum.latency.quantile(0.5)));
        outcome.set("p99_ms", millis(sum.latency.quantile(0.99)));
        if delivered != expected || sum.verdict.wrong != 0 {
            outcome.fault(format!(
                "{delivered} of {expected} frames arrived, {} sockets wrong",
                sum.verdict.wrong
            ));
        }
        Ok(outcome)
    }
}

/// A fleet, and the server side of its sockets.
#[derive(Debug)]
pub(super) struct Greeted {
    /// The reading side.
    pub(super) fleet: Fleet,
    /// The server side, in the order of the fleet's ids.
    pub(super) sockets: Vec<TcpStream>,
    /// The listener for more connections.
    pub(super) listener: TcpListener,
    /// The address of the listener.
    pub(super) target: Target,
}

impl Bench {
    /// Opens a fleet of `count` connections to a listener in this process.
    pub(super) fn greet(&self, count: u32) -> Result<Greeted, Failure> {
        let listen = Failure::io("listen");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(&listen)?;
        let address = listener.local_addr().map_err(&listen)?;
        let url = Url { address, host: address.to_string(), prefix: String::new() };
        let target = Target { urls: vec![url], ..self.target.clone() };
        // In a separate process, since otherwise both ends of each socket would be in this one.
        let crew = Crew { threads: 1, processes: 1 };
        let mut fleet = Fleet::new(&target, crew, count)?;
        let greeter = thread::spawn(move || greet_all(&listener, count).map(|all| (all, listener)));
        fleet.open(&Plan::new(Kind::None, "floor", 1), count)?;
        let all = greeter.join().map_err(|_| Failure::Lost("the greeter"))?;
        let (sockets, listener) = all.map_err(Failure::io("greet"))?;
        fleet.reset()?;
        Ok(Greeted { fleet, sockets, listener, target })
    }
}

/// The answer to the request of a connection, and the first message.
pub(super) fn greeting() -> Vec<u8> {
    let mut greeting = UPGRADED.as_bytes().to_vec();
    frame::push_plain(&mut greeting, frame::TEXT, GREETING.as_bytes());
    greeting
}

/// Accepts `count` connections, and greets each like a Pusher server.
fn greet_all(listener: &TcpListener, count: u32) -> io::Result<Vec<TcpStream>> {
    let greeting = greeting();
    let mut sockets = Vec::new();
    let mut request = [0; 1_024];
    for _ in 0..count {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        // The fleet sends the request in one write, so one read receives it.
        if socket.read(&mut request)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        socket.write_all(&greeting)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Writes to all sockets repeatedly; returns the CPU time of this thread, and the duration of each
/// pass.
fn write_all(
    sockets: &mut [TcpStream],
    floor: Floor,
    payload_bytes: usize,
) -> Result<(u64, Option<f64>, Histogram), Failure> {
    let (mut bytes, places) = frames(floor.frames, payload_bytes);
    let mut durations = Histogram::default();
    let mut passes = 0;
    let cpu_from = process::thread_cpu_s();
    let (begun, begun_us) = (Instant::now(), now_us());
    while begun.elapsed() < floor.duration {
        stop::check()?;
        let due = Duration::from_secs_f64(float(passes) / floor.rate);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        let pass = Instant::now();
        for (nth, place) in (0_u64..).zip(&places) {
            let number = narrow(passes * u64::from(floor.frames) + nth);
            payload::restamp(&mut bytes, *place, Stamp { at_us: begun_us + micros(due), number });
        }
        for socket in &mut *sockets {
            socket.write_all(&bytes).map_err(Failure::io("write"))?;
        }
        durations.record(micros(pass.elapsed()));
        passes += 1;
    }
    let cpu_s = process::thread_cpu_s().zip(cpu_from).map(|(to, from)| to - from);
    Ok((passes, cpu_s, durations))
}

/// Frames as sent by a server, and the positions of their stamps.
pub(super) fn frames(count: u32, payload_bytes: usize) -> (Vec<u8>, Vec<usize>) {
    let mut message = br#"{"event":"load","channel":"floor-000000-00000","data":""#.to_vec();
    payload::push_escaped(&mut message, Stamp { at_us: 0, number: 0 }, payload_bytes);
    message.extend_from_slice(br#""}"#);
    let mut bytes = Vec::new();
    let mut places = Vec::new();
    for _ in 0..count {
        let end = bytes.len();
        frame::push_plain(&mut bytes, frame::TEXT, &message);
        let header = bytes.len() - end - message.len();
        places.extend(payload::find(&message).map(|at| end + header + at));
    }
    debug_assert_eq!(wide(places.len()), u64::from(count));
    (bytes, places)
}
