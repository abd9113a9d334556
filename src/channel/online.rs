//! Whether a user is online.

use std::time::{Duration, Instant};

/// How long a user may be without a connection before it is reported as offline, so that a page
/// reload is not reported. Pusher's webhooks have the same delay.
pub const OFFLINE_GRACE: Duration = Duration::from_secs(3);

/// The online state of a user, for watchers and webhooks. It remains online for [`OFFLINE_GRACE`]
/// after its last connection has ended.
#[derive(Debug, Default)]
pub struct OnlineState {
    connections: usize,
    /// When the user's last connection ended; `None` while it has one, and once it is offline.
    disconnected_since: Option<Instant>,
}

impl OnlineState {
    /// Whether the user has a connection, or had one within [`OFFLINE_GRACE`].
    #[must_use]
    pub fn is_online(&self) -> bool {
        0 < self.connections || self.disconnected_since.is_some()
    }

    /// Adds a connection. Returns whether the user has gone online.
    pub fn connect(&mut self) -> bool {
        let was_online = self.is_online();
        self.disconnected_since = None;
        self.connections += 1;
        !was_online
    }

    /// Removes a connection. For the last one, returns the time at which the user goes offline if no
    /// connection signs in before.
    pub fn disconnect(&mut self, now: Instant) -> Option<Instant> {
        self.connections -= 1;
        (self.connections == 0).then(|| *self.disconnected_since.insert(now) + OFFLINE_GRACE)
    }

    /// Makes the user offline if it is due. Returns whether the user has gone offline.
    pub fn go_offline_if_due(&mut self, now: Instant) -> bool {
        self.disconnected_since.take_if(|since| *since + OFFLINE_GRACE <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_connection_makes_a_user_online_and_the_end_of_the_last_one_offline() {
        let (mut user, start) = (OnlineState::default(), Instant::now());
        assert!(!user.is_online());
        assert!(user.connect() && !user.connect());
        assert_eq!(user.disconnect(start), None);
        let due = start + OFFLINE_GRACE;
        assert_eq!(user.disconnect(start), Some(due));
        assert!(!user.go_offline_if_due(due - MS) && user.is_online());
        assert!(user.go_offline_if_due(due) && !user.is_online());
        assert!(!user.go_offline_if_due(due), "once");
        assert!(user.connect());
    }

    #[test]
    fn a_user_that_returns_in_time_was_online_throughout() {
        let (mut user, start) = (OnlineState::default(), Instant::now());
        user.connect();
        user.disconnect(start);
        assert!(!user.connect());
        assert!(!user.go_offline_if_due(start + OFFLINE_GRACE), "it has a connection");
        let second = start + 2 * MS;
        assert_eq!(user.disconnect(second), Some(second + OFFLINE_GRACE));
        assert!(
            !user.go_offline_if_due(start + OFFLINE_GRACE),
            "the second delay runs from the second end"
        );
        assert!(user.go_offline_if_due(second + OFFLINE_GRACE));
    }
}
