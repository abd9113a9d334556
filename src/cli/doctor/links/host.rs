//! The address that the application publishes to: whether this machine reaches it.

use super::super::{
    causes::local::HOST_UNREACHABLE,
    finding::Finding,
    inputs::{Inputs, ServerAddress},
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
    let finding = HOST_UNREACHABLE
        .found(format!("The application publishes to {host}:{port} ({from}): {why}."));
    let Ok(target) = inputs.direct_target() else { return finding };
    // The server has answered, so these values work on this machine.
    let origin = &target.origin;
    let Some((host, port)) = origin.authority().rsplit_once(':') else { return finding };
    let scheme = if origin.is_tls() { "https" } else { "http" };
    let values = [("REVERB_HOST", host), ("REVERB_PORT", port), ("REVERB_SCHEME", scheme)];
    values.into_iter().fold(finding, |finding, (name, value)| {
        if inputs.variable(name).as_deref() == Some(value) {
            return finding;
        }
        finding.line(inputs.place(name), format!("{name}={value}"))
    })
}
