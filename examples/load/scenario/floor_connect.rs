//! The floor of `connect`: a server that answers the request and the subscription of each connection with ready-made bytes.

use super::floor::{self, Greeted};
use crate::{
    bench::Bench,
    failure::Failure,
    frame,
    number::{float, millis, ratio},
    process, progress,
    show::outcome::Outcome,
    wire::{Kind, Plan},
};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

const SUBSCRIBED: &str =
    r#"{"event":"pusher_internal:subscription_succeeded","channel":"floor","data":"{}"}"#;
/// What a connection sends at once fits into one read.
const READ_BYTES: usize = 1_024;

impl Bench {
    /// Opens connections to a server that reads and parses nothing, and measures the cost.
    pub(crate) fn floor_connect(&self, count: u32, in_flight: u32) -> Result<Outcome, Failure> {
        let load = format!("{count} connections, {in_flight} at a time");
        progress::say(format_args!("floor: {load}"));
        let Greeted { mut fleet, listener, .. } = self.greet(0)?;
        let serving = thread::spawn(move || serve_all(&listener, count));
        let opening = fleet.try_open(&Plan::new(Kind::Public, "floor", 1), count, in_flight)?;
        if opening.failed != 0 {
            // The server waits for them.
            let why = opening.fault.as_deref().unwrap_or("no answer in time");
            return Err(Failure::Server(format!("{} connections failed: {why}", opening.failed)));
        }
        let result = serving.join().map_err(|_| Failure::Lost("the floor"))?;
        let (_sockets, cpu_s) = result.map_err(Failure::io("serve"))?;
        let mut outcome = Outcome::new("floor", load);
        let ready = float(u64::from(opening.ready));
        outcome.set("connections_per_s", ratio(ready, opening.seconds));
        outcome.set_known("cpu_us_per_connection", cpu_s.map(|cpu_s| ratio(cpu_s * 1e6, ready)));
        outcome.set("p50_ms", millis(opening.latency.quantile(0.5)));
        outcome.set("p99_ms", millis(opening.latency.quantile(0.99)));
        outcome.set("max_ms", millis(opening.latency.max()));
        Ok(outcome)
    }
}

/// Accepts `count` connections and serves each until it is subscribed. Returns them, and the CPU time.
fn serve_all(listener: &TcpListener, count: u32) -> io::Result<(Vec<TcpStream>, Option<f64>)> {
    let greeting = floor::greeting();
    let mut subscribed = Vec::new();
    frame::push_plain(&mut subscribed, frame::TEXT, SUBSCRIBED.as_bytes());
    let mut sockets = Vec::new();
    let mut buffer = [0; READ_BYTES];
    let from = process::thread_cpu_s();
    for _ in 0..count {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        for answer in [&greeting, &subscribed] {
            if socket.read(&mut buffer)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            socket.write_all(answer)?;
        }
        sockets.push(socket);
    }
    Ok((sockets, process::thread_cpu_s().zip(from).map(|(to, from)| to - from)))
}
