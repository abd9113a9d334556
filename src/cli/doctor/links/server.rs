//! The process of the server: whether something listens, and whether it is Campanile.

use super::super::{
    Checkup,
    causes::{
        local::{SERVER_IS_OTHER, SERVER_NOT_RUNNING},
        machine::{PORT_IN_USE, PORT_NOT_PUBLISHED},
    },
    compose::ComposeFile,
    finding::Finding,
    inputs::{Inputs, ServerAddress, is_local},
    machine,
    probe::{Answer, Peer, STEP_TIMEOUT, get_with},
    report::Outcome,
};
use crate::http_client::ConnectError;
use std::net::{IpAddr, UdpSocket};
use tokio::{net::lookup_host, time};

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let inputs = &checkup.inputs;
    let peer = match inputs.direct_peer() {
        Ok(peer) => peer,
        Err(why) => return Outcome::Skipped(why),
    };
    if let Err(error) = peer.connect().await {
        if let Some(peer) = at_publish_address(checkup).await {
            let seen = format!("Campanile answers at {}{}", peer.origin(), peer.prefix);
            checkup.direct = Some(peer);
            return Outcome::Well(seen);
        }
        if let ConnectError::Tls(_) = error {
            let seen = format!("{} accepts connections: {error}.", peer.origin());
            return SERVER_IS_OTHER
                .found(seen)
                .advice("Use http:// in --server, or restart the server if server.tls.cert is new.")
                .into();
        }
        return not_running(inputs, &peer, &error.to_string()).await;
    }
    if let Some(seen) = other_program(&peer).await {
        return other(inputs, &peer, &seen).await;
    }
    let seen = format!("Campanile answers at {}{}", peer.origin(), peer.prefix);
    checkup.direct = Some(peer);
    Outcome::Well(seen)
}

/// The server at the address on this machine that the application publishes to: it may have been started
/// with other options than those in the files.
async fn at_publish_address(checkup: &Checkup<'_>) -> Option<Peer> {
    let inputs = &checkup.inputs;
    let address = inputs.publish_address().filter(|_| inputs.args.server.is_none())?;
    let peer = checkup.peer_of(&address).ok().filter(|_| is_local(&address.host))?;
    let answers = peer.connect().await.is_ok() && other_program(&peer).await.is_none();
    answers.then_some(peer)
}

/// Nothing listens at the address of the server.
async fn not_running(inputs: &Inputs<'_>, peer: &Peer, error: &str) -> Outcome {
    let seen = format!("No connection to {}: {error}.", peer.origin());
    if inputs.args.server.is_some() {
        return SERVER_NOT_RUNNING.found(seen).into();
    }
    if is_elsewhere(inputs).await {
        let why = format!(
            "nothing listens at {}; if the server runs on another machine, pass --server",
            peer.origin()
        );
        return Outcome::Skipped(why);
    }
    let port = inputs.config().map_or(0, |config| config.server.port);
    // Laravel Sail sets the variable in its container, where the port needs no publishing.
    let is_in_container = std::env::var_os("LARAVEL_SAIL").is_some();
    let compose = ComposeFile::find(&inputs.dir).filter(|_| !is_in_container);
    match compose.filter(|file| !file.publishes(port)) {
        Some(file) => {
            let line = file.line_of_ports().map_or_else(String::new, |line| format!(":{line}"));
            PORT_NOT_PUBLISHED
                .found(format!("{seen} {} publishes no port {port}.", file.name))
                .line(format!("{}{line}, ports", file.name), format!("- \"{port}:{port}\""))
                .command("docker compose up -d")
                .into()
        }
        None => in_container(
            SERVER_NOT_RUNNING.found(seen).command("campanile start"),
            machine::is_container()
                && inputs.publish_address().is_some_and(|address| is_local(&address.host)),
        )
        .into(),
    }
}

/// In a container, `localhost` is the container itself.
fn in_container(finding: Finding, is_container: bool) -> Finding {
    if !is_container {
        return finding;
    }
    finding.advice(
        "This is a container. If the server runs in another one, set REVERB_HOST to the name of its service, \
         and keep the public name in VITE_REVERB_HOST.",
    )
}

