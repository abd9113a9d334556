//! A client whose session has this shard's subscriptions.

use super::subscribers::SubscriberIndex;
use crate::node;

/// An admitted client with this shard's subscription handles.
pub type AdmittedClient = node::AdmittedClient<SubscriptionHandle>;

/// The handle that a session stores for each subscription: where the shard finds it.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionHandle(pub(super) SubscriptionState);

/// Whether a subscription waits for the broker or is active.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SubscriptionState {
    /// Waiting for the broker, which returns the ticket with its decision.
    Pending { ticket: u32 },
    /// Active, at this position in the list of subscribers.
    Active(SubscriberIndex),
}
