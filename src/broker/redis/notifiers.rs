//! Wakes the webhook tasks of an app when a control message is for them.

use super::nodes::process_of;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Wakes the webhook tasks of one app.
#[derive(Debug, Default)]
pub(super) struct AppNotifier {
    pub(super) logged: Notify,
    pub(super) released: Notify,
}

/// The notifiers of all apps, and the last heartbeat of each process.
#[derive(Debug, Default)]
pub(super) struct AppNotifiers {
    apps: Mutex<HashMap<Arc<str>, Weak<AppNotifier>>>,
    heartbeats: Mutex<HashMap<String, Instant>>,
}

/// Time without a heartbeat after which other nodes try to take the webhook lease of a process.
/// Heartbeats are sent every second.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(3_500);
/// After this time without a heartbeat, the entry of a process is removed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

impl AppNotifiers {
    /// The notifier of an app. It exists while it is held.
    pub(super) fn notifier(&self, app_id: &Arc<str>) -> Arc<AppNotifier> {
        let mut apps = self.apps.lock();
        if let Some(notifier) = apps.get(app_id).and_then(Weak::upgrade) {
            return notifier;
        }
        apps.retain(|_, notifier| 0 < notifier.strong_count());
        let notifier = Arc::default();
        apps.insert(Arc::clone(app_id), Arc::downgrade(&notifier));
        notifier
    }

    /// A record was added to an empty log.
    pub(super) fn notify_logged(&self, app_id: &str) {
        if let Some(notifier) = self.apps.lock().get(app_id).and_then(Weak::upgrade) {
            notifier.logged.notify_one();
        }
    }

    /// The lease was released.
    pub(super) fn notify_webhook_lease_released(&self, app_id: &str) {
        if let Some(notifier) = self.apps.lock().get(app_id).and_then(Weak::upgrade) {
            notifier.released.notify_one();
        }
    }

    /// Records a heartbeat of a node.
    pub(super) fn on_heartbeat(&self, node: &str, now: Instant) {
        let mut heartbeats = self.heartbeats.lock();
        let process = process_of(node);
        if let Some(at) = heartbeats.get_mut(process) {
            *at = now;
            return;
        }
        heartbeats.retain(|_, at| now.saturating_duration_since(*at) < IDLE_TIMEOUT);
        heartbeats.insert(process.to_owned(), now);
    }

    /// Whether the process has sent no heartbeat for longer than [`HEARTBEAT_TIMEOUT`]; without any
    /// heartbeat, counted from `since`.
    pub(super) fn has_missed_heartbeats(
        &self,
        process: &str,
        since: Instant,
        now: Instant,
    ) -> bool {
        let last = self.last_heartbeat(process).unwrap_or(since);
        HEARTBEAT_TIMEOUT < now.saturating_duration_since(last)
    }

    fn last_heartbeat(&self, process: &str) -> Option<Instant> {
        self.heartbeats.lock().get(process).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_notifier_is_removed() {
        let notifiers = AppNotifiers::default();
        let first = notifiers.notifier(&"a".into());
        assert!(Arc::ptr_eq(&first, &notifiers.notifier(&"a".into())));
        drop(first);
        let _other = notifiers.notifier(&"b".into());
        assert_eq!(notifiers.apps.lock().keys().map(|id| &**id).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_process_with_heartbeats_is_not_silent() {
        let notifiers = AppNotifiers::default();
        let start = Instant::now();
        notifiers.on_heartbeat("ab.1", start);
        notifiers.on_heartbeat("ab.2", start + Duration::from_secs(1));
        assert_eq!(notifiers.last_heartbeat("ab"), Some(start + Duration::from_secs(1)));
        notifiers.on_heartbeat("cd.1", start + IDLE_TIMEOUT * 2);
        assert_eq!(notifiers.last_heartbeat("ab"), None, "memory returns");
    }

    #[test]
    fn an_app_keeps_its_notifier_while_it_is_held() {
        use futures_util::FutureExt as _;
        let notifiers = AppNotifiers::default();
        let (one, other): (Arc<str>, Arc<str>) = ("1".into(), "2".into());
        let notifier = notifiers.notifier(&one);
        assert!(Arc::ptr_eq(&notifier, &notifiers.notifier(&one)));
        let second = notifiers.notifier(&other);
        assert!(Arc::ptr_eq(&notifier, &notifiers.notifier(&one)), "the other one changes nothing");
        notifiers.notify_logged("1");
        assert!(second.logged.notified().now_or_never().is_none());
        assert!(notifier.released.notified().now_or_never().is_none());
        assert!(notifier.logged.notified().now_or_never().is_some());
        notifiers.notify_webhook_lease_released("1");
        assert!(notifier.logged.notified().now_or_never().is_none());
        assert!(notifier.released.notified().now_or_never().is_some());
        drop((notifier, second));
        notifiers.notifier(&"3".into());
        assert_eq!(notifiers.apps.lock().len(), 1, "only what is held is kept");
    }

    #[test]
    fn a_process_is_silent_after_its_last_message() {
        let (notifiers, before) = (AppNotifiers::default(), Instant::now());
        let now = before + 2 * HEARTBEAT_TIMEOUT;
        assert!(notifiers.has_missed_heartbeats("ab", before, now), "no message since then");
        assert!(!notifiers.has_missed_heartbeats("ab", now, now));
        notifiers.on_heartbeat("ab.1", before);
        assert!(notifiers.has_missed_heartbeats("ab", now, now));
        notifiers.on_heartbeat("ab.2", now);
        assert!(!notifiers.has_missed_heartbeats("ab", before, now), "another heartbeat");
    }
}
