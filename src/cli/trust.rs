//! The certificates that commands trust.

use crate::tls;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use std::{sync::Arc, time::Duration};
use x509_cert::{Certificate, der::Decode as _};

/// How to verify the server's certificate.
#[derive(Clone, Debug)]
pub(super) enum Trust {
    /// By the CA certificates of this machine.
    SystemRoots,
    /// By the CA certificates in this file.
    CaFile(String),
    /// By the certificate of this configuration: the server must present the first one in this
    /// file, regardless of its name, since it is reached by its listen address.
    Pinned(String),
}

impl Trust {
    /// The TLS configuration of a client.
    ///
    /// # Errors
    ///
    /// A file contains no certificate, or the system has none.
    pub(super) fn client(&self) -> Result<ClientConfig, String> {
        let roots = match self {
            Self::SystemRoots => tls::system_roots().map_err(|error| {
                format!("no CA certificates found on this machine: pass --ca ({error})")
            })?,
            Self::CaFile(file) => tls::file_roots(file).map_err(|error| error.to_string())?,
            Self::Pinned(file) => return pinned(file),
        };
        let roots = Arc::new(roots);
        let builder =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), tls::provider());
        let webpki = builder.build().map_err(|error| error.to_string())?;
        let verifier = Arc::new(RootsOrOwn { webpki, roots });
        let builder = tls::client_builder().dangerous();
        Ok(builder.with_custom_certificate_verifier(verifier).with_no_client_auth())
    }
}

/// Verifies by roots. As browsers and OpenSSL do, and webpki does not, it accepts a trusted certificate
/// of a CA as that of a server: `openssl req -x509` makes such ones.
#[derive(Debug)]
struct RootsOrOwn {
    webpki: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
}

impl RootsOrOwn {
    /// Whether the certificate is a root, has the name of the server, and is valid today.
    fn is_own(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let has_name = ParsedCertificate::try_from(certificate)
            .is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok());
        let is_valid = Certificate::from_der(certificate).is_ok_and(|parsed| {
            let validity = parsed.tbs_certificate().validity();
            let now = Duration::from_secs(now.as_secs());
            let since = validity.not_before.to_unix_duration();
            (since..=validity.not_after.to_unix_duration()).contains(&now)
        });
        has_name && is_valid && tls::is_root(certificate, &self.roots)
    }
}

impl ServerCertVerifier for RootsOrOwn {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(_) if self.is_own(end_entity, server_name, now) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// The TLS configuration of a client that trusts only the first certificate in `file`.
fn pinned(file: &str) -> Result<ClientConfig, String> {
    let mut certificates = tls::certificates(file).map_err(|error| error.to_string())?;
    let verifier = Pinned { expected: certificates.swap_remove(0), provider: tls::provider() };
    let builder = tls::client_builder().dangerous();
    Ok(builder.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Accepts exactly one certificate.
#[derive(Debug)]
struct Pinned {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        let why = "the server presents a different certificate than server.tls.cert; send SIGHUP to reload it";
        Err(Error::General(why.to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
