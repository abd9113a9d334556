//! Answers the questions of the console. Without a watched connection, a message costs a comparison.

use super::{
    admitted::{AdmittedClient, SubscriptionState},
    close_reason::CloseReason,
    connection::{Connection, Phase},
    event_loop::Shard,
};
use crate::{
    hub::{
        ChannelId, ConnectionFilter, ConnectionKey, ConnectionState, ConnectionWatch,
        ConnectionsQuery, MessageCounts, WatchedMessage,
    },
    protocol::{
        AuthError, CloseCode, Frame, FrameKind, ProtocolError, SignInRejection, SocketId,
        SubscriptionRejection,
    },
    recent::{self, FailedAuthorization, cut},
};

/// Maximum number of connections that are looked at for one answer: some milliseconds of work.
const LOOKED_AT_MAX: usize = 20_000;

impl Shard {
    /// Answers which connections an app has. Returns what that has cost, in frames.
    pub(super) fn report_connections(&self, query: &ConnectionsQuery) -> usize {
        let is_one = matches!(query.filter, ConnectionFilter::One(_));
        let looked_at_max = if is_one { usize::MAX } else { LOOKED_AT_MAX };
        let open = self.connections.iter().take(looked_at_max);
        let open = open.filter_map(|(_, connection)| Some((connection, connection.client()?)));
        let of_app = open.filter(|(_, client)| client.hub.app_id() == query.app_id);
        let found = of_app.filter(|(_, client)| matches(client, &query.filter)).take(query.max);
        query.answer(found.map(|(connection, client)| state(connection, client, is_one)).collect());
        self.connections.len().min(looked_at_max)
    }

    fn find(&self, app_id: &str, socket_id: SocketId) -> Option<ConnectionKey> {
        let found = self.connections.iter().find(|(_, connection)| {
            let client = connection.client();
            client.is_some_and(|client| {
                client.session.socket_id() == socket_id && *client.hub.app_id() == *app_id
            })
        });
        found.map(|(_, connection)| connection.key)
    }

    /// Watches a connection, if this shard has it. Returns what that has cost, in frames.
    pub(super) fn watch_connection(&mut self, watch: ConnectionWatch) -> usize {
        self.watches.retain(|(_, watch)| !watch.is_closed());
        if let Some(key) = self.find(&watch.app_id, watch.socket_id) {
            self.watches.push((key, watch));
        }
        self.connections.len()
    }

    /// Closes a connection, if this shard has it. Returns what that has cost, in frames.
    pub(super) fn disconnect(&mut self, app_id: &str, socket_id: SocketId) -> usize {
        if let Some(key) = self.find(app_id, socket_id) {
            self.close(key.slot, &CloseCode::Terminated);
        }
        self.connections.len()
    }

    #[cold]
    fn report_watched(&mut self, slot: u32, message: impl Fn() -> WatchedMessage) {
        self.watches.retain(|(key, watch)| {
            if key.slot == slot { watch.report(&message) } else { !watch.is_closed() }
        });
    }

    /// Reports a message of a client, if it is watched.
    pub(super) fn watch_in(&mut self, slot: u32, text: &str) {
        if !self.watches.is_empty() {
            self.report_watched(slot, || WatchedMessage::In(text.to_owned()));
        }
    }

    /// Reports a message for one client, if it is watched. A closing connection is sent none.
    pub(super) fn watch_out(&mut self, slot: u32, frame: &Frame) {
        if !self.watches.is_empty()
            && frame.kind() != FrameKind::Control
            && self.connections.get(slot as usize).is_some_and(Connection::is_open)
        {
            self.report_watched(slot, || WatchedMessage::Out(frame.clone()));
        }
    }

    /// Reports a frame for the subscribers of a channel to those that are watched.
    pub(super) fn watch_fan_out(
        &mut self,
        channel: ChannelId,
        sequence: u64,
        frame: &Frame,
        except: Option<SocketId>,
    ) {
        if self.watches.is_empty() {
            return;
        }
        // A connection has fewer subscriptions than a channel may have subscribers.
        let receives = |key: &ConnectionKey| {
            let client = self.connections.get(key.slot as usize).and_then(Connection::client);
            let mut handles = client.into_iter().flat_map(|client| client.session.handles());
            let subscriber = handles.find_map(|handle| match handle.0 {
                SubscriptionState::Active(at) if at.channel == channel => self.subscribers.at(at),
                SubscriptionState::Active(_) | SubscriptionState::Pending { .. } => None,
            });
            subscriber.is_some_and(|subscriber| {
                subscriber.after_sequence < sequence && Some(subscriber.socket_id) != except
            })
        };
        self.watches.retain(|(key, watch)| {
            if receives(key) {
                watch.report(|| WatchedMessage::Out(frame.clone()))
            } else {
                !watch.is_closed()
            }
        });
    }

