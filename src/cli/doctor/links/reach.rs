//! Name, port and certificate of the public address.

use super::super::{
    Checkup,
    causes::way::{
        CERTIFICATE_CHAIN_INCOMPLETE, CERTIFICATE_EXPIRED, CERTIFICATE_EXPIRES_SOON,
        CERTIFICATE_NAME, CERTIFICATE_UNTRUSTED, CERTIFICATE_UNTRUSTED_BY_PHP, CONNECTION_REFUSED,
        NAME_NOT_RESOLVED, PLAIN_ON_TLS_PORT, TLS_HANDSHAKE_FAILED, TLS_ON_PLAIN_PORT,
    },
    finding::Finding,
    probe::{
        CertificateProblem, Peer, STEP_TIMEOUT, Spoken, TlsView, check_chain, look_at_tls, spoken,
        time_left,
    },
    public::{NO_PUBLIC_ADDRESS, Public},
    report::Outcome,
    snippets::CHAIN,
};
use crate::{cli::doctor::probe::AnsweredBy, tls};
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

/// Connects to the port. As browsers do, it is content with one of several addresses.
pub(in crate::cli::doctor) async fn tcp(checkup: &mut Checkup<'_>) -> Outcome {
    let Some(public) = &mut checkup.public else { return unknown() };
    let mut failures = Vec::new();
    for address in &public.addresses {
        match time::timeout(STEP_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                public.address = Some(*address);
                return Outcome::Well(format!("{address} accepts connections"));
            }
            Ok(Err(error)) => failures.push(refusal(*address, &error)),
            Err(_elapsed) => failures.push(format!("{address} does not answer")),
        }
    }
    let port = public.peer.port;
    let seen = format!("{} ({}).", failures.join(", "), public.from);
    let finding = CONNECTION_REFUSED.found(seen);
    let own = checkup.inputs.direct_target().ok();
    match own.filter(|_| checkup.direct.is_some()) {
        Some(own) => finding
            .advice(format!(
                "The server itself answers at {}. Start a proxy on port {port} in front of it, or have \
                 browsers connect to the server.",
                own.origin
            ))
            .into(),
        None => finding.into(),
    }
}

fn refusal(address: SocketAddr, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return format!("{address} refuses connections");
    }
    format!("{address}: {error}")
}

/// Looks at the certificate, or whether the port is without TLS as expected.
pub(in crate::cli::doctor) async fn tls(checkup: &mut Checkup<'_>) -> Outcome {
    let Some((public, address)) = checkup.public.as_ref().and_then(|p| Some((p, p.address?)))
    else {
        return unknown();
    };
    let peer = public.peer.clone();
    if !peer.is_tls {
        return match spoken(&peer, address).await {
            Ok(Spoken::Tls) => plain_on_tls(checkup, &peer).into(),
            Ok(Spoken::Http | Spoken::Neither) | Err(_) => {
                Outcome::Well("the address is without TLS".to_owned())
            }
        };
    }
    match look_at_tls(&peer, address).await {
        Ok(TlsView::Certificates(chain)) => certificates(checkup, &peer, &chain),
        Ok(TlsView::NotTls) => tls_on_plain(checkup, public, &peer).into(),
        Ok(TlsView::Closed) => match spoken(&peer, address).await {
            Ok(Spoken::Http) => tls_on_plain(checkup, public, &peer).into(),
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
        return Some(
            finding
                .line(checkup.inputs.place(&name), format!("{name}=http"))
                .command("php artisan config:clear")
                .into(),
        );
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
        CertificateProblem::OtherName(names) => CERTIFICATE_NAME.found(format!(
            "Clients connect to {host}, and the certificate is for {}.",
            if names.is_empty() { "no name".to_owned() } else { names.join(", ") }
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
