//! Conversions between number types, each with its justification in one place, and the clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `n` as a floating-point number.
#[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^53")]
pub(crate) fn float(n: u64) -> f64 {
    n as f64
}

/// A length or an index as a floating-point number.
pub(crate) fn float_of(n: usize) -> f64 {
    float(wide(n))
}

/// `n / d`, or 0 if `d` is 0.
pub(crate) fn ratio(n: f64, d: f64) -> f64 {
    if d == 0.0 { 0.0 } else { n / d }
}

/// The nearest whole number, or 0 below 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is what is wanted"
)]
pub(crate) fn whole(x: f64) -> u64 {
    x.round() as u64
}

/// `n` as `usize`, which has 64 bits on all supported machines.
pub(crate) fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// `n` as `u64`.
pub(crate) fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// `n` as `u32`, or the largest `u32` if it does not fit.
pub(crate) fn narrow(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Microseconds since 1970, from a clock that all processes of one machine share.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    now_us() / 1_000_000
}

/// `duration` in microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// `us` microseconds in milliseconds.
pub(crate) fn millis(us: u64) -> f64 {
    float(us) / 1_000.0
}
