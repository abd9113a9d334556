//! Causes at the proxy: what it does not pass on, or passes on to another place.

use kit::{Directory, Settings, free_port, quoted};

use crate::support::{certificates::Authority, proxies::Proxy};
use crate::way::{WAY, nginx, nginx_with, seen, snippet};
use crate::{changes, doctor, served};

#[tokio::test]
async fn upgrade_headers_missing_behind_nginx() {
    let (server, directory) = served(&Settings::new()).await;
    for (changed, said) in [
        (
            ("proxy_set_header Upgrade $http_upgrade;", "proxy_set_header Upgrade '';"),
            "drops the header Upgrade",
        ),
        (
            (
                "proxy_set_header Connection $connection_upgrade;",
                "proxy_set_header Connection close;",
            ),
            "replaces the header Connection",
        ),
        (("proxy_http_version 1.1;", "proxy_http_version 1.0;"), "speaks HTTP/1.0"),
        (
            (
                "proxy_http_version 1.1;",
                "proxy_http_version 1.1; proxy_set_header Sec-WebSocket-Key '';",
            ),
            "Sec-WebSocket-*",
        ),
    ] {
        let proxy = nginx(&server, &[changed], None);
        let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
        let finding = diagnosis.only("upgrade_headers_missing");
        assert!(changes(finding)[0].contains(said), "{finding:#}");
        assert_eq!(finding["snippet"]["of"], "nginx", "{finding:#}");
        assert!(
            snippet(finding).contains("proxy_set_header Upgrade $http_upgrade;"),
            "{finding:#}"
        );
        assert_eq!(diagnosis.link("ping")["state"], "skipped");
        assert_eq!(diagnosis.link("api")["state"], "ok", "publishes need no upgrade");
    }
}

#[tokio::test]
async fn upgrade_headers_missing_behind_other_proxies() {
    let (server, directory) = served(&Settings::new()).await;
    let address = server.address;
    let apache = Proxy::apache(&format!("ProxyPass \"/\" \"http://{address}/\" nocanon"), None);
    let haproxy =
        Proxy::haproxy(&format!("  http-request del-header Upgrade\n  server one {address}"), None);
    let caddy = Proxy::caddy(&format!("request_header -Upgrade\nreverse_proxy {address}"), None);
    for (proxy, of) in [(apache, "Apache"), (haproxy, "HAProxy"), (caddy, "Caddy")] {
        let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
        let finding = diagnosis.only("upgrade_headers_missing");
        assert_eq!(finding["snippet"]["of"].as_str().unwrap_or_default(), of, "{finding:#}");
        assert!(snippet(finding).contains(&address.to_string()), "{finding:#}");
    }
}

