//! Root certificates, and the settings of TLS clients.

use super::{CA, FileError, TlsError, pem, provider};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, pki_types::CertificateDer,
};

/// The system's root certificates.
///
/// # Errors
///
/// There are none. The text is never empty.
pub fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let none = "no certificate was found".to_owned();
        return Err(if errors.is_empty() { none } else { errors.join(", ") });
    }
    Ok(roots)
}

/// The root certificates in a PEM file.
///
/// # Errors
///
/// The file can't be read, or contains no certificate or an unusable one.
pub fn file_roots(file: &str) -> Result<RootCertStore, TlsError> {
    roots_of("", file)
}

/// Checks that a file contains the root certificates for Redis.
///
/// # Errors
///
/// As [`file_roots`]; the error names the setting.
pub fn check_authorities(file: &str) -> Result<(), TlsError> {
    roots_of(CA, file).map(drop)
}

fn roots_of(setting: &'static str, file: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(file).map_err(FileError::of(setting, file))? {
        roots.add(certificate).map_err(|error| {
            FileError::of(setting, file)(format!(
                "contains a certificate that can't be used: {error}"
            ))
        })?;
    }
    Ok(roots)
}

/// Whether a certificate is itself one of the roots, as that of a server that signed its own.
#[must_use]
pub fn is_root(certificate: &CertificateDer<'_>, roots: &RootCertStore) -> bool {
    let mut own = RootCertStore::empty();
    own.add(certificate.clone().into_owned()).is_ok()
        && own.roots.iter().all(|anchor| roots.roots.contains(anchor))
}

/// The settings of a TLS client that trusts `roots`.
#[must_use]
pub fn client_config(roots: RootCertStore) -> ClientConfig {
    client_builder().with_root_certificates(roots).with_no_client_auth()
}

/// The settings of a TLS client, without those of the verification.
///
/// # Panics
///
/// Never: the provider has cipher suites for each version of TLS.
#[must_use]
pub fn client_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for each version of TLS")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Localhost;
    use std::fs;

    #[test]
    fn every_certificate_of_a_file_must_be_usable() {
        let file = std::env::temp_dir().join(format!("campanile-roots-{}", std::process::id()));
        let path = file.to_str().unwrap();
        let both = [Localhost::new().pem, Localhost::new().pem].concat();
        let no_certificate =
            format!("{both}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        for (text, expected) in [
            (both, Ok(2)),
            (no_certificate, Err("contains a certificate that can't be used: ")),
            ("nothing".to_owned(), Err("must contain a certificate in PEM")),
        ] {
            fs::write(&file, text).unwrap();
            let roots = file_roots(path);
            let checked = check_authorities(path);
            match expected {
                Ok(count) => {
                    assert_eq!(roots.unwrap().len(), count);
                    checked.unwrap();
                }
                Err(message) => {
                    let error = roots.unwrap_err().to_string();
                    assert!(error.starts_with(&format!("{path}: {message}")), "{error}");
                    let checked = checked.unwrap_err();
                    let (setting, checked_error) = checked.errors().next().unwrap();
                    assert_eq!((setting, checked_error), ("redis.ca", error));
                }
            }
        }
        fs::remove_file(&file).unwrap();
    }
}
