//! The acceptor in its thread, and its search for other processes.

use super::{
    draining::CLOSE_DELAY,
    search::{PROBE_INTERVAL, PROBE_TIMEOUT, SEARCH_PROBES},
    *,
};
use crate::{
    config::Config, node::Node, server::listeners::listen, shutdown::Shutdown, webhook::Webhooks,
};
use socket2::{Domain, Socket, Type};
use std::{io::Read, net::Ipv4Addr, thread};
use tokio::sync::mpsc::error::TryRecvError;

#[test]
fn a_full_queue_does_not_block_probes_or_report_another_process() {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), false).unwrap();
    SockRef::from(&listener).listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    let full = Duration::from_millis(50);
    while let Ok(waiting) = TcpStream::connect_timeout(&address, full) {
        queue.push(waiting);
    }
    let (report, mut reports) = mpsc::unbounded_channel();
    let mut search = ListenerSearch::new(address);
    search.start_probe(&report);
    let (_, _, at) = search.probe.as_mut().expect("it does not wait for the queue");
    *at -= DRAINING_WAIT;
    search.on_idle(&report);
    assert!(search.probe.is_some() && reports.try_recv().is_err(), "no listener has accepted it");
    // It times out after a while, and the next one is not started at once.
    search.probe.as_mut().unwrap().2 -= PROBE_TIMEOUT;
    let ended = Instant::now();
    search.start_probe(&report);
    assert_eq!(search.own_probes, 1);
    assert!(ended + PROBE_INTERVAL <= search.next);
}

#[test]
fn a_probe_that_fails_is_not_repeated_at_once() {
    // Bound but not listening, so that no other test gets the port.
    let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    closed.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let (report, _news) = mpsc::unbounded_channel();
    let mut search = ListenerSearch::new(closed.local_addr().unwrap().as_socket().unwrap());
    let began = Instant::now();
    while search.own_probes == 0 {
        search.start_probe(&report);
    }
    assert!(began + PROBE_INTERVAL <= search.next);
}

#[test]
fn a_probe_accepted_by_another_listener_is_reported() {
    let other = listen((Ipv4Addr::LOCALHOST, 0).into(), false).unwrap();
    let (report, mut reports) = mpsc::unbounded_channel();
    let mut search = ListenerSearch::new(other.local_addr().unwrap());
    search.start_probe(&report);
    let (_stream, from) = other.accept().unwrap();
    search.probe.as_mut().unwrap().2 -= DRAINING_WAIT;
    search.on_idle(&report);
    let Ok(AcceptorReport::AcceptedElsewhere(probe)) = reports.try_recv() else {
        panic!("the report arrives")
    };
    assert_eq!(probe.local_addr().unwrap(), from);
}

type Connections = mpsc::UnboundedReceiver<AcceptedConnection>;

/// An acceptor with a shard that accepts, and the connections of all shards.
fn started(is_inherited: bool, shards: usize) -> (AcceptorHandle, SocketAddr, Vec<Connections>) {
    started_with(is_inherited, shards, 100)
}

/// The same, with at most `pending` connections at once.
fn started_with(
    is_inherited: bool,
    shards: usize,
    pending: usize,
) -> (AcceptorHandle, SocketAddr, Vec<Connections>) {
    let (acceptor, handle, inputs) = acceptor(is_inherited, shards, pending);
    let address = acceptor.search.address;
    let (senders, accepted): (Vec<_>, Vec<_>) =
        inputs.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let mut acceptor = Some(acceptor);
    for (inputs, connections) in inputs.into_iter().zip(senders) {
        let acceptor = acceptor.take();
        thread::spawn(move || run_shard(acceptor, inputs, &connections));
    }
    (handle, address, accepted)
}

type Inputs = mpsc::UnboundedReceiver<ShardInput>;

