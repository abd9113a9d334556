//! The connections of this node that are signed in as a user.

use super::{ConnectionRef, Delivery, Hub};
use crate::protocol::CloseCode;
use dashmap::DashMap;
use std::{collections::HashSet, sync::Arc};

/// The signed-in connections, by user.
#[derive(Debug, Default)]
pub(super) struct SignedInConnections(DashMap<Arc<str>, HashSet<ConnectionRef>>);

impl SignedInConnections {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How the application closes the connections of a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UserClose {
    /// With 4009: clients do not reconnect.
    Terminate,
    /// With 4200: clients reconnect at once, and are authorized anew.
    Reconnect,
}

impl UserClose {
    fn code(self) -> CloseCode {
        match self {
            Self::Terminate => CloseCode::Terminated,
            Self::Reconnect => CloseCode::ReconnectRequested,
        }
    }
}

impl Hub {
    /// Records that a connection is signed in as `user_id`. Returns false if it was already.
    pub fn sign_in(&self, user_id: &Arc<str>, connection: ConnectionRef) -> bool {
        self.signed_in.0.entry(Arc::clone(user_id)).or_default().insert(connection)
    }

    /// Records that a connection is not signed in as `user_id` any more. Returns false if it was
    /// not.
    pub fn sign_out(&self, user_id: &str, connection: ConnectionRef) -> bool {
        let Some(mut connections) = self.signed_in.0.get_mut(user_id) else { return false };
        let was_signed_in = connections.remove(&connection);
        let was_last = connections.is_empty();
        drop(connections);
        if was_last {
            self.signed_in.0.remove_if(user_id, |_, connections| connections.is_empty());
        }
        was_signed_in
    }

    /// Closes all connections that are signed in as `user_id`.
    pub fn close_user(&self, user_id: &str, close: UserClose) {
        let Some(connections) = self.signed_in.0.get(user_id) else { return };
        self.inboxes.push_per_shard(connections.iter().copied(), |keys| Delivery::Close {
            keys,
            code: close.code(),
        });
    }
}
