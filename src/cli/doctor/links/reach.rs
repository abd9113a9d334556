//! Name, port and certificate of the public address.

use super::super::{
    Checkup,
    causes::local::HOST_UNREACHABLE,
    causes::way::{
        ADDRESS_UNREACHABLE, CERTIFICATE_CHAIN_INCOMPLETE, CERTIFICATE_EXPIRED,
        CERTIFICATE_EXPIRES_SOON, CERTIFICATE_NAME, CERTIFICATE_UNTRUSTED,
        CERTIFICATE_UNTRUSTED_BY_PHP, CERTIFICATE_UNUSABLE, CONNECTION_REFUSED, NAME_NOT_RESOLVED,
        PLAIN_ON_TLS_PORT, TLS_HANDSHAKE_FAILED, TLS_ON_PLAIN_PORT,
    },
    finding::Finding,
    inputs::is_local,
    probe::{
        CertificateProblem, Peer, STEP_TIMEOUT, Spoken, TlsView, check_chain, look_at_tls, spoken,
        time_left,
    },
    public::{NO_PUBLIC_ADDRESS, Public},
    report::Outcome,
    snippets::CHAIN,
};
use crate::{cli::doctor::probe::AnsweredBy, tls};
use futures_util::future::join_all;
use humantime::format_rfc3339_seconds;
use rustls::{RootCertStore, pki_types::CertificateDer};
use std::{
    io,
    net::SocketAddr,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::{net::TcpStream, time};

/// Resolves the name.
pub(in crate::cli::doctor) async fn dns(checkup: &mut Checkup<'_>) -> Outcome {
    let Some(address) = checkup.inputs.public_address() else {
        return Outcome::Skipped(NO_PUBLIC_ADDRESS.to_owned());
    };
    let mut public = match checkup.peer_of(&address) {
        Ok(peer) => Public::new(peer, address.from),
        Err(why) => return NAME_NOT_RESOLVED.found(format!("{why}.")).into(),
    };
    let host = public.peer.host.clone();
    match public.peer.resolve().await {
        Ok(addresses) => public.addresses = addresses,
        Err(error) => {
            let of_application = checkup.inputs.publish_address();
            if checkup.report.has(HOST_UNREACHABLE.id)
                && of_application.is_some_and(|address| address.host == host)
            {
                return Outcome::Skipped(format!("{host} has no address, as for publishes"));
            }
            let from = &public.from;
            let finding =
                NAME_NOT_RESOLVED.found(format!("{host} ({from}) was not resolved: {error}."));
            return finding.into();
        }
    }
    let shown: Vec<_> = public.addresses.iter().map(|address| address.ip().to_string()).collect();
    checkup.public = Some(public);
    Outcome::Well(format!("{host} is {}", shown.join(", ")))
}

/// Connects to the port at each address. As browsers do, it is content with one of several, and uses
/// that one for all later links.
pub(in crate::cli::doctor) async fn tcp(checkup: &mut Checkup<'_>) -> Outcome {
    let Some(public) = &mut checkup.public else { return unknown() };
    let connecting = public.addresses.iter().map(|address| async move {
        let connected = time::timeout(STEP_TIMEOUT, TcpStream::connect(address)).await;
        (*address, connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
    });
    let tried = join_all(connecting).await;
    let failures: Vec<_> = tried
        .iter()
        .filter_map(|(address, tried)| Some((*address, tried.as_ref().err()?)))
        .collect();
    let accepting = tried.iter().filter(|(_, tried)| tried.is_ok());
    public.accepting = accepting.map(|(address, _)| *address).collect();
    if let Some(address) = public.accepting.first() {
        public.peer = public.peer.at(*address);
        return match address_unreachable(public, &failures) {
            Some(finding) => finding.into(),
            None => Outcome::Well(format!("{address} accepts connections")),
        };
    }
    let port = public.peer.port;
    let failures: Vec<_> =
        failures.iter().map(|(address, error)| refusal(*address, error)).collect();
    let seen = format!("{} ({}).", failures.join(", "), public.from);
    let finding = CONNECTION_REFUSED.found(seen);
    let own = checkup.inputs.direct_peer().ok();
    match own.filter(|_| checkup.direct.is_some()) {
        Some(own) => finding
            .advice(format!(
                "The server itself answers at {}. Start a proxy on port {port} in front of it, or have \
                 browsers connect to the server.",
                own.origin()
            ))
            .into(),
        None => finding.into(),
    }
}

/// One of several addresses that does not accept connections. `localhost` has two on most machines, and
/// a machine without IPv6 reaches no such address.
fn address_unreachable(public: &Public, failures: &[(SocketAddr, &io::Error)]) -> Option<Finding> {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, TimedOut};
    let is_of_address =
        |error: &io::Error| [ConnectionRefused, ConnectionReset, TimedOut].contains(&error.kind());
    let (address, error) = failures.iter().find(|(_, error)| is_of_address(error))?;
    let host = &public.peer.host;
    (!is_local(host)).then(|| {
        ADDRESS_UNREACHABLE.found(format!(
            "{host} has {} addresses, and {}.",
            public.addresses.len(),
            refusal(*address, error)
        ))
    })
}

fn refusal(address: SocketAddr, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return format!("{address} refuses connections");
    }
    if error.kind() == io::ErrorKind::TimedOut {
        return format!("{address} does not answer");
    }
    format!("{address}: {error}")
}

