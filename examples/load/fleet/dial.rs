//! Opens sockets from many source addresses, since the ports of one do not suffice.

use crate::failure::Failure;
use mio::net::TcpStream;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process,
    time::Duration,
};
use tokio::{
    net::TcpSocket,
    runtime::{Builder, Runtime},
    time,
};

/// The number of source addresses, from 127.0.0.2 on. Each has about 28,000 ports, and those of
/// closed connections remain in use for a minute.
const SOURCES: u8 = 64;
/// The timeout of a connection attempt. Loopback answers at once, unless the server's backlog is
/// full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens sockets.
#[derive(Debug)]
pub(crate) struct Dialer {
    /// Used only for connecting: the standard library cannot connect from a given source address.
    runtime: Runtime,
    next: u8,
}

impl Dialer {
    /// A dialer that begins at a different source address than other processes.
    pub(crate) fn new() -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Failure::io("start a runtime"))?;
        let next = u8::try_from(process::id() % u32::from(SOURCES)).unwrap_or_default();
        Ok(Self { runtime, next })
    }

    /// Opens a connected socket.
    pub(crate) fn dial(
        &mut self,
        address: SocketAddr,
        receive_buffer: Option<u32>,
    ) -> io::Result<TcpStream> {
        self.next = (self.next + 1) % SOURCES;
        let _inside = self.runtime.enter();
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_nodelay(true)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if address.ip().is_ipv4() {
            let source = Ipv4Addr::new(127, 0, 0, 2 + self.next);
            // Only Linux has all of 127.0.0.0/8; other systems use the ports of one address.
            let _ = socket.bind(SocketAddr::new(IpAddr::V4(source), 0));
        }
        let connect = async { time::timeout(CONNECT_TIMEOUT, socket.connect(address)).await };
        let stream = self.runtime.block_on(connect).map_err(io::Error::from)??;
        Ok(TcpStream::from_std(stream.into_std()?))
    }
}
