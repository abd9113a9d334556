//! Admission of WebSocket connections.

use super::{ClientAddress, Node, address::AddressPermit};
use crate::{
    broker::{BrokerPermit, FoundClient},
    clock,
    config::ConnectionConfig,
    hub::Hub,
    permit::Permit,
    protocol::{ClientName, CloseCode, NamedClient, ResumeToken, SocketId, Version},
    rate::Rate,
    session::{Session, SessionConfig},
};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// A WebSocket handshake's parameters.
#[derive(Clone, Copy, Debug)]
pub struct ConnectRequest<'a> {
    /// The app's key, from the path.
    pub key: &'a str,
    /// The token of a client that may return, from the path, valid or not.
    pub token: Option<&'a str>,
    /// The `protocol` parameter of the query.
    pub protocol: Option<&'a str>,
    /// The `Origin` header.
    pub origin: Option<&'a str>,
    /// The client's address and protocol.
    pub peer: ClientAddress,
    /// Whether both its page and its `Host` are loopback.
    pub is_from_loopback: bool,
}

/// An admitted client. Dropping it releases its permits.
#[derive(Debug)]
pub struct AdmittedClient<H> {
    /// The hub of the client's app.
    pub hub: Arc<Hub>,
    /// The protocol state of the connection.
    pub session: Session<H>,
    /// Address and origin of the client, for the log.
    pub info: ClientInfo,
    _permits: (Permit, Permit, Option<AddressPermit>, BrokerPermit),
}

/// Address, origin and start of a connection. Every idle connection keeps one.
#[derive(Debug)]
pub struct ClientInfo {
    /// The client's address.
    pub address: IpAddr,
    /// The `Origin` header, truncated for the log.
    pub origin: Option<Box<str>>,
    /// When the client was admitted.
    pub admitted_at: Instant,
}

/// Maximum length of an `Origin` header that is kept, in bytes.
const ORIGIN_MAX: usize = 256;

impl ClientInfo {
    fn new(request: ConnectRequest<'_>, now: Instant) -> Self {
        let origin = request.origin.map(|text| text[..text.floor_char_boundary(ORIGIN_MAX)].into());
        Self { address: request.peer.address, origin, admitted_at: now }
    }
}

/// The settings that apply to new connections.
#[derive(Debug)]
pub(super) struct AdmissionPolicy {
    /// Whether clients must name a version of the protocol.
    is_strict: bool,
    /// Whether clients with a token may return.
    resumes: bool,
    session: Arc<SessionConfig>,
}

impl AdmissionPolicy {
    pub(super) fn new(connection: &ConnectionConfig) -> Self {
        Self {
            is_strict: connection.strict_protocol,
            resumes: 0 < connection.resume_s,
            session: Arc::new(SessionConfig {
                activity_timeout: Duration::from_secs(connection.activity_timeout_s),
                pong_timeout: Duration::from_secs(connection.pong_timeout_s),
                max_channels: connection.max_channels,
                message_rate: message_rate(connection),
                response_byte_rate: response_byte_rate(connection),
                resume_ack: connection.resume_ack,
            }),
        }
    }
}

impl Node {
    /// Admits or rejects a connection, checking in the order of docs/protocol.md#admission. Rejected
    /// connections consume the connection rate, but no quota.
    ///
    /// # Errors
    ///
    /// The code to close it with.
    pub async fn admit<H>(
        &self,
        request: ConnectRequest<'_>,
    ) -> Result<AdmittedClient<H>, CloseCode> {
        if self.is_draining() {
            return Err(CloseCode::ShuttingDown);
        }
        let now = clock::now();
        self.connection_rates
            .take(request.peer.address, now)
            .map_err(|_wait| CloseCode::AddressTooFast)?;
        let policy = self.policy.load_full();
        Version::negotiate(request.protocol, policy.is_strict).map_err(CloseCode::Version)?;
        let (key, token) = self.client_of(request)?;
        let hub = self
            .find_hub_by_key(key)
            .await
            .map_err(|_unavailable| CloseCode::AppsUnavailable)?
            .ok_or_else(|| CloseCode::AppNotFound { key: key.to_owned() })?;
        let app = hub.app();
        if app.config.tls_only && !request.peer.is_tls {
            return Err(CloseCode::TlsOnly);
        }
        if !app.config.enabled {
            return Err(CloseCode::AppDisabled);
        }
        if app.config.has_well_known_secret() && !request.is_from_loopback {
            return Err(CloseCode::DevelopmentOnly);
        }
        if !app.allows_origin(request.origin) {
            return Err(CloseCode::OriginNotAllowed);
        }
        let of_app = hub.admit().ok_or(CloseCode::OverQuota)?;
        let of_node = self.connections.try_acquire().ok_or(CloseCode::OverCapacity)?;
        let of_address = self
            .addresses
            .take(request.peer.address)
            .map_err(|_over_quota| CloseCode::AddressOverCapacity)?;
        let of_all_nodes = self.broker.acquire_permit(&hub).await.ok_or(CloseCode::OverQuota)?;
        let (socket_id, resuming) = self.identify(&hub, token.filter(|_| policy.resumes)).await;
        let config = Arc::clone(&policy.session);
        let now = clock::now();
        let mut session = Session::new(hub.app_handle(), config, socket_id, now);
        if let Some((token, is_known)) = resuming {
            session.make_resumable(token, is_known, now);
        }
        Ok(AdmittedClient {
            session,
            info: ClientInfo::new(request, now),
            hub,
            _permits: (of_app, of_node, of_address, of_all_nodes),
        })
    }
}

