//! The time at which the timers of the node are due: the task that runs them sleeps until then.

use crate::clock;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time};

/// The time at which timers are due. Code that adds a timer sets it, after the timer can be seen; one task waits for
/// it. While nothing is set, that task does nothing.
#[derive(Debug)]
pub struct Alarm {
    origin: Instant,
    /// In milliseconds after `origin`, rounded up; [`Alarm::UNSET`] if nothing is set.
    at_ms: AtomicU64,
    is_earlier: Notify,
}

impl Alarm {
    const UNSET: u64 = u64::MAX;

    /// An alarm that is not set.
    #[must_use]
    pub fn new() -> Self {
        let at_ms = AtomicU64::new(Self::UNSET);
        Self { origin: clock::now(), at_ms, is_earlier: Notify::new() }
    }

    /// Sets the alarm to `at`, unless it is set to an earlier time. Costs a load if it is.
    pub fn set(&self, at: Instant) {
        let after = at.saturating_duration_since(self.origin);
        let ms = after.as_secs() * 1_000 + u64::from(after.subsec_nanos().div_ceil(1_000_000));
        let is_earlier = ms < self.at_ms.load(Ordering::Relaxed)
            && ms < self.at_ms.fetch_min(ms, Ordering::SeqCst);
        if is_earlier {
            self.is_earlier.notify_one();
        }
    }

    /// Waits until the set time, and for `pause` at least, and clears the alarm. The caller then looks at all timers, so
    /// one that was added before is seen, and one that is added later sets the alarm again: both lock the same timers.
    pub async fn wait(&self, pause: Duration) {
        time::sleep(pause).await;
        loop {
            match self.at_ms.load(Ordering::SeqCst) {
                Self::UNSET => self.is_earlier.notified().await,
                ms => tokio::select! {
                    () = time::sleep_until((self.origin + Duration::from_millis(ms)).into()) => break,
                    () = self.is_earlier.notified() => {}
                },
            }
        }
        self.at_ms.store(Self::UNSET, Ordering::SeqCst);
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::Future, pin::pin, task::Poll};

    const PAUSE: Duration = Duration::from_millis(100);

    /// The milliseconds that a wait takes, or `None` if it does not end in a day.
    async fn waited(alarm: &Alarm) -> Option<u128> {
        let began = clock::now();
        let waiting = time::timeout(Duration::from_hours(24), alarm.wait(PAUSE)).await;
        waiting.is_ok().then(|| (clock::now() - began).as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_the_earliest_time_and_never_without_one() {
        let (alarm, start) = (Alarm::new(), clock::now());
        for ms in [700, 300, 500] {
            alarm.set(start + Duration::from_millis(ms));
        }
        assert_eq!(waited(&alarm).await, Some(300));
        assert_eq!(waited(&alarm).await, None, "it is cleared");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_takes_the_pause_at_least() {
        let alarm = Alarm::new();
        alarm.set(clock::now());
        assert_eq!(waited(&alarm).await, Some(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_is_set_during_a_wait_ends_it() {
        for first in [None, Some(Duration::from_secs(60))] {
            let (alarm, start) = (Alarm::new(), clock::now());
            if let Some(first) = first {
                alarm.set(start + first);
            }
            let mut waiting = pin!(waited(&alarm));
            let pending = std::future::poll_fn(|context| {
                Poll::Ready(waiting.as_mut().poll(context).is_pending())
            });
            assert!(pending.await);
            time::sleep(Duration::from_secs(1)).await;
            alarm.set(start + Duration::from_secs(2));
            assert_eq!(waiting.await, Some(2_000), "{first:?}");
        }
    }

    #[test]
    fn it_is_never_early() {
        let alarm = Alarm::new();
        alarm.set(alarm.origin + Duration::from_nanos(5_000_001));
        assert_eq!(alarm.at_ms.load(Ordering::SeqCst), 6);
        alarm.set(alarm.origin + Duration::from_millis(5));
        assert_eq!(alarm.at_ms.load(Ordering::SeqCst), 5);
    }
}
