//! The signals that end the command.

use std::{io, task::Poll};
use tokio::signal::unix::{SignalKind, signal};

/// Completes when the process is asked to end.
///
/// # Errors
///
/// The system cannot watch signals.
pub(super) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .into_iter()
        .map(signal)
        .collect::<io::Result<Vec<_>>>()?;
    Ok(std::future::poll_fn(move |context| {
        let is_any = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if is_any { Poll::Ready(()) } else { Poll::Pending }
    }))
}
