//! The coordinator's link to Redis, and its background work over that link.

use super::Completion;
use crate::broker::redis::{
    link::{LinkEvents, RedisConnection, RedisEndpoint},
    reason::LinkLog,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::timeout};

/// The link to Redis, and the background work over it.
#[derive(Debug)]
pub(in crate::broker::redis) struct CurrentLink {
    pub(super) endpoint: Arc<RedisEndpoint>,
    pub(in crate::broker::redis) connection: Option<RedisConnection>,
    pub(in crate::broker::redis) events: Option<LinkEvents>,
    /// The number of the link, to discard results of earlier ones.
    pub(in crate::broker::redis) link_number: u64,
    completions: mpsc::UnboundedSender<(u64, Completion)>,
    pub(super) log: LinkLog,
}

/// Maximum time for one background task. The link is closed if it takes longer.
const WORK_TIMEOUT: Duration = Duration::from_secs(120);

impl CurrentLink {
    pub(super) fn new(
        endpoint: RedisEndpoint,
        completions: mpsc::UnboundedSender<(u64, Completion)>,
    ) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            connection: None,
            events: None,
            link_number: 0,
            completions,
            log: LinkLog::default(),
        }
    }

    /// Starts a background task. Its result is discarded if the link was replaced meanwhile.
    pub(super) fn spawn(&self, work: impl Future<Output = Completion> + Send + 'static) {
        self.spawn_unbounded(async move {
            timeout(WORK_TIMEOUT, work).await.unwrap_or(Completion::TimedOut)
        });
    }

    /// Like [`Self::spawn`], without a timeout: for tasks of many commands, each of which fails when the
    /// connection is closed.
    pub(super) fn spawn_unbounded(&self, work: impl Future<Output = Completion> + Send + 'static) {
        let (completions, number) = (self.completions.clone(), self.link_number);
        tokio::spawn(async move {
            // The coordinator ends with the process.
            let _ = completions.send((number, work.await));
        });
    }
}
