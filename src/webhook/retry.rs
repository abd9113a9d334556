//! Decides what to do when a request fails: retry it, probe the endpoint, or continue without it. A
//! state machine without I/O; randomness is an argument.
//!
//! A request that fails may be at fault itself, because of one of its events, or its endpoint may
//! be down. Only in the first case other requests may overtake it. A status such as 400 or 422
//! rejects the request. For any other failure, a *probe* decides: a signed request without events.
//! If the endpoint accepts it, the failed request is at fault.

use super::queue::RequestId;
use crate::backoff::Backoff;
use hyper::StatusCode;
use std::time::Duration;

/// Why a request was not delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// The connection failed, or the endpoint asked to be retried later. It says nothing about the
    /// request.
    Unavailable,
    /// The endpoint rejected the request itself.
    Rejected,
    /// Either the endpoint or the request is at fault.
    Unclear,
}

impl Failure {
    /// The meaning of a status other than success. 401, 403, 404, 405, 407 and 410 may come from a
    /// misconfigured endpoint for every request, or from a framework for an exception.
    pub(super) fn from_status(status: StatusCode) -> Self {
        match status.as_u16() {
            408 | 425 | 429 => Self::Unavailable,
            401 | 403 | 404 | 405 | 407 | 410 => Self::Unclear,
            400..500 => Self::Rejected,
            _ => Self::Unclear,
        }
    }
}

/// The next step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RetryDecision {
    /// Retry the same request after this time.
    Retry(Duration),
    /// Send a request without events, and call [`Retries::probed`].
    Probe,
    /// The request is at fault: split it, or move it to the dead letters if it has one event.
    /// Continue after this time.
    Isolate(Duration),
}

/// The circumstances of a failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryContext {
    /// Whether there are dead letters: the endpoint is known to reject some.
    pub(super) has_dead_letters: bool,
    /// Whether each request has one attempt left.
    pub(super) is_last: bool,
    /// A random number between 0 and 1.
    pub(super) random: f64,
}

/// The delays between the attempts at an endpoint. The jitter is small enough that they still grow.
const BACKOFF: Backoff =
    Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60), jitter: -0.2 };

/// The failures of one endpoint since its last success.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// Failures since the last success or the last request at fault. The delay grows with them.
    backoff_failures: u32,
    /// The request that was tried last.
    request_id: Option<RequestId>,
    /// The number of its failures.
    failures: u32,
    /// Whether the endpoint has accepted a probe since that request failed.
    is_probe_accepted: bool,
    /// How many of the oldest requests are parts of one that was at fault.
    suspects: usize,
    /// Consecutive failures since a success or an accepted probe.
    consecutive_failures: u32,
    /// Whether the probe only decides about the pace: the request is certainly at fault.
    probe_for_rate_limit: bool,
}

impl Retries {
    /// Number of rejections after which a request is considered at fault, without other evidence.
    const REJECTIONS: u32 = 2;
    /// Number of failures of a request after which the endpoint is probed, each time.
    const TRIES_PER_PROBE: u32 = 3;
    /// Number of consecutive failures after which the endpoint is probed; if it rejects the probe,
    /// it gets at most one request in the first delay of [`BACKOFF`]. Finding one event of a full batch takes
    /// fewer.
    const MAX_UNLIMITED_FAILURES: u32 = 32;

    /// Records an attempt at the request with `request_id`. Returns true if it was tried before.
    pub(super) fn record_attempt(&mut self, request_id: RequestId) -> bool {
        let is_repeated = self.request_id.replace(request_id) == Some(request_id);
        if !is_repeated {
            (self.failures, self.is_probe_accepted) = (0, false);
        }
        is_repeated
    }

    /// Records that the request was delivered.
    pub(super) fn succeeded(&mut self) {
        self.backoff_failures = 0;
        self.consecutive_failures = 0;
        self.suspects = self.suspects.saturating_sub(1);
    }

