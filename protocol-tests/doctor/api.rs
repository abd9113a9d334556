//! Causes between the application and the server, and between nodes.

use kit::{Directory, Redis, Settings, clock_library, cluster_settings, node, quoted};

use crate::support::frames::{Pings, frame_proxy};
use crate::support::proxies::Proxy;
use crate::way::{WAY, nginx, nginx_with, seen, snippet};
use crate::{at, changes, doctor, doctor_with, laravel, laravel_env, served};

const CLIENTS: &str = "location /app/ { include campanile.conf; }";

#[tokio::test]
async fn api_route_missing() {
    let (server, directory) = served(&Settings::new()).await;
    for (answer, said) in [("404", "404 by nginx"), ("405", "405 by nginx")] {
        let locations = format!("{CLIENTS}\nlocation / {{ return {answer}; }}");
        let proxy = nginx_with(&server, &locations, &[], None);
        let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
        let finding = diagnosis.only("api_route_missing");
        assert!(seen(finding).contains(said), "{finding:#}");
        assert!(snippet(finding).contains("^/apps?/"), "{finding:#}");
        assert_eq!(diagnosis.link("ping")["state"], "ok");
        let why = "not tried, because of api_route_missing";
        assert_eq!(diagnosis.link("delivery")["text"], why);
    }
}

#[tokio::test]
async fn api_redirected() {
    let server = Settings::new().start_node().await;
    let locations =
        format!("{CLIENTS}\nlocation /apps/ {{ return 301 https://ws.example.com$request_uri; }}");
    let proxy = nginx_with(&server, &locations, &[], None);
    let env =
        laravel_env(&server).replace(&server.address.port().to_string(), &proxy.port.to_string());
    let directory = laravel(&env);
    let diagnosis = doctor(&directory, &["--server", &server.url()]).await;
    let finding = diagnosis.only("api_redirected");
    assert!(seen(finding).ends_with("to https://ws.example.com/apps/3/events"), "{finding:#}");
    assert_eq!(changes(finding), [".env:8 REVERB_SCHEME=https", ".env:7 REVERB_PORT=443"]);
}

#[tokio::test]
async fn publish_through_cdn() {
    let server = Settings::new().start_node().await;
    let locations = format!(
        "{CLIENTS}\nadd_header cf-ray 8f2a always; default_type text/html;\n\
         location /apps/ {{ return 403 '<title>Just a moment...</title>'; }}"
    );
    let proxy = nginx_with(&server, &locations, &[], None);
    let env =
        laravel_env(&server).replace(&server.address.port().to_string(), &proxy.port.to_string());
    let directory = laravel(&env);
    let diagnosis = doctor(&directory, &["--server", &server.url()]).await;
    let finding = diagnosis.only("publish_through_cdn");
    assert!(seen(finding).contains("403 by Cloudflare: Just a moment..."), "{finding:#}");
    assert_eq!(changes(finding)[1], format!(".env:7 REVERB_PORT={}", server.address.port()));
}

/// Cloudflare adds its header to every response, also to those of the server.
#[tokio::test]
async fn not_all_answers_of_a_cdn_are_its_own() {
    let (server, directory) = served(&Settings::new()).await;
    let ray = "add_header cf-ray 8f2a always; default_type text/html;";
    let challenge = "return 403 '<title>Just a moment...</title>';";
    for (locations, cause) in [
        (format!("{CLIENTS}\nlocation / {{ return 404; }}"), "api_route_missing"),
        (format!("{CLIENTS}\nlocation / {{ return 403; }}"), "api_unavailable"),
        (format!("{CLIENTS}\nlocation / {{ return 525; }}"), "proxy_upstream_down"),
        ("location / { return 521; }".to_owned(), "proxy_upstream_down"),
        (format!("location / {{ {challenge} }}"), "handshake_rejected"),
    ] {
        let proxy = nginx_with(&server, &format!("{ray}\n{locations}"), &[], None);
        doctor(&directory, &["--ws", &proxy.url()]).await.only(cause);
    }
}

/// What an ordinary site does with requests that it does not know, or not in this form.
#[tokio::test]
async fn proxies_that_reject_or_change_publishes() {
    let (server, directory) = served(&Settings::new()).await;
    let pass = "include campanile.conf;";
    let zone = "limit_req_zone $server_port zone=one:1m rate=1r/m;";
    for (http, api, cause, said) in [
        (
            "",
            "proxy_pass http://campanile$uri; proxy_http_version 1.1;",
            "request_changed",
            "The query",
        ),
        ("", &format!("proxy_method PUT; {pass}") as &str, "request_changed", "The method"),
        (
            "",
            &format!("limit_except GET {{ deny all; }} {pass}"),
            "api_unavailable",
            "403 by nginx",
        ),
        ("", "return 444;", "api_unavailable", "not answered"),
        ("", "return 413;", "api_unavailable", "413 by nginx"),
        ("", "return 429;", "proxy_limits_rate", "429 by nginx"),
        (zone, &format!("limit_req zone=one; {pass}"), "proxy_limits_rate", "503 by nginx"),
        (
            "",
            &format!("rewrite ^/apps(.*) /app$1 break; {pass}"),
            "api_route_missing",
            "404 by Campanile",
        ),
    ] {
        let locations = format!("{CLIENTS}\nlocation /apps/ {{ {api} }}");
        let proxy = crate::way::nginx_http(&server, http, &locations);
        let diagnosis = doctor(&directory, &["--ws", &proxy.url(), "--quick"]).await;
        let finding = diagnosis.only(cause);
        assert!(seen(finding).contains(said), "{finding:#}");
        assert_eq!(diagnosis.link("ping")["state"], "ok", "{finding:#}");
    }
}

