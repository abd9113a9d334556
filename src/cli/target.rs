//! Connects commands to a running server, with the credentials of the configuration unless they are
//! given.

use super::{
    AddressArgs, ConfigArgs, EXIT_FAILED, EXIT_USAGE, fail, print_line, runtime, trust::Trust,
};
use crate::{
    config::{AppConfig, Config, MetricsConfig, Secret},
    escape::{Escaped, json_line},
    http_client::{
        ByteStream, ClientResponse, ConnectError, Connector, HttpClient, HttpError, HttpTimeouts,
        Origin,
    },
    signature::{Signer, body_md5, request_string_to_sign},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, Uri, header::AUTHORIZATION};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time;

/// The server and app to connect to.
#[derive(Args, Clone, Debug)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    sources: ConfigArgs,
    #[command(flatten)]
    address: AddressArgs,
    /// The server [default: the listen address of the configuration]
    #[arg(
        long,
        value_name = "http[s]://HOST:PORT/PATH",
        conflicts_with_all = ["host", "port", "path"],
    )]
    url: Option<Uri>,
    /// PEM file with the CA certificates to trust [default: those of this machine; without --url, the
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
    pub(super) origin: Arc<Origin>,
    connector: Arc<ArcSwap<Connector>>,
    /// The prefix of every path.
    pub(super) prefix: String,
    pub(super) app_id: String,
    pub(super) key: String,
    pub(super) signer: Signer,
}

/// Where the metrics are.
#[derive(Args, Clone, Debug)]
pub(super) struct MetricsArgs {
    /// The metrics page [default: `metrics.listen` of the configuration, or /metrics of the server]
    #[arg(long, value_name = "http[s]://HOST:PORT/PATH")]
    metrics_url: Option<Uri>,
    /// Bearer token of the metrics page [default: without a URL, `metrics.token` of the configuration]
    #[arg(long, value_name = "TOKEN")]
    metrics_token: Option<String>,
}

/// The metrics page of a server.
#[derive(Debug)]
pub(super) struct MetricsTarget {
    origin: Arc<Origin>,
    connector: Arc<ArcSwap<Connector>>,
    path: String,
    token: Option<String>,
}

/// Maximum size of the metrics page: far more than a server with a thousand apps has.
const METRICS_MAX: usize = 16 << 20;

impl MetricsTarget {
    /// Gets the page.
    pub(super) async fn request(&self) -> Result<ClientResponse, String> {
        let mut request = Request::get(&self.path);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::default()).map_err(|error| error.to_string())?;
        let client =
            HttpClient::new(Arc::clone(&self.connector), Arc::clone(&self.origin), TIMEOUTS);
        let answered = send(client.with_body_max(METRICS_MAX), request).await;
        answered.map_err(|error| format!("cannot reach {}: {error}", self.origin))
    }
}

impl ServerArgs {
    /// Determines server and app, or returns what is missing.
    pub(super) fn target(&self) -> Result<AppTarget, ExitCode> {
        let config = self.sources.load(self.address.flags())?.config;
        self.target_of(&config)
    }

    /// Determines server and app, and where the metrics of the server are.
    pub(super) fn target_with_metrics(
        &self,
        args: &MetricsArgs,
    ) -> Result<(AppTarget, MetricsTarget), ExitCode> {
        let config = self.sources.load(self.address.flags())?.config;
        let target = self.target_of(&config)?;
        let metrics = self.metrics_of(&target, args, &config.metrics);
        Ok((target, metrics.map_err(|message| fail(EXIT_USAGE, message))?))
    }

    fn target_of(&self, config: &Config) -> Result<AppTarget, ExitCode> {
        let server = config.server.clone();
        let (origin, message, prefix) = if let Some(url) = &self.url {
            let prefix = url.path().trim_end_matches('/').to_owned();
            (Origin::from_uri(url), "--url must be http:// or https:// with a host", prefix)
        } else {
            let is_tls = !server.tls.cert.is_empty();
            let origin = Origin::new(is_tls, &reachable(&server.host), server.port);
            (origin, "server.host is neither a name nor an address: pass --url", server.path)
        };
        let origin = origin.ok_or_else(|| fail(EXIT_USAGE, message))?;
        let trust = match (&self.ca, &self.url) {
            (Some(file), _) => Trust::CaFile(file.clone()),
            (None, Some(_)) => Trust::SystemRoots,
            (None, None) => Trust::Pinned(server.tls.cert),
        };
        let tls = origin.is_tls().then(|| trust.client()).transpose();
        let tls = tls.map_err(|message| fail(EXIT_USAGE, message))?;
        let app = self.app(&config.apps).map_err(|message| fail(EXIT_USAGE, message))?;
        Ok(AppTarget::new(origin, Connector::new(tls, false), prefix, &app))
    }

