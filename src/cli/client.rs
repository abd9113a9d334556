//! How the commands reach a running server: with the credentials of the configuration, unless
//! they are given.

use super::{ConfigArgs, EXIT_FAILED, EXIT_USAGE, fail, runtime, say};
use crate::{
    config::{AppConfig, Flags, Secret},
    signature::Signer,
};
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, Uri, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use std::{error::Error, net::IpAddr, process::ExitCode, time::Duration};
use tokio::{io, net::TcpStream, time};

/// Which server, and as which app.
#[derive(Args, Clone, Debug)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    sources: ConfigArgs,
    /// The server [default: where the configuration has it listen]
    #[arg(long, value_name = "http://HOST:PORT/PATH")]
    url: Option<Uri>,
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

/// A server and an app of it.
#[derive(Debug)]
pub(super) struct Target {
    host: String,
    port: u16,
    /// What precedes every path.
    pub(super) prefix: String,
    pub(super) app_id: String,
    pub(super) key: String,
    pub(super) signer: Signer,
}

impl ServerArgs {
    /// Finds out which server and app are meant, or says what is missing.
    pub(super) fn target(&self) -> Result<Target, ExitCode> {
        let config = self.sources.load(Flags::default())?.config;
        let server = config.server;
        let (host, port, prefix) = self
            .url
            .as_ref()
            .map_or_else(|| Ok((reachable(&server.host), server.port, server.path)), parts)
            .map_err(|rule| fail(EXIT_USAGE, rule))?;
        let app = self.app(&config.apps).map_err(|rule| fail(EXIT_USAGE, rule))?;
        let signer = Signer::new(app.secret.expose());
        Ok(Target { host, port, prefix, app_id: app.id, key: app.key, signer })
    }

    /// Asks the server something, and prints the answer.
    pub(super) fn ask(&self, question: impl AsyncFnOnce(&Target) -> Answer) -> ExitCode {
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
                let authority = target.authority();
                fail(EXIT_FAILED, format_args!("cannot reach http://{authority}: {error}"))
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

fn parts(url: &Uri) -> Result<(String, u16, String), &'static str> {
    if url.scheme_str() != Some("http") {
        return Err("--url must begin with http:// (https is not supported by this version)");
    }
    let host = url.host().ok_or("--url needs a host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, url.port_u16().unwrap_or(80), url.path().trim_end_matches('/').to_owned()))
}

/// Where a server that listens on `host` can be reached from this machine.
fn reachable(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1".to_owned(),
        Ok(_) | Err(_) => host.to_owned(),
    }
}

/// How long the server has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The status and body of an answer, or why there is none.
pub(super) type Answer = Result<(StatusCode, String), Box<dyn Error + Send + Sync>>;

impl Target {
    /// Sends one request to the server; `path` comes behind its prefix.
    pub(super) async fn request(&self, method: Method, path: &str, body: String) -> Answer {
        time::timeout(TIMEOUT, self.exchange(method, path, body)).await?
    }

    async fn exchange(&self, method: Method, path: &str, body: String) -> Answer {
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

    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        time::timeout(TIMEOUT, TcpStream::connect((self.host.as_str(), self.port))).await?
    }

    /// Host and port as they stand in a URL.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}
