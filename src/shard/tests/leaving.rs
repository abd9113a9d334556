//! The effects of a disconnect: the user's presence, pending announcements, and the freed slot.

use super::*;
use crate::{
    channel::OFFLINE_GRACE,
    hub::Delivery,
    protocol::SubscriptionRejection,
    shard::{
        admitted::{SubscriptionHandle, SubscriptionState},
        connection::CLOSING_TIMEOUT,
        socket::tests::{TlsClient, handshake},
    },
    signature::{channel_string_to_sign, user_string_to_sign},
};

/// Encodes a text message of at least 126 bytes as sent by a client, with a mask of zeros.
fn long_message(text: &str) -> Vec<u8> {
    let [high, low] = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[0x81, 0xfe, high, low, 0, 0, 0, 0], text.as_bytes()].concat()
}

impl ShardFixture {
    fn sign(&self, text: &str) -> String {
        let app = self.node.hub("app-id").unwrap().app();
        format!("app-key:{}", app.signer.sign(text))
    }

    fn socket_id(&self, client: &TcpStream) -> SocketId {
        let Phase::Open(client) = &self.connection_of(client).phase else { panic!("it is open") };
        client.session.socket_id()
    }

    fn sign_in(&mut self, user: &str, watchlist: &[&str]) -> TcpStream {
        let client = self.connect(b"");
        self.run_until_idle();
        let user_data = serde_json::json!({"id": user, "watchlist": watchlist}).to_string();
        let auth = self.sign(&user_string_to_sign(self.socket_id(&client), &user_data));
        let data = serde_json::json!({"auth": auth, "user_data": user_data});
        let text = serde_json::json!({"event": "pusher:signin", "data": data}).to_string();
        self.send(&client, &long_message(&text));
        self.receive(&client, |frames| {
            frames.iter().any(|it| is_event(it, "pusher:signin_success"))
        });
        client
    }

    fn join(&mut self, client: &TcpStream, channel: &str, channel_data: &str) {
        let text = channel_string_to_sign(self.socket_id(client), channel, Some(channel_data));
        let auth = self.sign(&text);
        let data =
            serde_json::json!({"auth": auth, "channel": channel, "channel_data": channel_data});
        let text = serde_json::json!({"event": "pusher:subscribe", "data": data}).to_string();
        self.send(client, &long_message(&text));
        let succeeded = "pusher_internal:subscription_succeeded";
        self.receive(client, |frames| frames.iter().any(|frame| is_event(frame, succeeded)));
    }

