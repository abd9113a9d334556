//! `campanile health`: whether a running server says that it is alive. For containers that hold
//! nothing else which could ask.

use super::{EXIT_FAILED, client::ServerArgs, fail, runtime, say};
use clap::Args;
use hyper::{Method, StatusCode};
use std::{process::ExitCode, time::Duration};
use tokio::time;

#[derive(Args, Debug)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// How long the server has to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn health(args: &HealthArgs) -> ExitCode {
    let (target, runtime) = match (args.server.target(), runtime()) {
        (Ok(target), Ok(runtime)) => (target, runtime),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let asked =
        async { time::timeout(TIMEOUT, target.request(Method::GET, "/up", String::new())).await };
    match runtime.block_on(asked) {
        Ok(Ok((StatusCode::OK, body))) => {
            say(body);
            ExitCode::SUCCESS
        }
        Ok(Ok((status, body))) => {
            fail(EXIT_FAILED, format_args!("the server answers {status}: {body}"))
        }
        Ok(Err(error)) => {
            fail(EXIT_FAILED, format_args!("cannot reach http://{}: {error}", target.authority()))
        }
        Err(_elapsed) => fail(EXIT_FAILED, "the server does not answer"),
    }
}
