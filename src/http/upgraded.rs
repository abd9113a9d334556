//! Passes upgraded connections on: clients to their shard, pages to the console.

use super::{HttpContext, idle::WatchedStream, stream::HttpStream, upgrade::AdmissionResult};
use crate::{console::LiveTicket, permit::Permit, shard::UpgradedSocket, shutdown::DrainGuard};
use tokio::sync::mpsc;

/// What an HTTP connection becomes after a WebSocket handshake.
#[derive(Debug)]
pub(super) enum Upgrade {
    /// A client of an app, with its admission.
    Client(AdmissionResult),
    /// A page of the console.
    Console(LiveTicket),
}

/// The stream of an upgraded connection.
#[derive(Debug)]
pub(super) struct UpgradedStream {
    stream: HttpStream,
    /// The response to the handshake, which is not sent yet.
    response: Vec<u8>,
    /// What was received after the request.
    received: Vec<u8>,
}

impl UpgradedStream {
    /// The stream of an HTTP library that has received `received` after the request.
    pub(super) fn new(stream: WatchedStream, received: &[u8]) -> Self {
        let (stream, response, unread) = stream.into_parts();
        Self { stream, response, received: [received, &unread].concat() }
    }
}

impl Upgrade {
    /// Passes the connection on, with its permit: a client to `shard`.
    pub(super) fn pass_on(
        self,
        upgraded: UpgradedStream,
        http: &HttpContext,
        shard: &mpsc::UnboundedSender<UpgradedSocket>,
        permit: Permit,
        drain: DrainGuard,
    ) {
        let UpgradedStream { stream, response, received } = upgraded;
        match self {
            Self::Client(client) => match stream.into_parts() {
                Ok((socket, tls)) => {
                    let upgraded =
                        UpgradedSocket { socket, tls, response, received, client, permit, drain };
                    // The channel is closed only when the process ends.
                    let _ = shard.send(upgraded);
                }
                Err(error) => tracing::warn!(%error, "socket could not be passed to the shard"),
            },
            // A shutdown does not wait for a page, so that the page shows it until its end.
            Self::Console(ticket) => {
                let served =
                    http.console().serve_live(ticket, stream, (response, received), permit);
                if let Err(error) = served {
                    tracing::warn!(%error, "socket could not be passed to the console");
                }
            }
        }
    }
}
