//! Handles the messages of the control channels: those of all nodes, and those to this process.

use super::Coordinator;
use crate::{
    broker::redis::{
        console_peers::PeerMessage,
        envelope::ControlMessage,
        ready::NodeState,
        session_requests::{ClientMessage, SessionRequest, lost_at},
    },
    channel::ParkedSession,
};
use std::time::Instant;

impl Coordinator {
    pub(super) fn on_control_message(&mut self, bytes: &[u8], now: Instant) {
        match ControlMessage::decode(bytes) {
            Ok(ControlMessage::Heartbeat { node, state }) => {
                self.on_node_state(&node, state, now);
                self.shared.notifiers.on_heartbeat(&node, now);
                let actions = self.membership.on_node_heartbeat(&node, now);
                // A client may return from a node that has just joined.
                self.shared.ready_nodes.set_processes(&self.membership.nodes.other_processes);
                self.execute(actions);
            }
            Ok(ControlMessage::ReportsWanted) => self.shared.reports.want(now),
            Ok(ControlMessage::Report { process, report }) => {
                if self.is_other_process(&process) {
                    self.shared.reports.receive(&process, &report, now);
                }
            }
            Ok(ControlMessage::ConsoleQuestion { process, text }) => {
                self.on_peer_message(&process, PeerMessage::Question(&text));
            }
            Ok(ControlMessage::ConsoleAnswer { process, text }) => {
                self.on_peer_message(&process, PeerMessage::Answer(&text));
            }
            Ok(ControlMessage::SessionWanted { claimant, number, client }) => {
                if self.is_other_process(&claimant.process) {
                    let request = SessionRequest { client, number, claimant };
                    let message = ClientMessage::SessionWanted(request);
                    self.shared.session_requests.on_message(message);
                }
            }
            Ok(ControlMessage::Session { process, number, session }) => {
                if self.is_other_process(&process) {
                    let session = session.and_then(|(age_ms, positions)| {
                        ParkedSession::from_json(&positions, lost_at(age_ms, now))
                    });
                    self.shared.session_requests.on_session(number, session);
                }
            }
            Ok(ControlMessage::Returned { process, client }) => {
                if self.is_other_process(&process) {
                    let message = ClientMessage::Returned(client);
                    self.shared.session_requests.on_message(message);
                }
            }
            Ok(ControlMessage::WebhookLogNonEmpty { app_id }) => {
                self.shared.notifiers.notify_logged(&app_id);
            }
            Ok(ControlMessage::WebhookLeaseReleased { app_id }) => {
                self.shared.notifiers.notify_webhook_lease_released(&app_id);
            }
            Ok(ControlMessage::CloseUser { app_id, user_id, close }) => {
                if let Some(hub) = self.topics.hubs.get(app_id.as_str()) {
                    hub.close_user(&user_id, close);
                }
            }
            Err(_) => self.shared.metrics.count_unexpected_data("a control message"),
        }
    }

    /// Handles a message of the console of another node. Only nodes are answered.
    fn on_peer_message(&self, process: &str, message: PeerMessage<'_>) {
        if self.is_other_process(process) {
            self.shared.console_peers.receive(process, message);
        }
    }

    /// Whether a message is of another node. Any client of Redis can publish.
    fn is_other_process(&self, process: &str) -> bool {
        self.membership.nodes.other_processes.iter().any(|known| known == process)
    }

    /// Records whether another node takes connections. If this one does, a node that is new or
    /// drains is notified.
    fn on_node_state(&mut self, node: &str, state: NodeState, now: Instant) {
        let own = self.membership.state(self.shared.is_draining());
        let is_other = node != self.membership.node();
        if is_other
            && self.shared.ready_nodes.record_heartbeat(node, state, now)
            && own == NodeState::Ready
        {
            self.membership.heartbeat_soon(now);
        }
    }
}
