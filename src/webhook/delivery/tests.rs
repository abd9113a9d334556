mod schedule;

use super::*;
use crate::{
    config::{AppConfig, WebhookConfig},
    http_client::ClientResponse,
    webhook::queue::memory::{MemoryQueue, tests::request},
};
use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use std::{
    sync::{Mutex, atomic::AtomicUsize},
    time::Instant,
};

/// The time and body of each post.
type Posted = Arc<Mutex<Vec<(Instant, Bytes)>>>;

/// The status of a response, or why there is none.
type Judge = dyn Fn(usize, &str) -> Result<u16, HttpError> + Send + Sync;

/// An endpoint that answers its n-th request, from 0, by a script, after a delay.
#[derive(Clone)]
struct AnswerScript {
    posted: Posted,
    takes: Duration,
    judge: Arc<Judge>,
    /// The number of calls of `on_idle`.
    idles: Arc<AtomicUsize>,
}

impl Post for AnswerScript {
    async fn post(&mut self, request: &WebhookRequest) -> Result<ClientResponse, HttpError> {
        let at = {
            let mut posted = self.posted.lock().unwrap();
            posted.push((now(), request.body.clone()));
            posted.len() - 1
        };
        time::sleep(self.takes).await;
        let text = std::str::from_utf8(&request.body).unwrap();
        let status = StatusCode::from_u16((self.judge)(at, text)?).unwrap();
        Ok(ClientResponse {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            is_complete: true,
        })
    }

    fn on_idle(&mut self) {
        self.idles.fetch_add(1, Ordering::Relaxed);
    }
}

/// A delivery to a simulated endpoint.
struct DeliveryFixture {
    endpoint: Arc<Endpoint>,
    posted: Posted,
    /// The number of calls that reported that nothing is to be sent for now.
    idles: Arc<AtomicUsize>,
    end: watch::Sender<DeliveryPhase>,
    task: tokio::task::JoinHandle<()>,
}

