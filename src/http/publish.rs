//! Publishing: one event on up to `max_event_channels` channels, or a batch of events on one channel each.

use super::{
    HttpContext,
    event_body::{ParsedEvent, parse_batch, parse_single, text},
    idempotency,
    info::{self, RequestedInfo},
    response::{ApiError, HttpResponse, ok},
};
use crate::{
    broker::{AppEvent, EncodedPublish, IdempotencyKey},
    channel::Counts,
    config::AppConfig,
    hub::{Hub, ShardSet},
    protocol::ChannelName,
};
use hyper::HeaderMap;
use std::{borrow::Cow, future::poll_fn, sync::Arc, task::Poll};

/// A publish of one event.
pub(super) struct SinglePublish<'a> {
    events: [AppEvent<'a>; 1],
    info: Option<RequestedInfo>,
}

impl<'a> SinglePublish<'a> {
    pub(super) fn parse(body: &'a str, config: &AppConfig) -> Result<Self, ApiError> {
        let ParsedEvent { event, info } = parse_single(body, config)?;
        Ok(Self { events: [event], info })
    }

    /// Sets the idempotency key, unless the event has one.
    pub(super) fn set_key(&mut self, key: IdempotencyKey<'a>) {
        self.events[0].idempotency_key.get_or_insert(key);
    }

    /// Publishes the event on a single node. Returns the body of the response, and the shards that have deliveries.
    /// `None` with Redis.
    pub(super) fn publish_here(
        &self,
        http: &HttpContext,
        hub: &Hub,
    ) -> Option<(Cow<'static, str>, ShardSet)> {
        let (counts, shards) = http.node.broker().publish_here(hub, &self.events)?;
        Some((self.response(counts), shards))
    }

    /// Encodes the event for a publish through Redis; `None` on a single node.
    pub(super) fn encode(mut self, http: &HttpContext, hub: Arc<Hub>) -> Option<PendingPublish> {
        let encoded = http.node.broker().encode(&hub, &self.events)?;
        let channels = std::mem::take(&mut self.events[0].channels);
        Some(PendingPublish { hub, encoded, info: self.info.map(|info| (info, channels)) })
    }

    fn response(&self, counts: Vec<Counts>) -> Cow<'static, str> {
        response(self.info.map(|info| (info, &*self.events[0].channels)), counts)
    }
}

/// A publish of one event through Redis, which does not borrow its request.
#[derive(Debug)]
pub(super) struct PendingPublish {
    hub: Arc<Hub>,
    encoded: EncodedPublish,
    /// The requested attributes, of these channels.
    info: Option<(RequestedInfo, Vec<ChannelName>)>,
}

impl PendingPublish {
    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Publishes the event. Returns the body of the response, and the shards that have deliveries.
    pub(super) async fn publish(&self) -> Result<(Cow<'static, str>, ShardSet), ApiError> {
        let (counts, shards) = self.encoded.publish(&self.hub).await?;
        let info = self.info.as_ref().map(|(info, channels)| (*info, &**channels));
        Ok((response(info, counts), shards))
    }
}

/// The body of the response, with the requested attributes of the channels.
fn response(
    info: Option<(RequestedInfo, &[ChannelName])>,
    counts: Vec<Counts>,
) -> Cow<'static, str> {
    match info {
        None => "{}".into(),
        Some((info, channels)) => info::channels(channels.iter().zip(counts), info).into(),
    }
}