impl Node {
    /// The key of the requested app, and the token that stands in the path or after the key.
    fn client_of<'a>(
        &self,
        request: ConnectRequest<'a>,
    ) -> Result<(&'a str, Option<ResumeToken>), CloseCode> {
        let named = match request.token {
            Some(token) => NamedClient { key: request.key, token: Some(token) },
            // A key that contains what looks like a token is a key first.
            None if self.hub_by_key(request.key).is_some() => {
                NamedClient { key: request.key, token: None }
            }
            None => NamedClient::split_key(request.key),
        };
        let token = named.token.map(ResumeToken::parse).transpose();
        Ok((named.key, token.map_err(|_invalid| CloseCode::InvalidToken)?))
    }

    /// The socket id of a new connection: that of the previous one if the client has returned. Without a token in
    /// the result, the connection can't be resumed. With it, whether it is known that there was a previous one or none.
    async fn identify(
        &self,
        hub: &Hub,
        token: Option<ResumeToken>,
    ) -> (SocketId, Option<(ResumeToken, bool)>) {
        let new_id = || SocketId::from_random(rand::random());
        let Some(token) = token else { return (new_id(), None) };
        let name = ClientName { app_id: hub.app_id(), token };
        match self.find_client(&name).await {
            FoundClient::Known(socket_id) => (socket_id, Some((name.token, true))),
            FoundClient::Unknown => (new_id(), Some((name.token, true))),
            FoundClient::Unavailable => (new_id(), Some((name.token, false))),
            FoundClient::Shared => {
                tracing::debug!(app = &*name.app_id, "several clients use one token: not resumed");
                (new_id(), None)
            }
        }
    }
}

/// The message rate of one connection. A client that reconnects subscribes to all of its channels
/// at once, and signs in.
fn message_rate(connection: &ConnectionConfig) -> Rate {
    let channels = u32::try_from(connection.max_channels).unwrap_or(u32::MAX);
    let rate = connection.max_messages_per_second;
    Rate::per_second(rate).with_burst(rate.saturating_add(channels))
}

/// The rate of bytes that one connection may make the server send: the size of its outbox each
/// second, and half of it as a burst, so that responses alone never fill the outbox.
fn response_byte_rate(connection: &ConnectionConfig) -> Rate {
    let bytes = u32::try_from(connection.max_outbox_bytes).unwrap_or(u32::MAX);
    Rate::per_second(bytes).with_burst(bytes / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn rates_leave_room_for_a_reconnecting_client() {
        let connection = ConnectionConfig {
            max_channels: 30,
            max_messages_per_second: 7,
            max_outbox_bytes: 1_000,
            ..ConnectionConfig::default()
        };
        let rates = [message_rate(&connection), response_byte_rate(&connection)];
        let expected =
            [Rate::per_second(7).with_burst(37), Rate::per_second(1_000).with_burst(500)];
        assert_eq!(format!("{rates:?}"), format!("{expected:?}"));
    }

    #[test]
    fn a_long_origin_is_truncated_for_the_log() {
        let peer = ClientAddress { address: Ipv4Addr::LOCALHOST.into(), is_tls: false };
        let kept = |origin: &str| {
            let origin = Some(origin);
            let request = ConnectRequest {
                key: "k",
                token: None,
                protocol: None,
                origin,
                peer,
                is_from_loopback: true,
            };
            ClientInfo::new(request, Instant::now()).origin.map(|kept| kept.len())
        };
        let longest = "x".repeat(256);
        assert_eq!((kept(&longest), kept(&format!("{longest}x"))), (Some(256), Some(256)));
        assert_eq!(kept(&format!("{}é", &longest[1..])), Some(255));
    }
}
