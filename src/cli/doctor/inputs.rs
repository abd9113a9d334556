//! What the doctor reads before it looks: options, variables of the application, the configuration.

use super::{
    DoctorArgs,
    compose::ComposeFile,
    mask::{Mask, is_secret},
    probe::Peer,
};
use crate::{
    cli::{target::reachable, trust::Trust},
    config::{self, AppConfig, Config, ConfigError, Files, Loaded, Sources},
};
use hyper::Uri;
use serde_json::{Map, Value};
use std::{net::IpAddr, path::PathBuf};

/// The inputs of all links.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub(super) args: &'a DoctorArgs,
    /// The folder of the application: the working directory.
    pub(super) dir: PathBuf,
    /// The `.env` file by its name, and its text.
    pub(super) dotenv: Option<(String, String)>,
    /// The variables as the application sees them.
    variables: Map<String, Value>,
    /// Whether the variables could be read.
    pub(super) has_variables: bool,
    /// The configuration that a server in this folder would have.
    pub(super) loaded: Result<Loaded, ConfigError>,
}

/// An address at which clients or the application connect to the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServerAddress {
    pub(super) is_tls: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The prefix of every path, or empty.
    pub(super) path: String,
    /// Where the address is written, such as `--ws` or `.env:7 REVERB_HOST`.
    pub(super) from: String,
}

impl<'a> Inputs<'a> {
    /// Reads the inputs in the working directory.
    pub(super) fn read(args: &'a DoctorArgs) -> Self {
        let sources = args.sources.sources(args.address.flags(), Files::default());
        Self::from_sources(args, &sources)
    }

    pub(super) fn from_sources(args: &'a DoctorArgs, sources: &Sources) -> Self {
        let variables = config::laravel_variables(sources);
        Self {
            args,
            dir: sources.dir.clone(),
            dotenv: config::dotenv_file(sources),
            has_variables: variables.is_ok(),
            variables: variables.unwrap_or_default(),
            loaded: config::load(sources),
        }
    }

    /// Whether the folder is that of an application of Laravel.
    pub(super) fn is_laravel(&self) -> bool {
        self.dir.join("artisan").exists()
    }

