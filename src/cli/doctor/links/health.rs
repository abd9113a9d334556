//! Whether the server is ready.

use super::super::{
    Checkup,
    causes::{files::CONFIGURATION_CACHED, local::SERVER_NOT_READY, redis::REDIS_PREFIX_DIFFERS},
    finding::Finding,
    inputs::Inputs,
    probe::{Peer, call, get_with},
    report::Outcome,
};
use crate::http::prefix_hash;
use hyper::Method;
use serde_json::Value;

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let Some(peer) = &checkup.direct else {
        return Outcome::Skipped("the address of the server is not known".to_owned());
    };
    let answer = match get_with(peer, "/ready", None).await {
        Ok(answer) => answer,
        Err(error) => return SERVER_NOT_READY.found(format!("GET /ready fails: {error}.")).into(),
    };
    if answer.status == 200 {
        let found = diagnostics(peer, &checkup.inputs).await;
        let differs = found.and_then(|found| {
            redis_not_used(&checkup.inputs, &found)
                .or_else(|| prefix_differs(&checkup.inputs, &found))
        });
        return differs.map_or_else(|| Outcome::Well("ready".to_owned()), Outcome::from);
    }
    let body = answer.json();
    let reasons = body["reasons"].as_array().map_or_else(Vec::new, |reasons| {
        reasons.iter().filter_map(Value::as_str).collect::<Vec<_>>()
    });
    let seen = format!("GET /ready answers {}: {}.", answer.status, reasons.join(", "));
    SERVER_NOT_READY.found(seen).into()
}

/// What the node says of itself and of the request.
pub(super) async fn diagnostics(peer: &Peer, inputs: &Inputs<'_>) -> Option<Value> {
    let called = call(peer, &inputs.app()?, Method::GET, "diagnostics", String::new()).await;
    let answer = called.ok()?.answer;
    (answer.status == 200).then(|| answer.json())
}

/// A Redis in the configuration, and a running server without one.
fn redis_not_used(inputs: &Inputs<'_>, diagnostics: &Value) -> Option<Finding> {
    let target = inputs.config()?.redis.target()?;
    let is_alone = diagnostics["node"].is_string() && diagnostics["cluster"].is_null();
    is_alone.then(|| {
        CONFIGURATION_CACHED
            .found(format!(
                "redis.url is set to {}, and the running server has no Redis.",
                target.servers()
            ))
            .advice("Restart the server: a reload does not change [redis].")
    })
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