impl DeliveryFixture {
    /// A delivery to an endpoint that answers its n-th request, from 0, with `status(n)`.
    fn new(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Self {
        Self::judging(move |at, _| status(at))
    }

    /// A delivery to an endpoint whose response depends on the request.
    fn judging(status: impl Fn(usize, &str) -> u16 + Send + Sync + 'static) -> Self {
        Self::with(move |at, text| Ok(status(at, text)))
    }

    fn with(judge: impl Fn(usize, &str) -> Result<u16, HttpError> + Send + Sync + 'static) -> Self {
        let webhook = WebhookConfig { url: "http://a.test".into(), ..WebhookConfig::default() };
        let endpoint =
            Arc::new(Endpoint::new(&AppConfig::development(), "a.test", &webhook).unwrap());
        let (posted, end) = (Posted::default(), watch::Sender::new(DeliveryPhase::Running));
        let takes = Duration::from_millis(10);
        let (judge, idles) = (Arc::new(judge), Arc::default());
        let script = AnswerScript { posted: Arc::clone(&posted), takes, judge, idles };
        let idles = Arc::clone(&script.idles);
        let scripts = [script.clone(), AnswerScript { idles: Arc::default(), ..script }];
        let queue = Arc::clone(&endpoint.queue);
        let delivery =
            EndpointDelivery::new(Arc::clone(&endpoint), queue, scripts, end.subscribe());
        Self { endpoint, posted, idles, end, task: tokio::spawn(delivery.run()) }
    }

    fn push(&self, text: &str) {
        self.endpoint.push(request(text, 1, now()));
    }

    /// The bodies that were posted so far, and the seconds between them.
    fn posted(&self) -> (Vec<Bytes>, Vec<f64>) {
        let posted = self.posted.lock().unwrap();
        let gaps = posted.windows(2).map(|two| (two[1].0 - two[0].0).as_secs_f64());
        (posted.iter().map(|(_, body)| body.clone()).collect(), gaps.collect())
    }

    fn dropped(&self, reason: Dropped) -> u64 {
        self.endpoint.stats.dropped(reason).get()
    }
}

fn body(text: &str) -> Bytes {
    request(text, 1, now()).body
}

#[tokio::test(start_paused = true)]
async fn a_failed_request_is_repeated_byte_for_byte_with_growing_delays() {
    // The fourth is the probe.
    let fixture = DeliveryFixture::new(|at| if at < 4 { [500, 404, 302, 500][at] } else { 204 });
    fixture.push("1");
    time::sleep(Duration::from_secs(60)).await;
    let (mut bodies, gaps) = fixture.posted();
    assert!(bodies.remove(3).ends_with(b"[]}"));
    assert_eq!(bodies, vec![body("1"); 4]);
    for (gap, longest) in [gaps[0], gaps[1], gaps[3]].iter().zip([1.0, 2.0, 4.0]) {
        assert!(longest * 0.8 <= *gap && *gap <= longest + 0.02, "{gaps:?}");
    }
    let stats = &fixture.endpoint.stats;
    let counts = [stats.sent.get(), stats.failed.get(), stats.retried.get()];
    assert_eq!((counts, fixture.endpoint.queue.events()), ([1, 4, 3], 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_for_five_minutes_is_dropped() {
    let fixture = DeliveryFixture::new(|_| 500);
    let start = now();
    fixture.push("1");
    time::sleep(Duration::from_secs(3_600)).await;
    let (bodies, gaps) = fixture.posted();
    let last = fixture.posted.lock().unwrap().last().unwrap().0 - start;
    assert!((12..=17).contains(&bodies.len()), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= 60.1), "{gaps:?}");
    assert!(Duration::from_secs(230) < last && last < LIFETIME, "{last:?}");
    assert_eq!((fixture.dropped(Dropped::Expired), fixture.endpoint.queue.events()), (1, 0));
    // The endpoint itself is not affected.
    fixture.push("2");
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.posted().0.last(), Some(&body("2")));
}

#[tokio::test(start_paused = true)]
async fn the_order_is_kept_despite_failures() {
    let fixture = DeliveryFixture::new(|at| if at < 2 { 503 } else { 200 });
    fixture.push("1");
    fixture.push("2");
    time::sleep(Duration::from_secs(2)).await;
    fixture.push("3");
    time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fixture.posted().0, ["1", "1", "1", "2", "3"].map(body));
}

/// A failing endpoint gets at most one request a minute, regardless of the queue.
#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_gets_few_requests() {
    let fixture = DeliveryFixture::new(|_| 500);
    for number in 0..6_000 {
        fixture.push(&number.to_string());
        time::sleep(Duration::from_millis(100)).await;
    }
    let (bodies, gaps) = fixture.posted();
    assert!(bodies.len() < 32, "{gaps:?}");
    assert!((2_900..3_100).contains(&fixture.endpoint.queue.events()));
    assert!((2_900..3_100).contains(&fixture.dropped(Dropped::Expired)));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_each_request_has_one_attempt_until_the_first_failure() {
    let fixture = DeliveryFixture::new(|at| [500, 200, 200, 500, 200][at]);
    for text in ["1", "2", "3", "4"] {
        fixture.push(text);
    }
    time::sleep(Duration::from_millis(500)).await;
    fixture.end.send_replace(DeliveryPhase::LastAttempt);
    fixture.task.await.unwrap();
    let posted =
        fixture.posted.lock().unwrap().iter().map(|(_, body)| body.clone()).collect::<Vec<_>>();
    assert_eq!(posted, ["1", "1", "2", "3"].map(body), "without waiting for the next attempt");
    assert_eq!(fixture.endpoint.queue.events(), 2);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_an_empty_queue_ends_at_once() {
    let fixture = DeliveryFixture::new(|_| 200);
    time::sleep(Duration::from_secs(60)).await;
    fixture.end.send_replace(DeliveryPhase::LastAttempt);
    fixture.task.await.unwrap();
}

/// An endpoint that answers `status` to a request with a poisonous event, and to an empty one unless
/// `is_empty_fine`.
fn poisoned(status: u16, is_empty_fine: bool) -> impl Fn(usize, &str) -> u16 + Send + Sync {
    move |_, body| {
        let is_empty = body.contains("[]");
        if body.contains("poison") || (is_empty && !is_empty_fine) { status } else { 200 }
    }
}

/// The good events, which contain a number, that an endpoint has accepted, in order, with their
/// times.
fn accepted(fixture: &DeliveryFixture) -> Vec<(u32, Instant)> {
    let posted = fixture.posted.lock().unwrap();
    let fine =
        posted.iter().filter(|(_, body)| !std::str::from_utf8(body).unwrap().contains("poison"));
    fine.flat_map(|(at, body)| {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        let events = body["events"].as_array().unwrap().clone();
        events.into_iter().map(|event| (u32::try_from(event.as_u64().unwrap()).unwrap(), *at))
    })
    .collect()
}

/// Good events are delivered in order and soon, for each response of the endpoint to poisonous ones.
#[tokio::test(start_paused = true)]
async fn a_rejected_event_does_not_block_others() {
    for (status, is_empty_fine, soon_ms) in
        [(400, false, 3_000), (422, true, 3_000), (500, true, 6_000), (404, true, 6_000)]
    {
        let fixture = DeliveryFixture::judging(poisoned(status, is_empty_fine));
        let start = now();
        let mut pushed = Vec::new();
        for round in 0..300_u32 {
            let good = [round * 3, round * 3 + 1, round * 3 + 2];
            // With poison in one request, at each position of it, and alone.
            let events = match round % 4 {
                0 => format!("\"poison\",{},{},{}", good[0], good[1], good[2]),
                1 => format!("{},{},\"poison\",{}", good[0], good[1], good[2]),
                2 => format!("{},\"poison\",{},\"poison\",{}", good[0], good[1], good[2]),
                _ => format!("{},{},{}", good[0], good[1], good[2]),
            };
            let count = events.split(',').count();
            fixture.endpoint.push(request(&events, count, now()));
            pushed.extend(good.map(|number| (number, now())));
            time::sleep(Duration::from_secs(2)).await;
        }
        time::sleep(Duration::from_secs(5)).await;
        let accepted = accepted(&fixture);
        let numbers = |list: &[(u32, Instant)]| list.iter().map(|one| one.0).collect::<Vec<_>>();
        assert_eq!(numbers(&accepted), numbers(&pushed), "{status}: in order, and once");
        let late = accepted.iter().zip(&pushed).map(|(is, was)| is.1 - was.1).max().unwrap();
        assert!(late < Duration::from_millis(soon_ms), "{status}: {late:?}");
        // They are dropped when they are five minutes old.
        let rejected = fixture.dropped(Dropped::Rejected);
        assert!((100..=200).contains(&rejected), "{status}: {rejected}");
        assert_eq!(fixture.endpoint.queue.events(), 0);
        let requests = fixture.posted().0.len();
        let seconds = usize::try_from((now() - start).as_secs()).unwrap();
        assert!(requests < 6 * seconds, "{status}: {requests} in {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_delivered_once_the_endpoint_accepts_it() {
    let start = now();
    let fixture = DeliveryFixture::judging(move |_, body| {
        let is_mended = Duration::from_secs(100) < now() - start;
        if body.contains("poison") && !is_mended { 400 } else { 200 }
    });
    fixture.push("\"poison 1\"");
    fixture.push("\"poison 2\"");
    fixture.push("1");
    time::sleep(Duration::from_secs(99)).await;
    assert_eq!(accepted(&fixture).len(), 1);
    assert_eq!((fixture.endpoint.queue.dead_letters(), fixture.endpoint.queue.events()), (2, 0));
    time::sleep(Duration::from_secs(62)).await;
    let stats = &fixture.endpoint.stats;
    assert_eq!((fixture.endpoint.queue.dead_letters(), stats.sent.get()), (0, 3));
    assert_eq!(fixture.dropped(Dropped::Rejected), 0);
}

/// During an outage of the endpoint, there are no dead letters, and the order is kept.
#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_dead_letters() {
    for status in [500, 503, 401, 404, 429] {
        let start = now();
        let fixture = DeliveryFixture::judging(move |_, _| {
            if now() - start < Duration::from_secs(200) { status } else { 200 }
        });
        for number in 0..10 {
            fixture.endpoint.push(request(&format!("{number},{}", number + 100), 2, now()));
        }
        time::sleep(Duration::from_secs(280)).await;
        let (posted, _) = fixture.posted();
        let first = request("0,100", 2, now()).body;
        let is_probe = |body: &Bytes| body.ends_with(b"[]}");
        let before = posted.iter().take_while(|body| **body == first || is_probe(body));
        assert!(before.count() + 9 == posted.len(), "{status}: {posted:?}");
        assert_eq!(fixture.endpoint.stats.split.get(), 0);
        assert_eq!(
            (fixture.endpoint.queue.dead_letters(), fixture.endpoint.queue.events()),
            (0, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_rejected_event_does_not_take_the_attempts_of_others() {
    let fixture = DeliveryFixture::judging(poisoned(400, true));
    fixture.push("\"poison\"");
    fixture.push("1");
    time::sleep(Duration::from_millis(1)).await;
    fixture.end.send_replace(DeliveryPhase::LastAttempt);
    fixture.task.await.unwrap();
    let queue = &fixture.endpoint.queue;
    assert_eq!((queue.events(), queue.all_events()), (0, 1));
}

/// A queue whose store fails a number of requests to split or to add dead letters.
struct Stubborn {
    queue: MemoryQueue,
    rejections: AtomicUsize,
}

impl Stubborn {
    fn rejects(&self) -> bool {
        let fewer = |left: usize| left.checked_sub(1);
        self.rejections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
    }
}

impl Queue for Stubborn {
    async fn first(&self) -> (RequestId, WebhookRequest) {
        Queue::first(&self.queue).await
    }

    async fn first_now(&self) -> Option<(RequestId, WebhookRequest)> {
        Queue::first_now(&self.queue).await
    }

    async fn ack(&self, request_id: RequestId) {
        Queue::ack(&self.queue, request_id).await;
    }

    async fn drop_older(&self, before: Instant) -> usize {
        Queue::drop_older(&self.queue, before).await
    }

    async fn split(&self, request_id: RequestId, halves: [WebhookRequest; 2]) -> bool {
        !self.rejects() && Queue::split(&self.queue, request_id, halves).await
    }

    async fn add_dead_letter(&self, request_id: RequestId) -> Option<usize> {
        if self.rejects() { None } else { Queue::add_dead_letter(&self.queue, request_id).await }
    }

    fn dead_letters(&self) -> usize {
        self.queue.dead_letters()
    }

    async fn dead_letter_added(&self) {
        self.queue.dead_letter_added().await;
    }

    async fn dead_letter(&self, turn: usize) -> Option<(RequestId, WebhookRequest)> {
        self.queue.dead_letter(turn).await
    }

    async fn ack_dead_letter(&self, request_id: RequestId) {
        Queue::ack_dead_letter(&self.queue, request_id).await;
    }

    async fn drop_older_dead_letters(&self, before: Instant) -> usize {
        self.queue.drop_older_dead_letters(before).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_split_or_dead_letter_is_retried_after_a_pause() {
    for (text, events, splits) in [("1", 1, 0), ("1,2", 2, 1)] {
        let webhook = WebhookConfig { url: "http://a.test".into(), ..WebhookConfig::default() };
        let endpoint = Endpoint::new(&AppConfig::development(), "a.test", &webhook).unwrap();
        let (endpoint, posted) = (Arc::new(endpoint), Posted::default());
        let script = AnswerScript {
            posted: Arc::clone(&posted),
            takes: Duration::from_millis(10),
            judge: Arc::new(|_, text| Ok(if text.contains("[1") { 422 } else { 200 })),
            idles: Arc::default(),
        };
        let queue = Stubborn { queue: MemoryQueue::default(), rejections: AtomicUsize::new(3) };
        let queue = Arc::new(queue);
        queue.queue.push(request(text, events, now()));
        let (_end, ends) = watch::channel(DeliveryPhase::Running);
        let scripts = [script.clone(), script];
        let delivery =
            EndpointDelivery::new(Arc::clone(&endpoint), Arc::clone(&queue), scripts, ends);
        let task = tokio::spawn(delivery.run());
        while 0 < queue.rejections.load(Ordering::Relaxed) {
            time::sleep(Duration::from_millis(1)).await;
        }
        let rejected = posted.lock().unwrap().clone();
        for two in rejected.windows(2) {
            let gap = (two[1].0 - two[0].0).as_secs_f64();
            assert!(0.8 <= gap, "{gap} s");
            assert_eq!(two[0].1, two[1].1, "the same request");
        }
        assert_eq!((endpoint.stats.split.get(), queue.dead_letters()), (0, 0));
        time::sleep(Duration::from_secs(5)).await;
        assert_eq!((endpoint.stats.split.get(), queue.dead_letters()), (splits, 1));
        assert_eq!(queue.queue.events(), 0);
        task.abort();
    }
}
