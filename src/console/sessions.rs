//! The sessions of the console: signed tokens. Every node with the same password accepts them, so that
//! requests of a page may arrive at any node; no node has a list of them.

use crate::signature::Signer;
use std::{
    collections::{HashMap, VecDeque},
    fmt::Write,
    time::Duration,
};

/// How long a session lasts, used or not.
pub(super) const SESSION_MAX: Duration = Duration::from_hours(12);
/// How far the clock of the node that has opened a session may be ahead.
const CLOCK_SKEW_MAX: Duration = Duration::from_mins(5);
/// Maximum number of ended sessions that are remembered of the server, of each app, and of all apps. At
/// the limit, the sessions that were opened before the oldest of them end as well.
const ENDED_OF_SERVER_MAX: usize = 256;
const ENDED_OF_APP_MAX: usize = 64;
const ENDED_OF_APPS_MAX: usize = 4_096;

/// What a session may see.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Scope {
    /// All apps, the log and the configuration.
    Server,
    /// One app, by its id.
    App(String),
}

/// What a token says, whether it is signed or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Claims {
    pub(super) scope: Scope,
    /// When it was opened, in milliseconds since 1970.
    opened_at: u64,
    /// 128 random bits, in hexadecimal digits.
    id: String,
}

/// A session, without its token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Session {
    pub(super) claims: Claims,
    /// Sent with each request that changes something.
    pub(super) csrf: String,
}

/// Signs and verifies the tokens of one scope.
#[derive(Debug)]
pub(super) struct SessionKey(Signer);

impl SessionKey {
    /// The key that a configured password has, together with another secret. Another one ends the
    /// sessions.
    pub(super) fn new(password: &str, other: &str) -> Self {
        let key = Signer::new(password).sign(&format!("campanile console session:{other}"));
        Self(Signer::new(&key))
    }

    /// Opens a session. Returns its token.
    pub(super) fn open(&self, scope: &Scope, now_ms: u64) -> String {
        let id: [u8; 16] = rand::random();
        let claims = Claims { scope: scope.clone(), opened_at: now_ms, id: hex(&id) };
        let signed = claims.encode();
        format!("{signed}.{}", self.0.sign(&format!("session:{signed}")))
    }

    /// The session of a token, if it is signed with this key and neither over nor of the future.
    pub(super) fn verify(&self, token: &str, now_ms: u64) -> Option<Session> {
        let (signed, signature) = token.rsplit_once('.')?;
        if !self.0.verify(&format!("session:{signed}"), signature) {
            return None;
        }
        let claims = Claims::parse(token)?;
        let is_over = claims.expires_at() <= now_ms;
        let is_of_future = now_ms.saturating_add(ms(CLOCK_SKEW_MAX)) < claims.opened_at;
        let csrf = self.0.sign(&format!("csrf:{signed}"));
        (!is_over && !is_of_future).then_some(Session { claims, csrf })
    }
}

impl Claims {
    /// What a token says. It may not be signed.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (scope, opened_at, id) = (parts.next()?, parts.next()?, parts.next()?);
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let scope = match scope.split_at_checked(1)? {
            ("s", "") => Scope::Server,
            ("a", app) => Scope::App(text_of_hex(app)?),
            _ => return None,
        };
        let opened_at = opened_at.parse().ok().filter(|_| is_id)?;
        Some(Self { scope, opened_at, id: id.to_owned() })
    }

    /// The text that is signed, which is also how nodes name a session to each other.
    pub(super) fn encode(&self) -> String {
        let scope = match &self.scope {
            Scope::Server => "s".to_owned(),
            Scope::App(id) => format!("a{}", hex(id.as_bytes())),
        };
        format!("{scope}.{}.{}", self.opened_at, self.id)
    }

    fn expires_at(&self) -> u64 {
        self.opened_at.saturating_add(ms(SESSION_MAX))
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // A String takes all text.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn text_of_hex(digits: &str) -> Option<String> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    String::from_utf8(pairs.map(byte).collect::<Option<_>>()?).ok()
}

/// The sessions that ended before their time: by a log-out, or by another log-in of the same browser.
#[derive(Debug, Default)]
pub(super) struct EndedSessions {
    /// The oldest first.
    ended: VecDeque<Claims>,
    /// Sessions that were opened at this time or before have ended, by their scopes.
    before: HashMap<Scope, u64>,
}

impl EndedSessions {
    /// Ends a session.
    pub(super) fn end(&mut self, claims: Claims, now_ms: u64) {
        self.ended.retain(|ended| now_ms < ended.expires_at());
        self.before.retain(|_, time| now_ms < time.saturating_add(ms(SESSION_MAX)));
        if self.has_ended(&claims) {
            return;
        }
        match &claims.scope {
            Scope::Server => self.make_room(ENDED_OF_SERVER_MAX, |of| *of == Scope::Server),
            Scope::App(_) => {
                self.make_room(ENDED_OF_APP_MAX, |of| *of == claims.scope);
                self.make_room(ENDED_OF_APPS_MAX, |of| matches!(of, Scope::App(_)));
            }
        }
        self.ended.push_back(claims);
    }

