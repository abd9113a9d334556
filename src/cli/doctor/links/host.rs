//! The address that the application publishes to: whether this machine reaches it.

use super::super::{
    causes::local::{HOST_OF_CONTAINER, HOST_UNREACHABLE},
    compose::ComposeFile,
    finding::Finding,
    inputs::{Inputs, ServerAddress, is_local},
    report::Outcome,
};
use crate::http_client::{Connector, Origin};
use tokio::time;

pub(in crate::cli::doctor) async fn check(inputs: &Inputs<'_>) -> Outcome {
    let Some(address) = inputs.publish_address() else {
        return Outcome::Skipped("neither REVERB_HOST nor PUSHER_HOST is set".to_owned());
    };
    let Some(origin) = Origin::new(false, &address.host, address.port) else {
        return unreachable(inputs, &address, "it is neither a name nor an address").into();
    };
    let connector = Connector::new(None, false);
    let connecting = time::timeout(crate::cli::target::TIMEOUT, connector.connect(&origin));
    match connecting.await {
        Ok(Ok(_stream)) => Outcome::Well(format!("{} accepts connections", origin.authority())),
        Ok(Err(error)) => unreachable(inputs, &address, &error.to_string()).into(),
        Err(_elapsed) => unreachable(inputs, &address, "no answer in time").into(),
    }
}

fn unreachable(inputs: &Inputs<'_>, address: &ServerAddress, why: &str) -> Finding {
    let ServerAddress { host, port, from, .. } = address;
    let seen = format!("The application publishes to {host}:{port} ({from}): {why}.");
    // A change of the name would break the application in its container.
    if let Some(file) = ComposeFile::find(&inputs.dir).filter(|file| file.has_service(host)) {
        return HOST_OF_CONTAINER.found(format!("{seen} {} has a service {host}.", file.name));
    }
    let finding = HOST_UNREACHABLE.found(seen);
    let Ok(own) = inputs.direct_peer() else { return finding };
    // The server has answered, so these values work on this machine.
    let (own_host, own_port) = (own.host.as_str(), own.port.to_string());
    let scheme = if own.is_tls { "https" } else { "http" };
    // Another name of this machine is as good.
    let own_host = if is_local(host) && is_local(own_host) { host } else { own_host };
    let family = if from.contains("PUSHER") { "PUSHER" } else { "REVERB" };
    let values = [("HOST", own_host), ("PORT", own_port.as_str()), ("SCHEME", scheme)];
    let finding = values.into_iter().fold(finding, |finding, (part, value)| {
        let name = format!("{family}_{part}");
        if inputs.variable(&name).as_deref() == Some(value) {
            return finding;
        }
        finding.line(inputs.place(&name), format!("{name}={value}"))
    });
    // Browsers keep the address that they have.
    let for_browsers = format!("VITE_{family}_HOST");
    if own_host == host || inputs.variable(&for_browsers).is_none_or(|value| value != *host) {
        return finding;
    }
    finding.line(inputs.place(&for_browsers), format!("{for_browsers}={host}"))
}
