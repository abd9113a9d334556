//! `campanile start`: runs the server until it is stopped.

use super::{
    EXIT_FAILED, EXIT_USAGE, StartArgs, banner, fail,
    log::{self, LogLevelHandle},
    print_line,
    reload::SighupTask,
    runtime, systemd,
};
use crate::{
    config::{Flags, Loaded},
    server::{Server, ServerError},
};
use std::{path::Path, process::ExitCode, sync::Arc};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// The number of termination signals received.
type SignalCount = watch::Receiver<u32>;

pub(super) fn start(args: &StartArgs) -> ExitCode {
    let loaded = match args.sources.load_all(flags(args)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let (level, _writing) = log::init(&loaded.config.log);
    for info in &loaded.infos {
        tracing::info!(info, "configuration");
    }
    for warning in &loaded.warnings {
        tracing::warn!(warning, "configuration");
    }
    if loaded.is_development() && is_in_container(std::process::id(), Path::exists) {
        tracing::warn!(
            "the development app is served on the loopback address of this container only, so clients outside it \
             can't connect: mount a config.toml with an app, or set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET"
        );
    }
    match runtime() {
        Ok(runtime) => {
            let code = runtime.block_on(serve(args, loaded, level));
            // The system may still resolve the name of an endpoint, which is not waited for.
            runtime.shutdown_background();
            code
        }
        Err(code) => code,
    }
}

/// Whether the process with this id runs in a container: it is the first process of its namespace,
/// or the marker file of Docker or Podman exists.
fn is_in_container(process: u32, exists: impl Fn(&Path) -> bool) -> bool {
    process == 1 || ["/.dockerenv", "/run/.containerenv"].iter().any(|path| exists(Path::new(path)))
}

fn flags(args: &StartArgs) -> Flags {
    Flags { hostname: args.hostname.clone(), debug: args.debug, ..args.address.flags() }
}

async fn serve(args: &StartArgs, loaded: Loaded, level: LogLevelHandle) -> ExitCode {
    let report = loaded.to_json();
    let Loaded { config, files, .. } = loaded;
    // Before the first connection, so that no signal is missed.
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let [terminate, interrupt, hangup] = match signals.map(signal) {
        [Ok(terminate), Ok(interrupt), Ok(hangup)] => [terminate, interrupt, hangup],
        [Err(error), _, _] | [_, Err(error), _] | [_, _, Err(error)] => {
            return fail(EXIT_FAILED, error);
        }
    };
    let (mut stop, mut terminate_now) = count_signals(terminate, interrupt);
    let built = tokio::select! {
        built = Server::build(&config) => built,
        // Taking over the port may take a while.
        _ = stop.wait_for(|count| 1 <= *count) => return ExitCode::SUCCESS,
    };
    let server = match built {
        Ok(server) => server,
        Err(error @ (ServerError::Tls(_) | ServerError::Exposed { .. })) => {
            return fail(EXIT_USAGE, error);
        }
        Err(error) => return fail(EXIT_FAILED, error),
    };
    server.console().set_configuration(&report["settings"]);
    print_line(banner::banner(&config, server.address()));
    server.log_listening(&config);
    systemd::ready();
    let stop = async move {
        _ = stop.wait_for(|count| 1 <= *count).await;
        systemd::stopping();
    };
    let (sources, reloader) = (args.sources.clone(), Arc::new(server.reloader(config)));
    let running = Arc::clone(&reloader);
    let sighup_task = SighupTask { sources, flags: flags(args), reloader, level };
    tokio::spawn(sighup_task.reload_on(hangup, files));
    let ended = tokio::select! {
        ended = server.run(stop) => ended,
        _ = terminate_now.wait_for(|count| 2 <= *count) => {
            let connections = running.connections();
            tracing::warn!(connections, "terminated by a second signal");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    exit_code(ended)
}

/// The exit code of a server that has ended with this many unfinished connections and tasks.
fn exit_code(ended: Result<usize, ServerError>) -> ExitCode {
    match ended {
        Ok(0) => ExitCode::SUCCESS,
        Ok(unfinished) => fail(
            EXIT_FAILED,
            format_args!("{unfinished} connections or tasks did not finish in time"),
        ),
        Err(error) => fail(EXIT_FAILED, error),
    }
}

/// Counts termination signals.
fn count_signals(mut terminate: Signal, mut interrupt: Signal) -> (SignalCount, SignalCount) {
    let (count, first) = watch::channel(0);
    let second = first.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_recognised_by_its_first_process_or_a_file() {
        assert!(!is_in_container(2, |_| false));
        assert!(is_in_container(1, |_| false));
        assert!(is_in_container(2, |path| path == Path::new("/.dockerenv")));
        assert!(is_in_container(2, |path| path == Path::new("/run/.containerenv")));
    }

    #[test]
    fn only_a_server_without_unfinished_parts_exits_0() {
        assert_eq!(exit_code(Ok(0)), ExitCode::SUCCESS);
        for ended in [Ok(1), Ok(7), Err(ServerError::ShardEnded)] {
            assert_eq!(exit_code(ended), ExitCode::from(1));
        }
    }
}
