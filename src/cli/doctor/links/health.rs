//! Whether the server is ready.

use super::super::{
    Checkup,
    causes::{local::SERVER_NOT_READY, redis::REDIS_PREFIX_DIFFERS},
    finding::Finding,
    inputs::Inputs,
    report::Outcome,
};
use crate::http::prefix_hash;
use hyper::{Method, StatusCode};
use serde_json::Value;

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let Some(target) = &checkup.direct else {
        return Outcome::Skipped("the address of the server is not known".to_owned());
    };
    let answer = match target.request(Method::GET, "/ready", String::new()).await {
        Ok(answer) => answer,
        Err(error) => return SERVER_NOT_READY.found(format!("GET /ready fails: {error}.")).into(),
    };
    if answer.status == StatusCode::OK {
        let found = target.diagnostics().await.ok();
        let differs = found.and_then(|found| prefix_differs(&checkup.inputs, &found));
        return differs.map_or_else(|| Outcome::Well("ready".to_owned()), Outcome::from);
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let reasons = body["reasons"].as_array().map_or_else(Vec::new, |reasons| {
        reasons.iter().filter_map(Value::as_str).collect::<Vec<_>>()
    });
    let seen = format!("GET /ready answers {}: {}.", answer.status, reasons.join(", "));
    SERVER_NOT_READY.found(seen).into()
}

/// Another prefix of keys in Redis than that of the configuration.
fn prefix_differs(inputs: &Inputs<'_>, diagnostics: &Value) -> Option<Finding> {
    let running = diagnostics["cluster"]["prefix_hash"].as_str()?;
    let redis = &inputs.config()?.redis;
    redis.target()?;
    let prefix = &redis.prefix;
    if running == prefix_hash(prefix) {
        return None;
    }
    Some(REDIS_PREFIX_DIFFERS.found(format!(
        "The configuration has {prefix:?}; the hash of the prefix of the running server is {running}."
    )))
}
