//! The configuration of nginx on this machine: the port that it passes connections to.

use super::super::{
    Checkup,
    causes::files::{PROXY_CONNECTIONS_LOW, PROXY_PORT_DIFFERS},
    finding::Finding,
    machine,
    nginx::{self, Directive},
    probe::Peer,
    report::Outcome,
};
use super::server::is_of_this_machine;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};
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
    let passes: Vec<_> = locations(checkup, &config)
        .into_iter()
        .filter(|location| is_for_clients(location))
        .collect();
    let Some(location) = passes.first() else {
        return Outcome::Skipped(format!("{} passes no clients on", file.display()));
    };
    let mut findings = Vec::new();
    // A handshake has shown where clients are passed to.
    let is_known = checkup.public.as_ref().is_some_and(|public| public.is_answered);
    if !is_known {
        findings.extend(dead_port(checkup, &config, &passes).await);
    }
    findings.extend(connections_low(&config));
    Outcome::of(findings, format!("nginx passes {} on", location.argument()))
}

/// The port without a listener that the proxy at the public address passes clients to, if that is nginx
/// on this machine.
pub(super) async fn port_of_proxy(checkup: &Checkup<'_>) -> Option<Finding> {
    let public = checkup.public.as_ref()?;
    let is_here = public.accepting.iter().any(|address| is_of_this_machine(address.ip()));
    let named = checkup.inputs.args.nginx_config.clone();
    let file = named.or_else(|| machine::nginx_config(public.peer.port).filter(|_| is_here));
    let config = nginx::read(&file.or_else(|| is_here.then(|| NGINX.into()))?)?;
    let all = locations(checkup, &config);
    let mut used: Vec<_> =
        all.iter().copied().filter(|location| is_for_clients(location)).collect();
    if used.is_empty() {
        used = all.into_iter().filter(|location| location.argument() == "/").collect();
    }
    dead_port(checkup, &config, &used).await
}

async fn dead_port(
    checkup: &Checkup<'_>,
    config: &Directive,
    locations: &[&Directive],
) -> Option<Finding> {
    for location in locations {
        if let Some(finding) = port_differs(config, location, checkup.direct.as_ref()).await {
            return Some(finding);
        }
    }
    None
}

/// The locations of the sites of the server.
fn locations<'a>(checkup: &Checkup<'_>, config: &'a Directive) -> Vec<&'a Directive> {
    let address = checkup.inputs.public_address();
    let page = checkup.inputs.page().and_then(|page| page.host().map(str::to_owned));
    let host = address.as_ref().map(|address| address.host.clone()).or(page);
    let mut sites = sites(config, host.as_deref());
    // Several sites may have the name, or none.
    let is_at_port = |site: &Directive| address.as_ref().is_some_and(|a| listens_on(site, a.port));
    if sites.iter().any(|site| is_at_port(site)) {
        sites.retain(|site| is_at_port(site));
    }
    sites.into_iter().flat_map(|site| site.all("location")).collect()
}

/// Whether a site listens on a port: `listen 127.0.0.1:443 ssl;` or `listen 443;`.
fn listens_on(site: &Directive, port: u16) -> bool {
    let mut listens = site.block.iter().filter(|inner| inner.name() == "listen");
    listens.any(|listen| {
        let address = listen.argument();
        let last = address.rsplit_once(':').map_or(address, |(_, port)| port);
        last.parse() == Ok(port)
    })
}

/// The sites with the name of the server, or all if none has it.
fn sites<'a>(config: &'a Directive, host: Option<&str>) -> Vec<&'a Directive> {
    let sites: Vec<_> = config.all("server").filter(|site| !site.block.is_empty()).collect();
    let has_name = |site: &&Directive| {
        let mut names = site.block.iter().filter(|inner| inner.name() == "server_name");
        names.any(|names| {
            names.words[1..].iter().any(|name| match name.strip_prefix('*') {
                Some(domain) => host.is_some_and(|host| host.ends_with(domain)),
                None => host == Some(name),
            })
        })
    };
    let named: Vec<_> = sites.iter().copied().filter(has_name).collect();
    if named.is_empty() { sites } else { named }
}

