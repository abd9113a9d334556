//! Ctrl-C: every loop checks here whether the run was interrupted.

use crate::failure::Failure;
use std::{
    process,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Whether the run was interrupted.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Relaxed)
}

/// Fails if the run was interrupted.
pub(crate) fn check() -> Result<(), Failure> {
    if requested() { Err(Failure::Interrupted) } else { Ok(()) }
}

/// Sleeps, but not beyond the end of the run.
pub(crate) fn sleep(duration: Duration) -> Result<(), Failure> {
    let until = Instant::now() + duration;
    loop {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Listens for the signals that end a run. The second one ends it at once.
pub(crate) fn listen() -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::io("listen for signals"))?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).map_err(Failure::io("listen for signals"));
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if REQUESTED.swap(true, Relaxed) {
                    abandon();
                }
            }
        });
    });
    Ok(())
}

#[expect(clippy::exit, reason = "whoever asks twice does not want to wait for anything")]
fn abandon() {
    process::exit(130);
}