/// Looks at the certificate of each address, or whether the port is without TLS as expected.
pub(in crate::cli::doctor) async fn tls(checkup: &mut Checkup<'_>) -> Outcome {
    let Some(public) = &checkup.public else { return unknown() };
    let Some((first, others)) = public.accepting.split_first() else { return unknown() };
    let outcome = tls_at(checkup, public, *first).await;
    if let Outcome::Found(_) = outcome {
        return outcome;
    }
    for address in others {
        if let Outcome::Found(findings) = tls_at(checkup, public, *address).await {
            let of_address = findings.into_iter().map(|found| public.at_address(*address, found));
            return Outcome::Found(of_address.collect());
        }
    }
    outcome
}

async fn tls_at(checkup: &Checkup<'_>, public: &Public, address: SocketAddr) -> Outcome {
    let peer = &public.peer;
    if !peer.is_tls {
        return match spoken(peer, address).await {
            Ok(Spoken::Tls) => plain_on_tls(checkup, peer).into(),
            Ok(Spoken::Http | Spoken::Neither) | Err(_) => {
                Outcome::Well("the address is without TLS".to_owned())
            }
        };
    }
    match look_at_tls(peer, address).await {
        Ok(TlsView::Certificates(chain)) => certificates(checkup, peer, &chain),
        Ok(TlsView::NotTls) => tls_on_plain(checkup, public, peer).into(),
        Ok(TlsView::Closed) => match spoken(peer, address).await {
            Ok(Spoken::Http) => tls_on_plain(checkup, public, peer).into(),
            Ok(Spoken::Tls | Spoken::Neither) | Err(_) => {
                let seen =
                    format!("{} closes the connection during the handshake.", peer.ws_url(""));
                TLS_HANDSHAKE_FAILED.found(seen).into()
            }
        },
        Ok(TlsView::Refused(why)) => {
            TLS_HANDSHAKE_FAILED.found(format!("{}: {why}.", peer.ws_url(""))).into()
        }
        Err(error) => TLS_HANDSHAKE_FAILED.found(format!("{}: {error}.", peer.ws_url(""))).into(),
    }
}

/// Why TLS fails at the address that the application publishes to, if that is not the public one.
pub(super) async fn tls_fault(checkup: &Checkup<'_>, peer: &Peer, from: &str) -> Option<Outcome> {
    let address = *peer.resolve().await.ok()?.first()?;
    if let Ok(Spoken::Http) = spoken(peer, address).await {
        let seen = format!(
            "The application publishes to {} ({from}), which answers the beginning of a TLS connection with \
             plain HTTP.",
            peer.http_url("")
        );
        let family = if from.ends_with("PUSHER_HOST") { "PUSHER" } else { "REVERB" };
        let name = format!("{family}_SCHEME");
        let finding = TLS_ON_PLAIN_PORT.found(seen);
        let finding = finding.line(checkup.inputs.place(&name), format!("{name}=http"));
        return Some(if checkup.inputs.is_laravel() {
            finding.command("php artisan config:clear").into()
        } else {
            finding.into()
        });
    }
    let Ok(TlsView::Certificates(chain)) = look_at_tls(peer, address).await else { return None };
    let outcome = certificates(checkup, peer, &chain);
    matches!(outcome, Outcome::Found(_)).then_some(outcome)
}

