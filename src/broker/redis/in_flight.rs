//! Limits the writes of topics in flight to Redis, in bytes.
//!
//! Large member lists could otherwise block a slow link for longer than any timeout, or exceed the
//! output buffer that Redis grants to a pub/sub client.

use std::time::Duration;

/// The throughput of a slow link in bytes per second, by which timeouts are extended: a quarter of
/// 1 Mbit/s.
const SLOW_LINK_BYTES_PER_S: usize = 32_000;

/// Commands about topics in flight, and their limit.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// The number of commands about topics in flight.
    pub(super) commands: usize,
    /// The bytes of these commands and of their replies.
    pub(super) bytes: usize,
    /// The maximum bytes in flight; it grows while replies are prompt.
    window: usize,
}

/// Maximum number of commands about topics in flight.
const COMMANDS_MAX: usize = 1_024;
/// The limits of the window, in bytes of commands and their replies: from a size that does not
/// delay a slow link for long to a part of the output buffer of a pub/sub client (32 MiB).
const WINDOW_MIN: usize = 256 * 1_024;
const WINDOW_MAX: usize = 8 * 1_024 * 1_024;
/// A reply that takes longer reduces the window.
const PROMPT_REPLY: Duration = Duration::from_millis(500);

/// Maximum extension of a timeout for bytes in flight.
const EXTENSION_MAX: Duration = Duration::from_secs(30);

impl InFlight {
    pub(super) fn is_full(&self) -> bool {
        COMMANDS_MAX <= self.commands || self.window.max(WINDOW_MIN) <= self.bytes
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.commands += 1;
        self.bytes += bytes;
    }

    pub(super) fn end(&mut self, bytes: usize, took: Duration) {
        self.commands = self.commands.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.window = if took < PROMPT_REPLY {
            (self.window.max(WINDOW_MIN) + bytes).min(WINDOW_MAX)
        } else {
            (self.window / 2).max(WINDOW_MIN)
        };
    }

    /// The time that a slow link needs for them.
    pub(super) fn transfer_time(&self) -> Duration {
        transfer_time_of(self.bytes).min(EXTENSION_MAX)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The time that a slow link needs for this many bytes.
pub(super) fn transfer_time_of(bytes: usize) -> Duration {
    Duration::from_millis(u64::try_from(bytes * 1_000 / SLOW_LINK_BYTES_PER_S).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_replies_increase_the_window() {
        let mut in_flight = InFlight::default();
        in_flight.add(WINDOW_MIN - 1);
        assert!(!in_flight.is_full());
        in_flight.add(1);
        assert!(in_flight.is_full());
        in_flight.end(1, Duration::from_millis(1));
        in_flight.end(WINDOW_MIN - 1, Duration::from_millis(1));
        in_flight.add(WINDOW_MIN);
        assert!(!in_flight.is_full(), "the window is larger now");
        in_flight.end(WINDOW_MIN, Duration::from_secs(2));
        in_flight.add(WINDOW_MIN);
        assert!(in_flight.is_full(), "and small again after a slow reply");
    }

    #[test]
    fn the_number_of_commands_is_limited_too() {
        let mut in_flight = InFlight::default();
        for _ in 0..COMMANDS_MAX {
            assert!(!in_flight.is_full());
            in_flight.add(1);
        }
        assert!(in_flight.is_full());
    }

    #[test]
    fn answered_commands_are_not_in_flight() {
        let mut in_flight = InFlight::default();
        for _ in 0..2 * COMMANDS_MAX {
            in_flight.add(3);
            in_flight.end(3, Duration::ZERO);
        }
        assert_eq!((in_flight.commands, in_flight.bytes), (0, 0));
        in_flight.add(WINDOW_MAX);
        in_flight.clear();
        assert_eq!((in_flight.commands, in_flight.bytes, in_flight.window), (0, 0, 0));
    }

    #[test]
    fn the_window_stays_within_its_limits() {
        let mut in_flight = InFlight::default();
        in_flight.end(2 * WINDOW_MAX, PROMPT_REPLY - Duration::from_millis(1));
        assert_eq!(in_flight.window, WINDOW_MAX);
        in_flight.end(1, PROMPT_REPLY);
        assert_eq!(in_flight.window, WINDOW_MAX / 2, "a slow reply");
        for _ in 0..9 {
            in_flight.end(1, PROMPT_REPLY);
        }
        assert_eq!(in_flight.window, WINDOW_MIN);
    }

    #[test]
    fn a_slow_link_has_time_for_bytes_in_flight() {
        assert_eq!(transfer_time_of(SLOW_LINK_BYTES_PER_S), Duration::from_secs(1));
        assert_eq!(transfer_time_of(SLOW_LINK_BYTES_PER_S / 2), Duration::from_millis(500));
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.transfer_time(), Duration::ZERO);
        in_flight.add(2 * SLOW_LINK_BYTES_PER_S);
        assert_eq!(in_flight.transfer_time(), Duration::from_secs(2));
        in_flight.add(1_000 * SLOW_LINK_BYTES_PER_S);
        assert_eq!(in_flight.transfer_time(), EXTENSION_MAX);
    }
}
