//! The protocol of one client as a state machine without I/O.
//!
//! The driver in `shard` passes it messages and the time, and executes what it returns: at most one
//! [`Action`] for each input. After a subscription and a sign-in, it calls
//! [`Session::add_subscription`] and [`Session::set_user`].
//!
//! A message is handled with the app's current configuration. The settings that all sessions share
//! are those from the start of the connection, since the client has been sent some of them.

mod acknowledgements;
mod authorized;
mod config;
mod counted;
mod error_budget;
mod liveness;
mod message_limiter;
mod resumable;
#[cfg(test)]
mod tests;

pub use acknowledgements::AfterWrite;
pub use config::SessionConfig;
pub use resumable::Resumable;

use crate::{
    app::App,
    channel::Position,
    config::{ClientEvents, ResumeAck},
    protocol::{
        ChannelName, ClientEventMessage, ClientEventRejection, ClientMessage, CloseCode, EventData,
        Malformed, Member, ProtocolError, Resume, ResumeToken, SocketId, User,
    },
    rate::TokenBucket,
};
use arc_swap::ArcSwap;
use error_budget::ErrorBudget;
use liveness::Liveness;
use message_limiter::{Decision, MessageLimiter};
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// The protocol state of one connection. `H` is the driver's handle of a subscription, which the
/// session stores without reading it.
#[derive(Debug)]
pub struct Session<H> {
    app: Arc<ArcSwap<App>>,
    config: Arc<SessionConfig>,
    socket_id: SocketId,
    user: Option<Box<User>>,
    subscriptions: HashMap<ChannelName, Subscription<H>>,
    liveness: Liveness,
    /// The deadline for the client's first authorization; `None` once it was authorized.
    authorize_by: Option<Instant>,
    /// What a client that has a token can return to.
    resumable: Option<Box<Resumable>>,
    message_limiter: MessageLimiter,
    subscribe_limiter: MessageLimiter,
    response_bytes: TokenBucket,
    client_events: TokenBucket,
    error_budget: ErrorBudget,
}

/// A subscription, as the session stores it.
#[derive(Clone, Debug)]
pub struct Subscription<H> {
    /// On a presence channel, the id of the member.
    pub user_id: Option<Arc<str>>,
    /// The driver's handle of the subscription.
    pub handle: H,
}

/// A task for the driver.
#[derive(Debug)]
pub enum Action<'a, H> {
    /// Reply to a `pusher:ping`.
    Pong,
    /// Subscribe to a channel, then call [`Session::add_subscription`]. The client is authorized.
    Subscribe {
        /// The channel, whose authorization was verified.
        channel: ChannelName,
        /// On a presence channel, the member that joins.
        member: Option<Member>,
    },
    /// End a subscription, which the session has removed already.
    Unsubscribe {
        /// The channel that the client has left.
        channel: ChannelName,
        /// The subscription, with the driver's handle.
        subscription: Subscription<H>,
    },
    /// Publish a client event to the other subscribers.
    Publish {
        /// The channel, which the connection is subscribed to.
        channel: ChannelName,
        /// The event's name, which begins with `client-`.
        name: Cow<'a, str>,
        /// The event's data, at most `max_event_bytes`.
        data: EventData<'a>,
        /// On a presence channel, the id of the sending member.
        user_id: Option<Arc<str>>,
    },
    /// Sign the connection in, then call [`Session::set_user`]. The client is authorized.
    SignIn {
        /// The user, whose signature was verified.
        user: User,
        /// The `user_data` for the response.
        user_data: String,
    },
}

/// A task for the driver when a deadline has passed.
#[derive(Debug, Eq, PartialEq)]
pub enum DeadlineAction {
    /// Send a ping.
    Ping,
    /// Send a `pusher:ping`, whose answer acknowledges what was sent before.
    Acknowledge,
    /// Close the connection with this code.
    Close(CloseCode),
}

impl<H> Session<H> {
    /// Maximum time for which a client is not read because of the bytes that it made the server
    /// send. It is far below any activity timeout, so that replies to pings are read in time.
    const MAX_READ_PAUSE: Duration = Duration::from_secs(2);

