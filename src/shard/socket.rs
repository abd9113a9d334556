//! The socket of a connection: plain, or with TLS over it.

use super::outbox::Written;
use mio::{event::Source, net::TcpStream};
use rustls::ServerConnection;
use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::Shutdown,
};

/// A non-blocking socket. The TLS session is boxed, since most servers run behind a proxy: a plain
/// socket is only one pointer larger.
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    tls: Option<Box<ServerConnection>>,
}

/// Maximum number of bytes that TLS may buffer while the socket is blocked, in addition to
/// `max_outbox_bytes`.
const CIPHERTEXT_MAX: usize = 32 * 1024;

impl Socket {
    pub(super) fn new(socket: std::net::TcpStream, tls: Option<Box<ServerConnection>>) -> Self {
        let mut tls = tls;
        if let Some(tls) = &mut tls {
            tls.set_buffer_limit(Some(CIPHERTEXT_MAX));
        }
        Self { tcp: TcpStream::from_std(socket), tls }
    }

    /// Whether TLS may have buffered input for which the poller reports no edge.
    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The source for the poller.
    pub(super) fn source(&mut self) -> &mut impl Source {
        &mut self.tcp
    }

    /// The TCP socket. TLS, if there is any, is dropped.
    pub(super) fn into_tcp(self) -> std::net::TcpStream {
        self.tcp.into()
    }

    #[cfg(test)]
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Flushes the records that TLS has buffered in a write. Returns its result, or `Blocked` if the
    /// socket accepts no more: the records stay buffered.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) fn flush_tls_after(&mut self, written: Written) -> io::Result<Written> {
        match &mut self.tls {
            None => Ok(written),
            Some(tls) => Ok(match flush_tls(tls, &mut self.tcp)? {
                TlsFlush::All => written,
                TlsFlush::Blocked => Written::Blocked,
            }),
        }
    }

    /// Whether TLS has buffered output.
    pub(super) fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Sends TLS's `close_notify`, so that the peer can distinguish the end from a truncation.
    pub(super) fn send_close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // A peer that does not read does not receive it.
            let _ = flush_tls(tls, &mut self.tcp);
        }
    }

    /// Shuts down the writing half.
    pub(super) fn shutdown_write(&mut self) {
        self.send_close_notify();
        // A socket that was closed already needs no shutdown.
        let _ = self.tcp.shutdown(Shutdown::Write);
    }
}

/// Whether all records that TLS had buffered were written.
enum TlsFlush {
    All,
    Blocked,
}

fn flush_tls(tls: &mut ServerConnection, tcp: &mut TcpStream) -> io::Result<TlsFlush> {
    while tls.wants_write() {
        match tls.write_tls(tcp) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(TlsFlush::Blocked),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(TlsFlush::All)
}

/// Reads plaintext until the buffer is full or the socket would block. The end of the stream, or
/// its error, is reported after all data before it.
fn read_plaintext(
    tls: &mut ServerConnection,
    tcp: &mut TcpStream,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        let next = match tls.reader().read(&mut buffer[len..]) {
            Ok(0) => Ok(0),
            Ok(more) => {
                len += more;
                continue;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => receive_records(tls, tcp),
            // The peer closed the connection without TLS's end of data; WebSocket has its own
            // close.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            Err(error) => Err(error),
        };
        match next {
            Ok(0) | Err(_) if 0 < len => break,
            Ok(0) => return Ok(0),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Reads records from the socket and processes them. Returns 1, whatever they contain: the caller
/// asks the reader again, which also reports the end of the stream.
fn receive_records(tls: &mut ServerConnection, tcp: &mut TcpStream) -> io::Result<usize> {
    // Zero is the end, which the reader reports: as a clean end or a truncation.
    tls.read_tls(tcp)?;
    let processed = tls.process_new_packets();
    // An alert, or the reply to a key update. If the socket is blocked, it is sent before the next
    // write.
    let _ = flush_tls(tls, tcp);
    match processed {
        Ok(_) => Ok(1),
        Err(error) => Err(io::Error::new(ErrorKind::InvalidData, error)),
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.read(buffer),
            Some(tls) => read_plaintext(tls, &mut self.tcp, buffer),
        }
    }
}

/// With TLS, the accepted bytes may still be buffered here: call [`Socket::flush_tls_after`] at the
/// end.
impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.write(bytes),
            Some(tls) => match flush_tls(tls, &mut self.tcp)? {
                TlsFlush::Blocked => Err(ErrorKind::WouldBlock.into()),
                TlsFlush::All => tls.writer().write(bytes),
            },
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.write_vectored(slices),
            Some(tls) => match flush_tls(tls, &mut self.tcp)? {
                TlsFlush::Blocked => Err(ErrorKind::WouldBlock.into()),
                TlsFlush::All => tls.writer().write_vectored(slices),
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tls::testing::Localhost;
    use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
    use std::{net::TcpListener, sync::Arc, thread};

    pub(in crate::shard) type TlsClient = StreamOwned<ClientConnection, std::net::TcpStream>;

    fn pair() -> (Socket, TlsClient) {
        let (tcp, tls, client) = handshake();
        (Socket::new(tcp, Some(tls)), client)
    }

    /// Both ends of a TLS connection after its handshake: the server's socket and session, and the
    /// client.
    pub(in crate::shard) fn handshake() -> (std::net::TcpStream, Box<ServerConnection>, TlsClient) {
        let Localhost { server, client, .. } = Localhost::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut client = StreamOwned::new(client, tcp);
        let (mut tcp, _) = listener.accept().unwrap();
        let mut tls = ServerConnection::new(Arc::new(server)).unwrap();
        let shaking = thread::spawn(move || {
            while client.conn.is_handshaking() {
                client.conn.complete_io(&mut client.sock).unwrap();
            }
            client
        });
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).unwrap();
        }
        let client = shaking.join().unwrap();
        tcp.set_nonblocking(true).unwrap();
        (tcp, Box::new(tls), client)
    }

    #[test]
    fn buffered_tls_output_is_limited_and_waits_for_the_socket() {
        let (mut socket, mut client) = pair();
        let chunk = [7; 10_000];
        let mut taken = 0;
        // The kernel accepts some megabytes, then TLS up to its limit.
        loop {
            match socket.write(&chunk) {
                Ok(len) => taken += len,
                Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(socket.has_unsent());
        assert_eq!(
            socket.flush_tls_after(Written::All).unwrap(),
            Written::Blocked,
            "not all is on its way"
        );
        let reading = thread::spawn(move || {
            let mut received = vec![0; taken];
            client.read_exact(&mut received).unwrap();
            assert!(received.iter().all(|byte| *byte == 7));
            client
        });
        while socket.flush_tls_after(Written::All).unwrap() == Written::Blocked {
            thread::yield_now();
        }
        assert!(!socket.has_unsent());
        let mut client = reading.join().unwrap();
        socket.send_close_notify();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "an end, not a cut");
    }

    #[test]
    fn input_is_read_to_its_end() {
        let (mut socket, mut client) = pair();
        let sent = vec![9; 100_000];
        let sending = thread::spawn(move || {
            client.write_all(&sent).unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            client
        });
        let (mut received, mut buffer) = (0, [0; 4_096]);
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => received += len,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert_eq!(received, 100_000);
        drop(sending.join().unwrap());
    }
}
