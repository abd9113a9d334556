//! The records of clients with a token, by which one that returns to another node is recognised.
//!
//! A record says where its client is connected, or what its last connection has left (`lua/client.lua`). A node that finds the
//! client connected elsewhere asks that node for what the connection has left.

use super::{
    RedisBroker,
    clock::now,
    cluster_state::ClusterState,
    envelope::ControlMessage,
    scripts::{ScriptCall, ScriptReply, Unexpected},
    session_requests::{ClientMessage, ReturnedClient, lost_at},
};
use crate::{
    broker::{
        clients::{Claim, ClientRecord, FoundClient, Place},
        error::Unavailable,
    },
    channel::ParkedSession,
    protocol::{ClientName, SocketId},
};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long another node may take to hand a session over: it does so at once, or as soon as it has joined again after Redis has
/// restarted.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(4);
/// Interval at which it is asked.
const HANDOVER_INTERVAL: Duration = Duration::from_millis(500);
/// How long a handshake waits for Redis.
const FIND_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum size of a session in a message, in bytes.
const SESSION_MAX: usize = 1 << 20;

/// When a place was claimed.
#[derive(Clone, Copy)]
enum Claimed {
    /// In ms of the clock of Redis; 0 if that is not known.
    At(u64),
    /// By the clock of this node. Redis gets how long ago that is.
    Since(Instant),
}

impl RedisBroker {
    /// Sets what handles the messages of other nodes about clients. It is set once, and must not wait.
    pub(crate) fn set_client_receiver(
        &self,
        receiver: impl Fn(ClientMessage) + Send + Sync + 'static,
    ) {
        self.shared.session_requests.set_receiver(Box::new(receiver));
    }

    /// How often Redis may have lost the records of this node's clients.
    pub(crate) fn data_losses(&self) -> u64 {
        self.shared.session_requests.data_losses()
    }

    /// Looks up a client at its handshake, which does not wait for an unavailable Redis.
    pub(crate) async fn find_client(&self, client: &ClientName) -> FoundClient {
        if self.unavailable_reason().is_some() {
            return FoundClient::Unavailable;
        }
        let found = timeout(FIND_TIMEOUT, Box::pin(self.find(client))).await;
        match found.unwrap_or(Err(Unavailable)) {
            // Its record may have been lost, and will be stored again.
            Ok(FoundClient::Unknown)
                if self.shared.session_requests.incomplete_until().is_some() =>
            {
                FoundClient::Unavailable
            }
            found => found.unwrap_or(FoundClient::Unavailable),
        }
    }

    async fn find(&self, client: &ClientName) -> Result<FoundClient, Unavailable> {
        let shared = &self.shared;
        let mut reply = shared.run_client(client, ("find", ""), None, Claimed::At(0), None).await?;
        let found = || {
            let bits = reply.text()?;
            let socket_id = if bits.is_empty() { None } else { Some(socket_id(&bits)?) };
            Ok(match (socket_id, reply.number()?) {
                (Some(_), 1) => FoundClient::Shared,
                (Some(socket_id), _) => FoundClient::Known(socket_id),
                (None, _) => FoundClient::Unknown,
            })
        };
        shared.expected(found)
    }

    /// Waits until this node is joined and the other nodes have stored their records, should Redis have lost them; `limit` at
    /// most.
    pub(crate) async fn wait_for_records(&self, limit: Duration) {
        let complete = async {
            self.shared.link_state.wait_joined().await;
            if let Some(until) = self.shared.session_requests.incomplete_until() {
                tokio::time::sleep_until(until.into()).await;
            }
        };
        let _ = timeout(limit, complete).await;
    }

