//! The configuration of nginx on this machine: the port that it passes connections to.

use super::super::{
    Checkup,
    causes::files::{PROXY_CONNECTIONS_LOW, PROXY_PORT_DIFFERS},
    finding::Finding,
    nginx::{self, Directive},
    report::Outcome,
};
use std::{net::IpAddr, path::Path};
use tokio::{net::TcpStream, time};

/// The usual place of nginx's configuration.
const NGINX: &str = "/etc/nginx/nginx.conf";
/// Two connections for each of a thousand clients.
const CONNECTIONS_MIN: u64 = 2_048;

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let file = checkup.inputs.args.nginx_config.as_deref().unwrap_or(Path::new(NGINX));
    let Some(config) = nginx::read(file) else {
        return Outcome::Skipped(format!("no {} that can be read", file.display()));
    };
    let passes: Vec<_> =
        config.all("location").filter(|location| is_for_clients(location)).collect();
    let Some(location) = passes.first() else {
        return Outcome::Skipped(format!("{} passes no WebSockets on", file.display()));
    };
    let port =
        checkup.direct.as_ref().and_then(|target| target.origin.authority().rsplit_once(':'));
    let port = port.map(|(_, port)| port.to_owned());
    let mut findings = Vec::new();
    for location in &passes {
        if let Some(finding) = port_differs(&config, location, port.as_deref()).await {
            findings.push(finding);
            break;
        }
    }
    findings.extend(connections_low(&config));
    Outcome::of(findings, format!("nginx passes {} on", location.argument()))
}

/// Whether a location passes connections of clients on.
fn is_for_clients(location: &Directive) -> bool {
    let sets_upgrade = location.block.iter().any(|inner| {
        inner.name() == "proxy_set_header" && inner.argument().eq_ignore_ascii_case("upgrade")
    });
    let has_pass = location.block.iter().any(|inner| inner.name() == "proxy_pass");
    has_pass && (sets_upgrade || location.words.last().is_some_and(|path| path.starts_with("/app")))
}

/// A port of this machine on which nothing listens.
async fn port_differs(
    config: &Directive,
    location: &Directive,
    port: Option<&str>,
) -> Option<Finding> {
    let pass = location.block.iter().find(|inner| inner.name() == "proxy_pass")?;
    let (scheme, rest) = pass.argument().split_once("://")?;
    let authority = rest.split('/').next()?;
    let upstream = config.all("upstream").find(|upstream| upstream.argument() == authority);
    let servers: Vec<&Directive> = match upstream {
        Some(upstream) => upstream.all("server").collect(),
        None => vec![pass],
    };
    for directive in servers {
        let address = if upstream.is_some() { directive.argument() } else { authority };
        if let Some(dead) = local_port(address)
            && !accepts(dead).await
        {
            let place = format!("{}:{}", directive.file, directive.line);
            let seen = format!(
                "nginx passes connections to {address} ({place}), and nothing listens there."
            );
            let finding = PROXY_PORT_DIFFERS.found(seen);
            let Some(port) = port else { return Some(finding) };
            let line = match upstream {
                Some(_) => format!("server 127.0.0.1:{port};"),
                None => format!("proxy_pass {scheme}://127.0.0.1:{port};"),
            };
            return Some(finding.line(place, line).command("nginx -t && nginx -s reload"));
        }
    }
    None
}

/// The port of an address of this machine; none for other machines, sockets and variables.
fn local_port(address: &str) -> Option<u16> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (address, 80),
    };
    let host = host.trim_matches(['[', ']']);
    let is_local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    (host == "localhost" || host.parse().is_ok_and(is_local)).then_some(port)
}

async fn accepts(port: u16) -> bool {
    let connecting = TcpStream::connect(("127.0.0.1", port));
    matches!(time::timeout(crate::cli::target::TIMEOUT, connecting).await, Ok(Ok(_)))
}

fn connections_low(config: &Directive) -> Option<Finding> {
    let directive = config.all("worker_connections").next()?;
    let number: u64 = directive.argument().parse().ok()?;
    let place = format!("{}:{}", directive.file, directive.line);
    (number < CONNECTIONS_MIN).then(|| {
        PROXY_CONNECTIONS_LOW
            .found(format!("worker_connections of nginx is {number} ({place})."))
            .line(place, "worker_connections 65536;")
            .line(&directive.file, "worker_rlimit_nofile 131072;")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ports_of_this_machine_are_tried() {
        for (address, expected) in [
            ("127.0.0.1:8080", Some(8080)),
            ("localhost:6001", Some(6001)),
            ("0.0.0.0:8080", Some(8080)),
            ("[::1]:8080", Some(8080)),
            ("localhost", Some(80)),
            ("10.0.0.1:8080", None),
            ("unix:/run/a.sock", None),
            ("$upstream", None),
            ("campanile:8080", None),
        ] {
            assert_eq!(local_port(address), expected, "{address}");
        }
    }
}
