//! The loop of a shard: turns, and the waits between them.

use super::{
    connection::UpgradedSocket,
    event_loop::Shard,
    requests::{AcceptedSocket, AcceptedSockets},
    wait::{caught_up, drain_advanced, sleep_until},
};
use crate::{clock, hub::Inbox, shutdown::DrainGuard};
use std::{future::poll_fn, sync::Arc};
use tokio::{runtime, sync::mpsc, task};

/// What an idle shard is woken for, apart from sockets and deadlines.
enum Event {
    Accepted(AcceptedSocket),
    Upgraded(UpgradedSocket),
    /// The next turn finds out.
    Other,
}

/// Turns that deliveries may cause, one after the other, before sockets and the other tasks of the runtime are served.
const TURNS_WITHOUT_YIELD: u32 = 16;

impl Shard {
    /// Serves connections until the process ends. Once `drain` has a mode, connections are closed by
    /// its schedule. Each connection holds a [`DrainGuard`], so a shutdown waits for the last one.
    pub async fn run(
        mut self,
        mut upgraded_sockets: mpsc::UnboundedReceiver<UpgradedSocket>,
        drain: DrainGuard,
    ) -> ! {
        let node = Arc::clone(&self.node);
        let inbox = node.inboxes().inbox(self.index);
        let mut drain = Some(drain);
        let runtime = runtime::Handle::current().metrics();
        let mut turns_since_wait = 0;
        loop {
            let is_draining = drain.as_ref().is_none_or(DrainGuard::has_mode);
            self.turn(inbox, &mut upgraded_sockets, is_draining);
            if is_draining {
                drain = None;
            }
            let is_alone = self.owns_thread && runtime.num_alive_tasks() == 1;
            if self.has_work() {
                if !is_alone {
                    // Lets the runtime serve HTTP and its own poller.
                    task::yield_now().await;
                }
                self.should_poll = true;
                continue;
            }
            if !is_alone && TURNS_WITHOUT_YIELD <= turns_since_wait {
                turns_since_wait = 0;
                task::yield_now().await;
                self.should_poll = true;
                continue;
            }
            let (wake_at, held_for) = (self.wake_at(), self.responses.held_for());
            let has_http = 0 < self.http_connections;
            let event = async {
                tokio::select! {
                    biased;
                    event = socket_or_delivery(inbox, &mut *self.accepted, &mut upgraded_sockets) => event,
                    () = caught_up(&node, held_for) => Event::Other,
                    () = drain_advanced(&mut drain, has_http) => Event::Other,
                }
            };
            let event = if is_alone {
                let timeout = || wake_at.map(|at| at.saturating_duration_since(clock::now()));
                // Unread input may extend the deadline, so the sockets are always read first.
                self.should_poll = true;
                self.readiness.block(event, timeout)
            } else {
                tokio::select! {
                    event = event => Some(event),
                    () = self.readiness.wait() => { self.should_poll = true; None }
                    () = sleep_until(wake_at) => { self.should_poll = true; None }
                }
            };
            match event {
                Some(Event::Accepted(accepted)) => {
                    // The last turn may be long ago.
                    self.now = clock::now();
                    self.catch_panic(|shard| shard.add_accepted(accepted));
                    self.should_poll = true;
                }
                Some(Event::Upgraded(upgraded)) => {
                    self.now = clock::now();
                    self.catch_panic(|shard| shard.add_connection(upgraded));
                }
                // There may have been nothing to wait for.
                Some(Event::Other) => turns_since_wait += 1,
                None => turns_since_wait = 0,
            }
        }
    }
}

/// Waits for a delivery, or for a socket from another thread or task.
async fn socket_or_delivery(
    inbox: &Inbox,
    accepted: &mut dyn AcceptedSockets,
    upgraded_sockets: &mut mpsc::UnboundedReceiver<UpgradedSocket>,
) -> Event {
    tokio::select! {
        biased;
        () = inbox.arrived() => Event::Other,
        accepted = poll_fn(|cx| accepted.poll_next(cx)) => Event::Accepted(accepted),
        Some(upgraded) = upgraded_sockets.recv() => Event::Upgraded(upgraded),
    }
}