    /// The session of a connection that has just been admitted.
    #[must_use]
    pub fn new(
        app: Arc<ArcSwap<App>>,
        config: Arc<SessionConfig>,
        socket_id: SocketId,
        now: Instant,
    ) -> Self {
        let timeout_s = app.load().config.authorized_connections_timeout_s;
        let authorize_by = (0 < timeout_s).then(|| now + Duration::from_secs(timeout_s));
        Self {
            app,
            config,
            socket_id,
            user: None,
            subscriptions: HashMap::new(),
            liveness: Liveness::on_message(now),
            authorize_by,
            resumable: None,
            message_limiter: MessageLimiter::new(now),
            subscribe_limiter: MessageLimiter::new(now),
            response_bytes: TokenBucket::full(now),
            client_events: TokenBucket::full(now),
            error_budget: ErrorBudget::full(now),
        }
    }

    /// The public name of the connection, by which its client authorizes itself.
    #[must_use]
    pub fn socket_id(&self) -> SocketId {
        self.socket_id
    }

    /// Lets the client return by its token.
    pub fn make_resumable(&mut self, token: ResumeToken, is_known: bool, now: Instant) {
        self.resumable = Some(Box::new(Resumable::new(token, is_known, now)));
    }

    /// What a client that has a token can return to.
    #[must_use]
    pub fn resumable(&self) -> Option<&Resumable> {
        self.resumable.as_deref()
    }

    /// What a client that has a token can return to.
    pub fn resumable_mut(&mut self) -> Option<&mut Resumable> {
        self.resumable.as_deref_mut()
    }

    /// Takes what the client can return to: from now on it is as one without a token.
    pub fn take_resumable(&mut self) -> Option<Box<Resumable>> {
        self.resumable.take()
    }

    /// Whether the latest message is a `pusher:ping` that the client sent just now.
    #[must_use]
    pub fn has_client_just_pinged(&self, now: Instant) -> bool {
        self.liveness.has_client_just_pinged(now)
    }

    /// Silence after which the client is pinged, as sent to the client.
    #[must_use]
    pub fn activity_timeout(&self) -> Duration {
        self.config.activity_timeout
    }

    /// The signed-in user; `None` before `pusher:signin`.
    #[must_use]
    pub fn user(&self) -> Option<&User> {
        self.user.as_deref()
    }

    /// Counts a WebSocket ping or pong as a message for `max_messages_per_second`.
    ///
    /// # Errors
    ///
    /// The limit was exceeded.
    pub fn on_control(&mut self, now: Instant) -> Result<(), ProtocolError> {
        self.liveness = Liveness::on_message(now);
        self.on_fragments(1, now)
    }

    /// Handles the answer to a WebSocket ping with this number: the counter of deliveries when it was sent.
    pub fn on_websocket_pong(&mut self, counter: u64) {
        if let Some(resumable) = &mut self.resumable
            && self.config.resume_ack == ResumeAck::Websocket
        {
            resumable.on_numbered_pong(counter);
        }
    }

    /// Counts fragments of messages, and small parts of frames: each counts as a message for
    /// `max_messages_per_second`. They do not reset the activity timeout, since the message may
    /// never be completed.
    ///
    /// # Errors
    ///
    /// The limit was exceeded.
    pub fn on_fragments(&mut self, fragments: usize, now: Instant) -> Result<(), ProtocolError> {
        for _ in 0..fragments {
            if self.message_limiter.check_rate(self.config.message_rate, now) == Decision::Close {
                return Err(ProtocolError::TooManyMessages);
            }
        }
        Ok(())
    }