    /// The value of a variable of the application, if it is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let text = match self.variables.get(name)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// The first of the variables that is set, with its name.
    pub(super) fn first_of<'n>(&self, names: &[&'n str]) -> Option<(&'n str, String)> {
        names.iter().find_map(|name| Some((*name, self.variable(name)?)))
    }

    /// Where a variable is set, such as `.env:7`, or where it should be.
    pub(super) fn place(&self, name: &str) -> String {
        let Some((file, text)) = &self.dotenv else { return ".env".to_owned() };
        match line_of(text, name) {
            Some(line) => format!("{file}:{line}"),
            None if self.variables.contains_key(name) => "environment".to_owned(),
            None => file.clone(),
        }
    }

    /// The configuration, if it is valid.
    pub(super) fn config(&self) -> Option<&Config> {
        self.loaded.as_ref().ok().map(|loaded| &loaded.config)
    }

    /// The app to try: that of `--app-id`; the one that the variables of the application name; or the
    /// first of the configuration.
    pub(super) fn app(&self) -> Option<AppConfig> {
        let apps = self.config().map_or(&[][..], |config| &config.apps);
        let of_id = |id: &str| apps.iter().find(|app| app.id == id).cloned();
        let of_variables = self.app_of_variables();
        if let Some(id) = &self.args.app_id {
            return of_id(id).or_else(|| of_variables.filter(|app| app.id == *id));
        }
        // The development app is only the absence of a configured one.
        if self.loaded.as_ref().is_ok_and(Loaded::is_development) {
            return of_variables.or_else(|| apps.first().cloned());
        }
        let same = of_variables.as_ref().and_then(|app| of_id(&app.id));
        same.or_else(|| apps.first().cloned()).or(of_variables)
    }

    /// What a report must not contain: the secrets of the options, of the configuration and of the
    /// application's variables.
    pub(super) fn mask(&self) -> Mask {
        let mut mask = Mask::default();
        let args = self.args;
        for (_, value) in args.header.iter().filter_map(|line| line.split_once(':')) {
            mask.add(value);
        }
        args.cookie.iter().for_each(|cookies| mask.add_cookies(cookies));
        let urls = [&args.url, &args.ws, &args.server, &args.auth_endpoint];
        urls.into_iter().flatten().for_each(|url| mask.add_url(url));
        let is_other = |name: &str| ["APP_KEY", "REDIS_URL", "APP_URL"].contains(&name);
        for name in self.variables.keys().filter(|name| is_secret(name) || is_other(name)) {
            let Some(value) = self.variable(name) else { continue };
            match value.parse::<Uri>() {
                Ok(url) if url.scheme().is_some() && url.host().is_some() => mask.add_url(&url),
                Ok(_) | Err(_) => mask.add(&value),
            }
        }
        match self.config() {
            Some(config) => {
                config.apps.iter().for_each(|app| {
                    mask.add(app.secret.expose());
                    mask.add(app.console_password.expose());
                });
                mask.add(config.metrics.token.expose());
                let password = config.redis.target().and_then(|target| target.password.clone());
                if let Some(password) = password {
                    mask.add(password.expose());
                }
            }
            None => self.secrets_of_file().iter().for_each(|secret| mask.add(secret)),
        }
        mask
    }

    /// The values in a configuration that is not valid, by the names of their lines.
    fn secrets_of_file(&self) -> Vec<String> {
        let path = self.args.sources.config.clone().unwrap_or_else(|| "config.toml".into());
        let text = std::fs::read_to_string(self.dir.join(path)).unwrap_or_default();
        let value = |line: &str| {
            let (name, value) = line.split_once('=')?;
            let quoted = value.trim().trim_matches(['"', '\'']);
            is_secret(name).then(|| quoted.to_owned())
        };
        text.lines().filter_map(value).collect()
    }

    /// The app of the application's variables.
    pub(super) fn app_of_variables(&self) -> Option<AppConfig> {
        let connection = self.first_of(&["BROADCAST_CONNECTION", "BROADCAST_DRIVER"]);
        let families = match connection {
            Some((_, connection)) if connection == "pusher" => ["PUSHER", "REVERB"],
            Some(_) | None => ["REVERB", "PUSHER"],
        };
        families.iter().find_map(|family| {
            let value = |name: &str| self.variable(&format!("{family}_APP_{name}"));
            Some(AppConfig {
                id: value("ID")?,
                key: value("KEY")?,
                secret: config::Secret::new(value("SECRET")?),
                ..AppConfig::default()
            })
        })
    }

    /// The server at the address that it listens on: `--server`, or the address of the
    /// configuration. The error says why there is none.
    pub(super) fn direct_peer(&self) -> Result<Peer, String> {
        if self.app().is_none() {
            return Err("no app is configured: pass --app-id, or set REVERB_APP_ID".to_owned());
        }
        match (&self.args.server, self.config()) {
            (Some(url), _) => Peer::from_url(&url.to_string(), &self.trust()),
            (None, Some(config)) => {
                let server = &config.server;
                if server.port == 0 {
                    return Err("server.port is 0, any free port: pass --server".to_owned());
                }
                let is_tls = !server.tls.cert.is_empty();
                let trust = Trust::Pinned(server.tls.cert.clone());
                Peer::new(is_tls, &reachable(&server.host), server.port, &server.path, &trust)
                    .map_err(|why| format!("server.host: {why}: pass --server"))
            }
            (None, None) => Err("the configuration is not valid: pass --server".to_owned()),
        }
    }

    /// The certificates that are trusted outside of this machine.
    pub(super) fn trust(&self) -> Trust {
        self.args.ca.clone().map_or(Trust::SystemRoots, Trust::CaFile)
    }

    /// The address that browsers connect to: `--ws`; what the variables for Vite or Mix say; the
    /// address that the application publishes to, unless only this machine can use it; or the host
    /// of `--url`.
    pub(super) fn public_address(&self) -> Option<ServerAddress> {
        if let Some(url) = &self.args.ws {
            return address_of(url, "--ws");
        }
        let mut families = ["VITE_REVERB", "VITE_PUSHER", "MIX_PUSHER"].into_iter();
        families
            .find_map(|family| self.address(family))
            .or_else(|| self.address("REVERB").filter(|address| self.is_for_browsers(address)))
            .or_else(|| address_of(self.args.url.as_ref()?, "--url"))
    }

    /// Whether browsers can use the address that the application publishes to. Applications often
    /// publish to the loopback address, while browsers use the host of the page.
    fn is_for_browsers(&self, address: &ServerAddress) -> bool {
        let has_remote_page =
            self.page().is_some_and(|page| page.host().is_some_and(|host| !is_local(host)));
        // Browsers do not resolve the name of a container.
        let is_container =
            ComposeFile::find(&self.dir).is_some_and(|file| file.has_service(&address.host));
        !(is_container || is_local(&address.host) && has_remote_page)
    }

    /// The page of the application: `--url`, or `APP_URL`.
    pub(super) fn page(&self) -> Option<Uri> {
        self.args.url.clone().or_else(|| self.variable("APP_URL")?.parse().ok())
    }

    /// The address that the application publishes to.
    pub(super) fn publish_address(&self) -> Option<ServerAddress> {
        self.address("REVERB").or_else(|| self.address("PUSHER"))
    }

    /// The address that the variables of a family have, with Laravel's defaults.
    fn address(&self, family: &str) -> Option<ServerAddress> {
        let name = format!("{family}_HOST");
        let host = self.variable(&name)?;
        let value = |part: &str| self.variable(&format!("{family}_{part}"));
        let is_tls = value("SCHEME").is_none_or(|scheme| scheme == "https");
        let port = value("PORT").and_then(|port| port.parse().ok());
        Some(ServerAddress {
            is_tls,
            host,
            port: port.unwrap_or(if is_tls || family.ends_with("REVERB") { 443 } else { 80 }),
            // Laravel publishes below the path of the server, and Echo has it as wsPath.
            path: value("PATH")
                .or_else(|| {
                    self.variable("REVERB_SERVER_PATH").filter(|_| family.ends_with("REVERB"))
                })
                .map(|path| format!("/{}", path.trim_matches('/')))
                .filter(|path| path != "/")
                .unwrap_or_default(),
            from: format!("{} {name}", self.place(&name)),
        })
    }
}

