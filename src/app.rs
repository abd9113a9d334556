//! Apps: credentials, limits and access rules of one tenant.

use crate::{
    config::AppConfig,
    protocol::{AuthError, MemberLimits, SocketId},
    rate::Rate,
    signature::{self, Signer},
};
use std::time::Duration;

/// An app with its configuration, prepared for use.
#[derive(Debug)]
pub struct App {
    /// Limits and switches, as configured.
    pub config: AppConfig,
    /// Signs with the app's secret.
    pub signer: Signer,
    origins: Vec<OriginPattern>,
}

/// The maximum number of messages of one connection in a time window. Source: Laravel Reverb's
/// `rate_limiting`.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimit {
    /// Messages in a window; 0 means no limit.
    pub max: u32,
    /// The length of the window.
    pub window: Duration,
    /// Whether the connection is closed at the first message beyond the limit.
    pub disconnects: bool,
}

impl App {
    /// Builds the signer and the origin patterns of `config`.
    #[must_use]
    pub fn new(config: AppConfig) -> Self {
        let origins = config.allowed_origins.iter().map(|text| OriginPattern::new(text)).collect();
        Self { signer: Signer::new(config.secret.expose()), origins, config }
    }

    /// Whether a page of this origin may connect. Programs other than browsers send no origin, and
    /// may connect.
    #[must_use]
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| self.origins.iter().any(|pattern| pattern.matches(origin)))
    }

    /// The limits of presence members.
    #[must_use]
    pub fn member_limits(&self) -> MemberLimits {
        MemberLimits { max_user_info_bytes: self.config.max_presence_user_info_bytes }
    }

    /// The message limit of one connection.
    #[must_use]
    pub fn message_limit(&self) -> MessageLimit {
        let AppConfig { max_messages, max_messages_window_s, max_messages_closes, .. } =
            self.config;
        let window = Duration::from_secs(max_messages_window_s);
        MessageLimit { max: max_messages, window, disconnects: max_messages_closes }
    }

    /// The rate of client events of one connection.
    #[must_use]
    pub fn client_event_rate(&self) -> Rate {
        Rate::per_second(self.config.client_events_per_second)
    }

    /// Checks `auth`, `key:signature`, for a subscription.
    ///
    /// # Errors
    ///
    /// [`AuthError`] names the failed check: missing, malformed, unknown key, or wrong signature.
    pub fn authorize_channel(
        &self,
        auth: Option<&str>,
        socket_id: SocketId,
        channel: &str,
        channel_data: Option<&str>,
    ) -> Result<(), AuthError> {
        let text = signature::channel_string_to_sign(socket_id, channel, channel_data);
        match self.authorize(auth, text) {
            // Some SDKs sign a trailing colon for an empty text, others do not.
            Err(AuthError::Signature { .. }) if channel_data == Some("") => {
                self.authorize(auth, signature::channel_string_to_sign(socket_id, channel, None))
            }
            result => result,
        }
    }

    /// Checks `auth`, `key:signature`, for a sign-in.
    ///
    /// # Errors
    ///
    /// [`AuthError`] names the failed check: missing, malformed, unknown key, or wrong signature.
    pub fn authorize_user(
        &self,
        auth: Option<&str>,
        socket_id: SocketId,
        user_data: &str,
    ) -> Result<(), AuthError> {
        self.authorize(auth, signature::user_string_to_sign(socket_id, user_data))
    }

    fn authorize(&self, auth: Option<&str>, string_to_sign: String) -> Result<(), AuthError> {
        let auth = auth.filter(|auth| !auth.is_empty()).ok_or(AuthError::Missing)?;
        let (key, signature) = auth.split_once(':').ok_or(AuthError::Format)?;
        if key != self.config.key {
            return Err(AuthError::Key { sent: key.to_owned() });
        }
        if self.signer.verify(&string_to_sign, signature) {
            Ok(())
        } else {
            Err(AuthError::Signature { string_to_sign, sent: signature.to_owned() })
        }
    }
}

/// A pattern of `allowed_origins`: `*`, a host with or without wildcards, and optionally the
/// required scheme and port.
#[derive(Debug)]
struct OriginPattern {
    scheme: Option<String>,
    host: String,
    port: Option<String>,
}

impl OriginPattern {
    fn new(text: &str) -> Self {
        let (scheme, host, port) = split_origin(text);
        let owned = |text: &str| text.to_ascii_lowercase();
        Self { scheme: scheme.map(owned), host: owned(host), port: port.map(owned) }
    }

    fn matches(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let (scheme, host, port) = split_origin(&origin);
        let default_port = match scheme {
            Some("http") => Some("80"),
            Some("https") => Some("443"),
            Some(_) | None => None,
        };
        let same_port = |want: &String| want == "*" || Some(want.as_str()) == port.or(default_port);
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        // An invalid host must not match by its suffix.
        (self.host == "*" || host.bytes().all(is_host))
            && matches_glob(&self.host, host)
            && self.scheme.as_deref().is_none_or(|want| Some(want) == scheme)
            && self.port.as_ref().is_none_or(same_port)
    }
}

/// Splits `scheme://host:port`. The host of an IPv6 origin keeps its brackets.
fn split_origin(text: &str) -> (Option<&str>, &str, Option<&str>) {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (scheme, host, Some(port)),
        Some(_) | None => (scheme, rest, None),
    }
}

