//! Causes between browsers and the server: names, ports, certificates, proxies.

use kit::{APP_ID, Directory, KEY, SECRET, Server, Settings, free_port, quoted};
use serde_json::Value;

use crate::support::{
    certificates::{Authority, Issued, Kind, Wanted, path_text},
    proxies::{Proxy, documented, documented_file},
};
use crate::{at, changes, doctor, doctor_with, laravel, laravel_env, served};

/// The links that a setup behind a proxy is well in.
pub(crate) const WAY: [&str; 10] =
    ["dns", "tcp", "tls", "proxy", "key", "ping", "api", "nodes", "delivery", "presence"];

/// What was seen, as text.
pub(crate) fn seen(finding: &Value) -> &str {
    finding["seen"].as_str().expect("a text")
}

/// The text of the snippet.
pub(crate) fn snippet(finding: &Value) -> &str {
    finding["snippet"]["text"].as_str().unwrap_or_default()
}

/// The documented nginx in front of a server, with changes to the snippet.
pub(crate) fn nginx(
    server: &Server,
    changed: &[(&str, &str)],
    authority: Option<&Authority>,
) -> Proxy {
    let issued = authority.map(Authority::issue);
    nginx_with(server, "location / { include campanile.conf; }", changed, issued.as_ref())
}

/// The documented nginx with these locations.
pub(crate) fn nginx_with(
    server: &Server,
    locations: &str,
    changed: &[(&str, &str)],
    certificate: Option<&Issued>,
) -> Proxy {
    let upstream = documented_file(
        "nginx",
        "/etc/nginx/conf.d/campanile.conf",
        &[("127.0.0.1:8080", &server.address.to_string())],
    );
    let snippet = documented_file("nginx", "/etc/nginx/snippets/campanile.conf", changed);
    let locations = locations.replace("include campanile.conf;", &snippet);
    Proxy::nginx(&upstream, &locations, certificate)
}

/// The documented nginx with these locations, and more at the level of `http`.
pub(crate) fn nginx_http(server: &Server, http: &str, locations: &str) -> Proxy {
    let upstream = documented_file(
        "nginx",
        "/etc/nginx/conf.d/campanile.conf",
        &[("127.0.0.1:8080", &server.address.to_string())],
    );
    let snippet = documented_file("nginx", "/etc/nginx/snippets/campanile.conf", &[]);
    let locations = locations.replace("include campanile.conf;", &snippet);
    Proxy::nginx(&format!("{upstream}\n{http}"), &locations, None)
}

