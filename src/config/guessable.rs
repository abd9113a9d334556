//! Guessable secrets: published in documentation, or equal to other parts of the configuration.

use super::{
    AppConfig, Config, Secret,
    apps::is_loopback_bind_address,
    error::{ConfigError, collect_errors},
    key::KeyPath,
    raw_config::RawConfig,
};

/// Secrets in the documentation of Laravel, Reverb, soketi, Pusher and others, in lower case and
/// without word separators.
const PUBLISHED: [&str; 48] = [
    "0123456789abcdef",
    "123456",
    "12345678",
    "admin",
    "appkey",
    "appsecret",
    "changeit",
    "changeme",
    "changethis",
    "default",
    "defaultappsecret",
    "defaultsecret",
    "demosecret",
    "example",
    "examplesecret",
    "insertsecret",
    "laravelsecret",
    "laravelwebsockets",
    "localsecret",
    "myappsecret",
    "mysecret",
    "null",
    "passw0rd",
    "password",
    "placeholder",
    "pusherappsecret",
    "pushersecret",
    "replaceme",
    "reverbappsecret",
    "reverbsecret",
    "s3cr3t",
    "secret",
    "secretkey",
    "soketiappsecret",
    "soketisecret",
    "somesecret",
    "supersecret",
    "take20otherrandomletters",
    "test",
    "testsecret",
    "thesecret",
    "topsecret",
    "undefined",
    "yourappsecret",
    "yourpusherappsecret",
    "yourpushersecret",
    "yourreverbappsecret",
    "yoursecret",
];

/// Length below which a secret is short, in characters. Generated ones usually have 20.
const SHORT_SECRET_LEN: usize = 16;

/// Why the secret of `app` is guessable, if it is.
pub(super) fn weakness(app: &AppConfig) -> Option<&'static str> {
    weakness_of(&app.secret, &[&app.key, &app.id])
}

/// Why the password of the console of `app` is guessable, if one is set and it is.
pub(super) fn console_weakness(app: &AppConfig) -> Option<&'static str> {
    password_weakness(&app.console_password, &[&app.key, &app.id])
}

/// Why a password is guessable, if it is set and is. The password of a hash is not known here.
fn password_weakness(password: &Secret, public: &[&str]) -> Option<&'static str> {
    let is_set = !password.is_empty() && !password.expose().starts_with("$argon2");
    if is_set { weakness_of(password, public) } else { None }
}

/// Why a secret of an app with these `public` values is guessable, if it is.
fn weakness_of(secret: &Secret, public: &[&str]) -> Option<&'static str> {
    let secret = secret.expose().trim();
    let text: String = secret.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    let is_enclosed = |open: &str, close: &str| secret.starts_with(open) && secret.ends_with(close);
    if secret.is_empty() {
        Some("is white space only")
    } else if public.contains(&secret) {
        Some("is the app's key or id, which is public")
    } else if PUBLISHED.contains(&text.as_str())
        || [("<", ">"), ("${", "}"), ("{{", "}}")]
            .iter()
            .any(|(open, close)| is_enclosed(open, close))
        || (secret.len() > 2 && secret.chars().all(|c| secret.starts_with(c)))
    {
        Some("is a published placeholder")
    } else {
        None
    }
}

/// Rejects guessable secrets if the server is reachable from the network. `host` is its listen
/// address.
pub(super) fn reject(
    config: &Config,
    host: &str,
    raw: Option<&RawConfig>,
) -> Result<(), ConfigError> {
    if is_loopback_bind_address(host) {
        return Ok(());
    }
    let of_apps = config.apps.iter().enumerate().flat_map(|(index, app)| {
        let key = |name| KeyPath::new("apps").index(index).child(name);
        [(key("secret"), weakness(app)), (key("console_password"), console_weakness(app))]
    });
    let of_console = password_weakness(&config.console.password, &[]);
    let all = of_apps.chain([(KeyPath::new("console.password"), of_console)]);
    collect_errors(all.map(|(key, message)| match message {
        Some(message) => {
            let message = format!("{message}: choose another, or listen on 127.0.0.1");
            Err(match raw {
                Some(raw) => ConfigError::key(&raw.source(&key), key, message),
                None => ConfigError::at(key, message),
            })
        }
        None => Ok(()),
    }))
}

/// Warns about short secrets if the server is reachable from the network, guessable ones if it is not,
/// and those that begin or end with white space, which is often an accident.
pub(super) fn warn(config: &Config, raw: &RawConfig, warnings: &mut Vec<String>) {
    for (index, app) in config.apps.iter().enumerate() {
        let key = KeyPath::new("apps").index(index).child("secret");
        let source = raw.source(&key);
        let (secret, mut warn) =
            (app.secret.expose(), |what: &str| warnings.push(format!("{source}: {key} {what}")));
        let whitespace_at = match (
            secret.starts_with(char::is_whitespace),
            secret.ends_with(char::is_whitespace),
        ) {
            (false, false) => None,
            (true, false) => Some("begins"),
            (false, true) => Some("ends"),
            (true, true) => Some("begins and ends"),
        };
        if let Some(whitespace_at) = whitespace_at {
            warn(&format!("{whitespace_at} with white space, which is part of the secret"));
        }
        if !is_loopback_bind_address(&config.server.host)
            && secret.chars().count() < SHORT_SECRET_LEN
        {
            warn("is shorter than 16 characters and can be found by brute force");
        }
        if is_loopback_bind_address(&config.server.host)
            && !app.has_well_known_secret()
            && let Some(why) = weakness(app)
        {
            warn(&format!("{why}: web pages opened in a browser on this machine can use it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn published_secrets_are_guessable() {
        let why = |secret: &str| {
            let app = AppConfig {
                id: "1".into(),
                key: "a-key-1".into(),
                secret: Secret::new(secret),
                ..AppConfig::default()
            };
            weakness(&app)
        };
        for guessed in [
            " \t",
            "a-key-1",
            " a-key-1 ",
            "1",
            "app-secret",
            "App_Secret",
            "your-app-secret",
            "YOUR_PUSHER_APP_SECRET",
            "\"changeme\"",
            "change-me!",
            "${PUSHER_APP_SECRET}",
            "{{ secret }}",
            "<your secret>",
            "xxxxxxxx",
            "xxx",
        ] {
            assert!(why(guessed).is_some(), "{guessed}");
        }
        for fine in [
            "a-key-12",
            "secrets",
            "correct horse battery staple",
            "8f3a",
            "${x",
            "x>",
            "xx",
            "xxy",
        ] {
            assert_eq!(why(fine), None, "{fine}");
        }
    }

    #[test]
    fn the_list_of_published_secrets_is_sorted_and_normalized() {
        assert!(PUBLISHED.is_sorted());
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        assert!(PUBLISHED.iter().all(|text| text.chars().all(is_plain)));
    }
}