fn tls_on_plain(checkup: &Checkup<'_>, public: &Public, peer: &Peer) -> Finding {
    let seen = format!(
        "{} ({}) answers the beginning of a TLS connection with plain HTTP.",
        peer.ws_url(""),
        public.from
    );
    let finding = TLS_ON_PLAIN_PORT.found(seen);
    let name = "REVERB_PORT";
    match checkup.inputs.variable(name) {
        Some(_) => finding.line(checkup.inputs.place(name), "REVERB_PORT=443").advice(
            "The port of the server itself stays in REVERB_SERVER_PORT. Build the assets again.",
        ),
        None => finding,
    }
}

fn plain_on_tls(checkup: &Checkup<'_>, peer: &Peer) -> Finding {
    let seen = format!("{} speaks TLS only.", peer.authority());
    let finding = PLAIN_ON_TLS_PORT.found(seen);
    let name = "REVERB_SCHEME";
    match checkup.inputs.variable(name) {
        Some(_) => {
            finding.line(checkup.inputs.place(name), "REVERB_SCHEME=https").command("npm run build")
        }
        None => finding,
    }
}

fn certificates(checkup: &Checkup<'_>, peer: &Peer, chain: &[CertificateDer<'_>]) -> Outcome {
    let roots = match roots(checkup) {
        Ok(roots) => roots,
        Err(why) => return Outcome::Skipped(why),
    };
    let now = SystemTime::now();
    let problems = check_chain(chain, &peer.host, &roots, now);
    let findings: Vec<_> =
        problems.iter().map(|problem| certificate_finding(checkup, peer, problem)).collect();
    if !findings.is_empty() {
        return Outcome::Found(findings);
    }
    if let Some(finding) = php_finding(checkup, peer, chain, now) {
        return finding.into();
    }
    let (left, is_soon) = time_left(chain, now).unwrap_or_default();
    let left = match left.as_secs() / 3_600 {
        hours @ ..48 => format!("{hours} more hours"),
        hours => format!("{} more days", hours / 24),
    };
    if is_soon {
        let seen = format!("The certificate of {} is valid for {left}.", peer.host);
        return CERTIFICATE_EXPIRES_SOON.found(seen).into();
    }
    Outcome::Well(format!("the certificate of {} is valid for {left}", peer.host))
}

