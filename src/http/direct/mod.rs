//! Requests that the thread of a shard answers itself, without the HTTP library: signed publishes that succeed, and
//! WebSocket handshakes of known apps.
//!
//! Everything is checked before anything is done. If a check fails, or the request is another one, the connection is
//! handed over with its bytes, and [`serve`](super::serve) answers it: there is one implementation of each error.

mod head;
mod pending_publish;
mod publish;
mod response;
mod web_socket;

use super::{HttpContext, ListenerKind, limiter::PendingConnection, serve};
use crate::{
    hub::{ConnectionRef, Inboxes},
    node::ClientAddress,
    permit::Permit,
    shard::{Handled, RequestHandler, UpgradedSocket},
    shutdown::DrainGuard,
};
use arc_swap::ArcSwap;
use head::{Forwarded, Head, read_head};
use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Instant, SystemTime},
};
use tokio::sync::mpsc;

/// The requests of one connection, for its shard.
#[derive(Debug)]
pub struct DirectRequests {
    context: Arc<ArcSwap<HttpContext>>,
    peer: SocketAddr,
    pending: PendingConnection,
    shard: mpsc::UnboundedSender<UpgradedSocket>,
    /// The connection of the shard that has the socket.
    owner: Option<(Arc<Inboxes>, ConnectionRef)>,
}

impl DirectRequests {
    /// The requests of an accepted connection. `shard` receives it after a handshake that is answered elsewhere.
    #[must_use]
    pub fn new(
        context: Arc<ArcSwap<HttpContext>>,
        peer: SocketAddr,
        pending: PendingConnection,
        shard: mpsc::UnboundedSender<UpgradedSocket>,
    ) -> Self {
        Self { context, peer, pending, shard, owner: None }
    }

    /// The client behind the connection, by the headers of trusted proxies.
    fn client(&self, http: &HttpContext, head: &Head<'_>) -> ClientAddress {
        let hop = ClientAddress { address: self.peer.ip(), is_tls: false };
        let lines = |kind| head.forwarded(kind);
        http.proxies.client(hop, lines(Forwarded::For), lines(Forwarded::Proto))
    }
}

impl RequestHandler for DirectRequests {
    fn owned_by(&mut self, node: &Arc<crate::node::Node>, connection: ConnectionRef) {
        self.owner = Some((Arc::clone(node.inboxes()), connection));
        self.pending.tracker.set_owner(self.owner.clone());
    }

    fn handle(&mut self, input: &[u8], output: &mut Vec<u8>, now: Instant) -> Handled {
        self.pending.tracker.input_received(now);
        let context = Arc::clone(&self.context);
        let http = context.load();
        let head = read_head(input).filter(|head| head.len <= http.max_head_bytes);
        let Some(head) = head.filter(|_| !http.node.is_draining()) else { return Handled::Other };
        let handled = match (head.is_post, head.content_length) {
            (true, Some(len)) if len <= http.max_request_bytes => {
                let needed = head.len + len;
                match input.get(head.len..needed) {
                    Some(body) => self.publish(&http, &head, body, output, now),
                    // The body of a request that is to be rejected is not kept.
                    None if publish::authorized(&http, &head, SystemTime::now()).is_some() => {
                        return Handled::Incomplete { needed };
                    }
                    None => None,
                }
            }
            // With Redis, an admission may have to be waited for.
            (false, None) if http.node.broker().redis().is_none() => {
                self.upgrade(&http, &head, output)
            }
            _ => None,
        };
        handled.unwrap_or(Handled::Other)
    }

    fn is_direct(&self) -> bool {
        self.context.load().tls.is_none()
    }

    fn deadline(&self, blocked_since: Option<Instant>) -> Option<Instant> {
        let timeout = self.context.load().request_timeout;
        let write = blocked_since.map(|since| since + timeout);
        let wait = self.pending.tracker.deadline(timeout);
        [wait, write].into_iter().flatten().min()
    }

    fn answered(&mut self, now: Instant) {
        self.pending.tracker.request_finished(now);
    }

    fn into_permit(self: Box<Self>) -> Permit {
        self.pending.permit
    }

    fn hand_over(self: Box<Self>, socket: TcpStream, input: Vec<u8>, drain: DrainGuard) {
        let Self { context, peer, pending, shard, owner: _ } = *self;
        pending.tracker.set_owner(None);
        match tokio::net::TcpStream::from_std(socket) {
            Ok(stream) => {
                let kind = ListenerKind::Main(shard);
                let accepted = (stream, peer, input);
                tokio::spawn(serve(context, accepted, pending, kind, drain));
            }
            Err(error) => tracing::warn!(%error, "socket could not be served"),
        }
    }
}
