//! The passwords of the console.

use kit::{APP_ID, ConsoleSession, Settings, console_login, quoted};

use crate::Start as _;

fn with_password(password: &str) -> Settings {
    Settings::new().section("console", "password", quoted(password))
}

#[tokio::test]
pub(super) async fn another_password_ends_sessions() {
    let server = with_password("first password").start().await;
    let session = ConsoleSession::log_in(server.address, None, "first password").await;
    let mut page = session.page().await;
    let report = server.reload(&with_password("first password").server("path", quoted(""))).await;
    assert!(report.contains(" reloaded"), "{report}");
    assert_eq!(session.request("GET", "session", &[]).await.status, 200, "the same password");
    let report = server.reload(&with_password("other password")).await;
    assert!(report.contains("console.password") && !report.contains("other password"), "{report}");
    assert_eq!(session.request("GET", "session", &[]).await.status, 401);
    assert_eq!(page.closed().await, (1008, "the session has ended".to_owned()));
    assert_eq!(console_login(server.address, None, "first password").await.status, 401);
    ConsoleSession::log_in(server.address, None, "other password").await;
    server.reload(&Settings::new()).await;
    assert_eq!(session.request("GET", "session", &[]).await.status, 404, "it is off");
}

#[tokio::test]
pub(super) async fn the_file_of_the_password_is_read_again() {
    let server = Settings::new().start().await;
    let path = server.directory.path().join("password");
    let settings =
        Settings::new().section("console", "password_file", quoted(&path.display().to_string()));
    for (password, other) in
        [("first password", "second password"), ("second password", "first password")]
    {
        server.directory.write("password", &format!("{password}\n"));
        server.reload(&settings).await;
        assert_eq!(console_login(server.address, None, other).await.status, 401);
        assert_eq!(console_login(server.address, None, password).await.status, 200);
    }
}

#[tokio::test]
pub(super) async fn another_password_of_an_app_ends_its_sessions() {
    let with = |password| with_password("of the server").app("console_password", quoted(password));
    let server = with("first password").start().await;
    let of_server = ConsoleSession::log_in(server.address, None, "of the server").await;
    let of_app = ConsoleSession::log_in(server.address, Some(APP_ID), "first password").await;
    server.reload(&with("other password")).await;
    assert_eq!(of_app.request("GET", "session", &[]).await.status, 401);
    assert_eq!(of_server.request("GET", "session", &[]).await.status, 200);
    assert_eq!(console_login(server.address, Some(APP_ID), "first password").await.status, 401);
    ConsoleSession::log_in(server.address, Some(APP_ID), "other password").await;
}

#[tokio::test]
pub(super) async fn payloads_are_shown_from_the_next_session_on() {
    let server = with_password("the password").start().await;
    let session = ConsoleSession::log_in(server.address, None, "the password").await;
    assert_eq!(session.described["apps"][0]["payloads"], false);
    server.reload(&with_password("the password").app("console_payloads", true)).await;
    let session = ConsoleSession::log_in(server.address, None, "the password").await;
    assert_eq!(session.described["apps"][0]["payloads"], true);
}
