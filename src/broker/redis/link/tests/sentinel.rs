use super::{
    connect, endpoint,
    fake::{Fake, bulk},
    next, receives_nothing,
};
use crate::broker::redis::link::{LinkEvent, sentinel::POLL_INTERVAL};

const GET: &str = "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster";

/// Sets the master that a Sentinel reports.
fn name(sentinel: &Fake, port: u16) {
    let reply = format!("*2\r\n{}{}", bulk("127.0.0.1"), bulk(&port.to_string()));
    sentinel.reply(move |line| (line == GET).then(|| reply.clone()));
}

struct WatchedMaster {
    master: Fake,
    other: Fake,
    sentinels: [Fake; 3],
}

impl WatchedMaster {
    async fn start() -> Self {
        let sentinels = [Fake::start().await, Fake::start().await, Fake::start().await];
        let watched = Self { master: Fake::start().await, other: Fake::start().await, sentinels };
        for sentinel in &watched.sentinels {
            name(sentinel, watched.master.port);
        }
        watched
    }

    fn url(&self, user: &str, query: &str) -> String {
        let hosts = self.sentinels.each_ref().map(|it| format!("127.0.0.1:{}", it.port)).join(",");
        format!("redis+sentinel://{user}{hosts}/mymaster{query}")
    }
}

#[tokio::test]
async fn the_link_ends_when_the_sentinels_report_another_master_while_the_old_one_runs() {
    let watched = WatchedMaster::start().await;
    let (_connection, mut events) = connect(&watched.url("", "")).await.unwrap();
    receives_nothing(&mut events, 2 * POLL_INTERVAL).await;
    // One of three Sentinels is not a majority.
    name(&watched.sentinels[0], watched.other.port);
    receives_nothing(&mut events, 3 * POLL_INTERVAL).await;
    name(&watched.sentinels[1], watched.other.port);
    assert_eq!(next(&mut events).await, LinkEvent::Lost("Sentinel reports another master"));
    // The next link leads to the new master.
    let (connection, _pushes) = connect(&watched.url("", "")).await.unwrap();
    connection.load(&["a"]).await.unwrap();
    assert_eq!((watched.master.seen("SCRIPT"), watched.other.seen("SCRIPT")), (0, 1));
}

#[tokio::test]
async fn sentinels_that_do_not_reply_change_nothing() {
    let mut watched = WatchedMaster::start().await;
    watched.sentinels[0].stop().await;
    let (_connection, mut events) = connect(&watched.url("", "")).await.unwrap();
    watched.sentinels[1].stop().await;
    watched.sentinels[2].reply(|line| (line == GET).then(|| "*-1\r\n".to_owned()));
    receives_nothing(&mut events, 3 * POLL_INTERVAL).await;
    let error = connect(&watched.url("", "")).await.unwrap_err();
    assert!(error.to_string().contains("mymaster") || error.is_connection_refusal(), "{error}");
}

#[tokio::test]
async fn sentinels_and_redis_have_their_own_passwords() {
    let watched = WatchedMaster::start().await;
    let url = watched.url(":of-redis@", "?sentinel_password=of-sentinel");
    let (_connection, _pushes) = endpoint(&url).connect().await.unwrap();
    assert_eq!(watched.master.seen("HELLO 3 AUTH default of-redis"), 2);
    assert!(watched.sentinels.iter().any(|it| it.seen("AUTH of-sentinel") == 1));
    assert_eq!(watched.sentinels.iter().map(|it| it.seen("HELLO")).sum::<usize>(), 0);
}