    /// Makes a place the one where the client is connected. Returns what the record was before, and when the place was claimed, in ms
    /// of the clock of Redis.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: it may have been done.
    pub(crate) async fn claim_client(
        &self,
        client: &ClientName,
        number: u64,
        socket_id: SocketId,
        claim: Claim,
    ) -> Result<(ClientRecord, u64), Unavailable> {
        let (shared, place) = (&self.shared, self.place(number).to_string());
        let (operation, claimed) = match claim {
            Claim::Known => ("claim", Claimed::At(0)),
            Claim::Adopt => ("adopt", Claimed::At(0)),
            Claim::Late(since) => ("late", Claimed::Since(since)),
        };
        let of_place = (operation, place.as_str());
        let mut reply = shared.run_client(client, of_place, Some(socket_id), claimed, None).await?;
        let own = shared.process();
        shared.expected(|| parse_claim(&mut reply, &own, now()))
    }

    /// Stores what a lost connection has left, unless the client has returned elsewhere: then the place is returned. `claimed_ms` is
    /// when its place was claimed, 0 if that is not known.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: it may have been done.
    pub(crate) async fn park_client(
        &self,
        client: &ClientName,
        (number, claimed_ms): (u64, u64),
        socket_id: SocketId,
        session: &ParkedSession,
    ) -> Result<Option<Place>, Unavailable> {
        let (shared, place) = (&self.shared, self.place(number).to_string());
        let (place, session) = (("park", place.as_str()), Some(session));
        let claimed = Claimed::At(claimed_ms);
        let reply = shared.run_client(client, place, Some(socket_id), claimed, session).await;
        let mut reply = reply?;
        shared.expected(|| parse_holder(&mut reply))
    }

    /// Keeps the record of a client that is connected here, or makes it again. Returns the place of the client if that is
    /// another one.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: it may have been done.
    pub(crate) async fn renew_client(
        &self,
        client: &ClientName,
        (number, claimed_ms): (u64, u64),
        socket_id: SocketId,
    ) -> Result<Option<Place>, Unavailable> {
        let (shared, place) = (&self.shared, self.place(number).to_string());
        let place = ("renew", place.as_str());
        let claimed = Claimed::At(claimed_ms);
        let mut reply = shared.run_client(client, place, Some(socket_id), claimed, None).await?;
        shared.expected(|| parse_holder(&mut reply))
    }

    /// Deletes the record of a place.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: it may have been done.
    pub(crate) async fn forget_client(
        &self,
        client: &ClientName,
        number: u64,
    ) -> Result<(), Unavailable> {
        let place = self.place(number).to_string();
        let place = ("forget", place.as_str());
        self.shared.run_client(client, place, None, Claimed::At(0), None).await.map(drop)
    }

    /// Asks the node of `from` for what the client's connection has left, for the place `number` of this node. `None` if
    /// that node does not answer, or knows nothing of it.
    pub(crate) async fn request_session(
        &self,
        client: &ClientName,
        from: &Place,
        number: u64,
    ) -> Option<ParkedSession> {
        let shared = &self.shared;
        if !shared.ready_nodes.processes().contains(&from.process) {
            return None;
        }
        let session = shared.session_requests.wait_for(number);
        let exchange = async {
            let mut session = session;
            loop {
                self.release_session(client, from, number).await;
                if let Ok(session) = timeout(HANDOVER_INTERVAL, &mut session).await {
                    break session.ok()?;
                }
            }
        };
        let session = timeout(HANDOVER_TIMEOUT, exchange).await.ok().flatten();
        shared.session_requests.give_up(number);
        let mut session = session?;
        session.process = Some(from.process.as_str().into());
        Some(session)
    }

    /// Notifies the process to which a client was connected that it has subscribed to a channel again: its subscription there
    /// ends.
    pub(crate) async fn end_left_subscription(&self, process: &str, returned: &ReturnedClient) {
        let message =
            ControlMessage::Returned { process: self.shared.process(), client: returned.clone() };
        let pubsub_channel = self.shared.names.process_channel(process);
        // Without the message, the subscription ends with the grace period.
        let _ = self.shared.publish_to(&pubsub_channel, &message.encode()).await;
    }

    /// Notifies the node of `from` that the client has returned to the place `number` of this node. What it has of the client it sends to
    /// this node, which ignores it unless it has requested it.
    pub(crate) async fn release_session(&self, client: &ClientName, from: &Place, number: u64) {
        let message = ControlMessage::SessionWanted {
            claimant: self.place(number),
            number: from.number,
            client: client.clone(),
        };
        let pubsub_channel = self.shared.names.process_channel(&from.process);
        // Without it, the request ends with its time-out.
        let _ = self.shared.publish_to(&pubsub_channel, &message.encode()).await;
    }

