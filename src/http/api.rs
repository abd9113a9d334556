//! Queries about channels, users and connections, and the commands for an app and a user.

use super::{
    HttpContext,
    auth::Authenticated,
    event_body::parse_channel,
    info::{self, RequestedInfo},
    response::{ApiError, HttpResponse, ok},
};
use crate::{
    hub::{Hub, UserClose},
    protocol::{ChannelName, InvalidChannelName},
};
use serde_json::json;
use std::time::Duration;

/// The attributes that a query asks for, each of which must be known.
fn requested_info(parameters: &Authenticated<'_>) -> Result<RequestedInfo, ApiError> {
    match RequestedInfo::parse(parameters.parameter("info").unwrap_or_default()) {
        (info, true) => Ok(info),
        (_, false) => {
            Err(ApiError::bad_request(format!("info may contain {}", RequestedInfo::KNOWN)))
        }
    }
}

impl HttpContext {
    /// `GET /apps/{id}/channels`. Attributes that a channel does not have are left out.
    pub(super) async fn channels(
        &self,
        hub: &Hub,
        parameters: &Authenticated<'_>,
    ) -> Result<HttpResponse, ApiError> {
        let prefix = parameters.parameter("filter_by_prefix").unwrap_or_default();
        let info = requested_info(parameters)?;
        let channels = self.node.broker().channels(hub, prefix).await?;
        let attributes = [info.user_count, info.subscription_count];
        Ok(ok(channels.response(prefix, attributes, |each| info::channels(each, info))))
    }

    /// `GET /apps/{id}/channels/{channel}`. An attribute that the channel cannot have is an error.
    pub(super) async fn channel(
        &self,
        hub: &Hub,
        parameters: &Authenticated<'_>,
        name: &str,
    ) -> Result<HttpResponse, ApiError> {
        let name = parse_channel(name, &hub.app().config)?;
        let info = requested_info(parameters)?;
        check_attributes(info, &name)?;
        let summary = self.node.broker().channel(hub, &name).await?;
        let mut body = format!(r#"{{"occupied":{}"#, 0 < summary.counts.subscriptions);
        if info.user_count || info.subscription_count {
            body.push(',');
            info.write_counts(&name, summary.counts, &mut body);
        }
        if info.cache {
            body.push_str(&cache_field(summary.cached.as_ref()));
        }
        body.push('}');
        Ok(ok(body))
    }

    /// `GET /apps/{id}/channels/{channel}/users`. With `with_user_info`, which is soketi's, each
    /// user has its `user_info`.
    pub(super) async fn channel_users(
        &self,
        hub: &Hub,
        parameters: &Authenticated<'_>,
        name: &str,
    ) -> Result<HttpResponse, ApiError> {
        let name = parse_channel(name, &hub.app().config)?;
        if !name.is_presence() {
            return Err(ApiError::bad_request("Users can be retrieved only for presence channels"));
        }
        let with_info = matches!(parameters.parameter("with_user_info"), Some("1" | "true"));
        let users = self.node.broker().users(hub, &name, with_info).await?;
        let mut body = String::from(r#"{"users":["#);
        for (at, (id, info)) in users.iter().enumerate() {
            let id = json!(**id).to_string();
            body.extend([if at == 0 { r#"{"id":"# } else { r#",{"id":"# }, &id]);
            if with_info {
                // The info is already a JSON object.
                body.extend([r#","user_info":"#, info]);
            }
            body.push('}');
        }
        body.push_str("]}");
        Ok(ok(body))
    }

    /// `GET /apps/{id}/connections`.
    pub(super) async fn connections(&self, hub: &Hub) -> Result<HttpResponse, ApiError> {
        let connections = self.node.broker().connections(hub).await?;
        Ok(ok(json!({"connections": connections}).to_string()))
    }

    /// `POST /apps/{id}/reload`: reads the app's row in the database again.
    pub(super) async fn reload(&self, hub: &Hub) -> Result<HttpResponse, ApiError> {
        let refreshed = self.node.refresh_app(&hub.app_id()).await;
        let is_of_database = refreshed.map_err(ApiError::apps_unavailable)?;
        // What is in the configuration is read again on SIGHUP only.
        let source = if is_of_database { "database" } else { "configuration" };
        Ok(ok(json!({"source": source}).to_string()))
    }

    /// `POST /apps/{id}/users/{user_id}/terminate_connections`, and `force_reconnect`, which is Sockudo's.
    /// Ids with characters that a user id cannot have are accepted: no connection is signed in with
    /// them.
    pub(super) async fn close_user(
        &self,
        hub: &Hub,
        user_id: &str,
        close: UserClose,
    ) -> Result<HttpResponse, ApiError> {
        let max = hub.app().config.max_channel_name_length;
        if let Err(rule @ InvalidChannelName::UserIdTooLong { .. }) =
            ChannelName::of_user(user_id, max)
        {
            return Err(ApiError::bad_request(format!("Invalid user id: {rule}")));
        }
        self.node.broker().close_user(hub, user_id, close).await?;
        Ok(ok("{}"))
    }
}

fn check_attributes(info: RequestedInfo, name: &ChannelName) -> Result<(), ApiError> {
    if info.user_count && !name.is_presence() {
        return Err(ApiError::bad_request(
            "Cannot retrieve the user count unless the channel is a presence channel",
        ));
    }
    if info.cache && !name.is_cache() {
        return Err(ApiError::bad_request(
            "Cannot retrieve the cache unless it is a cache channel",
        ));
    }
    Ok(())
}

fn cache_field(cached: Option<&(String, Duration)>) -> String {
    // The data is a JSON token as the publisher sent it.
    match cached {
        Some((data, ttl)) => format!(r#","cache":{{"data":{data},"ttl":{}}}"#, ttl.as_secs()),
        None => r#","cache":null"#.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_a_channel_cannot_have_are_errors() {
        for (name, attributes, rejected) in [
            ("a", "subscription_count", None),
            ("a", "user_count", Some("presence channel")),
            ("a", "cache", Some("cache channel")),
            ("presence-a", "user_count,subscription_count", None),
            ("presence-a", "user_count,cache", Some("cache channel")),
            ("cache-a", "cache", None),
            ("cache-a", "cache,user_count", Some("presence channel")),
            ("presence-cache-a", "cache,user_count", None),
        ] {
            let name = ChannelName::parse(name, 200).unwrap();
            let error = check_attributes(RequestedInfo::parse(attributes).0, &name).err();
            assert_eq!(error.is_some(), rejected.is_some(), "{name} {attributes}");
            let error = format!("{error:?}");
            assert!(error.contains(rejected.unwrap_or_default()), "{error}");
        }
    }

    #[test]
    fn a_cached_event_is_shown_as_it_was_published() {
        let cached = ("\"\\u00e9\"".to_owned(), Duration::from_millis(2_999));
        assert_eq!(cache_field(Some(&cached)), r#","cache":{"data":"\u00e9","ttl":2}"#);
        assert_eq!(cache_field(None), r#","cache":null"#);
    }
}