    /// Handles one text message of the client.
    ///
    /// # Errors
    ///
    /// The client's error. The driver reports it or closes the connection, by
    /// [`ProtocolError::consequence`].
    pub fn on_text<'a>(
        &mut self,
        text: &'a str,
        now: Instant,
    ) -> Result<Option<Action<'a, H>>, ProtocolError> {
        self.liveness = Liveness::on_message(now);
        let message = ClientMessage::parse(text);
        let app = self.app.load();
        let is_heartbeat = matches!(message, Ok(ClientMessage::Ping | ClientMessage::Pong));
        match self.check_message_limits(&app, is_heartbeat, now) {
            Decision::Allow => {}
            Decision::Close => return Err(ProtocolError::TooManyMessages),
            Decision::Drop if is_heartbeat => {}
            Decision::Drop if self.message_limiter.should_notify(now) => {
                let channel = message.ok().and_then(ClientMessage::into_event_channel);
                return Err(ProtocolError::MessageRate { channel });
            }
            Decision::Drop => return Ok(None),
        }
        let message = match message {
            Ok(message) => message,
            Err(malformed) => return Err(self.malformed(malformed, now)),
        };
        match message {
            ClientMessage::Ping => {
                self.liveness = Liveness::on_client_ping(now);
                Ok(Some(Action::Pong))
            }
            ClientMessage::Pong => {
                if let Some(resumable) = &mut self.resumable
                    && self.config.resume_ack == ResumeAck::Pusher
                {
                    resumable.on_pong();
                }
                Ok(None)
            }
            ClientMessage::UnknownProtocolEvent => Ok(None),
            ClientMessage::Resume(Resume { channels }) => {
                self.on_counted(channels, app.config.max_channel_name_length, now);
                Ok(None)
            }
            ClientMessage::Subscribe(request) => self.subscribe(&app, request, now).map(Some),
            ClientMessage::Unsubscribe(channel) => Ok(self.unsubscribe(&channel)),
            ClientMessage::SignIn(request) => self.sign_in(&app, request, now).map(Some),
            ClientMessage::ClientEvent(event) => self.client_event(&app, event, now).map(Some),
            ClientMessage::Unknown { name, channel } => {
                let rejection = ClientEventRejection::Unknown { name: name.into_owned() };
                Err(ProtocolError::ClientEvent { channel, rejection })
            }
        }
    }

    /// Takes the positions that the page has counted. Without a token they are ignored.
    fn on_counted(
        &mut self,
        channels: HashMap<String, (String, u64)>,
        max_name_length: usize,
        now: Instant,
    ) {
        let Some(resumable) = &mut self.resumable else { return };
        let parsed = channels.into_iter().filter_map(|(name, (epoch, sequence))| {
            let channel = ChannelName::parse(&name, max_name_length).ok()?;
            Some((channel, Position { epoch: epoch.into(), sequence }))
        });
        resumable.tell(parsed, now);
    }

    /// Counts a message. Pings and pongs do not count against the app's limit
    /// (`docs/protocol.md#heartbeat`).
    fn check_message_limits(&mut self, app: &App, is_heartbeat: bool, now: Instant) -> Decision {
        match self.message_limiter.check_rate(self.config.message_rate, now) {
            Decision::Allow if !is_heartbeat => {
                self.message_limiter.check_window(app.message_limit(), now)
            }
            decision @ (Decision::Allow | Decision::Drop | Decision::Close) => decision,
        }
    }

    /// Handles a malformed message, and adds its cost.
    #[must_use]
    pub fn malformed(&mut self, malformed: Malformed, now: Instant) -> ProtocolError {
        match self.error_budget.spend(ErrorBudget::MALFORMED, now) {
            Ok(()) => ProtocolError::Malformed(malformed),
            Err(too_many) => too_many,
        }
    }

    /// Charges bytes that the server sends because of the client, to it or to others.
    pub fn charge(&mut self, bytes: usize, now: Instant) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.response_bytes.take_with_debt(bytes, self.config.response_byte_rate, now);
        self.response_bytes.cap_debt(Self::MAX_READ_PAUSE, self.config.response_byte_rate, now);
    }

    /// Refunds a charge that exceeded the actual cost.
    pub fn refund(&mut self, bytes: usize, now: Instant) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.response_bytes.refund(bytes, self.config.response_byte_rate, now);
    }

    /// Until when the client is not read, because it exceeded the rate of bytes that it may make
    /// the server send; `None` if it may be read.
    #[must_use]
    pub fn throttled_until(&self, now: Instant) -> Option<Instant> {
        self.response_bytes.debt(self.config.response_byte_rate, now).map(|debt| now + debt)
    }

    /// The next deadline of the session.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let silence = self.liveness.deadline(&self.config);
        let ping_at = self.resumable().and_then(Resumable::ping_at);
        let finished_at = self.resumable().and_then(Resumable::finished_at);
        [self.authorize_by, ping_at, self.acknowledge_by(), finished_at]
            .into_iter()
            .flatten()
            .fold(silence, Instant::min)
    }

    /// Handles the deadline if it has passed. Calling it early does nothing.
    pub fn on_deadline(&mut self, now: Instant) -> Option<DeadlineAction> {
        if self.authorize_by.is_some_and(|authorize_by| authorize_by <= now) {
            return Some(DeadlineAction::Close(CloseCode::NotAuthorizedInTime));
        }
        if self.resumable().and_then(Resumable::finished_at).is_some_and(|at| at <= now) {
            return Some(DeadlineAction::Close(CloseCode::Draining));
        }
        if self.acknowledge_by().is_some_and(|acknowledge_by| acknowledge_by <= now) {
            return Some(DeadlineAction::Close(CloseCode::PongTimeout));
        }
        if self.resumable().and_then(Resumable::ping_at).is_some_and(|ping_at| ping_at <= now) {
            return Some(DeadlineAction::Acknowledge);
        }
        self.liveness.on_deadline(&self.config, now)
    }

    /// When a client with a token must have answered the oldest `pusher:ping`. The browser may answer pings of
    /// WebSocket itself for a page that is suspended, and such a page receives nothing.
    fn acknowledge_by(&self) -> Option<Instant> {
        Some(self.resumable()?.unanswered_since()? + self.config.pong_timeout)
    }

    /// Adds a subscription. One that was pending is replaced when the broker accepts it.
    pub fn add_subscription(&mut self, channel: ChannelName, user_id: Option<Arc<str>>, handle: H) {
        if channel.needs_auth() {
            self.authorize_by = None;
        }
        self.subscriptions.insert(channel, Subscription { user_id, handle });
    }

    /// Sets the signed-in user.
    pub fn set_user(&mut self, user: User) {
        self.authorize_by = None;
        self.user = Some(Box::new(user));
    }

    /// The driver's handle of the subscription to `channel`.
    pub fn handle_mut(&mut self, channel: &ChannelName) -> Option<&mut H> {
        self.subscriptions.get_mut(channel).map(|subscription| &mut subscription.handle)
    }

    /// Removes a pending subscription that the broker has rejected.
    pub fn remove_subscription(&mut self, channel: &ChannelName) {
        self.subscriptions.remove(channel);
    }

    /// The handles of all subscriptions, including pending ones.
    pub fn handles(&self) -> impl Iterator<Item = &H> {
        self.subscriptions.values().map(|subscription| &subscription.handle)
    }

    /// The channels of all subscriptions, including pending ones.
    #[must_use]
    pub fn channels(&self) -> impl ExactSizeIterator<Item = &ChannelName> {
        self.subscriptions.keys()
    }

    /// The channel whose subscription has a handle that fits.
    pub fn channel_of(&self, fits: impl Fn(&H) -> bool) -> Option<&ChannelName> {
        self.subscriptions.iter().find(|(_, of)| fits(&of.handle)).map(|(channel, _)| channel)
    }

    /// Removes and returns all subscriptions.
    pub fn take_subscriptions(&mut self) -> HashMap<ChannelName, Subscription<H>> {
        std::mem::take(&mut self.subscriptions)
    }

    /// Unsubscribing without a subscription is not an error: pusher-js may do so.
    fn unsubscribe<'a>(&mut self, channel: &str) -> Option<Action<'a, H>> {
        let (channel, subscription) = self.subscriptions.remove_entry(channel)?;
        Some(Action::Unsubscribe { channel, subscription })
    }

    fn client_event<'a>(
        &mut self,
        app: &App,
        event: ClientEventMessage<'a>,
        now: Instant,
    ) -> Result<Action<'a, H>, ProtocolError> {
        let limits = &app.config;
        let rejected = |channel, rejection| Err(ProtocolError::ClientEvent { channel, rejection });
        if limits.client_events == ClientEvents::None {
            return rejected(event.channel, ClientEventRejection::Disabled);
        }
        let Some(channel) = event.channel else {
            return rejected(None, ClientEventRejection::NoChannel);
        };
        let subscribed = self.subscriptions.get_key_value(channel.as_str());
        let Some((name, subscription)) = subscribed.filter(|(name, _)| name.needs_auth()) else {
            let rejection = match ChannelName::parse(&channel, limits.max_channel_name_length) {
                Ok(name) if name.needs_auth() => ClientEventRejection::NotSubscribed,
                Ok(_) | Err(_) => ClientEventRejection::Channel,
            };
            return rejected(Some(channel), rejection);
        };
        let max = limits.max_event_name_length;
        if max < event.name.chars().count() {
            return rejected(Some(channel), ClientEventRejection::Name { max });
        }
        let data = event.data.map_or_else(EventData::absent, EventData::new);
        let max = limits.max_event_bytes;
        if max < data.byte_len() {
            return rejected(Some(channel), ClientEventRejection::Size { max });
        }
        if self.client_events.take(app.client_event_rate(), now).is_err() {
            return rejected(Some(channel), ClientEventRejection::Rate);
        }
        let user_id = subscription.user_id.clone();
        Ok(Action::Publish { channel: name.clone(), name: event.name, data, user_id })
    }
}
