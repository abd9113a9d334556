//! The stream under an HTTP connection: plain, or with TLS over it.

use super::other_protocol::HANDSHAKE;
use rustls::{ServerConfig, ServerConnection};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// An accepted connection, after its TLS handshake.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The answer to plain HTTP on a TLS port.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 90\r\n\r\n\
    {\"error\":\"This port speaks TLS: use https:// for requests, wss:// for clients\",\"code\":400}";

/// The answer to plain HTTP on a TLS port while the server drains: a new process detects by it that
/// it may take over the port.
const DRAINING: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 38\r\n\r\n\
    {\"ready\":false,\"reasons\":[\"draining\"]}";

impl Stream {
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
        if first[0] != HANDSHAKE {
            let answer = if is_draining { DRAINING } else { SPEAK_TLS };
            super::serve::linger(Self::Plain(stream), answer).await;
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

impl AsyncRead for Stream {
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

impl AsyncWrite for Stream {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_answers_have_a_content_length() {
        for refusal in [SPEAK_TLS, DRAINING] {
            let text = std::str::from_utf8(refusal).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        }
    }
}
