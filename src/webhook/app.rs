//! The webhooks of one app.

use super::{
    WebhookEvent,
    settings::AppWebhookSettings,
    stats::{Counter, LOG_INTERVAL},
    store::Store,
};
use crate::{hub::HubEvent, throttle::LogThrottle};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::watch;

/// The webhooks of one app.
#[derive(Debug)]
pub(super) struct AppWebhooks {
    pub(super) id: String,
    settings: watch::Sender<Arc<AppWebhookSettings>>,
    pub(super) store: Store,
    /// The number of events that reached no webhook: the log or the table of present keys was full, or
    /// they were not logged before a shutdown.
    pub(super) lost: Counter,
    /// The number of them that [`AppWebhooks::lost_to_log`] has counted.
    lost_counted: AtomicU64,
    losses: LogThrottle,
    /// True ends the app's tasks.
    pub(super) ending: watch::Sender<bool>,
    /// Whether the tasks end because the app was removed.
    pub(super) is_removed: AtomicBool,
}

impl AppWebhooks {
    pub(super) fn new(id: String, settings: Arc<AppWebhookSettings>, store: Store) -> Self {
        Self {
            id,
            store,
            settings: watch::Sender::new(settings),
            lost: Counter::default(),
            lost_counted: AtomicU64::new(0),
            losses: LogThrottle::with_interval(LOG_INTERVAL),
            ending: watch::Sender::new(false),
            is_removed: AtomicBool::new(false),
        }
    }

    /// The current settings.
    pub(super) fn settings(&self) -> Arc<AppWebhookSettings> {
        Arc::clone(&self.settings.borrow())
    }

    /// The current settings, with notifications of changes.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<AppWebhookSettings>> {
        self.settings.subscribe()
    }

    /// Applies other settings, if they differ. Without a cluster, the filters and the secret apply
    /// to events that are observed afterwards, and to departures that are delayed. Headers and
    /// names apply at once.
    pub(super) fn change(&self, mut settings: AppWebhookSettings) {
        self.settings.send_if_modified(|current| {
            let is_other = settings.differs_from(current);
            if is_other {
                settings.take_over(current);
                *current = Arc::new(settings);
                self.store.append_settings(current);
            }
            is_other
        });
    }

    /// Observes an event, which happened at `at_us` if it was decided elsewhere. If the log is
    /// full, it is dropped and counted.
    pub(super) fn observe(&self, at_us: u64, hub_event: HubEvent) {
        // The guard is held until the event is appended, so that a reload appends its settings
        // before or after it. With Redis, the settings of the delivering node apply.
        let settings = self.settings.borrow();
        if !settings.wanted.contains(hub_event.kind()) {
            return;
        }
        if self.store.append(at_us, hub_event).is_err() {
            self.lost.add(1);
        }
    }

    /// Logs the events that were lost since the last line, at a limited rate.
    pub(super) fn log_lost(&self, now: Instant) {
        if let Some(events) = self.lost_to_log(now) {
            tracing::warn!(app = self.id, events, "webhook events lost");
        }
    }

    /// The number of events that were lost since the last line, if a line is due.
    pub(super) fn lost_to_log(&self, now: Instant) -> Option<u64> {
        let lost = self.lost.get();
        let counted = self.lost_counted.fetch_max(lost, Ordering::Relaxed);
        self.losses.record(lost.saturating_sub(counted), now)
    }

    /// Whether events of this kind are observed.
    pub(super) fn wants(&self, kind: WebhookEvent) -> bool {
        self.settings.borrow().wanted.contains(kind)
    }
}
