//! Signed requests of the HTTP API.

use super::{Answer, NoAnswer, Peer, http};
use crate::{
    config::AppConfig,
    signature::{Signer, body_md5, request_string_to_sign},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time;

/// How often a request is sent again, and the longest wait before that.
const RETRIES: usize = 4;
const RETRY_AFTER_MAX_S: u64 = 5;

/// An answer to a signed request, and what was signed.
#[derive(Debug)]
pub(in crate::cli::doctor) struct SignedAnswer {
    pub(in crate::cli::doctor) answer: Answer,
    /// The text that was signed: the method, the path and the query, one a line.
    pub(in crate::cli::doctor) signed: String,
}

/// Sends a signed request for a path of the app, such as `events`. If a rate is exceeded, it waits as
/// long as the server asks for: the doctor sends many requests in a short time.
pub(in crate::cli::doctor) async fn call(
    peer: &Peer,
    app: &AppConfig,
    method: Method,
    path: &str,
    body: String,
) -> Result<SignedAnswer, NoAnswer> {
    let mut called = call_once(peer, app, &method, path, body.clone()).await?;
    for _ in 0..RETRIES {
        let seconds = called.answer.header(RETRY_AFTER).and_then(|value| value.parse().ok());
        let Some(seconds @ ..=RETRY_AFTER_MAX_S) = seconds.filter(|_| called.answer.status == 429)
        else {
            break;
        };
        time::sleep(Duration::from_secs(seconds)).await;
        called = call_once(peer, app, &method, path, body.clone()).await?;
    }
    Ok(called)
}

async fn call_once(
    peer: &Peer,
    app: &AppConfig,
    method: &Method,
    path: &str,
    body: String,
) -> Result<SignedAnswer, NoAnswer> {
    let path = format!("/apps/{}/{path}", app.id);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (now, md5) = (now.to_string(), body_md5(body.as_bytes()));
    let parameters = [
        ("auth_key", &*app.key),
        ("auth_timestamp", &*now),
        ("auth_version", "1.0"),
        ("body_md5", &*md5),
    ];
    let signed = request_string_to_sign(method.as_str(), &path, &parameters);
    let signature = Signer::new(app.secret.expose()).sign(&signed);
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .append_pair("auth_signature", &signature)
        .finish();
    let request = Request::builder()
        .method(method)
        .uri(format!("{}{path}?{query}", peer.prefix))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap_or_default();
    let answer = http::send(peer, request).await?;
    Ok(SignedAnswer { answer, signed })
}
