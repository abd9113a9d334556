//! A signed publish through Redis, which is answered when Redis has replied.

use super::{
    DirectRequests,
    response::{self, RequestId},
};
use crate::{
    http::{HttpContext, publish::PendingPublish, response::ApiError},
    hub::ShardSet,
    shard::ResponseSender,
};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

/// What the response and the log need of a request: its id, the client, and when it began.
type PendingRequest = (RequestId<'static>, IpAddr, Instant);

impl DirectRequests {
    /// Begins a publish in a task of the shard's thread. `None` without a shard.
    pub(super) fn begin_publish(
        &self,
        publish: PendingPublish,
        request: PendingRequest,
    ) -> Option<()> {
        let (inboxes, connection) = self.owner.as_ref()?;
        let sender = ResponseSender::new(Arc::clone(inboxes), *connection);
        let http = self.context.load_full();
        tokio::spawn(async move {
            let mut output = Vec::new();
            let reached = match publish.publish().await {
                Ok((body, reached)) => {
                    let (request_id, _, began) = &request;
                    http.node.metrics().publish_responded(200);
                    response::ok(&mut output, &http, request_id, &body, SystemTime::now());
                    response::log(request_id, ("POST", "publish", 200), *began);
                    reached
                }
                Err(error) => {
                    reject(&http, &publish, &request, &error, &mut output);
                    ShardSet::default()
                }
            };
            sender.send(output, reached);
        });
        Some(())
    }
}

/// Writes the response to a publish that has failed, and logs it.
fn reject(
    http: &HttpContext,
    publish: &PendingPublish,
    (request_id, address, _): &PendingRequest,
    error: &ApiError,
    output: &mut Vec<u8>,
) {
    let status = error.status().as_u16();
    http.node.metrics().publish_responded(status);
    response::error(output, http, request_id, error, SystemTime::now());
    if http.node.should_log_rejection(*address, Instant::now()) {
        let (request_id, app) = (request_id.as_str(), publish.hub().app_id());
        let error = error.log_reason();
        tracing::info!(request_id, method = "POST", route = "publish", app = &*app, status, %address, error, "request rejected");
    }
}
