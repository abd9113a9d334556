//! Which reloaded settings apply to a running shard.

use super::*;
use crate::shard::wheel::Wheel;

impl Bench {
    fn reload(&mut self, change: impl FnOnce(&mut ShardConfig)) {
        let mut config = **self.settings.load();
        change(&mut config);
        self.settings.store(Arc::new(config));
        self.settle();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_the_maximum_message() {
    let mut bench = Bench::new();
    let clients: Vec<TcpStream> = (0..3).map(|_| bench.connect(b"")).collect();
    bench.settle();
    let ping = message(&format!("{:100}", r#"{"event":"pusher:ping"}"#));
    bench.reload(|config| config.max_message_bytes = 100);
    bench.send(&clients[0], &ping);
    bench.receive(&clients[0], |frames| frames.iter().any(|frame| is_event(frame, "pusher:pong")));
    bench.reload(|config| config.max_message_bytes = 99);
    bench.send(&clients[1], &ping);
    let frames =
        bench.receive(&clients[1], |frames| frames.iter().any(|it| close_code(it).is_some()));
    let (_, reason) = frames.last().unwrap();
    let reason = String::from_utf8_lossy(&reason[2..]).into_owned();
    assert!(reason.contains("99"), "the reason contains the new limit: {reason}");
    bench.reload(|config| config.max_message_bytes = 1_000);
    bench.send(&clients[2], &ping);
    bench.receive(&clients[2], |frames| frames.iter().any(|frame| is_event(frame, "pusher:pong")));
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_the_maximum_outbox() {
    for (max, is_open) in [(40_000, false), (MAX_OUTBOX_BYTES, true), (200_000, true)] {
        let mut bench = Bench::new();
        let client = bench.connect(b"");
        bench.settle();
        let slot = bench.connection_of(&client).key.slot;
        bench.shard.connections[slot as usize].is_blocked = true;
        bench.reload(|config| config.max_outbox_bytes = max);
        bench.shard.send(slot, Frame::raw(vec![0; max.min(50_000)]));
        assert!(bench.connection_of(&client).is_open(), "a message within the limit is kept");
        bench.shard.send(slot, Frame::raw(vec![0]));
        assert_eq!(bench.connection_of(&client).is_open(), is_open, "{max}");
        let room = max.saturating_sub(bench.connection_of(&client).outbox.bytes());
        bench.shard.send(slot, Frame::raw(vec![0; room]));
        assert_eq!(bench.connection_of(&client).is_open(), is_open, "{max}");
        bench.shard.send(slot, Frame::raw(vec![0]));
        assert!(!bench.connection_of(&client).is_open(), "{max}: one byte more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_the_message_timeout() {
    for seconds in [3, 25] {
        let mut bench = Bench::new();
        let client = bench.connect(b"");
        bench.settle();
        let timeout = Duration::from_secs(seconds);
        bench.reload(|config| config.message_timeout = timeout);
        bench.send(&client, &message("begun")[..3]);
        bench.pass(timeout - Duration::from_millis(1)).await;
        assert!(bench.connection_of(&client).is_open(), "{timeout:?}");
        bench.pass(Wheel::STEP + Duration::from_millis(1)).await;
        assert_eq!(bench.receive_close_code(&client), 4100, "{timeout:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_the_grace_period() {
    // Without a reload, the grace period is one second.
    for seconds in [0, 3, 5] {
        let mut bench = Bench::new();
        let _silent: Vec<TcpStream> = (0..2).map(|_| bench.connect(b"")).collect();
        bench.settle();
        bench.reload(|config| config.shutdown_grace = Duration::from_secs(seconds));
        bench.shutdown.start();
        bench.shutdown.set_mode(DrainMode::Staggered);
        if 0 < seconds {
            // Connections are dropped after 90 % of the grace period.
            bench.pass(Duration::from_millis(seconds * 900 - 1)).await;
            assert_eq!(bench.shard.connections.len(), 2, "{seconds} s");
        }
        bench.pass(Duration::from_millis(1)).await;
        assert!(bench.shard.connections.is_empty(), "{seconds} s");
    }
}