    fn push(&mut self, delivery: Delivery) {
        self.node.inboxes().inbox(ShardIndex::new(0)).push(delivery);
        self.run_until_idle();
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_connection_ends_is_offline() {
    let ends: [fn(&mut ShardFixture, TcpStream); 3] = [
        |_, client| drop(client),
        |fixture, client| {
            fixture.send(&client, &control(CLOSE));
            fixture.run_until_idle();
        },
        |fixture, client| {
            let slot = fixture.connection_of(&client).key.slot;
            fixture.shard.close(slot, &CloseCode::SlowConsumer);
        },
    ];
    for (way, end) in ends.into_iter().enumerate() {
        let mut fixture = ShardFixture::new();
        let watcher = fixture.sign_in("w", &["u"]);
        let (one, other) = (fixture.sign_in("u", &[]), fixture.sign_in("u", &[]));
        let told = |frames: &Frames, what: &str| {
            frames.iter().any(|(_, payload)| {
                let text = String::from_utf8_lossy(payload);
                text.contains("watchlist_events") && text.contains(what)
            })
        };
        fixture.receive(&watcher, |frames| told(frames, "online"));
        drop(other);
        while fixture.shard.connections.len() == 3 {
            fixture.run_until_idle();
        }
        let grace = async |fixture: &mut ShardFixture| {
            tokio::time::advance(OFFLINE_GRACE).await;
            fixture.node.on_tick(clock::now());
            fixture.run_until_idle();
        };
        grace(&mut fixture).await;
        assert!(!told(&read_frames(&watcher), "offline"), "the user still has a connection");
        end(&mut fixture, one);
        while fixture.shard.connections.len() == 2
            && fixture.shard.connections.iter().all(|(_, connection)| connection.is_open())
        {
            fixture.run_until_idle();
        }
        grace(&mut fixture).await;
        assert!(told(&read_frames(&watcher), "offline"), "way {way}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_joining_client_is_charged_for_its_announcement_to_all_members() {
    // Half of the outbox limit may be sent at once: 50 KB.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut fixture = ShardFixture::build(listener, MAX_OUTBOX_BYTES, |config| {
        config.connection.activity_timeout_s = 3_600;
        config.connection.max_outbox_bytes = MAX_OUTBOX_BYTES;
    });
    // One user with many connections, so that the list of members is short.
    let info = "x".repeat(700);
    let present: Vec<TcpStream> = (0..100).map(|_| fixture.connect(b"")).collect();
    fixture.run_until_idle();
    let user = |id: &str| serde_json::json!({"user_id": id, "user_info": {"x": info}}).to_string();
    let is_throttled = |fixture: &ShardFixture, client: &TcpStream| {
        fixture.connection_of(client).is_throttled(clock::now())
    };
    for client in &present {
        fixture.join(client, "presence-c", &user("1"));
        assert!(!is_throttled(&fixture, client), "a present user is not announced again");
    }
    let joins = fixture.connect(b"");
    fixture.run_until_idle();
    fixture.join(&joins, "presence-empty", &user("2"));
    assert!(!is_throttled(&fixture, &joins), "the channel has no other member");
    fixture.join(&joins, "presence-c", &user("2"));
    assert!(is_throttled(&fixture, &joins), "the announcement is sent a hundred times");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!is_throttled(&fixture, &joins));
}

#[tokio::test(start_paused = true)]
async fn deliveries_for_a_closed_connection_are_not_sent_to_the_next_in_its_slot() {
    let mut fixture = ShardFixture::new();
    let before = fixture.connect(b"");
    fixture.run_until_idle();
    let old = fixture.connection_of(&before).key;
    drop(before);
    while !fixture.shard.connections.is_empty() {
        fixture.run_until_idle();
    }
    let after = fixture.subscribers(1, "c").remove(0);
    let new = fixture.connection_of(&after).key;
    assert!(new.slot == old.slot && new.generation != old.generation);
    let name = ChannelName::parse("c", 200).unwrap();
    let rejection = || Err(SubscriptionRejection::RosterFull { max: 1 });
    for ticket in 0..10 {
        fixture.push(Delivery::Subscription {
            key: old,
            ticket,
            name: name.clone(),
            result: rejection(),
        });
    }
    fixture.push(Delivery::Connections { keys: vec![old], frame: text_frame() });
    fixture.push(Delivery::Close { keys: vec![old], code: CloseCode::Terminated });
    assert!(read_frames(&after).is_empty() && fixture.connection_of(&after).is_open());
    fixture.push(Delivery::Connections { keys: vec![old, new], frame: text_frame() });
    fixture.receive(&after, |frames| frames.len() == 1);
    fixture.push(Delivery::Close { keys: vec![old, new], code: CloseCode::Terminated });
    assert_eq!(fixture.receive_close_code(&after), CloseCode::Terminated.number());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_completed_by_the_result_with_its_ticket_only() {
    let mut fixture = ShardFixture::new();
    let client = fixture.connect(b"");
    fixture.run_until_idle();
    read_frames(&client);
    let key = fixture.connection_of(&client).key;
    let [waiting, other] = ["c", "d"].map(|name| ChannelName::parse(name, 200).unwrap());
    let pending = SubscriptionHandle(SubscriptionState::Pending { ticket: 7 });
    let admitted = fixture.shard.client(key.slot).unwrap();
    admitted.session.add_subscription(waiting.clone(), None, pending);
    let result_of = |ticket, name: &ChannelName| {
        let result = Err(SubscriptionRejection::RosterFull { max: 1 });
        Delivery::Subscription { key, ticket, name: name.clone(), result }
    };
    fixture.push(result_of(6, &waiting));
    fixture.push(result_of(8, &waiting));
    fixture.push(result_of(7, &other));
    assert!(read_frames(&client).is_empty(), "these tickets are not pending");
    fixture.push(result_of(7, &waiting));
    fixture.receive(&client, |frames| {
        frames.iter().any(|frame| is_event(frame, "pusher:subscription_error"))
    });
    fixture.push(result_of(7, &waiting));
    assert!(read_frames(&client).is_empty(), "there is one response");
    let session = &mut fixture.shard.client(key.slot).unwrap().session;
    assert!(session.take_subscriptions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_latency_of_an_event_is_measured_from_its_acceptance() {
    let mut fixture = ShardFixture::new();
    let _clients = fixture.subscribers(3, "c");
    // The number of samples, and their sum in milliseconds.
    let latency = |fixture: &ShardFixture| {
        let page = fixture.node.metrics_page();
        let value = |name: &str| {
            let line = page.lines().find_map(|line| {
                line.strip_prefix("campanile_delivery_latency_seconds_")?.strip_prefix(name)
            });
            line.unwrap().trim().to_owned()
        };
        let seconds: f64 = value("sum").parse().unwrap();
        (value("count"), Duration::from_secs_f64(seconds).as_millis())
    };
    let of = |samples: &str, ms: u128| (samples.to_owned(), ms);
    assert_eq!(latency(&fixture), of("0", 0), "responses are not counted");
    fixture.publish("c", "1");
    tokio::time::advance(Duration::from_millis(40)).await;
    // The latency ends with the slice that writes the event.
    fixture.run_until_idle();
    assert_eq!(latency(&fixture), of("3", 3 * 40));
    // If one write contains several events, the oldest counts.
    fixture.publish("c", "2");
    tokio::time::advance(Duration::from_millis(100)).await;
    fixture.publish("c", "3");
    fixture.run_until_idle();
    assert_eq!(latency(&fixture), of("6", 3 * 40 + 3 * 100));
}

impl ShardFixture {
    fn connect_with_tls(&mut self) -> TlsClient {
        let (socket, tls, client) = handshake();
        let admitted = self.admit(client.sock.local_addr().unwrap());
        let (received, response) = (Vec::new(), Vec::new());
        let (tls, permit) = (Some(tls), Quota::new(0).try_acquire().unwrap());
        let drain = self.shutdown.guard();
        let upgraded =
            UpgradedSocket { socket, tls, response, received, client: admitted, permit, drain };
        self.add_connection.send(upgraded).unwrap();
        self.run_until_idle();
        client
    }
}

#[tokio::test(start_paused = true)]
async fn a_tls_connection_ends_with_a_close_notify_however_it_ends() {
    for way in 0..4 {
        let mut fixture = ShardFixture::new();
        let mut client = fixture.connect_with_tls();
        match way {
            0 => client.write_all(&control(CLOSE)).unwrap(),
            1 => client.write_all(&[0x81, 0x01, b'x']).unwrap(),
            2 => client.conn.send_close_notify(),
            _ => {
                fixture.shard.close(0, &CloseCode::SlowConsumer);
                fixture.advance(CLOSING_TIMEOUT + Duration::from_millis(100)).await;
                assert!(fixture.shard.connections.is_empty());
            }
        }
        client.flush().unwrap();
        let deadline = Instant::now() + TEST_TIMEOUT;
        while fixture.shard.connections.iter().any(|(_, connection)| connection.is_open()) {
            assert!(Instant::now() < deadline, "way {way}: nothing ends");
            fixture.run_until_idle();
        }
        // A cut without close_notify would be an error.
        client.read_to_end(&mut Vec::new()).expect("close_notify");
    }
}