    /// Decides after a failure of the request.
    pub(super) fn failed(&mut self, failure: Failure, context: RetryContext) -> RetryDecision {
        self.failures += 1;
        self.consecutive_failures += 1;
        let is_suspect = context.has_dead_letters || 0 < self.suspects;
        match failure {
            Failure::Unavailable => self.retry(context),
            Failure::Rejected => {
                if is_suspect || context.is_last || Self::REJECTIONS <= self.failures {
                    self.isolate()
                } else {
                    self.retry(context)
                }
            }
            Failure::Unclear if self.is_probe_accepted => self.isolate(),
            Failure::Unclear => {
                let is_first = is_suspect && self.failures == 1;
                let is_probed = is_first || self.failures.is_multiple_of(Self::TRIES_PER_PROBE);
                if is_probed && !context.is_last {
                    RetryDecision::Probe
                } else {
                    self.retry(context)
                }
            }
        }
    }

    /// Decides after a probe. A request that was not suspect before gets one more attempt: the
    /// endpoint may have recovered just now.
    pub(super) fn probed(&mut self, is_accepted: bool, context: RetryContext) -> RetryDecision {
        let probe_decides_pace = std::mem::take(&mut self.probe_for_rate_limit);
        if is_accepted {
            self.consecutive_failures = 0;
        } else if probe_decides_pace {
            return RetryDecision::Isolate(BACKOFF.initial);
        } else {
            return self.retry(context);
        }
        if probe_decides_pace || context.has_dead_letters || 0 < self.suspects {
            return self.isolate();
        }
        self.is_probe_accepted = true;
        RetryDecision::Retry(Duration::ZERO)
    }

    /// Records that the request at fault was split into `parts` parts, or became a dead letter if
    /// that is 0.
    pub(super) fn record_split(&mut self, parts: usize) {
        self.suspects = self.suspects.saturating_sub(1) + parts;
    }

    /// The delay after the request at fault could not be split or moved to the dead letters.
    pub(super) fn next_delay(&mut self, context: RetryContext) -> Duration {
        let delay = BACKOFF.delay(self.backoff_failures, context.random);
        self.backoff_failures += 1;
        delay
    }