    /// Sends a session to the place that has asked for it; `None` if nothing is left. One that is too large is not sent.
    pub(crate) async fn send_session(&self, to: &Place, session: Option<&ParkedSession>) {
        let (process, number) = (self.shared.process(), to.number);
        let session = session.map(|session| (age_ms(session, now()), session.positions_to_json()));
        let session = session.filter(|(_, positions)| positions.len() <= SESSION_MAX);
        let message = ControlMessage::Session { process, number, session }.encode();
        let pubsub_channel = self.shared.names.process_channel(&to.process);
        if self.shared.publish_to(&pubsub_channel, &message).await.is_err() {
            tracing::debug!(to = %to.process, "a session was not handed over");
        }
    }

    fn place(&self, number: u64) -> Place {
        Place { process: self.shared.process(), number }
    }
}

impl ClusterState {
    async fn run_client(
        &self,
        client: &ClientName,
        (operation, place): (&str, &str),
        socket_id: Option<SocketId>,
        claimed: Claimed,
        session: Option<&ParkedSession>,
    ) -> Result<ScriptReply, Unavailable> {
        let (partition, key) = self.names.client_record(client);
        let socket_id = socket_id.map(|id| id.bits().to_string()).unwrap_or_default();
        let positions = session.map(ParkedSession::positions_to_json);
        self.run_fenced(partition, |token| {
            let call = ScriptCall::fenced(&self.scripts.client, partition, &self.names, token)
                .key(&key)
                .arg(operation)
                .arg(place)
                .arg(&socket_id)
                .number(match claimed {
                    Claimed::At(claimed_ms) => claimed_ms,
                    Claimed::Since(since) => millis(now().saturating_duration_since(since)),
                });
            match session.zip(positions.as_ref()) {
                Some((session, positions)) => call.number(age_ms(session, now())).arg(positions),
                None => call,
            }
        })
        .await
    }

    fn expected<T>(&self, parse: impl FnOnce() -> Result<T, Unexpected>) -> Result<T, Unavailable> {
        parse().map_err(|Unexpected| self.unexpected())
    }
}

/// How long ago the connection was lost, in ms.
fn age_ms(session: &ParkedSession, now: Instant) -> u64 {
    let age = session.lost_at.map(|lost_at| now.saturating_duration_since(lost_at));
    millis(age.unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn socket_id(bits: &str) -> Result<SocketId, Unexpected> {
    bits.parse().ok().and_then(SocketId::from_bits).ok_or(Unexpected)
}

/// Parses the reply to a claim of the process `own`.
fn parse_claim(
    reply: &mut ScriptReply,
    own: &str,
    now: Instant,
) -> Result<(ClientRecord, u64), Unexpected> {
    let (kind, place) = (reply.text()?, Place::parse(&reply.text()?));
    let (age_ms, positions, claimed_ms) = (reply.number()?, reply.text()?, reply.number()?);
    let record = match kind.as_str() {
        "" => ClientRecord::New,
        "R" => ClientRecord::OtherSocket,
        "L" => ClientRecord::Later(place.ok_or(Unexpected)?),
        "C" => ClientRecord::Connected(place.ok_or(Unexpected)?),
        "P" => {
            let session = ParkedSession::from_json(&positions, lost_at(age_ms, now));
            let mut session = Box::new(session.ok_or(Unexpected)?);
            let place = place.ok_or(Unexpected)?;
            session.process = (place.process != own).then(|| place.process.as_str().into());
            ClientRecord::Parked(session, place)
        }
        _ => return Err(Unexpected),
    };
    Ok((record, claimed_ms))
}

fn parse_holder(reply: &mut ScriptReply) -> Result<Option<Place>, Unexpected> {
    let place = reply.text()?;
    if place.is_empty() { Ok(None) } else { Place::parse(&place).map(Some).ok_or(Unexpected) }
}
