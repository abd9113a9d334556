//! The listening sockets of a server: inherited, taken over from a draining process, or newly
//! bound.

use super::{
    ServerError,
    probe::{PortOwner, probe_port},
};
use crate::config::Config;
use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    env, io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    os::fd::AsFd,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// The listening sockets of a server.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) main: TcpListener,
    pub(super) metrics: Option<TcpListener>,
    /// Whether the main socket belongs to the parent process and outlives this one.
    pub(super) is_inherited: bool,
}

/// How a socket was obtained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SocketKind {
    /// Bound to a free port.
    Own,
    /// Inherited, or bound to a port on which another process listens too.
    Shared,
}

/// Size of the accept queue. The system's own limit may reduce it.
pub(super) const BACKLOG: i32 = 4_096;
/// How long to wait for a port that a draining process holds and does not share.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to retry a port that a serving process holds: it may be about to receive its signal.
const SIGNAL_TIMEOUT: Duration = Duration::from_millis(500);
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

impl Listeners {
    /// Takes over the sockets passed by `LISTEN_FDS`, and binds the others. Takes a port over from
    /// a draining Campanile. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// [`ServerError::Bind`] if an address is taken or not local, [`ServerError::Inherit`] if a
    /// passed socket does not listen, [`ServerError::InheritedTwice`] if several were passed for
    /// one service.
    pub(super) async fn open(config: &Config) -> Result<Self, ServerError> {
        let (main, mut metrics) = assign_by_name(inherited().map_err(ServerError::Inherit)?)?;
        let is_inherited = main.is_some();
        let (main, kind) = match main {
            Some(main) => {
                warn_difference(config, &main);
                (main, SocketKind::Shared)
            }
            None => bind(config).await?,
        };
        if metrics.is_none() && !config.metrics.listen.is_empty() {
            let is_shared = kind == SocketKind::Shared || config.server.reuse_port;
            metrics = Some(bind_metrics(&config.metrics.listen, is_shared).await?);
        }
        if config.server.reuse_port && !is_inherited {
            for listener in [Some(&main), metrics.as_ref()].into_iter().flatten() {
                set_reuse_port(listener);
            }
        }
        Ok(Self { main, metrics, is_inherited })
    }
}

/// The sockets passed to this process by `LISTEN_FDS`, with their names from `LISTEN_FDNAMES`.
fn inherited() -> io::Result<Vec<(String, TcpListener)>> {
    let names = env::var_os("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.to_string_lossy().into_owned();
    let mut names = names.split(':');
    let mut passed = ListenFd::from_env();
    let mut found = Vec::new();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let Some(listener) = passed.take_tcp_listener(index)? else { continue };
        // The parent process may have set a short queue.
        SockRef::from(&listener).listen(BACKLOG)?;
        found.push((name, listener));
    }
    Ok(found)
}

/// Assigns the inherited sockets to the server and the metrics. A further socket is an error: the process
/// that passed it keeps it open, so its clients would wait for ever.
fn assign_by_name(
    inherited: Vec<(String, TcpListener)>,
) -> Result<(Option<TcpListener>, Option<TcpListener>), ServerError> {
    let (mut main, mut metrics) = (None, None);
    for (name, listener) in inherited {
        let (service, slot) = match name.as_str() {
            "metrics" => ("metrics", &mut metrics),
            _ => ("server", &mut main),
        };
        let address = listener.local_addr().map_err(ServerError::Inherit)?;
        if let Some((first, _)) = *slot {
            return Err(ServerError::InheritedTwice { service, addresses: [first, address] });
        }
        tracing::info!(service, %address, "using an inherited socket");
        *slot = Some((address, listener));
    }
    let listener = |(_, listener)| listener;
    Ok((main.map(listener), metrics.map(listener)))
}

/// Warns if an inherited socket differs from the configured address.
fn warn_difference(config: &Config, listener: &TcpListener) {
    let Ok(inherited) = listener.local_addr() else { return };
    let server = &config.server;
    let is_configured = (server.host.as_str(), server.port)
        .to_socket_addrs()
        .is_ok_and(|mut addresses| addresses.any(|address| address == inherited));
    if !is_configured {
        let (host, port) = (&server.host, server.port);
        tracing::warn!(%inherited, %host, port, "inherited socket differs from server.host and server.port, which are ignored");
    }
}