/// Whether a location passes connections of clients on.
fn is_for_clients(location: &Directive) -> bool {
    let sets_upgrade = location.block.iter().any(|inner| {
        inner.name() == "proxy_set_header" && inner.argument().eq_ignore_ascii_case("upgrade")
    });
    let has_pass = location.block.iter().any(|inner| inner.name() == "proxy_pass");
    has_pass && (sets_upgrade || location.words.last().is_some_and(|path| is_path(path)))
}

/// Whether a path is `/app` or `/apps`, and not `/appointments`.
fn is_path(path: &str) -> bool {
    let Some(rest) = path.trim_start_matches('^').strip_prefix('/') else { return false };
    let word = rest.split(|c: char| !c.is_ascii_alphanumeric()).next();
    word == Some("app") || word == Some("apps")
}

/// Ports of this machine on which nothing listens. A group of servers serves clients as long as one
/// of them is there.
async fn port_differs(
    config: &Directive,
    location: &Directive,
    own: Option<&Peer>,
) -> Option<Finding> {
    let pass = location.block.iter().find(|inner| inner.name() == "proxy_pass")?;
    let (_scheme, rest) = pass.argument().split_once("://")?;
    let authority = rest.split('/').next()?;
    let upstream = config.all("upstream").find(|upstream| upstream.argument() == authority);
    let servers: Vec<(&Directive, &str)> = match upstream {
        Some(upstream) => members(upstream).map(|server| (server, server.argument())).collect(),
        None => vec![(pass, authority)],
    };
    for (_, address) in &servers {
        let (host, port) = local_address(address)?;
        if accepts(&host, port).await {
            return None;
        }
    }
    let (directive, address) = servers.first()?;
    let place = format!("{}:{}", directive.file, directive.line);
    let seen =
        format!("nginx passes connections to {address} ({place}), and nothing listens there.");
    let finding = PROXY_PORT_DIFFERS.found(seen);
    let Some(own) = own else { return Some(finding) };
    let line = match upstream {
        Some(_) => format!("server {};", own.full_authority()),
        None => format!("proxy_pass {};", own.origin()),
    };
    Some(finding.line(place, line).command("nginx -t && nginx -s reload"))
}

/// The servers of a group that nginx uses while all are up.
fn members(upstream: &Directive) -> impl Iterator<Item = &Directive> {
    let is_spare = |word: &String| word == "down" || word == "backup";
    upstream.all("server").filter(move |server| !server.words.iter().any(is_spare))
}

/// Host and port of an address of this machine; none for other machines, sockets and variables.
fn local_address(address: &str) -> Option<(String, u16)> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        Some(_) | None => (address, 80),
    };
    let host = host.trim_matches(['[', ']']);
    if host == "localhost" {
        return Some((host.to_owned(), port));
    }
    let host = match host.parse::<IpAddr>().ok()? {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    host.is_loopback().then(|| (host.to_string(), port))
}

async fn accepts(host: &str, port: u16) -> bool {
    let connecting = TcpStream::connect((host, port));
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
            ("127.0.0.1:8080", Some(("127.0.0.1", 8080))),
            ("127.0.0.2:8080", Some(("127.0.0.2", 8080))),
            ("localhost:6001", Some(("localhost", 6001))),
            ("0.0.0.0:8080", Some(("127.0.0.1", 8080))),
            ("[::1]:8080", Some(("::1", 8080))),
            ("[::]:8080", Some(("::1", 8080))),
            ("[::1]", Some(("::1", 80))),
            ("localhost", Some(("localhost", 80))),
            ("10.0.0.1:8080", None),
            ("unix:/run/a.sock", None),
            ("$upstream", None),
            ("campanile:8080", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(local_address(address), expected, "{address}");
        }
    }

    #[test]
    fn paths_of_other_pages_are_not_for_clients() {
        for path in ["/app", "/app/", "/apps/", "^/apps?/", "/app/(.*)"] {
            assert!(is_path(path), "{path}");
        }
        for path in ["/", "/appointments", "/app2", "/application/", "app"] {
            assert!(!is_path(path), "{path}");
        }
    }
}