#[tokio::test]
async fn websocket_route_missing_when_the_application_answers() {
    let (server, directory) = served(&Settings::new()).await;
    let laravel = "add_header X-Powered-By PHP/8.3 always; default_type text/html;\n\
                   location / { return 404 '<title>Not Found</title>'; }";
    let api = "location /apps/ { include campanile.conf; }";
    let proxy = nginx_with(&server, &format!("{laravel}\n{api}"), &[], None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("websocket_route_missing");
    assert!(seen(finding).contains("404 by PHP: Not Found"), "{finding:#}");
    assert!(snippet(finding).contains("location ~ ^/apps?/ {"), "{finding:#}");

    let apache =
        Proxy::apache(&format!("ProxyPass \"/apps/\" \"http://{}/apps/\"", server.address), None);
    let diagnosis = doctor(&directory, &["--ws", &apache.url()]).await;
    let finding = diagnosis.only("websocket_route_missing");
    assert_eq!(finding["snippet"]["of"], "Apache", "{finding:#}");
}

/// What is wrong with both paths is one cause.
#[tokio::test]
async fn a_site_that_does_not_know_the_server_has_one_cause() {
    let (_server, directory) = served(&Settings::new()).await;
    for (answer, cause) in [
        ("404", "websocket_route_missing"),
        ("301 https://ws.example.com$request_uri", "handshake_redirected"),
        ("302 /login", "handshake_redirected"),
        ("401", "handshake_rejected"),
        ("429", "proxy_limits_rate"),
        ("444", "handshake_rejected"),
        ("502", "proxy_upstream_down"),
    ] {
        let proxy = Proxy::nginx("", &format!("location / {{ return {answer}; }}"), None);
        doctor(&directory, &["--ws", &proxy.url()]).await.only(cause);
    }
}

#[tokio::test]
async fn websocket_route_missing_when_vite_answers() {
    let (server, directory) = served(&Settings::new()).await;
    let vite = "default_type text/html;\nlocation / { return 200 '<script src=\"/@vite/client\"></script>'; }";
    let proxy = nginx_with(
        &server,
        &format!("{vite}\nlocation /apps/ {{ include campanile.conf; }}"),
        &[],
        None,
    );
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("websocket_route_missing");
    assert!(seen(finding).contains("200 by Vite"), "{finding:#}");
    assert!(changes(finding)[0].contains("VITE_REVERB_PORT"), "{finding:#}");
}

#[tokio::test]
async fn websocket_route_missing_under_another_path() {
    let (server, directory) = served(&Settings::new().server("path", quoted("/ws"))).await;
    let proxy = nginx(&server, &[], None);
    let diagnosis = doctor(&directory, &["--ws", &format!("{}/socket", proxy.url())]).await;
    let finding = diagnosis.only("websocket_route_missing");
    assert!(changes(finding)[1].contains("wsPath: '/ws'"), "{finding:#}");
    doctor(&directory, &["--ws", &format!("{}/ws", proxy.url())]).await.well(&WAY);
}

#[tokio::test]
async fn proxy_upstream_down() {
    let (server, directory) = served(&Settings::new()).await;
    let other = format!("127.0.0.1:{}", free_port());
    // A name, whose port is not looked at in the files of nginx.
    let upstream = format!("upstream other {{ server {other}; server 127.0.0.9:9; }}");
    let nginx = Proxy::nginx(&upstream, "location ~ (.*) { proxy_pass http://other$1; }", None);
    let apache =
        Proxy::apache(&format!("ProxyPass \"/\" \"http://{other}/\" upgrade=websocket"), None);
    let haproxy = Proxy::haproxy(&format!("  server one {other}"), None);
    let caddy = Proxy::caddy(&format!("reverse_proxy {other}"), None);
    for (proxy, of) in
        [(nginx, "nginx"), (apache, "Apache"), (haproxy, "HAProxy"), (caddy, "Caddy")]
    {
        let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
        let finding = diagnosis.only("proxy_upstream_down");
        assert_eq!(finding["snippet"]["of"], of, "{finding:#}");
        assert!(snippet(finding).contains(&server.address.to_string()), "{finding:#}");
        assert!(changes(finding)[0].contains(&server.url()), "{finding:#}");
    }
}

/// The files of the nginx at the public address have the port.
#[tokio::test]
async fn proxy_port_differs_behind_a_running_nginx() {
    let (server, directory) = served(&Settings::new()).await;
    let dead = format!("127.0.0.1:{}", free_port());
    let port = server.address.port();
    for locations in [
        format!("location / {{ proxy_pass http://{dead}; }}"),
        format!("location /app/ {{ proxy_pass http://{dead}; }} location / {{ return 404; }}"),
    ] {
        let proxy = Proxy::nginx("", &locations, None);
        let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
        let finding = diagnosis.only("proxy_port_differs");
        assert!(seen(finding).contains(&dead), "{finding:#}");
        let line = format!("proxy_pass http://127.0.0.1:{port};");
        assert!(changes(finding)[0].ends_with(&line), "{finding:#}");
    }
}

/// A file of nginx with a dead port does not matter as long as clients are connected.
#[tokio::test]
async fn nothing_is_wrong_if_clients_reach_the_server_another_way_than_through_a_file() {
    let (server, directory) = served(&Settings::new()).await;
    let proxy = nginx(&server, &[], None);
    let text = format!(
        "events {{ worker_connections 65536; }}\nhttp {{ server {{ location /app/ {{ proxy_pass \
         http://127.0.0.1:{}; }} }} }}\n",
        free_port()
    );
    let file = directory.write("nginx.conf", &text);
    let file = file.to_str().expect("UTF-8");
    let flags = ["--ws", &proxy.url(), "--nginx-config", file, "--quick"];
    doctor(&directory, &flags).await.well(&WAY);
}

#[tokio::test]
async fn double_tls() {
    let (settings, certificates) = (Settings::new(), Directory::new());
    kit::tls::Certificate::new().write(&certificates);
    let settings = kit::tls::with_tls(settings, &certificates);
    let (server, directory) = served(&settings).await;
    let address = server.address;
    let nginx = nginx(&server, &[], None);
    let apache =
        Proxy::apache(&format!("ProxyPass \"/\" \"http://{address}/\" upgrade=websocket"), None);
    let haproxy = Proxy::haproxy(&format!("  server one {address}"), None);
    let caddy = Proxy::caddy(&format!("reverse_proxy {address}"), None);
    for proxy in [nginx, apache, haproxy, caddy] {
        let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
        let finding = diagnosis.only("double_tls");
        assert!(changes(finding)[0].contains(&format!("https://{address}")), "{finding:#}");
    }
}

/// That the server has TLS does not mean that the proxy connects to it without.
#[tokio::test]
async fn a_server_with_tls_has_other_causes_than_double_tls() {
    let (settings, certificates) = (Settings::new(), Directory::new());
    kit::tls::Certificate::new().write(&certificates);
    let (server, directory) = served(&kit::tls::with_tls(settings, &certificates)).await;
    let dead = format!("proxy_pass http://127.0.0.1:{};", free_port());
    let api = format!("location /apps/ {{ proxy_pass https://{}; }}", server.address);
    for (clients, cause) in [
        ("return 404;", "websocket_route_missing"),
        ("return 403;", "handshake_rejected"),
        ("return 444;", "handshake_rejected"),
        (dead.as_str(), "proxy_port_differs"),
    ] {
        let proxy = Proxy::nginx("", &format!("location /app/ {{ {clients} }}\n{api}"), None);
        doctor(&directory, &["--ws", &proxy.url()]).await.only(cause);
    }
}

#[tokio::test]
async fn handshake_redirected() {
    let (server, directory) = served(&Settings::new()).await;
    let locations = "location /app/ { return 301 https://ws.example.com$request_uri; }\n\
                     location /apps/ { include campanile.conf; }";
    let proxy = nginx_with(&server, locations, &[], None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("handshake_redirected");
    assert!(seen(finding).contains("https://ws.example.com/app/"), "{finding:#}");
}

#[tokio::test]
async fn handshake_rejected() {
    let (server, directory) = served(&Settings::new()).await;
    let locations = "location /app/ { return 403; }\nlocation /apps/ { include campanile.conf; }";
    let proxy = nginx_with(&server, locations, &[], None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("handshake_rejected");
    assert!(seen(finding).contains("403 by nginx"), "{finding:#}");
}

#[tokio::test]
async fn proxy_not_trusted() {
    let settings = |trusted: &str| {
        Settings::new().app("tls_only", true).server("trusted_proxies", format!("[{trusted:?}]"))
    };
    let authority = Authority::new();
    let (server, directory) = served(&settings("10.0.0.1")).await;
    let proxy = nginx(&server, &[], Some(&authority));
    let flags = ["--ws", &proxy.tls_url(), "--ca", &authority.file()];
    let diagnosis = doctor(&directory, &flags).await;
    let finding = diagnosis.only("proxy_not_trusted");
    assert!(changes(finding)[0].contains("trusted_proxies"), "{finding:#}");
    assert!(
        snippet(finding).contains("proxy_set_header X-Forwarded-Proto $scheme;"),
        "{finding:#}"
    );

    let (server, directory) = served(&settings("127.0.0.1")).await;
    let proxy = nginx(&server, &[], Some(&authority));
    let flags = ["--ws", &proxy.tls_url(), "--ca", &authority.file()];
    doctor(&directory, &flags).await.well(&WAY);
}

/// Lines for Apache and Caddy that serve clients only.
#[tokio::test]
async fn api_route_missing_behind_proxies_for_clients_only() {
    let (server, directory) = served(&Settings::new()).await;
    let address = server.address;
    let line = format!("ProxyPass \"/app/\" \"http://{address}/app/\" upgrade=websocket");
    let apache = Proxy::apache(&line, None);
    let matcher = "@ws {\nheader Connection *Upgrade*\nheader Upgrade websocket\n}";
    let caddy = Proxy::caddy(&format!("{matcher}\nreverse_proxy @ws {address}"), None);
    for (proxy, of) in [(apache, "Apache"), (caddy, "Caddy")] {
        let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
        let finding = diagnosis.only("api_route_missing");
        assert_eq!(finding["snippet"]["of"], of, "{finding:#}");
    }
}

#[tokio::test]
async fn websocket_route_missing_after_a_second_slash() {
    let (server, directory) = served(&Settings::new()).await;
    let slash = ("proxy_pass http://campanile;", "proxy_pass http://campanile//;");
    let proxy = nginx(&server, &[slash], None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("websocket_route_missing");
    assert!(seen(finding).contains("Nothing at //app/"), "{finding:#}");
}

#[tokio::test]
async fn idle_timeout_of_haproxy() {
    let (server, directory) = served(&Settings::new()).await;
    let proxy =
        Proxy::haproxy(&format!("  timeout tunnel 2s\n  server one {}", server.address), None);
    let flags = ["--ws", &proxy.url(), "--wait-idle", "4"];
    let diagnosis = doctor(&directory, &flags).await;
    let finding = diagnosis.only("idle_timeout");
    assert!(seen(finding).contains("after 2 s"), "{finding:#}");
    assert!(changes(finding)[1].ends_with("activity_timeout_s = 1"), "{finding:#}");
}

#[tokio::test]
async fn upgrade_headers_missing_from_the_answer() {
    let (server, directory) = served(&Settings::new()).await;
    let hidden = "proxy_http_version 1.1; proxy_hide_header Sec-WebSocket-Accept;";
    let proxy = nginx(&server, &[("proxy_http_version 1.1;", hidden)], None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("upgrade_headers_missing");
    assert!(seen(finding).contains("its header Sec-WebSocket-Accept"), "{finding:#}");
}

/// The upstream accepts connections and never answers.
#[tokio::test]
async fn proxy_upstream_down_without_an_answer() {
    let (_server, directory) = served(&Settings::new()).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("there are ports");
    let address = silent.local_addr().expect("it is bound");
    let site = format!("location / {{ proxy_pass http://{address}; proxy_read_timeout 1s; }}");
    let proxy = Proxy::nginx("", &site, None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("proxy_upstream_down");
    assert!(seen(finding).contains("504 by nginx"), "{finding:#}");
}

#[tokio::test]
async fn handshake_rejected_without_a_certificate_of_the_client() {
    let (server, directory) = served(&Settings::new()).await;
    let authority = Authority::new();
    let locations = format!(
        "location / {{ include campanile.conf; }}\nssl_client_certificate {}; ssl_verify_client on;",
        authority.file()
    );
    let proxy = nginx_with(&server, &locations, &[], Some(&authority.issue()));
    let flags = ["--ws", &proxy.tls_url(), "--ca", &authority.file(), "--quick"];
    let diagnosis = doctor(&directory, &flags).await;
    let finding = diagnosis.only("handshake_rejected");
    assert!(changes(finding)[0].contains("asks clients for a certificate"), "{finding:#}");
}
