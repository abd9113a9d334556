//! Claims that had no reply in time, since Redis was unavailable.
//!
//! Their connections have begun without them. Until such a claim is made up for, the record of the client is that of an earlier
//! connection, unless the client has connected to another node since.

use super::registry::Leaving;
use crate::{
    broker::{Claim, ClientRecord, Place, RedisBroker, Unavailable},
    clock,
    hub::Delivery,
    node::Node,
    protocol::{ClientName, SocketId},
};
use std::time::Instant;

impl Node {
    /// Makes up for the claim of a place, if that is missing. Returns where the client has connected since, if it has.
    pub(super) async fn make_up_for_claim(
        &self,
        broker: &RedisBroker,
        client: &ClientName,
        (number, socket_id): (u64, SocketId),
    ) -> Result<Option<Place>, Unavailable> {
        match self.resume.late_since(client, number) {
            Some(since) => self.claim_late(broker, client, (number, since), socket_id).await,
            None => Ok(None),
        }
    }

    /// Claims the place `number`, which a connection of this node took at `since`. Returns where the client has connected since, if it
    /// has.
    pub(super) async fn claim_late(
        &self,
        broker: &RedisBroker,
        client: &ClientName,
        (number, since): (u64, Instant),
        socket_id: SocketId,
    ) -> Result<Option<Place>, Unavailable> {
        let claim = Claim::Late(since);
        let (record, claimed_ms) = broker.claim_client(client, number, socket_id, claim).await?;
        let replaced = match record {
            ClientRecord::Later(place) => return Ok(Some(place)),
            ClientRecord::Connected(place) | ClientRecord::Parked(_, place) => Some(place),
            ClientRecord::New | ClientRecord::OtherSocket => None,
        };
        self.resume.on_claimed(client, number, claimed_ms);
        if let Some(place) = replaced {
            // What is there is older than what this node has. It would otherwise be stored again, should Redis lose its data.
            broker.release_session(client, &place, number).await;
        }
        Ok(None)
    }

    /// Renews the record of a client that is connected here, or makes up for its claim.
    pub(super) async fn renew_record(
        &self,
        broker: &RedisBroker,
        client: &ClientName,
        (number, socket_id): (u64, SocketId),
    ) -> Result<(), Unavailable> {
        if let Some(place) = self.make_up_for_claim(broker, client, (number, socket_id)).await? {
            self.leave_for(broker, client, number, &place).await;
            return Ok(());
        }
        let place = (number, self.resume.claimed_ms(client, number));
        // If the client is connected elsewhere, its connection to this node ends by itself.
        broker.renew_client(client, place, socket_id).await.map(drop)
    }

    /// Lets a client go that has returned elsewhere from its place `number` on this node.
    pub(super) async fn leave_for(
        &self,
        broker: &RedisBroker,
        client: &ClientName,
        number: u64,
        place: &Place,
    ) {
        match self.resume.leave(client, number, place, clock::now()) {
            Leaving::Open(connection) => {
                self.inboxes.inbox(connection.shard).push(Delivery::Replace(connection.key));
            }
            Leaving::Session(Some(session)) => broker.send_session(place, Some(&session)).await,
            Leaving::Session(None) | Leaving::Started => {}
        }
    }
}
