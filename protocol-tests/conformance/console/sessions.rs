//! Who gets a session, and what protects it.

use serde_json::json;

use kit::{
    APP_ID, ConsoleSession, Directory, ORIGIN, Process, Server, Settings, console_file,
    console_login, console_request, quoted,
};

use super::{PASSWORD, with_password};
use crate::Start as _;

#[tokio::test]
async fn without_a_password_there_is_no_console() {
    let server = Settings::new().start().await;
    for (method, path) in
        [("GET", ""), ("GET", "app.js"), ("GET", "session"), ("GET", "live"), ("POST", "login")]
    {
        let reply = console_request(server.address, "localhost", (method, path), &[], "").await;
        assert_eq!(reply.status, 404, "{path}: {reply}");
        assert!(reply.text().contains("The console is off"), "{path}: {reply}");
    }
}

#[tokio::test]
async fn the_page_and_its_files_are_served_with_a_strict_policy() {
    let server = with_password().start().await;
    let redirect = console_file(server.address, "/console", &[]).await;
    assert_eq!((redirect.status, redirect.header("location")), (308, Some("console/")));
    for (path, kind) in [
        ("/console/", "text/html; charset=utf-8"),
        ("/console/app.js", "text/javascript; charset=utf-8"),
        ("/console/app.css", "text/css; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
    ] {
        let plain = console_file(server.address, path, &[]).await;
        assert_eq!((plain.status, plain.header("content-type")), (200, Some(kind)), "{path}");
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.header("cache-control"), Some("no-cache"));
        assert_eq!(plain.header("x-content-type-options"), Some("nosniff"));
        let policy = plain.header("content-security-policy").expect("each response has one");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let gzip = [("accept-encoding", "br, gzip")];
        let compressed = console_file(server.address, path, &gzip).await;
        assert_eq!(compressed.header("content-encoding"), Some("gzip"));
        assert_eq!(compressed.body[..2], [0x1f, 0x8b]);
        let etag = plain.header("etag").expect("each file has one");
        for tag in [etag, &format!("\"x\", W/{etag}")] {
            let same = console_file(server.address, path, &[("if-none-match", tag)]).await;
            assert_eq!((same.status, same.body.len()), (304, 0), "{path}");
        }
    }
    assert_eq!(console_file(server.address, "/console/other.js", &[]).await.status, 404);
    for (method, path) in [("GET", "other/file"), ("POST", "session"), ("GET", "session")] {
        let reply = console_request(server.address, "a.test", (method, path), &[], "").await;
        assert!((400..500).contains(&reply.status), "{path}: {reply}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    let prefixed = with_password().server("path", quoted("/ws")).start().await;
    assert_eq!(console_file(prefixed.address, "/ws/console/", &[]).await.status, 200);
    assert_eq!(console_file(prefixed.address, "/console/", &[]).await.status, 404);
}

#[tokio::test]
async fn a_password_opens_a_session_whose_cookie_no_other_site_can_use() {
    let server = with_password().start().await;
    let none = console_request(server.address, "a.test", ("GET", "session"), &[], "").await;
    assert_eq!((none.status, none.header("set-cookie")), (401, None));
    let reply = console_login(server.address, None, PASSWORD).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let cookie = reply.header("set-cookie").expect("a session has one");
    let attributes: Vec<_> = cookie.split("; ").skip(1).collect();
    let expected = ["HttpOnly", "SameSite=Strict", "Max-Age=43200"];
    assert_eq!(attributes, expected, "without TLS; the path is that of the request");
    let headers = [("origin", "https://a.test"), ("content-type", "application/json")];
    let body = json!({"password": PASSWORD}).to_string();
    let secure = console_request(server.address, "a.test", ("POST", "login"), &headers, &body);
    let secure = secure.await;
    assert!(secure.header("set-cookie").unwrap().ends_with("; Secure"), "{secure}");
    let session = ConsoleSession::log_in(server.address, None, PASSWORD).await;
    assert_eq!(session.described["app"], json!(null));
    assert_eq!(session.described["development"], false);
    assert_eq!(session.described["apps"], json!([{"id": APP_ID, "name": null, "payloads": false}]));
    let again = session.request("GET", "session", &[]).await;
    assert_eq!(again.json(), session.described);
    assert!(!server.process.output().contains(PASSWORD));
    assert!(!server.process.output().contains(&session.csrf));
}

#[tokio::test]
async fn a_hashed_password_is_verified() {
    let long = "x".repeat(1_025);
    for other in ["", "7 chars", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ", &long, &long.repeat(9)] {
        let (status, _) = hash(other).await;
        assert_eq!(status, Some(2), "{other}");
    }
    let (_, hash) = hash(PASSWORD).await;
    assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
    let server = Settings::new().section("console", "password", quoted(&hash)).start().await;
    assert_eq!(console_login(server.address, None, "another").await.status, 401);
    assert_eq!(console_login(server.address, None, &hash).await.status, 401);
    assert_eq!(console_login(server.address, Some("unknown"), PASSWORD).await.status, 401);
    ConsoleSession::log_in(server.address, None, PASSWORD).await;
    assert!(!server.process.output().contains("argon2"));
}

/// The exit code of `campanile hash-password`, and the line that it prints.
async fn hash(password: &str) -> (Option<i32>, String) {
    let directory = Directory::new();
    let file = directory.write("password", &format!("{password}\n"));
    let mut command = tokio::process::Command::new(kit::program());
    command.arg("hash-password").stdin(std::fs::File::open(file).expect("it was written"));
    let output = command.output().await.expect("the program runs");
    let hash = String::from_utf8(output.stdout).expect("a hash is ASCII");
    (output.status.code(), hash.trim_end().to_owned())
}

#[tokio::test]
async fn a_log_in_needs_json_and_the_origin_of_the_server() {
    let server = with_password().start().await;
    let body = json!({"password": PASSWORD}).to_string();
    let json = ("content-type", "application/json");
    for (headers, status) in [
        (&[json][..], 403),
        (&[json, ("origin", "http://evil.test")], 403),
        (&[json, ("origin", "null")], 403),
        (&[json, ("origin", ORIGIN), ("origin", ORIGIN)], 403),
        (&[("origin", ORIGIN)], 415),
        (&[("origin", ORIGIN), ("content-type", "text/plain")], 415),
        (&[json, ("origin", ORIGIN)], 200),
    ] {
        let host = "campanile.test";
        let reply = console_request(server.address, host, ("POST", "login"), headers, &body).await;
        assert_eq!(reply.status, status, "{headers:?}: {reply}");
    }
    for body in ["", "[]", "{}", r#"{"password":1}"#] {
        let headers = [json, ("origin", ORIGIN)];
        let host = "campanile.test";
        let reply = console_request(server.address, host, ("POST", "login"), &headers, body).await;
        assert_eq!(reply.status, 400, "{body}: {reply}");
    }
}

#[tokio::test]
async fn attempts_to_log_in_are_limited() {
    let server = with_password().start().await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(console_login(server.address, None, "wrong password").await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429]);
    let reply = console_login(server.address, None, PASSWORD).await;
    assert_eq!(reply.status, 429, "also with the right password: {reply}");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_log_out_needs_the_token_against_forged_requests() {
    let server = with_password().start().await;
    let session = ConsoleSession::log_in(server.address, None, PASSWORD).await;
    let csrf = ("x-csrf-token", session.csrf.as_str());
    let origin = ("origin", ORIGIN);
    for (headers, status) in [
        (&[origin][..], 401),
        (&[origin, ("x-csrf-token", "x")], 401),
        (&[csrf], 403),
        (&[csrf, ("origin", "http://evil.test")], 403),
    ] {
        assert_eq!(session.request("POST", "logout", headers).await.status, status);
    }
    assert_eq!(session.request("GET", "session", &[]).await.status, 200);
    let ended = session.request("POST", "logout", &[origin, csrf]).await;
    assert_eq!(ended.status, 204);
    assert!(ended.header("set-cookie").unwrap().contains("campanile_console=; "), "{ended}");
    assert_eq!(session.request("GET", "session", &[]).await.status, 401);
}

#[tokio::test]
async fn the_websocket_needs_the_session_its_token_and_the_origin() {
    let server = with_password().start().await;
    let session = ConsoleSession::log_in(server.address, None, PASSWORD).await;
    for (origin, csrf, status) in [
        ("http://evil.test", session.csrf.as_str(), 403),
        (ORIGIN, "x", 401),
        (ORIGIN, &session.csrf[1..], 401),
    ] {
        let (reply, _) = session.handshake(origin, csrf).await;
        assert_eq!(reply.status, status, "{origin} {csrf}: {reply}");
    }
    let stranger = ConsoleSession { cookie: "campanile_console=x".to_owned(), ..session.clone() };
    let (reply, _) = stranger.handshake(ORIGIN, &session.csrf).await;
    assert_eq!(reply.status, 401, "{reply}");
    let (reply, _) = session.handshake(ORIGIN, &session.csrf).await;
    assert_eq!(reply.status, 101, "{reply}");
    let protocol = format!("campanile-console.{}", session.csrf);
    assert_eq!(reply.header("sec-websocket-protocol"), Some(protocol.as_str()));
    let plain = session.request("GET", "live", &[("origin", ORIGIN)]).await;
    assert_eq!(plain.status, 426, "{plain}");
}

#[tokio::test]
async fn a_password_of_an_app_shows_only_that_app() {
    let settings = with_password().app("console_password", quoted("of the app")).add_app(
        "4",
        "key-of-4",
        "secret-of-4-secret-of-4",
    );
    let server = settings.start().await;
    for (app, password) in [
        (Some(APP_ID), PASSWORD),
        (None, "of the app"),
        (Some("4"), "of the app"),
        (Some("4"), ""),
        (Some("5"), "of the app"),
    ] {
        let reply = console_login(server.address, app, password).await;
        assert_eq!(reply.status, 401, "{app:?} {password}: {reply}");
    }
    let session = ConsoleSession::log_in(server.address, Some(APP_ID), "of the app").await;
    assert_eq!(session.described["app"], APP_ID);
    assert_eq!(session.described["apps"].as_array().unwrap().len(), 1);
    let mut page = session.page().await;
    let (_, overview) = page.watch("overview", json!({})).await;
    assert_eq!(overview["apps"].as_array().unwrap().len(), 1);
    assert_eq!((&overview["nodes"], &overview["webhooks"]), (&json!(null), &json!(null)));
    let (watch, _) = page.watch("channels", json!({"app": APP_ID})).await;
    page.unwatch(watch).await;
    for app in ["4", "5"] {
        let error = page.try_watch("channels", json!({"app": app})).await.unwrap_err();
        assert_eq!(
            error,
            format!("no app has the id {app:?}"),
            "a session learns nothing of others"
        );
    }
}

/// A server with the development app, and nothing else.
async fn development() -> Server {
    let directory = Directory::new();
    let process = Process::spawn(&["start", "--port", "0"], directory.path());
    Server::from_process(process, directory).await
}

#[tokio::test]
async fn the_development_app_needs_no_password_on_this_machine() {
    let server = development().await;
    let session = ConsoleSession::open(server.address).await;
    assert_eq!(session.described["development"], true);
    assert_eq!(
        session.described["apps"][0],
        json!({"id": "app-id", "name": null, "payloads": true})
    );
    let (_, overview) = session.page().await.watch("overview", json!({})).await;
    assert_eq!(overview["nodes"][0]["ready"], true);
    for host in ["evil.test.example", "192.168.0.7:8080"] {
        for path in ["", "session", "live"] {
            let reply = console_request(server.address, host, ("GET", path), &[], "").await;
            assert_eq!(reply.status, 403, "{host} {path}: {reply}");
        }
    }
    let foreign = [("origin", "http://evil.example")];
    let reply =
        console_request(server.address, "localhost", ("GET", "session"), &foreign, "").await;
    assert_eq!((reply.status, reply.header("set-cookie")), (403, None), "{reply}");
    let (reply, _) = session.handshake("http://evil.example", &session.csrf).await;
    assert_eq!(reply.status, 403, "{reply}");
}

#[tokio::test]
async fn pages_are_bounded_and_sessions_take_no_memory() {
    let server = with_password().start().await;
    let first = ConsoleSession::log_in(server.address, None, PASSWORD).await;
    for _ in 0..20 {
        ConsoleSession::log_in(server.address, None, PASSWORD).await;
    }
    assert_eq!(first.request("GET", "session", &[]).await.status, 200);
    let mut pages = Vec::new();
    for _ in 0..8 {
        pages.push(first.page().await);
    }
    let (reply, _) = first.handshake(ORIGIN, &first.csrf).await;
    assert_eq!(reply.status, 503, "{reply}");
}

/// A user of one app's password cannot take all pages.
#[tokio::test]
async fn the_pages_of_an_app_leave_room_for_the_operator() {
    let settings = with_password().app("console_password", quoted("the password of the app"));
    let server = settings.start().await;
    let operator = ConsoleSession::log_in(server.address, None, PASSWORD).await;
    let password = "the password of the app";
    let app = ConsoleSession::log_in(server.address, Some(APP_ID), password).await;
    let mut pages = Vec::new();
    for _ in 0..4 {
        pages.push(app.page().await);
    }
    let (reply, _) = app.handshake(ORIGIN, &app.csrf).await;
    assert_eq!(reply.status, 503, "{reply}");
    operator.page().await.watch("overview", json!({})).await;
}

/// A token is signed with the password of its scope and, for an app, with the app's secret.
#[tokio::test]
async fn another_password_or_a_restart_ends_the_sessions() {
    let settings = with_password().app("console_password", quoted("the password of the app"));
    let server = settings.start().await;
    let operator = ConsoleSession::log_in(server.address, None, PASSWORD).await;
    let password = "the password of the app";
    let app = ConsoleSession::log_in(server.address, Some(APP_ID), password).await;
    let mut page = app.page().await;
    server.reload(&with_password().app("console_password", quoted("another password"))).await;
    assert_eq!(app.request("GET", "session", &[]).await.status, 401);
    assert_eq!(page.closed().await.0, 1008);
    assert_eq!(operator.request("GET", "session", &[]).await.status, 200);
    let again = settings.start().await;
    let elsewhere = ConsoleSession { address: again.address, ..operator };
    let reply = elsewhere.request("GET", "session", &[]).await;
    assert_eq!(reply.status, 401, "a node without others has sessions of its own: {reply}");
}

/// A log-in ends the session that the browser had; of several cookies of the name, the valid one counts.
#[tokio::test]
async fn one_browser_has_one_session_whatever_other_cookies_it_sends() {
    let server = with_password().start().await;
    let session = ConsoleSession::log_in(server.address, None, PASSWORD).await;
    let foreign = ConsoleSession {
        cookie: format!("campanile_console=x; {}", session.cookie),
        ..session.clone()
    };
    assert_eq!(foreign.request("GET", "session", &[]).await.status, 200);
    foreign.page().await.watch("overview", json!({})).await;
    let headers =
        [("origin", ORIGIN), ("content-type", "application/json"), ("cookie", &session.cookie)];
    let body = json!({"password": PASSWORD}).to_string();
    let again =
        console_request(server.address, "campanile.test", ("POST", "login"), &headers, &body);
    assert_eq!(again.await.status, 200);
    assert_eq!(session.request("GET", "session", &[]).await.status, 401);
}

#[tokio::test]
async fn a_right_password_refunds_only_its_own_attempt() {
    let settings = with_password().app("console_password", quoted("the password of the app"));
    let server = settings.start().await;
    let guess = async || console_login(server.address, None, "wrong").await.status;
    let mut guesses = Vec::new();
    for _ in 0..6 {
        guesses.push(guess().await);
        let of_app = console_login(server.address, Some(APP_ID), "the password of the app").await;
        assert_eq!(of_app.status, 200);
    }
    assert_eq!(guesses, [401, 401, 401, 401, 401, 429]);
}

/// A proxy may write the loopback address into `Host`, and other sites may send requests.
#[tokio::test]
async fn without_a_password_neither_proxies_nor_other_sites_get_a_session() {
    let server = development().await;
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-host", "localhost"),
        ("forwarded", "for=203.0.113.7"),
        ("via", "1.1 proxy"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let headers = [(name, value)];
        let request =
            console_request(server.address, "localhost", ("GET", "session"), &headers, "");
        let reply = request.await;
        assert_eq!((reply.status, reply.header("set-cookie")), (403, None), "{name}: {reply}");
    }
    for site in ["same-origin", "none"] {
        let headers = [("sec-fetch-site", site)];
        let request =
            console_request(server.address, "localhost", ("GET", "session"), &headers, "");
        assert_eq!(request.await.status, 200, "{site}");
    }
}

/// With apps in a database others than the development app are served.
#[tokio::test]
async fn beside_a_database_of_apps_the_development_app_needs_a_password() {
    let directory = Directory::new();
    directory.write("config.toml", "[apps_from]\nurl = \"sqlite://apps.db\"\n[[apps]]\nid = \"app-id\"\nkey = \"app-key\"\nsecret = \"app-secret\"\n");
    let process =
        Process::spawn(&["start", "--host", "127.0.0.1", "--port", "0"], directory.path());
    let server = Server::from_process(process, directory).await;
    let request = console_request(server.address, "localhost", ("GET", "session"), &[], "");
    assert_eq!(request.await.status, 404);
    let metrics = kit::Http::plain(server.address, "GET", "/metrics", &[]).await;
    assert_eq!(metrics.status, 404, "{metrics}");
}

#[tokio::test]
async fn a_guessable_password_is_rejected_where_others_can_reach_the_server() {
    for (password, why) in [
        ("changeme", "is a published placeholder"),
        ("<the password>", "is a published placeholder"),
        ("        ", "is white space only"),
    ] {
        let directory = Directory::new();
        let config = with_password().section("console", "password", quoted(password));
        directory.write("config.toml", &config.toml());
        let mut process = Process::spawn(&["check", "--host", "0.0.0.0"], directory.path());
        assert_eq!(process.exit_code().await, Some(2), "{}", process.output());
        let error = format!("console.password: {why}: choose another, or listen on 127.0.0.1");
        assert!(process.output().contains(&error), "{}", process.output());
    }
}