impl ServerAddress {
    /// Whether both are one port of one host.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }

    /// Scheme, host, port and path for clients.
    pub(super) fn url(&self) -> String {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        let brackets = if self.host.contains(':') { ["[", "]"] } else { ["", ""] };
        format!("{scheme}://{}{}{}:{}{}", brackets[0], self.host, brackets[1], self.port, self.path)
    }
}

/// The address in a URL with the scheme `ws`, `wss`, `http` or `https`.
fn address_of(url: &Uri, from: &str) -> Option<ServerAddress> {
    let is_tls = match url.scheme_str()? {
        "wss" | "https" => true,
        "ws" | "http" => false,
        _other => return None,
    };
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let path = match from {
        // The path of a page is not that of the server.
        "--url" => String::new(),
        _ => url.path().trim_end_matches('/').to_owned(),
    };
    Some(ServerAddress { is_tls, host, port, path, from: from.to_owned() })
}

/// Whether a host is this machine for any machine.
pub(super) fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let is_loopback = host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback() || ip.is_unspecified());
    is_loopback || host == "localhost" || host.ends_with(".localhost")
}

/// The number of the last line of a `.env` file that sets a variable.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let sets = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().enumerate().filter(|(_, line)| sets(line)).last().map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::{super::options::tests::args, *};

    fn inputs<'a>(args: &'a DoctorArgs, env: &[(&str, &str)]) -> Inputs<'a> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let dir = PathBuf::from("/nonexistent");
        let sources = Sources { env: env.collect(), dir, ..Sources::default() };
        Inputs::from_sources(args, &sources)
    }

    fn public(flags: &[&str], env: &[(&str, &str)]) -> Option<String> {
        inputs(&args(flags), env).public_address().map(|address| address.url())
    }

    #[test]
    fn the_public_address_is_that_of_an_option_or_of_the_variables_for_browsers() {
        let reverb = ("REVERB_HOST", "ws.test");
        let local = ("REVERB_HOST", "127.0.0.1");
        for (flags, env, expected) in [
            (&[][..], &[][..], None),
            (&["--ws", "wss://a.test"], &[reverb], Some("wss://a.test:443")),
            (&["--ws", "ws://a.test:81/x/"], &[], Some("ws://a.test:81/x")),
            (&["--url", "https://app.test/login"], &[], Some("wss://app.test:443")),
            (&["--url", "https://app.test"], &[reverb], Some("wss://ws.test:443")),
            (&["--url", "https://app.test"], &[local], Some("wss://app.test:443")),
            (
                &["--url", "https://app.test"],
                &[local, ("VITE_REVERB_HOST", "b.test")],
                Some("wss://b.test:443"),
            ),
            (&[], &[local, ("APP_URL", "https://app.test")], None),
            (&[], &[local, ("APP_URL", "http://localhost")], Some("wss://127.0.0.1:443")),
            (&[], &[local], Some("wss://127.0.0.1:443")),
            (&[], &[reverb, ("REVERB_SCHEME", "http")], Some("ws://ws.test:443")),
            (&[], &[reverb, ("REVERB_PORT", "8080")], Some("wss://ws.test:8080")),
            (&[], &[reverb, ("VITE_REVERB_HOST", "b.test")], Some("wss://b.test:443")),
            (
                &[],
                &[("VITE_PUSHER_HOST", "::1"), ("VITE_PUSHER_SCHEME", "http")],
                Some("ws://[::1]:80"),
            ),
        ] {
            assert_eq!(public(flags, env).as_deref(), expected, "{flags:?} {env:?}");
        }
    }

    #[test]
    fn the_app_is_that_of_the_application() {
        let pusher = [("PUSHER_APP_ID", "7"), ("PUSHER_APP_KEY", "p"), ("PUSHER_APP_SECRET", "s")];
        let reverb = [("REVERB_APP_ID", "8"), ("REVERB_APP_KEY", "r"), ("REVERB_APP_SECRET", "s")];
        let both = [&pusher[..], &reverb].concat();
        let by_pusher = [&both[..], &[("BROADCAST_CONNECTION", "pusher")]].concat();
        for (flags, env, expected) in [
            (&[][..], &[][..], Some("app-key")),
            (&[], &pusher, Some("p")),
            (&[], &reverb, Some("r")),
            (&[], &both, Some("r")),
            (&["--app-id", "7"], &pusher, Some("p")),
            (&["--app-id", "9"], &pusher, None),
        ] {
            let args = args(flags);
            let app = inputs(&args, env).app();
            assert_eq!(app.map(|app| app.key).as_deref(), expected, "{flags:?} {env:?}");
        }
        let args = args(&[]);
        let app = inputs(&args, &by_pusher).app_of_variables();
        assert_eq!(app.map(|app| app.key).as_deref(), Some("p"));
    }

    #[test]
    fn the_line_of_a_variable_is_the_last_that_sets_it() {
        let text = "A=1\n#B=1\nexport B = 2\nBB=3\nB=4\n  C=5";
        for (name, line) in
            [("A", Some(1)), ("B", Some(5)), ("BB", Some(4)), ("C", Some(6)), ("D", None)]
        {
            assert_eq!(line_of(text, name), line, "{name}");
        }
    }
}
