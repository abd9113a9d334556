//! Scripts of other modules, which are run in the partition of an app, and notifications of the
//! app's tasks on all nodes. Redis rejects scripts of a node whose lease has expired (see
//! `lua/fencing.lua`).

use super::{
    RedisBroker,
    clock::now,
    cluster_state::ClusterState,
    envelope::ControlMessage,
    link_state::JoinedLink,
    nodes::process_of,
    notifiers::AppNotifier,
    partition::Partition,
    random,
    reason::was_rejected,
    scripts::{Script, ScriptCall, ScriptReply, Status, Unexpected},
};
use crate::broker::error::Unavailable;
use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Runs scripts for one app. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AppScripts {
    shared: Arc<ClusterState>,
    app_id: Arc<str>,
    notifier: Arc<AppNotifier>,
}

/// A call of a script, which is rejected if the node's fencing token is outdated by then.
#[derive(Debug)]
pub(crate) struct AppCall {
    joined: JoinedLink,
    call: ScriptCall,
}

/// The node does not wait longer for the reply to a script.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(2);

impl RedisBroker {
    /// A runner of scripts for an app.
    pub(crate) fn app_scripts(&self, app_id: &str) -> AppScripts {
        let app_id = app_id.into();
        let notifier = self.shared.notifiers.notifier(&app_id);
        AppScripts { shared: Arc::clone(&self.shared), app_id, notifier }
    }

    /// Makes a script for [`AppScripts`]. It must include `lua/fencing.lua`.
    pub(crate) fn add_script(&self, text: &str) -> Arc<Script> {
        let script = Script::new(text, self.shared.is_redis_cluster);
        self.shared.scripts.add(&script);
        script
    }
}

impl AppScripts {
    /// The key of something that the app has once.
    pub(crate) fn key(&self, kind: &str) -> String {
        self.shared.names.app_key(kind, &self.app_id)
    }

    /// The key of the app's webhook log, which topics append to as well.
    pub(crate) fn log_key(&self) -> String {
        self.shared.names.webhook_log_key(&self.app_id, self.partition())
    }

    /// The key of the state of the app's webhook log (see `lua/log.lua`).
    pub(crate) fn log_state_key(&self) -> String {
        self.shared.names.webhook_log_state_key(&self.app_id, self.partition())
    }

    fn partition(&self) -> Partition {
        self.shared.names.app_partition(&self.app_id)
    }

    /// The name of this process, which begins the names of its nodes.
    pub(crate) fn process(&self) -> String {
        self.shared.process()
    }

    /// A random name that begins with [`AppScripts::process`] and a dot.
    pub(crate) fn random_name(&self) -> String {
        format!("{}.{}", self.process(), random::hex_id())
    }

    /// Prepares a call with the current fencing token.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the node is not joined.
    pub(crate) fn call(&self, script: &Arc<Script>) -> Result<AppCall, Unavailable> {
        let joined = self.shared.joined_now().ok_or(Unavailable)?;
        let call = ScriptCall::fenced(script, self.partition(), &self.shared.names, &joined.token);
        Ok(AppCall { joined, call })
    }

    /// Runs a script. Returns its reply after the status, and the server's clock in ms.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: it may have been run.
    pub(crate) async fn run(
        &self,
        AppCall { joined, call }: AppCall,
    ) -> Result<(ScriptReply, u64), Unavailable> {
        let value = match timeout(SCRIPT_TIMEOUT, call.run(&joined.connection)).await {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => {
                tracing::debug!(app = &*self.app_id, %error, "webhook script failed");
                if was_rejected(&error) {
                    return Err(self.unexpected_reply());
                }
                return Err(Unavailable);
            }
            Err(_elapsed) => return Err(Unavailable),
        };
        let mut reply = ScriptReply::new(value).map_err(|Unexpected| self.unexpected_reply())?;
        match reply.status().map_err(|Unexpected| self.unexpected_reply())? {
            (Status::Done, now_ms) => return Ok((reply, now_ms)),
            (Status::Fenced, _) => self.shared.on_fenced(&joined.token),
            (Status::Late, _) => {}
        }
        Err(Unavailable)
    }

    /// Counts a reply that can't be read.
    pub(crate) fn unexpected_reply(&self) -> Unavailable {
        self.shared.metrics.count_unexpected_data("webhook data");
        Unavailable
    }

    /// Notifies all nodes that the app's log is not empty any more.
    pub(crate) async fn notify_logged(&self) {
        self.notify(ControlMessage::WebhookLogNonEmpty { app_id: self.app_id.to_string() }).await;
    }

    /// Notifies all nodes that the app's lease was released.
    pub(crate) async fn notify_webhook_lease_released(&self) {
        self.notify(ControlMessage::WebhookLeaseReleased { app_id: self.app_id.to_string() }).await;
    }

    /// If it fails, the nodes poll a little later.
    async fn notify(&self, control_message: ControlMessage) {
        if self.shared.publish_control(&control_message.encode()).await.is_err() {
            tracing::debug!(app = &*self.app_id, "publishing a control message failed");
        }
    }

    /// Waits until a node has called [`AppScripts::notify_logged`], or `lua/sync.lua` has logged
    /// something. May return spuriously. Safe to cancel.
    pub(crate) async fn wait_logged(&self) {
        self.notifier.logged.notified().await;
    }

    /// Waits until a node has called [`AppScripts::notify_webhook_lease_released`]. May return spuriously. Safe to
    /// cancel.
    pub(crate) async fn wait_lease_released(&self) {
        self.notifier.released.notified().await;
    }

    /// Whether the process that made this [`AppScripts::random_name`] has sent no heartbeat for longer than
    /// the heartbeat timeout; without any heartbeat, counted from `since`.
    pub(crate) fn has_missed_heartbeats(&self, name: &str, since: Instant) -> bool {
        self.shared.notifiers.has_missed_heartbeats(process_of(name), since, now())
    }
}

impl AppCall {
    pub(crate) fn key(self, key: impl Into<String>) -> Self {
        Self { call: self.call.key(key), ..self }
    }

    pub(crate) fn arg(self, argument: impl AsRef<[u8]>) -> Self {
        Self { call: self.call.arg(argument), ..self }
    }

    pub(crate) fn number(self, number: impl Display) -> Self {
        Self { call: self.call.number(number), ..self }
    }
}
