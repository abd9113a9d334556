//! Executes the actions of the membership.

use super::{Completion, Coordinator};
use crate::broker::redis::{
    cleanup::CleanUp,
    clock::now,
    heartbeat,
    link_state::{JoinedLink, LinkState},
    membership::{HeartbeatPhase, MembershipAction, TickInputs},
    reason::UnavailableReason,
    restore,
};
use std::{sync::Arc, time::Instant};

impl Coordinator {
    /// Executes the actions of the membership that are due.
    pub(in crate::broker::redis) fn tick_membership(&mut self, now: Instant) {
        let inputs = TickInputs {
            is_fenced: self.shared.is_fenced(self.membership.token.link_number),
            is_suspect: matches!(&*self.shared.link_state.borrow(), LinkState::Suspect),
            suspect_after: self.shared.suspect_after(),
            in_flight: self.topics.in_flight.transfer_time(),
            all_synced: self.topics.all_synced(),
        };
        let actions = self.membership.on_tick(now, &inputs);
        self.execute(actions);
    }

    /// Executes actions of the membership, in their order.
    pub(in crate::broker::redis) fn execute(
        &mut self,
        actions: impl IntoIterator<Item = MembershipAction>,
    ) {
        for action in actions {
            self.execute_one(action);
        }
    }

    fn execute_one(&mut self, action: MembershipAction) {
        let shared = Arc::clone(&self.shared);
        match (action, self.link.connection.clone()) {
            (MembershipAction::Connect, _) => {
                let connecting = heartbeat::connect(Arc::clone(&self.link.endpoint), shared);
                self.link.spawn(async move { Completion::Connected(connecting.await) });
            }
            (MembershipAction::Suspect, _) => shared.mark_suspect(),
            (MembershipAction::Close(reason), _) => self.close_link(reason),
            (MembershipAction::ForgetAcknowledgements, _) => self.topics.forget_acknowledgements(),
            (MembershipAction::ApplyRegistration { lost_data: changed }, _) => {
                shared.clear_fenced();
                shared.session_requests.on_registered(!changed.is_empty());
                self.topics.mark_data_lost(&changed);
            }
            (MembershipAction::SyncAll, _) => self.topics.sync_all(),
            (MembershipAction::Resubscribe { unaffected }, _) => {
                self.topics.resubscribe(&unaffected);
            }
            (MembershipAction::RefreshProvisional, _) => self.topics.refresh_provisional(),
            (MembershipAction::ReportJoined { others }, _) => {
                shared.metrics.on_joined();
                self.link.log.log_joined(self.membership.node(), others);
            }
            (MembershipAction::AllowRequests, Some(connection)) => {
                let token = Arc::clone(&self.membership.token);
                shared.session_requests.on_joined();
                shared.link_state.set(LinkState::Joined(JoinedLink { connection, token }));
            }
            (MembershipAction::Heartbeat(phase, partitions), Some(connection)) => {
                let membership = &self.membership;
                let round = heartbeat::round(&shared, membership, phase, partitions, connection);
                self.link.spawn(async move { Completion::Heartbeat(phase, round.await) });
            }
            (MembershipAction::Restore(partitions), Some(connection)) => {
                let sequences = restore::known_sequences(&shared, &self.topics, &partitions, now());
                let token = Arc::clone(&self.membership.token);
                let restoring = restore::restore_sequences(shared, token, connection, sequences);
                self.link.spawn(async move { Completion::Restored(restoring.await) });
            }
            (MembershipAction::CleanUp(node), Some(connection)) => {
                let token = Arc::clone(&self.membership.token);
                let cleaning = CleanUp { shared, hubs: self.topics.hubs.clone(), token, node };
                let cleaning = cleaning.run(connection);
                self.link.spawn_unbounded(async move { Completion::Cleaned(cleaning.await) });
            }
            (MembershipAction::Leave(partitions), Some(connection)) => {
                let phase = HeartbeatPhase::Leave;
                let membership = &self.membership;
                let round = heartbeat::round(&shared, membership, phase, partitions, connection);
                self.link.spawn(async move {
                    // If it fails, the others clean up.
                    if let Err(reason) = round.await {
                        let reason = &*reason.text;
                        tracing::debug!(reason, "releasing the lease failed");
                    }
                    Completion::Left
                });
            }
            // The link was lost meanwhile.
            (
                MembershipAction::AllowRequests
                | MembershipAction::Heartbeat(..)
                | MembershipAction::Restore(_)
                | MembershipAction::CleanUp(_)
                | MembershipAction::Leave(_),
                None,
            ) => {}
        }
    }

    /// Closes the link. Everything is synced and read again over the next one.
    pub(in crate::broker::redis) fn close_link(&mut self, reason: impl Into<UnavailableReason>) {
        if self.link.connection.is_none() {
            return;
        }
        let reason = reason.into();
        tracing::debug!(reason = &*reason.text, "link to redis closed");
        self.shared.metrics.on_disconnected();
        self.topics.reset_all();
        self.disconnect(reason);
    }

    pub(super) fn disconnect(&mut self, reason: impl Into<UnavailableReason>) {
        let reason = reason.into();
        if !self.membership.is_stopping() {
            self.link.log.log_failed(&reason);
        }
        self.shared.metrics.set_unavailable(reason.kind);
        self.link.connection = None;
        self.link.events = None;
        self.link.link_number += 1;
        self.topics.on_disconnected();
        self.comparison.clear();
        self.forwarding.reset(&self.shared);
        self.membership.on_disconnected(now());
        self.shared.link_state.set(LinkState::Unavailable(reason));
    }
}
