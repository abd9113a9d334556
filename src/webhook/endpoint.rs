//! One webhook: what it wants, what waits for it, and how that is delivered.

use super::{
    backoff::Backoff,
    client::{Client, Post, PostError, headers},
    dial::{Dialer, Target, WebhookError},
    envelope::Notice,
    filter::Filter,
    queue::{LIFETIME, MemoryQueue, Place, Queue},
    stats::{Dropped, RareLine, Stats},
};
use crate::{
    config::{AppConfig, WebhookConfig},
    live::Live,
};
use hyper::HeaderMap;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time};

/// One webhook of one app. It is told apart by its URL: while that is configured, whatever else of
/// the webhook changes, what waits for it stays in its order.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) app_id: String,
    name: Live<String>,
    /// May hold a secret.
    pub(super) url: String,
    pub(super) filter: Live<Filter>,
    pub(super) target: Arc<Target>,
    /// What waits on this node. Where there are others, Redis has what waits.
    pub(super) queue: Arc<MemoryQueue>,
    pub(super) stats: Stats,
    headers: Arc<Live<HeaderMap>>,
    drops: RareLine,
}

impl Endpoint {
    pub(super) fn new(
        app: &AppConfig,
        name: &str,
        webhook: &WebhookConfig,
    ) -> Result<Self, WebhookError> {
        let target = Target::parse(&webhook.url).ok_or_else(|| WebhookError::Host {
            app_id: app.id.clone(),
            webhook: name.to_owned(),
        })?;
        Ok(Self {
            headers: Arc::new(Live::new(headers(&target.authority, &app.key, &webhook.headers))),
            app_id: app.id.clone(),
            name: Live::new(name.to_owned()),
            url: webhook.url.clone(),
            filter: Live::new(Filter::new(webhook)),
            target: Arc::new(target),
            queue: Arc::default(),
            stats: Stats::default(),
            drops: RareLine::default(),
        })
    }

    /// What the webhook is called in metrics and logs.
    pub(super) fn name(&self) -> Arc<String> {
        self.name.get()
    }

    /// Becomes as `fresh` is, which has the same URL.
    pub(super) fn follow(&self, fresh: &Self) {
        self.name.share(&fresh.name);
        self.filter.share(&fresh.filter);
        self.headers.share(&fresh.headers);
    }

    /// A client for this endpoint.
    pub(super) fn client(&self, dialer: Arc<Live<Dialer>>) -> Client {
        Client::new(dialer, Arc::clone(&self.target), Arc::clone(&self.headers))
    }

    /// Has a notice wait for its delivery.
    pub(super) fn push(&self, notice: Notice) {
        let now = notice.created_at;
        self.count_dropped(Dropped::Overflow, self.queue.push(notice), now);
    }

    /// Counts events that were given up, and says so in the log, but not each time.
    pub(super) fn count_dropped(&self, reason: Dropped, events: usize, now: Instant) {
        if events == 0 {
            return;
        }
        self.stats.dropped(reason).add(events);
        if let Some(events) = self.drops.due(events as u64, now) {
            tracing::warn!(
                app = self.app_id,
                webhook = %self.name(),
                host = self.target.authority,
                events,
                reason = reason.as_str(),
                "webhook events dropped"
            );
        }
    }
}

/// How long a connection is kept open while nothing waits. Servers close an idle one after some
/// seconds, five with Node, and a request that crosses the close is lost.
const IDLE: Duration = Duration::from_secs(4);

/// Whether a delivery goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// It does.
    Open,
    /// Nothing more will come, and whatever waits has one attempt left.
    Last,
    /// Somebody else goes on with what waits. What is under way is ended.
    Stop,
}

/// Delivers what waits for one endpoint, in order: what can't be delivered holds up all that
/// follows, until it is too old.
#[derive(Debug)]
pub(super) struct Delivery<P, Q> {
    endpoint: Arc<Endpoint>,
    queue: Arc<Q>,
    post: P,
    backoff: Backoff,
    tried: Option<Place>,
    end: watch::Receiver<End>,
}

