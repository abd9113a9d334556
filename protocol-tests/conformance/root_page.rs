//! `GET /`: a page for browsers; nothing, or the health of the process, for programs.

use kit::{Directory, Http, KEY, Process, RawHttp, Reply, Server, Settings, quoted};

use crate::Start as _;

const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Reply {
    Http::plain(server.address, "GET", path, headers).await
}

/// The page, requested by a browser under this `Host`.
async fn get_as(server: &Server, host: &str) -> Reply {
    let mut http = RawHttp::connect(server.address).await;
    http.write(format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n")).await;
    http.reply().await
}

#[tokio::test]
async fn a_browser_gets_a_page_that_discloses_nothing_of_an_own_app() {
    let server = Settings::new().start().await;
    let page = get(&server, "/", &[HTML]).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let text = page.text();
    assert!(text.contains("Pusher Channels") && text.contains("It is ready."), "{text}");
    for hidden in [KEY, env!("CARGO_PKG_VERSION"), "console", "<pre", "127.0.0.1"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("vary"), Some("accept"));
}

#[tokio::test]
async fn with_the_development_app_the_page_shows_how_to_connect() {
    let server = Settings::without_apps().start().await;
    let port = server.address.port();
    for (host, shown) in [
        (format!("localhost:{port}"), format!("wsHost: &#39;localhost&#39;,\n    wsPort: {port},")),
        ("localhost".to_owned(), "wsHost: &#39;localhost&#39;,\n    wsPort: 80,".to_owned()),
        (format!("[::1]:{port}"), format!("wsHost: &#39;[::1]&#39;,\n    wsPort: {port},")),
    ] {
        let page = get_as(&server, &host).await;
        assert!(page.text().contains(&shown), "{host}: {page}");
        assert!(page.text().contains("key: &#39;app-key&#39;"), "{page}");
        assert!(!page.text().contains("app-secret"), "{page}");
    }
    assert_eq!(get_as(&server, "evil.example").await.status, 403);
}

#[tokio::test]
async fn programs_get_nothing_there_unless_it_is_a_health_check() {
    let server = Settings::new().start().await;
    for accept in ["*/*", "application/json"] {
        let reply = get(&server, "/", &[("accept", accept)]).await;
        assert_eq!(reply.status, 404);
        assert!(reply.text().contains("the API is under /apps/APP_ID/"), "{reply}");
    }
    assert_eq!(Http::plain(server.address, "POST", "/", &[HTML]).await.status, 405);
}

#[tokio::test]
pub(crate) async fn health_at_root_applies_at_once() {
    let server = Settings::new().start().await;
    assert_eq!(get(&server, "/", &[]).await.status, 404);
    server.reload(&Settings::new().server("health_at_root", true)).await;
    let reply = get(&server, "/", &[]).await;
    assert_eq!((reply.status, reply.text()), (200, r#"{"health":"OK"}"#));
    let page = get(&server, "/", &[HTML]).await;
    assert!(page.text().contains("It is ready."), "{page}");
}

#[tokio::test]
async fn the_page_is_under_the_prefix_of_all_routes() {
    let settings = Settings::new().server("path", quoted("/ws")).server("health_at_root", true);
    let server = settings.start().await;
    for (path, status) in [("/ws", 200), ("/ws/", 200), ("/", 404), ("/wsx", 404), ("/ws//", 404)] {
        assert_eq!(get(&server, path, &[]).await.status, status, "{path}");
    }
}

/// soketi's health checks, and those of its charts, ask for `/`.
#[tokio::test]
async fn a_configuration_of_soketi_answers_health_checks() {
    let directory = Directory::new();
    directory.write(".env", "SOKETI_DEFAULT_APP_SECRET=a-secret-of-soketi\nSOKETI_PORT=0\n");
    let process =
        Process::spawn(&["start", "--host", "127.0.0.1", "--port", "0"], directory.path());
    let server = Server::from_process(process, directory).await;
    assert_eq!(get(&server, "/", &[("user-agent", "kube-probe/1.30")]).await.status, 200);
}
