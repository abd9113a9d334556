//! `campanile publish`: one event through the HTTP API.

use super::client::{Answer, ServerArgs, Target};
use crate::signature::{body_md5, request_string};
use clap::Args;
use hyper::Method;
use serde_json::json;
use std::{process::ExitCode, time::SystemTime};

#[derive(Args, Debug)]
pub(super) struct PublishArgs {
    /// The channel
    channel: String,
    /// The event's name
    event: String,
    /// The event's data, usually JSON
    #[arg(default_value = "{}")]
    data: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn publish(args: &PublishArgs) -> ExitCode {
    args.server.ask(async |target| post(target, args).await)
}

async fn post(target: &Target, args: &PublishArgs) -> Answer {
    let body = json!({"name": args.event, "channel": args.channel, "data": args.data}).to_string();
    let path = format!("/apps/{}/events", target.app_id);
    let query = signed_query(target, &path, &body);
    target.request(Method::POST, &format!("{path}?{query}"), body).await
}

fn signed_query(target: &Target, path: &str, body: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let parameters = [
        ("auth_key", target.key.clone()),
        ("auth_timestamp", now.as_secs().to_string()),
        ("auth_version", "1.0".to_owned()),
        ("body_md5", body_md5(body.as_bytes())),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let signature = target.signer.sign(&request_string("POST", path, &parameters));
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .append_pair("auth_signature", &signature)
        .finish()
}
