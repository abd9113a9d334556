//! What is wrong with a chain of certificates, each fault apart from the others.

use crate::tls;
use rustls::{
    CertificateError, Error, RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_cert::{
    Certificate,
    der::{Decode, asn1::ObjectIdentifier},
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Why clients reject a chain of certificates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::cli::doctor) enum CertificateProblem {
    /// It expired then.
    Expired(SystemTime),
    /// It is not valid before then.
    NotYetValid(SystemTime),
    /// That of an issuer expired then.
    IssuerExpired(String, SystemTime),
    /// It has these names, and not the one that was asked for.
    OtherName(Vec<String>),
    /// It was issued by this authority, whose certificate is missing from the chain.
    ChainIncomplete(String),
    /// It is signed by itself.
    SelfSigned,
    /// It was issued by this authority, which is not trusted.
    Untrusted(String),
    /// It may not be used for a server, or not by today's clients: this is why.
    Unusable(String),
}

/// The time left of a certificate for a year or for 90 days that should have been renewed.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// Where the issuer's certificate is (RFC 5280, 4.2.2.1). Public authorities must name it, so a
/// certificate without it is of a private one.
const AUTHORITY_INFORMATION_ACCESS: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.1");

/// Checks a chain, the server's certificate first, for a server called `host`.
pub(in crate::cli::doctor) fn check_chain(
    chain: &[CertificateDer<'_>],
    host: &str,
    roots: &RootCertStore,
    now: SystemTime,
) -> Vec<CertificateProblem> {
    let parsed: Vec<Certificate> =
        chain.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    let (Some(first), Some(leaf)) = (chain.first(), parsed.first()) else {
        return vec![CertificateProblem::Untrusted("an unreadable certificate".to_owned())];
    };
    let Ok(end_entity) = ParsedCertificate::try_from(first) else {
        return vec![CertificateProblem::Untrusted("an unreadable certificate".to_owned())];
    };
    let mut problems = Vec::new();
    let (since, until) = (not_before(leaf), not_after(leaf));
    // The chain is verified within the period of the certificate, so that an expired one is not
    // called untrusted as well.
    let mut at = now;
    if until < now {
        problems.push(CertificateProblem::Expired(until));
        at = until - Duration::from_secs(1);
    } else if now < since {
        problems.push(CertificateProblem::NotYetValid(since));
        at = since + Duration::from_secs(1);
    }
    let is_named =
        ServerName::try_from(host).is_ok_and(|name| verify_server_name(&end_entity, &name).is_ok());
    if !is_named {
        problems.push(CertificateProblem::OtherName(names(leaf)));
    }
    let provider = tls::provider();
    let algorithms = provider.signature_verification_algorithms.all;
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
    let verified =
        verify_server_cert_signed_by_trust_anchor(&end_entity, roots, &chain[1..], at, algorithms);
    if let Err(error) = verified
        && !tls::is_root(first, roots)
    {
        problems.push(why_rejected(&parsed, &error, at));
    }
    problems
}

/// Why no chain to a trusted authority is valid.
fn why_rejected(chain: &[Certificate], error: &Error, at: UnixTime) -> CertificateProblem {
    let at = UNIX_EPOCH + Duration::from_secs(at.as_secs());
    let expired = chain.iter().skip(1).find(|issuer| not_after(issuer) < at);
    match (error, expired) {
        _ if chain.first().is_some_and(is_self_signed) => CertificateProblem::SelfSigned,
        (Error::InvalidCertificate(CertificateError::ExpiredContext { .. }), Some(issuer)) => {
            let subject = issuer.tbs_certificate().subject().to_string();
            CertificateProblem::IssuerExpired(subject, not_after(issuer))
        }
        (
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ),
            _,
        ) => why_untrusted(chain),
        (error, _) => CertificateProblem::Unusable(error.to_string()),
    }
}

/// How long a valid chain is still valid, and whether that is little. The server's certificate decides:
/// servers may send expired others, and clients find a way without them.
pub(in crate::cli::doctor) fn time_left(
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Option<(Duration, bool)> {
    let leaf = Certificate::from_der(chain.first()?).ok()?;
    let left = not_after(&leaf).duration_since(now).ok()?;
    let lifetime = not_after(&leaf).duration_since(not_before(&leaf)).ok()?;
    // Certificates that live for days or hours are renewed after two thirds of that.
    Some((left, left < SOON.min(lifetime / 5)))
}

/// Why no trusted authority was found from a chain.
fn why_untrusted(chain: &[Certificate]) -> CertificateProblem {
    let Some((leaf, last)) = chain.first().zip(chain.last()) else {
        return CertificateProblem::SelfSigned;
    };
    if is_self_signed(leaf) {
        return CertificateProblem::SelfSigned;
    }
    let issuer = last.tbs_certificate().issuer().to_string();
    let names_its_issuer = last.tbs_certificate().extensions().is_some_and(|extensions| {
        extensions.iter().any(|extension| extension.extn_id == AUTHORITY_INFORMATION_ACCESS)
    });
    if names_its_issuer && !is_self_signed(last) {
        return CertificateProblem::ChainIncomplete(issuer);
    }
    CertificateProblem::Untrusted(issuer)
}

fn is_self_signed(certificate: &Certificate) -> bool {
    let tbs = certificate.tbs_certificate();
    tbs.issuer() == tbs.subject()
}

fn not_before(certificate: &Certificate) -> SystemTime {
    UNIX_EPOCH + certificate.tbs_certificate().validity().not_before.to_unix_duration()
}

fn not_after(certificate: &Certificate) -> SystemTime {
    UNIX_EPOCH + certificate.tbs_certificate().validity().not_after.to_unix_duration()
}

/// The names and addresses of a certificate.
fn names(certificate: &Certificate) -> Vec<String> {
    let found = certificate.tbs_certificate().get_extension::<SubjectAltName>();
    let Ok(Some((_, SubjectAltName(all)))) = found else { return Vec::new() };
    let name = |name: &GeneralName| {
        if let GeneralName::DnsName(name) = name {
            return Some(name.to_string());
        }
        let GeneralName::IpAddress(bytes) = name else { return None };
        let v4 = <[u8; 4]>::try_from(bytes.as_bytes()).ok().map(IpAddr::from);
        let v6 = <[u8; 16]>::try_from(bytes.as_bytes()).ok().map(IpAddr::from);
        Some(v4.or(v6)?.to_string())
    };
    all.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair,
    };

    const DAY: Duration = Duration::from_secs(86_400);

    fn certificate(since: SystemTime, until: SystemTime) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (parameters.not_before, parameters.not_after) = (since.into(), until.into());
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    /// An issuer, and a certificate of this host by it.
    fn issued(
        issuer_until: SystemTime,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (RootCertStore, Vec<CertificateDer<'static>>) {
        let authority = |name: &str| {
            let mut parameters = CertificateParams::default();
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters
        };
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("Root"), key()).unwrap();
        let mut middle = authority("Middle");
        middle.not_after = issuer_until.into();
        let middle = CertifiedIssuer::signed_by(middle, key(), &root).unwrap();
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        leaf.distinguished_name.push(DnType::CommonName, "Leaf");
        change(&mut leaf);
        let leaf = leaf.signed_by(&key(), &middle).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        (roots, vec![leaf.der().clone(), middle.der().clone()])
    }

    #[test]
    fn each_fault_of_a_chain_is_told_from_the_others() {
        let now = UNIX_EPOCH + DAY * 20_000;
        let check = |until, change: fn(&mut CertificateParams)| {
            let (roots, chain) = issued(until, change);
            check_chain(&chain, "localhost", &roots, now)
        };
        let later = now + DAY;
        assert_eq!(check(later, |_| {}), []);
        let expired = CertificateProblem::IssuerExpired("CN=Middle".to_owned(), now - DAY);
        assert_eq!(check(now - DAY, |_| {}), [expired]);
        let problems = check(later, |leaf| {
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let [CertificateProblem::Unusable(why)] = problems.as_slice() else {
            panic!("{problems:?}")
        };
        assert!(why.contains("server"), "{why}");
        let problems = check(later, |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert!(matches!(problems.as_slice(), [CertificateProblem::Unusable(_)]), "{problems:?}");
    }

    /// `openssl req -x509` makes a certificate of a CA.
    #[test]
    fn a_trusted_certificate_of_a_ca_is_that_of_a_server() {
        let now = SystemTime::now();
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate(now - DAY, now + DAY)).unwrap();
        let check = |roots: &RootCertStore| {
            check_chain(std::slice::from_ref(&own), "localhost", roots, now)
        };
        assert_eq!(check(&roots), [CertificateProblem::SelfSigned]);
        roots.add(own.clone()).unwrap();
        assert_eq!(check(&roots), []);
    }

    #[test]
    fn the_servers_certificate_expires_soon_by_a_share_of_its_lifetime() {
        let now = UNIX_EPOCH + DAY * 20_000;
        for (lifetime, left, is_soon) in [
            (DAY * 365, DAY * 15, false),
            (DAY * 365, DAY * 13, true),
            (DAY * 90, DAY * 15, false),
            (DAY * 90, DAY * 13, true),
            (DAY * 6, DAY * 2, false),
            (DAY * 6, DAY, true),
            (DAY / 2, DAY / 6, false),
            (DAY / 2, DAY / 12, true),
        ] {
            let leaf = certificate(now + left - lifetime, now + left);
            let expired = certificate(now - DAY * 9, now - DAY);
            let found = time_left(&[leaf, expired], now);
            assert_eq!(found, Some((left, is_soon)), "{lifetime:?} {left:?}");
        }
        assert_eq!(time_left(&[certificate(now - DAY * 9, now - DAY)], now), None);
    }
}
