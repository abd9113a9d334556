//! The thread of the console. It starts with the first use, so that a server without one pays
//! nothing, and keeps its work away from the shards.

use parking_lot::Mutex;
use std::{io, sync::mpsc, thread};
use tokio::runtime::{Builder, Handle};

/// The runtime of the console's thread.
#[derive(Debug, Default)]
pub(super) struct Worker(Mutex<Option<Handle>>);

impl Worker {
    /// The runtime, which is started if needed. Others wait meanwhile, which takes less than a millisecond.
    ///
    /// # Errors
    ///
    /// The system cannot start a thread.
    pub(super) fn handle(&self) -> io::Result<Handle> {
        let mut started = self.0.lock();
        if let Some(handle) = &*started {
            return Ok(handle.clone());
        }
        let (report, reported) = mpsc::channel();
        // The runtime is built, and would be dropped, on its own thread.
        let run = move || {
            let runtime =
                Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
            match runtime {
                Ok(runtime) => {
                    let _ = report.send(Ok(runtime.handle().clone()));
                    runtime.block_on(std::future::pending::<()>());
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            }
        };
        thread::Builder::new().name("console".to_owned()).spawn(run)?;
        let handle = reported.recv().map_err(io::Error::other)??;
        Ok(started.insert(handle).clone())
    }
}
