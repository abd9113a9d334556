//! Connects commands to a running server, with the credentials of the configuration unless they are
//! given.

use super::{ConfigArgs, EXIT_FAILED, EXIT_USAGE, fail, runtime, say, trust::Trust};
use crate::{
    config::{AppConfig, Flags, Secret},
    signature::Signer,
};
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, Uri, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{error::Error, net::IpAddr, process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    io::{self, AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};
use tokio_rustls::TlsConnector;

/// Which server, and as which app.
#[derive(Args, Clone, Debug)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    sources: ConfigArgs,
    /// The server [default: where the configuration has it listen]
    #[arg(long, value_name = "http[s]://HOST:PORT/PATH")]
    url: Option<Uri>,
    /// PEM file with the authorities to believe [default: those of this machine; without --url, the
    /// certificate of the configuration]
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
    /// The app [default: the first of the configuration]
    #[arg(long, value_name = "ID")]
    app_id: Option<String>,
    /// The app's key
    #[arg(long)]
    key: Option<String>,
    /// The app's secret
    #[arg(long)]
    secret: Option<String>,
}

/// A server and one of its apps.
#[derive(Debug)]
pub(super) struct AppTarget {
    host: String,
    port: u16,
    /// The trusted certificates, with TLS.
    tls: Option<Arc<ClientConfig>>,
    /// The prefix of every path.
    pub(super) prefix: String,
    pub(super) app_id: String,
    pub(super) key: String,
    pub(super) signer: Signer,
}

impl ServerArgs {
    /// Determines server and app, or returns what is missing.
    pub(super) fn target(&self) -> Result<AppTarget, ExitCode> {
        let config = self.sources.load(Flags::default())?.config;
        let server = config.server;
        let (is_tls, host, port, prefix) = if let Some(url) = &self.url {
            parts(url).map_err(|rule| fail(EXIT_USAGE, rule))?
        } else {
            let is_tls = !server.tls.cert.is_empty();
            (is_tls, reachable(&server.host), server.port, server.path)
        };
        let trust = match (&self.ca, &self.url) {
            (Some(file), _) => Trust::Authorities(file.clone()),
            (None, Some(_)) => Trust::System,
            (None, None) => Trust::Itself(server.tls.cert),
        };
        let tls = is_tls.then(|| trust.client()).transpose();
        let tls = tls.map_err(|rule| fail(EXIT_USAGE, rule))?.map(Arc::new);
        let app = self.app(&config.apps).map_err(|rule| fail(EXIT_USAGE, rule))?;
        let signer = Signer::new(app.secret.expose());
        Ok(AppTarget { host, port, tls, prefix, app_id: app.id, key: app.key, signer })
    }

    /// Sends a request to the server, and prints the answer.
    pub(super) fn ask(&self, question: impl AsyncFnOnce(&AppTarget) -> HttpAnswer) -> ExitCode {
        let (target, runtime) = match (self.target(), runtime()) {
            (Ok(target), Ok(runtime)) => (target, runtime),
            (Err(code), _) | (_, Err(code)) => return code,
        };
        match runtime.block_on(question(&target)) {
            Ok((StatusCode::OK, body)) => {
                say(body);
                ExitCode::SUCCESS
            }
            Ok((status, body)) => {
                fail(EXIT_FAILED, format_args!("the server answers {status}: {body}"))
            }
            Err(error) => {
                fail(EXIT_FAILED, format_args!("cannot reach {}: {error}", target.origin()))
            }
        }
    }

    fn app(&self, apps: &[AppConfig]) -> Result<AppConfig, String> {
        let configured = match &self.app_id {
            None => apps.first(),
            Some(id) => apps.iter().find(|app| app.id == *id),
        };
        let mut app = match (configured, &self.app_id) {
            (Some(app), _) => app.clone(),
            (None, Some(id)) if self.key.is_some() && self.secret.is_some() => {
                AppConfig { id: id.clone(), ..AppConfig::default() }
            }
            (None, id) => {
                let id = id.as_deref().unwrap_or_default();
                return Err(format!("the app {id:?} is not configured: give --key and --secret"));
            }
        };
        if let Some(key) = &self.key {
            app.key.clone_from(key);
        }
        if let Some(secret) = &self.secret {
            app.secret = Secret::new(secret);
        }
        Ok(app)
    }
}

/// Whether the URL has TLS; its host, port and path.
fn parts(url: &Uri) -> Result<(bool, String, u16, String), &'static str> {
    let (is_tls, port) = match url.scheme_str() {
        Some("http") => (false, 80),
        Some("https") => (true, 443),
        Some(_) | None => return Err("--url must begin with http:// or https://"),
    };
    let host = url.host().ok_or("--url needs a host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let path = url.path().trim_end_matches('/').to_owned();
    Ok((is_tls, host, url.port_u16().unwrap_or(port), path))
}

/// The address at which a server that listens on `host` is reachable from this machine.
fn reachable(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1".to_owned(),
        Ok(_) | Err(_) => host.to_owned(),
    }
}

/// A byte stream to the server.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A connection to the server, with or without TLS.
pub(super) type Connected = Box<dyn ByteStream>;

/// The timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The status and body of an answer, or the error.
pub(super) type HttpAnswer = Result<(StatusCode, String), Box<dyn Error + Send + Sync>>;

impl AppTarget {
    /// Sends one request to the server; `path` follows the prefix.
    pub(super) async fn request(&self, method: Method, path: &str, body: String) -> HttpAnswer {
        time::timeout(TIMEOUT, self.exchange(method, path, body)).await?
    }

    async fn exchange(&self, method: Method, path: &str, body: String) -> HttpAnswer {
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(HOST, self.authority())
            .body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Connects, with TLS if the URL has it.
    pub(super) async fn connect(&self) -> io::Result<Connected> {
        time::timeout(TIMEOUT, Box::pin(self.dial())).await?
    }

    async fn dial(&self) -> io::Result<Connected> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
        Ok(Box::new(stream))
    }

    /// The server's own URL, without a path.
    pub(super) fn origin(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Host and port in URL form.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_over_loopback() {
        for (host, expected) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "::1"),
            ("10.1.2.3", "10.1.2.3"),
            ("fd00::1", "fd00::1"),
            ("example.com", "example.com"),
        ] {
            assert_eq!(reachable(host), expected);
        }
    }
}