    /// Forgets the oldest of a kind until there is room for one more. A session that is forgotten is
    /// ended together with all that were opened before it.
    fn make_room(&mut self, max: usize, is_counted: impl Fn(&Scope) -> bool) {
        while max <= self.ended.iter().filter(|ended| is_counted(&ended.scope)).count() {
            let oldest = self.ended.iter().position(|ended| is_counted(&ended.scope));
            let Some(oldest) = oldest.and_then(|at| self.ended.remove(at)) else { return };
            let before = self.before.entry(oldest.scope).or_default();
            *before = oldest.opened_at.max(*before);
        }
    }

    /// Whether a session has ended.
    pub(super) fn has_ended(&self, claims: &Claims) -> bool {
        self.before.get(&claims.scope).is_some_and(|before| claims.opened_at <= *before)
            || self.ended.contains(claims)
    }

    /// The latest of those that have ended, for other nodes.
    pub(super) fn latest(&self, max: usize) -> impl Iterator<Item = &Claims> {
        self.ended.iter().rev().take(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn app(id: &str) -> Scope {
        Scope::App(id.to_owned())
    }

    #[test]
    fn a_session_lasts_until_its_end_and_no_longer() {
        let key = SessionKey::new("password", "");
        for scope in [Scope::Server, app("an app"), app("")] {
            let token = key.open(&scope, NOW);
            let end = NOW + ms(SESSION_MAX);
            assert_eq!(key.verify(&token, end - 1).unwrap().claims.scope, scope);
            assert_eq!(key.verify(&token, end), None);
            assert!(key.verify(&token, NOW - ms(CLOCK_SKEW_MAX)).is_some());
            assert_eq!(key.verify(&token, NOW - ms(CLOCK_SKEW_MAX) - 1), None);
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'));
        }
    }

    #[test]
    fn only_the_same_password_verifies_a_token() {
        let key = SessionKey::new("password", "secret");
        let token = key.open(&app("1"), NOW);
        let session = SessionKey::new("password", "secret").verify(&token, NOW).unwrap();
        assert_eq!(key.verify(&token, NOW), Some(session), "another node");
        assert_eq!(SessionKey::new("passwore", "secret").verify(&token, NOW), None);
        assert_eq!(SessionKey::new("password", "other").verify(&token, NOW), None);
    }

    #[test]
    fn a_token_that_was_changed_is_none() {
        let key = SessionKey::new("password", "");
        let token = key.open(&app("1"), NOW);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(key.verify(&changed, NOW), None, "{changed}");
        }
        let for_all = token.replacen("a31.", "s.", 1);
        assert_ne!(for_all, token);
        for other in ["", ".", "...", &for_all, &token[1..], &token[..token.len() - 1]] {
            assert_eq!(key.verify(other, NOW), None, "{other}");
        }
    }

    #[test]
    fn the_token_against_forged_requests_is_not_in_the_cookie() {
        let key = SessionKey::new("password", "");
        let (one, other) = (key.open(&Scope::Server, NOW), key.open(&Scope::Server, NOW));
        let csrf = |token: &str| key.verify(token, NOW).unwrap().csrf;
        assert_eq!(csrf(&one).len(), 64);
        assert!(!one.contains(&csrf(&one)));
        assert_ne!(csrf(&one), csrf(&other));
    }

    fn claims(scope: Scope, opened_at: u64) -> Claims {
        let id: [u8; 16] = rand::random();
        Claims { scope, opened_at, id: hex(&id) }
    }

    #[test]
    fn an_ended_session_is_remembered_until_it_would_be_over() {
        let mut ended = EndedSessions::default();
        let (one, other) = (claims(Scope::Server, NOW), claims(Scope::Server, NOW));
        ended.end(one.clone(), NOW);
        ended.end(one.clone(), NOW);
        assert!(ended.has_ended(&one) && !ended.has_ended(&other));
        assert_eq!(ended.latest(9).collect::<Vec<_>>(), [&one]);
        assert_eq!(Claims::parse(&one.encode()), Some(one.clone()), "for other nodes");
        ended.end(other, NOW + ms(SESSION_MAX));
        assert!(!ended.has_ended(&one), "its token is not valid any more");
    }

    #[test]
    fn at_the_limit_older_sessions_of_the_same_kind_end_and_no_others() {
        let mut ended = EndedSessions::default();
        let first = claims(app("1"), NOW + 1);
        ended.end(first.clone(), NOW + 2);
        let count = u64::try_from(ENDED_OF_APP_MAX).unwrap();
        for number in 0..count {
            ended.end(claims(app("1"), NOW + 10 + number), NOW + 100);
        }
        assert_eq!(ended.ended.len(), ENDED_OF_APP_MAX);
        assert!(ended.has_ended(&first), "it is forgotten, and has still ended");
        assert!(ended.has_ended(&claims(app("1"), NOW)));
        assert!(!ended.has_ended(&claims(app("1"), NOW + 2)));
        for scope in [app("2"), Scope::Server] {
            assert!(!ended.has_ended(&claims(scope, NOW)));
        }
    }
}