impl HttpContext {
    /// `POST /apps/{id}/events`.
    pub(super) async fn publish(
        &self,
        hub: &Hub,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<HttpResponse, ApiError> {
        let app = hub.app();
        let config = &app.config;
        let body = text(body)?;
        let mut publish = SinglePublish::parse(&body, config)?;
        if publish.events[0].idempotency_key.is_none()
            && let Some(key) = idempotency::from_header(headers)?
        {
            publish.set_key(key);
        }
        let (counts, shards) = self.node.broker().publish(hub, &publish.events).await?;
        let response = ok(publish.response(counts).into_owned());
        self.deliver_before_answer(shards).await;
        Ok(response)
    }

    /// `POST /apps/{id}/batch_events`, in the order of the batch. If one event is invalid, none is published. A key
    /// in the header is that of each event without a key of its own, at its position.
    pub(super) async fn publish_batch(
        &self,
        hub: &Hub,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<HttpResponse, ApiError> {
        let app = hub.app();
        let body = text(body)?;
        let mut batch = parse_batch(&body, &app.config)?;
        if let Some(key) = idempotency::from_header(headers)? {
            for (position, parsed) in batch.iter_mut().enumerate() {
                parsed.event.idempotency_key.get_or_insert_with(|| key.at(position));
            }
        }
        let (events, infos): (Vec<AppEvent<'_>>, Vec<Option<RequestedInfo>>) =
            batch.into_iter().map(|publish| (publish.event, publish.info)).unzip();
        let (counts, shards) = self.node.broker().publish(hub, &events).await?;
        self.deliver_before_answer(shards).await;
        if infos.iter().all(Option::is_none) {
            return Ok(ok("{}"));
        }
        // Each event of a batch has one channel, so it has one pair of counts.
        let channels = events.iter().flat_map(|event| &event.channels);
        let mut body = String::from(r#"{"batch":["#);
        for (at, (info, (name, counts))) in infos.iter().zip(channels.zip(counts)).enumerate() {
            body.push_str(if at == 0 { "{" } else { ",{" });
            info.unwrap_or_default().write_counts(name, counts, &mut body);
            body.push('}');
        }
        body.push_str("]}");
        Ok(ok(body))
    }
}

impl HttpContext {
    /// Lets the shards deliver before the publisher is answered: it does not wait for its answer as urgently as
    /// subscribers do for the event. Then waits while they are behind.
    async fn deliver_before_answer(&self, shards: ShardSet) {
        if !shards.is_empty() {
            let mut has_yielded = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut has_yielded, true) {
                    return Poll::Ready(());
                }
                // This task is queued behind that of this thread's shard, which the delivery has woken.
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
        self.node.wait_for_backpressure(shards).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{LogRequest, SubscribeRequest},
        config::Config,
        console::Console,
        hub::{ConnectionKey, ConnectionRef, ShardIndex},
        node::Node,
        protocol::{ChannelName, SocketId},
        shutdown::Shutdown,
        webhook::Webhooks,
    };
    use futures_util::FutureExt;
    use std::{collections::VecDeque, pin::pin, sync::Arc, time::Instant};

    /// A shard that is not running, with a subscriber of the channel `c`.
    #[tokio::test]
    async fn backpressure_delays_the_answer_and_not_the_event() {
        let config = Config::default();
        let webhooks = Arc::new(Webhooks::new(&config).unwrap());
        let node = Arc::new(Node::new(&config, 1, 0, Shutdown::new(), webhooks));
        let console = Arc::new(Console::new(&config, Arc::clone(&node)));
        let http = HttpContext::new(&config, Arc::clone(&node), None, console);
        let hub = node.hub_by_key("app-key").unwrap();
        let shard = ShardIndex::new(0);
        let key = ConnectionKey { slot: 0, generation: 0 };
        let connection = ConnectionRef { shard, key };
        let channel = ChannelName::parse("c", 200).unwrap();
        let request = SubscribeRequest {
            connection,
            socket_id: SocketId::from_random(1),
            ticket: 0,
            channel: &channel,
            member: &None,
            log: LogRequest::No,
        };
        node.broker().subscribe(&hub, request, Instant::now()).unwrap().unwrap();
        let inbox = node.inboxes().inbox(shard);
        let mut delivered = VecDeque::new();
        inbox.drain_into(&mut delivered);

        let single = br#"{"name":"e","channel":"c","data":"1"}"#;
        let batch = br#"{"batch":[{"name":"e","channel":"c","data":"1"}]}"#;
        let elsewhere = br#"{"name":"e","channel":"d","data":"1"}"#;
        let headers = HeaderMap::new();
        for is_behind in [true, false] {
            inbox.set_behind(is_behind);
            assert!(
                http.publish(&hub, &headers, elsewhere).now_or_never().is_some(),
                "it has no part in it"
            );
            let mut publish = pin!(http.publish(&hub, &headers, single));
            let mut publish_batch = pin!(http.publish_batch(&hub, &headers, batch));
            assert!(publish.as_mut().now_or_never().is_none(), "the shard delivers first");
            assert!(publish_batch.as_mut().now_or_never().is_none(), "the shard delivers first");
            delivered.clear();
            inbox.drain_into(&mut delivered);
            assert_eq!(delivered.len(), 2, "both events are on their way");
            assert_eq!(publish.as_mut().now_or_never().is_none(), is_behind);
            assert_eq!(publish_batch.as_mut().now_or_never().is_none(), is_behind);
            if is_behind {
                inbox.set_behind(false);
                assert!(publish.await.is_ok() && publish_batch.await.is_ok());
            }
        }
    }
}