impl<P: Post, Q: Queue> Delivery<P, Q> {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        queue: Arc<Q>,
        post: P,
        end: watch::Receiver<End>,
    ) -> Self {
        Self { endpoint, queue, post, backoff: Backoff::default(), tried: None, end }
    }

    /// Delivers until the end, which is when nothing waits any more or the last attempt has failed.
    pub(super) async fn run(mut self) {
        while let Some((place, notice)) = self.next().await {
            if let Err(wait) = self.attempt(place, &notice).await {
                if self.is_last() {
                    return;
                }
                self.pause(wait).await;
            }
        }
    }

    fn is_last(&self) -> bool {
        *self.end.borrow() != End::Open || self.end.has_changed().is_err()
    }

    /// Waits for the next notice. None: there will be no more.
    async fn next(&mut self) -> Option<(Place, Notice)> {
        let mut is_resting = false;
        loop {
            if *self.end.borrow() == End::Stop {
                return None;
            }
            self.expire().await;
            if let Some(first) = self.queue.first_now().await {
                return Some(first);
            }
            if self.is_last() {
                return None;
            }
            tokio::select! {
                _ = self.queue.first() => {}
                _ = self.end.wait_for(|end| *end != End::Open) => {}
                () = time::sleep(IDLE), if !is_resting => {
                    self.post.rest();
                    is_resting = true;
                }
            }
        }
    }

    /// Tries to deliver a notice once.
    ///
    /// # Errors
    ///
    /// How long to wait before the next attempt.
    async fn attempt(&mut self, place: Place, notice: &Notice) -> Result<(), Duration> {
        let Endpoint { stats, target, app_id, .. } = &*self.endpoint;
        if self.tried.replace(place) == Some(place) {
            stats.retried.add(1);
        }
        let error = match self.post.post(notice).await {
            Ok(answer) if answer.status.is_success() => {
                self.queue.done(place).await;
                stats.sent.add(notice.events);
                stats.latency.observe(now().saturating_duration_since(notice.created_at));
                self.backoff.succeeded();
                return Ok(());
            }
            Ok(answer) => format!("status {}", answer.status.as_u16()),
            Err(error @ (PostError::Dial(_) | PostError::Http(_) | PostError::Timeout)) => {
                error.to_string()
            }
        };
        stats.failed.add(1);
        let wait = self.backoff.failed(rand::random());
        let (failures, retry_in_ms) = (self.backoff.failures(), wait.as_millis());
        tracing::warn!(
            app = app_id,
            webhook = %self.endpoint.name(),
            host = target.authority,
            error,
            failures,
            retry_in_ms,
            "webhook failed"
        );
        Err(wait)
    }

    /// Waits before the next attempt, and gives up meanwhile what becomes too old.
    async fn pause(&mut self, wait: Duration) {
        let end = now() + wait;
        while now() < end && !self.is_last() {
            self.expire().await;
            let first = self.queue.first_now().await;
            let expiry = first.map(|(_, notice)| notice.created_at + LIFETIME);
            let until = expiry.map_or(end, |expiry| expiry.min(end));
            tokio::select! {
                () = time::sleep_until(until.into()) => {}
                _ = self.end.wait_for(|end| *end != End::Open) => {}
            }
        }
    }

    async fn expire(&mut self) {
        let now = now();
        if let Some(before) = now.checked_sub(LIFETIME) {
            let events = self.queue.drop_older(before).await;
            self.endpoint.count_dropped(Dropped::Expired, events, now);
        }
    }
}

