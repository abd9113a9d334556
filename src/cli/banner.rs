//! The text that is printed at startup.

use crate::{
    config::{AppConfig, Config},
    snippet::EchoOptions,
};
use std::net::{IpAddr, SocketAddr};

/// The server's URL, and for the development app everything that is needed to try it.
pub(super) fn banner(config: &Config, address: SocketAddr) -> String {
    let path = &config.server.path;
    let is_tls = !config.server.tls.cert.is_empty();
    let scheme = if is_tls { "https" } else { "http" };
    let listens = format!("Campanile listens on {scheme}://{address}{path}");
    match config.apps.first() {
        Some(app) if config.is_development() => {
            let has_console = config.serves_only_development();
            format!("{listens}\n\n{}", development(app, address, path, (is_tls, has_console)))
        }
        Some(_) | None => listens,
    }
}

fn development(
    app: &AppConfig,
    address: SocketAddr,
    path: &str,
    (is_tls, has_console): (bool, bool),
) -> String {
    let AppConfig { id, key, .. } = app;
    let secret = app.secret.expose();
    let scheme = if is_tls { "https" } else { "http" };
    let port = address.port();
    // As it stands in a URL.
    let host = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let console = if has_console {
        format!("\n  console {scheme}://{address}{path}/console")
    } else {
        String::new()
    };
    let echo = EchoOptions { key, host: &host, port, path, is_tls };
    format!(
        r#"Development app, on loopback only:
  id      {id}
  key     {key}
  secret  {secret}{console}

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