#[tokio::test]
async fn body_limit_proxy_of_caddy() {
    let (server, directory) = served(&Settings::new()).await;
    let site = format!("request_body {{\nmax_size 100KB\n}}\nreverse_proxy {}", server.address);
    let proxy = Proxy::caddy(&site, None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    diagnosis.only("body_limit_proxy");
}

#[tokio::test]
async fn request_changed_names_the_part() {
    let (server, directory) = served(&Settings::new()).await;
    for (change, said) in [
        ("set $args $args&from=proxy;", "The query of a publish changed"),
        ("rewrite ^/apps/3/events$ /apps/3/batch_events break;", "The path of a publish changed"),
        ("proxy_set_body '{\"other\":1}';", "The body of a publish changed"),
    ] {
        let locations =
            format!("{CLIENTS}\nlocation /apps/ {{ {change} include campanile.conf; }}");
        let proxy = nginx_with(&server, &locations, &[], None);
        let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
        let finding = diagnosis.only("request_changed");
        assert!(seen(finding).contains(said), "{finding:#}");
        assert!(!finding.to_string().contains("auth_signature="), "{finding:#}");
    }
}

/// Runs the doctor with a clock that is so many seconds ahead.
async fn with_clock(seconds: i64, name: &str) {
    let (server, directory) = served(&Settings::new()).await;
    let proxy = nginx(&server, &[], None);
    let file = Directory::new();
    let settings = [(seconds * 1_000).to_ne_bytes(), 0_i64.to_ne_bytes()].concat();
    let path = file.path().join("clock");
    std::fs::write(&path, settings).expect("a folder of our own");
    let environment = [
        ("LD_PRELOAD", clock_library().to_str().expect("a path in UTF-8")),
        ("CLOCK_FILE", path.to_str().expect("a path in UTF-8")),
    ];
    let diagnosis = doctor_with(&directory, &["--ws", &proxy.url()], &environment).await;
    diagnosis.only(name);
}

#[tokio::test]
async fn clock_differs() {
    with_clock(734, "clock_differs").await;
}

#[tokio::test]
async fn clock_drifts() {
    with_clock(100, "clock_drifts").await;
}

#[tokio::test]
async fn body_limit_proxy() {
    let (server, directory) = served(&Settings::new()).await;
    let changed = [("client_max_body_size 2m;", "client_max_body_size 200k;")];
    let proxy = nginx(&server, &changed, None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("body_limit_proxy");
    let said = seen(finding);
    assert!(said.contains("413 by nginx"), "{said}");
    let limit: u32 = said
        .rsplit_once("about ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .expect("a number");
    assert!((200..=204).contains(&limit), "{said}");
    assert_eq!(snippet(finding), "client_max_body_size 2m;");
    doctor(&directory, &["--ws", &proxy.url(), "--quick"]).await.well(&WAY);
}

#[tokio::test]
async fn body_limit_server() {
    let settings = Settings::new().app("max_event_bytes", 500_000);
    let (server, directory) = served(&settings).await;
    let changed = [("client_max_body_size 2m;", "client_max_body_size 0;")];
    let proxy = nginx(&server, &changed, None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("body_limit_server");
    assert!(seen(finding).contains("server.max_request_bytes"), "{finding:#}");
    assert!(changes(finding)[0].contains("max_request_bytes = "), "{finding:#}");
}

#[tokio::test]
async fn pings_that_a_proxy_drops_or_answers() {
    let settings = Settings::new().connection("activity_timeout_s", 2);
    let (server, directory) = served(&settings).await;
    let dropping = frame_proxy(server.address, Pings::Dropped).await;
    let flags = ["--ws", &format!("ws://{dropping}"), "--wait-idle", "4"];
    doctor(&directory, &flags).await.only("ping_not_answered");

    let answering = frame_proxy(server.address, Pings::Answered).await;
    let flags = ["--ws", &format!("ws://{answering}"), "--wait-idle", "4"];
    let diagnosis = doctor(&directory, &flags).await;
    diagnosis.only("ping_answered_by_proxy");

    let proxy = nginx(&server, &[], None);
    let flags = ["--ws", &proxy.url(), "--wait-idle", "4"];
    doctor(&directory, &flags).await.well(&["ping", "idle"]);
}

/// nginx that gives each request to the next of two servers.
fn in_turn(one: &str, other: &str) -> Proxy {
    let upstream = format!("upstream nodes {{ server {one}; server {other}; }}");
    let location = "location / { proxy_pass http://nodes; proxy_http_version 1.1;\n\
                    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; }";
    Proxy::nginx(&upstream, location, None)
}

/// Every second request of one kind reaches a site that cannot answer it.
#[tokio::test]
async fn failures_after_the_first_success_are_found() {
    let (server, directory) = served(&Settings::new()).await;
    for (path, status, cause, link) in [
        ("/app/", "502", "proxy_upstream_down", "delivery"),
        ("/app/", "403", "handshake_rejected", "delivery"),
        ("/apps/", "502", "proxy_upstream_down", "nodes"),
        ("~ /events$", "504", "proxy_upstream_down", "delivery"),
        ("~ /events$", "403", "api_unavailable", "delivery"),
        ("~ /users$", "500", "api_unavailable", "presence"),
    ] {
        let other = Proxy::nginx("", &format!("location / {{ return {status}; }}"), None);
        let nodes = format!(
            "upstream nodes {{ server {}; server 127.0.0.1:{}; }}",
            server.address, other.port
        );
        let pass = |to: &str| {
            format!(
                "{{ proxy_pass http://{to}; proxy_http_version 1.1;\n\
                 proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; }}"
            )
        };
        let locations = format!(
            "location {path} {}\nlocation / {}",
            pass("nodes"),
            pass(&server.address.to_string())
        );
        let proxy = Proxy::nginx(&nodes, &locations, None);
        let diagnosis = doctor(&directory, &["--ws", &proxy.url(), "--quick"]).await;
        let finding = diagnosis.only(cause);
        assert!(seen(finding).starts_with("The first one succeeded"), "{finding:#}");
        assert_eq!(diagnosis.link(link)["text"], cause, "{:#}", diagnosis.report);
    }
}

#[tokio::test]
async fn nodes_not_joined() {
    let (one, directory) = served(&Settings::new()).await;
    let other = Settings::new().start_node().await;
    let proxy = in_turn(&one.address.to_string(), &other.address.to_string());
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("nodes_not_joined");
    assert!(seen(finding).contains("answers as 2 nodes"), "{finding:#}");
    assert_eq!(diagnosis.link("delivery")["text"], "not tried, because of nodes_not_joined");
}

#[tokio::test]
async fn rosters_differ_with_different_prefixes_and_not_with_one() {
    let redis = Redis::start().await;
    let settings = |prefix: &str| cluster_settings().section("redis", "prefix", quoted(prefix));
    let one = node(&settings("one"), &redis.url()).await;
    let same = node(&settings("one"), &redis.url()).await;
    let other = node(&settings("other"), &redis.url()).await;
    let directory = Directory::new();
    let of_one = settings("one").section("redis", "url", quoted(&redis.url()));
    directory.write("config.toml", &at(&one, &of_one).toml());

    let proxy = in_turn(&one.address.to_string(), &other.address.to_string());
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("rosters_differ");
    assert!(seen(finding).contains("their redis.prefix differs"), "{finding:#}");

    let proxy = in_turn(&one.address.to_string(), &same.address.to_string());
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    diagnosis.well(&WAY);
    assert!(diagnosis.link("nodes")["text"].to_string().contains("2 of 2 nodes"));
}

#[tokio::test]
async fn publish_reaches_other_server() {
    let (one, directory) = served(&Settings::new()).await;
    let other = Settings::new().start_node().await;
    let locations =
        format!("{CLIENTS}\nlocation /apps/ {{ proxy_pass http://{}; }}", other.address);
    let proxy = nginx_with(&one, &locations, &[], None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url(), "--quick"]).await;
    let finding = diagnosis.only("publish_reaches_other_server");
    assert!(seen(finding).contains("none received any"), "{finding:#}");
}

/// All requests of the API reach one of two servers that are not joined, and clients reach both; or
/// only lists of members come from the other one.
#[tokio::test]
async fn servers_that_are_not_joined_are_seen_by_what_clients_and_lists_miss() {
    let (one, directory) = served(&Settings::new()).await;
    let other = Settings::new().start_node().await;
    let (one, other) = (one.address.to_string(), other.address.to_string());
    let upgrade = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n\
                   proxy_set_header Connection $http_connection;";
    let pass =
        |path: &str, to: &str| format!("location {path} {{ proxy_pass http://{to}; {upgrade} }}\n");
    let both = format!("upstream both {{ server {one}; server {other}; }}");
    for (locations, cause, link) in [
        (pass("/app/", "both") + &pass("/apps/", &one), "nodes_not_joined", "delivery"),
        (pass("/", &one) + &pass("~ /users$", "both"), "rosters_differ", "presence"),
    ] {
        let proxy = Proxy::nginx(&both, &locations, None);
        let diagnosis = doctor(&directory, &["--ws", &proxy.url(), "--quick"]).await;
        diagnosis.only(cause);
        assert_eq!(diagnosis.link("nodes")["state"], "ok", "{:#}", diagnosis.report);
        assert_eq!(diagnosis.link(link)["text"], cause, "{:#}", diagnosis.report);
    }
}
