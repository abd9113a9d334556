//! The notifications to systemd about the server's state, for units with `Type=notify`.

use std::time::Duration;

use tokio::net::UnixDatagram;

use kit::{Directory, Process, Server, Settings, within};

/// The socket that systemd names in `NOTIFY_SOCKET`.
struct Notifications(UnixDatagram);

impl Notifications {
    async fn next(&self) -> String {
        let mut bytes = [0; 1_024];
        let received = within("a notification", self.0.recv(&mut bytes)).await;
        let length = received.expect("the socket is open");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }
}

#[tokio::test]
async fn systemd_learns_when_the_server_listens_reloads_and_stops() {
    let directory = Directory::new();
    directory.write("config.toml", &Settings::new().toml());
    let path = directory.path().join("notify");
    let notifications = Notifications(UnixDatagram::bind(&path).expect("the path is free"));
    let socket = path.display().to_string();
    let arguments = ["start", "--host", "127.0.0.1", "--port", "0"];
    let process =
        Process::spawn_with(&arguments, directory.path(), &[("NOTIFY_SOCKET", socket.as_str())]);
    let mut server = Server::from_process(process, directory).await;
    assert_eq!(notifications.next().await, "READY=1\n");
    server.client().await;
    // A reload that is rejected ends as well.
    for file in [Settings::new().toml(), "nonsense".to_owned()] {
        server.directory.write("config.toml", &format!("{file}\n# the end\n"));
        server.signal("HUP");
        let begun = notifications.next().await;
        let (state, since) = begun.split_once('\n').expect("two lines");
        assert_eq!(state, "RELOADING=1");
        let since = since.trim_end().strip_prefix("MONOTONIC_USEC=").expect("the time");
        let since = Duration::from_micros(since.parse().expect("a number"));
        assert!(Duration::ZERO < since, "{since:?}");
        assert_eq!(notifications.next().await, "READY=1\n");
    }
    server.signal("TERM");
    assert_eq!(notifications.next().await, "STOPPING=1\n");
    assert_eq!(server.process.exit_code().await, Some(0));
}