    /// Reports the end of a connection, and ends its watches.
    pub(super) fn watch_end(
        &mut self,
        key: ConnectionKey,
        reason: &CloseReason,
        messages: MessageCounts,
    ) {
        if self.watches.is_empty() {
            return;
        }
        self.watches.retain(|(watched, watch)| {
            let is_other = *watched != key;
            if !is_other {
                let (code, reason) = (reason.code(), reason.message());
                let _ends = watch.report(|| WatchedMessage::Closed(code, reason, messages));
            }
            is_other
        });
    }

    /// Records an authorization that was wrong.
    pub(super) fn record_authorization(&mut self, slot: u32, error: &ProtocolError) {
        let (channel, auth) = if let ProtocolError::Subscription {
            channel,
            rejection: SubscriptionRejection::Auth(auth),
        } = error
        {
            (Some(channel), auth)
        } else if let ProtocolError::SignIn(SignInRejection::Auth(auth)) = error {
            (None, auth)
        } else {
            return;
        };
        let Some(client) = self.client(slot) else { return };
        let app = client.hub.app_id();
        recent::AUTHORIZATIONS.record(Some(&app), || failed_authorization(client, channel, auth));
    }
}

fn failed_authorization(
    client: &AdmittedClient,
    channel: Option<&String>,
    auth: &AuthError,
) -> FailedAuthorization {
    let (key, signature, string_to_sign) = match auth {
        AuthError::Missing | AuthError::Format => (None, None, None),
        AuthError::Key { sent } => (Some(cut(sent)), None, None),
        AuthError::Signature { string_to_sign, sent } => {
            let key = client.hub.read_config(|config| config.key.clone());
            (Some(key), Some(cut(sent)), Some(cut(string_to_sign)))
        }
    };
    FailedAuthorization {
        app: client.hub.app_id(),
        socket_id: client.session.socket_id(),
        address: client.info.address,
        channel: channel.map(|channel| cut(channel)),
        key,
        signature,
        string_to_sign,
        why: why(auth).to_owned(),
    }
}

fn why(auth: &AuthError) -> &'static str {
    match auth {
        AuthError::Missing => "no authorization was sent",
        AuthError::Format => "the authorization is not KEY:SIGNATURE",
        AuthError::Key { .. } => "the key is not that of the app",
        AuthError::Signature { .. } => "the signature is not that of the string",
    }
}

impl Connection {
    /// The client, unless the connection is closing.
    fn client(&self) -> Option<&AdmittedClient> {
        match &self.phase {
            Phase::Open(client) => Some(client),
            Phase::Http(_) | Phase::Closing(_) => None,
        }
    }
}

fn matches(client: &AdmittedClient, filter: &ConnectionFilter) -> bool {
    let socket_id = client.session.socket_id();
    match filter {
        ConnectionFilter::One(wanted) => socket_id == *wanted,
        ConnectionFilter::Contains(text) if text.is_empty() => true,
        ConnectionFilter::Contains(text) => {
            socket_id.to_string().contains(&**text)
                || client.info.address.to_string().contains(&**text)
                || client.info.origin.as_deref().is_some_and(|origin| origin.contains(&**text))
                || client.session.user().is_some_and(|user| user.id.contains(&**text))
        }
    }
}

fn state(connection: &Connection, client: &AdmittedClient, is_one: bool) -> ConnectionState {
    let channels = client.session.channels();
    ConnectionState {
        socket_id: client.session.socket_id(),
        address: client.info.address,
        origin: client.info.origin.clone(),
        admitted_at: client.info.admitted_at,
        user_id: client.session.user().map(|user| user.id.clone()),
        subscriptions: channels.len(),
        channels: if is_one { channels.cloned().collect() } else { Vec::new() },
        waiting_bytes: connection.outbox.bytes(),
        messages: MessageCounts {
            received: connection.messages_in,
            sent: connection.outbox.messages(),
        },
    }
}