    /// Sends a request to the server, and prints the response.
    pub(super) fn send_and_print(
        &self,
        request: impl AsyncFnOnce(&AppTarget) -> Result<ClientResponse, String>,
    ) -> ExitCode {
        let (target, runtime) = match (self.target(), runtime()) {
            (Ok(target), Ok(runtime)) => (target, runtime),
            (Err(code), _) | (_, Err(code)) => return code,
        };
        let result = runtime.block_on(request(&target));
        // The system may still resolve a name, which is not waited for.
        runtime.shutdown_background();
        match result {
            Ok(response) => match body_of(&response) {
                Ok(body) => {
                    print_line(json_line(&body));
                    ExitCode::SUCCESS
                }
                Err(error) => fail(EXIT_FAILED, error),
            },
            Err(error) => {
                fail(EXIT_FAILED, format_args!("cannot reach {}: {error}", target.origin))
            }
        }
    }

    /// The metrics page: at `--metrics-url`, at `--url`, on the separate listener of the
    /// configuration, or at the server. The token of the configuration is for its own server only.
    fn metrics_of(
        &self,
        target: &AppTarget,
        args: &MetricsArgs,
        config: &MetricsConfig,
    ) -> Result<MetricsTarget, String> {
        let given = args.metrics_token.clone().filter(|token| !token.is_empty());
        let at = |url: &Uri| -> Result<MetricsTarget, String> {
            let message = "--metrics-url must be http:// or https:// with a host";
            let origin = Origin::from_uri(url).ok_or(message)?;
            let trust = self.ca.clone().map_or(Trust::SystemRoots, Trust::CaFile);
            let tls = origin.is_tls().then(|| trust.client()).transpose()?;
            let connector = Arc::new(ArcSwap::from_pointee(Connector::new(tls, false)));
            let path = match url.path() {
                "" | "/" => "/metrics".to_owned(),
                path => path.to_owned(),
            };
            Ok(MetricsTarget { origin: Arc::new(origin), connector, path, token: given.clone() })
        };
        if let Some(url) = &args.metrics_url {
            return at(url);
        }
        if self.url.is_none() && !config.listen.is_empty() {
            let listen: SocketAddr = config.listen.parse().map_err(|_| "metrics.listen")?;
            let host = reachable(&listen.ip().to_string());
            let origin = Origin::new(false, &host, listen.port()).ok_or("metrics.listen")?;
            let connector = Arc::new(ArcSwap::from_pointee(Connector::new(None, false)));
            let path = "/metrics".to_owned();
            return Ok(MetricsTarget { origin: Arc::new(origin), connector, path, token: given });
        }
        let own = || Some(config.token.expose().to_owned()).filter(|token| !token.is_empty());
        Ok(MetricsTarget {
            origin: Arc::clone(&target.origin),
            connector: Arc::clone(&target.connector),
            path: format!("{}/metrics", target.prefix),
            token: given.or_else(|| if self.url.is_none() { own() } else { None }),
        })
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
                return Err(format!("the app {id:?} is not configured: pass --key and --secret"));
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

/// The maximum number of characters of a response that an error shows.
const EXCERPT_CHARS: usize = 1_000;

/// The beginning of a body, for a terminal.
fn excerpt(body: &str) -> String {
    let end = body.char_indices().nth(EXCERPT_CHARS).map_or(body.len(), |(at, _)| at);
    Escaped(body[..end].trim_end()).to_string()
}

/// The body of a complete answer with the status 200, or the error.
pub(super) fn body_of(answer: &ClientResponse) -> Result<String, String> {
    let ClientResponse { status, body, is_complete, .. } = answer;
    let body = String::from_utf8_lossy(body);
    match (*status, *is_complete) {
        (StatusCode::OK, true) => Ok(body.into_owned()),
        (status, true) => Err(format!("the server returned {status}: {}", excerpt(&body))),
        (status, false) => {
            Err(format!("the server returned {status}, truncated: {}", excerpt(&body)))
        }
    }
}

/// The address at which a server that listens on `host` is reachable from this machine.
pub(super) fn reachable(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1".to_owned(),
        Ok(_) | Err(_) => host.to_owned(),
    }
}

/// The timeout of a connection, and of a request with its answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUTS: HttpTimeouts = HttpTimeouts { head: TIMEOUT, body: TIMEOUT };

impl AppTarget {
    /// An app of the server at `origin`, whose paths begin with `prefix`.
    pub(super) fn new(
        origin: Origin,
        connector: Connector,
        prefix: String,
        app: &AppConfig,
    ) -> Self {
        Self {
            origin: Arc::new(origin),
            connector: Arc::new(ArcSwap::from_pointee(connector)),
            prefix,
            app_id: app.id.clone(),
            key: app.key.clone(),
            signer: Signer::new(app.secret.expose()),
        }
    }

