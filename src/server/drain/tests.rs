//! The drain without sockets, on a simulated clock.

use super::*;
use crate::config::Config;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream as Socket},
    sync::Mutex,
    thread,
};
use tokio::{sync::mpsc, task::JoinHandle as Task};

const GRACE: Duration = Duration::from_secs(10);

/// The times of events, since the start of the drain.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Vec<(&'static str, Duration)>>>);

impl Times {
    fn note(&self, what: &'static str, began: Instant) {
        self.0.lock().unwrap().push((what, clock::now() - began));
    }

    fn of(&self, what: &str) -> Duration {
        let times = self.0.lock().unwrap();
        times.iter().find(|(noted, _)| *noted == what).unwrap_or_else(|| panic!("no {what}")).1
    }
}

/// A drain whose connections and acceptor are simulated.
struct DrainFixture {
    sequence: ShutdownSequence,
    reports: mpsc::UnboundedSender<AcceptorReport>,
    times: Times,
    began: Instant,
}

impl DrainFixture {
    fn new(is_inherited: bool) -> Self {
        let config = Config::default();
        let (connections, flush) = (Shutdown::new(), Shutdown::new());
        let webhooks = Arc::new(Webhooks::new(&config).unwrap());
        let node = Node::new(&config, 1, 0, connections.clone(), Arc::clone(&webhooks));
        let (acceptor, reports) = AcceptorHandle::detached();
        let draining = ShutdownSequence {
            node: Arc::new(node),
            acceptor,
            metrics: None,
            shutdown: connections,
            webhook_shutdown: flush,
            webhooks,
            grace: GRACE,
            path: String::new(),
            is_inherited,
        };
        Self { sequence: draining, reports, times: Times::default(), began: clock::now() }
    }

    /// Connections that end this long after the plan is set; `None`: never.
    fn connections_end_after(&self, after: Option<Duration>) -> Task<()> {
        let mut drain = self.sequence.shutdown.guard();
        let (times, began) = (self.times.clone(), self.began);
        tokio::spawn(async move {
            drain.started().await;
            times.note("draining", began);
            drain.mode_chosen().await;
            times.note("planned", began);
            match after {
                Some(after) => time::sleep(after).await,
                None => std::future::pending().await,
            }
            times.note("connections ended", began);
        })
    }

    /// Webhooks that take `after` to deliver the rest.
    fn webhooks_end_after(&self, after: Duration) -> Task<()> {
        let mut drain = self.sequence.webhook_shutdown.guard();
        let (times, began) = (self.times.clone(), self.began);
        let acceptor = self.sequence.acceptor.without_reports();
        tokio::spawn(async move {
            drain.started().await;
            times.note("webhooks asked to stop", began);
            time::sleep(after).await;
            let is_late = acceptor.is_closed();
            times.note(if is_late { "webhooks cut off" } else { "webhooks ended" }, began);
        })
    }

