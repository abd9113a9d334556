//! One client's side of the protocol, as a state machine that does no I/O.
//!
//! The driver in `shard` feeds it text and time, and carries out what it answers. One input
//! gives at most one [`Action`], so there is nothing to drain and nothing to forget. After an
//! action that the hub can refuse or that changes the session, the driver says how it went:
//! [`Session::subscribed`] and [`Session::signed_in`].
//!
//! A session looks at its app as that is configured when a message comes. What all sessions have in
//! common it keeps as it was when it began, since its client was told some of it.

mod flow;
mod liveness;
#[cfg(test)]
mod tests;

use crate::{
    app::App,
    config::ClientEvents,
    live::Live,
    protocol::{
        ChannelName, ClientEvent, ClientMessage, CloseCode, EventData, Malformed, Member,
        ProtocolError, SignIn, SignInRefusal, SocketId, Subscribe, SubscriptionRefusal, User,
    },
    rate::{Rate, TokenBucket},
};
use flow::{Flow, Passage};
use liveness::Liveness;
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// What all sessions of a server have in common.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// Silence after which the client is asked for a sign of life.
    pub activity_timeout: Duration,
    /// How long it then has to answer.
    pub pong_timeout: Duration,
    /// Most subscriptions of one connection.
    pub max_channels: usize,
    /// How fast one connection may send messages.
    pub message_rate: Rate,
}

/// The protocol state of one connection. `P` is where the driver keeps a subscription; the
/// session holds it and does not look into it.
#[derive(Debug)]
pub struct Session<P> {
    app: Arc<Live<App>>,
    config: Arc<SessionConfig>,
    socket_id: SocketId,
    user: Option<Box<User>>,
    subscriptions: HashMap<ChannelName, Subscription<P>>,
    liveness: Liveness,
    /// Until when the client must have been authorized for something; nothing once it was.
    authorize_by: Option<Instant>,
    messages: Flow,
    client_events: TokenBucket,
    mistakes: Mistakes,
}

/// A connection on a channel.
#[derive(Clone, Debug)]
pub struct Subscription<P> {
    /// The member that this connection is on this presence channel.
    pub user_id: Option<Arc<str>>,
    /// Where the driver keeps the subscription.
    pub place: P,
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Action<'a, P> {
    /// Answer a `pusher:ping`.
    Pong,
    /// Subscribe to a channel; the client may. Then say so by [`Session::subscribed`].
    Subscribe {
        /// The channel.
        channel: ChannelName,
        /// Who joins, on a presence channel.
        member: Option<Member>,
    },
    /// End a subscription, which the session has forgotten already.
    Unsubscribe {
        /// The channel.
        channel: ChannelName,
        /// What the session knew of it.
        subscription: Subscription<P>,
    },
    /// Pass a client event on to the other subscribers.
    Publish {
        /// The channel.
        channel: ChannelName,
        /// The event's name.
        name: Cow<'a, str>,
        /// Its data.
        data: EventData<'a>,
        /// The member that sends it, on a presence channel.
        user_id: Option<Arc<str>>,
    },
    /// Sign the connection in; it may. Then say so by [`Session::signed_in`].
    SignIn {
        /// Who it is.
        user: User,
        /// The client's own words, as it reads them back.
        user_data: String,
    },
}

/// What the driver is to do because time has passed.
#[derive(Debug, Eq, PartialEq)]
pub enum Due {
    /// Ask the client for a sign of life.
    Ping,
    /// Close the connection.
    Close(CloseCode),
}

/// How much a client got wrong lately. Anything it gets right clears the score.
#[derive(Debug, Default)]
struct Mistakes(u8);

impl Mistakes {
    const MAX: u8 = 100;
    /// Ten messages in a row that are none: nobody does that by accident.
    const MALFORMED: u8 = 10;
    /// A page whose login has expired may fail to subscribe to many channels at once.
    const UNAUTHORIZED: u8 = 1;

    fn add(&mut self, cost: u8) -> Result<(), ProtocolError> {
        self.0 = self.0.saturating_add(cost);
        if Self::MAX <= self.0 { Err(ProtocolError::TooManyMistakes) } else { Ok(()) }
    }
}

impl<P> Session<P> {
    /// A session that has just been admitted.
    #[must_use]
    pub fn new(
        app: Arc<Live<App>>,
        config: Arc<SessionConfig>,
        socket_id: SocketId,
        now: Instant,
    ) -> Self {
        let timeout_s = app.get().config.authorized_connections_timeout_s;
        let authorize_by = (0 < timeout_s).then(|| now + Duration::from_secs(timeout_s));
        Self {
            app,
            config,
            socket_id,
            user: None,
            subscriptions: HashMap::new(),
            liveness: Liveness::heard(now),
            authorize_by,
            messages: Flow::new(now),
            client_events: TokenBucket::full(now),
            mistakes: Mistakes::default(),
        }
    }

    /// The connection's public name.
    #[must_use]
    pub fn socket_id(&self) -> SocketId {
        self.socket_id
    }

