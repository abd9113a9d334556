//! When requests are sent: each figure of the documentation.

use super::*;

/// Maximum excess of a gap over its documented length: an attempt takes 10 ms.
const SLACK: f64 = 0.03;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Asserts that the gaps have these lengths, up to a fifth shorter.
fn assert_gaps(gaps: &[f64], expected: &[f64]) {
    assert_eq!(gaps.len(), expected.len(), "{gaps:?}");
    for (gap, expected) in gaps.iter().zip(expected) {
        assert!(expected * 0.8 <= *gap && *gap <= expected + SLACK, "{gaps:?}");
    }
}

/// The seconds between the posts of a body, without those of others.
fn gaps_of(fixture: &DeliveryFixture, text: &str) -> Vec<f64> {
    let posted = fixture.posted.lock().unwrap();
    let times: Vec<_> = posted.iter().filter(|(_, found)| found == &body(text)).collect();
    times.windows(2).map(|two| (two[1].0 - two[0].0).as_secs_f64()).collect()
}

#[tokio::test(start_paused = true)]
async fn gaps_double_up_to_a_minute_until_the_request_is_five_minutes_old() {
    let fixture = DeliveryFixture::new(|_| 429);
    fixture.push("1");
    time::sleep(Duration::from_millis(299_990)).await;
    assert_eq!((fixture.endpoint.queue.events(), fixture.dropped(Dropped::Expired)), (1, 0));
    time::sleep(Duration::from_millis(20)).await;
    assert_eq!((fixture.endpoint.queue.events(), fixture.dropped(Dropped::Expired)), (0, 1));
    let (bodies, gaps) = fixture.posted();
    assert!(bodies.iter().all(|found| found == &body("1")), "no probe");
    let (first, rest) = gaps.split_at(6);
    assert_gaps(first, &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
    assert_gaps(rest, &vec![60.0; rest.len()]);
    assert!((3..=4).contains(&rest.len()), "{gaps:?}");
    time::sleep(seconds(3_600)).await;
    assert_eq!(fixture.posted().0.len(), bodies.len());
}

#[tokio::test(start_paused = true)]
async fn after_a_success_the_delays_restart() {
    let fixture = DeliveryFixture::new(|at| if [4, 6].contains(&at) { 200 } else { 429 });
    fixture.push("1");
    time::sleep(seconds(15)).await;
    assert_gaps(&gaps_of(&fixture, "1"), &[1.0, 2.0, 4.0, 8.0]);
    fixture.push("2");
    time::sleep(seconds(15)).await;
    assert_gaps(&gaps_of(&fixture, "2"), &[1.0]);
    assert_eq!(fixture.endpoint.queue.events(), 0);
}

/// A probe is sent after a time-out, not after a failed connection.
#[tokio::test(start_paused = true)]
async fn a_probe_is_sent_after_no_response_and_not_after_no_connection() {
    fn rejected() -> std::io::Error {
        std::io::ErrorKind::ConnectionRefused.into()
    }
    let errors: [(fn() -> HttpError, _); 5] = [
        (|| HttpError::Timeout(Duration::from_secs(10)), true),
        (|| HttpError::Connect(ConnectError::Resolve(rejected())), false),
        (|| HttpError::Connect(ConnectError::Connect(rejected())), false),
        (|| HttpError::Connect(ConnectError::Tls(rejected())), false),
        (|| HttpError::Connect(ConnectError::Private([10, 0, 0, 1].into())), false),
    ];
    for (error, is_probed) in errors {
        let fixture =
            DeliveryFixture::with(move |at, _| if at < 6 { Err(error()) } else { Ok(200) });
        fixture.push("1");
        fixture.push("2");
        time::sleep(seconds(100)).await;
        let (posted, gaps) = fixture.posted();
        let is_probe: Vec<bool> = posted.iter().map(|body| body.ends_with(b"[]}")).collect();
        let mut expected = vec![false; posted.len()];
        expected[3] = is_probed;
        assert_eq!(is_probe, expected, "{posted:?}");
        let first = if is_probed { gaps[3] } else { gaps[2] };
        assert!((3.2..4.1).contains(&first), "{gaps:?}");
        assert_eq!(posted.len(), 8, "the last two are accepted");
        assert_eq!(posted[7], body("2"));
        assert_eq!(fixture.endpoint.stats.failed.get(), 6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_retried_every_thirty_seconds_for_five_minutes() {
    let fixture = DeliveryFixture::judging(poisoned(400, true));
    fixture.push("\"poison\"");
    time::sleep(seconds(299)).await;
    let gaps = gaps_of(&fixture, "\"poison\"");
    assert!((0.8..=1.0 + SLACK).contains(&gaps[0]), "the second rejection: {gaps:?}");
    assert!(gaps[1..].iter().all(|gap| (30.0..31.1).contains(gap)), "{gaps:?}");
    assert!((9..=10).contains(&gaps.len()), "{gaps:?}");
    assert_eq!((fixture.endpoint.queue.dead_letters(), fixture.dropped(Dropped::Rejected)), (1, 0));
    let retried = fixture.endpoint.stats.retried.get();
    assert_eq!(usize::try_from(retried).unwrap(), gaps.len());
    time::sleep(seconds(32)).await;
    assert_eq!((fixture.endpoint.queue.dead_letters(), fixture.dropped(Dropped::Rejected)), (0, 1));
    assert_eq!(fixture.dropped(Dropped::Expired), 0);
    assert!(gaps_of(&fixture, "\"poison\"").len() <= gaps.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_retried_in_turn() {
    let texts: Vec<String> = (0..45).map(|number| format!("\"poison {number}\"")).collect();
    let fixture = DeliveryFixture::judging(poisoned(400, true));
    for text in &texts {
        fixture.push(text);
    }
    time::sleep(seconds(250)).await;
    for text in &texts {
        let gaps = gaps_of(&fixture, text);
        // All but the first become dead letters at their first rejection, and then it is one each second.
        let turns = if text == &texts[0] { &gaps[1..] } else { &gaps[..] };
        assert!((4..=6).contains(&turns.len()), "{text}: {gaps:?}");
        assert!(turns[1..].iter().all(|gap| (45.0..46.0).contains(gap)), "{text}: {gaps:?}");
    }
}

/// While another request fails, attempts at dead letters would only add to the load.
#[tokio::test(start_paused = true)]
async fn dead_letters_wait_while_other_requests_fail() {
    let start = now();
    let fixture = DeliveryFixture::judging(move |_, text| match (now() - start).as_secs() {
        _ if text.contains("poison") => 400,
        10..140 => 429,
        _ => 200,
    });
    fixture.push("\"poison\"");
    time::sleep(seconds(11)).await;
    let before = gaps_of(&fixture, "\"poison\"").len();
    fixture.push("1");
    time::sleep(seconds(128)).await;
    assert_eq!(gaps_of(&fixture, "\"poison\"").len(), before);
    time::sleep(seconds(110)).await;
    assert!(before + 1 < gaps_of(&fixture, "\"poison\"").len());
    assert_eq!(fixture.endpoint.queue.events(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_rejects_everything_gets_one_new_request_a_second() {
    let fixture = DeliveryFixture::new(|_| 400);
    for number in 0..200 {
        fixture.push(&number.to_string());
    }
    time::sleep(seconds(10)).await;
    let after_ten = fixture.endpoint.queue.dead_letters();
    assert!((36..=45).contains(&after_ten), "{after_ten}");
    time::sleep(seconds(20)).await;
    let after_thirty = fixture.endpoint.queue.dead_letters();
    assert!((17..=21).contains(&(after_thirty - after_ten)), "{after_thirty}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_once_after_four_seconds() {
    let fixture = DeliveryFixture::new(|_| 200);
    let idles = || fixture.idles.load(Ordering::Relaxed);
    fixture.push("1");
    time::sleep(Duration::from_millis(3_900)).await;
    assert_eq!(idles(), 0);
    time::sleep(Duration::from_millis(300)).await;
    assert_eq!(idles(), 1);
    time::sleep(seconds(60)).await;
    assert_eq!(idles(), 1);
    fixture.push("2");
    time::sleep(seconds(60)).await;
    assert_eq!((idles(), fixture.posted().0.len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn events_are_counted_one_by_one_and_requests_as_such() {
    let fixture = DeliveryFixture::judging(poisoned(422, true));
    fixture.endpoint.push(request("1,2,3", 3, now()));
    time::sleep(seconds(1)).await;
    fixture.endpoint.push(request("4,\"poison\"", 2, now()));
    time::sleep(seconds(10)).await;
    let stats = &fixture.endpoint.stats;
    assert_eq!((stats.sent.get(), stats.split.get()), (4, 1));
    // The two rejections of the whole, and one of the half.
    assert_eq!((stats.failed.get(), stats.retried.get()), (3, 1));
    let queue = &fixture.endpoint.queue;
    assert_eq!((queue.events(), queue.dead_letter_events(), queue.all_events()), (0, 1, 1));
}

/// Only the endpoint's response splits a request, and each half has the signature of its own body.
#[tokio::test(start_paused = true)]
async fn a_probe_and_the_halves_of_a_request_are_signed() {
    #[derive(Clone)]
    struct Verifier(Arc<Mutex<Vec<usize>>>);
    impl Post for Verifier {
        async fn post(&mut self, request: &WebhookRequest) -> Result<ClientResponse, HttpError> {
            let text = std::str::from_utf8(&request.body).unwrap();
            let signer = crate::signature::Signer::new(AppConfig::development().secret.expose());
            if text.contains("[]") || !text.contains("1,") {
                assert_eq!(request.signature, signer.sign(text));
            }
            self.0.lock().unwrap().push(request.events);
            let status = if request.events > 1 { 500 } else { 200 };
            Ok(ClientResponse {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                body: Bytes::new(),
                is_complete: true,
            })
        }

        fn on_idle(&mut self) {}
    }
    let webhook = WebhookConfig { url: "http://a.test".into(), ..WebhookConfig::default() };
    let endpoint = Endpoint::new(&AppConfig::development(), "a.test", &webhook).unwrap();
    let (endpoint, posted) = (Arc::new(endpoint), Arc::default());
    let posts = [Verifier(Arc::clone(&posted)), Verifier(Arc::clone(&posted))];
    let queue = Arc::clone(&endpoint.queue);
    let (_end, ends) = watch::channel(DeliveryPhase::Running);
    let task = tokio::spawn(EndpointDelivery::new(Arc::clone(&endpoint), queue, posts, ends).run());
    endpoint.push(request("1,2", 2, now()));
    time::sleep(seconds(20)).await;
    assert_eq!(*posted.lock().unwrap(), [2, 2, 2, 0, 2, 1, 1]);
    task.abort();
}
