//! `campanile start`: the life of the process.

use super::{EXIT_FAILED, EXIT_USAGE, StartArgs, banner, fail, runtime, say};
use crate::{
    config::{Config, Flags, LogFormat},
    server::{Reloader, Server, ServerError},
};
use std::{io, process::ExitCode};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::Level;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::FmtSubscriber;

pub(super) fn start(args: &StartArgs) -> ExitCode {
    let flags = Flags {
        host: args.host.clone(),
        port: args.port,
        path: args.path.clone(),
        hostname: args.hostname.clone(),
        debug: args.debug,
    };
    let loaded = match args.sources.load(flags) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let _writing = log(&loaded.config);
    for note in &loaded.notes {
        tracing::warn!(note, "configuration");
    }
    match runtime() {
        Ok(runtime) => {
            let code = runtime.block_on(serve(&loaded.config));
            // The system may still look up the name of a webhook's endpoint: nobody waits for that.
            runtime.shutdown_background();
            code
        }
        Err(code) => code,
    }
}

/// Begins to log, on a thread of its own: whoever reads the log may be slow or gone, and must not
/// hold up a shard. Lines beyond some thousands that wait are dropped. What waits is written when
/// the guard is dropped.
fn log(config: &Config) -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(io::stderr());
    let builder =
        FmtSubscriber::builder().with_max_level(Level::from(config.log.level)).with_writer(writer);
    let set = match config.log.format {
        LogFormat::Text => tracing::subscriber::set_global_default(
            builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).finish(),
        ),
        LogFormat::Json => {
            tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish())
        }
    };
    // It can only have been set before, by a program that embeds this one.
    let _ = set;
    guard
}

async fn serve(config: &Config) -> ExitCode {
    // Before the first connection, so that no signal is missed.
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let [mut terminate, mut interrupt, hangup] = match signals.map(signal) {
        [Ok(terminate), Ok(interrupt), Ok(hangup)] => [terminate, interrupt, hangup],
        [Err(error), _, _] | [_, Err(error), _] | [_, _, Err(error)] => {
            return fail(EXIT_FAILED, error);
        }
    };
    let server = match Server::build(config) {
        Ok(server) => server,
        Err(error @ ServerError::Tls(_)) => return fail(EXIT_USAGE, error),
        Err(error) => return fail(EXIT_FAILED, error),
    };
    match server.address() {
        Ok(address) => say(banner::banner(config, address)),
        Err(error) => return fail(EXIT_FAILED, error),
    }
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::spawn(reload_on(hangup, server.reloader()));
    match server.run(stop).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(left) => fail(EXIT_FAILED, format_args!("{left} parts were not done in time")),
        Err(error) => fail(EXIT_FAILED, error),
    }
}

/// Reads again what may change whenever the operator asks for it.
async fn reload_on(mut hangup: Signal, reloader: Reloader) {
    while hangup.recv().await.is_some() {
        tracing::info!("reload begun");
        reloader.reload();
    }
}
