//! Clients that return to another node than the one that they were connected to.
//!
//! Each connected or parked client has a record in Redis. A connection that claims the place of its client finds there what the
//! previous connection has left, or the node that still has that connection, which then hands its session over.

use super::{
    grace::{GraceSubscriptions, Lingering, Owner},
    registry::{EndOfClient, Leaving},
};
use crate::{
    broker::{
        Claim, ClientMessage, ClientRecord, FoundClient, Place, RedisBroker, ReturnedClient,
        SessionRequest, Unavailable,
    },
    channel::ParkedSession,
    clock,
    hub::{ClaimOutcome, ConnectionRef, Delivery, Inboxes},
    node::{Node, ResumeRegistry},
    protocol::{ClientName, SocketId},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time;

/// How long a claim waits for an unavailable Redis. Subscriptions wait for it as well, and the client gives up when it has waited
/// for a pong for 30 s.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause after a record could not be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a lost connection's session is offered to a Redis that is unavailable. Redis has lost most of the
/// sessions by then that it could have, and this node keeps its own.
const PARK_TIMEOUT: Duration = Duration::from_mins(10);
/// Interval of the maintenance of records: a Redis that has lost its data soon has those of connected clients again.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of records that are renewed in one tick.
const RENEWED_PER_TICK: usize = 1_000;

impl Node {
    /// Looks up the socket id of a client's previous connection.
    pub(in crate::node) async fn find_client(&self, client: &ClientName) -> FoundClient {
        let of_all = match self.broker.redis() {
            Some(broker) => broker.find_client(client).await,
            None => FoundClient::Unknown,
        };
        match (of_all, self.resume.socket_id(client, clock::now())) {
            // The record has that of an earlier connection.
            (_, Ok(Some(socket_id))) if self.resume.is_late(client) => {
                FoundClient::Known(socket_id)
            }
            (FoundClient::Known(_) | FoundClient::Shared, _) | (_, Ok(None)) => of_all,
            (_, Ok(Some(socket_id))) => FoundClient::Known(socket_id),
            (_, Err(_shared)) => FoundClient::Shared,
        }
    }

    /// Claims the place of a client among all nodes. The connection receives the outcome in the inbox of its shard.
    /// `session` is what this node has of the previous connection, whose claim had no reply if it is `unclaimed`.
    pub fn claim_among_nodes(
        self: &Arc<Self>,
        client: ClientName,
        (number, claim): (u64, Claim),
        (connection, socket_id): (ConnectionRef, SocketId),
        unclaimed: Option<(u64, Instant)>,
        session: Option<Box<ParkedSession>>,
    ) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let place = (number, socket_id, claim);
            let outcome = node.outcome_of_claim(&client, place, unclaimed, session).await;
            if let ClaimOutcome::Resumed(session) = &outcome {
                node.resume.count_resumed(Some(session));
            }
            if outcome == ClaimOutcome::Refused
                && let Some(other) = node.resume.refuse(&client, connection)
            {
                node.deliver_outcome(&client, other, ClaimOutcome::Refused);
            }
            node.deliver_outcome(&client, connection, outcome);
        });
    }

    async fn outcome_of_claim(
        &self,
        client: &ClientName,
        place: (u64, SocketId, Claim),
        unclaimed: Option<(u64, Instant)>,
        session: Option<Box<ParkedSession>>,
    ) -> ClaimOutcome {
        let Some(broker) = self.broker.redis() else { return ClaimOutcome::New };
        let unknown = || Box::new(ParkedSession::unknown());
        let (number, began) = (place.0, clock::now());
        let until = began + CLAIM_TIMEOUT;
        broker.wait_for_records(CLAIM_TIMEOUT).await;
        let mut record = self.claim_place(broker, client, place, unclaimed).await;
        while record.is_err() && clock::now() < until {
            time::sleep(RETRY_INTERVAL).await;
            broker.wait_for_records(until.saturating_duration_since(clock::now())).await;
            record = self.claim_place(broker, client, place, unclaimed).await;
        }
        let record = record.map(|(record, claimed_ms)| {
            self.resume.on_claimed(client, number, claimed_ms);
            record
        });
        match record {
            Ok(ClientRecord::New) => session.map_or(ClaimOutcome::New, ClaimOutcome::Resumed),
            Ok(ClientRecord::OtherSocket) => ClaimOutcome::Refused,
            // What another node has parked is newer than what this one has.
            Ok(ClientRecord::Parked(session, place)) => {
                // That node would otherwise store its session again, should Redis lose its data.
                if session.process.is_some() {
                    broker.release_session(client, &place, number).await;
                }
                ClaimOutcome::Resumed(session)
            }
            Ok(ClientRecord::Connected(place)) => {
                let moved = broker.request_session(client, &place, number).await.map(Box::new);
                ClaimOutcome::Resumed(moved.or(session).unwrap_or_else(unknown))
            }
            // A claim of the kind `Late` has this result only.
            Ok(ClientRecord::Later(_)) | Err(_) => {
                self.resume.on_claim_timeout(client, number, began);
                self.resume.renew_all(clock::now());
                ClaimOutcome::Resumed(session.unwrap_or_else(unknown))
            }
        }
    }

    /// Claims a place, and before it that of the previous connection to this node, if it is `unclaimed`: what that has left is newer
    /// than an earlier record.
    async fn claim_place(
        &self,
        broker: &RedisBroker,
        client: &ClientName,
        (number, socket_id, claim): (u64, SocketId, Claim),
        unclaimed: Option<(u64, Instant)>,
    ) -> Result<(ClientRecord, u64), Unavailable> {
        if let Some(previous) = unclaimed {
            self.claim_late(broker, client, previous, socket_id).await?;
        }
        broker.claim_client(client, number, socket_id, claim).await
    }

    fn deliver_outcome(
        &self,
        client: &ClientName,
        connection: ConnectionRef,
        outcome: ClaimOutcome,
    ) {
        let (key, client) = (connection.key, client.clone());
        self.inboxes.inbox(connection.shard).push(Delivery::Resume { key, client, outcome });
    }

    /// Ends a connection that has claimed its place, with what is left of it; `None` if its client is to be
    /// forgotten.
    pub fn end_of_client(
        self: &Arc<Self>,
        client: &ClientName,
        connection: ConnectionRef,
        session: Option<Box<ParkedSession>>,
        now: Instant,
    ) {
        match self.resume.end(client, connection, session, now) {
            EndOfClient::Done => {}
            EndOfClient::ToConnection(claimant, session) => {
                let outcome = session.map_or(ClaimOutcome::New, ClaimOutcome::Resumed);
                self.deliver_outcome(client, claimant, outcome);
            }
            EndOfClient::ToPlace(place, session) => self.send_session(place, session),
            EndOfClient::Park { number, socket_id, session } => {
                self.park(client.clone(), number, socket_id, session);
            }
            EndOfClient::Forget { number } => self.forget_records(vec![(client.clone(), number)]),
        }
    }

    /// Stores a session in the record of its client.
    fn park(
        self: &Arc<Self>,
        client: ClientName,
        number: u64,
        socket_id: SocketId,
        session: Box<ParkedSession>,
    ) {
        let (node, until) = (Arc::clone(self), clock::now() + PARK_TIMEOUT);
        let parking = self.resume.start_parking();
        tokio::spawn(async move {
            let _parking = parking;
            let Some(broker) = node.broker.redis() else { return };
            loop {
                match node.store(broker, &client, (number, socket_id), &session).await {
                    Ok(None) => return node.resume.on_parked(&client, number),
                    // It has returned to another node meanwhile, or to this one.
                    Ok(Some(place)) => {
                        return node.leave_for(broker, &client, number, &place).await;
                    }
                    Err(_unavailable) => {}
                }
                if until <= clock::now() || !node.resume.is_parking(&client, number) {
                    return;
                }
                time::sleep(RETRY_INTERVAL).await;
            }
        });
    }

    /// Stores a session, unless the client has returned elsewhere: then the place is returned.
    async fn store(
        &self,
        broker: &RedisBroker,
        client: &ClientName,
        (number, socket_id): (u64, SocketId),
        session: &ParkedSession,
    ) -> Result<Option<Place>, Unavailable> {
        let later = self.make_up_for_claim(broker, client, (number, socket_id)).await?;
        if later.is_some() {
            return Ok(later);
        }
        let place = (number, self.resume.claimed_ms(client, number));
        broker.park_client(client, place, socket_id, session).await
    }

    fn send_session(&self, place: Place, session: Option<Box<ParkedSession>>) {
        if let Some(broker) = self.broker.redis().cloned() {
            send_session(broker, place, session);
        }
    }

    fn forget_records(&self, places: Vec<(ClientName, u64)>) {
        if let Some(broker) = self.broker.redis().cloned().filter(|_| !places.is_empty()) {
            tokio::spawn(async move {
                for (client, number) in places {
                    // A record that stays ends by itself.
                    let _ = broker.forget_client(&client, number).await;
                }
            });
        }
    }

    /// Ends what a client that has subscribed here again has left on another node.
    pub(crate) fn end_left_on(&self, process: &Arc<str>, returned: ReturnedClient) {
        if let Some(broker) = self.broker.redis().cloned() {
            let process = Arc::clone(process);
            tokio::spawn(async move { broker.end_left_subscription(&process, &returned).await });
        }
    }

    /// Renews the records of connected clients, and replaces or deletes those of sessions that it has no more. Returns when it has to be called
    /// again.
    pub(in crate::node) fn maintain_records(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let broker = self.broker.redis()?;
        self.forget_records(self.resume.take_forgotten());
        for (client, number, socket_id) in self.resume.take_evicted() {
            self.park(client, number, socket_id, Box::new(ParkedSession::unknown()));
        }
        if self.resume.has_new_losses(broker.data_losses()) {
            self.resume.renew_all(now);
            for (client, number, socket_id, session) in self.resume.park_all_again() {
                self.park(client, number, socket_id, session);
            }
        }
        if broker.unavailable_reason().is_some() {
            return Some(now + MAINTENANCE_INTERVAL);
        }
        let due = self.resume.take_renewals(RENEWED_PER_TICK, now);
        let next = if due.len() == RENEWED_PER_TICK { now } else { now + MAINTENANCE_INTERVAL };
        if due.is_empty() {
            return Some(next);
        }
        let (broker, node) = (broker.clone(), Arc::clone(self));
        tokio::spawn(async move {
            let renewed = due.iter().map(|(client, number, socket_id)| {
                node.renew_record(&broker, client, (*number, *socket_id))
            });
            let renewed = futures_util::future::join_all(renewed).await;
            let failed = renewed.iter().filter(|renewed| renewed.is_err()).count();
            if 0 < failed {
                tracing::debug!(failed, "records of clients were not renewed");
                node.resume.renew_all(clock::now());
            }
        });
        Some(next)
    }

    /// Waits until what ended connections have left is stored, `limit` at most.
    pub async fn wait_until_parked(&self, limit: Duration) {
        let _ = time::timeout(limit, self.resume.wait_until_parked()).await;
    }
}

