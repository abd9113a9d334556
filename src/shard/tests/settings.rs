//! Which reloaded settings apply to a running shard.

use super::*;
use crate::shard::wheel::Wheel;

impl ShardFixture {
    fn reload(&mut self, change: impl FnOnce(&mut ShardConfig)) {
        let mut config = **self.settings.load();
        change(&mut config);
        self.settings.store(Arc::new(config));
        self.run_until_idle();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_the_maximum_message() {
    let mut fixture = ShardFixture::new();
    let clients: Vec<TcpStream> = (0..3).map(|_| fixture.connect(b"")).collect();
    fixture.run_until_idle();
    let ping = message(&format!("{:100}", r#"{"event":"pusher:ping"}"#));
    fixture.reload(|config| config.max_message_bytes = 100);
    fixture.send(&clients[0], &ping);
    fixture
        .receive(&clients[0], |frames| frames.iter().any(|frame| is_event(frame, "pusher:pong")));
    fixture.reload(|config| config.max_message_bytes = 99);
    fixture.send(&clients[1], &ping);
    let frames =
        fixture.receive(&clients[1], |frames| frames.iter().any(|it| close_code(it).is_some()));
    let (_, reason) = frames.last().unwrap();
    let reason = String::from_utf8_lossy(&reason[2..]).into_owned();
    assert!(reason.contains("99"), "the reason contains the new limit: {reason}");
    fixture.reload(|config| config.max_message_bytes = 1_000);
    fixture.send(&clients[2], &ping);
    fixture
        .receive(&clients[2], |frames| frames.iter().any(|frame| is_event(frame, "pusher:pong")));
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_the_maximum_outbox() {
    for (max, is_open) in [(40_000, false), (MAX_OUTBOX_BYTES, true), (200_000, true)] {
        let mut fixture = ShardFixture::new();
        let client = fixture.connect(b"");
        fixture.run_until_idle();
        let slot = fixture.connection_of(&client).key.slot;
        fixture.shard.connections[slot as usize].is_blocked = true;
        fixture.reload(|config| config.max_outbox_bytes = max);
        fixture.shard.send(slot, Frame::raw(vec![0; max.min(50_000)]));
        assert!(fixture.connection_of(&client).is_open(), "a message within the limit is kept");
        fixture.shard.send(slot, Frame::raw(vec![0]));
        assert_eq!(fixture.connection_of(&client).is_open(), is_open, "{max}");
        let room = max.saturating_sub(fixture.connection_of(&client).outbox.bytes());
        fixture.shard.send(slot, Frame::raw(vec![0; room]));
        assert_eq!(fixture.connection_of(&client).is_open(), is_open, "{max}");
        fixture.shard.send(slot, Frame::raw(vec![0]));
        assert!(!fixture.connection_of(&client).is_open(), "{max}: one byte more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_the_message_timeout() {
    for seconds in [3, 25] {
        let mut fixture = ShardFixture::new();
        let client = fixture.connect(b"");
        fixture.run_until_idle();
        let timeout = Duration::from_secs(seconds);
        fixture.reload(|config| config.message_timeout = timeout);
        fixture.send(&client, &message("begun")[..3]);
        fixture.advance(timeout - Duration::from_millis(1)).await;
        assert!(fixture.connection_of(&client).is_open(), "{timeout:?}");
        fixture.advance(Wheel::STEP + Duration::from_millis(1)).await;
        assert_eq!(fixture.receive_close_code(&client), 4100, "{timeout:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_the_grace_period() {
    // Without a reload, the grace period is one second.
    for seconds in [0, 3, 5] {
        let mut fixture = ShardFixture::new();
        let _silent: Vec<TcpStream> = (0..2).map(|_| fixture.connect(b"")).collect();
        fixture.run_until_idle();
        fixture.reload(|config| config.shutdown_grace = Duration::from_secs(seconds));
        fixture.shutdown.start();
        fixture.shutdown.set_mode(DrainMode::Staggered);
        if 0 < seconds {
            // Connections are dropped after 90 % of the grace period.
            fixture.advance(Duration::from_millis(seconds * 900 - 1)).await;
            assert_eq!(fixture.shard.connections.len(), 2, "{seconds} s");
        }
        fixture.advance(Duration::from_millis(1)).await;
        assert!(fixture.shard.connections.is_empty(), "{seconds} s");
    }
}