async fn bind(config: &Config) -> Result<(TcpListener, SocketKind), ServerError> {
    let server = &config.server;
    let (host, port) = (server.host.as_str(), server.port);
    let named = |error| ServerError::Bind {
        setting: super::PORT,
        address: format!("{host}:{port}"),
        error,
    };
    let mut addresses = (host, port).to_socket_addrs().map_err(named)?;
    let address = addresses.next().ok_or_else(|| {
        named(io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address"))
    })?;
    let in_use = match listen(address, false) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
        result => return result.map(|listener| (listener, SocketKind::Own)).map_err(named),
    };
    if server.reuse_port
        && let Ok(listener) = listen(address, true)
    {
        tracing::info!(%address, "sharing the port with another process (SO_REUSEPORT)");
        return Ok((listener, SocketKind::Shared));
    }
    match take_over(address, &server.path).await {
        Some(listener) => Ok((listener, SocketKind::Shared)),
        None => Err(named(in_use)),
    }
}

/// Takes over the port from a draining Campanile; `None` if another program holds it.
async fn take_over(address: SocketAddr, path: &str) -> Option<TcpListener> {
    let began = Instant::now();
    let mut is_draining = false;
    loop {
        let timeout = match probe_port(address, path).await {
            PortOwner::Draining => TAKE_OVER_TIMEOUT,
            // It may drain or end soon.
            PortOwner::Serving | PortOwner::None if is_draining => TAKE_OVER_TIMEOUT,
            PortOwner::Serving | PortOwner::None => SIGNAL_TIMEOUT,
            PortOwner::Other => return None,
        };
        if !is_draining && timeout == TAKE_OVER_TIMEOUT {
            tracing::info!(%address, "taking over the port from a draining server");
            is_draining = true;
        }
        // A draining server lets others of the same user listen beside it.
        let attempts = [is_draining, false].map(|reuse| listen(address, reuse));
        if let Some(listener) = attempts.into_iter().find_map(Result::ok) {
            return Some(listener);
        }
        if timeout < began.elapsed() {
            return None;
        }
        sleep(RETRY_INTERVAL).await;
    }
}

async fn bind_metrics(address: &str, is_shared: bool) -> Result<TcpListener, ServerError> {
    let named =
        |error| ServerError::Bind { setting: super::METRICS, address: address.to_owned(), error };
    let parsed = address
        .parse()
        .map_err(|_| named(io::Error::new(io::ErrorKind::InvalidInput, "not host:port")))?;
    let began = Instant::now();
    loop {
        let error = match listen(parsed, false) {
            Ok(listener) => return Ok(listener),
            Err(error) if is_shared && error.kind() == io::ErrorKind::AddrInUse => error,
            Err(error) => return Err(named(error)),
        };
        if let Ok(listener) = listen(parsed, true) {
            return Ok(listener);
        }
        if SIGNAL_TIMEOUT < began.elapsed() {
            return Err(named(error));
        }
        sleep(RETRY_INTERVAL).await;
    }
}

pub(super) fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Lets another process of the same user listen on the port as well.
pub(super) fn set_reuse_port(listener: &impl AsFd) {
    // Without it, the next process waits until this one has ended.
    if let Err(error) = SockRef::from(listener).set_reuse_port(true) {
        tracing::debug!(%error, "the port can't be shared");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn sockets(names: &[&str]) -> (Vec<(String, TcpListener)>, Vec<SocketAddr>) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sockets: Vec<_> =
            names.iter().map(|name| ((*name).to_owned(), listen(any, false).unwrap())).collect();
        let addresses = sockets.iter().map(|(_, socket)| socket.local_addr().unwrap()).collect();
        (sockets, addresses)
    }

    #[test]
    fn inherited_sockets_are_assigned_by_name() {
        let (passed, addresses) = sockets(&["metrics", "web"]);
        let (main, metrics) = assign_by_name(passed).unwrap();
        assert_eq!(main.unwrap().local_addr().unwrap(), addresses[1]);
        assert_eq!(metrics.unwrap().local_addr().unwrap(), addresses[0]);
    }

    #[test]
    fn a_second_inherited_socket_for_the_same_service_is_rejected_by_name() {
        for (names, what) in [(["a", "b"], "the server"), (["metrics", "metrics"], "the metrics")] {
            let (passed, addresses) = sockets(&names);
            let text = assign_by_name(passed).unwrap_err().to_string();
            let named = addresses.iter().all(|address| text.contains(&address.to_string()));
            assert!(named && text.contains(&format!("two sockets for {what}")), "{text}");
        }
    }
}
