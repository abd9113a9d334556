//! `campanile health`: whether a running server says that it is alive. For containers that hold
//! nothing else which could ask.

use super::{EXIT_FAILED, client::ServerArgs, fail, runtime, say};
use clap::Args;
use hyper::{Method, StatusCode};
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn health(args: &HealthArgs) -> ExitCode {
    let (target, runtime) = match (args.server.target(), runtime()) {
        (Ok(target), Ok(runtime)) => (target, runtime),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    match runtime.block_on(target.request(Method::GET, "/up", String::new())) {
        Ok((StatusCode::OK, body)) => {
            say(body);
            ExitCode::SUCCESS
        }
        Ok((status, body)) => {
            fail(EXIT_FAILED, format_args!("the server answers {status}: {body}"))
        }
        Err(error) => {
            fail(EXIT_FAILED, format_args!("cannot reach http://{}: {error}", target.authority()))
        }
    }
}