/// The time, which tests may stop.
pub(super) fn now() -> Instant {
    time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Secret,
        webhook::{client::Answer, queue::tests::notice},
    };
    use bytes::Bytes;
    use hyper::StatusCode;
    use std::sync::Mutex;

    /// When something was posted, and what.
    type Posted = Arc<Mutex<Vec<(Instant, Bytes)>>>;

    /// An endpoint that answers as it is told, after so long.
    struct Script<F> {
        posted: Posted,
        takes: Duration,
        status: F,
    }

    impl<F: FnMut(usize) -> u16 + Send> Post for Script<F> {
        async fn post(&mut self, notice: &Notice) -> Result<Answer, PostError> {
            let at = {
                let mut posted = self.posted.lock().unwrap();
                posted.push((now(), notice.body.clone()));
                posted.len() - 1
            };
            time::sleep(self.takes).await;
            let status = StatusCode::from_u16((self.status)(at)).unwrap();
            Ok(Answer { status, body: Bytes::new() })
        }

        fn rest(&mut self) {}
    }

    struct Bench {
        endpoint: Arc<Endpoint>,
        posted: Posted,
        end: watch::Sender<End>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Bench {
        /// A delivery to an endpoint that answers its n-th request, from 0, with `status(n)`.
        fn new(status: impl FnMut(usize) -> u16 + Send + 'static) -> Self {
            let webhook = WebhookConfig { url: "http://a.test".into(), ..WebhookConfig::default() };
            let endpoint =
                Arc::new(Endpoint::new(&AppConfig::development(), "a.test", &webhook).unwrap());
            let (posted, end) = (Posted::default(), watch::Sender::new(End::Open));
            let takes = Duration::from_millis(10);
            let script = Script { posted: Arc::clone(&posted), takes, status };
            let queue = Arc::clone(&endpoint.queue);
            let delivery = Delivery::new(Arc::clone(&endpoint), queue, script, end.subscribe());
            Self { endpoint, posted, end, task: tokio::spawn(delivery.run()) }
        }

        fn push(&self, text: &str) {
            self.endpoint.push(notice(text, 1, now()));
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
        notice(text, 1, now()).body
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_repeated_byte_for_byte_with_growing_gaps() {
        let bench = Bench::new(|at| if at < 3 { [500, 404, 302][at] } else { 204 });
        bench.push("1");
        time::sleep(Duration::from_secs(60)).await;
        let (bodies, gaps) = bench.posted();
        assert_eq!(bodies, vec![body("1"); 4]);
        for (gap, longest) in gaps.iter().zip([1.0, 2.0, 4.0]) {
            assert!(longest * 0.8 <= *gap && *gap <= longest + 0.02, "{gaps:?}");
        }
        let stats = &bench.endpoint.stats;
        let counts = [stats.sent.get(), stats.failed.get(), stats.retried.get()];
        assert_eq!((counts, bench.endpoint.queue.events()), ([1, 3, 3], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_five_minutes_is_given_up() {
        let bench = Bench::new(|_| 500);
        let start = now();
        bench.push("1");
        time::sleep(Duration::from_secs(3_600)).await;
        let (bodies, gaps) = bench.posted();
        let last = bench.posted.lock().unwrap().last().unwrap().0 - start;
        assert!((9..=13).contains(&bodies.len()), "{gaps:?}");
        assert!(gaps.iter().all(|gap| *gap <= 60.1), "{gaps:?}");
        assert!(Duration::from_secs(230) < last && last < LIFETIME, "{last:?}");
        assert_eq!((bench.dropped(Dropped::Expired), bench.endpoint.queue.events()), (1, 0));
        // The endpoint itself is not given up.
        bench.push("2");
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(bench.posted().0.last(), Some(&body("2")));
    }

    #[tokio::test(start_paused = true)]
    async fn order_is_kept_whatever_fails() {
        let bench = Bench::new(|at| if at < 2 { 503 } else { 200 });
        bench.push("1");
        bench.push("2");
        time::sleep(Duration::from_secs(2)).await;
        bench.push("3");
        time::sleep(Duration::from_secs(60)).await;
        assert_eq!(bench.posted().0, ["1", "1", "1", "2", "3"].map(body));
    }

    /// However much waits, a dead endpoint is asked no oftener than once in a minute.
    #[tokio::test(start_paused = true)]
    async fn a_dead_endpoint_is_left_alone() {
        let bench = Bench::new(|_| 500);
        for number in 0..6_000 {
            bench.push(&number.to_string());
            time::sleep(Duration::from_millis(100)).await;
        }
        let (bodies, gaps) = bench.posted();
        assert!(bodies.len() < 25, "{gaps:?}");
        assert!((2_900..3_100).contains(&bench.endpoint.queue.events()));
        assert!((2_900..3_100).contains(&bench.dropped(Dropped::Expired)));
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_each_has_one_attempt_until_the_first_failure() {
        let bench = Bench::new(|at| [500, 200, 200, 500, 200][at]);
        for text in ["1", "2", "3", "4"] {
            bench.push(text);
        }
        time::sleep(Duration::from_millis(500)).await;
        bench.end.send_replace(End::Last);
        bench.task.await.unwrap();
        let posted =
            bench.posted.lock().unwrap().iter().map(|(_, body)| body.clone()).collect::<Vec<_>>();
        assert_eq!(posted, ["1", "1", "2", "3"].map(body), "without waiting for the next attempt");
        assert_eq!(bench.endpoint.queue.events(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_an_endpoint_with_nothing_to_hear_is_done_at_once() {
        let bench = Bench::new(|_| 200);
        time::sleep(Duration::from_secs(60)).await;
        bench.end.send_replace(End::Last);
        bench.task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_to_stop_ends_its_attempt_and_leaves_the_rest() {
        let bench = Bench::new(|_| 200);
        bench.push("1");
        bench.push("2");
        time::sleep(Duration::from_millis(5)).await;
        bench.end.send_replace(End::Stop);
        bench.task.await.unwrap();
        assert_eq!(bench.posted.lock().unwrap().len(), 1);
        assert_eq!(bench.endpoint.queue.events(), 1);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let headers = [("Authorization".to_owned(), Secret::new("hunter2"))].into();
        let url = "http://a.test/hooks".to_owned();
        let webhook = WebhookConfig { url, headers, ..WebhookConfig::default() };
        let endpoint = Endpoint::new(&AppConfig::development(), "a.test", &webhook).unwrap();
        let client = endpoint.client(Arc::new(Live::new(Dialer::new(false, false).unwrap())));
        assert!(!format!("{endpoint:?}{client:?}").contains("hunter2"));
    }
}