/// Whether the server probably runs on another machine: no file configures one here, and clients or
/// the application connect to another machine.
async fn is_elsewhere(inputs: &Inputs<'_>) -> bool {
    let address = &inputs.args.address;
    let is_given = address.host.is_some() || address.port.is_some();
    if is_given || inputs.args.sources.config.is_some() || inputs.dir.join("config.toml").exists() {
        return false;
    }
    for address in [inputs.public_address(), inputs.publish_address()].into_iter().flatten() {
        if !leads_here(&address).await {
            return true;
        }
    }
    false
}

async fn leads_here(address: &ServerAddress) -> bool {
    let resolving = lookup_host((address.host.as_str(), address.port));
    let Ok(Ok(addresses)) = time::timeout(STEP_TIMEOUT, resolving).await else { return false };
    addresses.into_iter().any(|address| is_of_this_machine(address.ip()))
}

/// Only an address of this machine can be bound.
pub(super) fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// What shows that another program than Campanile answers.
async fn other_program(peer: &Peer) -> Option<String> {
    let origin = peer.origin();
    match get_with(peer, "/up", None).await {
        Err(error) => Some(format!("{origin} does not answer GET /up: {error}.")),
        Ok(answer) if answer.status != 200 || !is_up(&answer) => {
            Some(format!("{origin} answers GET /up with {}{}.", answer.status, program(&answer)))
        }
        Ok(answer) if !is_ours(peer).await => {
            let program = program(&answer);
            Some(format!("{origin} answers as another server of the Pusher protocol{program}."))
        }
        Ok(_) => None,
    }
}

/// What to say about another program: with its process, if that is on this machine.
async fn other(inputs: &Inputs<'_>, peer: &Peer, seen: &str) -> Outcome {
    let port = inputs.config().filter(|_| inputs.args.server.is_none());
    let process = port.and_then(|config| machine::listener(config.server.port));
    let is_replaceable = process.as_ref().is_some_and(|process| is_server(&process.command));
    // Then the port is only the default, and its program has nothing to do with the server.
    if inputs.args.server.is_none() && !is_replaceable && is_elsewhere(inputs).await {
        return Outcome::Skipped(format!(
            "another program listens at {}; if the server runs on another machine, pass --server",
            peer.origin()
        ));
    }
    let Some(process) = process else { return SERVER_IS_OTHER.found(seen).into() };
    let (id, command) = (process.id, &process.command);
    let finding = PORT_IN_USE.found(format!("{seen} Process {id} has the port: {command}."));
    if !is_replaceable {
        let advice = "Set another server.port, and the same in the proxy and the application.";
        return finding.advice(advice).into();
    }
    finding
        .command(format!("kill {id}"))
        .advice("If it starts again, remove it from Supervisor, systemd or PM2.")
        .into()
}

/// Whether a command runs a server that Campanile replaces. Other programs must keep running.
fn is_server(command: &str) -> bool {
    let mut words = command.split(' ').map(|word| word.rsplit('/').next().unwrap_or(word));
    words.any(|word| ["reverb:start", "soketi", "soketi-server", "campanile"].contains(&word))
}

/// Whether the answer to `/up` is that of Campanile, which is Reverb's as well.
fn is_up(answer: &Answer) -> bool {
    answer.json()["health"] == "OK"
}

/// The program that has answered, as far as it says so.
fn program(answer: &Answer) -> String {
    ["server", "x-powered-by"]
        .iter()
        .find_map(|name| answer.headers.get(*name)?.to_str().ok())
        .map_or_else(String::new, |name| format!(", and is {name}"))
}

/// Whether the server is Campanile: its errors have a number.
async fn is_ours(peer: &Peer) -> bool {
    let answered = get_with(peer, "/campanile-doctor", None).await;
    answered.is_ok_and(|answer| answer.status == 404 && answer.campanile_error().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_of_a_container_is_explained() {
        let steps = |is_container| {
            in_container(SERVER_NOT_RUNNING.found("").command("campanile start"), is_container)
                .steps()
        };
        assert_eq!(steps(false).len(), 1);
        assert_eq!(steps(true).len(), 2);
    }

    #[test]
    fn only_servers_of_the_protocol_are_to_be_stopped() {
        for command in
            ["php artisan reverb:start", "node /usr/bin/soketi start", "campanile start", "soketi"]
        {
            assert!(is_server(command), "{command}");
        }
        for command in [
            "java jenkins.war",
            "php artisan serve",
            "nginx",
            "vim soketi.json",
            "an unknown program",
        ] {
            assert!(!is_server(command), "{command}");
        }
    }
}
