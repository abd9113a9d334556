//! Whether a port speaks TLS, and with which certificates.

use super::{Peer, STEP_TIMEOUT};
use crate::tls;
use rustls::{
    AlertDescription, DigitallySignedStruct, Error, InvalidMessage, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};
use tokio_rustls::TlsConnector;

/// What a port answers to the beginning of a TLS connection.
#[derive(Debug)]
pub(in crate::cli::doctor) enum TlsView {
    /// It speaks TLS, and presents these certificates, its own first.
    Certificates(Vec<CertificateDer<'static>>),
    /// It answers with something else than TLS.
    NotTls,
    /// It closes the connection without an answer.
    Closed,
    /// It speaks TLS, but refuses the handshake; the error says why.
    Refused(String),
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cli::doctor) enum Spoken {
    /// HTTP without TLS.
    Http,
    /// TLS.
    Tls,
    /// Neither is answered.
    Neither,
}

/// Begins a TLS connection with the peer at `address`, and accepts any certificate.
pub(in crate::cli::doctor) async fn look_at_tls(
    peer: &Peer,
    address: SocketAddr,
) -> io::Result<TlsView> {
    let stream = time::timeout(STEP_TIMEOUT, TcpStream::connect(address)).await??;
    let recorder = Arc::new(Recorder { chain: Mutex::default(), provider: tls::provider() });
    let builder = tls::client_builder().dangerous();
    let verifier = Arc::<Recorder>::clone(&recorder);
    let mut config = builder.with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(peer.host.clone()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(config));
    let shaken = time::timeout(STEP_TIMEOUT, connector.connect(name, stream)).await;
    let chain = std::mem::take(&mut *recorder.chain.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(match shaken {
        Ok(Ok(_)) => TlsView::Certificates(chain),
        Ok(Err(error)) => match tls_error(&error) {
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => TlsView::NotTls,
            Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
                TlsView::Refused("it does not speak HTTP/1.1, which WebSockets need".to_owned())
            }
            Some(error) => TlsView::Refused(error.to_string()),
            None if is_end(&error) => TlsView::Closed,
            None => return Err(error),
        },
        Err(elapsed) => return Err(elapsed.into()),
    })
}

/// What the port at `address` speaks: a request without TLS is sent, and the first byte of the answer
/// tells. A server that closes without an answer is asked with TLS.
pub(in crate::cli::doctor) async fn spoken(peer: &Peer, address: SocketAddr) -> io::Result<Spoken> {
    let mut stream = time::timeout(STEP_TIMEOUT, TcpStream::connect(address)).await??;
    let request = format!(
        "GET {}/up HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        peer.prefix,
        peer.authority()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut first = [0; 2_048];
    let read = time::timeout(STEP_TIMEOUT, stream.read(&mut first)).await;
    let answer = &first[..read.unwrap_or(Ok(0)).unwrap_or(0)];
    if answer.starts_with(b"HTTP/") && !says_tls_is_wanted(answer) {
        return Ok(Spoken::Http);
    }
    Ok(match look_at_tls(peer, address).await? {
        TlsView::Certificates(_) | TlsView::Refused(_) => Spoken::Tls,
        TlsView::NotTls => Spoken::Http,
        TlsView::Closed => Spoken::Neither,
    })
}

/// nginx, Apache and Go's servers answer a request without TLS on a port with TLS, with 400.
fn says_tls_is_wanted(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    text.get(..16).is_some_and(|line| line.contains(" 400"))
        && ["https port", "https server", "ssl-enabled server port"]
            .iter()
            .any(|part| text.contains(part))
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&error.kind())
}

/// Accepts every certificate, and keeps the chain.
#[derive(Debug)]
struct Recorder {
    chain: Mutex<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) =
            all.map(|certificate| certificate.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::trust::Trust, tls::testing::Localhost};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    #[tokio::test]
    async fn a_port_for_http_2_only_is_named() {
        let mut config = Localhost::new().server;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap_err();
        });
        let peer = Peer::new(false, "localhost", address.port(), "", &Trust::SystemRoots).unwrap();
        let view = look_at_tls(&peer, address).await.unwrap();
        let TlsView::Refused(why) = view else { panic!("{view:?}") };
        assert!(why.contains("HTTP/1.1"), "{why}");
    }
}
