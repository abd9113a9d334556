//! The thread of the console. It starts with the first use, so that a server without one pays
//! nothing, and keeps its work away from the shards.

use std::{io, sync::OnceLock, thread};
use tokio::runtime::{Builder, Handle};

/// The runtime of the console's thread.
#[derive(Debug, Default)]
pub(super) struct Worker(OnceLock<Handle>);

impl Worker {
    /// The runtime, which is started if needed.
    ///
    /// # Errors
    ///
    /// The system cannot start a thread.
    pub(super) fn handle(&self) -> io::Result<&Handle> {
        if let Some(handle) = self.0.get() {
            return Ok(handle);
        }
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().max_blocking_threads(1).build()?;
        let handle = runtime.handle().clone();
        // Of two threads that start at once, one ends again.
        if self.0.set(handle).is_ok() {
            let run = move || runtime.block_on(std::future::pending::<()>());
            thread::Builder::new().name("console".to_owned()).spawn(run)?;
        }
        self.0.get().ok_or_else(|| io::ErrorKind::Other.into())
    }
}
