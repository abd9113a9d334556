//! Measures the cost of webhooks: observes events at a steady rate, delivers them to an endpoint on
//! loopback, and prints the rate of delivery and the CPU time of the delivering thread. Then
//! repeats this with an endpoint that accepts connections and never answers, and prints the memory
//! of the queued events.
//!
//! ```sh
//! cargo run --release --example webhooks -- [EVENTS_PER_SECOND] [SECONDS]
//! ```

use campanile::{
    config::{AppConfig, Config, WebhookConfig, WebhookEvent},
    hub::{HubEvent, Observer as _},
    protocol::{ChannelName, SocketId},
    shutdown::Shutdown,
    webhook::Webhooks,
};
use std::{
    error::Error,
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

const TICK: Duration = Duration::from_millis(10);
const TICKS_PER_SECOND: u64 = 100;
/// The timeout of pending deliveries.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (rate, seconds) = (number(5_000)?, number(10)?);
    deliver(rate, seconds)?;
    hang(rate, seconds)
}

/// Starts one webhook for `url`.
fn webhooks(url: String) -> Result<(Arc<Webhooks>, Usage, Shutdown), Box<dyn Error>> {
    let mut config = Config::default();
    let kinds = vec![WebhookEvent::ClientEvent];
    config.apps[0].webhooks =
        vec![WebhookConfig { url, events: kinds, ..WebhookConfig::default() }];
    let webhooks = Arc::new(Webhooks::new(&config)?);
    let shutdown = Shutdown::new();
    let usage = run_on_a_thread(Arc::clone(&webhooks), &shutdown)?;
    Ok((webhooks, usage, shutdown))
}

/// Observes events at a steady rate, and returns the time spent in the calls.
fn observe(webhooks: &Webhooks, rate: u64, seconds: u64) -> Result<Duration, Box<dyn Error>> {
    let app_id = AppConfig::development().id;
    let (start, mut observing) = (Instant::now(), Duration::ZERO);
    for tick in 0..seconds * TICKS_PER_SECOND {
        let next = start + TICK * u32::try_from(tick)?;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let begin = Instant::now();
        for _ in 0..rate / TICKS_PER_SECOND {
            webhooks.observe(&app_id, whisper());
        }
        observing += begin.elapsed();
    }
    Ok(observing)
}

fn hang(rate: u64, seconds: u64) -> Result<(), Box<dyn Error>> {
    // The socket listens, so connections are established, but they are never accepted.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/hooks", listener.local_addr()?);
    let (webhooks, _usage, _shutdown) = webhooks(url)?;
    // The connection and everything else that does not depend on the number of events is allocated
    // here.
    observe(&webhooks, TICKS_PER_SECOND, 1)?;
    let before = resident()?;
    observe(&webhooks, rate, seconds)?;
    let grown = resident()?.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let mib = grown as f64 / 1_048_576.0;
    let text =
        format!("an endpoint that never answers, after {} events: {mib:.2} MiB\n", rate * seconds);
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// The resident memory of this process, in bytes.
fn resident() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1_024)
}

fn deliver(rate: u64, seconds: u64) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/hooks", listener.local_addr()?);
    let (events, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counts = (Arc::clone(&events), Arc::clone(&requests));
    thread::spawn(move || sink(&listener, &counts.0, &counts.1));

    let (webhooks, usage, _shutdown) = webhooks(url)?;
    let (before, start) = (usage.cpu()?, Instant::now());
    let observing = observe(&webhooks, rate, seconds)?;
    let sent = rate / TICKS_PER_SECOND * TICKS_PER_SECOND * seconds;
    let end = Instant::now() + PATIENCE;
    while events.load(Ordering::Relaxed) < sent && Instant::now() < end {
        thread::sleep(TICK);
    }
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), usage.cpu()? - before);
    let arrived = events.load(Ordering::Relaxed);
    let requests = requests.load(Ordering::Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (per_second, share) = (arrived as f64 / elapsed, cpu.as_secs_f64() / elapsed * 100.0);
    let observe_ns = observing.as_nanos() / u128::from(sent.max(1));
    let text = format!(
        "{arrived} of {sent} events in {requests} requests, {per_second:.0} events/s, \
         {share:.1} % of one core, {observe_ns} ns for the making and observing of one\n"
    );
    io::stdout().write_all(text.as_bytes())?;
    if arrived == sent { Ok(()) } else { Err("events are missing".into()) }
}

fn whisper() -> HubEvent {
    HubEvent::ClientEvent {
        channel: ChannelName::parse("private-conversations.7", 200).expect("it is legal"),
        name: "client-typing".to_owned(),
        data: r#""{\"user\":\"ann\",\"typing\":true}""#.to_owned(),
        socket_id: SocketId::from_random(0x0000_007b_0000_01c8),
        user_id: None,
    }
}

/// The file with the CPU time of a thread.
struct Usage(String);

impl Usage {
    fn cpu(&self) -> Result<Duration, Box<dyn Error>> {
        let text = fs::read_to_string(&self.0)?;
        let ns = text.split(' ').next().ok_or("the file is empty")?.parse()?;
        Ok(Duration::from_nanos(ns))
    }
}

/// Runs the webhooks like the server: on a thread with a separate runtime.
fn run_on_a_thread(webhooks: Arc<Webhooks>, shutdown: &Shutdown) -> Result<Usage, Box<dyn Error>> {
    let (sender, receiver) = mpsc::channel();
    let drain = shutdown.guard();
    thread::spawn(move || -> io::Result<()> {
        let task = fs::read_link("/proc/thread-self")?;
        // The receiver may have been dropped.
        let _ = sender.send(format!("/proc/{}/schedstat", task.display()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(webhooks.run(drain));
        Ok(())
    });
    Ok(Usage(receiver.recv()?))
}

/// Accepts and counts all requests.
fn sink(listener: &TcpListener, events: &AtomicU64, requests: &AtomicU64) {
    for stream in listener.incoming().flatten() {
        // The client may close its connection at any time.
        let _ = answer(stream, events, requests);
    }
}

fn answer(mut stream: TcpStream, events: &AtomicU64, requests: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut received, mut part) = (Vec::new(), vec![0; 65_536]);
    loop {
        let count = stream.read(&mut part)?;
        if count == 0 {
            return Ok(());
        }
        received.extend_from_slice(&part[..count]);
        // Requests arrive one at a time, and each ends with the end of its JSON.
        if received.ends_with(b"]}") {
            let text = String::from_utf8_lossy(&received);
            events.fetch_add(text.matches(r#"{"name":"#).count() as u64, Ordering::Relaxed);
            requests.fetch_add(1, Ordering::Relaxed);
            received.clear();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        }
    }
}