/// Whether `text` matches `pattern`, in which `*` matches any text, even an empty one.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        // The earliest match leaves most for the rest.
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app_with(origins: &[&str]) -> App {
        let mut config = AppConfig::development();
        config.allowed_origins = origins.iter().map(|&origin| origin.into()).collect();
        App::new(config)
    }

    #[test]
    fn origins_match_by_host_scheme_and_port() {
        for (pattern, origin, allowed) in [
            ("*", "https://anything.test", true),
            ("*", "null", true),
            ("example.com", "https://example.com", true),
            ("example.com", "http://example.com:8080", true),
            ("Example.com", "https://EXAMPLE.com", true),
            ("example.com", "https://evil-example.com", false),
            ("example.com", "https://example.com.evil.test", false),
            ("example.com", "https://sub.example.com", false),
            ("*.example.com", "https://sub.example.com", true),
            ("*.example.com", "https://a.b.example.com", true),
            ("*.example.com", "https://example.com", false),
            ("*.example.com", "https://evilexample.com", false),
            ("a*b*c.com", "https://aXbYbc.com", true),
            ("a*b*c.com", "https://aXc.com", false),
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "http://example.com", false),
            ("example.com:8443", "https://example.com:8443", true),
            ("example.com:8443", "https://example.com", false),
            ("example.com:443", "https://example.com", true),
            ("localhost:*", "http://localhost:5173", true),
            ("[::1]", "http://[::1]:3000", true),
            ("example.com", "null", false),
            ("*.example.org", "https://evil.test#.example.org", false),
            ("*.example.org", "https://evil.test/.example.org", false),
            ("example.com", "https://example.com@evil.test", false),
        ] {
            assert_eq!(
                app_with(&[pattern]).allows_origin(Some(origin)),
                allowed,
                "{pattern} {origin}"
            );
        }
    }

    #[test]
    fn programs_without_an_origin_may_connect() {
        assert!(app_with(&["example.com"]).allows_origin(None));
        assert!(!app_with(&[]).allows_origin(Some("https://example.com")));
    }

    #[test]
    fn an_empty_channel_data_verifies_in_both_forms() {
        let app = App::new(AppConfig::development());
        let id = SocketId::from_random(7);
        for text in [format!("{id}:private-x:"), format!("{id}:private-x")] {
            let auth = format!("{}:{}", app.config.key, app.signer.sign(&text));
            assert_eq!(app.authorize_channel(Some(&auth), id, "private-x", Some("")), Ok(()));
        }
    }

    #[test]
    fn each_auth_error_has_its_message() {
        let app = App::new(AppConfig::development());
        let id = SocketId::from_random(7);
        let check = |auth| app.authorize_channel(auth, id, "private-x", None).unwrap_err();
        assert_eq!(check(None), AuthError::Missing);
        assert_eq!(check(Some("")), AuthError::Missing);
        assert_eq!(check(Some("abc")), AuthError::Format);
        assert_eq!(check(Some("other:abc")), AuthError::Key { sent: "other".into() });
        let signature =
            AuthError::Signature { string_to_sign: format!("{id}:private-x"), sent: "ab".into() };
        assert_eq!(check(Some("app-key:ab")), signature);
    }

    #[test]
    fn limits_are_those_of_the_configuration() {
        let mut config = AppConfig::development();
        config.max_presence_user_info_bytes = 7;
        (config.max_messages, config.max_messages_window_s) = (3, 5);
        (config.max_messages_closes, config.client_events_per_second) = (true, 2);
        let app = App::new(config);
        assert_eq!(app.member_limits().max_user_info_bytes, 7);
        let MessageLimit { max, window, disconnects: closes } = app.message_limit();
        assert_eq!((max, window, closes), (3, Duration::from_secs(5), true));
        assert_eq!(app.client_event_rate().burst(), 2);
    }

    #[test]
    fn a_signature_is_for_one_connection_channel_and_data() {
        let app = App::new(AppConfig::development());
        let [id, other] = [7, 8].map(SocketId::from_random);
        let auth = |text: String| format!("{}:{}", app.config.key, app.signer.sign(&text));
        let with_data = auth(format!("{id}:presence-x:data"));
        let check =
            |id, channel, data| app.authorize_channel(Some(&with_data), id, channel, data).is_ok();
        assert!(check(id, "presence-x", Some("data")));
        assert!(!check(other, "presence-x", Some("data")));
        assert!(!check(id, "presence-y", Some("data")));
        assert!(!check(id, "presence-x", Some("other")) && !check(id, "presence-x", Some("")));
        assert!(!check(id, "presence-x", None));
        // Only for an empty text the signature may omit it.
        let plain = Some(auth(format!("{id}:presence-x")));
        let rejected = app.authorize_channel(plain.as_deref(), id, "presence-x", Some("data"));
        let Err(AuthError::Signature { string_to_sign, .. }) = rejected else {
            panic!("{rejected:?}")
        };
        assert_eq!(string_to_sign, format!("{id}:presence-x:data"));
        let of_user = auth(format!("{id}::user::data"));
        assert_eq!(app.authorize_user(Some(&of_user), id, "data"), Ok(()));
        assert!(app.authorize_user(Some(&of_user), other, "data").is_err());
        assert!(app.authorize_user(Some(&of_user), id, "other").is_err());
        assert_eq!(app.authorize_user(None, id, "data"), Err(AuthError::Missing));
    }
}