#[tokio::test]
async fn nothing_is_wrong_behind_nginx() {
    let settings = Settings::new().app("allowed_origins", r#"["app.example.com"]"#);
    let (server, directory) = served(&settings).await;
    let authority = Authority::new();
    let proxy = nginx(&server, &[], Some(&authority));
    let flags = [
        "--ws",
        &proxy.tls_url(),
        "--ca",
        &authority.file(),
        "--origin",
        "https://app.example.com",
    ];
    let diagnosis = doctor(&directory, &flags).await;
    diagnosis.well(&WAY);
    diagnosis.well(&["origin", "idle"]);
    doctor(&directory, &["--ws", &proxy.url(), "--origin", "https://app.example.com"])
        .await
        .well(&WAY);
}

#[tokio::test]
async fn nothing_is_wrong_behind_apache() {
    let (server, directory) = served(&Settings::new()).await;
    let authority = Authority::new();
    let site = documented_file(
        "apache",
        "/etc/apache2/campanile.conf",
        &[("127.0.0.1:8080", &server.address.to_string())],
    );
    let proxy = Proxy::apache(&site, Some(&authority.issue()));
    doctor(&directory, &["--ws", &proxy.tls_url(), "--ca", &authority.file()]).await.well(&WAY);
}

#[tokio::test]
async fn nothing_is_wrong_behind_haproxy() {
    let (server, directory) = served(&Settings::new()).await;
    let authority = Authority::new();
    let proxy =
        Proxy::haproxy(&format!("  server one {}", server.address), Some(&authority.issue()));
    doctor(&directory, &["--ws", &proxy.tls_url(), "--ca", &authority.file()]).await.well(&WAY);
}

#[tokio::test]
async fn nothing_is_wrong_behind_caddy() {
    let (server, directory) = served(&Settings::new()).await;
    let authority = Authority::new();
    let proxy =
        Proxy::caddy(&format!("reverse_proxy {}", server.address), Some(&authority.issue()));
    doctor(&directory, &["--ws", &proxy.tls_url(), "--ca", &authority.file()]).await.well(&WAY);
}

/// The documented way to share the host of an application.
#[tokio::test]
async fn nothing_is_wrong_beside_an_application() {
    let (server, directory) = served(&Settings::new()).await;
    let upstream = server.address.to_string();
    let changed = [("127.0.0.1:8080", upstream.as_str())];
    let nginx_routes =
        documented("nginx", "in the server block of the application, without a path")
            .replace("include snippets/campanile.conf;", "include campanile.conf;");
    let page = "location / { return 404 page; }";
    let nginx = nginx_with(&server, &format!("{nginx_routes}\n{page}"), &[], None);
    let apache_routes = "in the virtual host of the application, without a path";
    let apache = Proxy::apache(&documented_file("apache", apache_routes, &changed), None);
    let caddy_routes = documented("caddy", "in the site of the application, without a path")
        .replace("import campanile", &format!("reverse_proxy {upstream}"));
    let caddy = Proxy::caddy(&format!("{caddy_routes}\nrespond 404"), None);
    for proxy in [&nginx, &apache, &caddy] {
        doctor(&directory, &["--ws", &proxy.url()]).await.well(&WAY);
    }
}

#[tokio::test]
async fn name_not_resolved() {
    let (_server, directory) = served(&Settings::new()).await;
    // A label has at most 63 characters, so no name server is asked.
    let name = "x".repeat(64);
    for scheme in ["ws", "wss"] {
        let diagnosis = doctor(&directory, &["--ws", &format!("{scheme}://{name}.test")]).await;
        let finding = diagnosis.only("name_not_resolved");
        assert!(seen(finding).contains(&name), "{finding:#}");
        assert_eq!(diagnosis.link("tls")["text"], "not tried, because of name_not_resolved");
    }
}

#[tokio::test]
async fn connection_refused() {
    let (server, directory) = served(&Settings::new()).await;
    let port = free_port();
    let diagnosis = doctor(&directory, &["--ws", &format!("ws://127.0.0.1:{port}")]).await;
    let finding = diagnosis.only("connection_refused");
    assert!(seen(finding).contains(&format!("127.0.0.1:{port} refuses")), "{finding:#}");
    assert!(changes(finding)[0].contains(&server.url()), "{finding:#}");
}

#[tokio::test]
async fn tls_on_plain_port_of_the_server_and_of_proxies() {
    let (server, directory) = served(&Settings::new()).await;
    let nginx = nginx(&server, &[], None);
    let apache = Proxy::apache("", None);
    for port in [server.address.port(), nginx.port, apache.port] {
        let diagnosis = doctor(&directory, &["--ws", &format!("wss://127.0.0.1:{port}")]).await;
        let finding = diagnosis.only("tls_on_plain_port");
        assert!(seen(finding).contains(&port.to_string()), "{finding:#}");
    }
}

/// Browsers have an address of their own, and only publishes fail.
#[tokio::test]
async fn causes_of_tls_at_the_address_for_publishes() {
    let server = Settings::new().start_node().await;
    let (known, other) = (Authority::new(), Authority::new());
    let proxy = nginx(&server, &[], Some(&other));
    let port = server.address.port();
    let of_browsers =
        format!("VITE_REVERB_HOST=127.0.0.1\nVITE_REVERB_PORT={port}\nVITE_REVERB_SCHEME=http\n");
    let env = laravel_env(&server).replace("REVERB_SCHEME=http\n", "") + &of_browsers;
    let flags = ["--server", &server.url(), "--ca", &known.file(), "--quick"];
    let diagnosis = doctor(&laravel(&env), &flags).await;
    let finding = diagnosis.only("tls_on_plain_port");
    assert!(seen(finding).contains("The application publishes to"), "{finding:#}");
    assert!(changes(finding)[0].ends_with("REVERB_SCHEME=http"), "{finding:#}");
    assert_eq!(diagnosis.link("ping")["state"], "ok", "{finding:#}");

    let env = env.replacen(
        &format!("REVERB_HOST=127.0.0.1\nREVERB_PORT={port}"),
        &format!("REVERB_HOST=localhost\nREVERB_PORT={}", proxy.tls_port),
        1,
    );
    let diagnosis = doctor(&laravel(&env), &flags).await;
    let finding = diagnosis.only("certificate_untrusted");
    assert_eq!(diagnosis.link("api")["state"], "broken", "{finding:#}");
}

/// The proxy has TLS, and none that clients can use.
#[tokio::test]
async fn tls_handshake_failed() {
    let (server, directory) = served(&Settings::new()).await;
    let authority = Authority::new();
    let one = format!("  server one {}", server.address);
    let of = |issued: &Issued, options: &str| Proxy::haproxy_tls(&one, issued, options);
    let wanted = Wanted { name: Some("ws.example.com"), ..Wanted::default() };
    for (proxy, said) in [
        (of(&authority.issue(), "ssl-max-ver TLSv1.1 ciphers ALL:@SECLEVEL=0"), "ersion"),
        (of(&authority.issue_as(wanted), "strict-sni"), "wss://localhost"),
    ] {
        let flags = ["--ws", &proxy.tls_url(), "--ca", &authority.file()];
        let diagnosis = doctor(&directory, &flags).await;
        let finding = diagnosis.only("tls_handshake_failed");
        assert!(seen(finding).contains(said), "{finding:#}");
    }
}

#[tokio::test]
async fn plain_on_tls_port() {
    let (server, directory) = served(&Settings::new()).await;
    let authority = Authority::new();
    let proxy = nginx(&server, &[], Some(&authority));
    let haproxy =
        Proxy::haproxy(&format!("  server one {}", server.address), Some(&authority.issue()));
    for port in [proxy.tls_port, haproxy.tls_port] {
        let diagnosis = doctor(&directory, &["--ws", &format!("ws://127.0.0.1:{port}")]).await;
        diagnosis.only("plain_on_tls_port");
    }
}

/// Runs the doctor at a proxy with a certificate.
async fn with_certificate(wanted: Wanted, name: &str) -> (String, Value) {
    let (server, directory) = served(&Settings::new()).await;
    let authority = Authority::new();
    let issued = authority.issue_as(wanted);
    let proxy = nginx_with(&server, "location / { include campanile.conf; }", &[], Some(&issued));
    let diagnosis =
        doctor(&directory, &["--ws", &proxy.tls_url(), "--ca", &authority.file()]).await;
    let finding = diagnosis.only(name).clone();
    (seen(&finding).to_owned(), finding)
}

#[tokio::test]
async fn certificate_expired() {
    let wanted = Wanted { until: Some((2021, 2, 3)), ..Wanted::default() };
    let (seen, _) = with_certificate(wanted, "certificate_expired").await;
    assert!(seen.contains("expired on 2021-02-03"), "{seen}");
}

#[tokio::test]
async fn certificate_expired_before_it_is_valid_and_in_the_chain() {
    let wanted = Wanted { since: Some((2099, 1, 2)), ..Wanted::default() };
    let (seen, _) = with_certificate(wanted, "certificate_expired").await;
    assert!(seen.contains("not valid before 2099-01-02"), "{seen}");
    let wanted = Wanted { kind: Kind::ExpiredIntermediate, ..Wanted::default() };
    let (seen, _) = with_certificate(wanted, "certificate_expired").await;
    assert!(seen.contains("Intermediate") && seen.contains("2021-02-03"), "{seen}");
}

#[tokio::test]
async fn certificate_unusable() {
    let wanted = Wanted { kind: Kind::ForClients, ..Wanted::default() };
    let (seen, _) = with_certificate(wanted, "certificate_unusable").await;
    assert!(seen.contains("server authentication"), "{seen}");
}

/// It is that of a CA, and its own CA, which clients have been given.
#[tokio::test]
async fn nothing_is_wrong_with_a_certificate_of_openssl_that_is_trusted() {
    let (server, directory) = served(&Settings::new()).await;
    let authority = Authority::new();
    let issued = authority.self_signed_ca();
    let proxy = nginx_with(&server, "location / { include campanile.conf; }", &[], Some(&issued));
    let flags = ["--ws", &proxy.tls_url(), "--ca", &path_text(&issued.chain), "--quick"];
    doctor(&directory, &flags).await.well(&WAY);
}

#[tokio::test]
async fn certificate_name() {
    let wanted = Wanted { name: Some("ws.example.com"), ..Wanted::default() };
    let (seen, _) = with_certificate(wanted, "certificate_name").await;
    assert!(seen.contains("localhost") && seen.contains("ws.example.com"), "{seen}");
}

#[tokio::test]
async fn certificate_chain_incomplete() {
    let wanted = Wanted { kind: Kind::WithoutIntermediate, ..Wanted::default() };
    let (seen, finding) = with_certificate(wanted, "certificate_chain_incomplete").await;
    assert!(seen.contains("Doctor Test Intermediate"), "{seen}");
    assert!(finding["why"].to_string().contains("cURL error 60"), "{finding:#}");
}

#[tokio::test]
async fn certificate_expires_soon() {
    let wanted = Wanted { days: Some(5), ..Wanted::default() };
    let (seen, _) = with_certificate(wanted, "certificate_expires_soon").await;
    assert!(seen.contains("valid for 4 more days"), "{seen}");
}

#[tokio::test]
async fn certificate_untrusted() {
    let (server, directory) = served(&Settings::new()).await;
    let (known, other) = (Authority::new(), Authority::new());
    let site = format!("location / {{ proxy_pass http://{}; }}", server.address);
    for (issued, said) in [(other.issue(), "Doctor Test Root"), (other.self_signed(), "by itself")]
    {
        let proxy = Proxy::nginx("", &site, Some(&issued));
        let diagnosis =
            doctor(&directory, &["--ws", &proxy.tls_url(), "--ca", &known.file()]).await;
        let finding = diagnosis.only("certificate_untrusted");
        assert!(seen(finding).contains(said), "{finding:#}");
    }
}

#[tokio::test]
async fn clients_share_address() {
    let settings = |trusted: &str| {
        let settings = Settings::new().connection("max_connections_per_ip", 100);
        settings.server("trusted_proxies", trusted)
    };
    let (server, directory) = served(&settings("[]")).await;
    let without = ("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;", "");
    for (changed, said) in
        [(&[][..], "X-Forwarded-For: 127.0.0.1"), (&[without], "no X-Forwarded-For")]
    {
        let proxy = nginx(&server, changed, None);
        let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
        let finding = diagnosis.only("clients_share_address");
        assert!(seen(finding).contains(said), "{finding:#}");
        assert!(changes(finding)[0].contains(r#"trusted_proxies = ["127.0.0.1"]"#), "{finding:#}");
        assert_eq!(diagnosis.link("delivery")["state"], "ok", "{finding:#}");
    }
    let (server, directory) = served(&settings(r#"["127.0.0.0/8"]"#)).await;
    let proxy = nginx(&server, &[], None);
    doctor(&directory, &["--ws", &proxy.url()]).await.well(&WAY);
}

#[tokio::test]
async fn origin_rejected() {
    let settings = Settings::new().app("allowed_origins", r#"["example.com"]"#);
    let (server, directory) = served(&settings).await;
    let proxy = nginx(&server, &[], None);
    let flags = ["--ws", &proxy.url(), "--origin", "https://www.example.com"];
    let diagnosis = doctor(&directory, &flags).await;
    let finding = diagnosis.only("origin_rejected");
    assert!(seen(finding).contains("https://www.example.com (--origin)"), "{finding:#}");
    let line = r#"allowed_origins = ["example.com","www.example.com"]"#;
    assert!(changes(finding)[0].ends_with(line), "{finding:#}");

    // The configuration here is not that of the server, which says what it allows.
    directory.write("config.toml", &at(&server, &Settings::new()).toml());
    let diagnosis = doctor(&directory, &flags).await;
    let finding = diagnosis.only("origin_rejected");
    assert!(changes(finding)[0].ends_with(line), "{finding:#}");
}

#[tokio::test]
async fn proxy_leads_elsewhere() {
    let (server, directory) = served(&Settings::new()).await;
    let other = Settings::without_apps()
        .add_app("1", "another-key", "another-secret-of-an-app")
        .start_node()
        .await;
    let proxy = nginx(&other, &[], None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url()]).await;
    let finding = diagnosis.only("proxy_leads_elsewhere");
    assert!(seen(finding).contains(&server.address.to_string()), "{finding:#}");
}

/// The other server has the key, and another secret or another id.
#[tokio::test]
async fn proxy_leads_elsewhere_for_publishes() {
    let (_server, directory) = served(&Settings::new()).await;
    for (id, secret) in [(APP_ID, "another-secret-of-an-app"), ("9", SECRET)] {
        let other = Settings::without_apps().add_app(id, KEY, secret).start_node().await;
        let proxy = nginx(&other, &[], None);
        let diagnosis = doctor(&directory, &["--ws", &proxy.url(), "--quick"]).await;
        diagnosis.only("proxy_leads_elsewhere");
    }
}

/// The server on this machine cannot be tried directly, or has the app enabled.
#[tokio::test]
async fn unknown_key_and_connection_closed_behind_the_proxy() {
    let trusted = quoted("127.0.0.1");
    let settings =
        Settings::new().app("tls_only", true).server("trusted_proxies", format!("[{trusted}]"));
    let (_server, directory) = served(&settings).await;
    let authority = Authority::new();
    let other = Settings::without_apps().add_app(APP_ID, "another-key", SECRET).start_node().await;
    let proxy = nginx(&other, &[], Some(&authority));
    let flags = ["--ws", &proxy.tls_url(), "--ca", &authority.file(), "--quick"];
    let diagnosis = doctor(&directory, &flags).await;
    let finding = diagnosis.only("unknown_key");
    assert!(seen(finding).contains(KEY), "{finding:#}");

    let (_server, directory) = served(&Settings::new()).await;
    let other = Settings::new().app("enabled", false).start_node().await;
    let proxy = nginx(&other, &[], None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url(), "--quick"]).await;
    let finding = diagnosis.only("connection_closed");
    assert!(seen(finding).contains("4003"), "{finding:#}");
}

#[tokio::test]
async fn development_app_public() {
    let (server, directory) = served(&Settings::without_apps()).await;
    let host = ("proxy_set_header Host $http_host;", "proxy_set_header Host ws.example.com;");
    let proxy = nginx(&server, &[host], None);
    let diagnosis = doctor(&directory, &["--ws", &proxy.url(), "--quick"]).await;
    let finding = diagnosis.only("development_app_public");
    assert!(changes(finding)[0].contains("campanile init"), "{finding:#}");
}

#[tokio::test]
async fn idle_timeout() {
    let (server, directory) = served(&Settings::new()).await;
    let proxy = nginx(&server, &[("proxy_read_timeout 90s;", "proxy_read_timeout 2s;")], None);
    let flags = ["--ws", &proxy.url(), "--wait-idle", "4"];
    let diagnosis = doctor(&directory, &flags).await;
    let finding = diagnosis.only("idle_timeout");
    assert!(seen(finding).contains("after 2 s"), "{finding:#}");
    assert!(seen(finding).contains("pings after 30 s"), "{finding:#}");
    assert_eq!(snippet(finding), "proxy_read_timeout 90s;");
    let diagnosis = doctor(&directory, &["--ws", &proxy.url(), "--quick"]).await;
    diagnosis.well(&WAY);
    assert_eq!(diagnosis.link("idle")["text"], "--quick");
}

/// The server speaks TLS itself.
#[tokio::test]
async fn nothing_is_wrong_with_tls_without_a_proxy() {
    let certificates = Directory::new();
    kit::tls::Certificate::new().write(&certificates);
    let (server, directory) = served(&kit::tls::with_tls(Settings::new(), &certificates)).await;
    let ws = format!("wss://localhost:{}", server.address.port());
    let authority = path_text(&certificates.path().join("cert.pem"));
    doctor(&directory, &["--ws", &ws, "--ca", &authority]).await.well(&WAY);
}

/// The doctor connects and asks more often than some servers allow.
#[tokio::test]
async fn nothing_is_wrong_with_a_server_that_limits_rates() {
    let settings = Settings::new()
        .connection("new_connections_per_second_per_ip", 8)
        .app("requests_per_second", 6);
    let (server, directory) = served(&settings).await;
    let ws = format!("ws://{}", server.address);
    doctor(&directory, &["--ws", &ws]).await.well(&WAY);
}

#[tokio::test]
async fn certificate_untrusted_by_php() {
    let (server, authority) = (Settings::new().start_node().await, Authority::new());
    let proxy = nginx(&server, &[], Some(&authority));
    let env = laravel_env(&server)
        .replace("REVERB_HOST=127.0.0.1", "REVERB_HOST=localhost")
        .replace(&server.address.port().to_string(), &proxy.tls_port.to_string())
        .replace("REVERB_SCHEME=http", "REVERB_SCHEME=https");
    let directory = laravel(&env);
    let (ini, other) = (Directory::new(), Authority::new());
    let flags = ["--server", &server.url(), "--ca", &authority.file()];
    let scanned = path_text(ini.path());
    let environment = [("PHP_INI_SCAN_DIR", scanned.as_str())];
    ini.write("a.ini", &format!("openssl.cafile = {}\n", other.file()));
    let diagnosis = doctor_with(&directory, &flags, &environment).await;
    let finding = diagnosis.only("certificate_untrusted_by_php");
    assert!(seen(finding).contains(&other.file()), "{finding:#}");
    ini.write("a.ini", &format!("openssl.cafile = {}\n", authority.file()));
    doctor_with(&directory, &flags, &environment).await.well(&["tls", "proxy"]);
}
