//! A session that receives text and time, compared with a model of its subscriptions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use campanile::app::App;
use campanile::config::{AppConfig, ResumeAck};
use campanile::protocol::{
    CloseCode, Consequence, ErrorCode, ProtocolError, SignInRejection, SocketId,
    SubscriptionRejection,
};
use campanile::rate::Rate;
use campanile::session::{Action, DeadlineAction, Session, SessionConfig};
use campanile::signature::{channel_string_to_sign, user_string_to_sign};
use serde_json::json;

const CHANNELS_MAX: usize = 5;
const ACTIVITY_S: u64 = 120;
const PONG_S: u64 = 30;

/// Processes the lines of the input: the first letter of each is its kind, and the rest is its argument.
///
/// - `s NAME` subscribes with a correct signature, `p DATA` to one presence channel with this `channel_data`;
/// - `u DATA` signs in with a correct signature and this `user_data`;
/// - `d NUMBER` advances the time by this many milliseconds;
/// - anything else is a message.
pub(crate) fn session(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut driver = Driver::new();
    for line in text.lines() {
        if !driver.take(line) {
            return;
        }
    }
    let taken = driver.session.take_subscriptions();
    let taken: BTreeSet<String> = taken.keys().map(ToString::to_string).collect();
    assert_eq!(taken, driver.subscribed, "the session lost or added a subscription");
}

/// The time in which one point of the error budget is refilled.
const REFILL_MS: u64 = 10_000;

struct Driver {
    session: Session<()>,
    app: Arc<App>,
    now: Instant,
    received_at: Instant,
    subscribed: BTreeSet<String>,
    user: Option<String>,
    /// The spent points of the error budget, as the time until they are refilled.
    spent_ms: u64,
}

impl Driver {
    fn new() -> Self {
        let live = Arc::new(ArcSwap::from_pointee(App::new(AppConfig::development())));
        let config = Arc::new(SessionConfig {
            activity_timeout: Duration::from_secs(ACTIVITY_S),
            pong_timeout: Duration::from_secs(PONG_S),
            max_channels: CHANNELS_MAX,
            // These limits have separate tests.
            message_rate: Rate::per_second(0),
            response_byte_rate: Rate::per_second(0),
            resume_ack: ResumeAck::Pusher,
        });
        let now = Instant::now();
        let id = SocketId::from_random(0x0000_04d2_0000_04d2);
        Self {
            session: Session::new(Arc::clone(&live), config, id, now),
            app: live.load_full(),
            now,
            received_at: now,
            subscribed: BTreeSet::new(),
            user: None,
            spent_ms: 0,
        }
    }

    /// Processes one input. Returns false if the session requests the close of the connection.
    fn take(&mut self, line: &str) -> bool {
        let (kind, rest) = line.split_once(' ').unwrap_or(("", line));
        let message = match kind {
            "s" => self.subscribe(rest, None),
            "p" => self.subscribe("presence-x", Some(rest)),
            "u" => {
                let text = user_string_to_sign(self.session.socket_id(), rest);
                let auth = self.signed(&text);
                json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": rest } })
                    .to_string()
            }
            "d" => return self.pass(rest.parse().unwrap_or(1)),
            _ => line.to_owned(),
        };
        self.on_server_message(&message)
    }

    fn signed(&self, text: &str) -> String {
        format!("{}:{}", self.app.config.key, self.app.signer.sign(text))
    }

    fn subscribe(&self, channel: &str, channel_data: Option<&str>) -> String {
        let auth =
            self.signed(&channel_string_to_sign(self.session.socket_id(), channel, channel_data));
        let data = json!({ "channel": channel, "auth": auth, "channel_data": channel_data });
        json!({ "event": "pusher:subscribe", "data": data }).to_string()
    }

    fn pass(&mut self, millis: u64) -> bool {
        let millis = millis % 1_000_000;
        self.now += Duration::from_millis(millis);
        self.spent_ms = self.spent_ms.saturating_sub(millis);
        let silence = self.now - self.received_at;
        match self.session.on_deadline(self.now) {
            // The client has no token.
            Some(DeadlineAction::Acknowledge) => unreachable!("nothing is to be acknowledged"),
            None => true,
            Some(DeadlineAction::Ping) => {
                assert!(Duration::from_secs(ACTIVITY_S) <= silence);
                true
            }
            Some(DeadlineAction::Close(code)) => {
                assert_eq!(code, CloseCode::PongTimeout);
                assert!(Duration::from_secs(ACTIVITY_S + PONG_S) <= silence);
                false
            }
        }
    }