    /// The number of consecutive failures.
    pub(super) fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }

    fn retry(&mut self, context: RetryContext) -> RetryDecision {
        RetryDecision::Retry(self.next_delay(context))
    }

    fn isolate(&mut self) -> RetryDecision {
        // The endpoint is reachable.
        self.backoff_failures = 0;
        if self.consecutive_failures < Self::MAX_UNLIMITED_FAILURES {
            return RetryDecision::Isolate(Duration::ZERO);
        }
        if self.consecutive_failures.is_multiple_of(Self::MAX_UNLIMITED_FAILURES) {
            self.probe_for_rate_limit = true;
            return RetryDecision::Probe;
        }
        RetryDecision::Isolate(BACKOFF.initial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_from_a_second_to_a_minute_with_any_jitter() {
        assert_eq!(BACKOFF.delay(0, 0.0), Duration::from_secs(1));
        assert_eq!(BACKOFF.delay(99, 0.0), Duration::from_secs(60));
        for failures in 0..6 {
            let (longest, next) = (BACKOFF.delay(failures, 0.0), BACKOFF.delay(failures + 1, 1.0));
            assert!(longest < next, "{longest:?} {next:?}");
        }
    }

    const NEW: RetryContext = RetryContext { has_dead_letters: false, is_last: false, random: 0.0 };
    const KNOWN: RetryContext = RetryContext { has_dead_letters: true, ..NEW };
    const AT_ONCE: RetryDecision = RetryDecision::Isolate(Duration::ZERO);

    fn seconds(seconds: u64) -> RetryDecision {
        RetryDecision::Retry(Duration::from_secs(seconds))
    }

    fn tried(request_id: u64) -> Retries {
        let mut retries = Retries::default();
        assert!(!retries.record_attempt(RequestId(request_id)));
        retries
    }

    #[test]
    fn a_status_classifies_the_failure() {
        for status in (100..200).chain(300..600) {
            let expected = match status {
                408 | 425 | 429 => Failure::Unavailable,
                400 | 402 | 406 | 409 | 411..=424 | 426..=428 | 430..=499 => Failure::Rejected,
                _ => Failure::Unclear,
            };
            let found = Failure::from_status(StatusCode::from_u16(status).unwrap());
            assert_eq!(found, expected, "{status}");
        }
    }

    #[test]
    fn the_failures_of_a_request_are_not_those_of_the_next() {
        let mut retries = tried(1);
        for wait in [1, 2] {
            assert_eq!(retries.failed(Failure::Unclear, NEW), seconds(wait));
        }
        assert_eq!(retries.failed(Failure::Unclear, NEW), RetryDecision::Probe);
        assert_eq!(retries.probed(true, NEW), seconds(0));
        assert!(retries.record_attempt(RequestId(1)), "the same again");
        // It is dropped, because it is too old.
        assert!(!retries.record_attempt(RequestId(2)));
        assert_eq!(
            retries.failed(Failure::Unclear, NEW),
            seconds(4),
            "neither probed nor at fault"
        );
        assert!(retries.record_attempt(RequestId(2)));
        assert_eq!(retries.failed(Failure::Rejected, NEW), AT_ONCE, "its second failure");
    }

    #[test]
    fn delays_restart_after_a_success_and_after_a_request_at_fault() {
        let mut retries = tried(1);
        for wait in [1, 2, 4, 8] {
            assert_eq!(retries.failed(Failure::Unavailable, NEW), seconds(wait));
        }
        assert_eq!(retries.consecutive_failures(), 4);
        retries.succeeded();
        assert_eq!(retries.consecutive_failures(), 0);
        retries.record_attempt(RequestId(2));
        for wait in [1, 2] {
            assert_eq!(retries.failed(Failure::Unavailable, NEW), seconds(wait));
        }
        assert_eq!(retries.failed(Failure::Rejected, NEW), AT_ONCE);
        retries.record_split(0);
        retries.record_attempt(RequestId(3));
        assert_eq!(retries.failed(Failure::Unavailable, NEW), seconds(1));
        assert_eq!(retries.next_delay(NEW), Duration::from_secs(2), "as after any other failure");
        let half = RetryContext { random: 0.5, ..NEW };
        assert_eq!(retries.next_delay(half), Duration::from_millis(3_600));
    }

    #[test]
    fn the_parts_of_a_request_at_fault_are_suspect_and_no_others() {
        let mut retries = tried(1);
        retries.failed(Failure::Rejected, NEW);
        assert_eq!(retries.failed(Failure::Rejected, NEW), AT_ONCE);
        retries.record_split(2);
        // The first half is split again, the second is fine.
        retries.record_attempt(RequestId(2));
        assert_eq!(retries.failed(Failure::Rejected, NEW), AT_ONCE);
        retries.record_split(2);
        for request_id in [3, 4] {
            retries.record_attempt(RequestId(request_id));
            retries.succeeded();
        }
        retries.record_attempt(RequestId(5));
        assert_eq!(retries.failed(Failure::Unclear, NEW), RetryDecision::Probe, "still suspect");
        assert_eq!(retries.probed(true, NEW), AT_ONCE);
        retries.record_split(0);
        retries.record_attempt(RequestId(6));
        assert_eq!(retries.failed(Failure::Unclear, NEW), seconds(1), "not a part of it");
    }

    #[test]
    fn a_rejected_request_is_isolated_at_the_second_rejection() {
        let mut retries = tried(1);
        assert_eq!(retries.failed(Failure::Rejected, NEW), seconds(1));
        assert!(retries.record_attempt(RequestId(1)));
        assert_eq!(retries.failed(Failure::Rejected, NEW), AT_ONCE);
        retries.record_split(2);
        // Its parts are suspect, and so is every request while the endpoint rejects some.
        retries.record_attempt(RequestId(2));
        assert_eq!(retries.failed(Failure::Rejected, NEW), AT_ONCE);
        retries.record_split(0);
        retries.record_attempt(RequestId(3));
        retries.succeeded();
        retries.record_attempt(RequestId(4));
        assert_eq!(retries.failed(Failure::Rejected, NEW), seconds(1));
        retries.record_attempt(RequestId(5));
        assert_eq!(retries.failed(Failure::Rejected, KNOWN), AT_ONCE);
    }

    #[test]
    fn an_unreachable_endpoint_is_retried_with_growing_delays_in_order() {
        let mut retries = tried(1);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(retries.failed(Failure::Unavailable, KNOWN), seconds(wait));
        }
    }

    #[test]
    fn ambiguous_failures_are_decided_by_a_probe() {
        let mut retries = tried(1);
        assert_eq!(retries.failed(Failure::Unclear, NEW), seconds(1));
        assert_eq!(retries.failed(Failure::Unclear, NEW), seconds(2));
        assert_eq!(retries.failed(Failure::Unclear, NEW), RetryDecision::Probe);
        assert_eq!(retries.probed(false, NEW), seconds(4), "the endpoint is out of order");
        assert_eq!(retries.failed(Failure::Unclear, NEW), seconds(8));
        assert_eq!(retries.failed(Failure::Unclear, NEW), seconds(16));
        assert_eq!(retries.failed(Failure::Unclear, NEW), RetryDecision::Probe);
        assert_eq!(retries.probed(true, NEW), seconds(0), "it may have recovered just now");
        assert_eq!(retries.failed(Failure::Unclear, NEW), AT_ONCE);
        // From here on the first failure is enough for a probe.
        retries.record_split(0);
        retries.record_attempt(RequestId(2));
        assert_eq!(retries.failed(Failure::Unclear, KNOWN), RetryDecision::Probe);
        assert_eq!(retries.probed(true, KNOWN), AT_ONCE);
    }

    #[test]
    fn an_endpoint_that_rejects_everything_gets_one_request_a_second() {
        let mut retries = Retries::default();
        let paced = RetryDecision::Isolate(BACKOFF.initial);
        let mut rejected = |request_id| {
            retries.record_attempt(RequestId(request_id));
            retries.failed(Failure::Rejected, KNOWN)
        };
        assert!((1..32).all(|request_id| rejected(request_id) == AT_ONCE));
        assert_eq!(rejected(32), RetryDecision::Probe);
        assert_eq!(retries.probed(false, KNOWN), paced);
        let mut rejected = |request_id| {
            retries.record_attempt(RequestId(request_id));
            retries.failed(Failure::Rejected, KNOWN)
        };
        assert!((33..40).all(|request_id| rejected(request_id) == paced));
        retries.record_attempt(RequestId(40));
        retries.succeeded();
        retries.record_attempt(RequestId(41));
        assert_eq!(retries.failed(Failure::Rejected, KNOWN), AT_ONCE);
    }

    #[test]
    fn an_endpoint_that_accepts_a_probe_is_not_slowed_down_by_what_it_rejects() {
        let mut retries = Retries::default();
        for request_id in 1..=320 {
            retries.record_attempt(RequestId(request_id));
            let mut next = retries.failed(Failure::Rejected, KNOWN);
            if next == RetryDecision::Probe {
                next = retries.probed(true, KNOWN);
            }
            assert_eq!(next, AT_ONCE);
        }
    }

    #[test]
    fn at_the_end_rejected_requests_block_no_others_and_no_probe_is_sent() {
        let last = RetryContext { is_last: true, ..NEW };
        assert_eq!(tried(1).failed(Failure::Rejected, last), AT_ONCE);
        assert_eq!(
            tried(1).failed(Failure::Unclear, RetryContext { is_last: true, ..KNOWN }),
            seconds(1)
        );
    }
}
