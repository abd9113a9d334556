//! A regular subscriber and a regular publisher, on a separate thread so that the attackers' work does not count as
//! latency of the server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

use kit::{Call, Client, Http, KEY};

/// The channel of the bystander: a private one, since most applications use those.
pub(crate) const CHANNEL: &str = "private-orders";

/// The interval between publishes.
const PERIOD: Duration = Duration::from_millis(10);

/// A subscriber that expects every event once and in order, and the publisher of those events.
#[derive(Debug)]
pub(crate) struct Bystander {
    seen: Arc<Seen>,
    thread: JoinHandle<()>,
}

/// A received event: the time of its publish, and its latency.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) published_at: Instant,
    pub(crate) latency: Duration,
}

#[derive(Debug, Default)]
struct Seen {
    is_over: AtomicBool,
    samples: Mutex<Vec<Sample>>,
}

impl Bystander {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let seen = Arc::new(Seen::default());
        let thread = std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("there is a poller").block_on(attend(address, &seen));
            }
        });
        Self { seen, thread }
    }

    /// The number of events that have arrived. Panics if the bystander has failed; its own message is printed above.
    pub(crate) fn count(&self) -> usize {
        assert!(!self.thread.is_finished(), "the ordinary subscriber or publisher has failed");
        self.seen.lock().len()
    }

    /// Stops publishing, waits for the last event, and returns all. Fails if one was lost, duplicated or out of order.
    pub(crate) fn finish(self) -> Vec<Sample> {
        self.seen.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the ordinary subscriber or publisher has failed");
        std::mem::take(&mut self.seen.lock())
    }
}

impl Seen {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn attend(address: SocketAddr, seen: &Seen) {
    let target = format!("/app/{KEY}?protocol=7&client=js&version=8.6.0");
    let (mut client, _) = Client::open(address, &target, &[]).await;
    client.established().await;
    client.subscribe(CHANNEL).await;
    let http = Http::connect(address).await;
    let (sent, to_come) = unbounded_channel();
    tokio::join!(publish(http, sent, seen), listen(client, to_come, seen));
}

async fn publish(mut http: Http, sent: UnboundedSender<Instant>, seen: &Seen) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0_u64;
    while !seen.is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let event = json!({ "name": "placed", "channel": CHANNEL, "data": number.to_string() });
        let call = Call::post("events", &event);
        sent.send(Instant::now()).expect("the subscriber lives as long");
        let reply = call.send_on(&mut http).await;
        assert_eq!(reply.status, 200, "{reply}");
        number += 1;
    }
}

async fn listen(mut client: Client, mut to_come: UnboundedReceiver<Instant>, seen: &Seen) {
    let mut number = 0_u64;
    while let Some(published_at) = to_come.recv().await {
        client.expect_event(CHANNEL, "placed", &number.to_string()).await;
        seen.lock().push(Sample { published_at, latency: published_at.elapsed() });
        number += 1;
    }
}