fn acceptor(
    is_inherited: bool,
    shards: usize,
    pending: usize,
) -> (Acceptor, AcceptorHandle, Vec<Inputs>) {
    let config = Config::default();
    let webhooks = Arc::new(Webhooks::new(&config).unwrap());
    let node = Arc::new(Node::new(&config, shards, 0, Shutdown::new(), webhooks));
    let limiter = Arc::new(HttpConnectionLimiter::new(pending, 1_000, node));
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), false).unwrap();
    let (senders, inputs) = (0..shards).map(|_| mpsc::unbounded_channel()).unzip();
    let (acceptor, handle) = Acceptor::new(listener, is_inherited, limiter, senders).unwrap();
    (acceptor, handle, inputs)
}

/// Accepts like a shard, and passes its connections on. It asks again and again instead of waiting in a poller.
fn run_shard(
    mut acceptor: Option<Acceptor>,
    mut inputs: Inputs,
    connections: &mpsc::UnboundedSender<AcceptedConnection>,
) {
    loop {
        match inputs.try_recv() {
            Ok(ShardInput::Connection(connection)) => _ = connections.send(connection),
            Ok(ShardInput::Drain) => acceptor.take().expect("it drains once").drain(),
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => thread::sleep(Duration::from_millis(1)),
        }
        if let Some(acceptor) = &mut acceptor {
            acceptor.set_ready();
            if let Some(connection) = acceptor.next(Instant::now()) {
                let _ = connections.send(connection);
            }
        }
    }
}

