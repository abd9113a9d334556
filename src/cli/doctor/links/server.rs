//! The process of the server: whether something listens, and whether it is Campanile.

use super::super::{
    Checkup,
    causes::local::{SERVER_IS_OTHER, SERVER_NOT_RUNNING},
    report::Outcome,
};
use crate::{cli::target::AppTarget, http_client::ClientResponse};
use hyper::{Method, StatusCode};
use serde_json::Value;

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let target = match checkup.inputs.direct_target() {
        Ok(target) => target,
        Err(why) => return Outcome::Skipped(why),
    };
    if let Err(error) = target.connect().await {
        let seen = format!("No connection to {}: {error}.", target.origin);
        let finding = SERVER_NOT_RUNNING.found(seen);
        return match checkup.inputs.args.server {
            None => finding.command("campanile start"),
            Some(_) => finding,
        }
        .into();
    }
    let answered = target.request(Method::GET, "/up", String::new()).await;
    let other =
        |seen: String| Outcome::from(SERVER_IS_OTHER.found(format!("{} {seen}", target.origin)));
    match answered {
        Err(error) => return other(format!("does not answer GET /up: {error}.")),
        Ok(answer) if answer.status != StatusCode::OK || !is_up(&answer) => {
            return other(format!("answers GET /up with {}{}.", answer.status, program(&answer)));
        }
        Ok(answer) if !is_ours(&target).await => {
            return other(format!(
                "answers as another server of the Pusher protocol{}.",
                program(&answer)
            ));
        }
        Ok(_) => {}
    }
    let seen = format!("Campanile answers at {}{}", target.origin, target.prefix);
    checkup.direct = Some(target);
    Outcome::Well(seen)
}

/// Whether the answer to `/up` is that of Campanile, which is Reverb's as well.
fn is_up(answer: &ClientResponse) -> bool {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["health"] == "OK"
}

/// The program that has answered, as far as it says so.
fn program(answer: &ClientResponse) -> String {
    ["server", "x-powered-by"]
        .iter()
        .find_map(|name| answer.headers.get(*name)?.to_str().ok())
        .map_or_else(String::new, |name| format!(", and is {name}"))
}

/// Whether the server is Campanile: its errors have a number.
async fn is_ours(target: &AppTarget) -> bool {
    let answered = target.request(Method::GET, "/campanile-doctor", String::new()).await;
    answered.is_ok_and(|answer| {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        body["code"] == 404 && body["error"].is_string()
    })
}