    /// Sends a signed request of the HTTP API; `path` follows the path of the app.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
        body: String,
    ) -> Result<ClientResponse, String> {
        let path = format!("/apps/{}/{path}", self.app_id);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (now, md5) = (now.as_secs().to_string(), body_md5(body.as_bytes()));
        let mut signed = vec![
            ("auth_key", &*self.key),
            ("auth_timestamp", &*now),
            ("auth_version", "1.0"),
            ("body_md5", &*md5),
        ];
        signed.extend(parameters);
        signed.sort_unstable();
        let signature = self.signer.sign(&request_string_to_sign(method.as_str(), &path, &signed));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(signed)
            .append_pair("auth_signature", &signature)
            .finish();
        self.request(method, &format!("{path}?{query}"), body).await
    }

    /// Sends one request to the server; `path` follows the prefix.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<ClientResponse, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let client =
            HttpClient::new(Arc::clone(&self.connector), Arc::clone(&self.origin), TIMEOUTS);
        send(client, request).await
    }

    /// Connects, with TLS if the URL has it.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        let connector = self.connector.load_full();
        let connecting = time::timeout(TIMEOUT, Box::pin(connector.connect(&self.origin)));
        connecting.await?.map_err(ConnectError::into_io)
    }
}

async fn send(
    mut client: HttpClient,
    request: Request<Full<Bytes>>,
) -> Result<ClientResponse, String> {
    let answered = time::timeout(TIMEOUT, client.send(request)).await;
    answered.unwrap_or(Err(HttpError::Timeout(TIMEOUT))).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::HeaderMap;

    fn answer(status: StatusCode, body: &str, is_complete: bool) -> ClientResponse {
        let (headers, body) = (HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()));
        ClientResponse { status, headers, body, is_complete }
    }

    #[test]
    fn only_a_complete_answer_with_200_is_success() {
        for (status, is_complete, expected) in [
            (StatusCode::OK, true, Ok("x")),
            (StatusCode::OK, false, Err("the server returned 200 OK, truncated: x")),
            (StatusCode::CREATED, true, Err("the server returned 201 Created: x")),
            (StatusCode::NOT_FOUND, true, Err("the server returned 404 Not Found: x")),
        ] {
            let answer = answer(status, "x", is_complete);
            let body = body_of(&answer);
            assert_eq!(body.as_deref().map_err(String::as_str), expected);
        }
    }

    #[test]
    fn a_terminal_interprets_nothing_of_an_error_and_reads_its_beginning_only() {
        let body = "\u{1b}[2J".to_owned() + &"é".repeat(2 * EXCERPT_CHARS);
        let error = body_of(&answer(StatusCode::NOT_FOUND, &body, true)).unwrap_err();
        assert!(error.contains(r"\u{1b}[2J") && !error.contains('\u{1b}'), "{error}");
        assert!(error.chars().count() < EXCERPT_CHARS + 100, "{error}");
    }

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