    async fn run(self) -> (usize, Times, Duration) {
        let Self { sequence: draining, reports, times, began } = self;
        let left = draining.run().await;
        drop(reports);
        let took = clock::now() - began;
        (left, times, took)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[tokio::test(start_paused = true)]
async fn webhooks_are_stopped_when_the_last_connection_has_ended() {
    let fixture = DrainFixture::new(false);
    fixture.reports.send(AcceptorReport::NoOtherListener).unwrap();
    fixture.connections_end_after(Some(seconds(3.0)));
    fixture.connections_end_after(Some(seconds(5.0)));
    fixture.webhooks_end_after(seconds(1.0));
    let (connections, flush) =
        (fixture.sequence.shutdown.clone(), fixture.sequence.webhook_shutdown.clone());
    let (left, times, _) = fixture.run().await;
    assert_eq!(left, 0);
    assert_eq!(times.of("draining"), Duration::ZERO);
    assert_eq!(times.of("planned"), Duration::ZERO, "no other process serves");
    assert_eq!(times.of("webhooks asked to stop"), seconds(5.0));
    assert_eq!(times.of("webhooks ended"), seconds(6.0), "and they are waited for");
    assert_eq!(connections.mode(), Some(DrainMode::NoSuccessor));
    assert!(flush.is_started());
}

#[tokio::test(start_paused = true)]
async fn connections_that_do_not_end_are_counted_and_webhooks_have_a_fifth() {
    let fixture = DrainFixture::new(false);
    fixture.reports.send(AcceptorReport::NoOtherListener).unwrap();
    fixture.connections_end_after(None);
    fixture.connections_end_after(None);
    fixture.connections_end_after(Some(seconds(1.0)));
    fixture.webhooks_end_after(seconds(1.0));
    let (left, times, took) = fixture.run().await;
    assert_eq!(left, 2);
    assert_eq!(times.of("webhooks asked to stop"), seconds(7.6));
    assert!(seconds(9.5) <= took && took <= GRACE, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_may_end_in_the_last_fifth() {
    let fixture = DrainFixture::new(false);
    fixture.reports.send(AcceptorReport::NoOtherListener).unwrap();
    fixture.connections_end_after(Some(seconds(9.4)));
    fixture.webhooks_end_after(seconds(0.5));
    let (left, times, _) = fixture.run().await;
    assert_eq!(left, 0);
    assert_eq!(times.of("webhooks asked to stop"), seconds(7.6));
}

#[tokio::test(start_paused = true)]
async fn hanging_webhooks_have_two_seconds_if_no_other_process_serves() {
    for (connections, took_min) in [(1.0, 3.0), (9.0, 9.5)] {
        let fixture = DrainFixture::new(false);
        fixture.reports.send(AcceptorReport::NoOtherListener).unwrap();
        fixture.connections_end_after(Some(seconds(connections)));
        fixture.webhooks_end_after(seconds(3_600.0));
        let (left, _, took) = fixture.run().await;
        assert_eq!(left, 0, "an endpoint that hangs is no failure of the server");
        assert!(
            seconds(took_min) <= took && took <= seconds(took_min + 1.0).min(GRACE),
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn webhooks_have_more_time_once_another_process_has_taken_the_port_over() {
    let fixture = DrainFixture::new(false);
    fixture.reports.send(AcceptorReport::NoOtherListener).unwrap();
    fixture.connections_end_after(Some(seconds(1.0)));
    fixture.webhooks_end_after(seconds(6.0));
    let acceptor = fixture.sequence.acceptor.without_reports();
    tokio::spawn(async move {
        time::sleep(seconds(2.0)).await;
        acceptor.hand_over();
    });
    let (_, times, _) = fixture.run().await;
    assert_eq!(times.of("webhooks ended"), seconds(7.0));
}

#[tokio::test(start_paused = true)]
async fn without_a_report_the_search_ends_after_half_a_second() {
    let fixture = DrainFixture::new(false);
    fixture.connections_end_after(Some(Duration::ZERO));
    let (left, times, _) = fixture.run().await;
    assert_eq!(left, 0);
    let planned = times.of("planned");
    assert!(seconds(0.5) <= planned && planned < seconds(0.6), "{planned:?}");
}

#[tokio::test(start_paused = true)]
async fn with_an_inherited_socket_the_plan_waits_for_the_acceptor() {
    let DrainFixture { sequence, reports, times, began } = DrainFixture::new(true);
    let fixture = DrainFixture { sequence, reports: mpsc::unbounded_channel().0, times, began };
    fixture.connections_end_after(Some(seconds(1.0)));
    tokio::spawn(async move {
        time::sleep(seconds(0.25)).await;
        drop(reports);
    });
    let connections = fixture.sequence.shutdown.clone();
    let (left, times, _) = fixture.run().await;
    assert_eq!(left, 0);
    assert_eq!(times.of("planned"), seconds(0.25), "it accepts nothing any more");
    assert_eq!(connections.mode(), Some(DrainMode::InheritedSocket));
}

#[tokio::test(start_paused = true)]
async fn connections_accepted_during_the_drain_have_time_for_their_answer() {
    let DrainFixture { sequence, reports, times, began } = DrainFixture::new(false);
    reports.send(AcceptorReport::NoOtherListener).unwrap();
    // The acceptor ends at once.
    drop(reports);
    let (shutdown, noted) = (sequence.shutdown.clone(), times.clone());
    let fixture = DrainFixture { sequence, reports: mpsc::unbounded_channel().0, times, began };
    fixture.connections_end_after(Some(seconds(1.0)));
    tokio::spawn(async move {
        time::sleep(seconds(0.5)).await;
        let late = shutdown.guard();
        assert!(!late.delays_drain());
        time::sleep(seconds(0.65)).await;
        drop(late);
        noted.note("late ended", began);
    });
    let (left, times, took) = fixture.run().await;
    assert_eq!(left, 0, "they are not counted");
    assert_eq!((times.of("late ended"), took), (seconds(1.15), seconds(1.15)));
}

/// The peer of a connection to the own address, which answers as another process would.
fn answering(body: &'static str) -> Socket {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let probe = Socket::connect(listener.local_addr().unwrap()).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    thread::spawn(move || {
        let mut request = [0; 1_024];
        let len = accepted.read(&mut request).unwrap();
        assert!(request[..len].starts_with(b"GET /ready "));
        let response = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}");
        accepted.write_all(response.as_bytes()).unwrap();
    });
    probe
}

#[tokio::test]
async fn the_port_is_left_to_a_process_that_serves_and_not_to_one_that_drains() {
    for (body, is_served) in
        [(r#"{"ready":true}"#, true), (r#"{"ready":false,"reasons":["draining"]}"#, false)]
    {
        let mut fixture = DrainFixture::new(false);
        fixture.reports.send(AcceptorReport::AcceptedElsewhere(answering(body))).unwrap();
        fixture.reports.send(AcceptorReport::NoOtherListener).unwrap();
        drop(fixture.reports);
        let mode = fixture.sequence.choose_mode(clock::now()).await;
        assert_eq!(mode, if is_served { DrainMode::Staggered } else { DrainMode::NoSuccessor });
        assert_eq!(fixture.sequence.is_handed_over(), is_served);
    }
}

#[tokio::test]
async fn a_process_started_during_the_drain_gets_the_port() {
    let mut fixture = DrainFixture::new(false);
    fixture
        .reports
        .send(AcceptorReport::AcceptedElsewhere(answering(r#"{"ready":true}"#)))
        .unwrap();
    let drain = fixture.sequence.shutdown.guard();
    fixture.sequence.shutdown.set_mode(DrainMode::NoSuccessor);
    while !fixture.sequence.is_handed_over() {
        fixture.sequence.update_mode().await;
    }
    assert_eq!(fixture.sequence.shutdown.mode(), Some(DrainMode::NoSuccessor), "that is decided");
    drop(drain);
}

#[tokio::test(start_paused = true)]
async fn when_the_node_that_was_relied_on_drains_as_well_the_rest_is_closed_at_once() {
    for (is_handed_over, mode) in [(false, DrainMode::NoSuccessor), (true, DrainMode::Staggered)] {
        let mut fixture = DrainFixture::new(false);
        fixture.sequence.shutdown.set_mode(DrainMode::Staggered);
        if is_handed_over {
            fixture.sequence.hand_over();
        }
        fixture.sequence.update_mode().await;
        assert_eq!(fixture.sequence.shutdown.mode(), Some(mode), "{is_handed_over}");
    }
}

#[tokio::test(start_paused = true)]
async fn webhooks_have_the_whole_grace_period_while_another_process_serves() {
    let mut fixture = DrainFixture::new(false);
    let end = fixture.began + GRACE;
    let ended = fixture.began + seconds(1.0);
    fixture.sequence.shutdown.set_mode(DrainMode::NoSuccessor);
    assert_eq!(fixture.sequence.flush_deadline(ended, end), ended + seconds(2.0));
    assert_eq!(fixture.sequence.flush_deadline(end - seconds(1.0), end), end);
    fixture.sequence.shutdown.set_mode(DrainMode::Staggered);
    assert_eq!(fixture.sequence.flush_deadline(ended, end), end);
    fixture.sequence.shutdown.set_mode(DrainMode::NoSuccessor);
    fixture.sequence.hand_over();
    assert_eq!(fixture.sequence.flush_deadline(ended, end), end);
}
