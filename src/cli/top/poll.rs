//! Asks a server in each interval.

use super::{
    exposition::Page,
    rates::{Activity, Report, Scrape},
};
use crate::{
    cli::target::{AppTarget, MetricsTarget, body_of},
    hub::ActivityOrder,
};
use hyper::Method;
use std::time::Duration;
use tokio::time::{self, Instant};

/// Asks a server, and compares each answer with the one before.
#[derive(Debug)]
pub(super) struct Poller<'a> {
    target: &'a AppTarget,
    metrics: &'a MetricsTarget,
    interval: Duration,
    pub(super) order: ActivityOrder,
    last: Option<(Scrape, Instant)>,
}

/// Maximum number of listed channels, and of slow connections.
const LISTED_MAX: &str = "50";
/// Maximum time that the server observes channels: less than the timeout of a request.
const OBSERVED_MAX: Duration = Duration::from_secs(4);

impl<'a> Poller<'a> {
    pub(super) fn new(
        target: &'a AppTarget,
        metrics: &'a MetricsTarget,
        interval: Duration,
    ) -> Self {
        Self { target, metrics, interval, order: ActivityOrder::default(), last: None }
    }

    /// Takes the first sample.
    ///
    /// # Errors
    ///
    /// What is wrong with the server or the answer.
    pub(super) async fn begin(&mut self) -> Result<(), String> {
        self.last = Some(self.sample().await?);
        Ok(())
    }

    /// Waits for the interval, during which the server observes its channels, and reports on it.
    ///
    /// # Errors
    ///
    /// As [`Poller::begin`].
    pub(super) async fn next(&mut self) -> Result<Report, String> {
        let end = Instant::now() + self.interval;
        if self.last.is_none()
            && let Err(error) = self.begin().await
        {
            time::sleep_until(end).await;
            return Err(error);
        }
        let (activity, ()) = tokio::join!(self.activity(), time::sleep_until(end));
        let (after, at) = self.sample().await?;
        let (before, since) = self.last.as_ref().expect("taken above");
        let report = Report::between(before, &after, at - *since, activity?);
        self.last = Some((after, at));
        Ok(report)
    }

    async fn sample(&self) -> Result<(Scrape, Instant), String> {
        let answer = self.metrics.request().await?;
        let page = body_of(&answer).map_err(|error| format!("metrics: {error}"))?;
        let sample = Scrape { page: Page::parse(&page) };
        if !sample.page.is_of_campanile() {
            return Err("metrics: the page is not that of a Campanile".to_owned());
        }
        Ok((sample, Instant::now()))
    }

    async fn activity(&self) -> Result<Activity, String> {
        let observed = self.interval.min(OBSERVED_MAX).as_millis().to_string();
        let parameters =
            [("interval_ms", &*observed), ("limit", LISTED_MAX), ("order", self.order.as_str())];
        let answer = self.target.call(Method::GET, "activity", &parameters, String::new()).await?;
        let body = body_of(&answer).map_err(|error| format!("activity: {error}"))?;
        serde_json::from_str(&body).map_err(|error| format!("activity: {error}"))
    }
}
