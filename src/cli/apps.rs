//! `campanile apps reload`: has a running server read an app of the database again.

use super::target::ServerArgs;
use clap::{Args, Subcommand};
use hyper::Method;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct AppsArgs {
    #[command(subcommand)]
    command: AppsCommand,
}

#[derive(Debug, Subcommand)]
enum AppsCommand {
    /// Have a running server read an app of the database again, without waiting for
    /// `apps_from.cache_ttl_s`
    Reload(ServerArgs),
}

pub(super) fn apps(args: &AppsArgs) -> ExitCode {
    match &args.command {
        AppsCommand::Reload(server) => server.send_and_print(async |target| {
            target.call(Method::POST, "reload", &[], "{}".to_owned()).await
        }),
    }
}