/// Handles the messages of other nodes about clients that have returned there.
pub(in crate::node) fn serve_other_nodes(
    broker: &RedisBroker,
    registry: &Arc<ResumeRegistry>,
    grace: &Arc<GraceSubscriptions>,
    inboxes: &Arc<Inboxes>,
) {
    let (registry, grace) = (Arc::clone(registry), Arc::clone(grace));
    let (inboxes, own) = (Arc::clone(inboxes), broker.clone());
    broker.set_client_receiver(move |message| match message {
        ClientMessage::SessionWanted(SessionRequest { client, number, claimant }) => {
            match registry.leave(&client, number, &claimant, clock::now()) {
                Leaving::Open(connection) => {
                    inboxes.inbox(connection.shard).push(Delivery::Replace(connection.key));
                }
                Leaving::Session(session) => send_session(own.clone(), claimant, session),
                Leaving::Started => {}
            }
        }
        ClientMessage::Returned(ReturnedClient { app_id, socket_id, channel, user_id }) => {
            for lingering in grace.take_replaced(&Owner::new(app_id, channel, user_id, socket_id)) {
                let Lingering { hub, channel, shard, user_id, .. } = lingering;
                own.unsubscribe(&hub, shard, &channel, user_id.as_ref());
            }
        }
    });
}

fn send_session(broker: RedisBroker, place: Place, session: Option<Box<ParkedSession>>) {
    tokio::spawn(async move { broker.send_session(&place, session.as_deref()).await });
}