    fn on_server_message(&mut self, message: &str) -> bool {
        self.received_at = self.now;
        let outcome = self.session.on_text(message, self.now);
        let error = match outcome {
            Ok(action) => {
                let done = action.map(|action| Self::check(action, &self.subscribed));
                self.apply(done);
                None
            }
            Err(error) => Some(error),
        };
        assert_eq!(self.session.deadline(), self.now + Duration::from_secs(ACTIVITY_S));
        error.is_none_or(|error| self.charge(&error))
    }

    /// Checks that the action is allowed; returns the result to report to the session.
    fn check(action: Action<'_, ()>, subscribed: &BTreeSet<String>) -> Done {
        match action {
            Action::Pong => Done::Nothing,
            Action::Subscribe { channel, member } => {
                assert!(!subscribed.contains(channel.as_str()), "{channel} twice");
                assert!(subscribed.len() < CHANNELS_MAX, "{channel} is one too many");
                assert_eq!(channel.is_presence(), member.is_some());
                Done::Subscribed(channel, member.map(|member| member.user_id))
            }
            Action::Unsubscribe { channel, .. } => {
                assert!(subscribed.contains(channel.as_str()), "{channel} was not subscribed");
                Done::Unsubscribed(channel.to_string())
            }
            Action::Publish { channel, name, user_id, .. } => {
                assert!(subscribed.contains(channel.as_str()) && channel.needs_auth());
                assert!(name.starts_with("client-"));
                assert_eq!(user_id.is_some(), channel.is_presence());
                Done::Nothing
            }
            Action::SignIn { user, .. } => Done::SignedIn(user),
        }
    }

    fn apply(&mut self, done: Option<Done>) {
        match done {
            None | Some(Done::Nothing) => {}
            Some(Done::Subscribed(channel, user_id)) => {
                self.subscribed.insert(channel.to_string());
                self.session.add_subscription(channel, user_id, ());
            }
            Some(Done::Unsubscribed(channel)) => {
                self.subscribed.remove(&channel);
            }
            Some(Done::SignedIn(user)) => {
                let before = self.user.replace(user.id.to_string());
                assert!(before.is_none_or(|id| id == *user.id), "another user on one connection");
                self.session.set_user(user);
            }
        }
    }

    /// Adds the cost of an error: the connection is closed at a hundred points, not earlier.
    fn charge(&mut self, error: &ProtocolError) -> bool {
        assert!(!error.to_string().is_empty());
        let points = match error {
            ProtocolError::Malformed(_) => 9,
            ProtocolError::Subscription { rejection: SubscriptionRejection::Auth(_), .. }
            | ProtocolError::SignIn(SignInRejection::Auth(_)) => 1,
            ProtocolError::TooManyErrors
            | ProtocolError::Subscription { .. }
            | ProtocolError::ClientEvent { .. }
            | ProtocolError::MessageRate { .. }
            | ProtocolError::TooManyMessages
            | ProtocolError::SignInDisabled
            | ProtocolError::SignIn(_)
            | ProtocolError::WatchlistTooLong { .. } => 0,
        };
        self.spent_ms += points * REFILL_MS;
        match error.consequence() {
            Consequence::Close(CloseCode::TooManyErrors) => {
                let points = self.spent_ms.div_ceil(REFILL_MS);
                assert!(90 <= points, "closed at {points}");
                false
            }
            Consequence::Close(code) => {
                assert_eq!(code, CloseCode::TooManyMessages, "too many subscriptions");
                false
            }
            Consequence::Report(code) => {
                assert!(code != Some(ErrorCode::WatchlistTooLong), "that is no error");
                assert!(self.spent_ms <= 99 * REFILL_MS, "not closed at {}", self.spent_ms);
                true
            }
        }
    }
}

/// The result of an action that the driver reports to the session.
enum Done {
    Nothing,
    Subscribed(campanile::protocol::ChannelName, Option<Arc<str>>),
    Unsubscribed(String),
    SignedIn(campanile::protocol::User),
}