#[test]
fn connections_are_distributed_to_the_shards_in_turn() {
    let (handle, address, mut accepted) = started(false, 3);
    for round in 0..3 {
        for shard in &mut accepted {
            let client = TcpStream::connect(address).unwrap();
            let (stream, peer, _guest) = shard.blocking_recv().unwrap();
            assert_eq!(peer, client.local_addr().unwrap(), "round {round}");
            assert!(stream.nodelay().unwrap());
            // It does not block.
            let error = (&stream).read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }
    handle.close();
}

#[tokio::test]
async fn queued_connections_are_accepted_before_the_socket_is_closed() {
    for is_handed_over in [false, true] {
        let (mut handle, address, mut accepted) = started(false, 1);
        handle.drain();
        let client = TcpStream::connect(address).unwrap();
        if is_handed_over {
            handle.hand_over();
            assert!(handle.is_handed_over());
        }
        handle.close();
        assert!(
            handle.wait_until_closed(Duration::from_secs(60)).await,
            "the acceptor does not end"
        );
        let (_, peer, _guest) = accepted[0].recv().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(TcpStream::connect(address).is_err(), "nothing listens any more");
    }
}

#[tokio::test]
async fn if_all_probes_return_no_other_process_listens() {
    let (mut handle, _, mut accepted) = started(false, 1);
    handle.drain();
    assert!(matches!(handle.reports.recv().await, Some(AcceptorReport::NoOtherListener)));
    assert!(accepted[0].try_recv().is_err(), "a probe is no client");
    handle.close();
    assert!(handle.wait_until_closed(Duration::from_secs(60)).await, "the acceptor does not end");
}

#[tokio::test]
async fn the_queue_of_an_inherited_socket_is_left_to_the_next_process() {
    let (mut handle, _, _arrivals) = started(true, 1);
    handle.drain();
    assert!(handle.reports.recv().await.is_none(), "it ends without a search");
}

#[test]
fn the_queue_is_emptied_however_long_its_first_connections_take() {
    let (handle, address, mut accepted) = started_with(false, 1, 1);
    let mut clients = Vec::new();
    let mut connect = || {
        clients.push(TcpStream::connect(address).unwrap());
        clients.last().unwrap().local_addr().unwrap()
    };
    connect();
    let (_stream, _, first) = accepted[0].blocking_recv().unwrap();
    // This one is accepted, but has no permit yet; the others wait in the queue.
    let waiting: Vec<SocketAddr> = (0..6).map(|_| connect()).collect();
    handle.close();
    // The channel of the shard ends with the acceptor.
    drop(handle);
    drop(first);
    let (_stream, peer, second) = accepted[0].blocking_recv().unwrap();
    assert_eq!(peer, waiting[0]);
    // The time for handshakes passes while the next one waits for its permit.
    thread::sleep(2 * CLOSE_DELAY);
    drop(second);
    let accepted: Vec<SocketAddr> =
        std::iter::from_fn(|| accepted[0].blocking_recv()).map(|(_, peer, _guest)| peer).collect();
    assert_eq!(accepted, waiting[1..]);
}

#[test]
fn an_unsuccessful_search_continues_at_intervals_and_reports_once() {
    let (report, mut reports) = mpsc::unbounded_channel();
    let mut search = ListenerSearch::new((Ipv4Addr::LOCALHOST, 1).into());
    let began = search.next;
    for probe in 1..SEARCH_PROBES {
        search.count_own_probe(&report);
        assert_eq!(search.next, began, "probe {probe}: the next one follows at once");
        assert!(reports.try_recv().is_err());
    }
    search.count_own_probe(&report);
    assert!(
        matches!(reports.try_recv(), Ok(AcceptorReport::NoOtherListener)),
        "after the sixteenth"
    );
    assert!(began + PROBE_INTERVAL <= search.next);
    for _ in 0..3 {
        let before = Instant::now();
        search.count_own_probe(&report);
        assert!(before + PROBE_INTERVAL <= search.next);
        assert!(reports.try_recv().is_err(), "it is reported once");
    }
}

/// Accepts a connection that may be on its way.
fn accept(acceptor: &mut Acceptor, now: Instant) -> AcceptedConnection {
    let began = Instant::now();
    loop {
        acceptor.set_ready();
        if let Some(accepted) = acceptor.next(now) {
            return accepted;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "no connection arrives");
        thread::yield_now();
    }
}

/// Until the poller reports a connection, nothing is accepted: a shard asks in each turn.
#[test]
fn an_empty_queue_is_asked_once() {
    let (mut acceptor, _handle, _inputs) = acceptor(false, 1, 100);
    let address = acceptor.search.address;
    let now = Instant::now();
    assert!(acceptor.has_more(), "connections may have come before the socket was registered");
    assert!(acceptor.next(now).is_none() && !acceptor.has_more());
    let client = TcpStream::connect(address).unwrap();
    assert!(acceptor.next(now).is_none(), "nothing is reported");
    let (_, peer, _) = accept(&mut acceptor, now);
    assert_eq!(peer, client.local_addr().unwrap());
    assert!(acceptor.has_more(), "there may be another one for the same report");
    assert!(acceptor.next(now).is_none() && !acceptor.has_more());
    assert_eq!(acceptor.retry_at(), None);
}

#[test]
fn without_a_permit_a_connection_waits_and_the_shard_does_not() {
    let (mut acceptor, _handle, _inputs) = acceptor(false, 1, 1);
    let address = acceptor.search.address;
    let clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
    let addresses = clients.map(|client| client.local_addr().unwrap());
    let now = Instant::now();
    let (_, peer, first) = accept(&mut acceptor, now);
    assert_eq!(peer, addresses[0]);
    while acceptor.retry_at().is_none() {
        acceptor.set_ready();
        assert!(acceptor.next(now).is_none());
    }
    let retry_at = acceptor.retry_at().unwrap();
    assert!(now < retry_at && !acceptor.has_more(), "the shard does other work meanwhile");
    drop(first);
    assert!(acceptor.next(now).is_none(), "not before its time");
    let (_, peer, second) = acceptor.next(retry_at).unwrap();
    assert_eq!((peer, acceptor.retry_at()), (addresses[1], None));
    drop(second);
    let (_, peer, _) = accept(&mut acceptor, retry_at);
    assert_eq!(peer, addresses[2]);
}
