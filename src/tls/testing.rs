//! A certificate for tests, made anew each time.

use super::{client_config, provider};
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer};

/// A self-signed certificate for `localhost`.
pub(crate) struct Localhost {
    /// The certificate in PEM.
    pub(crate) pem: String,
    /// The settings of a server that has the certificate.
    pub(crate) server: ServerConfig,
    /// The settings of a client that trusts only the certificate.
    pub(crate) client: ClientConfig,
}

impl Localhost {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = client_config(roots);
        Self { pem: made.cert.pem(), server, client }
    }
}