/// Whether PHP trusts the certificate, if the application publishes to this host.
fn php_finding(
    checkup: &Checkup<'_>,
    peer: &Peer,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Option<Finding> {
    let publishes_here =
        checkup.inputs.publish_address().is_some_and(|address| address.host == peer.host);
    let (setting, file) = php_authorities().filter(|_| publishes_here)?;
    let finding = |why: &str| {
        CERTIFICATE_UNTRUSTED_BY_PHP
            .found(format!("{setting} of php.ini is {file}: {why}."))
            .command("php --ini")
    };
    let roots = match tls::file_roots(&file) {
        Ok(roots) => roots,
        Err(error) => return Some(finding(&error.to_string())),
    };
    let problems = check_chain(chain, &peer.host, &roots, now);
    (!problems.is_empty())
        .then(|| finding(&format!("the certificate of {} is of no authority in it", peer.host)))
}

/// The file of authorities that PHP is set up with, and the name of the setting. Without one, it has
/// those of the machine.
fn php_authorities() -> Option<(&'static str, String)> {
    let script = "echo ini_get('curl.cainfo'), \"\\n\", ini_get('openssl.cafile');";
    let mut command = Command::new("php");
    command.args(["-r", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut php = command.spawn().ok()?;
    let start = Instant::now();
    while php.try_wait().ok()?.is_none() {
        if STEP_TIMEOUT < start.elapsed() {
            // Whether it still runs is of no interest.
            let _ended = php.kill().and_then(|()| php.wait());
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let text = io::read_to_string(php.stdout.take()?).ok()?;
    ["curl.cainfo", "openssl.cafile"]
        .into_iter()
        .zip(text.lines().map(|line| line.trim().to_owned()))
        .find(|(_, file)| !file.is_empty())
}

fn roots(checkup: &Checkup<'_>) -> Result<RootCertStore, String> {
    match &checkup.inputs.args.ca {
        Some(file) => tls::file_roots(file).map_err(|error| error.to_string()),
        None => tls::system_roots(),
    }
}

fn certificate_finding(
    checkup: &Checkup<'_>,
    peer: &Peer,
    problem: &CertificateProblem,
) -> Finding {
    let host = &peer.host;
    match problem {
        CertificateProblem::Expired(at) => CERTIFICATE_EXPIRED.found(format!(
            "The certificate of {host} expired on {}.",
            format_rfc3339_seconds(*at)
        )),
        CertificateProblem::NotYetValid(at) => CERTIFICATE_EXPIRED.found(format!(
            "The certificate of {host} is not valid before {}.",
            format_rfc3339_seconds(*at)
        )),
        CertificateProblem::IssuerExpired(issuer, at) => CERTIFICATE_EXPIRED.found(format!(
            "The certificate of {issuer}, which {host} sends with its own, expired on {}.",
            format_rfc3339_seconds(*at)
        )),
        CertificateProblem::Unusable(why) => {
            CERTIFICATE_UNUSABLE.found(format!("The certificate of {host}: {why}."))
        }
        CertificateProblem::OtherName(names) => CERTIFICATE_NAME.found(format!(
            "Clients connect to {host}, and the certificate is for {}.",
            if names.is_empty() {
                "no name: it has no subjectAltName".to_owned()
            } else {
                names.join(", ")
            }
        )),
        CertificateProblem::SelfSigned => {
            CERTIFICATE_UNTRUSTED.found(format!("The certificate of {host} is signed by itself."))
        }
        CertificateProblem::Untrusted(issuer) => CERTIFICATE_UNTRUSTED.found(format!(
            "The certificate of {host} was issued by {issuer}, which is not trusted."
        )),
        CertificateProblem::ChainIncomplete(issuer) => {
            let finding = CERTIFICATE_CHAIN_INCOMPLETE.found(format!(
                "The certificate of {host} was issued by {issuer}, whose certificate is not sent."
            ));
            checkup.with_lines(finding, &CHAIN, &AnsweredBy::Unknown)
        }
    }
}

fn unknown() -> Outcome {
    Outcome::Skipped("the address that browsers connect to is not known".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::options::tests::args, client::other_addresses},
        *,
    };
    use crate::{cli::trust::Trust, config::Sources};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    /// A checkup of a name with two addresses of this machine, and the ports that listen there.
    fn checkup<'a>(
        args: &'a super::super::super::DoctorArgs,
        host: &str,
        port: u16,
    ) -> Checkup<'a> {
        let sources = Sources { dir: "/nonexistent".into(), ..Sources::default() };
        let inputs = super::super::super::Inputs::from_sources(args, &sources);
        let mut checkup = Checkup::new(inputs);
        let peer = Peer::new(false, host, port, "", &Trust::SystemRoots).unwrap();
        let mut public = Public::new(peer, "--ws".to_owned());
        public.addresses =
            ["127.0.0.1", "127.0.0.2"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).into();
        checkup.public = Some(public);
        checkup
    }

    fn causes(outcome: &Outcome) -> Vec<&str> {
        let Outcome::Found(findings) = outcome else { return Vec::new() };
        findings.iter().map(|finding| finding.cause.id).collect()
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_tried() {
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let args = args(&[]);
        for (host, found) in [("ws.test", &["address_unreachable"][..]), ("localhost", &[])] {
            let mut checkup = checkup(&args, host, port);
            assert_eq!(causes(&tcp(&mut checkup).await), found, "{host}");
            assert_eq!(checkup.public.unwrap().accepting, [listener.local_addr().unwrap()]);
        }
        drop(listener);
        let mut checkup = checkup(&args, "ws.test", port);
        assert_eq!(causes(&tcp(&mut checkup).await), ["connection_refused"]);
    }

    #[tokio::test]
    async fn an_address_that_leads_elsewhere_is_found() {
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let first = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The connection of the link before, and then the handshake.
            drop(stream);
            stream = listener.accept().await.unwrap().0;
            let _request = stream.read(&mut [0; 4_096]).await.unwrap();
            let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let args = args(&[]);
        let mut checkup = checkup(&args, "ws.test", port);
        assert_eq!(causes(&tcp(&mut checkup).await), [""; 0]);
        let outcome = other_addresses(&checkup).await.expect("a finding");
        assert_eq!(causes(&outcome), ["websocket_route_missing"]);
        let Outcome::Found(findings) = outcome else { return };
        let said = format!("At 127.0.0.2:{port}, one of 2 addresses of ws.test: ");
        assert!(findings[0].seen.starts_with(&said), "{}", findings[0].seen);
        drop(first);
    }
}
