//! The sessions of the console: in the memory of this node, bounded in time and number.

use sha2::{Digest, Sha256};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long a session lasts, used or not.
pub(super) const SESSION_MAX: Duration = Duration::from_hours(12);
/// Maximum number of sessions of the server, of each app, and of all apps together. A further one ends
/// the oldest of its kind, so that a log-in to one app ends no session of the operator.
const OF_SERVER_MAX: usize = 8;
const OF_APP_MAX: usize = 4;
const OF_APPS_MAX: usize = 64;

/// What a session may see.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// All apps, the log and the configuration.
    Server,
    /// One app, by its id.
    App(String),
}

/// A session, without its token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Session {
    pub(super) scope: Scope,
    /// Sent with each request that changes something.
    pub(super) csrf: String,
    /// The hash of the configured password that it was opened with. Another password ends it.
    pub(super) credential: Hash,
    expires_at: Instant,
}

/// A SHA-256 hash. Tokens are looked up by theirs, so that the time of a comparison says nothing
/// about a token, and this memory contains none.
pub(super) type Hash = [u8; 32];

/// The hash of a token or a password.
pub(super) fn hash(text: &str) -> Hash {
    Sha256::digest(text).into()
}

/// The sessions by the hash of their tokens, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Sessions(VecDeque<(Hash, Session)>);

/// A random text of 256 bits, in hexadecimal digits.
fn random_token() -> String {
    use std::fmt::Write;
    let bytes: [u8; 32] = rand::random();
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // A String takes all text.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Sessions {
    /// Opens a session, and returns its token.
    pub(super) fn open(&mut self, scope: Scope, credential: Hash, now: Instant) -> String {
        self.remove_expired(now);
        let is_app = |of: &Scope| matches!(of, Scope::App(_));
        match scope {
            Scope::Server => self.make_room(OF_SERVER_MAX, |of| *of == Scope::Server),
            Scope::App(_) => {
                self.make_room(OF_APP_MAX, |of| *of == scope);
                self.make_room(OF_APPS_MAX, is_app);
            }
        }
        let token = random_token();
        let session =
            Session { scope, csrf: random_token(), credential, expires_at: now + SESSION_MAX };
        self.0.push_back((hash(&token), session));
        token
    }

    /// Ends the oldest sessions of a kind until there is room for one more.
    fn make_room(&mut self, max: usize, is_counted: impl Fn(&Scope) -> bool) {
        while max <= self.0.iter().filter(|(_, session)| is_counted(&session.scope)).count() {
            let oldest = self.0.iter().position(|(_, session)| is_counted(&session.scope));
            oldest.and_then(|at| self.0.remove(at));
        }
    }

    /// The session of a token.
    pub(super) fn find(&self, token: &str, now: Instant) -> Option<&Session> {
        let token = hash(token);
        let (_, session) = self.0.iter().find(|(known, _)| *known == token)?;
        (now < session.expires_at).then_some(session)
    }

    /// Ends the session of a token.
    pub(super) fn close(&mut self, token: &str) {
        let token = hash(token);
        self.0.retain(|(known, _)| *known != token);
    }

    fn remove_expired(&mut self, now: Instant) {
        self.0.retain(|(_, session)| now < session.expires_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lasts_until_its_end_and_no_longer() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let token = sessions.open(Scope::Server, hash("p"), now);
        assert_eq!(token.len(), 64);
        let last = now + SESSION_MAX - Duration::from_nanos(1);
        assert_eq!(sessions.find(&token, last).unwrap().scope, Scope::Server);
        assert_eq!(sessions.find(&token, now + SESSION_MAX), None);
        assert_eq!(sessions.find(&token[1..], now), None);
        sessions.close(&token);
        assert_eq!(sessions.find(&token, now), None);
    }

    #[test]
    fn tokens_differ_and_are_not_kept() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let [one, other] = [1, 2].map(|_| sessions.open(Scope::App("a".into()), hash("p"), now));
        assert_ne!(one, other);
        assert_ne!(
            sessions.find(&one, now).unwrap().csrf,
            sessions.find(&other, now).unwrap().csrf
        );
        assert!(!format!("{sessions:?}").contains(&one));
    }

    #[test]
    fn a_further_session_ends_the_oldest_of_its_kind() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let app = |id: usize| Scope::App(id.to_string());
        let server: Vec<_> =
            (0..=OF_SERVER_MAX).map(|_| sessions.open(Scope::Server, hash("p"), now)).collect();
        let of_one: Vec<_> =
            (0..=OF_APP_MAX).map(|_| sessions.open(app(0), hash("p"), now)).collect();
        for opened in [&server, &of_one] {
            assert_eq!(sessions.find(&opened[0], now), None);
            assert!(opened[1..].iter().all(|token| sessions.find(token, now).is_some()));
        }
        for id in 1..=OF_APPS_MAX {
            sessions.open(app(id), hash("p"), now);
        }
        assert_eq!(sessions.0.len(), OF_SERVER_MAX + OF_APPS_MAX);
        assert!(server[1..].iter().all(|token| sessions.find(token, now).is_some()));
        assert!(of_one.iter().all(|token| sessions.find(token, now).is_none()));
        let later = now + SESSION_MAX;
        sessions.open(Scope::Server, hash("p"), later);
        assert_eq!(sessions.0.len(), 1, "expired sessions are removed");
    }
}
