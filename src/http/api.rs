//! Asking about channels and users.

use super::{
    Http,
    auth::Authenticated,
    publish::parse_channel,
    reply::{ApiError, Reply, ok},
};
use crate::{hub::Hub, protocol::ChannelName};
use serde_json::{Value, json};

/// The attributes that a query asks for, each of which must be known.
fn info<'a>(head: &'a Authenticated, known: &[&str]) -> Result<Vec<&'a str>, ApiError> {
    let list = head.parameter("info").unwrap_or_default();
    let attributes: Vec<&str> =
        list.split(',').map(str::trim).filter(|attribute| !attribute.is_empty()).collect();
    match attributes.iter().find(|attribute| !known.contains(attribute)) {
        Some(_) => Err(ApiError::bad_request(format!("info may hold {}", known.join(", ")))),
        None => Ok(attributes),
    }
}

fn counts_are_on(hub: &Hub) -> Result<(), ApiError> {
    if hub.app().config.subscription_count {
        return Ok(());
    }
    Err(ApiError::bad_request(
        "subscription_count is not enabled for this app: set subscription_count = true",
    ))
}

impl Http {
    /// `GET /apps/{id}/channels`.
    pub(super) async fn channels(
        &self,
        hub: &Hub,
        head: &Authenticated<'_>,
    ) -> Result<Reply, ApiError> {
        let prefix = head.parameter("filter_by_prefix").unwrap_or_default();
        let info = info(head, &["user_count", "subscription_count"])?;
        let (users, subscriptions) =
            (info.contains(&"user_count"), info.contains(&"subscription_count"));
        // Reverb's users ask for both at once and get what applies.
        if users && !subscriptions && !prefix.starts_with("presence-") {
            return Err(ApiError::bad_request(
                "user_count may only be requested for presence channels - \
                 please supply filter_by_prefix beginning with presence-",
            ));
        }
        if subscriptions {
            counts_are_on(hub)?;
        }
        let occupied = self.node.channels(hub, prefix).await?;
        // There may be a hundred thousand, and meanwhile this thread delivers nothing: they are
        // written at once. A channel's name has nothing in it that JSON escapes.
        let mut body = String::from(r#"{"channels":{"#);
        for (at, (name, counts)) in occupied.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let attribute = if name.is_presence() {
                users.then(|| format!(r#""user_count":{}"#, counts.users))
            } else {
                subscriptions.then(|| format!(r#""subscription_count":{}"#, counts.subscriptions))
            };
            body.extend([comma, "\"", name.as_str(), "\":{"]);
            body.extend(attribute);
            body.push('}');
        }
        body.push_str("}}");
        Ok(ok(body))
    }

    /// `GET /apps/{id}/channels/{channel}`.
    pub(super) async fn channel(
        &self,
        hub: &Hub,
        head: &Authenticated<'_>,
        name: &str,
    ) -> Result<Reply, ApiError> {
        let name = parse_channel(name, &hub.app().config)?;
        let info = info(head, &["user_count", "subscription_count", "cache"])?;
        let summary = self.node.channel(hub, &name).await?;
        let occupied = 0 < summary.counts.subscriptions;
        let mut members = vec![format!(r#""occupied":{occupied}"#)];
        for attribute in info {
            members.push(match attribute {
                "user_count" => {
                    users_apply(&name)?;
                    format!(r#""user_count":{}"#, summary.counts.users)
                }
                "subscription_count" => {
                    counts_apply(hub, &name)?;
                    format!(r#""subscription_count":{}"#, summary.counts.subscriptions)
                }
                _ => cache_member(&name, summary.cached.as_ref())?,
            });
        }
        Ok(ok(format!("{{{}}}", members.join(","))))
    }

    /// `GET /apps/{id}/channels/{channel}/users`.
    pub(super) async fn channel_users(&self, hub: &Hub, name: &str) -> Result<Reply, ApiError> {
        let name = parse_channel(name, &hub.app().config)?;
        if !name.is_presence() {
            return Err(ApiError::bad_request("Users can be retrieved only for presence channels"));
        }
        let user_ids = self.node.user_ids(hub, &name).await?;
        let users: Vec<Value> = user_ids.iter().map(|user_id| json!({"id": user_id})).collect();
        Ok(ok(json!({ "users": users }).to_string()))
    }

    /// `GET /apps/{id}/connections`.
    pub(super) async fn connections(&self, hub: &Hub) -> Result<Reply, ApiError> {
        let connections = self.node.connections(hub).await?;
        Ok(ok(json!({"connections": connections}).to_string()))
    }

    /// `POST /apps/{id}/users/{user_id}/terminate_connections`.
    pub(super) async fn terminate(&self, hub: &Hub, user_id: &str) -> Result<Reply, ApiError> {
        self.node.terminate(hub, user_id).await?;
        Ok(ok("{}"))
    }
}

fn users_apply(name: &ChannelName) -> Result<(), ApiError> {
    if name.is_presence() {
        return Ok(());
    }
    Err(ApiError::bad_request(
        "Cannot retrieve the user count unless the channel is a presence channel",
    ))
}

fn counts_apply(hub: &Hub, name: &ChannelName) -> Result<(), ApiError> {
    if name.is_presence() {
        return Err(ApiError::bad_request(
            "Cannot retrieve the subscription count of a presence channel: ask for user_count",
        ));
    }
    counts_are_on(hub)
}

fn cache_member(
    name: &ChannelName,
    cached: Option<&(String, std::time::Duration)>,
) -> Result<String, ApiError> {
    if !name.is_cache() {
        return Err(ApiError::bad_request(
            "Cannot retrieve the cache unless it is a cache channel",
        ));
    }
    // The data is a JSON token already, in the publisher's own words.
    Ok(match cached {
        Some((data, ttl)) => {
            format!(r#""cache":{{"data":{data},"ttl":{}}}"#, ttl.as_secs())
        }
        None => r#""cache":null"#.to_owned(),
    })
}
