//! The text that is printed at startup.

use crate::config::{AppConfig, Config};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The server's URL, and for the development app everything that is needed to try it.
pub(super) fn banner(config: &Config, address: SocketAddr) -> String {
    let path = &config.server.path;
    let is_tls = !config.server.tls.cert.is_empty();
    let scheme = if is_tls { "https" } else { "http" };
    let listens = format!("Campanile listens on {scheme}://{address}{path}");
    match config.apps.first() {
        Some(app) if config.is_development() => {
            format!("{listens}\n\n{}", development(app, address, path, is_tls))
        }
        Some(_) | None => listens,
    }
}

/// Connection options for Laravel Echo and pusher-js.
pub(super) struct EchoOptions<'a, Port: fmt::Display> {
    pub(super) key: &'a str,
    /// The host as written in a URL.
    pub(super) host: &'a str,
    pub(super) port: Port,
    /// The prefix of every path, or empty.
    pub(super) path: &'a str,
    pub(super) is_tls: bool,
}

impl<Port: fmt::Display> fmt::Display for EchoOptions<'_, Port> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, host, port, path, is_tls } = self;
        let port_name = if *is_tls { "wssPort" } else { "wsPort" };
        let ws_path =
            if path.is_empty() { String::new() } else { format!("\n    wsPath: '{path}',") };
        write!(
            f,
            r"// Laravel Echo: npm install laravel-echo pusher-js
import Echo from 'laravel-echo';
import Pusher from 'pusher-js';
window.Pusher = Pusher;
window.Echo = new Echo({{
    broadcaster: 'reverb',
    key: '{key}',
    wsHost: '{host}',
    {port_name}: {port},{ws_path}
    forceTLS: {is_tls},
    enabledTransports: ['ws', 'wss'],
}});
window.Echo.channel('my-channel').listen('.hello', (data) => console.log(data));

// pusher-js: npm install pusher-js
import Pusher from 'pusher-js';
const pusher = new Pusher('{key}', {{
    cluster: '',
    wsHost: '{host}',
    {port_name}: {port},{ws_path}
    forceTLS: {is_tls},
    enabledTransports: ['ws', 'wss'],
}});
pusher.subscribe('my-channel').bind('hello', (data) => console.log(data));
"
        )
    }
}

fn development(app: &AppConfig, address: SocketAddr, path: &str, is_tls: bool) -> String {
    let AppConfig { id, key, .. } = app;
    let secret = app.secret.expose();
    let scheme = if is_tls { "https" } else { "http" };
    let port = address.port();
    // As it stands in a URL.
    let host = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let echo = EchoOptions { key, host: &host, port, path, is_tls };
    format!(
        r#"Development app, on loopback only:
  id      {id}
  key     {key}
  secret  {secret}

{echo}
# Publish an event
body='{{"name":"hello","channel":"my-channel","data":"{{\"text\":\"Hi there\"}}"}}'
query="auth_key={key}&auth_timestamp=$(date +%s)&auth_version=1.0&body_md5=$(printf %s "$body" | openssl md5 -r | cut -c1-32)"
signature=$(printf 'POST\n/apps/{id}/events\n%s' "$query" | openssl sha256 -hmac {secret} -r | cut -c1-64)
curl -d "$body" "{scheme}://{address}{path}/apps/{id}/events?$query&auth_signature=$signature"

# or: campanile publish my-channel hello '{{"text":"Hi there"}}', and campanile listen my-channel
"#
    )
}
