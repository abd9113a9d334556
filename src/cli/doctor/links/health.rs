//! Whether the server is ready.

use super::super::{Checkup, causes::local::SERVER_NOT_READY, report::Outcome};
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
        return Outcome::Well("ready".to_owned());
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let reasons = body["reasons"].as_array().map_or_else(Vec::new, |reasons| {
        reasons.iter().filter_map(Value::as_str).collect::<Vec<_>>()
    });
    let seen = format!("GET /ready answers {}: {}.", answer.status, reasons.join(", "));
    SERVER_NOT_READY.found(seen).into()
}
