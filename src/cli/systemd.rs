//! The state of the server for systemd: a unit with `Type=notify` counts as started when the port is
//! open. Without systemd, nothing is sent.

use sd_notify::NotifyState;

/// The server listens, or has finished a reload.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Notifies systemd that a reload has started.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd was not notified"),
    }
}

/// The server drains its connections.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd was not notified");
    }
}
