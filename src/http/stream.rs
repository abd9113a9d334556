//! The stream under an HTTP connection: plain, or with TLS over it.

use super::other_protocol::TLS_HANDSHAKE_RECORD;
use rustls::{ServerConfig, ServerConnection};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// An accepted connection, after its TLS handshake.
#[derive(Debug)]
pub(super) enum HttpStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The response to plain HTTP on a TLS port.
const TLS_REQUIRED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 92\r\n\r\n\
    {\"error\":\"This port requires TLS: use https:// for requests, wss:// for clients\",\"code\":400}";

/// The response to plain HTTP on a TLS port while the server drains: a new process detects by it that
/// it may take over the port.
const DRAINING: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 38\r\n\r\n\
    {\"ready\":false,\"reasons\":[\"draining\"]}";

impl HttpStream {
    /// Performs the TLS handshake with `config`. The caller sets the deadline.
    ///
    /// # Errors
    ///
    /// The peer does not use TLS, no common parameters exist, or it disconnected.
    pub(super) async fn accept(
        stream: TcpStream,
        config: Arc<ServerConfig>,
        is_draining: bool,
    ) -> io::Result<Self> {
        let mut first = [0];
        let len = stream.peek(&mut first).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] != TLS_HANDSHAKE_RECORD {
            let response = if is_draining { DRAINING } else { TLS_REQUIRED };
            lingering_close(Self::Plain(stream), response).await;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not TLS"));
        }
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Detaches the socket from the runtime, and returns the TLS session over it.
    ///
    /// # Errors
    ///
    /// The runtime cannot release the socket.
    pub(super) fn into_parts(
        self,
    ) -> io::Result<(std::net::TcpStream, Option<Box<ServerConnection>>)> {
        match self {
            Self::Plain(stream) => Ok((stream.into_std()?, None)),
            Self::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                Ok((stream.into_std()?, Some(Box::new(session))))
            }
        }
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// How long input is still read after the last response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes the rest of the response and closes the connection gracefully: a socket that is closed with
/// unread input is reset, and the peer may lose what it has not read yet.
pub(super) async fn lingering_close(mut stream: HttpStream, response: &[u8]) {
    let close = async {
        stream.write_all(response).await?;
        stream.shutdown().await?;
        let mut unread = [0; 4_096];
        while stream.read(&mut unread).await? != 0 {}
        Ok::<(), io::Error>(())
    };
    // The connection is closed in any case.
    let _ = time::timeout(LINGER_TIMEOUT, close).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Localhost;
    use futures_util::FutureExt;
    use rustls::pki_types::ServerName;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::{TlsConnector, client};

    /// Both ends of a connection over loopback, the server's first.
    async fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (accepted.unwrap().0, client.unwrap())
    }

    /// Both ends of a connection with TLS, the server's first.
    async fn tls() -> (HttpStream, client::TlsStream<TcpStream>) {
        let Localhost { server, client, .. } = Localhost::new();
        let (accepted, connected) = tcp().await;
        let name = ServerName::try_from("localhost").unwrap();
        let (server, client) = tokio::join!(
            HttpStream::accept(accepted, Arc::new(server), false),
            TlsConnector::from(Arc::new(client)).connect(name, connected),
        );
        (server.unwrap(), client.unwrap())
    }

    #[tokio::test]
    async fn a_flush_sends_what_tls_has_buffered() {
        let (mut stream, mut client) = tls().await;
        assert!(stream.is_tls());
        let piece = [b'x'; 10_000];
        let mut written = 0;
        while let Some(len) = stream.write(&piece).now_or_never() {
            written += len.unwrap();
        }
        let mut read = vec![0; written];
        let (flushed, read) = tokio::join!(stream.flush(), client.read_exact(&mut read));
        assert_eq!((flushed.is_ok(), read.unwrap()), (true, written));
    }

    #[tokio::test]
    async fn a_shutdown_is_seen_by_the_client_while_the_socket_is_open() {
        let (mut stream, mut client) = tls().await;
        stream.write_all(b"last").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.expect("TLS is closed in its own words");
        assert_eq!(read, b"last");
        let (accepted, mut client) = tcp().await;
        let mut plain = HttpStream::Plain(accepted);
        assert!(!plain.is_tls());
        plain.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        drop((stream, plain));
    }

    /// A socket that is closed with unread input is reset.
    #[tokio::test]
    async fn unread_input_does_not_cost_the_client_its_answer() {
        let (accepted, mut client) = tcp().await;
        let input = vec![b'x'; 100_000];
        client.write_all(&input).await.unwrap();
        let closing = tokio::spawn(lingering_close(HttpStream::Plain(accepted), b"response"));
        client.write_all(&input).await.unwrap();
        client.shutdown().await.unwrap();
        closing.await.unwrap();
        let mut response = Vec::new();
        client.read_to_end(&mut response).await.expect("the connection was not reset");
        assert_eq!(response, b"response");
    }

    #[test]
    fn fixed_answers_have_a_content_length() {
        for rejection in [TLS_REQUIRED, DRAINING] {
            let text = std::str::from_utf8(rejection).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        }
    }
}