    /// Silence after which the client is asked for a sign of life, for it to be told.
    #[must_use]
    pub fn activity_timeout(&self) -> Duration {
        self.config.activity_timeout
    }

    /// Who the connection is signed in as.
    #[must_use]
    pub fn user(&self) -> Option<&User> {
        self.user.as_deref()
    }

    /// Takes any sign of life: a message, or a ping or pong of WebSocket itself.
    pub fn on_activity(&mut self, now: Instant) {
        self.liveness = Liveness::heard(now);
    }

    /// Takes one text message from the client.
    ///
    /// # Errors
    ///
    /// The mistake the client made. The driver reports it or closes the connection, as
    /// [`ProtocolError::severity`] says.
    pub fn on_text<'a>(
        &mut self,
        text: &'a str,
        now: Instant,
    ) -> Result<Option<Action<'a, P>>, ProtocolError> {
        self.on_activity(now);
        let message = ClientMessage::parse(text);
        let is_life = matches!(message, Ok(ClientMessage::Ping | ClientMessage::Pong));
        let app = self.app.get();
        if !self.lets_pass(&app, is_life, now)? {
            return Ok(None);
        }
        let message = match message {
            Ok(message) => message,
            Err(malformed) => return Err(self.malformed(malformed)),
        };
        let action = match message {
            ClientMessage::Ping => Ok(Some(Action::Pong)),
            ClientMessage::Pong | ClientMessage::Unknown => Ok(None),
            ClientMessage::Subscribe(request) => self.subscribe(&app, request).map(Some),
            ClientMessage::Unsubscribe(channel) => Ok(self.unsubscribe(&channel)),
            ClientMessage::SignIn(request) => self.sign_in(&app, request).map(Some),
            ClientMessage::ClientEvent(event) => self.client_event(&app, event, now).map(Some),
        };
        if action.is_ok() {
            self.mistakes = Mistakes::default();
        }
        action
    }

    /// Counts a message, and says whether it is taken. Signs of life are, as long as the
    /// connection is there, and do not count for the app (PROTOCOL 1.8.1).
    fn lets_pass(&mut self, app: &App, is_life: bool, now: Instant) -> Result<bool, ProtocolError> {
        let passage = match self.messages.pass(self.config.message_rate, now) {
            Passage::Free if !is_life => self.messages.pass_app(app.message_limit(), now),
            passage @ (Passage::Free | Passage::Barred(_) | Passage::Silent) => passage,
        };
        match passage {
            Passage::Free => Ok(true),
            Passage::Barred(ProtocolError::MessageRate) | Passage::Silent if is_life => Ok(true),
            Passage::Silent => Ok(false),
            Passage::Barred(error) => Err(error),
        }
    }

    /// Takes a message that can't be one, and says what it costs.
    #[must_use]
    pub fn malformed(&mut self, malformed: Malformed) -> ProtocolError {
        match self.mistakes.add(Mistakes::MALFORMED) {
            Ok(()) => ProtocolError::Malformed(malformed),
            Err(too_many) => too_many,
        }
    }

    /// When the session next wants to be told the time.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let silence = self.liveness.deadline(&self.config);
        self.authorize_by.map_or(silence, |authorize_by| silence.min(authorize_by))
    }

    /// Tells the session the time. Calling early does nothing.
    pub fn on_deadline(&mut self, now: Instant) -> Option<Due> {
        if self.authorize_by.is_some_and(|authorize_by| authorize_by <= now) {
            return Some(Due::Close(CloseCode::NotAuthorizedInTime));
        }
        self.liveness.on_time(&self.config, now)
    }

    /// Learns that the hub has registered a subscription.
    pub fn subscribed(&mut self, channel: ChannelName, user_id: Option<Arc<str>>, place: P) {
        if channel.needs_auth() {
            self.authorize_by = None;
        }
        self.subscriptions.insert(channel, Subscription { user_id, place });
    }

    /// Learns that the hub has signed the connection in.
    pub fn signed_in(&mut self, user: User) {
        self.authorize_by = None;
        self.user = Some(Box::new(user));
    }

    /// Where the driver keeps the subscription to `channel`.
    pub fn place_mut(&mut self, channel: &ChannelName) -> Option<&mut P> {
        self.subscriptions.get_mut(channel).map(|subscription| &mut subscription.place)
    }

    /// Learns that a subscription that was taken for granted was refused.
    pub fn refused(&mut self, channel: &ChannelName) {
        self.subscriptions.remove(channel);
    }

    /// Ends all subscriptions, and hands them out.
    pub fn take_subscriptions(&mut self) -> HashMap<ChannelName, Subscription<P>> {
        std::mem::take(&mut self.subscriptions)
    }

    fn subscribe<'a>(
        &mut self,
        app: &App,
        request: Subscribe,
    ) -> Result<Action<'a, P>, ProtocolError> {
        match self.judge_subscribe(app, &request) {
            Ok((channel, member)) => Ok(Action::Subscribe { channel, member }),
            Err(refusal) => {
                if matches!(refusal, SubscriptionRefusal::Auth(_)) {
                    self.mistakes.add(Mistakes::UNAUTHORIZED)?;
                }
                Err(ProtocolError::Subscription { channel: request.channel, refusal })
            }
        }
    }

    fn judge_subscribe(
        &self,
        app: &App,
        request: &Subscribe,
    ) -> Result<(ChannelName, Option<Member>), SubscriptionRefusal> {
        let limits = &app.config;
        let channel = ChannelName::parse(&request.channel, limits.max_channel_name_length)
            .map_err(SubscriptionRefusal::Name)?;
        if self.subscriptions.contains_key(&channel) {
            return Err(SubscriptionRefusal::Existing);
        }
        let max = self.config.max_channels;
        if max <= self.subscriptions.len() {
            return Err(SubscriptionRefusal::TooMany { max });
        }
        let channel_data = request.channel_data.as_deref();
        if channel.needs_auth() {
            app.authorize_channel(
                request.auth.as_deref(),
                self.socket_id,
                channel.as_str(),
                channel_data,
            )
            .map_err(SubscriptionRefusal::Auth)?;
        }
        if let Some(user_id) = channel.server_to_user() {
            let is_user = self.user().is_some_and(|user| &*user.id == user_id);
            return if is_user {
                Ok((channel, None))
            } else {
                Err(SubscriptionRefusal::NotThatUser)
            };
        }
        let member =
            if channel.is_presence() { Some(self.member(app, channel_data)?) } else { None };
        Ok((channel, member))
    }

    /// Who joins a presence channel: whom `channel_data` names, else the signed-in user.
    fn member(&self, app: &App, channel_data: Option<&str>) -> Result<Member, SubscriptionRefusal> {
        let limits = app.member_limits();
        match (channel_data, self.user()) {
            (Some(data), _) => Member::parse(data, limits),
            (None, Some(user)) => {
                Member::from_user(Arc::clone(&user.id), user.info.as_deref(), limits)
            }
            (None, None) => Err(SubscriptionRefusal::MemberMissing),
        }
    }

    /// Unsubscribing from what one is not subscribed to is no mistake: pusher-js may race.
    fn unsubscribe<'a>(&mut self, channel: &str) -> Option<Action<'a, P>> {
        let (channel, subscription) = self.subscriptions.remove_entry(channel)?;
        Some(Action::Unsubscribe { channel, subscription })
    }

    fn client_event<'a>(
        &mut self,
        app: &App,
        event: ClientEvent<'a>,
        now: Instant,
    ) -> Result<Action<'a, P>, ProtocolError> {
        let limits = &app.config;
        if limits.client_events == ClientEvents::None {
            return Err(ProtocolError::ClientEventsDisabled);
        }
        let channel = event.channel.ok_or(ProtocolError::ClientEventWithoutChannel)?;
        let subscribed = self.subscriptions.get_key_value(channel.as_str());
        let Some((name, subscription)) = subscribed.filter(|(name, _)| name.needs_auth()) else {
            let parsed = ChannelName::parse(&channel, limits.max_channel_name_length);
            return Err(match parsed {
                Ok(name) if name.needs_auth() => {
                    ProtocolError::ClientEventNotSubscribed { channel }
                }
                Ok(_) | Err(_) => ProtocolError::ClientEventChannel { channel },
            });
        };
        let max = limits.max_event_name_length;
        if max < event.name.chars().count() {
            return Err(ProtocolError::ClientEventName { max });
        }
        let data = event.data.map_or_else(EventData::absent, EventData::new);
        let max = limits.max_event_bytes;
        if max < data.byte_len() {
            return Err(ProtocolError::ClientEventSize { max });
        }
        self.client_events
            .take(app.client_event_rate(), now)
            .map_err(|_wait| ProtocolError::ClientEventRate)?;
        let user_id = subscription.user_id.clone();
        Ok(Action::Publish { channel: name.clone(), name: event.name, data, user_id })
    }

    fn sign_in<'a>(&mut self, app: &App, request: SignIn) -> Result<Action<'a, P>, ProtocolError> {
        if !app.config.user_authentication {
            return Err(ProtocolError::SignInDisabled);
        }
        match self.judge_sign_in(app, &request) {
            Ok(user) => {
                let user_data = user.read_back(request.user_data);
                Ok(Action::SignIn { user, user_data })
            }
            Err(refusal) => {
                if matches!(refusal, SignInRefusal::Auth(_)) {
                    self.mistakes.add(Mistakes::UNAUTHORIZED)?;
                }
                Err(ProtocolError::SignIn(refusal))
            }
        }
    }

    fn judge_sign_in(&self, app: &App, request: &SignIn) -> Result<User, SignInRefusal> {
        app.authorize_user(request.auth.as_deref(), self.socket_id, &request.user_data)
            .map_err(SignInRefusal::Auth)?;
        let user = User::parse(&request.user_data, app.config.max_channel_name_length)?;
        match self.user() {
            Some(present) if present.id != user.id => Err(SignInRefusal::OtherUser),
            Some(_) | None => Ok(user),
        }
    }
}
