//! `campanile health`: whether a running server is alive. For containers without another HTTP
//! client.

use super::target::ServerArgs;
use clap::Args;
use hyper::Method;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn health(args: &HealthArgs) -> ExitCode {
    args.server
        .send_and_print(async |target| target.request(Method::GET, "/up", String::new()).await)
}
