//! `campanile start`: the life of the process.

use super::{
    EXIT_FAILED, EXIT_USAGE, StartArgs, banner, fail,
    log::{self, LevelSwitch},
    reload::Reloading,
    runtime, say,
};
use crate::{
    config::{Flags, Loaded},
    server::{Server, ServerError},
};
use std::{process::ExitCode, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};

pub(super) fn start(args: &StartArgs) -> ExitCode {
    let loaded = match args.sources.load(flags(args)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let (level, _writing) = log::begin(&loaded.config.log);
    for fact in &loaded.facts {
        tracing::info!(fact, "configuration");
    }
    for note in &loaded.notes {
        tracing::warn!(note, "configuration");
    }
    match runtime() {
        Ok(runtime) => {
            let code = runtime.block_on(serve(args, loaded, level));
            // The system may still look up the name of a webhook's endpoint: nobody waits for that.
            runtime.shutdown_background();
            code
        }
        Err(code) => code,
    }
}

fn flags(args: &StartArgs) -> Flags {
    Flags {
        host: args.host.clone(),
        port: args.port,
        path: args.path.clone(),
        hostname: args.hostname.clone(),
        debug: args.debug,
    }
}

async fn serve(args: &StartArgs, loaded: Loaded, level: LevelSwitch) -> ExitCode {
    let Loaded { config, files, .. } = loaded;
    // Before the first connection, so that no signal is missed.
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let [mut terminate, mut interrupt, hangup] = match signals.map(signal) {
        [Ok(terminate), Ok(interrupt), Ok(hangup)] => [terminate, interrupt, hangup],
        [Err(error), _, _] | [_, Err(error), _] | [_, _, Err(error)] => {
            return fail(EXIT_FAILED, error);
        }
    };
    let server = match Server::build(&config) {
        Ok(server) => server,
        Err(error @ ServerError::Tls(_)) => return fail(EXIT_USAGE, error),
        Err(error) => return fail(EXIT_FAILED, error),
    };
    match server.address() {
        Ok(address) => say(banner::banner(&config, address)),
        Err(error) => return fail(EXIT_FAILED, error),
    }
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (sources, reloader) = (args.sources.clone(), Arc::new(server.reloader(config)));
    let reloading = Reloading { sources, flags: flags(args), reloader, level };
    tokio::spawn(reloading.reload_on(hangup, files));
    match server.run(stop).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(left) => fail(EXIT_FAILED, format_args!("{left} parts were not done in time")),
        Err(error) => fail(EXIT_FAILED, error),
    }
}
