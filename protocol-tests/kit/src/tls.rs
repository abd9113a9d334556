//! TLS for the tests: generated certificates, and a tunnel through which the rest of the kit works unchanged.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Directory, Settings, quoted, within};

/// A self-signed certificate for `localhost` and 127.0.0.1.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate as PEM.
    pub cert: String,
    /// The private key as PEM.
    pub key: String,
    /// The certificate as DER.
    pub der: CertificateDer<'static>,
}

impl Certificate {
    /// Generates a certificate that does not expire.
    pub fn new() -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("the names are names");
        Self {
            cert: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            der: made.cert.der().clone(),
        }
    }

    /// A certificate that expires at the beginning of `year`.
    pub fn until(year: i32) -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut parameters = rcgen::CertificateParams::new(names).expect("the names are names");
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().expect("there is randomness");
        let cert = parameters.self_signed(&key).expect("the key can sign");
        Self { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().clone() }
    }

    /// Writes the files `cert.pem` and `key.pem`.
    pub fn write(&self, directory: &Directory) {
        directory.write("cert.pem", &self.cert);
        directory.write("key.pem", &self.key);
    }
}

/// Settings with the certificate files of a directory.
pub fn with_tls(settings: Settings, directory: &Directory) -> Settings {
    let path = |name| quoted(directory.path().join(name).to_str().expect("a name in UTF-8"));
    settings.section("server.tls", "cert", path("cert.pem")).section(
        "server.tls",
        "key",
        path("key.pem"),
    )
}

/// A TLS client of all versions that trusts these certificates.
pub fn connector(believed: &[&Certificate]) -> TlsConnector {
    connector_of(believed, rustls::ALL_VERSIONS, &[])
}

/// A TLS client with these versions and ALPN protocols that trusts these certificates.
pub fn connector_of(
    believed: &[&Certificate],
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in believed {
        roots.add(certificate.der.clone()).expect("it was made as one");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("ring has all versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// A TLS connection after its handshake, or the error of the handshake.
pub async fn try_tls(
    address: SocketAddr,
    connector: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream =
        within("a TCP connection", TcpStream::connect(address)).await.expect("the server listens");
    stream.set_nodelay(true).expect("TCP has this option");
    let name = ServerName::try_from("localhost").expect("it is a name");
    within("a TLS handshake", connector.connect(name, stream)).await
}

/// A TLS connection after its handshake, which must succeed.
pub async fn tls(address: SocketAddr, connector: &TlsConnector) -> TlsStream<TcpStream> {
    try_tls(address, connector).await.unwrap_or_else(|error| panic!("no TLS: {error}"))
}

/// Listens without TLS, and forwards everything over TLS.
pub async fn tunnel(server: SocketAddr, connector: TlsConnector) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            let connector = connector.clone();
            tokio::spawn(async move {
                plain.set_nodelay(true).expect("TCP has this option");
                // A failed connection is closed at once, and the test detects it.
                let Ok(mut tls) = try_tls(server, &connector).await else { return };
                let _ended = tokio::io::copy_bidirectional(&mut plain, &mut tls).await;
            });
        }
    });
    address
}
